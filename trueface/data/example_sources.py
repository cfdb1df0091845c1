"""Where samples come from: sources that hand out inputs by position, in batches.

A source may augment its inputs. A meter counts every sample that a `CountedSource` hands out.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import default_collate

from trueface.runtime.timer import now

Loaded = tuple[Tensor, Tensor]  # inputs (B, …), positions (B,) int64
BATCH_SIZE = 128  # where neither the method nor the source sets one


class Source(Protocol):
    """Training samples, by position."""

    @property
    def identity(self) -> str:
        """A string that two sources share only if they hold the same inputs in the same order."""

    def __call__(
        self, positions: Sequence[int], *, epoch: int | None, batch_size: int | None
    ) -> Iterator[Loaded]:
        """Start a pass over the samples at `positions`; unreadable samples are left out.

        Args:
            positions: of the samples in the source.
            epoch: samples are augmented and shuffled as in this epoch of a training; None: as in a
                test, in the order of `positions`.
            batch_size: samples per batch, the last may be smaller; None: the source's default.
        """


class Meter:
    """Counts the samples read, and apart from them the samples read to fill the cache."""

    def __init__(self) -> None:
        self.samples = 0
        self.cached_samples = 0  # read to fill the cache, in this call or an earlier one
        self.cached_seconds = 0.0
        self.making_seconds = 0.0  # of these, now, and of what only the log asks for
        self.saved_seconds = 0.0  # that samples took in earlier jobs, and would have taken in this

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Count neither time nor samples in this block: its work is not part of the method."""
        samples, saved, began = self.samples, self.saved_seconds, now()
        try:
            yield
        finally:
            self.samples, self.saved_seconds = samples, saved
            self.making_seconds += now() - began


@dataclass(frozen=True, slots=True)
class CountedSource:
    """A source that adds every sample it hands out to a meter."""

    source: Source
    meter: Meter

    @property
    def identity(self) -> str:
        """The identity of the wrapped source."""
        return self.source.identity

    def __call__(
        self, positions: Sequence[int], *, epoch: int | None, batch_size: int | None
    ) -> Iterator[Loaded]:
        """Start a pass; see `Source`."""
        for inputs, places in self.source(positions, epoch=epoch, batch_size=batch_size):
            self.meter.samples += len(places)
            yield inputs, places


@dataclass(frozen=True, slots=True)
class JoinedSource:
    """Two sources as one: positions of the second begin at `offset`."""

    first: Source
    second: Source
    offset: int

    @property
    def identity(self) -> str:
        """The identities of both sources and the offset."""
        return f"{self.first.identity}+{self.second.identity}@{self.offset}"

    def __call__(
        self, positions: Sequence[int], *, epoch: int | None, batch_size: int | None
    ) -> Iterator[Loaded]:
        """Start a pass; see `Source`. Batches of an epoch hold samples of both."""
        for places in groups(positions, epoch, batch_size or BATCH_SIZE, self.offset):
            second = places >= self.offset
            halves = ((self.first, ~second, 0), (self.second, second, self.offset))
            loaded = [
                (inputs, places_read + offset)
                for source, chosen, offset in halves
                if chosen.any()
                for inputs, places_read in source(
                    (places[chosen] - offset).tolist(), epoch=epoch, batch_size=len(places)
                )
            ]
            if loaded:
                inputs, places_read = zip(*loaded, strict=True)
                yield torch.cat(inputs), torch.cat(places_read)


@dataclass(frozen=True)
class TensorSource:
    """A tensor in memory as a source, without augmentation; passes with an epoch are shuffled."""

    inputs: Tensor  # (N, …), which must not change
    seed: int = 0

    @cached_property
    def identity(self) -> str:
        """A checksum of the inputs."""
        raw = self.inputs.detach().cpu().contiguous()
        digest = hashlib.sha256(repr((tuple(raw.shape), raw.dtype)).encode())
        digest.update(raw.reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def __call__(
        self, positions: Sequence[int], *, epoch: int | None, batch_size: int | None
    ) -> Iterator[Loaded]:
        """Start a pass; see `Source`."""
        for places in groups(positions, epoch, batch_size or BATCH_SIZE, self.seed):
            yield self.inputs[places], places


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """A torch data set, or any sequence of (input, label), as a source.

    Passes with an epoch are shuffled.
    """

    items: "Sequence[tuple[Tensor, int]]"
    identity: str
    seed: int = 0

    def __call__(
        self, positions: Sequence[int], *, epoch: int | None, batch_size: int | None
    ) -> Iterator[Loaded]:
        """Start a pass; see `Source`."""
        for places in groups(positions, epoch, batch_size or BATCH_SIZE, self.seed):
            yield default_collate([self.items[int(place)][0] for place in places]), places


def groups(positions: Sequence[int], epoch: int | None, size: int, seed: int) -> Iterator[Tensor]:
    """Yield the positions of one batch after another: shuffled by epoch and seed, or in order."""
    if not len(positions):
        return
    order = list(positions)
    if epoch is not None:
        random.Random(f"order/{seed}/{epoch}").shuffle(order)
    ends = list(range(size, len(order), size))
    if ends and size > 1 and len(order) - ends[-1] == 1:
        ends.pop()  # one sample alone has no statistics, and a batch norm would refuse it
    for begin, end in zip([0, *ends], [*ends, len(order)], strict=True):
        yield torch.tensor(order[begin:end], dtype=torch.int64)
