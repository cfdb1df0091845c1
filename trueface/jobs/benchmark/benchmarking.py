"""The entry function of `benchmark`: one model on one set of images, under each condition. Rechecks of rows.

A cell has the scores under one condition, the model's operating point from validation, and its cost.
"""

import logging
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from threading import Event
from typing import NamedTuple

import numpy as np
import PIL
import PIL.features
import simplejpeg
import torch
from torch import Tensor

from launcher.api import Job, JobError, Json, parse_data, parse_model
from trueface.attacks.registry import Attack, parse_attack
from trueface.benchmark import cells
from trueface.benchmark.cells import (
    Cell,
    CellScores,
    Entry,
    Index,
    Manifest,
    ModelFacts,
    manifest_of,
)
from trueface.benchmark.conditions import (
    BenchmarkSettings,
    Condition,
    Derived,
    conditions,
    contradiction,
    derive_setting,
    folder_of_cells,
)
from trueface.benchmark.results import DELTA, CellMeasures, RunResults, evaluate_cell
from trueface.benchmark.table import Row, row_of, same_value
from trueface.corruptions.chain import Chain
from trueface.corruptions.registry import NONE
from trueface.data.index import Image
from trueface.data.landmarks import POINTS, landmark_file
from trueface.data.loading.image_set import ImageLoader
from trueface.data.settings import ScoringSettings, TestSettings
from trueface.data.video_headers import shortcuts_of
from trueface.data.vocabulary import BUILT_IN
from trueface.evaluation.inference import select_per_class
from trueface.evaluation.operating_threshold import Calibration, fit_calibration
from trueface.features.file_digests import FileDigests
from trueface.features.folder import store_folder
from trueface.jobs import job_data, lineage
from trueface.jobs.job_data import model_name
from trueface.jobs.setup import entry
from trueface.jobs.testing import NOT_DIFFERENTIABLE, ScoringModel, is_differentiable, surrogate_of
from trueface.models.detectors import Detector
from trueface.runtime import paths
from trueface.runtime.digests import sha256_hex
from trueface.runtime.errors import DataError
from trueface.runtime.files import file_sha256
from trueface.runtime.rng import seeded_python_rng
from trueface.runtime.rng import stream_seed as derive_seed
from trueface.runtime.timer import now
from trueface.training import image_lists, provenance
from trueface.training.image_lists import DataLocation

log = logging.getLogger(__name__)
REPEATS = 30  # repetitions for one image; their median counts
WARM_UP = 3  # passes that are not timed


