"""Loading processes of jobs: what happens if they or images fail."""

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
def kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Kill the process that loads the last image of a list in the first epoch, once."""

    def once() -> None:
        load, mark = ImageSet.__getitems__, tmp_path / "killed"

        def deadly(image_set: ImageSet, requests: Sequence[ImageRequest]) -> list[Tensor | BadFile]:
            hit = any(each.position == len(image_set) - 1 for each in requests)
            if hit and requests[0].epoch == 0 and get_worker_info() is not None:
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


@pytest.fixture(scope="module")
def tested(lab: Path) -> tuple[dict[str, Any], Path, bytes]:
    """Result and scores of a test that nothing disturbed, and the path of the scores."""
    training.train(train(lab, "undisturbed", 0))
    result = testing.test(a_test(lab, "undisturbed", 0))
    scores = paths.scores(lab / "runs/undisturbed" / DATA, DATA, DATA)
    return {**result, "seconds": 0}, scores, scores.read_bytes()


def test_test_can_be_repeated_after_a_loading_process_was_killed(
    lab: Path, tested: tuple[dict[str, Any], Path, bytes], kill: Callable[[], None]
) -> None:
    expected, scores, content = tested
    scores.unlink(missing_ok=True)
    kill()
    with pytest.raises(MachineError, match=r"a process that loads images died.*num_threads"):
        testing.test(a_test(lab, "undisturbed", 2))
    assert not scores.exists()
    again = testing.test(a_test(lab, "undisturbed", 2))
    assert {**again, "seconds": 0} == expected
    assert scores.read_bytes() == content


def test_features_before_the_kill_are_stored_and_not_computed_again(
    lab: Path, cache: Path, kill: Callable[[], None]
) -> None:
    kill()
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
@pytest.mark.parametrize("threads", [2, "auto"])
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
