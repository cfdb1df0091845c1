"""A simulated card for rehearsals: the stand-in for NVML that the tests use."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace

from benchmarks.gpu.bench import GIB, Bench
from tests.nvml.standin import Devices, compile_library

TOTAL = 24 * GIB
# threads that wait for each other take many times as long on a busy machine
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@contextlib.contextmanager
def simulated(bench: Bench) -> Iterator[Bench]:
    """Return the bench of a rehearsal; the children of this process see a simulated card."""
    folder = bench.path / "driver"
    folder.mkdir()
    devices = Devices(folder, compile_library(folder))
    devices.add(TOTAL)
    before, simulated_environment = dict(os.environ), {**ONE_THREAD, **devices.environment}
    os.environ.update(simulated_environment)
    try:
        yield replace(bench, device="cpu", rehearsal=True, standin=str(devices.library))
    finally:
        for name in simulated_environment:
            os.environ.pop(name)
        os.environ.update(before)
