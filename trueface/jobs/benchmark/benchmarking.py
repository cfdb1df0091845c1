"""The entry function of `benchmark`."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import PIL
import PIL.features
import simplejpeg

from launcher.api import Job, JobError, Json, parse_data, parse_model
from trueface.benchmark import cells, manifest
from trueface.benchmark.cells import Cell, Index
from trueface.benchmark.conditions import Condition, conditions
from trueface.benchmark.known_data import Derived, contradiction, derive
from trueface.benchmark.manifest import Entry, Manifest
from trueface.benchmark.run_results import manifest_file
from trueface.benchmark.settings import BenchmarkSettings
from trueface.data.file_headers import PROPERTIES, sample_headers, shortcut
from trueface.data.vocabulary import BUILT_IN, Vocabulary
from trueface.features.file_digests import FileDigests
from trueface.features.folder import store_folder
from trueface.features.store import open_store
from trueface.jobs import job_data
from trueface.jobs.benchmark import origins
from trueface.jobs.benchmark.scoring import Bench, NotRunError, facts_of, names_of, score
from trueface.jobs.job_data import model_name
from trueface.jobs.setup import entry, watch_of
from trueface.models import checkpoint
from trueface.runtime import paths
from trueface.runtime.errors import DataError
from trueface.runtime.rng import derive as derive_seed
from trueface.training import provenance

log = logging.getLogger(__name__)


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
        if bench.watch.stop.is_set():
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
    name, data = model_name(job), parse_data(job.data or "")
    images, _ = job_data.of_split(job, settings, data, "test")
    path = paths.checkpoint(job.model_folder(name))
    kept = checkpoint.load(path)
    checkpoint.refuse_other_decoding(kept, settings)
    other = settings.surrogate and paths.checkpoint(job.model_folder(settings.surrogate))
    return Bench(
        name=name,
        model=checkpoint.revive(kept, path).to(job.device),
        surrogate=checkpoint.restore(other).to(job.device) if other else None,
        kept=kept,
        images=images,
        settings=settings,
        data_root=job.path(settings.data_root),
        watch=watch_of(job, settings.precision),
        store=open_store(settings.cache) if stored else None,
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
        checkpoint_sha256=provenance.file_sha256(paths.checkpoint(job.model_folder(bench.name))),
        surrogate_sha256=provenance.file_sha256(paths.checkpoint(job.model_folder(surrogate)))
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
    trained = bench.kept.provenance.get("settings")
    headers, _ = sample_headers({image.file: image.label for image in bench.images})
    seed = trained.get("seed") if isinstance(trained, dict) else None
    return Index(
        model=bench.name,
        test=job.data or "",
        architecture=bench.kept.arch,
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
