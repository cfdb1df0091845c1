"""A training in two processes equals one in a single process, also after a crash in its middle."""

import contextlib
import csv
import json
import logging
import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from launcher.api import Job, JobError, Json
from tests.trueface.jobs.build import SIDE, a_job, write_images, write_lists
from trueface.jobs import training as training_job
from trueface.models import checkpoint
from trueface.models.detectors import build_detector
from trueface.runtime import logs, paths

torch.set_num_threads(1)

TRAIN, VAL = 11, 5  # images of a folder in both lists
DATA = "gan2:pre&real:pre"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 21 images to learn from: batches of 6, 6, 6 and 3, one image cut off."""
    root = tmp_path_factory.mktemp("lab")
    keys = write_images(root, TRAIN + VAL)
    bad = root / f"data/PreSocial/Fake/{keys[BAD]}.png"
    bad.write_bytes(bad.read_bytes()[:60])
    train = [key for key in keys if int(key[-5:]) < TRAIN]
    val = [key for key in keys if int(key[-5:]) >= TRAIN]
    write_lists(root / "splits", train=train[:-1], val=val, test=[])
    return root


def job(lab: Path, run: str, *, cpus: int = 2, **settings: Any) -> Job:
    given = {**SETTINGS, **settings}
    return a_job(lab, "train", DATA, run=run, cpus=cpus, data=DATA, settings=given)


BAD = 3  # of the fakes, cut off
SETTINGS = {
    "data_root": "data", "split_path": "splits", "model": "slim18", "weights": "none",
    "num_epochs": 2, "lr": 1e-3, "batch_size": 6, "resize_size": SIDE, "dropout": 0.2, "ema": 0.5,
}  # fmt: skip


def folder(lab: Path, run: str) -> Path:
    return lab / "runs" / run / DATA


def history(lab: Path, run: str) -> list[dict[str, str]]:
    return list(csv.DictReader(paths.history(folder(lab, run)).read_text().splitlines()))


def weights(lab: Path, run: str) -> Mapping[str, torch.Tensor]:
    return checkpoint.load(paths.checkpoint(folder(lab, run))).state


def moved(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> float:
    """Return the distance of two sets of weights."""
    learned = [name for name in first if name.endswith(("weight", "bias"))]
    squares = [(first[name].double() - second[name].double()).square().sum() for name in learned]
    return float(torch.stack(squares).sum().sqrt())


@pytest.fixture(scope="module")
def alone(lab: Path) -> Mapping[str, Json]:
    return training_job.train(job(lab, "alone", cpus=1))


@pytest.fixture(scope="module")
def shared(lab: Path) -> Mapping[str, Json]:
    return training_job.train(job(lab, "shared", processes=2))


def test_two_processes_train_same_weights_as_one(
    lab: Path, alone: Mapping[str, Json], shared: Mapping[str, Json]
) -> None:
    for name in ("images", "bad_images", "samples_read", "epochs", "best_epoch"):
        assert shared[name] == alone[name], name
    assert alone["bad_images"] == 1
    assert alone["samples_read"] == 2 * (2 * TRAIN - 2)
    for one, two in zip(history(lab, "alone"), history(lab, "shared"), strict=True):
        assert one["accuracy"] == two["accuracy"]
        assert one["val_accuracy"] == two["val_accuracy"]
        for name in ("loss", "val_loss"):
            assert float(two[name]) == pytest.approx(float(one[name]), rel=1e-3), name
    # Adam makes steps of the noise in gradients that are 0: two threads differ as much from one
    start = build_detector("slim18", weights="none", seed=42).network.state_dict()
    whole = moved(weights(lab, "alone"), start)
    assert moved(weights(lab, "alone"), weights(lab, "shared")) < 0.1 * whole


def test_bad_images_of_all_processes_are_listed(lab: Path, shared: Mapping[str, Json]) -> None:
    del shared
    rows = paths.bad_images(folder(lab, "shared"), "train").read_text().splitlines()
    assert len(rows) == 2
    assert f"{BAD:05}.png" in rows[1]


def test_provenance_records_processes_and_gradient_backend(
    lab: Path, alone: Mapping[str, Json], shared: Mapping[str, Json]
) -> None:
    del alone, shared
    for run, facts in (("alone", (1, None, 1)), ("shared", (2, "gloo", 1))):
        provenance = json.loads(paths.provenance(folder(lab, run)).read_text())
        assert (provenance["world_size"], provenance["backend"], provenance["threads"]) == facts


class KillOne(logging.Handler):
    """Kills one of the ranks when the log says that the first epoch is over."""

    def emit(self, record: logging.LogRecord) -> None:
        if "epoch=1 " in record.getMessage():
            ranks = [child for child in psutil.Process().children(recursive=True) if is_rank(child)]
            ranks[-1].kill()


def is_rank(process: psutil.Process) -> bool:
    """Return whether this is a running process of the training (not ended and not a zombie)."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return (
            "multiprocessing.forkserver" in " ".join(process.cmdline()) and not process.children()
        )
    return False


def test_training_with_killed_process_resumes_bit_identically(
    lab: Path, shared: Mapping[str, Json], caplog: pytest.LogCaptureFixture
) -> None:
    killer = KillOne()
    logger = logging.getLogger(logs.ROOT)
    logger.addHandler(killer)
    try:
        with (
            caplog.at_level(logging.INFO, logs.ROOT),
            pytest.raises(JobError, match=r"rank . of 2 \(cpu\): its process is killed"),
        ):
            training_job.train(job(lab, "killed", processes=2))
    finally:
        logger.removeHandler(killer)
    assert paths.resume(folder(lab, "killed")).exists()
    with caplog.at_level(logging.INFO, logs.ROOT):
        result = training_job.train(job(lab, "killed", processes=2))
    assert "resumes after epoch 1, with the same result, bit by bit" in caplog.text
    assert result["loss"] == shared["loss"]
    assert moved(weights(lab, "killed"), weights(lab, "shared")) == 0
    assert not paths.resume(folder(lab, "killed")).exists()


def test_stop_ends_both_processes_and_one_process_can_resume(
    lab: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stop = threading.Event()
    interruptible = partial(replace, stop=stop, progress=lambda **_: stop.set())
    with pytest.raises(JobError, match=r"stopped in epoch \d+ of 50"):
        training_job.train(interruptible(job(lab, "stopped", num_epochs=50, processes=2)))
    assert paths.resume(folder(lab, "stopped")).exists()
    assert paths.last_checkpoint(folder(lab, "stopped")).exists()
    with (
        caplog.at_level(logging.INFO, logs.ROOT),
        pytest.raises(JobError, match="stopped in epoch"),
    ):
        training_job.train(interruptible(job(lab, "stopped", num_epochs=50)))
    assert (
        "with a result that is not the same bit by bit: threads 2 instead of 1; world_size 1 instead of 2"
        in caplog.text
    )
