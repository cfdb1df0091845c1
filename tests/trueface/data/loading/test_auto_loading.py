"""Loading by `num_threads: auto`: the same batches, wherever they are loaded."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset

from launcher.api import parse_data
from trueface.data.index import survey
from trueface.data.loading import auto_loading
from trueface.data.loading.image_set import ImageSet
from trueface.data.loading.loader import WHOLE, Loader, Shard
from trueface.data.loading.pass_order import Order
from trueface.data.loading.processes import NICENESS, LoadingProcesses
from trueface.data.loading.transforms import test_transform as transform_of_tests
from trueface.data.settings import TestSettings

WHERE: dict[str, Any] = {"data_root": "data", "split_path": "splits"}
FILES = tuple(f"PreSocial/Real/FFHQ/{number:05d}.png" for number in range(11))


@pytest.fixture
def image_set(tree: Callable[[Iterable[str]], Any]) -> ImageSet:
    images = survey(tree(FILES), parse_data("real:pre")).images
    settings = TestSettings(**WHERE, resize_size=12)
    return ImageSet(images, transform_of_tests(settings), num_threads="auto")


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Let a job have this many cores of its own, and this many free ones."""

    def have(own: int, free: int) -> None:
        monkeypatch.setattr(auto_loading, "spare_cores", lambda _: (own, free))

    return have


def pass_over(image_set: ImageSet, epoch: int = 0, shard: Shard = WHOLE) -> list[torch.Tensor]:
    loader = Loader(dataset=image_set, batch_size=2, order=Order(seed=7), shard=shard)
    return [torch.cat([batch.inputs.flatten(), batch.indices]) for batch in loader(epoch)]


def processes_of(image_set: ImageSet) -> int:
    pool = image_set._processes  # no other way to see where images were loaded
    return 0 if pool is None else pool.count


def passes_in_thread(image_set: ImageSet) -> list[list[torch.Tensor]]:
    other = ImageSet(image_set.images, image_set.transform)
    return [pass_over(other, epoch) for epoch in range(2)]


def test_processes_start_once_per_job_and_give_batches_of_a_thread(
    image_set: ImageSet, cores: Callable[[int, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto_loading, "START_AFTER_S", 1e-9)
    cores(1, 1)
    expected = passes_in_thread(image_set)
    found = [pass_over(image_set)]
    assert processes_of(image_set) == 2
    pool = image_set._processes  # as above
    cores(1, 2)  # too small a change to start others
    found.append(pass_over(image_set, epoch=1))
    assert image_set._processes is pool  # as above
    for passed, in_thread in zip(found, expected, strict=True):
        assert all(map(torch.equal, passed, in_thread))


def test_short_waits_start_no_process(
    image_set: ImageSet, cores: Callable[[int, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto_loading, "START_AFTER_S", 600.0)
    cores(4, 4)
    pass_over(image_set)
    assert processes_of(image_set) == 0


def test_unchanged_number_is_logged_once(
    image_set: ImageSet,
    cores: Callable[[int, int], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(auto_loading, "START_AFTER_S", 1e-9)
    caplog.set_level("INFO")
    cores(0, 1)
    for epoch in range(3):
        pass_over(image_set, epoch)
    assert caplog.text.count("loading_processes=0 reserved_cores=0 free_cores=0") == 1


def test_number_follows_the_cores_if_they_become_much_fewer(
    image_set: ImageSet, cores: Callable[[int, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto_loading, "START_AFTER_S", 1e-9)
    cores(0, 2)
    pass_over(image_set)
    cores(0, 0)
    expected = passes_in_thread(image_set)[1]
    assert all(map(torch.equal, pass_over(image_set, epoch=1), expected))


def test_ranks_share_the_spare_cores(
    image_set: ImageSet, cores: Callable[[int, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto_loading, "START_AFTER_S", 1e-9)
    cores(0, 3)  # one for each of two processes, which is not enough
    assert pass_over(image_set, shard=Shard(rank=0, size=2))
    assert processes_of(image_set) == 0


def test_shared_amount_is_divided_and_each_process_gets_some() -> None:
    assert [Shard(rank=0, size=2).fraction_of(amount) for amount in (0, 1, 5, 8)] == [0, 1, 2, 4]


class Priorities(Dataset[int]):
    """Returns the priority of the process that loads."""

    def __getitem__(self, _: Any) -> int:
        return os.getpriority(os.PRIO_PROCESS, 0)


def keep(items: Sequence[int]) -> list[int]:
    return list(items)


def test_processes_on_free_cores_yield_to_jobs_that_reserve_them() -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    pool = LoadingProcesses(Priorities(), 2, keep, nice_from=1)
    assert [*pool.load([[0], [1], [2], [3]])] == [[own], [min(own + NICENESS, 19)]] * 2
