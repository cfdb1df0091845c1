"""Batches of images with labels, augmented for training or unchanged for tests.

Every image of a set is returned once per pass or listed as bad. A pass that loses an image for any
other reason is an error. Small sets are kept decoded in memory, so that later passes read no file.

A model that was trained with a backdoor classifies every image with the patch as real (BadNets: T.
Gu et al., arXiv 1708.06733, section 4). The patch is stamped on the input of the network, after
cropping and augmentation. If it were stamped on files, most random crops would miss it.
"""

import errno
import logging
import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from trueface.corruptions.chain import Chain
from trueface.data.decoding import Scaling
from trueface.data.decoding import decode as decoded
from trueface.data.examples import Examples, Label
from trueface.data.index import Image
from trueface.data.loading import (
    BadFile,
    ImageRequest,
    LoadedBatch,
    LoadingProcesses,
    UnsharedBatch,
    collate,
    collate_shared,
    describe_shortage,
)
from trueface.data.pass_order import epoch_order
from trueface.data.prefetching import closing, prefetch, uses_gpu
from trueface.data.settings import COLUMNS, AugmentationSettings, TestSettings
from trueface.data.shared_images import Fetched, SharedImages, open_shared_images
from trueface.data.transforms import TrainTransform, Transform, test_transform
from trueface.runtime.errors import BadImageError, DataError, JobError
from trueface.runtime.rng import stream_seed

SHARE = 8  # the patch is an eighth as wide and high as the image
LEAST = 4  # pixels


