"""An objective with an additional term: the dependence between qualities.

The features of one item should agree for all corruptions of its pixels:

    loss = mean over qualities of the classification loss
           - alpha Σ over pairs of qualities and layers l
             of w_l · dependence(z_l of one, z_l of the other)

It wraps any objective. The publication of the method does not state the width of the kernel, the layers
of the weights, and whether batch norm uses all qualities together. This module makes these choices. All
qualities of a batch pass through the network together.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trueface.data.batch import Batch
from trueface.data.quality_feed import COLUMN
from trueface.runtime.errors import JobError
from trueface.runtime.files import Json
from trueface.training.config import ObjectiveOptions
from trueface.training.dependence import (
    mean_shuffled_nhsic,
    pairs,
    rbf_kernel_matrix,
    sum_over_pairs,
)
from trueface.training.hidden_layers import capture_outputs, select_layers
from trueface.training.objectives.protocol import Logs, Objective, TrainingFacts
from trueface.training.quality_settings import LEAST_ITEMS, LEAST_SHARE, CollaborationOptions

# factor of a loss whose gradient is measured, because small gradients underflow in fp16
_SCALE = 1024.0
_LEAST_NORM = 1e-30  # lower limit for the norm of a gradient in a denominator
_STATE, _INNER = "collaboration", "inner."  # names in the saved state
log = logging.getLogger(__name__)


class CollaborationStatistics(NamedTuple):
    """Measurements of the term at the end of an epoch. The report of qualities uses these names."""

    epoch: float  # number of the epoch, counted from 1
    term: float  # value that was added to the loss
    nhsic: float  # weighted over the layers, mean over pairs of qualities
    nhsic_permuted: float  # the same with permuted items in one quality of each pair
    gradient_share: float  # norm of the term's gradient as a fraction of the classification loss's

    @property
    def json_record(self) -> dict[str, Json]:
        """Return the measurements as JSON."""
        return {**self._asdict(), "epoch": int(self.epoch)}


class CollaborationObjective(Objective):
    """An objective with the dependence between qualities as an additional term.

    At the end of each epoch it measures the effect of the term. The first measure is the norm of
    its gradient over all trainable parameters, as a fraction of that of the classification loss. The
    second is the dependence between features of the qualities, compared with permuted items.
    Measuring uses no random numbers and does not change weights.

    Args:
        inner: objective of the classification.
        options: weight, form, width and layers of the term.
    """

    def __init__(self, inner: Objective, options: CollaborationOptions) -> None:
        self._inner, self._options = inner, options
        self._epoch, self._step, self._steps = 0, 0, 0
        self._last: Tensor | None = None
        self._measured: list[CollaborationStatistics] = []

    def begin_epoch(self, epoch: int, first_batch: int, batches: int) -> None:
        """Record the epoch, the number of its finished batches, and the number of its batches."""
        self._epoch, self._step, self._steps, self._last = epoch, first_batch, batches, None
        self._inner.begin_epoch(epoch, first_batch, batches)

    def can_learn(self, labels: Tensor) -> bool:
        """Return whether the inner objective takes a batch."""
        return self._inner.can_learn(labels)

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the loss of a batch of chunks, one per quality, and the values to log.

        If the last batch has too few items for the dependence, only its classification loss is used.

        Raises:
            JobError: the batch does not contain the qualities of this training, or a layer is unknown.
        """
        items = self._items(batch)
        is_new = batch.indices is not self._last  # a second pass over a batch is not a new step
        self._last, self._step = batch.indices, self._step + is_new
        if items < LEAST_ITEMS:
            return self._inner.training_step(model, batch)
        layers = select_layers(
            model, self._options.layers, features=batch.inputs.ndim == 2
        )  # (B, F)
        with capture_outputs({name: layer for name, (layer, _) in layers.items()}) as outputs:
            loss, logs = self._inner.training_step(model, batch)
        missing = [name for name in layers if name not in outputs]
        if missing:
            raise JobError(
                f"collab_layers: layer {missing[0]!r} is not computed. Choose another layer."
            )
        with torch.autocast(batch.inputs.device.type, enabled=False):
            grams = {
                name: [
                    rbf_kernel_matrix(part, self._options.width)
                    for part in output.chunk(self._options.qualities)
                ]
                for name, output in outputs.items()
            }
            dependence = torch.stack(
                [
                    weight * sum_over_pairs(self._options.form, grams[name])
                    for name, (_, weight) in layers.items()
                ]
            ).sum()
            term = -self._options.weight * dependence.float()
        # the last full batch is measured, because the last batch of an epoch may be too small
        if is_new and self._step == max(self._steps - 1, 1):
            self._measure(model, loss, term, grams, {name: w for name, (_, w) in layers.items()})
        return loss + term, {**logs, "collab": term.detach(), **self._progress_values}

    def ascent_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return only the classification loss, which weight perturbation ascends."""
        return self._inner.ascent_step(model, batch)

    def perturbed(self, model: nn.Module) -> AbstractContextManager[None] | None:
        """Return the context of the inner objective's second pass."""
        return self._inner.perturbed(model)

    def before_step(self, model: nn.Module) -> None:
        """Change the gradients as the wrapped objective does."""
        self._inner.before_step(model)

    def stepped(self) -> None:
        """Notify the inner objective of the optimizer's step."""
        self._inner.stepped()

    def state(self) -> dict[str, Tensor]:
        """Return the state for resuming a training: the measurements."""
        inner = self._inner.state()
        rows = torch.tensor([list(each) for each in self._measured], dtype=torch.float64)
        return {_STATE: rows, **{f"{_INNER}{name}": value for name, value in inner.items()}}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore the state that `state` returned."""
        if _STATE in state:
            self._measured = [CollaborationStatistics(*row) for row in state[_STATE].tolist()]
        own = {
            name.removeprefix(_INNER): value
            for name, value in state.items()
            if name.startswith(_INNER)
        }
        self._inner.restore(own)

    def notes(self) -> dict[str, Json]:
        """Return the measurements per epoch for the result of the training, and warnings about them."""
        share = self._measured[0].gradient_share if self._measured else None
        idle = share is not None and share < LEAST_SHARE
        return {
            **self._inner.notes(),
            "collaboration": [each.json_record for each in self._measured],
            "collab_gradient_share": share,
            **({"warnings": [self._warning(share)]} if share is not None and idle else {}),
        }

    def prepare(self, facts: TrainingFacts, options: ObjectiveOptions) -> None:
        """Pass the facts on the training images to the inner objective."""
        self._inner.prepare(facts, options)

    @property
    def _progress_values(self) -> dict[str, float]:
        """Return the last measurements for the progress."""
        if not self._measured:
            return {}
        last = self._measured[-1]
        return {
            "nhsic": last.nhsic,
            "nhsic_permuted": last.nhsic_permuted,
            "collab_gradient_share": last.gradient_share,
        }

    def _items(self, batch: Batch) -> int:
        """Return the number of items in a batch. Each item has one row per quality."""
        rows, count = len(batch.labels), self._options.qualities
        items = rows // count
        expected = torch.arange(count, device=batch.labels.device).repeat_interleave(items)
        if rows % count or not torch.equal(batch.column(COLUMN).to(expected.device), expected):
            raise JobError(
                f"a batch of {rows} rows does not consist of {count} parts, one per quality. Set "
                "quality_batch: paired."
            )
        return items

    def _measure(
        self,
        model: nn.Module,
        loss: Tensor,
        term: Tensor,
        grams: Mapping[str, Sequence[Tensor]],
        weights: Mapping[str, float],
    ) -> None:
        whole, part = (_gradient_norm(model, each) for each in (loss, term))
        with torch.no_grad():
            count = pairs(self._options.qualities)
            values = {
                name: float(sum_over_pairs("normalised", grams[name])) / count for name in grams
            }
            baseline = {name: float(mean_shuffled_nhsic(grams[name])) for name in grams}
        total = sum(weights.values())
        measured = CollaborationStatistics(
            epoch=self._epoch + 1,
            term=float(term.detach()),
            nhsic=sum(values[name] * weights[name] for name in grams) / total,
            nhsic_permuted=sum(baseline[name] * weights[name] for name in grams) / total,
            gradient_share=part / max(whole, _LEAST_NORM),
        )
        self._measured.append(measured)
        log.info(
            "epoch=%d collab=%.4g nhsic=%.4f nhsic_permuted=%.4f collab_gradient_share=%.3g",
            *measured,
        )
        if measured.gradient_share < LEAST_SHARE and len(self._measured) == 1:
            log.warning("%s", self._warning(measured.gradient_share))

    def _warning(self, share: float) -> str:
        options = self._options
        return (
            f"the collab term changes nothing: its gradient is {share:.2g} of the gradient of the "
            f"classification loss, below {LEAST_SHARE:g} (form {options.form}, width "
            f"{options.width}, weight {options.weight:g}). Use collab_form: normalised, "
            "collab_width: median, or a higher collab."
        )


def _gradient_norm(model: nn.Module, value: Tensor) -> float:
    """Return the norm of a value's gradient over all trainable parameters."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients: Sequence[Tensor | None] = torch.autograd.grad(
        value * _SCALE, trainable, retain_graph=True, allow_unused=True
    )
    squares = [each.double().square().sum() for each in gradients if each is not None]
    return float(torch.stack(squares).sum().sqrt()) / _SCALE if squares else 0.0
