"""Trainings on a card of 24 GiB, which is simulated by a limit of torch's allocator.

The limit is smaller than the card by the memory that CUDA itself takes.
"""

import gc
from dataclasses import replace

import torch

from benchmarks.gpu.bench import GIB, Bench
from benchmarks.gpu.measurements.defaults import trueface_case
from benchmarks.gpu.measurements.networks import Case, Repeated, modes

CARD = 24 * GIB
CONTEXT = GIB  # at most, beside the allocator: 0.60 to 0.74 GiB on an H100
STEPS = 6  # more than are needed until a graph is captured


def measure(bench: Bench) -> None:
    """Train in each mode, and write down the most that the allocator held."""
    if not bench.rehearsal:
        whole = torch.cuda.get_device_properties(bench.device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, (CARD - CONTEXT) / whole))
    large = Case(bench=bench, side=bench.size(224, 16), precision="fp32")
    for plain in (trueface_case(bench), replace(large, precision="bf16"), large):
        for mode in modes(bench):
            _train(replace(plain, accelerate=mode))


def _train(case: Case) -> None:
    bench, what = case.bench, f"{case.name}, batch {case.batch_size}: allocator, most"
    gc.collect()  # the loop before refers to itself
    if not bench.rehearsal:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        loop = case.loop(Repeated(case.batch(), bench.size(STEPS, 2)))
        loop.run(0, None, every=0, pause=lambda _: None)
    except torch.OutOfMemoryError as error:
        bench.row(what, None, "GiB", holds=False, note=str(error).partition(". ")[0])
        return
    held = 0 if bench.rehearsal else torch.cuda.max_memory_reserved()
    bench.row(what, held / GIB, "GiB", holds=held <= CARD - CONTEXT)