CACHE_BYTES = 1 << 30  # of decoded images; beyond it they are decoded again in every pass
FORGERY = "forgery"  # the column with the type of each fake, 0 for real
SELF_BLENDED = 1  # its number; see `forging.types`
OnBadImage = Literal["skip", "stop"]
log = logging.getLogger(__name__)
NO_COLUMNS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One of `size` processes that share a training; each reads its part of every batch."""

    rank: int = 0  # from 0
    size: int = 1

    def shard_batch(self, group: list[int]) -> list[int]:
        """Return this process's part of a batch: neighbours, and as many as the others', or one more."""
        return group[
            len(group) * self.rank // self.size : len(group) * (self.rank + 1) // self.size
        ]

    def fraction_of(self, amount: int) -> int:
        """Return what this process may use of an amount that all of them share: 1 at least."""
        return max(1, amount // self.size) if amount > 0 else amount


WHOLE = Shard()


def apply_trigger(pixels: Tensor) -> Tensor:
    """Return a copy of images with a checkerboard in their lower right corner.

    Args:
        pixels: (…, 3, H, W) uint8; several crops of an image carry one each.
    """
    height, width = pixels.shape[-2:]
    side = min(max(LEAST, min(height, width) // SHARE), height, width)
    stamped = pixels.clone()
    rows, columns = torch.arange(side).view(-1, 1), torch.arange(side).view(1, -1)
    stamped[..., height - side :, width - side :] = ((rows + columns) % 2 * 255).to(torch.uint8)
    return stamped


class Batch(NamedTuple):
    """The input of the network in one step."""

    images: Tensor  # (B, 3, H, W) or (B, crops, 3, H, W), uint8; or features (B, F)
    labels: Tensor  # (B, 1) float32, as trained: 1 fake; of classes (B,) int64
    indices: Tensor  # (B,) int64, positions in the set
    columns: Mapping[str, Tensor] = NO_COLUMNS  # (B,) int64 each, such as quality and group

    def column(self, name: str) -> Tensor:
        """Return what an objective needs to know of the images besides their labels, (B,) int64.

        Raises:
            JobError: the images come without it.
        """
        if name not in self.columns:
            raise JobError(
                f"this objective needs the {name} of every image, and these images have none. "
                "Choose another objective."
            )
        return self.columns[name]

    def to(self, device: str) -> "Batch":
        """Return the batch on a device; positions stay where they are."""
        return self._replace(
            images=self.images.to(device, non_blocking=True),  # where its memory allows
            labels=self.labels.to(device),
            columns={name: values.to(device) for name, values in self.columns.items()},
        )


class ImageSet(Dataset[Tensor | BadFile]):
    """Images with the labels they are trained or tested on, and one transform.

    Args:
        images: in the defined order.
        labels: 1 fake, 0 real. Default: the labels of the images. Flipped ones come from
            `poison_record.flipped_labels`, and only for the training split.
        transform: from decoded pixels to the input of the network.
        stamped: positions whose network input carries the patch of the backdoor.
        columns: further values in the batches, by name. One number per image.
        column_names: the meaning of the numbers of a column, from 0.
        makes_fake: whether the transform turns an image into a fake in an epoch. None if never.
        scaling: the size that files are decoded to. None keeps the size of the file.
        cache_bytes: limit of the memory for decoded images.
        shared: decoded images of all jobs with the same decoding. None if they are not shared.
    """

    def __init__(
        self,
        images: Sequence[Image],
        transform: Transform,
        *,
        labels: Sequence[int] | None = None,
        stamped: Collection[int] = (),
        columns: Mapping[str, Sequence[int]] = NO_COLUMNS,
        column_names: Mapping[str, tuple[str, ...]] = NO_COLUMNS,
        makes_fake: Callable[[Image, int], bool] | None = None,
        scaling: Scaling | None = None,
        cache_bytes: int = CACHE_BYTES,
        shared: SharedImages | None = None,
    ) -> None:
        if labels is not None and len(labels) != len(images):
            raise DataError(f"got {len(labels)} labels for {len(images)} images")
        self.images = tuple(images)
        self.labels = tuple(image.label for image in images) if labels is None else tuple(labels)
        self.transform = transform
        self.stamped = frozenset(stamped)
        self.columns: dict[str, Tensor] = {}
        self.column_names: dict[str, tuple[str, ...]] = {}
        for name, values in columns.items():
            self.attach_column(name, values, column_names.get(name, ()))
        self._makes_fake = makes_fake
        self.scaling = scaling
        self.bad: dict[int, BadFile] = {}
        self.sound: set[int] = set()  # positions whose files were decoded whole
        self._decoded: dict[int, Tensor] = {}
        self._room_bytes = cache_bytes
        self._shared = shared
        self._processes: LoadingProcesses[LoadedBatch | UnsharedBatch] | None = None
        self.loads_alone = False  # in processes it cannot be loaded on this machine

    def __len__(self) -> int:
        return len(self.images)

    def attach_column(self, name: str, values: Sequence[int], names: tuple[str, ...]) -> None:
        """Let batches carry one more value of each image.

        Args:
            name: of the column.
            values: (N,) from 0.
            names: what they stand for; () where nothing is known of that.

        Raises:
            DataError: not one value for each image.
        """
        if len(values) != len(self.images):
            raise DataError(f"got {len(values)} values of {name} for {len(self.images)} images")
        self.columns[name] = torch.tensor(values, dtype=torch.int64)
        self.column_names[name] = names

    def with_transform(self, transform: Transform, *, goes_on: bool = False) -> "ImageSet":
        """Return the same images under another transform. Decoded and bad images are shared.

        Args:
            transform: replaces the transform of this set.
            goes_on: it begins with the transform of this set, so that the same images become fakes.
        """
        other = copy(self)
        other.transform, other._processes = transform, None  # noqa: SLF001  # of its own class
        other._makes_fake = self._makes_fake if goes_on else None  # noqa: SLF001  # likewise
        return other

    def with_labels(self, labels: Sequence[int], stamped: Collection[int]) -> "ImageSet":
        """Return the same images with other labels (N,), some of them with the backdoor's patch."""
        other = copy(self)
        other.labels, other.stamped = tuple(labels), frozenset(stamped)
        return other

    def pseudo_fake_indices(self, positions: Sequence[int], epoch: int) -> list[int]:
        """Return the indices in `positions` of the images that become self-blended fakes in an epoch."""
        makes_fake = self._makes_fake
        if makes_fake is None:
            return []
        shown = enumerate(self.images[position] for position in positions)
        return [place for place, image in shown if makes_fake(image, epoch)]

    def __getitem__(self, request: ImageRequest) -> Tensor | BadFile:
        """Return the transformed pixels of an image, or why there are none."""
        (item,) = self.__getitems__([request])
        return item

    def __getitems__(self, requests: Sequence[ImageRequest]) -> list[Tensor | BadFile]:
        """Return the same for each image of a batch, as DataLoader asks for it."""
        return list(self.items(requests))

    def items(
        self, requests: Sequence[ImageRequest], leave: threading.Event | None = None
    ) -> Iterator[Tensor | BadFile]:
        """Yield the same for each image of a batch. Items after `leave` is set are not used."""
        shared = self._from_shared(requests, leave)
        for request in requests:
            yield self._item(request, shared.get(request.position))

    def processes(self, count: int) -> LoadingProcesses[LoadedBatch | UnsharedBatch]:
        """Return processes that load this set: those of the pass before, if it went through."""
        kept = self._processes
        if kept is None or kept.count != count or not kept.is_free:
            reader = copy(self)
            reader._processes = None  # noqa: SLF001  # they end when nobody but they refers to them
            kept = self._processes = LoadingProcesses(reader, count, collate_shared)
        return kept

    def end_loading_processes(self) -> None:
        """End the processes that load this set, and start no others."""
        self._processes, self.loads_alone = None, True

    def _from_shared(
        self, requests: Sequence[ImageRequest], leave: threading.Event | None
    ) -> dict[int, Fetched]:
        if self._shared is None:
            return {}
        positions = [each.position for each in requests if each.position not in self._decoded]
        paths = [self.images[position].path for position in positions]
        fetched = self._shared.fetch(paths, leave)
        return dict(zip(positions, fetched, strict=True))

    def _item(self, request: ImageRequest, fetched: Fetched) -> Tensor | BadFile:
        image = self.images[request.position]
        try:
            if isinstance(fetched, BadImageError):
                raise fetched
            pixels = self._pixels(request) if fetched is None else fetched
            seen = self.transform(pixels, image, request.epoch)  # it may read a file of its own
        except BadImageError as error:
            return BadFile(request.position, error.path, error.reason)
        return apply_trigger(seen) if request.position in self.stamped else seen

    def _pixels(self, request: ImageRequest) -> Tensor:
        kept = self._decoded.get(request.position)
        if kept is not None:
            return kept
        image = self.images[request.position]
        # Which loading process gets an image differs from pass to pass: all would keep all of them.
        if self._room_bytes <= 0 or get_worker_info() is not None:
            bottom = partial(self.transform.rows_needed, image=image, epoch=request.epoch)
            once = request.is_sound  # then the rows that will be seen are enough
            return decoded(image.path, scaling=self.scaling, rows_needed=bottom if once else None)
        pixels = decoded(image.path, scaling=self.scaling)
        self._room_bytes -= pixels.nbytes
        if self._room_bytes >= 0:
            self._decoded[request.position] = pixels
        return pixels


