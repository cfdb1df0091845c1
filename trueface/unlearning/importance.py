"""How much each weight matters to a set of samples, and the dampening of weights by it.

Importances are diagonal: one number per weight, from gradients of whole batches. Small batches have
noisier gradients, so both sets are read with the same batch size. The model is in evaluation mode,
because its batch statistics must not come from the forget set, unless a method asks for those of each batch.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from trueface.data.examples import Examples, count, shuffle_examples, union_by_position
from trueface.evaluation.forward import predict_examples
from trueface.models.detectors import set_train_mode
from trueface.models.logits import cross_entropy
from trueface.predictions.predictions import Predictions
from trueface.runtime.errors import JobError
from trueface.runtime.progress import REPORT_EVERY_S
from trueface.unlearning.api import Request
from trueface.unlearning.cache import fingerprint

# squared gradient of the loss; size of that of the output's norm
ImportanceKind = Literal["loss", "norm"]
Importances = Mapping[str, Tensor]  # by name of the parameter, of its shape, float32
CONSTANT = 0.99  # fraction of predictions of one class from which a model counts as constant


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that may be changed, by name.

    Raises:
        JobError: there is none.
    """
    weights = {
        name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
    }
    if not weights:
        raise JobError("no parameter of this model can change, as all are frozen")
    return weights


def are_finite(tensors: Iterable[Tensor]) -> list[bool]:
    """Return whether each tensor has only finite values, in one read from the device."""
    found: list[bool] = torch.stack([each.isfinite().all() for each in tensors]).tolist()
    return found


class GradientSums:
    """Sums over losses of their gradients, or of a function of these, entry by entry."""

    def __init__(
        self, weights: Mapping[str, nn.Parameter], size: Callable[[Tensor], Tensor] = torch.square
    ) -> None:
        """Begin at nothing.

        Args:
            weights: by name.
            size: maps a gradient to the summed value.
        """
        self.weights, self.size = weights, size
        self.of = {
            name: torch.zeros_like(weight, dtype=torch.float32) for name, weight in weights.items()
        }

    def add(self, loss: Tensor, times: int = 1) -> None:
        """Add a loss; weights that it does not follow from have the gradient 0."""
        gradients = torch.autograd.grad(loss, tuple(self.weights.values()), allow_unused=True)
        for total, gradient in zip(self.of.values(), gradients, strict=True):
            if gradient is not None:
                total.add_(self.size(gradient.float()), alpha=times)

    def means(self, count: int) -> dict[str, Tensor]:
        """Return the sums by `count`.

        Raises:
            JobError: a sum is not finite.
        """
        for name, is_finite in zip(self.of, are_finite(self.of.values()), strict=True):
            if not is_finite:
                raise JobError(f"importances of {name} are not finite. Choose precision: fp32.")
        return {name: total / count for name, total in self.of.items()}


