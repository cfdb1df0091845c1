"""Loading with as many processes as there are free cores (`num_threads: auto`).

Images are loaded in a thread until the network has waited for them for a while. Then processes pay for
their start, and load the rest of the pass and the passes after it. Their number does not change the
batches.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from trueface.data.loading.loader import Shard
from trueface.data.loading.prefetching import closing, uses_gpu
from trueface.data.loading.processes import ImageReader, ImageRequest, LoadedBatch, load_batches
from trueface.runtime.cores import spare_cores

START_AFTER_S = 1.0  # seconds of waiting for images; the start of processes takes 0.1 s or more
LEAST_PROCESSES = 2  # a single process is as fast as the thread, which also keeps decoded images
log = logging.getLogger(__name__)


class ProcessCount(NamedTuple):
    """How many processes load images."""

    own: int  # on cores that the job has reserved and the network does not need
    free: int  # on cores that nobody has reserved

    @property
    def total(self) -> int:
        """All of them."""
        return self.own + self.free


class AutoLoading:
    """Decides where the images of a set and its copies are loaded."""

    def __init__(self) -> None:
        self._waited_s = 0.0
        self._count: ProcessCount | None = None

    def load(
        self, reader: ImageReader, requests: Sequence[Sequence[ImageRequest]], shard: Shard
    ) -> Iterator[LoadedBatch]:
        """Load batches ahead of those who take them, see `load_batches`.

        Raises:
            MachineError: a loading process died.
        """
        done = 0
        if self._waited_s < START_AFTER_S:
            with closing(load_batches(reader, requests, 0)) as loaded:
                while done < len(requests) and self._waited_s < START_AFTER_S:
                    began = time.monotonic()
                    batch = next(loaded)
                    self._waited_s += time.monotonic() - began
                    done += 1
                    yield batch
        if done < len(requests):
            count = self._choose_count(shard)
            yield from load_batches(reader, requests[done:], count.total, nice_from=count.own)

    def _choose_count(self, shard: Shard) -> ProcessCount:
        """Return the number of processes: that of the last pass, unless it is twice too large or too small."""
        computing = 1 if uses_gpu() else torch.get_num_threads()
        own, free = spare_cores(computing * shard.size)
        count = ProcessCount(own // shard.size, free // shard.size)
        if count.total < LEAST_PROCESSES:
            count = ProcessCount(0, 0)
        last = self._count
        if last is not None and (
            count.total == last.total or last.total / 2 < count.total < last.total * 2
        ):
            return last
        self._count = count
        log.info(
            "loading_processes=%d reserved_cores=%d free_cores=%d",
            count.total, count.own, count.free,
        )  # fmt: skip
        return count