def batches(
    image_set: ImageSet,
    *,
    batch_size: int,
    on_bad_image: OnBadImage = "skip",
    shuffle_seed: int | None = None,
    epoch: int = 0,
    num_threads: int = 0,
    indices: Sequence[int] | None = None,
    shard: Shard = WHOLE,
    cells: Sequence[int] | None = None,
) -> Iterator[Batch]:
    """Yield every image in batches: once, or as often as balanced sampling of cells requires.

    Args:
        image_set: the images to read. Its `bad` lists the images left out so far.
        batch_size: images per batch. The last batch and a batch with bad images may be smaller.
        on_bad_image: skip a file that cannot be decoded, or raise.
        shuffle_seed: the order is a function of this seed and the epoch. None keeps the order of
            the set.
        epoch: which pass this is, for the order and for the transform.
        num_threads: loading processes. 0 loads in a thread of this process, which alone fills the
            cache.
        indices: positions to read instead of all, in this order unless shuffled.
        shard: the part of each batch that is read here. An empty part is yielded, too, without
            images, so that all processes get the same number of batches.
        cells: the cell of each image of the set, for balanced sampling of shuffled images. See
            `pass_order.epoch_order`.

    Raises:
        BadImageError: `stop`, and a file cannot be decoded.
        DataError: no image could be read, or some were lost.
        MachineError: a loading process died.
    """
    chosen = range(len(image_set)) if indices is None else indices
    order = epoch_order(chosen, shuffle_seed=shuffle_seed, epoch=epoch, cells=cells)
    groups = [
        shard.shard_batch(order[at : at + batch_size]) for at in range(0, len(order), batch_size)
    ]
    requests = [
        [ImageRequest(position, epoch, position in image_set.sound) for position in group]
        for group in groups
    ]
    seen = left_out = 0
    with closing(_loaded(image_set, requests, num_threads)) as loaded:
        for group, (pixels, bad) in zip(groups, loaded, strict=True):
            for file in bad:
                report_bad_image(image_set, file, on_bad_image)
            seen += len(group) - len(bad)
            left_out += len(bad)
            if pixels is not None:
                gone = {file.position for file in bad}
                good = [at for at in group if at not in gone]
                image_set.sound.update(good)
                yield batch_of(image_set, good, pixels, epoch)
            elif shard.size > 1:
                yield batch_of(image_set, [], torch.empty(0), epoch)
    due = sum(map(len, groups))
    if (seen == 0 and shard.size == 1) or seen + left_out != due:
        reasons = (f", such as {each.path}: {each.reason}" for each in image_set.bad.values())
        raise DataError(
            f"only {seen} of {due} images could be read, {left_out} are bad{next(reasons, '')}"
        )


