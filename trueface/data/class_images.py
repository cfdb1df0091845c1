"""The images of a data set of classes, decoded once and kept in memory, in three splits.

A training reads the images from memory, shuffled and augmented in epochs. Decoding would take
longer than the training steps of a network for small images.

VGGFace2 has other people in its test folder, and a network of classes cannot name them. So the test
images are a fraction of each person's training images, as of an undivided folder.

Validation is a fraction of the training images of each class and is never trained on. It depends on
the seed. The choice of a smaller set, and of the test images of an undivided folder, does not
depend on the seed, so that seeds can be compared.

Files of equal bytes are copies of one image. The test and the validation are drawn by image, so all
copies are in one list. Only copies in folders `train` and `test` cannot be moved: they are warned of.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.datasets import CIFAR10, ImageFolder

from trueface.data.class_copies import (
    EqualImages,
    NamedImages,
    find_copies,
    find_images_in_classes,
    find_images_in_test,
)
from trueface.data.examples import JOIN_SINGLE, Examples, ExampleSource, Read, RowSet
from trueface.data.folders import READ, describe_suffixes, is_image, suffix
from trueface.data.idx_files import read_idx_set
from trueface.data.loading.decoding import decode
from trueface.data.loading.loader import Loader
from trueface.data.vocabulary import (
    CLASS_DATASET_TYPES,
    ClassFolders,
    class_folders,
    packed_folder,
)
from trueface.runtime.cores import spare_cores
from trueface.runtime.digests import sha256_digest, sha256_hex
from trueface.runtime.errors import BadImageError, DataError, JobError
from trueface.runtime.rng import python_rng, torch_rng

MOST_BYTES = 8 << 30  # bytes of pixels in memory: 50,000 images of 224 pixels take 7 GiB
VALIDATION = 0.1  # fraction of the training images of each class
TEST = 0.2  # fraction of the images of each class, if a class is in one folder
GROUP = 256  # images decoded between two looks at whether the job shall stop
TEST_BATCH_SIZE = 256
MARGIN = 8  # a crop moves an image by up to an eighth of its side: 4 of 32 pixels, as is usual
FACE_LISTS = ("train_list.txt", "meta/train_list.txt", "data/train_list.txt")  # lists of VGGFace2
HELD_BYTES = 1 << 30  # bytes of images that are kept on a GPU; more stay in the computer's memory
STOPPED = "stopped while reading images"

T = TypeVar("T")
log = logging.getLogger(__name__)


class ListSettings(Protocol):
    """The settings of a job that determine the number and the size of its images."""

    @property
    def size(self) -> int:
        """Side that images are cut and resized to, in pixels."""

    @property
    def images_per_class(self) -> int:
        """Images per class in each of the training list and the test list. 0 means all."""

    @property
    def seed(self) -> int:
        """Seed of the validation list."""

    @property
    def split_seed(self) -> int:
        """Seed of the test list, used if a class has one folder for training and test images."""

    @property
    def num_threads(self) -> int | Literal["auto"]:
        """Number of decoding threads. 0 means one per core of the job, auto also uses free cores."""


class PassSettings(Protocol):
    """The settings of a job that determine how it iterates over images."""

    @property
    def batch_size(self) -> int:
        """Images per step."""

    @property
    def flip(self) -> bool:
        """Mirror half of the training images."""

    @property
    def crop(self) -> bool:
        """Move training images by up to an eighth of their side."""

    @property
    def seed(self) -> int:
        """Seed of the order and of the augmentation of each image."""


@dataclass(frozen=True)
class ClassImageList:
    """One list of images."""

    pixels: Tensor  # (N, 3, S, S) uint8
    labels: tuple[int, ...]
    names: tuple[str, ...]  # paths below the data folder, or "train/00012" in torchvision's files

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def sha256(self) -> str:
        """A checksum of names, labels and pixels."""
        facts = repr((self.names, self.labels, tuple(self.pixels.shape)))
        return sha256_hex(facts, self.pixels.numpy().data)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassLists:
    """All images of a data set."""

    train: ClassImageList
    validation: ClassImageList
    test: ClassImageList
    names: tuple[str, ...]  # names of the classes
    copies: Mapping[str, str] = field(default_factory=dict)  # copy → first image of equal bytes

    @property
    def copies_in_test(self) -> EqualImages:
        """Test images that are also training or validation images."""
        learned = (*self.train.names, *self.validation.names)
        return find_images_in_test(learned, self.test.names, self.copies)

    @property
    def copies_in_classes(self) -> EqualImages:
        """Training and validation images that are in several classes."""
        parts = self.train, self.validation
        names = [name for part in parts for name in part.names]
        labels = [label for part in parts for label in part.labels]
        return find_images_in_classes(NamedImages(names, labels), self.copies)


@dataclass(frozen=True, slots=True)
class _Sample:
    """An image that is not decoded yet."""

    name: str
    label: int
    source: Path | int  # a file, or a row of torchvision's
    digest: bytes | None = None  # SHA-256 of the row; None for a file


class _AllSamples(NamedTuple):
    """All images of a data set; both lists are the same if it is not divided."""

    learned: list[_Sample]
    test: list[_Sample]


def load_class_images(
    folders: ClassFolders,
    settings: ListSettings,
    *,
    cpus: int,
    stop: threading.Event,
    most_bytes: int = MOST_BYTES,
) -> ClassLists:
    """Read the data set's images.

    Raises:
        DataError: a class without images, an image that cannot be decoded, or more of them than
            memory may hold.
        JobError: stopped.
    """
    found = _list_samples(folders)
    lists = _divide_samples(folders, found, settings, {})
    _refuse_too_many(sum(map(len, lists.values())), settings.size, most_bytes)
    threads = settings.num_threads or cpus
    if threads == "auto":
        threads = cpus + sum(spare_cores(cpus))
    # the draw of the test needs the copies of all images; in its own folder it is drawn already
    compared = [*lists["train"], *lists["validation"], *lists["test"]]
    digests = _digests(compared if folders.divided else found.learned, threads, stop)
    if copies := find_copies(digests):
        lists = _divide_samples(folders, found, settings, copies)
    read = {
        name: _read(folders, samples, settings.size, threads, stop)
        for name, samples in lists.items()
    }
    all_lists = ClassLists(**read, names=folders.names, copies=copies)
    _warn_of_copies(all_lists)
    return all_lists


def _warn_of_copies(lists: ClassLists) -> None:
    if (equal := lists.copies_in_test).images:
        log.warning(
            "test_images=%d of=%d are copies of training images, such as %s. The test and membership "
            "inference measure trained images. Remove one file of each pair.",
            equal.images,
            len(lists.test),
            equal.example,
        )
    if (equal := lists.copies_in_classes).images:
        log.warning(
            "training_images=%d are in several classes, such as %s. Remove the wrong file of each pair.",
            equal.images,
            equal.example,
        )


@dataclass(frozen=True)
class ClassPixels:
    """Images as unlearning reads them: shuffled and augmented in epochs, in order otherwise."""

    images: ClassImageList
    settings: PassSettings
    device: str = "cpu"

    @cached_property
    def identity(self) -> str:
        """A checksum of the images and of their transforms."""
        settings = self.settings
        return f"{self.images.sha256}/{settings.flip}/{settings.crop}/{settings.seed}"

    @cached_property
    def _device_pixels(self) -> Tensor:
        pixels = self.images.pixels
        return pixels.to(self.device) if pixels.numel() <= HELD_BYTES else pixels

    @cached_property
    def source(self) -> ExampleSource:
        """The images as they are trained and as they are tested."""
        settings = self.settings
        return ExampleSource(
            train_loader=Loader(
                dataset=RowSet(len(self.images), self._augment_epoch),
                batch_size=settings.batch_size,
                order=JOIN_SINGLE._replace(seed=settings.seed),
            ),
            test_loader=Loader(
                dataset=RowSet(len(self.images), lambda _: self._read),
                batch_size=TEST_BATCH_SIZE,
                order=JOIN_SINGLE,
            ),
            identify=lambda: self.identity,
        )

    def _read(self, places: Tensor) -> Tensor:
        pixels = self._device_pixels
        return pixels[places.to(pixels.device, non_blocking=True)]

    def _augment_epoch(self, epoch: int) -> Read:
        """Return a function that reads images, flipped and shifted by epoch and their order."""
        flip, crop = self.settings.flip, self.settings.crop
        rng = torch_rng(f"augment/{epoch}", self.settings.seed)
        return lambda places: random_flip_and_shift(self._read(places), rng, flip=flip, crop=crop)

    def examples(self, positions: Sequence[int] | None = None) -> Examples:
        """Return the images at some positions, or all if None, with their labels."""
        chosen = tuple(range(len(self.images)) if positions is None else positions)
        labels = tuple(self.images.labels[position] for position in chosen)
        return Examples(source=self.source, positions=chosen, trained=labels, true=labels)


def random_flip_and_shift(batch: Tensor, rng: torch.Generator, *, flip: bool, crop: bool) -> Tensor:
    """Return images (B, 3, S, S) flipped and shifted at random, each on its own; black comes in."""
    count, _, side, _ = batch.shape
    if flip:
        mirrored = (torch.rand(count, generator=rng) < 0.5).to(batch.device, non_blocking=True)
        batch = torch.where(mirrored[:, None, None, None], batch.flip(-1), batch)
    margin = side // MARGIN
    if crop and margin:
        padded = functional.pad(batch, (margin,) * 4)
        moved = torch.randint(2 * margin + 1, (2, count, 1), generator=rng)
        places = moved + torch.arange(side)
        rows, columns = places.to(batch.device, non_blocking=True)  # (B, S) each
        images = torch.arange(count, device=batch.device)[:, None, None]
        # two indices with a slice between them move the slice to the end
        taken = padded[images, :, rows[:, :, None], columns[:, None, :]]  # (B, S, S, 3)
        batch = taken.permute(0, 3, 1, 2)
    return batch


def _list_samples(folders: ClassFolders) -> _AllSamples:
    if folders.divided:
        return _AllSamples(_samples(folders, "train"), _samples(folders, "test"))
    samples = _samples(folders, "")
    return _AllSamples(samples, samples)


def _divide_samples(
    folders: ClassFolders,
    all_samples: _AllSamples,
    settings: ListSettings,
    copies: Mapping[str, str],
) -> dict[str, list[_Sample]]:
    """Return the samples of each list."""
    most, seed = settings.images_per_class, settings.seed
    test, train_and_validation = all_samples.test, all_samples.learned
    if not folders.divided:
        stream = f"test/{settings.split_seed}"
        test, train_and_validation = _part_samples(all_samples.learned, TEST, stream, copies)
    test, train_and_validation = (
        _limit_per_class(test, most),
        _limit_per_class(train_and_validation, most),
    )
    stream = f"validation/{seed}"
    validation, train = _part_samples(train_and_validation, VALIDATION, stream, copies)
    for noun, samples, every in (
        ("training", train, all_samples.learned),
        ("test", test, all_samples.test),
    ):
        empty = set(range(len(folders.names))) - {sample.label for sample in samples}
        if empty:
            label = min(empty)
            names = [sample.name for sample in every if sample.label == label]
            count = len({copies.get(name, name) for name in names})
            # one image of a class goes to each list
            least = 3 if not folders.divided else 2 if noun == "training" else 1
            raise DataError(
                f"{folders.root} has too few images of class {folders.names[label]!r} for the {noun} list: "
                + _remedy(folders, count, least, most, has_copies=count < len(names))
            )
    return {"train": train, "validation": validation, "test": test}


def _remedy(folders: ClassFolders, count: int, least: int, most: int, *, has_copies: bool) -> str:
    if count >= least and not most:
        return "they are copies of images of other classes. Remove the copies."
    if count >= least:
        return f"images_per_class {most} is too small. Use at least 2, or 0 for all."
    how = (
        "Get the files again" if folders.packed else "Add images, or remove the folder of the class"
    )
    once = " Copies of an image count once." if has_copies else ""
    return f"{count}, and at least {least} are needed.{once} {how}."


class _VisibleFolders(ImageFolder):  # type: ignore[misc]  # torchvision has no types
    """torchvision's ImageFolder without hidden folders, such as .ipynb_checkpoints, as classes."""

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        """Return the names of the classes, and the number of each."""
        names = class_folders(Path(directory))
        if not names:
            raise FileNotFoundError(f"no class folder in {directory}")
        return list(names), {name: number for number, name in enumerate(names)}


