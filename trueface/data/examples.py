"""The samples that a method reads, each with the label it was trained with and its true label.

Inputs come from loaders, by position, in batches: augmented and shuffled by epoch as in a training,
or in order as in a test.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import default_collate

from trueface.data.batch import NO_LABELS, Batch
from trueface.data.loading.loader import Dataset, Loader, PassRequest
from trueface.data.loading.pass_order import Order
from trueface.data.loading.prefetching import closing
from trueface.runtime.digests import sha256_hex
from trueface.runtime.errors import JobError, UsageError
from trueface.runtime.progress import RunContext
from trueface.runtime.rng import torch_rng
from trueface.runtime.timer import now

BATCH_SIZE = 128  # samples per batch if neither the method nor the source sets a number
JOIN_SINGLE = Order(joins_single=True)  # batch norms refuse a last batch of one sample


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleSource:
    """Training samples, by position, in the two ways that they are read."""

    train_loader: Loader[Dataset]  # augmented and shuffled as in an epoch of a training
    test_loader: Loader[Dataset]  # as in a test, in the order of the positions
    identify: Callable[[], str]  # computed when it is needed, and once

    @property
    def identity(self) -> str:
        """A string that two sources share only if they hold the same inputs in the same order."""
        return self.identify()

    def count_reads(self, count: Callable[[int], None]) -> "ExampleSource":
        """Return a source that calls `count` with the size of every batch that it yields."""
        train_loader, test_loader = (
            replace(loader, on_read=(*loader.on_read, count))
            for loader in (self.train_loader, self.test_loader)
        )
        return replace(self, train_loader=train_loader, test_loader=test_loader)


class CostCounter:
    """Counts the samples read, and apart from them the samples read to fill the cache."""

    def __init__(self) -> None:
        self.samples = 0
        self.cached_samples = 0  # read to fill the cache, in this job or an earlier one
        self.cached_seconds = 0.0  # time for reading them
        self.making_seconds = 0.0  # time for filling the cache in this job, and for uncounted work
        self.saved_seconds = 0.0  # time that this job saved because earlier jobs stored features

    def add(self, samples: int) -> None:
        """Count samples that were read."""
        self.samples += samples

    @contextmanager
    def pause_counting(self) -> Iterator[None]:
        """Count neither time nor samples of this block, because its work is not part of the method."""
        samples, saved, began = self.samples, self.saved_seconds, now()
        try:
            yield
        finally:
            self.samples, self.saved_seconds = samples, saved
            self.making_seconds += now() - began


Read = Callable[[Tensor], Tensor]  # positions (B,) int64 → inputs (B, …)


@dataclass(frozen=True, slots=True)
class RowSet:
    """Samples in memory, or that a function reads by position, as a dataset."""

    count: int
    reader: Callable[[int], Read]  # function that returns the reader of an epoch
    rows_per_position = 1

    def __len__(self) -> int:
        return self.count

    def load(self, request: PassRequest) -> Iterator[Batch]:
        """Yield the batches of a pass."""
        read = self.reader(request.epoch)
        for group in request.groups():
            places = torch.tensor(group, dtype=torch.int64)
            yield Batch(read(places), NO_LABELS, places)


@dataclass(frozen=True, slots=True)
class JoinedSet:
    """Two datasets as one: positions of the second begin at `offset`. Batches hold samples of both."""

    first: Loader[Dataset]
    second: Loader[Dataset]
    offset: int
    rows_per_position = 1

    def __len__(self) -> int:
        return self.offset + len(self.second)

    def load(self, request: PassRequest) -> Iterator[Batch]:
        """Yield the batches of a pass; the samples of each dataset follow its own order."""
        for group in request.groups():
            halves = (
                (self.first, [position for position in group if position < self.offset], 0),
                (
                    self.second,
                    [position for position in group if position >= self.offset],
                    self.offset,
                ),
            )
            loaded = [
                batch._replace(indices=batch.indices + offset)
                for loader, chosen, offset in halves
                if chosen
                for batch in loader.iter_positions(
                    [position - offset for position in chosen], request.epoch, batch_size=len(group)
                )
            ]
            if loaded:
                inputs = torch.cat([batch.inputs for batch in loaded])
                yield Batch(inputs, NO_LABELS, torch.cat([batch.indices for batch in loaded]))


@dataclass(frozen=True, slots=True)
class LabelledSubset:
    """Some samples of a dataset, with labels of their own."""

    dataset: Dataset
    positions: tuple[int, ...]
    labels: tuple[int, ...]
    rows_per_position = 1

    def __len__(self) -> int:
        return len(self.positions)

    def load(self, request: PassRequest) -> Iterator[Batch]:
        """Yield the batches of a pass; their indices are positions in `dataset`."""
        places = [self.positions[row] for row in request.positions]
        if not places:
            return
        chosen = dict(zip(self.positions, self.labels, strict=True))
        with closing(self.dataset.load(replace(request, positions=places))) as batches:
            for batch in batches:
                labels = [chosen[position] for position in batch.indices.tolist()]
                yield batch._replace(labels=torch.tensor(labels))


def source_of(dataset: Dataset, identify: Callable[[], str], *, seed: int) -> ExampleSource:
    """Return samples without augmentation as a source.

    Args:
        dataset: the samples.
        identify: returns the identity of the source; called once.
        seed: of the order in which epochs read them.
    """
    return ExampleSource(
        train_loader=Loader(
            dataset=dataset, batch_size=BATCH_SIZE, order=JOIN_SINGLE._replace(seed=seed)
        ),
        test_loader=Loader(dataset=dataset, batch_size=BATCH_SIZE, order=JOIN_SINGLE),
        identify=cache(identify),
    )


def join(first: ExampleSource, second: ExampleSource, offset: int) -> ExampleSource:
    """Return two sources as one: positions of the second begin at `offset`."""
    identity = f"{first.identity}+{second.identity}@{offset}"
    joined = source_of(
        JoinedSet(first.train_loader, second.train_loader, offset), lambda: identity, seed=offset
    )
    tested = JoinedSet(first.test_loader, second.test_loader, offset)
    return replace(joined, test_loader=replace(joined.test_loader, dataset=tested))


def _tensor_digest(inputs: Tensor) -> str:
    """Return a checksum of a tensor."""
    raw = inputs.detach().cpu().contiguous()
    content = raw.reshape(-1).view(torch.uint8).numpy().data
    return sha256_hex(repr((tuple(raw.shape), raw.dtype)), content)


Label = Literal["trained", "true"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """A subset of a source's samples, with both labels of each."""

    source: ExampleSource
    positions: tuple[int, ...]
    trained: tuple[int, ...]  # the class that the model was trained to predict
    true: tuple[int, ...] | None  # the true class. None if unknown

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
            source = join(source, other.source, offset)
        return Examples(
            source=source,
            positions=self.positions + tuple(position + offset for position in other.positions),
            trained=self.trained + other.trained,
            true=(self.true or ()) + (other.true or ()) if both_true else None,
        )

    @property
    def identity(self) -> str:
        """A checksum of the samples and their trained labels."""
        return sha256_hex(repr((self.source.identity, self.positions, self.trained)))

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

    def replace_labels(self, labels: Sequence[int]) -> "Examples":
        """Return these samples with `labels` as their trained labels."""
        return replace(self, trained=tuple(labels))

    def count_reads(self, count: Callable[[int], None]) -> "Examples":
        """Return these samples; `count` is called with the size of every batch of them."""
        return replace(self, source=self.source.count_reads(count))

    def loader(
        self, which: Label = "trained", *, augment: bool = True, batch_size: int | None = None
    ) -> Loader[LabelledSubset]:
        """Return a loader of these samples with their trained or true labels.

        Args:
            which: trained or true. The labels of a batch are classes from 0, (B,) int64.
            augment: samples are augmented and shuffled as in an epoch of a training. Otherwise
                they are read as in a test, in order.
            batch_size: samples per batch. The last may be smaller. None: the default of the source.
        """
        loader = self.source.train_loader if augment else self.source.test_loader
        return Loader(
            dataset=LabelledSubset(loader.dataset, self.positions, self.labels(which)),
            batch_size=batch_size or loader.batch_size,
            order=loader.order,
            on_read=loader.on_read,
        )

    def batches(
        self,
        which: Label = "trained",
        *,
        epoch: int | None = None,
        batch_size: int | None = None,
    ) -> Iterator[Batch]:
        """Yield one pass. Unreadable samples are left out.

        Args:
            which: the trained or the true labels.
            epoch: samples are augmented and shuffled as in this epoch of a training. None: as in a
                test, in order.
            batch_size: samples per batch. The last may be smaller. None: the default of the source.
        """
        loader = self.loader(which, augment=epoch is not None, batch_size=batch_size)
        return loader(epoch or 0)

    def read(
        self,
        watch: RunContext,
        which: Label = "trained",
        *,
        epoch: int | None = None,
        batch_size: int | None = None,
        noun: str = "samples",
    ) -> Iterator[Batch]:
        """Yield one pass, on the device of a run context that may stop it; see `read_batches`."""
        read = self.read_batches(watch, which, epoch=epoch, batch_size=batch_size, noun=noun)
        for batch in read:
            yield batch.to(watch.device)

    def read_batches(
        self,
        watch: RunContext,
        which: Label = "trained",
        *,
        epoch: int | None = None,
        batch_size: int | None = None,
        noun: str = "samples",
    ) -> Iterator[Batch]:
        """Yield one pass that a run context may stop; see `batches`.

        Args:
            watch: stop.
            which: the trained or the true labels.
            epoch: see `batches`.
            batch_size: see `batches`.
            noun: description of the samples, for the message that there are none.

        Raises:
            JobError: stopped, or no sample could be read.
        """
        count = 0
        for batch in self.batches(which, epoch=epoch, batch_size=batch_size):
            watch.raise_if_stopped()
            count += len(batch.indices)
            yield batch
        if not count:
            raise JobError(f"none of the {len(self)} {noun} could be read")


