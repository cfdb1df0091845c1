"""One model on one set of images: its scores under a condition, its operating point by validation, and its cost."""

import logging
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from launcher.api import Job
from trueface.attacks.grammar import Attack, parse_attack
from trueface.attacks.target import Target
from trueface.benchmark import cells
from trueface.benchmark.cells import CellScores, ModelFacts
from trueface.benchmark.conditions import Condition
from trueface.benchmark.settings import BenchmarkSettings
from trueface.corruptions.chain import Chain
from trueface.corruptions.grammar import NONE
from trueface.data.index import Image
from trueface.data.loaders import Pass, still
from trueface.data.settings import ScoringSettings, TestSettings
from trueface.evaluation.attacked import attack_images, drawn
from trueface.evaluation.inference import Answers
from trueface.evaluation.operating_threshold import Calibration, calibrate
from trueface.features.store import FeatureStore
from trueface.jobs.scoring import NOT_DIFFERENTIABLE, Network, is_differentiable
from trueface.models import checkpoint
from trueface.models.checkpoint import Checkpoint
from trueface.models.detectors import Detector
from trueface.runtime.errors import DataError
from trueface.runtime.ids import parse_data
from trueface.runtime.progress import Watch
from trueface.runtime.timer import now
from trueface.training import image_lists, lineage
from trueface.training.image_lists import Place

log = logging.getLogger(__name__)
REPEATS = 30  # of one image, the median of which counts
WARM_UP = 3  # passes that are not timed


class NotRunError(Exception):
    """A cell that cannot be scored; the message says why, and the table repeats it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A model, the images that it is scored on, and the means to do so."""

    name: str  # of the model
    model: Detector  # on the device
    surrogate: Detector | None  # likewise; of transfer attacks
    kept: Checkpoint
    images: tuple[Image, ...]
    settings: BenchmarkSettings
    data_root: Path
    watch: Watch
    store: FeatureStore | None

    @property
    def network(self) -> Network:
        """The model, and how it computes."""
        return Network(
            model=self.model,
            watch=self.watch,
            constant=checkpoint.has_constant_body(self.kept),
            store=self.store,
            calibration=Calibration.read(self.kept.provenance.get("calibration")),
        )

    def answers(self, feed: Pass) -> Answers:
        """Return what the model says of a feed."""
        return self.network.answers(feed)

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
    attack = parse_attack(condition.attack)
    if attack is not None:
        return _attacked(bench, attack)
    answers = bench.answers(bench.feed(condition.corrupt))
    return CellScores(
        paths=names_of([bench.images[at] for at in answers.positions], bench.data_root),
        labels=answers.labels,
        logits=answers.logits,
    )


def scoring_settings(settings: BenchmarkSettings, corrupt: str) -> TestSettings:
    """Return the settings of a test under a chain of corruptions."""
    values = {name: getattr(settings, name) for name in ScoringSettings.model_fields}
    return TestSettings.model_validate({**values, "corrupt": corrupt})


def _attacked(bench: Bench, attack: Attack) -> CellScores:
    """Return the scores of attacked images; those that the model called wrong keep theirs."""
    target = _target(bench, attack)
    if attack.spec.needs_gradient and not is_differentiable(target):
        raise NotRunError(f"{NOT_DIFFERENTIABLE}: {target.spec.name}")
    chosen = replace(bench, images=drawn(bench.images, bench.settings.attack_images))
    feed = chosen.feed(NONE)
    network = chosen.network
    clean = network.answers(feed)
    result = attack_images(
        feed,
        clean,
        attack,
        score=network.scorer(),
        target=Target(target, bench.watch.device, network.threshold),
        watch=bench.watch,
        threshold=network.threshold,
        saved=Chain.parse(bench.settings.attack_save),
        queries=bench.settings.queries,
    )
    return CellScores(
        paths=names_of([chosen.images[at] for at in clean.positions], bench.data_root),
        labels=clean.labels,
        logits=result.answers.logits,
        before=clean.logits,
        psnr=result.psnr,
        threshold=network.threshold,
    )


def _target(bench: Bench, attack: Attack) -> Detector:
    """Return the network that an attack computes with."""
    if attack.spec.access != "transfer":
        return bench.model
    if bench.surrogate is None:
        raise NotRunError("no surrogate is named")
    if bench.settings.surrogate == bench.name:
        raise NotRunError("the model is the surrogate itself")
    return bench.surrogate


def names_of(images: Sequence[Image], data_root: Path) -> tuple[str, ...]:
    """Return the paths of images below the data root."""
    return tuple(image.path.relative_to(data_root).as_posix() for image in images)


def facts_of(job: Job, bench: Bench, folder: Path, checkpoint_sha256: str) -> ModelFacts:
    """Return the facts of a model; those that are written of the same weights are taken as they are.

    Args:
        job: of the benchmark.
        bench: the model.
        folder: of the model.
        checkpoint_sha256: of its checkpoint file.

    Raises:
        DataError: nothing tells on which images the model was validated, or they have one class.
    """
    try:
        written = cells.read_facts(folder)
        if written.checkpoint_sha256 == checkpoint_sha256:
            return written
    except DataError:
        pass
    calibration = Calibration.read(bench.kept.provenance.get("calibration"))
    source = "training" if calibration else "validation"
    calibration = calibration or _calibrated(bench, job.model_folder)
    facts = ModelFacts(
        checkpoint_sha256=checkpoint_sha256,
        threshold=calibration.threshold,
        temperature=calibration.temperature,
        in_logits=calibration.in_logits,
        source=source,
        parameters=sum(value.numel() for value in bench.model.network.parameters()),
        ms_image=_ms_image(bench),
        device=job.device,
        threads=torch.get_num_threads(),
    )
    cells.write_facts(folder, facts)
    return facts


def _calibrated(bench: Bench, model_folder: Callable[[str], Path]) -> Calibration:
    """Return threshold and temperature by the validation images of a model that does not say them."""
    lessons = [*lineage.follow(bench.name, lambda name: lineage.read(model_folder(name)))]
    if not lessons:
        raise DataError(f"nothing tells what {bench.name} was trained on; train it again")
    lesson = lessons[0][1]  # its own last training
    place = Place(
        data_root=Path(lesson.data_root),
        split_path=Path(lesson.split_path),
        words=lesson.words,
        vocabulary=lesson.vocabulary.with_layout(bench.settings.layout),
        missing=bench.settings.missing_images,
    )
    images, _ = image_lists.load_list(place, parse_data(lesson.images), "val")
    validation = replace(bench, images=images)
    answers = validation.answers(validation.feed(NONE))
    return calibrate(answers.labels, answers.logits)


def _ms_image(bench: Bench) -> float:
    """Return the median time of one image, from pixels to the logit, in ms."""
    side = bench.settings.resize_size
    pixels = torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8).to(bench.watch.device)
    times = []
    with torch.inference_mode():
        for _ in range(WARM_UP + REPEATS):
            started = now()
            bench.model(pixels)
            times.append(now() - started)
    return round(statistics.median(times[WARM_UP:]) * 1000, 3)