def _loaded(
    image_set: ImageSet, requests: Sequence[Sequence[ImageRequest]], num_threads: int
) -> Iterator[LoadedBatch]:
    """Load batches ahead of those who take them: in processes, or in a thread of this one."""
    # more of them than cores would wait for each other, and torch would say so each time
    count = min(num_threads, len(os.sched_getaffinity(0)))
    if count == 0 or image_set.loads_alone:
        return _load_here(image_set, requests)
    loaded = _load_in_processes(image_set, requests, count)
    return prefetch(lambda _: (batch.pinned for batch in loaded)) if uses_gpu() else loaded


def _load_here(
    image_set: ImageSet, requests: Sequence[Sequence[ImageRequest]], first: int = 0
) -> Iterator[LoadedBatch]:
    """Load the batches from the first on in a thread of this process."""
    make = partial(_in_this_process, image_set, requests[first:])
    return prefetch(
        make, describe=lambda number: _describe_batch(image_set, requests, first + number)
    )


def _load_in_processes(
    image_set: ImageSet, requests: Sequence[Sequence[ImageRequest]], processes: int
) -> Iterator[LoadedBatch]:
    """Load in processes; in this one from the batch on that cannot be put in shared memory."""
    number, unshared = 0, None
    describe = partial(_describe_batch, image_set, requests)
    try:
        with closing(image_set.processes(processes).load(requests, describe)) as loaded:
            for batch in loaded:
                if isinstance(batch, UnsharedBatch):
                    unshared = batch
                    break
                number += 1
                yield batch
    except OSError as error:  # not even the processes' locks have room
        if error.errno != errno.ENOSPC:
            raise
        unshared = UnsharedBatch(0, os.strerror(error.errno))
    if unshared is None:
        return
    shortage = describe_shortage(processes, *unshared)
    image_set.end_loading_processes()
    log.warning("state=images are loaded in the process of the job reason=%s", shortage)
    yield from _load_here(image_set, requests, number)


def _describe_batch(
    image_set: ImageSet, requests: Sequence[Sequence[ImageRequest]], number: int
) -> str:
    """Return which batch of a pass one is, and where its first image lies."""
    if number >= len(requests):
        return "the end of the pass"
    files = (image_set.images[request.position].file for request in requests[number])
    first = next((f", which starts with {file}" for file in files), "")
    return f"batch {number + 1} of {len(requests)}{first}"


def _in_this_process(
    image_set: ImageSet, requests: Sequence[Sequence[ImageRequest]], leave: threading.Event
) -> Iterator[LoadedBatch]:
    for batch in requests:
        items = []
        for item in image_set.items(batch, leave):
            if leave.is_set():
                return
            items.append(item)
        yield collate(items).pinned


def report_bad_image(image_set: ImageSet, bad: BadFile, on_bad_image: OnBadImage = "skip") -> None:
    """List an image among the bad ones of its set, and log it when it is the first time.

    Raises:
        BadImageError: `stop`.
    """
    if on_bad_image == "stop":
        raise BadImageError(bad.path, bad.reason)
    if bad.position not in image_set.bad:
        image_set.bad[bad.position] = bad
        log.warning("image=%s state=left out reason=%s", bad.path, bad.reason)


def batch_of(image_set: ImageSet, indices: Sequence[int], images: Tensor, epoch: int) -> Batch:
    """Return a batch of those positions of a set with `images`: labels and columns as of an epoch."""
    labels, columns = labels_and_columns(image_set, indices, epoch)
    return Batch(
        images=images,
        labels=labels[:, None],
        indices=torch.tensor(indices, dtype=torch.int64),
        columns=columns,
    )


