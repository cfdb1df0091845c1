"""Claims of GPU memory for the jobs of a trace that names none, drawn at random."""

import math
import random
from collections.abc import Iterable
from dataclasses import replace
from itertools import accumulate

from launcher.frontends.simulate.trace import TraceJob

GIB = 1024**3
# GiB → per cent of the jobs
MEMORY_SIZES = {2: 10, 3: 15, 4: 20, 6: 20, 8: 15, 11: 10, 16: 6, 22: 4}
MEMORY_SIZES_TEXT = ", ".join(f"{gib} GiB {share} %" for gib, share in MEMORY_SIZES.items())


def draw_memory(
    jobs: Iterable[TraceJob],
    seed: int,
    *,
    fixed_bytes: int | None = None,
    gpu_bytes: int | None = None,
) -> tuple[TraceJob, ...]:
    """Return the jobs, each with a memory request; a request in the trace is kept.

    A job's request depends only on the seed and the job's position in the trace, not on the
    number of replayed jobs.

    Args:
        jobs: jobs of a trace.
        seed: seed of the random requests.
        fixed_bytes: request of each job in bytes; replaces the random requests.
        gpu_bytes: bytes of a GPU. A job that requests a part of a GPU requests this part of the bytes. If None, its request
            is random too.
    """
    # a generator for each seed, as named ones are kept by: 0 and "0" are different streams
    stream = random.Random(f"memory/{seed}")
    sizes, sums = tuple(MEMORY_SIZES), tuple(accumulate(MEMORY_SIZES.values()))
    drawn = []
    for job in jobs:
        (size,) = stream.choices(sizes, cum_weights=sums)
        claim = size * GIB if fixed_bytes is None else fixed_bytes
        if gpu_bytes is not None and job.share is not None:
            claim = math.floor(gpu_bytes * job.share)
        drawn.append(job if job.vram is not None else replace(job, vram=claim))
    return tuple(drawn)
