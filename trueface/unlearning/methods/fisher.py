"""Fisher forgetting: noise on each weight, larger where its Fisher information is small.

Only the diagonal of the Fisher information is used. It is the mean of the squared gradient of
log p(y | x) over retained images x and classes y drawn from p(y | x). Source: A. Golatkar, A. Achille,
S. Soatto, "Eternal sunshine of the spotless net: selective forgetting in deep networks", CVPR 2020,
arXiv 1911.04933. Constants and the special cases of the last layer, vectors and the row of a class
follow the code published with selective synaptic dampening (arXiv 2308.07707).

Differences: one class per image is drawn from p. That code uses all K classes weighted by p, which gives
the same mean at K times the cost (`exact` requests it). Gradients of single images are computed per
batch, or one by one if torch cannot vectorize the model. They are float32 at any precision, because
torch has no vectorized half precision for batch norm. The importances are not cached, because they
depend on the retain set and thus on the request. The row of a class has a variance of 1e-4, without that
code's factor of 10 for the last layer.

If that code and the paper differ, this module follows the code. Its noise grows as F^(-1/2) for small
importances F, that of the paper as F^(-1/4) (its optimal covariance is the root of an inverse, section
4). The least important weights get more noise than in the paper.
"""

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.overrides import TorchFunctionMode

from trueface.data.examples import Examples
from trueface.models.logits import as_multiclass_logits, last_layer
from trueface.runtime.field_types import Count
from trueface.runtime.rng import torch_rng
from trueface.unlearning.api import Request, Result
from trueface.unlearning.building_blocks import draw_subset, retain_set
from trueface.unlearning.hyperparameters import Options, Positive
from trueface.unlearning.importance import GradientSums, trainable_parameters
from trueface.unlearning.optimization import Step
from trueface.unlearning.registry import register_method

EPSILON = 1e-8  # under the importances, which may be 0
MORE = 10.0  # factor of the variance of biases and norms, and of the last layer if a class is forgotten
ROW_VARIANCE = 1e-4  # variance of the row of the last layer for a forgotten class
GRADIENT_BYTES = 1 << 29  # bytes of the gradients of single images that are held at once
MOST_IMAGES = 64  # images whose gradients are made at once
MOST = 1e3  # largest inverse importance of a weight, as in the repository of selective synaptic dampening
MOST_LAST = 1e2  # the same of a weight in the last layer
SMALL = 20_000  # weights; larger convolutions take 1.5 to 4 times as long at once on a processor

log = logging.getLogger(__name__)


class FisherOptions(Options):
    """Fisher forgetting. Defaults: the selective-synaptic-dampening repository's."""

    alpha: Positive = Field(1e-6, description="Scale of the noise variance")
    samples: Count | None = Field(None, description="Number of kept images to read; default: all")
    exact: bool = Field(
        False,
        description="Weight the gradients of all classes of each image instead of sampling one class",
    )


@register_method(
    "fisher",
    summary="Noise on the weights with the least Fisher information about the retain set",
    hyperparameters=FisherOptions,
    needs={"last layer", "retain set"},
)
def fisher(request: Request) -> Result:
    """Add noise to the weights, in place.

    Raises:
        JobError: stopped, the retain set is empty or unreadable, or the result is not finite.
    """
    options = request.own(FisherOptions)
    request.model.eval()
    notes: list[str] = []
    importances, loss = _importances(request, _select_retain_images(request), notes)
    gone = _rows(request, notes)
    spread = _disturb(request, options, importances, gone)
    metrics = {"loss": loss, "noise": spread}
    return Result(model=request.model, log=(Step(step=1, metrics=metrics),), notes=tuple(notes))


def variance(
    importance: Tensor, options: FisherOptions, *, last: bool, forgets_class: bool
) -> Tensor:
    """Return the variance of a parameter's noise, in its shape.

    Args:
        importance: of each of its weights, the diagonal of the Fisher information.
        options: the scale.
        last: it belongs to the last layer.
        forgets_class: a class is forgotten, instead of instances or flips.
    """
    spread = options.alpha * (1 / (importance + EPSILON)).clamp(max=MOST_LAST if last else MOST)
    if spread.ndim > 1:
        spread = spread.mean(1, keepdim=True).expand_as(importance)
    return spread * MORE if (last and forgets_class) or spread.ndim == 1 else spread


def _select_retain_images(request: Request) -> Examples:
    """Return the retained images to read."""
    retain, samples = retain_set(request), request.own(FisherOptions).samples
    if samples is None or samples >= len(retain):
        return retain
    return draw_subset(retain, samples, "fisher images", request.seed)


