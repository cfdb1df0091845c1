"""The samples that a method reads, each with the label it was trained with and its true label.

Inputs come from a source, by position, in batches. A source may augment its inputs. A meter counts
every sample that a `CountedSource` hands out.
"""

import hashlib
import random
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import default_collate

from trueface.runtime.errors import JobError, UsageError
from trueface.runtime.progress import RunContext
from trueface.runtime.rng import stream_seed
from trueface.runtime.timer import now

Loaded = tuple[Tensor, Tensor]  # inputs (B, …), positions (B,) int64
BATCH_SIZE = 128  # where neither the method nor the source sets one


class ExampleSource(Protocol):
    """Training samples, by position."""

    @property
    def identity(self) -> str:
        """A string that two sources share only if they hold the same inputs in the same order."""

    def __call__(
        self, positions: Sequence[int], *, epoch: int | None, batch_size: int | None
    ) -> Iterator[Loaded]:
        """Start a pass over the samples at `positions`. Unreadable samples are left out.

        Args:
            positions: of the samples in the source.
            epoch: samples are augmented and shuffled as in this epoch of a training. None: as in a
                test, in the order of `positions`.
            batch_size: samples per batch. The last may be smaller. None: the default of the source.
        """


class CostCounter:
    """Counts the samples read, and apart from them the samples read to fill the cache."""

    def __init__(self) -> None:
        self.samples = 0
        self.cached_samples = 0  # read to fill the cache, in this call or an earlier one
        self.cached_seconds = 0.0
        self.making_seconds = 0.0  # of these, now, and of what only the log asks for
        self.saved_seconds = 0.0  # that samples took in earlier jobs, and would have taken in this

    @contextmanager
    def uncounted(self) -> Iterator[None]:
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

    source: ExampleSource
    meter: CostCounter

    @property
    def identity(self) -> str:
        """The identity of the wrapped source."""
        return self.source.identity

    def __call__(
        self, positions: Sequence[int], *, epoch: int | None, batch_size: int | None
    ) -> Iterator[Loaded]:
        """Start a pass; see `ExampleSource`."""
        for inputs, places in self.source(positions, epoch=epoch, batch_size=batch_size):
            self.meter.samples += len(places)
            yield inputs, places


@dataclass(frozen=True, slots=True)
class JoinedSource:
    """Two sources as one: positions of the second begin at `offset`."""

    first: ExampleSource
    second: ExampleSource
    offset: int

    @property
    def identity(self) -> str:
        """The identities of both sources and the offset."""
        return f"{self.first.identity}+{self.second.identity}@{self.offset}"

    def __call__(
        self, positions: Sequence[int], *, epoch: int | None, batch_size: int | None
    ) -> Iterator[Loaded]:
        """Start a pass; see `ExampleSource`. Batches of an epoch hold samples of both."""
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
        """Start a pass; see `ExampleSource`."""
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
        """Start a pass; see `ExampleSource`."""
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


Label = Literal["trained", "true"]


class ExampleBatch(NamedTuple):
    """The samples of one step."""

    inputs: Tensor  # (B, …)
    labels: Tensor  # (B,) int64 classes
    positions: Tensor  # (B,) int64, in the source


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """A subset of a source's samples, with both labels of each."""

    source: ExampleSource
    positions: tuple[int, ...]
    trained: tuple[int, ...]  # the class that the model was trained to give
    true: tuple[int, ...] | None  # the right one; None: not known

    def __post_init__(self) -> None:
        counts = {len(self.positions), len(self.trained)}
        if len(counts | ({len(self.true)} if self.true is not None else set())) != 1:
            raise ValueError("each example needs its labels")

    def __len__(self) -> int:
        return len(self.positions)

    def __add__(self, other: "Examples") -> "Examples":
        """Return the samples of both; true labels are known if both have them."""
        both_true = self.true is not None and other.true is not None
        source, offset = self.source, 0
        if source.identity != other.source.identity:
            offset = max(self.positions, default=-1) + 1
            source = JoinedSource(source, other.source, offset)
        return Examples(
            source=source,
            positions=self.positions + tuple(place + offset for place in other.positions),
            trained=self.trained + other.trained,
            true=(self.true or ()) + (other.true or ()) if both_true else None,
        )

    @property
    def identity(self) -> str:
        """A checksum of the samples and their trained labels."""
        content = repr((self.source.identity, self.positions, self.trained))
        return hashlib.sha256(content.encode()).hexdigest()

    def labels(self, which: Label) -> tuple[int, ...]:
        """Return the trained or the true labels.

        Raises:
            ValueError: the true labels are not known.
        """
        if which == "trained":
            return self.trained
        if self.true is None:
            raise ValueError("the true labels of these samples are unknown")
        return self.true

    def subset(self, rows: Sequence[int]) -> "Examples":
        """Return the samples at these places of this sequence."""
        return replace(
            self,
            positions=tuple(self.positions[row] for row in rows),
            trained=tuple(self.trained[row] for row in rows),
            true=None if self.true is None else tuple(self.true[row] for row in rows),
        )

    def without_classes(self, classes: Collection[int]) -> "Examples":
        """Return the samples whose trained labels are none of these classes."""
        return self.subset([row for row, label in enumerate(self.trained) if label not in classes])

    def relabelled(self, labels: Sequence[int]) -> "Examples":
        """Return these samples with `labels` as their trained labels."""
        return replace(self, trained=tuple(labels))

    def batches(
        self,
        which: Label = "trained",
        *,
        epoch: int | None = None,
        batch_size: int | None = None,
    ) -> Iterator[ExampleBatch]:
        """Yield one pass, labelled by one of the two sorts; see `ExampleSource` for the arguments."""
        chosen = dict(zip(self.positions, self.labels(which), strict=True))
        for inputs, positions in self.source(self.positions, epoch=epoch, batch_size=batch_size):
            labels = torch.tensor([chosen[int(position)] for position in positions])
            yield ExampleBatch(inputs, labels, positions)

    def read(
        self,
        watch: RunContext,
        which: Label = "trained",
        *,
        epoch: int | None = None,
        batch_size: int | None = None,
        what: str = "samples",
    ) -> Iterator[ExampleBatch]:
        """Yield one pass, on the device of a run context that may stop it; see `batches`.

        Args:
            watch: device and stop.
            which: kind of the labels.
            epoch: see `ExampleSource`.
            batch_size: see `ExampleSource`.
            what: description of the samples, for the message that there are none.

        Raises:
            JobError: stopped, or no sample could be read.
        """
        count = 0
        for batch in self.batches(which, epoch=epoch, batch_size=batch_size):
            watch.raise_if_stopped()
            count += len(batch.positions)
            inputs, labels = batch.inputs.to(watch.device), batch.labels.to(watch.device)
            yield ExampleBatch(inputs, labels, batch.positions)
        if not count:
            raise JobError(f"none of the {len(self)} {what} could be read")


