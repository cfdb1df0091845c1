import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueface.data.dataset import WHOLE, Shard
from trueface.runtime.errors import MachineError
from trueface.runtime.process_pool import chunks_of, map_chunks

STUCK = """
import ctypes
import os
from trueface.runtime.process_pool import spread

def make(chunk):
    os.write(1, b"at work\\n")  # in one piece: print writes the end of a line by itself
    ctypes.PyDLL(None).sleep(600)  # which holds Python's lock, as a library may do

if __name__ == "__main__":
    list(spread(make, [[1], [2]], 2, doing="slept"))
"""


def killed(chunk: object) -> None:
    """Be killed."""
    psutil.Process().kill()


def test_chunks_keep_their_order_in_one_process_and_in_several() -> None:
    chunks = chunks_of(range(5), 2)
    assert [*map(list, chunks)] == [[0, 1], [2, 3], [4]]
    for workers in (1, 2):
        assert list(map_chunks(sum, chunks, workers, doing="added")) == [1, 5, 4]


def test_a_process_that_is_killed_is_told() -> None:
    with pytest.raises(MachineError, match="a process that made images for /a was killed"):
        list(map_chunks(killed, [[1], [2]], 2, doing="made images for /a"))


def test_no_process_outlives_the_one_that_started_it(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(STUCK)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as main:
        assert main.stdout is not None
        assert [main.stdout.readline() for _ in range(2)] == ["at work\n"] * 2
        others = psutil.Process(main.pid).children(recursive=True)
        main.kill()
        assert psutil.wait_procs(others, timeout=20)[1] == []


@given(group=st.lists(st.integers(), max_size=40), size=st.integers(1, 9))
def test_the_parts_of_a_batch_are_the_batch_and_nearly_equal(group: list[int], size: int) -> None:
    parts = [Shard(rank=rank, size=size).shard_batch(group) for rank in range(size)]
    assert [item for part in parts for item in part] == group
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert WHOLE.shard_batch(group) == group


def test_what_is_shared_is_divided_and_nobody_is_left_without() -> None:
    assert [Shard(rank=0, size=2).fraction_of(amount) for amount in (0, 1, 5, 8)] == [0, 1, 2, 4]
