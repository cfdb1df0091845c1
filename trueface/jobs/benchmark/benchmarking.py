"""The entry function of `benchmark`: one model on one set of images, under every condition.

A cell is the scores under one condition; beside them stand the model's operating point by validation, and its cost.
"""

import logging
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import PIL
import PIL.features
import simplejpeg
import torch

from launcher.api import Job, JobError, Json, parse_data, parse_model
from trueface.attacks.grammar import Attack, parse_attack
from trueface.attacks.perturb import Target
from trueface.benchmark import cells, manifest
from trueface.benchmark.cells import Cell, CellScores, Index, ModelFacts
from trueface.benchmark.conditions import Condition, conditions
from trueface.benchmark.known_data import Derived, contradiction, derive
from trueface.benchmark.manifest import Entry, Manifest
from trueface.benchmark.run_results import manifest_file
from trueface.benchmark.settings import BenchmarkSettings
from trueface.corruptions.chain import Chain
from trueface.corruptions.grammar import NONE
from trueface.data.dataset import Pass, still
from trueface.data.image_headers import PROPERTIES, sample_headers, shortcut
from trueface.data.index import Image
from trueface.data.settings import ScoringSettings, TestSettings
from trueface.data.vocabulary import BUILT_IN, Vocabulary
from trueface.evaluation.attacked import attack_images, drawn
from trueface.evaluation.inference import Answers
from trueface.evaluation.operating_threshold import Calibration, calibrate
from trueface.features.file_digests import FileDigests
from trueface.features.folder import store_folder
from trueface.jobs import job_data
from trueface.jobs.benchmark import origins
from trueface.jobs.job_data import model_name
from trueface.jobs.scoring import (
    NOT_DIFFERENTIABLE,
    ScoringModel,
    is_differentiable,
    surrogate_of,
)
from trueface.jobs.setup import entry
from trueface.models.detectors import Detector
from trueface.runtime import paths
from trueface.runtime.errors import DataError
from trueface.runtime.files import file_sha256
from trueface.runtime.rng import derive as derive_seed
from trueface.runtime.timer import now
from trueface.training import image_lists, provenance
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
    network: ScoringModel
    surrogate: Detector | None  # on the device; of transfer attacks
    images: tuple[Image, ...]
    settings: BenchmarkSettings
    data_root: Path

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
        target=Target(target, bench.network.watch.device, network.threshold),
        watch=bench.network.watch,
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
        return bench.network.model
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
    calibration = bench.network.calibration
    source = "training" if calibration else "validation"
    calibration = calibration or _calibrated(bench, job.model_folder)
    facts = ModelFacts(
        checkpoint_sha256=checkpoint_sha256,
        threshold=calibration.threshold,
        temperature=calibration.temperature,
        in_logits=calibration.in_logits,
        source=source,
        parameters=sum(value.numel() for value in bench.network.model.network.parameters()),
        ms_image=_ms_image(bench),
        device=job.device,
        threads=torch.get_num_threads(),
    )
    cells.write_facts(folder, facts)
    return facts