def _importances(
    request: Request, samples: Examples, notes: list[str]
) -> tuple[dict[str, Tensor], float]:
    """Return the importance of each weight, and the mean loss for the labels of the training."""
    sums = GradientSums(trainable_parameters(request.model))
    weights = {name: value.detach() for name, value in sums.weights.items()}
    rng = torch_rng("fisher classes", request.seed)
    count = sum(value.numel() for value in weights.values())
    size = max(1, min(MOST_IMAGES, GRADIENT_BYTES // (4 * count)))
    read, loss = 0, 0.0
    at_once = count <= SMALL or torch.device(request.watch.device).type != "cpu"
    for inputs, labels, *_ in samples.read(request.watch, batch_size=size, noun="kept samples"):
        with torch.no_grad():
            logs = request.logits(inputs).log_softmax(1).cpu()
        loss -= float(logs.gather(1, labels.cpu()[:, None]).sum())
        for factors in _factors(logs, request.own(FisherOptions).exact, rng):
            request.watch.raise_if_stopped()
            given = factors.to(inputs.device, non_blocking=True)
            if at_once and not _add_at_once(request, weights, inputs, given, sums.of):
                at_once = False
                notes.append(
                    "torch cannot vectorize this model, so gradients were computed image by image"
                )
            if not at_once:
                _add_singly(request, inputs, given, sums)
        read += len(inputs)
        request.watch.progress(step=read, total=len(samples), loss=loss / read)
    return sums.means(read), loss / read


def _factors(logs: Tensor, exact: bool, rng: torch.Generator) -> list[Tensor]:
    """Return factors (B, K) of log p, one row per image, whose squared gradients are summed."""
    chances = logs.exp()
    if not exact:
        chosen = torch.multinomial(chances, 1, generator=rng)
        return [torch.zeros_like(chances).scatter_(1, chosen, 1.0)]
    roots = chances.sqrt()  # the gradient of sqrt(p) log p, p held, squared: p times the square
    return [
        torch.zeros_like(roots).index_copy_(1, torch.tensor([k]), roots[:, k : k + 1])
        for k in range(roots.shape[1])
    ]


def _add_at_once(
    request: Request,
    weights: Mapping[str, Tensor],
    inputs: Tensor,
    factors: Tensor,
    sums: Mapping[str, Tensor],
) -> bool:
    """Add squared gradients of single images, all of a batch at once; return False if torch cannot."""

    def log_likelihood(weights: dict[str, Tensor], image: Tensor, factor: Tensor) -> Tensor:
        with _Plain():
            logits = as_multiclass_logits(functional_call(request.model, weights, (image[None],)))
        return (logits.log_softmax(1)[0] * factor).sum()

    try:
        gradients = vmap(grad(log_likelihood), in_dims=(None, 0, 0))(dict(weights), inputs, factors)
    except RuntimeError as error:
        log.info("fisher=%s reason=%s", "one by one", str(error).partition("\n")[0])
        return False
    for name, gradient in gradients.items():
        sums[name].add_(gradient.float().square().sum(0))
    return True


class _Plain(TorchFunctionMode):
    """Leaves tensors in the plain memory format: vmap knows no channels-last."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the same operations as a model, except its request for a memory format."""
        arguments = {key: value for key, value in (kwargs or {}).items() if key != "memory_format"}
        return func(*args, **arguments)


def _add_singly(request: Request, inputs: Tensor, factors: Tensor, sums: GradientSums) -> None:
    """Add squared gradients of single images, one image after another."""
    for image, factor in zip(inputs, factors, strict=True):
        request.watch.raise_if_stopped()
        sums.add(
            (as_multiclass_logits(request.model(image[None])).log_softmax(1)[0] * factor).sum()
        )


def _rows(request: Request, notes: list[str]) -> list[int]:
    """Return the rows of the last layer that are forgotten with their class."""
    if request.goal != "class":
        return []
    _, head = last_layer(request.model)
    if head.out_features != request.classes:
        notes.append("the last layer has no separate row for the class, so it only receives noise")
        return []
    return sorted(set(request.forget.trained))


def _disturb(
    request: Request,
    options: FisherOptions,
    importances: Mapping[str, Tensor],
    removed_classes: list[int],
) -> float:
    """Add the noise and return its mean size over all weights, as a root of the mean square."""
    rng = torch_rng("fisher noise", request.seed)
    _, head = last_layer(request.model)
    own = {id(parameter) for parameter in head.parameters()}
    squares: list[Tensor] = []
    count = 0
    with torch.no_grad():
        for name, weight in trainable_parameters(request.model).items():
            last = id(weight) in own
            spread = variance(
                importances[name], options, last=last, forgets_class=request.goal == "class"
            ).sqrt()
            if last and removed_classes:
                spread = spread.clone()
                spread[removed_classes] = ROW_VARIANCE**0.5
                weight[removed_classes] = 0.0
            noise = spread * _normal(weight, rng)
            weight.add_(noise.to(weight.dtype))
            squares.append(noise.square().sum())
            count += weight.numel()
    return math.sqrt(sum(torch.stack(squares).tolist()) / count)


def _normal(weight: nn.Parameter, rng: torch.Generator) -> Tensor:
    """Return standard normal numbers, the same on every device."""
    return torch.randn(weight.shape, generator=rng).to(weight.device)
