"""A training that sees each of its images in several qualities: pixels, or features of each of them.

In the collaboration of qualities features of one item shall agree whatever was done to its pixels.

    loss = mean over qualities of the classification loss
           - alpha Σ over pairs of qualities and layers l of w_l · dependence(z_l of one, z_l of the other)

It goes round any objective. What of the published method is not readable in its sources (the kernel's
width, which layers the weights belong to, whether batch norm sees all qualities together) is decided
here; all qualities of a batch go through the network at once.

How much two sets of features of the same items depend on each other is the HSIC in one of three forms.
With Gram matrices K and L of B items and H = I - 11ᵀ/B:

    plain        (B-1)⁻² tr(K H L H), the biased estimator of A. Gretton et al., ALT 2005
    normalised   HSIC(a, b) / √(HSIC(a, a) HSIC(b, b)) in 0 … 1, 1 for a = b
    cca          tr(R_a R_b), R = K̃ (K̃ + ε B I)⁻¹, K̃ = H K H, ε = 1e-5, in 0 … B-1; K. Fukumizu et al.,
                 NIPS 2007

The kernel is exp(-‖zᵢ-zⱼ‖² / (2 s²)). Its width s is the median distance of the batch, detached, by
default. The published QAD configurations name sigma = 6 without a kernel; `dim` is the scaling of the HSIC
bottleneck's public code, s² = sigma² d for features of length d. With either the plain form moves no weight
at the published alpha: the term's gradient is 1e-9 of the loss's, or nothing where K is the identity.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from trueface.data.dataset import Batch, Feed, Pass
from trueface.data.qualities import QualityList
from trueface.data.quality_feed import COLUMN, ChunkedFeed, QualityFeed, qualities_of, seen_in
from trueface.features.bank import Bank
from trueface.models.detectors import Detector
from trueface.runtime.errors import JobError
from trueface.runtime.files import Json, file_sha256
from trueface.training.config import ObjectiveOptions
from trueface.training.objectives.protocol import Logs, Objective, TrainingFacts
from trueface.training.parts.protocol import Part
from trueface.training.parts.registry import register_part
from trueface.training.settings import (
    DIM,
    LEAST_ITEMS,
    LEAST_SHARE,
    MEDIAN,
    CollaborationOptions,
    TrainSettings,
)


@register_part(
    "qualities",
    chosen_by=("qualities", "quality_list"),
    conflicts={
        "ridge": "qualities: {model} is fitted in closed form and learns its own corrupted copies "
        "(copies). Leave qualities and collab out, or set solver: gradient.",
    },
)
class Qualities(Part):
    """The images in all of the training's qualities."""

    identity: ClassVar[tuple[str, ...]] = ("quality_list_sha256",)

    def images(self, learned: Pass, checked: Pass) -> tuple[Pass, Pass]:
        """Return the images to learn from in their qualities.

        Raises:
            DataError: the list of files does not fit the images.
        """
        return in_qualities(learned, self.training.settings, self.training.path), checked

    def feeds(self, learned: Feed, checked: Feed, model: Detector) -> tuple[Feed, Feed]:
        """Return a feed with a row for each quality of an image."""
        del model
        return rows_of(learned, self.training.settings), checked

    def facts(self) -> Mapping[str, Json]:
        """Return a digest of the list of files, where there is one."""
        path = self.training.settings.quality_list
        return {"quality_list_sha256": file_sha256(self.training.path(path))} if path else {}


@register_part(
    "collab",
    chosen_by=("collab",),
    conflicts={
        "compile": "collab cannot be used with compile: true, which hides the features of layers. Leave "
        "compile out.",
        "shards": "collab measures the dependence within a whole batch and cannot be used with several "
        "processes. Set gpus: 1, or leave processes out.",
    },
)
class Collab(Part):
    """Features that shall agree between the qualities."""

    def objective(self, objective: Objective) -> Objective:
        """Add what makes them agree."""
        options = self.training.settings.collaboration
        return objective if options is None else CollaborationObjective(objective, options)


def in_qualities(images: Pass, settings: TrainSettings, path: Callable[[str], Path]) -> Pass:
    """Return a training's images in the qualities of its settings; as they are where there are none.

    Args:
        images: as augmented.
        settings: of the training.
        path: makes a path of the settings absolute.

    Raises:
        DataError: the list of files does not fit the images.
    """
    if not settings.quality_names:
        return images
    partners = None
    if settings.quality_list:
        partners = QualityList.read(path(settings.quality_list))
    qualities = qualities_of(settings.quality_names, images.image_set.images, partners)
    return seen_in(images, qualities, settings.quality_batch)


