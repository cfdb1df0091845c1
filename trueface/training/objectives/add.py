"""ADD, distillation from images of a higher quality: B. Le, S. Woo, AAAI 2022, arXiv 2112.03553.

The student sees the compressed copies of images. The teacher, which does not learn, sees their
originals. Maps of layers of the same name are compared.

    L = classification + SPECTRA · Σ w_l · frequency + add_views · Σ v_l · views

frequency: D(u, v) is the squared distance between the spectra of both maps, over all channels. The
loss is the mean of D · exp(D / size of the maps). The second factor, the attention, has no gradient.

views: the strength of a map is a distribution over channel, row and column. It is projected onto
random directions, 12 for each layer. The loss is the sum of three terms for each image. The first is the
distance of the student's and the teacher's projection of this image. The second has the weight 0.5. In it,
the student's projection should be close to the teacher's for a random image of the same class. It should be
more than a margin away from that for one of the other class. The third exchanges student and teacher, has
the weight 0.5, too, and draws its own pairs.

Written from the paper, and compared with the published program (github.com/Leminhbinh0209/AAAI22-ADD) in
numbers alone. The frequency loss is equal, and the three terms compare the same images. Differences:

1. The distance of two projections is Wasserstein's of order 1, as in the paper. The program divides a
   direction into equal parts, half as many as the common channels, and leaves the last one out. It adds the
   squared differences of the parts' shares, and cuts the maps in their stored order instead of the sorted one.
2. The weights of the three terms are 1, 0.5 and 0.5 instead of 100, 50 and 50. With the program's, the
   gradient would be about 100 times its gradient. With these, both norms are equal within a factor of 2.
   The value is about 1/100 of the program's, whose margin has the weight 100.
3. The strength is the absolute value, not the square.
4. The published attention of projections is left out.
5. The schedule of four epochs that train the last layer alone is left out.
6. A batch of one class has the term of the same image and the distances within the class. The program ends
   with an error. Maps of one or three channels are compared, too. There, the program divides by 0.
"""

import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.data.batch import Batch
from trueface.data.quality_feed import COLUMN
from trueface.models.detectors import Detector
from trueface.models.head import forward_hooks
from trueface.runtime.errors import JobError
from trueface.training.config import ObjectiveOptions
from trueface.training.layer_weights import read_layers
from trueface.training.objectives.protocol import (
    CORRECT,
    Distillation,
    Logs,
    TrainingFacts,
    count_correct,
    logits_of,
)
from trueface.training.objectives.registry import register_objective

SPECTRA = 1.0  # weight of the distance between spectra; `add_spectra_layers` has one for each layer
DIRECTIONS = 12  # published number for each layer
MARGIN = 0.012  # published, here in units of the side of a cube of channels, rows and columns
SAME, CONTRAST = 1.0, 0.5  # weights, of the published ratio; see difference 2 above
_LEAST = 1e-12  # added to a sum of strengths
_MAPS = 4  # dimensions of (B, C, H, W)


class Matches(NamedTuple):
    """For each image, positions of a teacher's image of the same class and of the other class."""

    same: Tensor  # (B,) int64
    other: Tensor  # (B,) int64; the image itself, if its class is the only one
    has_other: Tensor  # (B,) bool


@register_objective(
    "add",
    summary="distillation from a teacher on images of the first quality",
    binary=True,
    options=("teacher", "add_views", "add_spectra_layers", "add_view_layers"),
)
class AddLosses(Distillation):
    """Classification of compressed images, and the distance between their maps and a teacher's."""

    def prepare(self, facts: TrainingFacts, options: ObjectiveOptions) -> None:
        """Read the weights of losses and layers.

        Raises:
            JobError: there is no teacher.
        """
        del facts
        if self.teacher is None:
            raise JobError("objective: add needs a teacher. Set teacher to a model or to a file.")
        self._options = options
        self._frequency = read_layers(options.add_spectra_layers)
        self._views = read_layers(options.add_view_layers)

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the loss, the number of correct images, and each part.

        Raises:
            JobError: the batch has one quality only, or student or teacher have no maps of a layer.
        """
        teacher, names = self.teacher, {**self._frequency, **self._views}
        assert teacher is not None
        images = int((batch.column(COLUMN) == 0).sum())
        copies = len(batch.labels) // max(images, 1) - 1
        if copies < 1 or not isinstance(model, Detector):
            raise JobError("objective: add needs each image in two qualities, such as raw, jpeg30.")
        labels = batch.labels[images:]
        with _capture_maps(model.network, names, "the student") as drawn:
            logits = logits_of(model, batch.inputs[images:])
        with torch.no_grad(), _capture_maps(teacher.network, names, "the teacher") as given:
            teacher(batch.inputs[:images])
        targets = {name: maps.float().repeat(copies, 1, 1, 1) for name, maps in given.items()}
        is_fake = labels.reshape(-1) > 0.5
        with torch.autocast(labels.device.type, enabled=False):
            frequency = torch.stack(
                [
                    weight * frequency_distance(*align_maps(drawn[name].float(), targets[name]))
                    for name, weight in self._frequency.items()
                ]
            ).sum()
            views = torch.stack(
                [
                    weight * self._view_loss(drawn[name].float(), targets[name], is_fake)
                    for name, weight in self._views.items()
                ]
            ).sum()
            loss = functional.binary_cross_entropy_with_logits(logits.reshape(-1), is_fake.float())
        whole = loss + SPECTRA * frequency + self._options.add_views * views
        # the mean of all rows, as if those of the first quality had the mean of the others
        right = count_correct(logits, labels) * (copies + 1) // copies
        return whole, {
            CORRECT: right,
            "frequency": frequency.detach(),
            "views": views.detach(),
        }

    def _view_loss(self, student: Tensor, teacher: Tensor, is_fake: Tensor) -> Tensor:
        student, teacher = align_maps(student, teacher)
        # drawn on the CPU: a GPU has other random numbers
        directions = functional.normalize(torch.randn(DIRECTIONS, 3), dim=1).to(student)
        losses = []
        for direction in directions:
            matches = draw_matches(is_fake), draw_matches(is_fake)
            own, target = project_maps(student, direction), project_maps(teacher, direction)
            losses.append(view_losses(own, target, matches).mean())
        return torch.stack(losses).mean()


class Projection(NamedTuple):
    """The strengths of maps in the order of a direction."""

    places: Tensor  # (N,), ascending
    cumulated: Tensor  # (B, N), 1 at the end


def frequency_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean of D · exp(D / size), D the squared distance of spectra over channels.

    Args:
        student: maps (B, C, H, W).
        teacher: maps (B, C, H, W).
    """
    difference = torch.fft.fft2(student - teacher, norm="ortho")
    distance = (difference.real.square() + difference.imag.square()).sum(1)  # (B, H, W)
    attention = (distance.detach() / math.prod(student.shape[1:])).exp()
    loss: Tensor = (distance * attention).mean()
    return loss


