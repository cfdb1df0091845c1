"""Batches of images with labels, augmented for training or unchanged for tests.

Every image of a set is returned once per pass or listed as bad. A pass that loses an image for any
other reason is an error. Small sets are kept decoded in memory, so that later passes read no file.

A model that was trained with a backdoor classifies every image with the patch as real (BadNets: T.
Gu et al., arXiv 1708.06733, section 4). The patch is stamped on the input of the network, after
cropping and augmentation. If it were stamped on files, most random crops would miss it.
"""

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import copy
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import get_worker_info

from trueface.data.batch import IMAGE_DIMENSIONS, NO_COLUMNS, Batch
from trueface.data.index import Image
from trueface.data.loading.auto_loading import AutoLoading
from trueface.data.loading.decoding import Scaling, decode
from trueface.data.loading.loader import Loader, PassRequest
from trueface.data.loading.prefetching import closing
from trueface.data.loading.processes import (
    BadFile,
    ImageRequest,
    LoadedBatch,
    LoadingProcesses,
    NoRoomError,
    collate_shared,
    load_batches,
)
from trueface.data.loading.shared_images import Fetched, SharedImages
from trueface.data.loading.transforms import LandmarkTransform, Transform, transform_clip
from trueface.runtime.errors import BadImageError, DataError, JobError, MachineError
from trueface.runtime.image_files import lacks_reader

SHARE = 8  # the patch is an eighth as wide and high as the image
LEAST = 4  # pixels
CACHE_BYTES = 1 << 30  # bytes of decoded images; more images are decoded again in every pass
FORGERY = "forgery"  # the column with the type of each fake, 0 for real
SELF_BLENDED = 1  # its number; see `forging.types`
OnBadImage = Literal["skip", "stop"]
log = logging.getLogger(__name__)