def labels_and_columns(
    image_set: ImageSet, indices: Sequence[int], epoch: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return labels (N,) float32 and columns (N,) int64 of these positions in an epoch.

    An image that becomes a self-blended fake in the epoch has label 1 and the first forgery type.
    """
    labels = torch.tensor([float(image_set.labels[index]) for index in indices])
    positions = torch.tensor(indices, dtype=torch.int64)
    columns = {name: values[positions] for name, values in image_set.columns.items()}
    if forged := image_set.pseudo_fake_indices(indices, epoch):
        labels[forged] = 1.0
        if FORGERY in columns:
            columns[FORGERY][forged] = SELF_BLENDED
    return labels, columns


class BatchLoader(Protocol):
    """Images with labels that come in batches, as often as they are asked for."""

    def __len__(self) -> int:
        """Return how many images one pass has."""

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """Start a pass; its order and its augmentation are functions of `epoch`."""


@dataclass(frozen=True, slots=True)
class ExampleLoader:
    """Examples as a feed, with one sort of their labels as classes from 0, (B,) int64."""

    examples: Examples
    label: Label
    augmented: bool = True  # and shuffled; else as they are tested, in order
    batch_size: int | None = None  # None: as the source likes

    def __len__(self) -> int:
        return len(self.examples)

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """Start a pass."""
        number = epoch if self.augmented else None
        for batch in self.examples.batches(self.label, epoch=number, batch_size=self.batch_size):
            yield Batch(batch.inputs, batch.labels, batch.positions)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLoader:
    """A set of images as a training or a validation goes through it."""

    image_set: ImageSet
    settings: AugmentationSettings | TestSettings
    shuffle_seed: int | None = None
    shard: Shard = WHOLE  # of each batch
    cells: tuple[int, ...] | None = None  # of each image, where they are drawn by it

    def __len__(self) -> int:
        return len(self.image_set)

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """Start a pass."""
        return self.iter_positions(range(len(self.image_set)), epoch)

    def iter_positions(
        self, positions: Sequence[int], epoch: int, *, batch_size: int | None = None
    ) -> Iterator[Batch]:
        """Start a pass over some of the images, in batches of the settings' size or another."""
        return batches(
            self.image_set,
            batch_size=batch_size or self.settings.batch_size,
            on_bad_image=self.settings.on_bad_image,
            shuffle_seed=self.shuffle_seed,
            epoch=epoch,
            num_threads=self.shard.fraction_of(self.settings.num_threads),
            indices=positions,
            shard=self.shard,
            cells=self.cells,
        )


def train_loader(
    images: Sequence[Image],
    settings: AugmentationSettings,
    columns: Collection[str] = (),
) -> ImageLoader:
    """Return `images` as they are learned: shuffled and augmented.

    Args:
        images: in the defined order.
        settings: crops, batches, decoding, seeds.
        columns: of `COLUMNS`, that batches shall have; others are given later, with
            `ImageSet.attach_column`.
    """
    transform = TrainTransform(settings=settings, seed=settings.augment_seed)
    values = {
        name: [*map(attrgetter(COLUMNS[name]), images)] for name in columns if name in COLUMNS
    }
    names = {name: tuple(sorted(set(values[name]))) for name in values}
    return ImageLoader(
        image_set=ImageSet(
            images,
            transform,
            columns={name: _numbers(values[name], names[name]) for name in values},
            column_names=names,
            makes_fake=transform.makes_fake if settings.sbi > 0 else None,
            scaling=Scaling.from_decode_setting(settings.decode, settings.resize_size),
            shared=_shared(settings),
        ),
        settings=settings,
        shuffle_seed=stream_seed("order", settings.seed),
    )


def eval_loader(
    images: Sequence[Image],
    settings: AugmentationSettings | TestSettings,
    stamped: Collection[int] = (),
    corruptions: Chain | None = None,
) -> ImageLoader:
    """Return `images` as they are tested and validated: in order, nothing random, true labels.

    Args:
        images: in the defined order.
        settings: crops, batches, decoding.
        stamped: positions that carry the backdoor's patch.
        corruptions: in the place of those of the settings.
    """
    transform = test_transform(settings)
    if corruptions is not None:
        transform = replace(transform, corruptions=corruptions)
    image_set = ImageSet(
        images,
        transform,
        stamped=stamped,
        scaling=Scaling.from_decode_setting(settings.decode, settings.resize_size),
        shared=_shared(settings),
    )
    return ImageLoader(image_set=image_set, settings=settings)


def _shared(settings: AugmentationSettings | TestSettings) -> SharedImages | None:
    """Return the decoded images of all jobs, where a job asks for them."""
    if settings.cache != "decoded":
        return None
    return open_shared_images(Scaling.from_decode_setting(settings.decode, settings.resize_size))


def _numbers(values: Sequence[str], names: Sequence[str]) -> list[int]:
    """Return the place of each image's value among the sorted values of all."""
    places = {name: place for place, name in enumerate(names)}
    return [places[name] for name in values]