def importances(
    request: Request,
    parts: Sequence[Examples],
    sort: ImportanceKind,
    *,
    batch_size: int,
    batch_statistics: bool = False,
) -> dict[str, Tensor]:
    """Return how much each weight matters to samples, on the device.

    Args:
        request: whose model it is.
        parts: the samples; each batch counts by its size.
        sort: "loss" takes the mean squared gradient of the cross entropy with the trained labels. "norm"
            takes the mean absolute gradient of the mean L2 norm of the logits, without labels.
        batch_size: samples per gradient.
        batch_statistics: whether the model is in training mode, which updates its running statistics.

    Raises:
        JobError: stopped, nothing could be read, or a gradient is not finite.
    """
    request.model.eval()
    if batch_statistics:
        set_train_mode(request.model, fixed_statistics=False)
    sums = GradientSums(
        trainable_parameters(request.model), torch.square if sort == "loss" else torch.abs
    )
    read, total, reported_at = 0, count(parts), -math.inf
    for part in parts:
        for inputs, labels, positions, _ in shuffle_examples(part).read(
            request.watch, batch_size=batch_size
        ):
            logits = request.logits(inputs)
            loss = cross_entropy(logits, labels) if sort == "loss" else logits.norm(dim=1).mean()
            sums.add(loss, len(positions))
            read += len(positions)
            if read == total or time.monotonic() - reported_at > REPORT_EVERY_S:
                # the loss is read from the device, which waits for it
                request.watch.progress(step=read, total=total, loss=float(loss.detach()))
                reported_at = time.monotonic()
    return sums.means(read)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dampening:
    """Original weights, with their importance for the forget set and for all data."""

    weights: Mapping[str, nn.Parameter]
    original: Importances  # copies of the weights
    forgotten: Importances
    everything: Importances

    @property
    def count(self) -> int:
        """How many weights may be dampened."""
        return sum(weight.numel() for weight in self.weights.values())

    def ratios(self) -> Tensor:
        """Return the importance ratio of each weight, forget set to all data, in one row.

        A weight that matters to neither has ratio 0, one that matters only to the forget set has infinity.
        """
        pairs = ((self.forgotten[name], self.everything[name]) for name in self.weights)
        return torch.cat(
            [(forgotten / whole).nan_to_num(0.0, torch.inf).flatten() for forgotten, whole in pairs]
        )

    def apply(self, alpha: float, strength: float) -> int:
        """Dampen the original weights and return how many: one pass over them.

        A weight is dampened if its ratio is above `alpha`: it is multiplied by `strength` divided by its
        ratio, but never enlarged.
        """
        dampened: list[Tensor] = []
        with torch.no_grad():
            for name, weight in self.weights.items():
                forgotten, whole = self.forgotten[name], self.everything[name]
                chosen = forgotten > alpha * whole
                left = (strength * whole / forgotten).clamp(max=1.0)
                original = self.original[name]
                weight.copy_(torch.where(chosen, original * left.to(original.dtype), original))
                dampened.append(chosen.sum())
        return int(torch.stack(dampened).sum())

    def restore_weights(self) -> None:
        """Give the model its weights back, bit for bit."""
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(self.original[name])


def dampening(request: Request, sort: ImportanceKind, *, batch_size: int) -> Dampening:
    """Return the weights and importances for dampening the request's model; those of all samples are cached."""
    parts = union_by_position(request.forget, request.retain)
    size = min(batch_size, len(request.forget))  # else batches of the forgotten have more noise
    weights = trainable_parameters(request.model)
    values = {**dict(request.model.named_parameters()), **dict(request.model.named_buffers())}
    follows_from = (
        *(fingerprint(values), repr(list(weights)), str(request.model)),
        *(part.identity for part in parts),
        *(sort, str(size), request.watch.precision),
    )
    everything = request.cache.tensors(
        "importances",
        follows_from,
        lambda: importances(request, parts, sort, batch_size=size),
    )
    device = request.watch.device
    return Dampening(
        weights=weights,
        original={name: value.detach().clone() for name, value in weights.items()},
        forgotten=importances(
            request, union_by_position(request.forget, None), sort, batch_size=size
        ),
        everything={name: value.to(device) for name, value in everything.items()},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """The minimum requirements on a dampened model."""

    request: Request
    most_loss: float
    accuracy: float  # on validation, as the model came
    constant: bool  # its predictions were constant before

    def check_accuracy(self) -> tuple[float, bool]:
        """Return validation accuracy, and whether the current model is still valid.

        A model fails if it lost more than `most_loss`, or if its predictions became constant. At chance,
        when half of the labels are wrong, accuracy alone would not show that.
        """
        predictions = predict_examples(
            self.request.model, self.request.validation, self.request.watch
        )
        accuracy = _accuracy(predictions)
        fell = self.accuracy - accuracy > self.most_loss
        return accuracy, not fell and (self.constant or not _is_constant(predictions))


def make_guard(request: Request, most_loss: float) -> Guard:
    """Return the guard of a model that nothing was done to yet."""
    predictions = predict_examples(request.model, request.validation, request.watch)
    return Guard(
        request=request,
        most_loss=most_loss,
        accuracy=_accuracy(predictions),
        constant=_is_constant(predictions) or len(set(request.validation.trained)) == 1,
    )


def _accuracy(predictions: Predictions) -> float:
    accuracy = predictions.accuracy("trained")
    if accuracy is None:
        raise JobError("all labels of the validation samples are unknown")
    return accuracy


def _is_constant(predictions: Predictions) -> bool:
    predicted = torch.from_numpy(predictions.predicted_classes)
    return int(predicted.bincount().max()) > CONSTANT * len(predicted)