class NotRunError(Exception):
    """A cell that cannot be scored; the message says why, and the table repeats it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A model, the images that it is scored on, and the means to do so."""

    name: str  # name of the model
    network: ScoringModel
    surrogate: Detector | None  # on the device; of transfer attacks
    images: tuple[Image, ...]
    settings: BenchmarkSettings
    data_root: Path

    @classmethod
    def from_job(cls, job: Job, settings: BenchmarkSettings, *, use_store: bool = True) -> "Bench":
        """Return a job's model and images, ready to be scored.

        Args:
            job: of the benchmark.
            settings: of it.
            use_store: features may come from the feature store.
        """
        images, _ = job_data.load_split_images(
            job, settings, parse_data(job.data or ""), "test", settings.clips
        )
        clips = settings.clips
        network = ScoringModel.from_job_settings(job, settings, use_store=use_store, clips=clips)
        network.warn_of_small_images(model_name(job), images)
        return cls(
            name=model_name(job),
            network=network,
            surrogate=surrogate_of(job, settings.surrogate, clips),
            images=images,
            settings=settings,
            data_root=job.path(settings.data_root),
        )

    def feed(self, corrupt: str = NONE) -> ImageLoader:
        """Return the images under a chain of corruptions."""
        values = {name: getattr(self.settings, name) for name in ScoringSettings.model_fields}
        settings = TestSettings.model_validate({**values, "corrupt": corrupt})
        return self.network.feed(self.images, settings)

    def names(self, positions: Iterable[int] | None = None) -> tuple[str, ...]:
        """Return the paths of images below the data root; of all, unless positions are given."""
        chosen = self.images if positions is None else [self.images[at] for at in positions]
        return tuple(image.path.relative_to(self.data_root).as_posix() for image in chosen)

    def manifest(self) -> Manifest:
        """Return the manifest of the images, their files read where they changed."""
        digests = FileDigests(store_folder())
        manifest = manifest_of(
            (
                Entry(
                    path=name,
                    key=image.key,
                    sha256=_digest(digests, image),
                    label=image.label,
                    source=image.method or ("Fake" if image.label else "Real"),
                    modifier=image.modifier,
                )
                for name, image in zip(self.names(), self.images, strict=True)
            ),
            versions(),
        )
        try:
            digests.save_digests()
        except OSError as error:
            log.warning("digests=not kept reason=%s", error.strerror or error)
        return manifest

    def score(self, condition: Condition) -> CellScores:
        """Return the scores of a cell.

        Raises:
            NotRunError: the condition makes no sense for this model, or it is refused.
            JobError: stopped, or the model is broken.
            DataError: not one image could be read.
        """
        attack = parse_attack(condition.attack)
        if attack is not None:
            return self._attack_scores(attack)
        predictions = self.network.predict_images(self.feed(condition.corrupt))
        return CellScores(predictions=replace(predictions, ids=self.names(predictions.positions)))

    def _attack_scores(self, attack: Attack) -> CellScores:
        """Return the scores of attacked images; those that the model called wrong keep theirs."""
        network, target = self.network, self._target(attack)
        if attack.spec.needs_gradient and not is_differentiable(target):
            raise NotRunError(f"{NOT_DIFFERENTIABLE}: {target.spec.name}")
        chosen = replace(self, images=select_per_class(self.images, self.settings.attack_images))
        feed = chosen.feed()
        clean = network.predict_images(feed)
        result = network.attack(
            feed,
            clean,
            attack,
            target,
            save_chain=Chain.parse(self.settings.attack_save),
            queries=self.settings.queries,
        )
        return CellScores(
            predictions=replace(result.predictions, ids=chosen.names(clean.positions)),
            before=clean.margin,
            psnr=result.psnr,
            threshold=network.threshold,
        )

    def _target(self, attack: Attack) -> Detector:
        """Return the network that an attack computes with."""
        if attack.spec.access != "transfer":
            return self.network.model
        if self.surrogate is None:
            raise NotRunError("no surrogate is given")
        if self.settings.surrogate == self.name:
            raise NotRunError("the model is the surrogate itself")
        return self.surrogate


def _digest(digests: FileDigests, image: Image) -> str:
    """Return the SHA-256 of an image file, or of the digests of a clip's frames."""
    if not image.frames:
        return digests.digest_file(image.file)[1].hex()
    return sha256_hex(*(digests.digest_file(file)[1].hex() for file in image.frames))


def facts_of(job: Job, bench: Bench, folder: Path, checkpoint_sha256: str) -> ModelFacts:
    """Return the facts of a model; those that are written of the same weights are taken as they are.

    Args:
        job: of the benchmark.
        bench: the model.
        folder: of the model.
        checkpoint_sha256: of its checkpoint file.

    Raises:
        DataError: the validation images of the model are not recorded, or they have one class.
    """
    try:
        written = cells.read_facts(folder)
        if written.checkpoint_sha256 == checkpoint_sha256:
            return written
    except DataError:
        pass
    calibration = bench.network.calibration
    source = "training" if calibration else "validation"
    calibration = calibration or _calibrate_model(bench, job.model_folder)
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


