"""A simulated card for rehearsals: the stand-in for NVML that the tests use."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace

from benchmarks.gpu.bench import GIB, Bench
from tests.nvml.standin import Devices, compile_library

TOTAL = 24 * GIB


@contextlib.contextmanager
def simulated(bench: Bench) -> Iterator[Bench]:
    """Return the bench of a rehearsal; the children of this process see a simulated card."""
    folder = bench.path / "driver"
    folder.mkdir()
    devices = Devices(folder, compile_library(folder))
    devices.add(TOTAL)
    before = dict(os.environ)
    os.environ.update(devices.environment)
    try:
        yield replace(bench, device="cpu", rehearsal=True, standin=str(devices.library))
    finally:
        for name in devices.environment:
            os.environ.pop(name)
        os.environ.update(before)
