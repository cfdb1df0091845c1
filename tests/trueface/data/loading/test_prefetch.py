import threading
from collections.abc import Iterator

import pytest
import torch

from trueface.data.loading.batches import closing, in_background, pinned, uses_gpu

PATIENCE_S = 30


def loaders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "loader"]


class Numbers:
    """Counts what was made; `enough` is set when so many were."""

    def __init__(
        self, count: int, *, failing: BaseException | None = None, enough: int = 0
    ) -> None:
        self.count, self.failing, self.enough_at = count, failing, enough
        self.made, self.closed, self.enough = 0, False, threading.Event()

    def __call__(self, leave: threading.Event) -> Iterator[int]:
        try:
            for number in range(self.count):
                self.made += 1
                if self.made == self.enough_at:
                    self.enough.set()
                yield number
            if self.failing is not None:
                raise self.failing
        finally:
            self.closed = True


def test_items_come_in_their_order_and_the_thread_ends_with_them() -> None:
    assert list(in_background(Numbers(100))) == list(range(100))
    assert list(in_background(Numbers(0))) == []
    assert loaders() == []


def test_no_more_is_made_ahead_than_was_asked_for() -> None:
    numbers = Numbers(100, enough=4)
    items = in_background(numbers, ahead=3)
    with closing(items):
        assert next(items) == 0
        assert numbers.enough.wait(PATIENCE_S)
    assert numbers.made == 4
    assert numbers.closed
    assert loaders() == []


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt()])
def test_an_error_comes_after_the_items_before_it(error: BaseException) -> None:
    items = in_background(Numbers(2, failing=error))
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(type(error)):
        next(items)
    assert loaders() == []


def test_an_error_while_starting_is_raised_too() -> None:
    def broken(leave: threading.Event) -> Iterator[int]:
        raise OSError("no such thing")

    with pytest.raises(OSError, match="no such thing"):
        list(in_background(broken))


def test_an_interrupt_of_the_one_who_takes_leaves_no_thread() -> None:
    numbers = Numbers(100)

    def take() -> None:
        with closing(in_background(numbers)) as items:
            next(items)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take()
    assert numbers.closed
    assert loaders() == []


def test_items_that_are_left_end_their_thread() -> None:
    for number in in_background(Numbers(100)):
        if number == 3:
            break
    assert loaders() == []


def test_whoever_makes_items_hears_that_no_more_are_wanted() -> None:
    begun = threading.Event()

    def patient(leave: threading.Event) -> Iterator[int]:
        yield 0
        begun.set()
        assert leave.wait(PATIENCE_S)

    with closing(in_background(patient)) as items:
        next(items)
        assert begun.wait(PATIENCE_S)
    assert loaders() == []


def test_the_number_of_threads_of_a_network_stays_while_its_loader_has_one() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert list(in_background(lambda _: iter([torch.get_num_threads()]))) == [1]
        seen: list[int] = []
        thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert [torch.get_num_threads(), *seen] == [2, 2]
    finally:
        torch.set_num_threads(before)


def test_what_cannot_be_closed_is_left_alone() -> None:
    with closing(iter([1, 2])) as items:
        assert list(items) == [1, 2]


def test_memory_is_pinned_where_a_gpu_is_used_and_only_there() -> None:
    pixels = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    assert pinned(pixels).is_pinned() == uses_gpu()