def _calibrated(bench: Bench, model_folder: Callable[[str], Path]) -> Calibration:
    """Return threshold and temperature by the validation images of a model that does not say them."""
    lessons = [
        *image_lists.follow_lessons(
            bench.name, lambda name: image_lists.read_ancestry(model_folder(name))
        )
    ]
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
    pixels = torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8).to(
        bench.network.watch.device
    )
    times = []
    with torch.inference_mode():
        for _ in range(WARM_UP + REPEATS):
            started = now()
            bench.network.model(pixels)
            times.append(now() - started)
    return round(statistics.median(times[WARM_UP:]) * 1000, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What decides the scores of all cells of a job."""

    manifest: Manifest
    checkpoint_sha256: str
    surrogate_sha256: str
    code: str


@entry(BenchmarkSettings)
def benchmark(job: Job, settings: BenchmarkSettings) -> Mapping[str, Json]:
    """Score the job's model on the test list of its data in all conditions; write scores and index.

    Cells that an interrupted attempt finished are kept.

    Raises:
        JobError: stopped.
        DataError: images that cannot be read, or a setting that is not the declared one.
        CheckpointError: the model cannot be read.
    """
    bench = open_bench(job, settings)
    folder = job.model_folder(bench.name)
    known = _known(job, bench)
    _write_manifest(job, known.manifest)
    asked = [*conditions(settings.corrupt, settings.attack)]
    settings_of = dict(_settings_of(job, bench, asked))
    index_folder = cells.folder_of(folder, job.data or "")
    # each job begins elsewhere, so that those of one body compute features of different conditions
    first = derive_seed(f"{bench.name} on {job.data}", 0) % len(asked)
    reasons: dict[Condition, str] = {}
    scored = 0
    for condition in (*asked[first:], *asked[:first]):
        path = index_folder / cells.file_of(condition)
        identity = _identity(bench, known, condition)
        if cells.is_done(path, identity):
            log.info("cell=%s state=kept", condition.name)
            continue
        cells.remove_index(index_folder)  # until all cells are those that it describes
        try:
            cells.write_scores(path, score(bench, condition), identity)
            scored += 1
            log.info("cell=%s state=scored", condition.name)
        except NotRunError as error:
            reasons[condition] = str(error)
            log.info("cell=%s state=not run reason=%s", condition.name, error)
        if bench.network.watch.stop.is_set():
            raise JobError(f"stopped after {scored} cells; they are kept")
    facts_of(job, bench, folder, known.checkpoint_sha256)
    rows = [_cell(condition, settings_of[condition], reasons) for condition in asked]
    cells.write_index(index_folder, _index(job, bench, known, rows))
    return {"cells": len(asked), "scored": scored, "not_run": len(reasons)}


def open_bench(job: Job, settings: BenchmarkSettings, *, stored: bool = True) -> Bench:
    """Return a job's model and images, ready to be scored.

    Args:
        job: of the benchmark.
        settings: of it.
        stored: features may come from the feature store.
    """
    images, _ = job_data.of_split(job, settings, parse_data(job.data or ""), "test")
    return Bench(
        name=model_name(job),
        network=ScoringModel.of_job(job, settings, stored=stored),
        surrogate=surrogate_of(job, settings.surrogate),
        images=images,
        settings=settings,
        data_root=job.path(settings.data_root),
    )


def manifest_of(bench: Bench) -> Manifest:
    """Return the manifest of the images of a job, their files read where they changed."""
    digests = FileDigests(store_folder())
    names = names_of(bench.images, bench.data_root)
    made = manifest.manifest_of(
        (
            Entry(
                path=name,
                key=image.key,
                sha256=digests.of(image.file)[1].hex(),
                label=image.label,
                source=image.method or ("Fake" if image.label else "Real"),
                modifier=image.modifier,
            )
            for name, image in zip(names, bench.images, strict=True)
        ),
        versions(),
    )
    try:
        digests.keep()
    except OSError as error:
        log.warning("digests=not kept reason=%s", error.strerror or error)
    return made


def _known(job: Job, bench: Bench) -> _Known:
    surrogate = bench.settings.surrogate
    return _Known(
        manifest=manifest_of(bench),
        checkpoint_sha256=file_sha256(paths.checkpoint(job.model_folder(bench.name))),
        surrogate_sha256=file_sha256(paths.checkpoint(job.model_folder(surrogate)))
        if surrogate
        else "",
        code=provenance.keep(job.run_folder),
    )


def _identity(bench: Bench, known: _Known, condition: Condition) -> str:
    settings = bench.settings.model_dump(mode="json")
    neutral = {*BenchmarkSettings.neutral, "corrupt", "attack", "setting", "batch_size"}
    only_attack = {"surrogate", "queries", "attack_images", "attack_save"}
    facts: dict[str, Json] = {
        name: value
        for name, value in settings.items()
        if name not in neutral and (condition.is_attack or name not in only_attack)
    }
    return cells.identity_of(
        {
            "settings": facts,
            "corrupt": condition.corrupt,
            "attack": condition.attack,
            "manifest": known.manifest.sha256,
            "checkpoint": known.checkpoint_sha256,
            "surrogate": known.surrogate_sha256 if condition.is_attack else "",
            "code": known.code,
        }
    )


def _settings_of(
    job: Job, bench: Bench, asked: Sequence[Condition]
) -> Iterator[tuple[Condition, Derived]]:
    """Yield for each condition how much the model knows of the images, and why.

    Raises:
        DataError: the task file declares another setting; or nothing tells what the model learned.
    """
    vocabulary: Vocabulary = BUILT_IN.with_words(job.words)
    trained = origins.of_model(bench.name, job.model_folder, vocabulary)
    if trained is None:
        raise DataError(
            f"nothing tells what {bench.name} was trained on, and so not how much it knows of a "
            "test; train it again"
        )
    tested = origins.of_images(bench.images, vocabulary)
    for condition in asked:
        derived = derive(trained, tested, condition.corrupt)
        test = f"{job.data} ({condition.name})"
        if reason := contradiction(bench.settings.setting, derived, bench.name, test):
            raise DataError(reason)
        yield condition, derived


def _cell(condition: Condition, known: Derived, reasons: Mapping[Condition, str]) -> Cell:
    reason = reasons.get(condition, "")
    return Cell(
        corrupt=condition.corrupt,
        attack=condition.attack,
        access=condition.access,
        setting=known.setting,
        why=known.why,
        file="" if reason else cells.file_of(condition),
        reason=reason,
    )


def _index(job: Job, bench: Bench, known: _Known, rows: Sequence[Cell]) -> Index:
    trained = bench.network.provenance.get("settings")
    headers, _ = sample_headers({image.file: image.label for image in bench.images})
    seed = trained.get("seed") if isinstance(trained, dict) else None
    return Index(
        model=bench.name,
        test=job.data or "",
        architecture=bench.network.model.spec.name,
        train=str(parse_model(bench.name).last.data),
        seed=seed if isinstance(seed, int) else None,
        manifest=known.manifest.sha256,
        checkpoint_sha256=known.checkpoint_sha256,
        code=known.code,
        root=str(job.folder),
        words=job.words.used_by(parse_data(job.data or "")),
        settings=bench.settings.model_dump(mode="json"),
        cells=tuple(rows),
        shortcuts=tuple(filter(None, (shortcut(headers, each) for each in PROPERTIES))),
    )


def _write_manifest(job: Job, images: Manifest) -> None:
    path = manifest_file(job.run_folder, images.sha256)
    try:
        manifest.read(path)
    except DataError:  # absent, or damaged
        manifest.write(path, images)


def versions() -> dict[str, Json]:
    """Return the versions of all that decodes and changes images."""
    return {
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "libjpeg": PIL.features.version("jpg"),
        "simplejpeg": str(getattr(simplejpeg, "__version__", "")),
    }
