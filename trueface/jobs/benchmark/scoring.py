"""The scores of one model on one set of images under one condition."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trueface.benchmark.cells import CellScores
from trueface.benchmark.conditions import Condition
from trueface.benchmark.settings import BenchmarkSettings
from trueface.data.index import Image
from trueface.data.loaders import Pass, still
from trueface.data.settings import ScoringSettings, TestSettings
from trueface.evaluation.inference import Answers, evaluate_images
from trueface.features.store import FeatureStore
from trueface.models import checkpoint
from trueface.models.checkpoint import Checkpoint
from trueface.models.detectors import Detector
from trueface.runtime.progress import Watch

log = logging.getLogger(__name__)


class NotRunError(Exception):
    """A cell that cannot be scored; the message says why, and the table repeats it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A model, the images that it is scored on, and the means to do so."""

    name: str  # of the model
    model: Detector  # on the device
    kept: Checkpoint
    images: tuple[Image, ...]
    settings: BenchmarkSettings
    data_root: Path
    watch: Watch
    store: FeatureStore | None

    def answers(self, feed: Pass) -> Answers:
        """Return what the model says of a feed."""
        constant = checkpoint.has_constant_body(self.kept)
        return evaluate_images(self.model, feed, self.watch, constant=constant, store=self.store)

    def feed(self, corrupt: str) -> Pass:
        """Return the images under a chain of corruptions."""
        return still(self.images, scoring_settings(self.settings, corrupt))


def score(bench: Bench, condition: Condition) -> CellScores:
    """Return the scores of a cell.

    Raises:
        NotRunError: the condition makes no sense for this model, or it is refused.
        JobError: stopped, or the model is broken.
        DataError: not one image could be read.
    """
    if condition.is_attack:
        raise NotRunError("attacks are not available")
    return _scores(bench, bench.answers(bench.feed(condition.corrupt)))


def scoring_settings(settings: BenchmarkSettings, corrupt: str) -> TestSettings:
    """Return the settings of a test under a chain of corruptions."""
    values = {name: getattr(settings, name) for name in ScoringSettings.model_fields}
    return TestSettings.model_validate({**values, "corrupt": corrupt})


def _scores(bench: Bench, answers: Answers) -> CellScores:
    return CellScores(
        paths=names_of([bench.images[at] for at in answers.positions], bench.data_root),
        labels=answers.labels,
        logits=answers.logits,
    )


def names_of(images: Sequence[Image], data_root: Path) -> tuple[str, ...]:
    """Return the paths of images below the data root."""
    return tuple(image.path.relative_to(data_root).as_posix() for image in images)
