"""Batches are copied to a GPU ahead of the step, and come as they are."""

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from tests.build import until
from trueface.data.dataset import Batch
from trueface.data.loading.device_feed import in_background, on_device

THREAD = "device feed"


def some(count: int = 6) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    return [
        Batch(
            images=torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8, generator=generator),
            labels=torch.full((4, 1), float(number)),
            indices=torch.arange(4) + 4 * number,
            columns={"quality": torch.arange(4)},
        )
        for number in range(count)
    ]


def is_running() -> bool:
    return any(thread.name == THREAD for thread in threading.enumerate())


def test_on_the_cpu_batches_come_as_they_are_and_in_the_callers_thread() -> None:
    threads = []

    def batches() -> Iterator[Batch]:
        for batch in some():
            threads.append(threading.current_thread())
            yield batch

    expected = some()
    seen = list(on_device(batches(), "cpu"))

    assert all(torch.equal(a.images, b.images) for a, b in zip(seen, expected, strict=True))
    assert set(threads) == {threading.current_thread()}


def test_results_come_in_order_and_are_made_ahead_but_not_far() -> None:
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    results = in_background(numbers(), lambda number: -number, ahead=2)
    assert next(results) == 0
    until(lambda: len(taken) == 4, "one is worked on, and two wait")
    time.sleep(0.05)
    assert len(taken) == 4
    assert [0, *results] == [-number for number in range(20)]
    assert not is_running()


@pytest.mark.parametrize("where", ["items", "change"])
def test_an_error_of_the_thread_is_raised_where_the_results_are_taken(where: str) -> None:
    def numbers() -> Iterator[int]:
        yield 1
        if where == "items":
            raise OSError("cannot be read")
        yield 0

    results = in_background(numbers(), lambda number: 1 // number)

    assert next(results) == 1
    with pytest.raises(OSError if where == "items" else ZeroDivisionError):
        next(results)
    assert not is_running()


def test_a_feed_that_is_left_early_ends_its_thread_and_closes_what_it_reads() -> None:
    closed = threading.Event()

    def numbers() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.set()

    for number in in_background(numbers(), lambda number: number):
        if number == 3:
            break

    assert closed.is_set()
    assert not is_running()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_batches_are_those_of_the_cpu() -> None:
    seen = list(on_device(some(50), "cuda"))

    for there, here in zip(seen, some(50), strict=True):
        assert there.images.is_cuda
        assert torch.equal(there.images.cpu(), here.images)
        assert torch.equal(there.labels.cpu(), here.labels)
        assert torch.equal(there.indices, here.indices)
        assert torch.equal(there.columns["quality"].cpu(), here.columns["quality"])