def _calibrate_model(bench: Bench, model_folder: Callable[[str], Path]) -> Calibration:
    """Return threshold and temperature by the validation images of a model that does not say them."""
    ancestry = image_lists.read_ancestry(model_folder(bench.name))
    if ancestry is None or not ancestry.lessons:
        raise DataError(f"no record of the training images of {bench.name}. Train it again.")
    lesson = ancestry.lessons[0]  # its own last training
    location = DataLocation(
        data_root=Path(lesson.data_root),
        split_path=Path(lesson.split_path),
        words=lesson.words,
        vocabulary=lesson.vocabulary.with_layout(bench.settings.layout),
        missing=bench.settings.missing_images,
    )
    clips = bench.settings.clips
    images, _ = image_lists.load_list(location, parse_data(lesson.images), "val", clips)
    predictions = bench.network.predict_images(replace(bench, images=images).feed())
    return fit_calibration(predictions.labels, predictions.margin)


def _ms_image(bench: Bench) -> float:
    """Return the median time of one image or clip, from pixels or landmarks to the logit, in ms."""
    inputs = _random_input(bench).to(bench.network.watch.device)
    times = []
    with torch.inference_mode():
        for _ in range(WARM_UP + REPEATS):
            started = now()
            bench.network.model(inputs)
            times.append(now() - started)
    return round(statistics.median(times[WARM_UP:]) * 1000, 3)


def _random_input(bench: Bench) -> Tensor:
    own, clips = bench.network.preprocessing, bench.settings.clips
    if clips is not None and bench.network.reads_landmarks:
        return torch.rand(1, clips.frames, POINTS, 2)
    side = bench.settings.resize_size if own is None else own.crop
    shape = (1, 3, side, side) if clips is None else (1, 1, clips.frames, 3, side, side)
    return torch.randint(0, 256, shape, dtype=torch.uint8)


def _landmarks_sha256(bench: Bench) -> str:
    """Return a digest of the files of landmarks that a model reads; '' if it reads pixels."""
    if not bench.network.reads_landmarks:
        return ""
    folders = {image.path.parent for image in bench.images}
    files = [landmark_file(folder, is_calibrated=True) for folder in sorted(folders)]
    return sha256_hex(*(file_sha256(file) if file.exists() else "" for file in files))


class _ScoreInputs(NamedTuple):
    """Everything that determines the scores of all cells of a job."""

    manifest: Manifest
    checkpoint_sha256: str
    surrogate_sha256: str
    code: str
    landmarks_sha256: str = ""  # "": the model reads pixels

    @classmethod
    def from_job(cls, job: Job, bench: Bench) -> "_ScoreInputs":
        def digest(model: str) -> str:
            return file_sha256(paths.checkpoint(job.model_folder(model))) if model else ""

        return cls(
            bench.manifest(),
            digest(bench.name),
            digest(bench.settings.surrogate),
            provenance.archive_code(job.run_folder),
            _landmarks_sha256(bench),
        )

    def identity(self, settings: BenchmarkSettings, condition: Condition) -> str:
        """Return a digest of all that the scores of a cell follow from."""
        neutral = {*BenchmarkSettings.neutral, "corrupt", "attack", "setting", "batch_size"}
        if not condition.is_attack:
            neutral |= {"surrogate", "queries", "attack_images", "attack_save"}
        return cells.identity_of(
            {
                "settings": settings.model_dump(mode="json", exclude=neutral),
                "corrupt": condition.corrupt,
                "attack": condition.attack,
                "manifest": self.manifest.sha256,
                "checkpoint": self.checkpoint_sha256,
                "surrogate": self.surrogate_sha256 if condition.is_attack else "",
                "code": self.code,
                **({"landmarks": self.landmarks_sha256} if self.landmarks_sha256 else {}),
            }
        )


