"""A training that is killed goes on where it was, on the command line and in the queue."""

import json
import os
import signal
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tests.build import program_of, until
from tests.e2e.conftest import Project
from trueface.cli.classic import train as classic
from trueface.data.splits.split_files import write_splits
from trueface.runtime import paths

DATA = "gan2:pre&realFFHQ:pre"
METHODS = ("Fake/StyleGAN2", "Real/FFHQ")
COUNT = 24  # training images: an epoch takes long enough to be killed in
EPOCHS = 3
SMALL = {
    "model": "slim18", "weights": "none", "batch_size": 4, "num_epochs": EPOCHS, "resize_size": 32,
    "patch_size": 32, "jpeg_prob": 0.5, "jpeg_qual": 50, "dropout": 0.2, "lr": 0.001,
}  # fmt: skip


@pytest.fixture
def lab(project: Project) -> Project:
    keys = []
    for method in METHODS:
        for number in range(COUNT):
            file = project.folder / "data" / "PreSocial" / method / f"{number:05d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            grey = np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
            PIL.Image.fromarray(grey).save(file)
            keys.append(f"{method.partition('/')[2]}/{number:05d}")
    held_out = [keys[0], keys[1], keys[-1], keys[-2]]
    lists = {"train": [key for key in keys if key not in held_out], "val": held_out, "test": []}
    write_splits(project.folder / "splits", lists)
    return project


def words(run: str) -> Sequence[str]:
    flags = [word for key, value in SMALL.items() for word in (f"--{key}", str(value))]
    where = ("--data_root", "data", "--split_path", "splits", "--device", "cpu")
    named = ("--name", run, "--task", "train", "--data", DATA, "--save_id", "m", "--save_weights")
    return ("python", "-m", "trueface", *named, *where, "--num_threads", "0", *flags)


def is_begun(folder: Path) -> bool:
    """Return whether an epoch is over and saved, without a look into the large state."""
    history = paths.history(folder)
    return (
        history.exists()
        and len(history.read_text().splitlines()) > 1
        and paths.resume(folder).exists()
    )


def test_resume_from_names_the_epoch_or_is_rejected(
    lab: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    with chdir(lab.folder):
        assert classic.main([*words("killed")[3:], "--resume_from", "3"]) == 2
    assert "--resume_from 3: the saved state" in capsys.readouterr().err
    assert not (lab.folder / "runs" / "killed" / "m" / "checkpoints").exists()


TASKFILE = """\
name: queued
defaults:
  data_root: data
  split_path: splits
  num_threads: 0
  train: {settings}
resources: {{cpus: 1, retries: 1, backoff: 1s}}
train:
  - {{model: null, data: "{data}"}}
"""


@pytest.mark.slow
def test_next_attempt_of_a_killed_training_resumes(lab: Project) -> None:
    lab.write("study.yaml", TASKFILE.format(settings=json.dumps(SMALL), data=DATA))
    assert lab.call("launcher", "run", "study.yaml", "--detach").returncode == 0
    folder = lab.folder / "runs" / "queued" / DATA
    own = lab.home.attempt(1, 1).folder / "runs" / "queued" / DATA  # until it is done
    until(lambda: is_begun(own), "an epoch is over", 120)
    assert not folder.joinpath("checkpoints").exists()
    first = next(path for path in (lab.home.folder / "attempts").iterdir())
    os.kill(program_of(lab.home.attempt(*map(int, first.name.split("-")))), signal.SIGKILL)
    assert lab.call("launcher", "wait", "run:queued").returncode == 0
    log = (folder / f"train_{DATA}.log").read_text()
    assert "bit by bit" in log
    rows = (folder / "history.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in rows[1:]] == [str(n + 1) for n in range(EPOCHS)]