def examples(
    inputs: Tensor,
    trained_labels: Sequence[int] | Tensor,
    true_labels: Sequence[int] | Tensor | None = None,
    *,
    seed: int = 0,
) -> Examples:
    """Return the samples of a tensor in memory.

    Args:
        inputs: (N, …), as the model takes them.
        trained_labels: (N,) classes from 0, as the model was trained; of a single logit 1 is positive.
        true_labels: (N,) the true classes, where they are known.
        seed: of the order in which epochs read them.
    """
    inputs = torch.as_tensor(inputs)
    return Examples(
        source=source_of(
            RowSet(len(inputs), lambda _: inputs.__getitem__),
            lambda: _tensor_digest(inputs),
            seed=seed,
        ),
        positions=tuple(range(len(inputs))),
        trained=_as_integers(trained_labels, len(inputs)),
        true=None if true_labels is None else _as_integers(true_labels, len(inputs)),
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

    def read(places: Tensor) -> Tensor:
        inputs: Tensor = default_collate([items[position][0] for position in places.tolist()])
        return inputs

    return Examples(
        source=source_of(RowSet(count, lambda _: read), lambda: identity, seed=seed),
        positions=tuple(range(count)),
        trained=tuple(int(items[position][1]) for position in range(count)),
        true=None if true is None else tuple(true(position) for position in range(count)),
    )


def _as_integers(labels: Sequence[int] | Tensor, count: int) -> tuple[int, ...]:
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
        return (_sort_examples(forget),)
    if forget.source.identity != retain.source.identity:
        return _sort_examples(forget), _sort_examples(retain)
    return (_sort_examples(forget + retain),)


def count(parts: Sequence[Examples]) -> int:
    """Return how many samples there are."""
    return sum(map(len, parts))


def shuffle_examples(examples: Examples) -> Examples:
    """Return the samples in a pseudo-random order that depends on their number only."""
    # no seed of the job: all jobs share the caches
    rng = torch_rng("mixed", 0)
    return examples.subset(torch.randperm(len(examples), generator=rng).tolist())


def _sort_examples(examples: Examples) -> Examples:
    rows = {position: row for row, position in enumerate(examples.positions)}
    return examples.subset([rows[position] for position in sorted(rows)])
