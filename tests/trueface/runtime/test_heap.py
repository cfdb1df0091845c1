import subprocess
import sys

FAULTS = """
import ctypes, resource, sys
from trueface.runtime.heap import keep_freed_memory
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.malloc.argtypes = [ctypes.c_size_t]
library.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
if "keep" in sys.argv:
    keep_freed_memory()
def maps():
    blocks = [library.malloc(8 << 20) for _ in range(3)]
    for block in blocks:
        library.memset(block, 1, 8 << 20)
    for block in blocks:
        library.free(block)
maps()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
maps()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*arguments: str) -> int:
    """Return the page faults of maps that lie where others were freed, in a process of its own."""
    command = [sys.executable, "-c", FAULTS, *arguments]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_memory_that_was_freed_takes_no_page_faults_again() -> None:
    assert faults("keep") < 100 < faults()