def _samples(folders: ClassFolders, part: str) -> list[_Sample]:
    if folders.packed:
        rows, labels = _read_packed(folders, part)
        return [
            _Sample(f"{part}/{at:05}", label, at, sha256_digest([row.tobytes()]))
            for at, (row, label) in enumerate(zip(rows, labels, strict=True))
        ]
    folder = folders.root / part
    others: Counter[str] = Counter()

    def is_wanted(path: str) -> bool:
        *above, name = path.removeprefix(f"{folder}/").split("/")
        if any(directory.startswith(".") for directory in above):
            return False
        if not (is_used := is_image(name)) and not name.startswith("."):
            others[suffix(name)] += 1
        return is_used

    try:
        dataset = _VisibleFolders(folder, is_valid_file=is_wanted)
    except FileNotFoundError as error:  # also where a class has no image
        instead = f" Ignored {describe_suffixes(others)}; {READ}." if others else ""
        raise DataError(
            f"cannot read the classes in {folder}: {str(error).rstrip(' .')}.{instead} "
            "Each class needs a folder with images. Add images, or remove the folder of the class."
        ) from error
    if others:
        log.warning("folder=%s passed_over=%s; %s", folder, describe_suffixes(others), READ)
    if tuple(dataset.classes) != folders.names:
        other = sorted(set(dataset.classes) ^ set(folders.names))
        raise DataError(f"{folder} and train/ have different classes: {', '.join(other)}")
    samples = [
        _Sample(Path(path).relative_to(folders.root).as_posix(), label, Path(path))
        for path, label in dataset.samples
    ]
    return _listed_faces(folders, samples) if folders.dataset_type == "vggface2" else samples


