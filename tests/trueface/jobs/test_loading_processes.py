"""Loading processes of jobs: how often they start, and what happens if they or images fail."""

import gc
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from launcher.api import Job, MachineError
from tests.trueface.jobs.build import SIDE, a_job, write_images, write_lists
from trueface.data.loading import auto_loading
from trueface.data.loading.image_set import ImageSet
from trueface.data.loading.processes import BadFile, ImageRequest
from trueface.features.folder import ENDING
from trueface.jobs import testing, training
from trueface.models import checkpoint
from trueface.runtime import paths

torch.set_num_threads(1)

DATA = "gan2:pre&real:pre"
WHERE = {"data_root": "data", "split_path": "splits", "resize_size": SIDE}
TRAINING = {
    **WHERE, "model": "slim18", "weights": "none", "num_epochs": 2, "lr": 1e-3, "batch_size": 8,
}  # fmt: skip
EPOCH = 1  # in which a process is killed
Threads = int | str


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images to learn from and to test."""
    root = tmp_path_factory.mktemp("lab")
    keys = write_images(root, 12)
    val = [key for key in keys if int(key[-5:]) >= 8]
    train = [key for key in keys if key not in val]
    write_lists(root / "splits", train=train, val=val, test=keys)
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The feature store of a test; in it, `auto` has two cores to spare at once."""
    monkeypatch.setenv("TRUEFACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(auto_loading, "START_AFTER_S", 1e-9)
    monkeypatch.setattr(auto_loading, "spare_cores", lambda _: (1, 1))
    yield tmp_path / "cache"
    gc.collect()


@pytest.fixture
def kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Kill the process that loads the last image of a list in an epoch, once."""

    def once(epoch: int) -> None:
        load, mark = ImageSet.__getitems__, tmp_path / "killed"

        def deadly(image_set: ImageSet, requests: Sequence[ImageRequest]) -> list[Tensor | BadFile]:
            hit = any(each.position == len(image_set) - 1 for each in requests)
            if hit and requests[0].epoch == epoch and get_worker_info() is not None:
                try:
                    mark.touch(exist_ok=False)
                except FileExistsError:
                    return load(image_set, requests)
                os.kill(os.getpid(), signal.SIGKILL)
            return load(image_set, requests)

        monkeypatch.setattr(ImageSet, "__getitems__", deadly)

    return once


def train(lab: Path, run: str, threads: Threads, **more: Any) -> Job:
    settings = {**TRAINING, "num_threads": threads, **more}
    return a_job(lab, "train", DATA, run=run, data=DATA, settings=settings)


def a_test(lab: Path, run: str, threads: Threads) -> Job:
    settings = {**WHERE, "batch_size": 4, "num_threads": threads}
    return a_job(lab, "test", DATA, run=run, data=DATA, settings=settings)


def weights(lab: Path, run: str) -> list[Tensor]:
    return [*checkpoint.load(paths.checkpoint(lab / "runs" / run / DATA)).state.values()]


@pytest.fixture(scope="module")
def undisturbed(lab: Path) -> list[Tensor]:
    """The weights of a training that nothing disturbed."""
    training.train(train(lab, "undisturbed", 0))
    return weights(lab, "undisturbed")


@pytest.fixture(scope="module")
def tested(lab: Path, undisturbed: list[Tensor]) -> tuple[dict[str, Any], Path, bytes]:
    """Result and scores of a test of it, and the path of the scores."""
    del undisturbed
    result = testing.test(a_test(lab, "undisturbed", 0))
    scores = paths.scores(lab / "runs/undisturbed" / DATA, DATA, DATA)
    return {**result, "seconds": 0}, scores, scores.read_bytes()


@pytest.fixture
def forks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The processes that this process forks from now on."""
    forked: list[int] = []
    fork = os.fork

    def counted() -> int:
        if pid := fork():
            forked.append(pid)
        return pid

    monkeypatch.setattr(os, "fork", counted)
    return forked


@pytest.mark.parametrize("threads", [2, "auto"])
def test_processes_start_once_for_training_and_once_for_validation_images(
    threads: Threads, lab: Path, forks: list[int]
) -> None:
    training.train(train(lab, f"counted-{threads}", threads))
    assert len(forks) == 2 + 2


def test_training_resumes_after_a_loading_process_was_killed(
    lab: Path, undisturbed: list[Tensor], kill: Callable[[int], None]
) -> None:
    kill(EPOCH)
    run, threads = "killed", "auto"
    with pytest.raises(MachineError, match=r"a process that loads images died.*num_threads"):
        training.train(train(lab, run, threads))
    history = paths.history(lab / "runs" / run / DATA).read_text().splitlines()
    assert len(history) == 1 + EPOCH  # the epochs before are not trained again
    done = training.train(train(lab, run, threads))
    assert done["epochs"] == TRAINING["num_epochs"]
    assert all(map(torch.equal, weights(lab, run), undisturbed))


def test_test_can_be_repeated_after_a_loading_process_was_killed(
    lab: Path, tested: tuple[dict[str, Any], Path, bytes], kill: Callable[[int], None]
) -> None:
    expected, scores, content = tested
    scores.unlink(missing_ok=True)
    kill(0)
    with pytest.raises(MachineError, match=r"a process that loads images died.*num_threads"):
        testing.test(a_test(lab, "undisturbed", 2))
    assert not scores.exists()
    again = testing.test(a_test(lab, "undisturbed", 2))
    assert {**again, "seconds": 0} == expected
    assert scores.read_bytes() == content


def test_features_before_the_kill_are_stored_and_not_computed_again(
    lab: Path, cache: Path, kill: Callable[[int], None]
) -> None:
    kill(0)
    run = "frozen"
    frozen = train(lab, run, 2, freeze=True, num_epochs=1, batch_size=2)
    with pytest.raises(MachineError, match=r"a process that loads images died.*num_threads"):
        training.train(frozen)
    assert [*cache.rglob(f"*{ENDING}")]
    training.train(frozen)
    facts = checkpoint.load(paths.checkpoint(lab / "runs" / run / DATA)).provenance["features"]
    assert isinstance(facts, dict)
    assert facts["rows_read"] != 0


@pytest.mark.usefixtures("tested")
@pytest.mark.parametrize("threads", [0, 2, "auto"])
def test_broken_image_is_left_out_named_and_listed(threads: Threads, lab: Path) -> None:
    broken = sorted((lab / "data").rglob("*.png"))[5]
    content = broken.read_bytes()
    broken.write_bytes(content[:60])
    try:
        done = testing.test(a_test(lab, "undisturbed", threads))
    finally:
        broken.write_bytes(content)
    assert (done["bad_images"], done["n"]) == (1, 23)
    listed = paths.bad_images(lab / "runs/undisturbed" / DATA, DATA)
    assert str(broken) in listed.read_text()