def rows_of(images: Feed, settings: TrainSettings) -> Feed:
    """Return the batches of images `in_qualities`, or of their features: a row for each quality."""
    if not settings.quality_names or isinstance(images, ChunkedFeed):
        return images
    assert isinstance(images, Pass | Bank)
    return QualityFeed(images, images.image_set, settings.quality_batch)


SIGMA = 6.0  # of the published configurations, for `dim`
EPSILON = 1e-5  # of the CCA form, times B
TINY = 1e-12  # below it features are all alike, and depend on nothing
SHIFTS = 8  # permutations of the baseline, at most

Form = Callable[[Tensor, Tensor], Tensor]
_ACTIVATIONS = (nn.ReLU, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid)
_SHOWN = 24  # names of layers in a message
_IMAGES, _TOKENS, _ROWS = 4, 3, 2  # dimensions of outputs
_SCALE = 1024.0  # of losses whose gradients are measured: fp16 would lose the small ones
_LEAST_NORM = 1e-30  # of a gradient that another is divided by
_STATE, _INNER = "collaboration", "inner."  # names in what is saved
log = logging.getLogger(__name__)


def gram(features: Tensor, width: str | float = MEDIAN) -> Tensor:
    """Return the Gram matrix (B, B) of features (B, d), in float64: centring it cancels most digits.

    Args:
        features: of B items.
        width: `median`, `dim`, or the width in the features' own unit.
    """
    wide = features if features.dtype == torch.float64 else features.float()
    lengths = wide.square().sum(1)
    squares = (lengths[:, None] + lengths[None, :] - 2 * wide @ wide.T).clamp_min(0)
    # the diagonal is 0, and rounding would leave a gradient on it
    squares = (squares - torch.diag(squares.diagonal())).double()
    return torch.exp(-squares / (2 * _width_squared(squares, width, wide.shape[1])))


def centred(matrix: Tensor) -> Tensor:
    """Return H K H of a symmetric matrix (B, B)."""
    rows = matrix.mean(0, keepdim=True)
    return matrix - rows - rows.T + matrix.mean()


def plain(first: Tensor, second: Tensor) -> Tensor:
    """Return (B-1)⁻² tr(K H L H) of two Gram matrices (B, B), at least 0."""
    return (centred(first) * second).sum().clamp_min(0) / (len(first) - 1) ** 2


def normalised(first: Tensor, second: Tensor) -> Tensor:
    """Return the plain form over the geometric mean of those of each with itself, in 0 … 1."""
    lengths = (plain(first, first) * plain(second, second)).clamp_min(TINY**2).sqrt()
    return plain(first, second) / lengths


def cca(first: Tensor, second: Tensor) -> Tensor:
    """Return tr(R_a R_b) of two Gram matrices (B, B), in 0 … B-1."""
    return (_resolved(first) * _resolved(second).T).sum()


FORMS: Mapping[str, Form] = MappingProxyType({"normalised": normalised, "plain": plain, "cca": cca})


def between(form: str, grams: Sequence[Tensor]) -> Tensor:
    """Return the sum of a form over all pairs of Gram matrices (B, B): what qualities share.

    Args:
        form: of `FORMS`.
        grams: one a quality, two at least.
    """
    if form == "cca":  # each matrix is inverted once
        resolved = [_resolved(each) for each in grams]
        return _over_pairs(lambda first, other: (first * other.T).sum(), resolved)
    return _over_pairs(FORMS[form], grams)