def _listed_faces(folders: ClassFolders, samples: list[_Sample]) -> list[_Sample]:
    """Return the images of VGGFace2 that its own list names; all without a list.

    Raises:
        DataError: images of the people here are missing.
    """
    top = folders.root.parent
    file = next((top / name for name in FACE_LISTS if (top / name).is_file()), None)
    if file is None or folders.divided:
        return samples
    with file.open(encoding="utf-8", errors="replace") as lines:
        names = frozenset(folders.names)
        listed = {name for line in lines if (name := line.strip()).partition("/")[0] in names}
    if missing := listed.difference(sample.name for sample in samples):
        raise DataError(
            f"{file} lists {len(missing)} images that {folders.root} does not have, such as "
            f"{min(missing)}. Unpack the archive again, or remove the list."
        )
    found = [sample for sample in samples if sample.name in listed]
    if len(found) < len(samples):
        log.warning("file=%s unlisted=%d are ignored", file, len(samples) - len(found))
    return found


def _read_packed(folders: ClassFolders, part: str) -> tuple[np.ndarray, list[int]]:
    """Return the arrays of a data set's own files, (N, H, W, 3) or (N, H, W) uint8, and labels."""
    if folders.dataset_type == "fashion":
        folder = packed_folder(folders.dataset_type, folders.root) or folders.root
        return read_idx_set(folder, part, len(folders.names))
    try:
        dataset = CIFAR10(folders.root, train=part == "train", download=False)
    except (RuntimeError, OSError, ValueError, EOFError) as error:
        folder = folders.root / CLASS_DATASET_TYPES[folders.dataset_type].packed
        raise DataError(f"cannot read torchvision's files in {folder}: {error}") from error
    return np.asarray(dataset.data), [int(label) for label in dataset.targets]


