"""The share of the time in which the card computes nothing although a training is under way.

A wait is a gap of 10 µs or more between two kernels or copies, recorded by torch's profiler (CUPTI)
during our training loop. Shorter gaps occur between any two kernels. It is compared with the
utilisation that NVML reports, sampled over the whole pass without a profiler.
"""

import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.measurements.networks import WARM, Case, Repeated, cases, modes
from benchmarks.gpu.measurements.training import images_of
from launcher.queue.gpu.nvml import Nvml
from trueface.data.batch import Batch, BatchLoader
from trueface.data.loading.prefetching import closing

GAP_US = 10.0
STEPS = 10  # in the record
SAMPLE_S = 0.2
CARD = frozenset({"kernel", "gpu_memcpy", "gpu_memset"})  # categories of the profiler's record
CPU = frozenset({"cpu_op"})

Span = tuple[float, float]


def waiting(spans: Iterable[Span], least: float) -> float:
    """Return the share of gaps in the time from the first to the last span.

    Args:
        spans: (start, end), which may overlap and come in any order.
        least: the length of a gap that counts.
    """
    ordered = sorted(spans)
    if not ordered:
        return 1.0
    first, until = ordered[0]
    lost = 0.0
    for start, end in ordered[1:]:
        if start - until >= least:
            lost += start - until
        until = max(until, end)
    return lost / (until - first) if until > first else 0.0


class RecordedFeed:
    """A feed that has the profiler record some of the steps that are taken with its batches.

    Args:
        feed: the batches.
        file: for the profiler's record.
        first: how many steps pass before the record.
        steps: how many are recorded.
    """

    def __init__(self, feed: BatchLoader, file: Path, *, first: int, steps: int) -> None:
        self._feed, self._file = feed, file
        self._first, self._last = first, first + steps
        self._profile: profile | None = None

    def __len__(self) -> int:
        return len(self._feed)

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """Start a pass."""
        with closing(self._feed(epoch)) as batches:
            for number, batch in enumerate(batches):
                if number == self._first:
                    self._profile = profile(activities=_activities())
                    self._profile.start()
                if number == self._last:
                    self.end()
                yield batch

    def end(self) -> None:
        """End the record, if one is under way."""
        if self._profile is None:
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._profile.stop()
        self._profile.export_chrome_trace(str(self._file))
        self._profile = None

    def spans(self) -> list[Span]:
        """Return when the card worked, in µs; of the CPU in a rehearsal.

        Raises:
            RuntimeError: nothing was recorded.
        """
        kinds = CARD if torch.cuda.is_available() else CPU
        events = json.loads(self._file.read_text(encoding="utf-8"))["traceEvents"]
        spans = [
            (event["ts"], event["ts"] + event["dur"])
            for event in events
            if event.get("cat") in kinds and "dur" in event
        ]
        if not spans:
            raise RuntimeError("the profiler recorded no kernel; may CUPTI be used here?")
        return spans


def _activities() -> list[ProfilerActivity]:
    return [ProfilerActivity.CUDA] if torch.cuda.is_available() else [ProfilerActivity.CPU]


class Sampler(threading.Thread):
    """Samples NVML's utilisation of the first GPU until it is stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: list[float] = []
        self.over = threading.Event()

    def run(self) -> None:
        """Sample."""
        nvml = Nvml()
        while not self.over.wait(SAMPLE_S):
            busy = [gpu.utilisation for gpu in nvml.snapshot()[:1]]
            self.seen += [100 * value for value in busy if value is not None]

    def mean(self) -> float | None:
        """Stop, and return the mean in percent, None without samples."""
        self.over.set()
        self.join()
        return sum(self.seen) / len(self.seen) if self.seen else None


def measure(bench: Bench) -> None:
    """Measure our loop in bf16, where the card is quickest, with images and without loading them."""
    every = cases(bench)
    for plain in every:
        if plain.precision != every[0].precision:
            continue
        for mode in modes(bench):
            case = replace(plain, accelerate=mode)
            share, busy = share_of(case, case.training(images_of(case)))
            bench.row(
                f"{case.name}: training", 100 * share, "% waiting",
                note=f"NVML: {busy:.0f} % utilised" if busy is not None else "",
            )  # fmt: skip
            count = bench.size(WARM + STEPS + 2, 3)
            share, _ = share_of(case, Repeated(case.batch(), count))
            bench.row(f"{case.name}: the same batch again and again", 100 * share, "% waiting")


def share_of(case: Case, feed: BatchLoader) -> tuple[float, float | None]:
    """Return the share of waiting in the second epoch, and the mean utilisation in percent."""
    bench = case.bench
    loop = case.loop(feed, epochs=2)
    loop.run(0, None, every=0, pause=lambda _: None)
    file = bench.path / f"{case.side}-{case.accelerate}-{type(feed).__name__}.json"
    recorded = RecordedFeed(feed, file, first=bench.size(WARM, 1), steps=bench.size(STEPS, 1))
    loop.training = recorded
    sampler = Sampler()
    sampler.start()
    loop.run(1, None, every=0, pause=lambda _: None)
    busy = sampler.mean()
    recorded.end()
    return waiting(recorded.spans(), GAP_US), busy