def shuffled(grams: Sequence[Tensor]) -> Tensor:
    """Return the mean nHSIC of all pairs where the items of the second are others: its baseline.

    The diagonal of a Gram matrix is 1 for any features, so that the measure of independent features is
    far from 0: .57 to .99 at B = 32. Items are shifted against each other, by up to `SHIFTS` steps, so
    that nothing is drawn.
    """
    count = len(grams[0])
    shifts = min(SHIFTS, count - 1)
    steps = {1 + (count - 2) * at // max(shifts - 1, 1) for at in range(shifts)}
    values = [_over_pairs(partial(_shifted, step=step), grams) for step in sorted(steps)]
    return torch.stack(values).mean() / pairs(len(grams))


def pairs(count: int) -> int:
    """Return how many pairs so many qualities have."""
    return count * (count - 1) // 2


def chosen(
    model: nn.Module, weights: Mapping[str, float], *, features: bool
) -> dict[str, tuple[nn.Module, float]]:
    """Return the layers whose features count, with their weights, by name.

    Args:
        model: a detector, or a network.
        weights: by the names of layers of the network. Where the body is frozen, they are those of the
            hidden layers of the head, the last to the last.
        features: whether the body is frozen, so that the head alone is computed.

    Raises:
        JobError: the network has no such layer, or the head no hidden one; names those that there are.
    """
    network = model.network if isinstance(model, Detector) else model
    if features:
        return _hidden(model, weights)
    modules = dict(network.named_modules())
    unknown = [name for name in weights if name not in modules]
    if unknown:
        raise JobError(
            f"collab_layers: the network has no layer {unknown[0]!r}. Its layers: "
            f"{_listed(network)}."
        )
    return {name: (modules[name], weight) for name, weight in weights.items()}


@contextmanager
def outputs_of(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Collect what layers give while the block runs: (rows, d), images and tokens pooled by their mean.

    Raises:
        JobError: a layer gives something else than a tensor with a row for each image.
    """
    outputs: dict[str, Tensor] = {}

    def keep(name: str, output: object) -> None:
        outputs[name] = _pooled(name, output)

    handles = [
        layer.register_forward_hook(
            # nothing is returned: a hook's result would take the place of the layer's
            lambda _module, _inputs, output, name=name: keep(name, output)
        )
        for name, layer in layers.items()
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


class CollaborationMeasured(NamedTuple):
    """What the term did at the end of an epoch; a page of qualities shows it by these names."""

    epoch: float  # from 1
    term: float  # what the loss was given
    nhsic: float  # of the layers, by their weights; mean over pairs of qualities
    nhsic_permuted: float  # the same where the items of a pair are others
    gradient_share: float  # of the classification loss's gradient

    @property
    def record(self) -> dict[str, Json]:
        """The same for a result."""
        return {**self._asdict(), "epoch": int(self.epoch)}


class CollaborationObjective(Objective):
    """An objective with the dependence between qualities added.

    At the end of each epoch it measures how much the term does: its gradient's norm over all that
    learns, as a share of the classification loss's, and how much features of the qualities depend on
    each other beside the same with items exchanged. Measuring draws nothing and changes no weight.

    Args:
        inner: the objective of the classification.
        options: weight, form, width, layers.
    """

    def __init__(self, inner: Objective, options: CollaborationOptions) -> None:
        self._inner, self._options = inner, options
        self._epoch, self._step, self._steps = 0, 0, 0
        self._last: Tensor | None = None
        self._measured: list[CollaborationMeasured] = []

    def begin_epoch(self, epoch: int, done: int, batches: int) -> None:
        """Note the epoch, how many of its batches are done, and how many it has."""
        self._epoch, self._step, self._steps, self._last = epoch, done, batches, None
        self._inner.begin_epoch(epoch, done, batches)

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the loss of a batch of chunks, one a quality, and what is logged of it.

        A last batch of fewer items than the measure makes sense of counts by its classification alone.

        Raises:
            JobError: the batch is not of this training's qualities, or the network has no such layer.
        """
        items = self._items(batch)
        is_new = batch.indices is not self._last  # a second pass over a batch is no further step
        self._last, self._step = batch.indices, self._step + is_new
        if items < LEAST_ITEMS:
            return self._inner.training_step(model, batch)
        layers = chosen(model, self._options.layers, features=batch.images.ndim == 2)  # (B, F)
        with outputs_of({name: layer for name, (layer, _) in layers.items()}) as outputs:
            loss, logs = self._inner.training_step(model, batch)
        missing = [name for name in layers if name not in outputs]
        if missing:
            raise JobError(
                f"collab_layers: layer {missing[0]!r} is not computed. Choose another layer."
            )
        with torch.autocast(batch.images.device.type, enabled=False):
            grams = {
                name: [
                    gram(part, self._options.width)
                    for part in output.chunk(self._options.qualities)
                ]
                for name, output in outputs.items()
            }
            dependence = torch.stack(
                [
                    weight * between(self._options.form, grams[name])
                    for name, (_, weight) in layers.items()
                ]
            ).sum()
            term = -self._options.weight * dependence.float()
        # the last whole batch: what is left of an epoch may be too small
        if is_new and self._step == max(self._steps - 1, 1):
            self._measure(model, loss, term, grams, {name: w for name, (_, w) in layers.items()})
        return loss + term, {**logs, "collab": term.detach(), **self._shown}

    def ascent_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the classification loss alone: what an adversarial perturbation of weights climbs."""
        return self._inner.ascent_step(model, batch)

    def perturbed(self, model: nn.Module) -> AbstractContextManager[None] | None:
        """Return the inner objective's second pass."""
        return self._inner.perturbed(model)

    def stepped(self) -> None:
        """Let the inner objective know of the optimizer's step."""
        self._inner.stepped()

    def state(self) -> dict[str, Tensor]:
        """Return what a training that is interrupted needs to go on: what was measured."""
        inner = self._inner.state()
        rows = torch.tensor([list(each) for each in self._measured], dtype=torch.float64)
        return {_STATE: rows, **{f"{_INNER}{name}": value for name, value in inner.items()}}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        if _STATE in state:
            self._measured = [CollaborationMeasured(*row) for row in state[_STATE].tolist()]
        own = {
            name.removeprefix(_INNER): value
            for name, value in state.items()
            if name.startswith(_INNER)
        }
        self._inner.restore(own)

    def notes(self) -> dict[str, Json]:
        """Return what was measured by epoch, for the training's result, and what is wrong with it."""
        share = self._measured[0].gradient_share if self._measured else None
        idle = share is not None and share < LEAST_SHARE
        return {
            **self._inner.notes(),
            "collaboration": [each.record for each in self._measured],
            "collab_gradient_share": share,
            **({"warnings": [self._warning(share)]} if share is not None and idle else {}),
        }

    def prepare(self, facts: TrainingFacts, options: ObjectiveOptions) -> None:
        """Let the inner objective know of the training's images."""
        self._inner.prepare(facts, options)

    @property
    def _shown(self) -> dict[str, float]:
        """What was measured last, for the progress."""
        if not self._measured:
            return {}
        last = self._measured[-1]
        return {
            "nhsic": last.nhsic,
            "nhsic_permuted": last.nhsic_permuted,
            "collab_gradient_share": last.gradient_share,
        }

    def _items(self, batch: Batch) -> int:
        """Return how many items a batch has, each in all qualities."""
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
            values = {name: float(between("normalised", grams[name])) / count for name in grams}
            baseline = {name: float(shuffled(grams[name])) for name in grams}
        total = sum(weights.values())
        measured = CollaborationMeasured(
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


def _shifted(first: Tensor, second: Tensor, step: int) -> Tensor:
    return normalised(first, second.roll((step, step), (0, 1)))


def _over_pairs(form: Form, matrices: Sequence[Tensor]) -> Tensor:
    values = [
        form(first, other) for at, first in enumerate(matrices) for other in matrices[at + 1 :]
    ]
    return torch.stack(values).sum()


def _resolved(matrix: Tensor) -> Tensor:
    inner = centred(matrix)
    # symmetric: K̃ (K̃ + εB I)⁻¹ = (K̃ + εB I)⁻¹ K̃
    ridge = EPSILON * len(matrix) * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    solved: Tensor = torch.linalg.solve(inner + ridge, inner)
    return solved


def _width_squared(squares: Tensor, width: str | float, length: int) -> Tensor | float:
    if width == DIM:
        return SIGMA**2 * length
    if width != MEDIAN:
        return float(width) ** 2
    count = len(squares)
    apart = squares.detach()[~torch.eye(count, dtype=torch.bool, device=squares.device)]
    return apart.median().clamp_min(TINY) if count > 1 else 1.0


def _hidden(model: nn.Module, weights: Mapping[str, float]) -> dict[str, tuple[nn.Module, float]]:
    head: nn.Module = model.head if isinstance(model, Detector) else model
    inside = [(name, each) for name, each in head.named_modules() if name]
    # where activations are no modules, what goes into them
    kinds: tuple[type[nn.Module], ...] = _ACTIVATIONS
    if not any(isinstance(each, kinds) for _, each in inside):
        kinds = (nn.Linear,)
    named = [(name, each) for name, each in inside if isinstance(each, kinds)]
    if not named:
        raise JobError(
            "collab: only the last layer is trained, and it has no hidden layer whose features "
            "could change. Leave freeze out, or choose a model with a hidden layer in its head, "
            "such as moments/mobilenet."
        )
    count = min(len(named), len(weights))
    pairs = zip(named[-count:], list(weights.values())[-count:], strict=True)
    return {f"head.{name}": (layer, weight) for (name, layer), weight in pairs}


def _pooled(name: str, output: object) -> Tensor:
    if isinstance(output, Tensor):
        if output.ndim == _IMAGES:
            return output.mean((2, 3))
        if output.ndim == _TOKENS:
            return output.mean(1)
        if output.ndim == _ROWS:
            return output
    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    raise JobError(
        f"collab_layers: layer {name!r} returns {shape}, which cannot be used as features. Choose "
        "another layer."
    )


def _listed(network: nn.Module) -> str:
    """Return the names of a network's blocks, the outer ones first."""
    names = [name for name, _ in network.named_modules() if name]
    names.sort(key=lambda name: name.count("."))
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _gradient_norm(model: nn.Module, value: Tensor) -> float:
    """Return the norm of a value's gradient over all that learns."""
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients: Sequence[Tensor | None] = torch.autograd.grad(
        value * _SCALE, learned, retain_graph=True, allow_unused=True
    )
    squares = [each.double().square().sum() for each in gradients if each is not None]
    return float(torch.stack(squares).sum().sqrt()) / _SCALE if squares else 0.0