@entry(BenchmarkSettings)
def benchmark(job: Job, settings: BenchmarkSettings) -> Mapping[str, Json]:
    """Score the job's model on the test list of its data in all conditions; write scores and index.

    Cells that an interrupted attempt finished are kept.

    Raises:
        JobError: stopped.
        DataError: images that cannot be read, or a setting that is not the declared one.
        CheckpointError: the model cannot be read.
    """
    bench = Bench.from_job(job, settings)
    folder = job.model_folder(bench.name)
    known = _ScoreInputs.from_job(job, bench)
    _write_manifest(job, known.manifest)
    asked = [*conditions(settings.corrupt, settings.attack)]
    settings_of = dict(_derive_settings(job, bench, asked))
    index_folder = folder_of_cells(folder, job.data or "")
    # each job begins elsewhere, so that those of one body compute features of different conditions
    first = derive_seed(f"{bench.name} on {job.data}", 0) % len(asked)
    reasons: dict[Condition, str] = {}
    scored = 0
    for condition in (*asked[first:], *asked[:first]):
        path = index_folder / condition.file
        identity = known.identity(settings, condition)
        if cells.is_done(path, identity):
            log.info("cell=%s state=kept", condition.name)
            continue
        cells.remove_index(index_folder)  # until all cells are those that it describes
        try:
            cells.write_scores(path, bench.score(condition), identity)
            scored += 1
            log.info("cell=%s state=scored", condition.name)
        except NotRunError as error:
            reasons[condition] = str(error)
            log.info("cell=%s state=not run reason=%s", condition.name, error)
        if bench.network.watch.stop.is_set():
            raise JobError(f"stopped after {scored} cells. They are saved.")
    facts_of(job, bench, folder, known.checkpoint_sha256)
    rows = (
        _cell(condition, settings_of[condition], reasons.get(condition, "")) for condition in asked
    )
    cells.write_index(index_folder, _index(job, bench, known, tuple(rows)))
    return {"cells": len(asked), "scored": scored, "not_run": len(reasons)}


def _derive_settings(
    job: Job, bench: Bench, conditions: Sequence[Condition]
) -> Iterator[tuple[Condition, Derived]]:
    """Yield for each condition the tier (how much the model knows of the images) and its reason.

    Raises:
        DataError: the task file declares another setting, or the training images of the model are not recorded.
    """
    vocabulary = BUILT_IN.with_words(job.words)
    trained = lineage.origin_of_model(bench.name, job.model_folder, vocabulary)
    if trained is None:
        raise DataError(
            f"no record of the training images of {bench.name}, so its benchmark tier is unknown. "
            "Train it again."
        )
    tested = lineage.origin_of_images(bench.images, vocabulary)
    for condition in conditions:
        derived = derive_setting(trained, tested, condition.corrupt)
        test = f"{job.data} ({condition.name})"
        if reason := contradiction(bench.settings.setting, derived, bench.name, test):
            raise DataError(reason)
        yield condition, derived


def _cell(condition: Condition, derivation: Derived, reason: str) -> Cell:
    return Cell(
        corrupt=condition.corrupt,
        attack=condition.attack,
        access=condition.access,
        setting=derivation.setting,
        why=derivation.why,
        file="" if reason else condition.file,
        reason=reason,
    )


def _index(job: Job, bench: Bench, score_inputs: _ScoreInputs, rows: tuple[Cell, ...]) -> Index:
    trained = bench.network.provenance.get("settings")
    seed = trained.get("seed") if isinstance(trained, dict) else None
    return Index(
        model=bench.name,
        test=job.data or "",
        architecture=bench.network.model.spec.name,
        train=str(parse_model(bench.name).last.data),
        seed=seed if isinstance(seed, int) else None,
        manifest=score_inputs.manifest.sha256,
        checkpoint_sha256=score_inputs.checkpoint_sha256,
        code=score_inputs.code,
        root=str(job.folder),
        words=job.words.used_by(parse_data(job.data or "")),
        settings=bench.settings.model_dump(mode="json"),
        cells=rows,
        shortcuts=shortcuts_of(
            {image.file: image.label for image in bench.images}, bench.data_root
        ),
    )


