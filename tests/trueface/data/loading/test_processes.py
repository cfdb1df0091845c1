import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from trueface.data.loading.batches import BadFile, LoadingProcesses, together
from trueface.runtime.errors import MachineError

DEADLY = -1
REQUESTS = [[(pass_number, place) for place in range(3)] for pass_number in range(4)]


class Pids(Dataset[tuple[int, ...]]):
    """Returns the process that loads, and the request."""

    def __getitem__(self, request: tuple[int, ...]) -> tuple[int, ...]:
        if request[0] == DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        return (os.getpid(), *request)


def joined(items: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    return list(items)


def a_pool() -> LoadingProcesses[list[tuple[int, ...]]]:
    return LoadingProcesses(Pids(), 2, joined)


def passed(pool: LoadingProcesses[list[tuple[int, ...]]]) -> set[int]:
    """Go through a pass, and return the processes that loaded it."""
    loaded = [item for batch in pool.load(REQUESTS) for item in batch]
    assert [item[1:] for item in loaded] == [item for group in REQUESTS for item in group]
    return {item[0] for item in loaded}


def test_passes_are_loaded_by_the_same_processes_which_end_with_their_owner() -> None:
    pool = a_pool()
    first = passed(pool)
    assert passed(pool) == first
    assert len(first) == 2
    assert pool.is_free
    del pool
    assert not any(Path(f"/proc/{pid}").exists() for pid in first)


def test_a_pass_that_is_left_occupies_its_processes() -> None:
    pool = a_pool()
    for _ in pool.load(REQUESTS):
        break
    assert not pool.is_free


def test_processes_of_which_one_was_killed_are_of_no_more_use() -> None:
    pool = a_pool()
    with pytest.raises(MachineError, match=r"died.*num_threads"):
        list(pool.load([[(DEADLY,)]]))
    assert not pool.is_free


def test_a_batch_is_what_gave_pixels_and_what_did_not() -> None:
    bad = BadFile(1, Path("a"), "cut off")
    batch = together([torch.zeros(3, 2, 2), bad, torch.ones(3, 2, 2)])
    assert batch.pixels is not None
    assert (batch.pixels.shape, batch.bad) == ((2, 3, 2, 2), [bad])
    assert together([bad]).pixels is together([bad]).pinned.pixels is None