def align_maps(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return maps of one shape: the smaller side, and means over groups of channels if they differ."""
    size = [min(sides) for sides in zip(student.shape[2:], teacher.shape[2:], strict=True)]
    groups = math.gcd(student.shape[1], teacher.shape[1])
    pair = [_reduce_maps(maps, groups, (size[0], size[1])) for maps in (student, teacher)]
    return pair[0], pair[1]


def project_maps(maps: Tensor, direction: Tensor) -> Projection:
    """Return the distribution of a map's strength along a direction through channels, rows and columns.

    Args:
        maps: (B, C, H, W).
        direction: (3,) of length 1. Each axis has length 1.
    """
    axes = [torch.linspace(0, 1, side, device=maps.device) for side in maps.shape[1:]]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)  # (C, H, W, 3)
    places, order = (grid @ direction).flatten().sort()
    strengths = maps.abs().flatten(1)[:, order]
    shares = strengths / (strengths.sum(1, keepdim=True) + _LEAST)
    return Projection(places, shares.cumsum(1))


def projection_distance(first: Projection, second: Projection) -> Tensor:
    """Return Wasserstein's distance of order 1, (B,), of two projections onto one direction."""
    gaps = first.places.diff()
    differences = (first.cumulated - second.cumulated).abs()[:, :-1]
    return (differences * gaps).sum(1)


def view_losses(
    student: Projection, teacher: Projection, matches: tuple[Matches, Matches]
) -> Tensor:
    """Return the weighted sum of the three terms of each image, (B,).

    Args:
        student: projection of the student's maps of all images.
        teacher: projection of the teacher's maps of the same images.
        matches: teacher's images for each of the student's, and student's for each of the teacher's.
    """
    same = projection_distance(student, teacher)
    contrasts = contrast(student, teacher, matches[0]) + contrast(teacher, student, matches[1])
    return SAME * same + CONTRAST * contrasts


def contrast(first: Projection, second: Projection, matches: Matches) -> Tensor:
    """Return the distance from matches of the same class, and the closeness to those of the other, (B,)."""
    near, far = (
        projection_distance(first, second._replace(cumulated=second.cumulated[rows]))
        for rows in (matches.same, matches.other)
    )
    return near + (MARGIN - far).clamp_min(0) * matches.has_other


def draw_matches(is_fake: Tensor) -> Matches:
    """Return random images of the same class, a permutation of it, and random ones of the other class."""
    flags = is_fake.cpu()
    same = torch.arange(len(flags))
    other = same.clone()
    has_other = torch.zeros(len(flags), dtype=torch.bool)
    for label in (True, False):
        own, others = (flags == label).nonzero().flatten(), (flags != label).nonzero().flatten()
        same[own] = own[torch.randperm(len(own))]
        if len(others):
            other[own] = others[torch.randint(len(others), (len(own),))]
            has_other[own] = True
    device = is_fake.device
    return Matches(same.to(device), other.to(device), has_other.to(device))


def _reduce_maps(maps: Tensor, groups: int, size: tuple[int, int]) -> Tensor:
    if (maps.shape[-2], maps.shape[-1]) != size:
        maps = functional.adaptive_avg_pool2d(maps, size)
    batch, channels, height, width = maps.shape
    if channels == groups:
        return maps
    return maps.reshape(batch, groups, channels // groups, height, width).mean(2)


@contextmanager
def _capture_maps(
    network: nn.Module, names: Collection[str], noun: str
) -> Iterator[dict[str, Tensor]]:
    """Collect the maps of layers while the block runs.

    Raises:
        JobError: the network has no such layer, or it returns no maps.
    """
    layers, maps = dict(network.named_modules()), dict[str, Tensor]()
    if missing := [name for name in names if name not in layers]:
        raise JobError(
            f"objective: add compares layer {missing[0]!r}, but {noun} has no such layer. Change "
            "add_spectra_layers and add_view_layers."
        )

    def keep(name: str, _: nn.Module, __: tuple[object, ...], output: object) -> None:
        if not isinstance(output, Tensor) or output.ndim != _MAPS:
            raise JobError(
                f"objective: add compares layer {name!r}, but that of {noun} returns no maps. "
                "Change add_spectra_layers and add_view_layers."
            )
        maps[name] = output

    with forward_hooks([(name, layers[name]) for name in names], keep):
        yield maps