def _write_manifest(job: Job, images: Manifest) -> None:
    path = cells.manifest_file(job.run_folder, images.sha256)
    try:
        cells.read_manifest(path)
    except DataError:  # absent, or damaged
        cells.write_manifest(path, images)


def versions() -> dict[str, Json]:
    """Return the versions of all that decodes and changes images."""
    return {
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "libjpeg": PIL.features.version("jpg"),
        "simplejpeg": str(getattr(simplejpeg, "__version__", "")),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class RecheckedRow:
    """A row and its value now."""

    row: Row
    value_now: float | None

    @property
    def agrees(self) -> bool:
        """Whether both are the same."""
        return same_value(self.row.value, self.value_now)


def recheck(
    run: RunResults,
    run_folder: Path,
    *,
    count: int,
    seed: int,
    device: str,
    cpus: int,
    progress: Callable[..., None],
    stop: Event,
) -> Iterator[RecheckedRow]:
    """Measure some rows of a run again from the image files, and yield them in the order of the table.

    Args:
        run: results of the run.
        run_folder: folder of the run.
        count: number of rows, drawn at random.
        seed: seed of the draw.
        device: device to score on.
        cpus: number of threads.
        progress: called while images are scored.
        stop: ends the measurement.

    Raises:
        DataError: an image has changed.
    """
    images = {entry.path: entry for entry in run.manifest.entries}
    rows = [
        (at, value.name)
        for at, result in enumerate(run.results)
        for value in result.measured.values
        if value.value is not None
    ]
    chosen = sorted(seeded_python_rng(seed).sample(rows, min(count, len(rows))))
    bench: Bench | None = None
    index: Index | None = None
    cell_measures: dict[Condition, CellMeasures] = {}  # measures of this index

    def measure_cell(
        bench: Bench, cell: Cell, facts: ModelFacts, clean: CellMeasures | None
    ) -> CellMeasures:
        if cell.condition not in cell_measures:
            scores = bench.score(cell.condition)
            entries = [images[path] for path in scores.predictions.ids]
            cell_measures[cell.condition] = evaluate_cell(cell, scores, facts, entries, clean)
        return cell_measures[cell.condition]

    for at, group in groupby(chosen, itemgetter(0)):
        names = [name for _, name in group]
        result = run.results[at]
        if bench is None or index is not result.index:
            index = result.index
            bench = _reopen_bench(_job(run_folder, index, device, cpus, progress, stop), index)
            cell_measures.clear()
        clean = None
        if DELTA in names:
            first = next(cell for cell in index.cells if cell.condition.is_clean)
            clean = measure_cell(bench, first, result.facts, None)
        measured = measure_cell(bench, result.cell, result.facts, clean)
        for name in names:
            row = row_of(run.manifest.name, result, name)
            yield RecheckedRow(row=row, value_now=measured.value(name))


def _reopen_bench(job: Job, index: Index) -> Bench:
    bench = Bench.from_job(job, BenchmarkSettings.model_validate(index.settings), use_store=False)
    images = bench.manifest()
    if images.sha256 != index.manifest:
        raise DataError(
            f"the images of {index.test} differ from the benchmark: manifest {images.name} instead of "
            f"{index.manifest[:12]}. Restore the files."
        )
    return bench


def _job(
    run_folder: Path,
    index: Index,
    device: str,
    cpus: int,
    progress: Callable[..., None],
    stop: Event,
) -> Job:
    return Job(
        name=f"benchmark/{index.model}/{index.test}",
        kind="benchmark",
        run=run_folder.name,
        run_folder=run_folder,
        folder=Path(index.root),
        attempt_folder=run_folder,
        attempt=1,
        device=device,
        cpus=cpus,
        model=index.model,
        data=index.test,
        images=index.test,
        settings=index.settings,
        words=index.words,
        progress=progress,
        stop=stop,
    )