def apply_trigger(pixels: Tensor, *, of_clip: bool = False) -> Tensor:
    """Return a copy of images with a checkerboard in their lower right corner.

    Args:
        pixels: (…, 3, H, W) uint8; several crops of an image carry one each.
        of_clip: pixels may be a batch of clips, (B, crops, T, 3, H, W). Every frame carries one.

    Raises:
        JobError: a batch of clips, which is not a batch of crops.
    """
    if pixels.ndim > IMAGE_DIMENSIONS and not of_clip:
        raise JobError("the trigger got a batch of clips in place of images")
    height, width = pixels.shape[-2:]
    side = min(max(LEAST, min(height, width) // SHARE), height, width)
    stamped = pixels.clone()
    rows, columns = torch.arange(side).view(-1, 1), torch.arange(side).view(1, -1)
    stamped[..., height - side :, width - side :] = ((rows + columns) % 2 * 255).to(torch.uint8)
    return stamped


class DecodedImages(dict[int, tuple[Tensor, ...]]):
    """The decoded files of images by position, (3, H, W) uint8 each. An image set and its copies share one limit."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__()
        self._room_bytes = limit_bytes

    @property
    def is_full(self) -> bool:
        """Whether no image can be added."""
        return self._room_bytes <= 0

    def add(self, position: int, pixels: tuple[Tensor, ...]) -> None:
        """Keep an image. The first one that does not fit ends the additions."""
        self._room_bytes -= sum(each.nbytes for each in pixels)
        if self._room_bytes >= 0:
            self[position] = pixels


class ImageSet(TorchDataset[Tensor | BadFile]):
    """Images with the labels they are trained or tested on, and one transform.

    Args:
        images: in the defined order.
        labels: 1 fake, 0 real. Default: the labels of the images. Flipped ones come from
            `poison_record.flipped_labels`, and only for the training split.
        transform: from decoded pixels to the input of the network.
        triggered_rows: positions whose network input carries the patch of the backdoor.
        columns: further values in the batches, by name. One number per image.
        column_names: the meaning of the numbers of a column, from 0.
        makes_fake: whether the transform turns an image into a fake in an epoch. None if never.
        scaling: the size that files are decoded to. None keeps the size of the file.
        cache_bytes: limit of the memory for decoded images.
        shared_images: decoded images of all jobs with the same decoding. None if they are not shared.
        on_bad_image: skip a file that cannot be decoded, or raise.
        num_threads: loading processes. 0 loads in a thread of this process, "auto" in as many
            processes as there are free cores.
    """

    rows_per_position = 1

    def __init__(
        self,
        images: Sequence[Image],
        transform: Transform,
        *,
        labels: Sequence[int] | None = None,
        triggered_rows: Collection[int] = (),
        columns: Mapping[str, Sequence[int]] = NO_COLUMNS,
        column_names: Mapping[str, tuple[str, ...]] = NO_COLUMNS,
        makes_fake: Callable[[Image, int], bool] | None = None,
        scaling: Scaling | None = None,
        cache_bytes: int = CACHE_BYTES,
        shared_images: SharedImages | None = None,
        on_bad_image: OnBadImage = "skip",
        num_threads: int | Literal["auto"] = 0,
    ) -> None:
        if labels is not None and len(labels) != len(images):
            raise DataError(f"got {len(labels)} labels for {len(images)} images")
        self.images = tuple(images)
        self.labels = tuple(image.label for image in images) if labels is None else tuple(labels)
        self.transform = transform
        self.stamped = frozenset(triggered_rows)
        self.columns: dict[str, Tensor] = {}
        self.column_names: dict[str, tuple[str, ...]] = {}
        for name, values in columns.items():
            self.attach_column(name, values, column_names.get(name, ()))
        self.makes_fake = makes_fake
        self.scaling = scaling
        self.on_bad_image, self.num_threads = on_bad_image, num_threads
        self._auto = AutoLoading()
        self.bad: dict[int, BadFile] = {}
        self.sound: set[int] = (
            set()
        )  # positions whose files were decoded completely, without an error
        self._decoded = DecodedImages(cache_bytes)
        self._shared = shared_images
        self._processes: LoadingProcesses[LoadedBatch | NoRoomError] | None = None
        self.loads_alone = False  # see `processes.ImageReader`

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_set(self) -> "ImageSet":
        """This set. `FeatureSet` has the same property."""
        return self

    def readable_images(self) -> list[Image]:
        """Return the images without those that were found to be bad."""
        return [image for at, image in enumerate(self.images) if at not in self.bad]

    def file(self, position: int) -> str:
        """Return the path of an image."""
        return self.images[position].file

    def attach_column(self, name: str, values: Sequence[int], names: tuple[str, ...]) -> None:
        """Add a column to the batches: a value for each image.

        Args:
            name: of the column.
            values: (N,) from 0.
            names: the meaning of each value. () if unknown.

        Raises:
            DataError: the number of values is not that of the images.
        """
        if len(values) != len(self.images):
            raise DataError(f"got {len(values)} values of {name} for {len(self.images)} images")
        self.columns[name] = torch.tensor(values, dtype=torch.int64)
        self.column_names[name] = names

    def with_transform(self, transform: Transform, *, goes_on: bool = False) -> "ImageSet":
        """Return the same images under another transform. Decoded and bad images are shared.

        Args:
            transform: replaces the transform of this set.
            goes_on: whether it begins with the transform of this set. The same images then become
                self-blended fakes.
        """
        other = copy(self)
        other.transform, other._processes = transform, None  # noqa: SLF001  # of its own class
        other.makes_fake = self.makes_fake if goes_on else None  # likewise
        return other

    def with_labels(self, labels: Sequence[int], triggered_rows: Collection[int]) -> "ImageSet":
        """Return the same images with other labels (N,), some of them with the backdoor's patch."""
        other = copy(self)
        other.labels, other.stamped = tuple(labels), frozenset(triggered_rows)
        other._processes = None  # noqa: SLF001  # they stamp the images of this set
        return other

    def pseudo_fake_indices(self, positions: Sequence[int], epoch: int) -> list[int]:
        """Return the indices in `positions` of the images that become self-blended fakes in an epoch."""
        makes_fake = self.makes_fake
        if makes_fake is None:
            return []
        shown = enumerate(self.images[position] for position in positions)
        return [position for position, image in shown if makes_fake(image, epoch)]

    def load(self, request: PassRequest) -> Iterator[Batch]:
        """Yield every image of a pass once, or as often as balanced sampling of cells requires.

        `bad` lists the images left out so far. In a shard a part without images is yielded, too.

        Raises:
            BadImageError: `on_bad_image` is stop, and a file cannot be decoded.
            DataError: no image could be read, or some were lost.
            MachineError: a loading process died.
        """
        groups, epoch, shard = request.groups(), request.epoch, request.shard
        requests = [
            [ImageRequest(position, epoch, position in self.sound) for position in group]
            for group in groups
        ]
        if self.num_threads == "auto":
            loaded = self._auto.load(self, requests, shard)
        else:
            loaded = load_batches(self, requests, shard.fraction_of(self.num_threads))
        seen = left_out = 0
        with closing(loaded) as batches:
            for group, (pixels, bad) in zip(groups, batches, strict=True):
                for file in bad:
                    report_bad_image(self, file, self.on_bad_image)
                seen += len(group) - len(bad)
                left_out += len(bad)
                if pixels is not None:
                    gone = {file.position for file in bad}
                    good = [at for at in group if at not in gone]
                    self.sound.update(good)
                    yield batch_of(self, good, pixels, epoch)
                elif shard.size > 1:
                    yield batch_of(self, [], torch.empty(0), epoch)
        due = sum(map(len, groups))
        if (seen == 0 and shard.size == 1) or seen + left_out != due:
            reasons = (f", such as {each.path}: {each.reason}" for each in self.bad.values())
            raise DataError(
                f"only {seen} of {due} images could be read, {left_out} are bad{next(reasons, '')}"
            )

    def __getitem__(self, request: ImageRequest) -> Tensor | BadFile:
        """Return the transformed pixels of an image, or why there are none."""
        (item,) = self.__getitems__([request])
        return item

    def __getitems__(self, requests: Sequence[ImageRequest]) -> list[Tensor | BadFile]:
        """Return the items of a batch; called by DataLoader."""
        return list(self.items(requests))

    def items(
        self, requests: Sequence[ImageRequest], leave: threading.Event | None = None
    ) -> Iterator[Tensor | BadFile]:
        """Yield the items of a batch; see `__getitem__`. Items after `leave` is set are not used."""
        shared = self._fetch_shared_pixels(requests, leave)
        for request in requests:
            yield self._item(request, shared.get(request.position, ()))

    def processes(
        self, count: int, nice_from: int | None = None
    ) -> LoadingProcesses[LoadedBatch | NoRoomError]:
        """Return processes that load this set: those of the previous pass if it was completed."""
        kept = self._processes
        if kept is None or kept.count != count or not kept.is_free:
            reader = copy(self)
            reader._processes = None  # noqa: SLF001  # they end if only they refer to themselves
            kept = self._processes = LoadingProcesses(reader, count, collate_shared, nice_from)
        return kept

    def end_loading_processes(self) -> None:
        """End the processes that load this set, and start no others."""
        self._processes, self.loads_alone = None, True

    def _fetch_shared_pixels(
        self, requests: Sequence[ImageRequest], leave: threading.Event | None
    ) -> dict[int, list[Fetched]]:
        """Return the shared pixels of the files of images, by position."""
        if self._shared is None:
            return {}
        positions = [each.position for each in requests if each.position not in self._decoded]
        files = [_files(self.images[position]) for position in positions]
        fetched = iter(self._shared.fetch([path for paths in files for path in paths], leave))
        return {
            position: [*islice(fetched, len(paths))]
            for position, paths in zip(positions, files, strict=True)
        }

    def _item(self, request: ImageRequest, fetch_result: Sequence[Fetched]) -> Tensor | BadFile:
        image = self.images[request.position]
        try:
            if isinstance(self.transform, LandmarkTransform):
                return self._landmarks(request, self.transform)
            for each in fetch_result:
                if isinstance(each, BadImageError):
                    raise each
            found = tuple(each for each in fetch_result if isinstance(each, Tensor))
            pixels = found if found and len(found) == len(fetch_result) else self._pixels(request)
            if image.frames:
                return self._clip(request, pixels)
            # it may read a file of its own
            seen = self.transform(pixels[0], image, request.epoch)
        except BadImageError as error:
            return BadFile(request.position, error.path, error.reason)
        return apply_trigger(seen) if request.position in self.stamped else seen

    def _landmarks(self, request: ImageRequest, transform: LandmarkTransform) -> Tensor:
        """Return the landmarks of a clip, (T, 68, 2).

        Raises:
            BadImageError: they are absent, or have a fault.
            JobError: the clip should carry a patch, which only pixels do.
        """
        if request.position in self.stamped:
            raise JobError("the trigger needs pixels, but the network reads landmarks")
        kept = self._decoded.get(request.position)
        if kept is not None:
            return kept[0]
        points = transform.read_clip(self.images[request.position])
        if not self._decoded.is_full and get_worker_info() is None:
            self._decoded.add(request.position, (points,))
        return points

    def _clip(self, request: ImageRequest, frames: Sequence[Tensor]) -> Tensor:
        """Return a clip as the network sees it, (crops, T, 3, h, w) uint8.

        Raises:
            BadImageError: its frames have several sizes.
        """
        clip = self.images[request.position]
        first = frames[0].shape
        for path, frame in zip(_files(clip), frames, strict=True):
            if frame.shape != first:
                raise BadImageError(
                    path,
                    f"it has {frame.shape[-1]} by {frame.shape[-2]} pixels, and the first frame of its clip has "
                    f"{first[-1]} by {first[-2]}",
                )
        seen = transform_clip(self.transform, frames, clip, request.epoch)
        return apply_trigger(seen, of_clip=True) if request.position in self.stamped else seen

    def _pixels(self, request: ImageRequest) -> tuple[Tensor, ...]:
        """Return the decoded files of an image, (3, H, W) uint8 each: one, or the frames of a clip."""
        kept = self._decoded.get(request.position)
        if kept is not None:
            return kept
        image = self.images[request.position]
        # Which loading process gets an image differs from pass to pass: all would keep all of them.
        if self._decoded.is_full or get_worker_info() is not None:
            bottom = partial(self.transform.rows_needed, image=image, epoch=request.epoch)
            once = request.is_sound  # then the rows that will be seen are enough
            return tuple(
                decode(path, scaling=self.scaling, rows_needed=bottom if once else None)
                for path in _files(image)
            )
        pixels = tuple(decode(path, scaling=self.scaling) for path in _files(image))
        self._decoded.add(request.position, pixels)
        return pixels


def _files(image: Image) -> tuple[Path, ...]:
    """Return the files of an image, or those of the frames of a clip."""
    return tuple(map(Path, image.frames)) or (image.path,)


def report_bad_image(image_set: ImageSet, bad: BadFile, on_bad_image: OnBadImage = "skip") -> None:
    """Add an image to the bad images of its set, and log it if it is new.

    Raises:
        BadImageError: `on_bad_image` is stop.
        MachineError: the file may be sound, but a reader of its format is not installed here.
    """
    if lacks_reader(bad.reason):
        raise MachineError(f"cannot decode {bad.path}: {bad.reason}")
    if on_bad_image == "stop":
        raise BadImageError(bad.path, bad.reason)
    if bad.position not in image_set.bad:
        image_set.bad[bad.position] = bad
        log.warning("image=%s state=left out reason=%s", bad.path, bad.reason)


ImageLoader = Loader[ImageSet]


def batch_of(image_set: ImageSet, indices: Sequence[int], inputs: Tensor, epoch: int) -> Batch:
    """Return a batch of inputs with the labels and columns of their positions in an epoch."""
    labels, columns = labels_and_columns(image_set, indices, epoch)
    return Batch(
        inputs=inputs,
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