def _limit_per_class(samples: Sequence[_Sample], most: int) -> list[_Sample]:
    """Return a number of samples of each class, always the same ones, or all if 0."""
    if most == 0:
        return list(samples)
    return _sample_per_class(samples, lambda _: most, "images", {})[0]


def _part_samples(
    samples: Sequence[_Sample], fraction: float, stream: str, copies: Mapping[str, str]
) -> tuple[list[_Sample], list[_Sample]]:
    """Return a fraction of each class's images, one at least, and the rest, both in order."""
    return _sample_per_class(samples, lambda count: max(1, round(fraction * count)), stream, copies)


def _sample_per_class(
    samples: Sequence[_Sample],
    count: Callable[[int], int],
    stream: str,
    copies: Mapping[str, str],
) -> tuple[list[_Sample], list[_Sample]]:
    """Return the samples of some images of each class, with their copies in all classes, and the rest."""
    images = [copies.get(sample.name, sample.name) for sample in samples]
    by_class: dict[int, dict[str, None]] = {}
    for sample, image in zip(samples, images, strict=True):
        by_class.setdefault(sample.label, {})[image] = None
    drawn: set[str] = set()
    for label, members in by_class.items():
        rng = python_rng(f"{stream}/{label}", 0)
        drawn.update(rng.sample(list(members), min(count(len(members)), len(members))))
    chosen: list[_Sample] = []
    others: list[_Sample] = []
    for sample, image in zip(samples, images, strict=True):
        (chosen if image in drawn else others).append(sample)
    return chosen, others


