import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from trueface.runtime.errors import MachineError
from trueface.runtime.process_pool import chunks_of, map_chunks

STUCK = """
import ctypes
import os
from trueface.runtime.process_pool import map_chunks

def make(chunk):
    os.write(1, b"at work\\n")  # in one piece: print writes the end of a line by itself
    ctypes.PyDLL(None).sleep(600)  # which holds Python's lock, as a library may do

if __name__ == "__main__":
    list(map_chunks(make, [[1], [2]], 2, doing="slept"))
"""


def kill_worker(chunk: object) -> None:
    """Kill the process that runs this function."""
    psutil.Process().kill()


def test_chunks_keep_their_order_in_one_or_several_processes() -> None:
    chunks = chunks_of(range(5), 2)
    assert [*map(list, chunks)] == [[0, 1], [2, 3], [4]]
    for workers in (1, 2):
        assert list(map_chunks(sum, chunks, workers, doing="added")) == [1, 5, 4]


def test_killed_process_is_reported() -> None:
    with pytest.raises(MachineError, match="a process that made images for /a was killed"):
        list(map_chunks(kill_worker, [[1], [2]], 2, doing="made images for /a"))


def test_workers_end_with_their_parent_process(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(STUCK)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as main:
        assert main.stdout is not None
        assert [main.stdout.readline() for _ in range(2)] == ["at work\n"] * 2
        others = psutil.Process(main.pid).children(recursive=True)
        main.kill()
        assert psutil.wait_procs(others, timeout=20)[1] == []