def examples(
    inputs: Tensor,
    trained: Sequence[int] | Tensor,
    true: Sequence[int] | Tensor | None = None,
    *,
    seed: int = 0,
) -> Examples:
    """Return the samples of a tensor in memory.

    Args:
        inputs: (N, …), as the model takes them.
        trained: (N,) classes from 0, as the model was trained; of a single logit 1 is positive.
        true: (N,) the true classes, where they are known.
        seed: of the order in which epochs read them.
    """
    inputs = torch.as_tensor(inputs)
    return Examples(
        source=TensorSource(inputs, seed),
        positions=tuple(range(len(inputs))),
        trained=_classes(trained, len(inputs)),
        true=None if true is None else _classes(true, len(inputs)),
    )


def examples_of(
    items: "Sequence[tuple[Tensor, int]]",
    identity: str,
    *,
    true: Callable[[int], int] | None = None,
    seed: int = 0,
) -> Examples:
    """Return the samples of a torch data set, which is read once for its labels.

    Args:
        items: pairs (input, class).
        identity: what names the data and its order, for caches: "cifar10/train".
        true: from a position to the true class, where it is known.
        seed: of the order in which epochs read them.
    """
    count = len(items)
    return Examples(
        source=DatasetSource(items, identity, seed),
        positions=tuple(range(count)),
        trained=tuple(int(items[place][1]) for place in range(count)),
        true=None if true is None else tuple(true(place) for place in range(count)),
    )


def _classes(labels: Sequence[int] | Tensor, count: int) -> tuple[int, ...]:
    """Return labels as integers.

    Raises:
        UsageError: a label is not an integer, or their number is not `count`.
    """
    given = torch.as_tensor(labels)
    if given.shape != (count,):
        raise UsageError(
            f"labels have the shape {tuple(given.shape)}, expected ({count},). Give one class per "
            "sample, counted from 0. For one-hot rows use labels.argmax(1)."
        )
    whole = given.long()
    if bool((whole != given).any()):
        raise UsageError("labels must be whole numbers. Give classes counted from 0.")
    return tuple(whole.tolist())


def union_by_position(forget: Examples, retain: Examples | None) -> tuple[Examples, ...]:
    """Return both sets, each sample once, by position; in two parts if their sources differ."""
    if retain is None:
        return (_sorted(forget),)
    if forget.source.identity != retain.source.identity:
        return _sorted(forget), _sorted(retain)
    return (_sorted(forget + retain),)


def count(parts: Sequence[Examples]) -> int:
    """Return how many samples there are."""
    return sum(map(len, parts))


def shuffle_examples(examples: Examples) -> Examples:
    """Return the samples in a pseudo-random order that depends on their number only."""
    # no seed of the job: all jobs share the caches
    random = torch.Generator().manual_seed(stream_seed("mixed", 0))
    return examples.subset(torch.randperm(len(examples), generator=random).tolist())


def _sorted(examples: Examples) -> Examples:
    rows = {position: row for row, position in enumerate(examples.positions)}
    return examples.subset([rows[position] for position in sorted(rows)])