def _refuse_too_many(count: int, size: int, most: int) -> None:
    need = count * 3 * size * size
    if need > most:
        raise DataError(
            f"{count} images of {size} pixels need {need / (1 << 30):.1f} GiB of memory, but at "
            f"most {most / (1 << 30):.1f} GiB are allowed. Use a smaller size or images_per_class."
        )


def _read(
    folders: ClassFolders,
    samples: Sequence[_Sample],
    size: int,
    threads: int,
    stop: threading.Event,
) -> ClassImageList:
    pixels = torch.empty((len(samples), 3, size, size), dtype=torch.uint8)
    rows = enumerate(_decode_samples(folders, samples, size, threads, stop))
    for row, image in rows:
        pixels[row] = image
    return ClassImageList(
        pixels=pixels,
        labels=tuple(sample.label for sample in samples),
        names=tuple(sample.name for sample in samples),
    )


def _decode_samples(
    folders: ClassFolders,
    samples: Sequence[_Sample],
    size: int,
    threads: int,
    stop: threading.Event,
) -> Iterator[Tensor]:
    arrays = (
        {part: _read_packed(folders, part)[0] for part in ("train", "test")}
        if folders.packed
        else {}
    )

    def image(sample: _Sample) -> Tensor:
        if isinstance(sample.source, int):
            return _fit_to_square(arrays[sample.name.partition("/")[0]][sample.source], size)
        try:
            return _fit_to_square(decode(sample.source).permute(1, 2, 0).numpy(), size)
        except BadImageError as error:
            raise DataError(
                f"cannot decode {error.path}: {error.reason}. Fix or remove the file."
            ) from error

    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(samples), GROUP):
            if stop.is_set():
                raise JobError(STOPPED)
            yield from pool.map(image, samples[start : start + GROUP])


def _digests(
    samples: Sequence[_Sample], threads: int, stop: threading.Event
) -> Iterator[tuple[str, bytes | None]]:
    """Yield name and digest of each sample that may have copies; None for an unreadable file."""

    def size(sample: _Sample) -> int | None:
        if isinstance(sample.source, int):
            return None
        try:
            return sample.source.stat().st_size
        except OSError:  # the job fails when it decodes the file
            return None

    def digest(sample: _Sample) -> bytes | None:
        if isinstance(sample.source, int):
            return sample.digest
        try:
            return sha256_digest([sample.source.read_bytes()])
        except OSError:  # as above
            return None

    sizes = _map_groups(size, samples, threads, stop)
    shared = {each for each, count in Counter(sizes).items() if count > 1}
    alike = [each for each, of in zip(samples, sizes, strict=True) if of in shared]
    digests = _map_groups(digest, alike, threads, stop)
    yield from zip((sample.name for sample in alike), digests, strict=True)


def _map_groups(
    read: Callable[[_Sample], T], samples: Sequence[_Sample], threads: int, stop: threading.Event
) -> list[T]:
    """Return what `read` returns for each sample, in order; a thread reads a group, as one file takes microseconds.

    Raises:
        JobError: stopped.
    """

    def read_group(start: int) -> list[T]:
        if stop.is_set():
            raise JobError(STOPPED)
        return [read(sample) for sample in samples[start : start + GROUP]]

    with ThreadPoolExecutor(threads) as pool:
        groups = pool.map(read_group, range(0, len(samples), GROUP))
        return [each for group in groups for each in group]


def _fit_to_square(image: np.ndarray, size: int) -> Tensor:
    """Return an image (H, W, 3) or (H, W) as (3, S, S): its middle square, resized."""
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    if image.shape[:2] != (size, size):
        picture = PIL.Image.fromarray(np.ascontiguousarray(image))
        image = np.asarray(PIL.ImageOps.fit(picture, (size, size), PIL.Image.Resampling.BILINEAR))
    return torch.from_numpy(np.array(image).transpose(2, 0, 1))
