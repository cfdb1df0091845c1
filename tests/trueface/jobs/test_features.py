"""The job that computes features for other jobs: its output is all that these jobs read."""

import json
import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch

from launcher.api import JobError, Plan, PlannedJob
from tests.trueface.jobs.build import a_job, write_sample
from tests.trueface.jobs.test_shared_features import a_plan
from trueface.jobs.feature_kind import FEATURES
from trueface.runtime import paths
from trueface.runtime.errors import CheckpointError

torch.set_num_threads(1)

SMALL = {
    "model": "slim18", "weights": "none", "num_epochs": 2, "augment_cycle": 0, "resize_size": 32,
    "batch_size": 8, "lr": 3e-3, "afterwards": False, "test": {"resize_size": 32, "batch_size": 4},
}  # fmt: skip
STUDY = """
train:
  - {model: null, data: "gan2:pre", poison: [0, 50]}
unlearn:
  - {model: poisoned, method: [retrain, relabel]}
autotest: ["gan2:pre"]
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a few synthetic images and their lists."""
    folder = tmp_path_factory.mktemp("lab")
    write_sample(folder, train=6, val=3, test=3)
    (folder / "splits").symlink_to("data/splits")
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a store of its own."""
    monkeypatch.setenv("TRUEFACE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


def run(folder: Path, planned: PlannedJob, **more: Any) -> Any:
    module, _, name = planned.entry.partition(":")
    facts = {key: getattr(planned, key) for key in ("model", "base", "data", "images", "outputs")}
    settings = dict(planned.settings)
    job = a_job(folder, planned.kind, settings=settings, **facts, **more)
    return getattr(import_module(module), name)(job)


def shared(made: Plan) -> Iterator[PlannedJob]:
    for share in made.shares({job.name for job in made.jobs}):
        yield share.job


def shards(cache: Path) -> set[str]:
    return {path.name for path in cache.glob("*.features")}


def test_feature_job_computes_all_features_of_trainings_unlearnings_and_tests(
    lab: Path, cache: Path
) -> None:
    made = a_plan(STUDY, lab, **SMALL)
    (planned,) = shared(made)
    first = run(lab, planned)
    assert (first["views"], first["computed"] > 0) == (2 + 4, True)
    there = shards(cache)
    assert run(lab, planned)["computed"] == 0, "a second time it finds all of it"
    for job in made.jobs:
        run(lab, job)
    assert shards(cache) == there, "no other feature was computed"
    assert len(made.jobs) == 1 + 2 + 2 + 4


def test_feature_job_stops_at_store_limit(
    lab: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (planned,) = shared(a_plan(STUDY, lab, **SMALL))
    monkeypatch.setenv("TRUEFACE_FEATURES_LIMIT", f"{40 * 128 * 4}B")
    assert 0 < run(lab, planned)["views"] < 2 + 4
    monkeypatch.setenv("TRUEFACE_FEATURES_LIMIT", "0")
    assert run(lab, planned) == {"views": 0, "images": 0, "computed": 0}


def test_feature_job_stops_on_request(lab: Path, cache: Path) -> None:
    (planned,) = shared(a_plan(STUDY, lab, **SMALL))
    stop = Event()
    stop.set()
    with pytest.raises(JobError, match="stopped"):
        run(lab, planned, stop=stop)


def test_backbone_of_trained_model_is_read_from_its_checkpoint(lab: Path, cache: Path) -> None:
    text = """
train:
  - {model: null, data: "gan2:pre", settings: {freeze: false, num_epochs: 1}}
  - {model: "gan2:pre", data: "gan2:pre", matrix: {lr: [0.1, 0.2]}}
"""
    made = a_plan(text, lab, **SMALL)
    (planned,) = shared(made)
    path = paths.checkpoint(lab / "runs/study/gan2:pre")
    path.unlink(missing_ok=True)
    with pytest.raises(CheckpointError):
        run(lab, planned)
    first, *tunings = made.jobs
    run(lab, first)
    run(lab, planned)
    there = shards(cache)
    for job in tunings:
        run(lab, job)
        provenance = json.loads(paths.provenance(job.outputs[0].parents[1]).read_text())
        assert provenance["features"]["rows_computed"] == 0
    assert shards(cache) == there


def test_store_lists_entries_and_clears_them_by_age(lab: Path, cache: Path) -> None:
    assert FEATURES.kept().files == 0
    (planned,) = shared(a_plan(STUDY, lab, **SMALL))
    run(lab, planned)
    kept = FEATURES.kept()
    assert (kept.files, kept.folder) == (len(shards(cache)), str(cache))
    assert kept.size == sum((cache / name).stat().st_size for name in shards(cache))
    assert FEATURES.clear(unused_s=3600).files == 0
    for lock in cache.glob("*.lock"):
        os.utime(lock, (1.0, 1.0))
    assert FEATURES.kept(unused_s=3600) == kept
    assert FEATURES.clear(unused_s=3600) == kept
    assert shards(cache) == set()
