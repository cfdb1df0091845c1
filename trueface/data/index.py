"""Finds the images of a data ID on disk, in one defined order.

    <root>/<modifier folder>/{Real,Fake}/[<Method>/[<Subset>/…]]<name>.{png,jpg,webp,…}

The order is: parts as written in the ID, modifiers in the order of their table, folders sorted,
files sorted by name. It does not depend on the file system, because the choice of poisoned images
is a choice of positions in it.

The content of folders is cached (see `folders.FolderListing`).
"""

import logging
import math
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

from trueface.data.folders import READ, FolderListing, describe_suffixes, is_image, open_listing
from trueface.data.image_folders import (
    CLASSES,
    KeyedFolder,
    list_image_folders,
    matching,
    modifier_folders,
)
from trueface.data.vocabulary import BUILT_IN, DataIdResolver, Methods, names_real
from trueface.runtime.errors import DataError
from trueface.runtime.files import link_target
from trueface.runtime.ids import DataId, Part

log = logging.getLogger(__name__)


SHAPE = "PreSocial/Real and PreSocial/Fake, or Real and Fake"
SHOWN = 3  # examples in a message


class Image(NamedTuple):
    """One image file, or the frames of a clip, and what its place in the tree says of it.

    A NamedTuple, as 200,000 of them are made in half the time that dataclasses take.
    """

    file: str  # as a text: making 200,000 paths takes longer than listing their folders
    key: str  # path below Real/ or Fake/ without suffix: "StyleGAN2/conf-f-psi-1/00012"
    label: int  # 1 fake, 0 real
    method: str  # first folder below Real/ or Fake/: "StyleGAN2"; "" where there is none
    modifier: str  # "pre", "fb", "tl", "tw", "none" or a word of the user's for other folders
    frames: tuple[str, ...] = ()  # files of a clip in order, `file` the first; (): a single image

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.file)

    @property
    def name(self) -> str:
        """Modifier and key: the same key exists once under every modifier."""
        return f"{self.modifier}:{self.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSurvey:
    """The images of a data ID that are on disk."""

    # by part; an image of two parts is in the first only
    parts: Mapping[Part, tuple[Image, ...]]
    # by modifier, as images name it: the method folders that are there, even empty ones; "" stands
    # for the images without one, where those of both labels are meant
    methods: Mapping[str, frozenset[str]]
    passed_over: Mapping[str, int]  # files in the folders that are not images: suffix → number
    twins: tuple[str, ...]  # HEIC and AVIF files that are left out, because another format is there
    broken: tuple[str, ...]  # links below the data root that lead nowhere, in place of folders
    links: frozenset[str]  # files of images that are links, wherever these lead
    # folders with images below the data root that no subset names, though all of a class are meant
    unnamed: tuple[str, ...] = ()

    @property
    def images(self) -> tuple[Image, ...]:
        """All images in the defined order."""
        return tuple(image for images in self.parts.values() for image in images)

    def without_files(self, files: Collection[str]) -> "ImageSurvey":
        """Return the same without the images of some files."""
        return replace(
            self,
            parts={
                part: tuple(image for image in images if image.file not in files)
                for part, images in self.parts.items()
            },
        )

    @property
    def remarks(self) -> Iterator[str]:
        """Yield sentences about ignored files and links, and about files with equal keys."""
        if self.passed_over:
            count = sum(self.passed_over.values())
            yield f"{count} files ignored: {describe_suffixes(self.passed_over)}; {READ}"
        if self.broken:
            count, shown = len(self.broken), ", ".join(self.broken[:SHOWN])
            yield f"{count} broken links ignored: {shown}{', …' * (count > SHOWN)}"
        if self.twins:
            count, shown = len(self.twins), ", ".join(self.twins[:SHOWN])
            yield (
                f"{count} HEIC or AVIF files ignored, because their folder has the same image in another "
                f"format, such as {shown}"
            )
        if self.unnamed:
            count, shown = len(self.unnamed), ", ".join(self.unnamed[:SHOWN])
            yield (
                f"{'1 folder with images belongs' if count == 1 else f'{count} folders with images belong'} to no "
                f"subset and {'is' if count == 1 else 'are'} left out: {shown}{', …' * (count > SHOWN)}. Give each a word, such as subsets: "
                f"{{myset: [{self.unnamed[0].rpartition('/')[2]}]}}"
            )
        if twice := self._double_names:
            count, shown = len(twice), ", ".join(twice[:SHOWN])
            yield (
                f"{count} files have the same key as another file in their folder, such as "
                f"{shown}. They count as separate images. Keep one format of each."
            )

    @property
    def _double_names(self) -> list[str]:
        """Files of a name that another file of the same folder has, in another format."""
        images = self.images
        stems = Counter(image.file.rpartition(".")[0] for image in images)
        if len(stems) == len(images):
            return []
        return [image.file for image in images if stems[image.file.rpartition(".")[0]] > 1]


def survey(
    data_root: Path,
    data: DataId,
    vocabulary: DataIdResolver = BUILT_IN,
    listing: FolderListing | None = None,
) -> ImageSurvey:
    """Find the images of `data` below `data_root`, in the defined order.

    Args:
        data_root: the data root.
        data: the requested images.
        vocabulary: the meaning of the words of `data`, and the layout of the folders.
        listing: the content of the folders. Default: the index in the user's cache.

    Raises:
        DataError: no such folder, or a part of the ID has no image.
        UnknownName: an unknown subset or modifier.
    """
    if not data_root.is_dir():
        raise DataError(
            f"data folder {data_root} does not exist. Name the folder that contains {SHAPE}. Make "
            "synthetic images for a first test: trueface sample DIR"
        )
    listing = open_listing(data_root) if listing is None else listing
    parts: dict[Part, tuple[Image, ...]] = {}
    methods: dict[str, set[str]] = defaultdict(set)
    others: Counter[str] = Counter()
    broken: dict[str, None] = {}
    links: set[str] = set()
    twins: list[str] = []
    unnamed: set[str] = set()
    seen: set[str] = set()  # folders: whichever part names one has all its images
    places: dict[tuple[int, int], str] = {}
    for part in dict.fromkeys(data):
        there = list(list_image_folders(data_root, part, vocabulary, listing, unnamed))
        broken |= {folder.path: None for folder in there if _leads_nowhere(folder)}
        image_folders = [folder for folder in there if not folder.broken]
        if not any(folder.names for folder in image_folders):
            raise DataError(_no_image(data_root, part, vocabulary, there))
        images: list[Image] = []
        for folder in image_folders:
            methods[folder.modifier].add(folder.method or f"/{folder.label}")
            if folder.path not in seen:
                seen.add(folder.path)
                others.update(folder.others)
                if (
                    first := places.setdefault(folder.device_and_inode, folder.path)
                ) != folder.path:
                    # not left out: a split may have the keys of either, or of both
                    log.warning(
                        "folder=%s same=%s images=%d reason=a link: each image counts twice, and "
                        "with two keys it can be in two lists. Remove one of them.",
                        folder.path, first, len(folder.names),
                    )  # fmt: skip
                images += _images(folder)
                twins += [f"{folder.path}/{name}" for name in sorted(folder.twins)]
                links.update(f"{folder.path}/{name}" for name in folder.links)
        parts[part] = tuple(images)
    listing.save_listing()
    return ImageSurvey(
        parts=parts,
        methods={name: _find_whole_folders(names) for name, names in methods.items()},
        passed_over=dict(others),
        twins=tuple(twins),
        broken=tuple(broken),
        links=frozenset(links),
        unnamed=tuple(sorted(unnamed)),
    )


def dangling_links(files: Iterable[str], links: Collection[str]) -> list[str]:
    """Return the files among `files` that are links to nothing that can be read.

    Only links are looked at: the listing of its folder shows that any other file is there.

    Args:
        files: of images, as `Image.file`.
        links: files that are links, as `ImageSurvey.links`.
    """
    # os.path, as a Path for each of 200,000 takes longer than to look at its file
    return [file for file in files if file in links and not os.path.exists(file)]  # noqa: PTH110


MOST_LINKS = 2_000  # links of one job that a plan looks at; they take about 5 ms on a local disk


def link_fraction(folders: Iterable[KeyedFolder]) -> float:
    """Return the fraction of the links in some folders that a plan looks at."""
    return min(1.0, MOST_LINKS / max(1, sum(len(folder.links) for folder in folders)))


def sample_dangling(folder: KeyedFolder, fraction_read: float) -> dict[str, str]:
    """Return the images of a folder that are links to nothing, by key; only a share of its links is read."""
    links = sorted(folder.links)
    count = math.ceil(len(links) * fraction_read)
    names = [links[at * len(links) // count] for at in range(count)]
    files = {f"{folder.path}/{name}": name for name in names}
    return {
        folder.below + files[file].rpartition(".")[0]: file
        for file in dangling_links(files, files.keys())
    }


def describe_links(dangling: Sequence[str]) -> str:
    """Return the first of some dangling links with its target: "a.png, which leads to /b/a.png"."""
    return f"{dangling[0]}, which points to {link_target(dangling[0])}"


def part_files(data_root: Path, part: Part, vocabulary: DataIdResolver = BUILT_IN) -> Iterator[str]:
    """Yield the file of every image of one part, whichever other part has it too.

    Raises:
        DataError: both layouts hold a folder for the same modifier.
        UnknownName: an unknown subset or modifier.
    """
    for folder in list_image_folders(data_root, part, vocabulary, open_listing(data_root)):
        yield from (f"{folder.path}/{name}" for name in folder.names)


def parts_without_folder(
    data_root: Path, data: DataId, vocabulary: DataIdResolver = BUILT_IN
) -> Iterator[tuple[Part, Path]]:
    """Yield each part of `data` without a folder below `data_root`, and possible locations.

    Images are not searched, so that a plan of many jobs stays fast. The exception are images
    without a method folder, of which the first is searched. An unreadable folder counts as missing.

    Raises:
        UnknownName: an unknown subset or modifier.
    """
    for part in dict.fromkeys(data):
        methods = vocabulary.methods(part.subset)
        names = list(_names(part, vocabulary))
        folders = (folder for name in names for folder in matching(data_root, name))
        if not any(_seems_to_hold(folder, methods) for folder in folders):
            class_name = "Real" if names_real(part.subset) or methods.flat == {0} else "Fake"
            # no folder is named *.png: a pattern for images that do not exist is missing
            yield part, data_root / names[0] / class_name / (*methods.folders, "*.png")[0]


def _leads_nowhere(folder: KeyedFolder) -> bool:
    # os.path, as a Path raises for what may not be looked at
    return folder.broken and not os.path.exists(folder.path)  # noqa: PTH110


def _no_image(
    data_root: Path, part: Part, vocabulary: DataIdResolver, image_folders: Sequence[KeyedFolder]
) -> str:
    """Return in words that a part has no image, and what there is in its place."""
    folders = list(_list_searched_folders(data_root, part, vocabulary))
    others = sum((Counter(folder.others) for folder in image_folders), Counter[str]())
    links = [folder.path for folder in image_folders if _leads_nowhere(folder)]
    instead = [f"{describe_suffixes(others)} ignored; {READ}"] if others else []
    instead += [f"{links[0]} is a broken link"] if links else []
    text = f"no images of {part} in {', '.join(map(str, folders))}"
    if not instead and not any(folder.is_dir() for folder in folders):
        does = "which does" if len(folders) == 1 else "which do"
        return f"{text}, {does} not exist. For other layouts: trueface import --help"
    return "; ".join([text, *instead])


def _names(part: Part, vocabulary: DataIdResolver) -> Iterator[str]:
    for modifier in vocabulary.modifier_keys(part.modifier):
        yield from vocabulary.folders(modifier)


def _seems_to_hold(folder: Path, methods: Methods) -> bool:
    """Return whether a folder contains any of the methods. False if it is unreadable."""
    try:
        return _holds(folder, methods)
    except (OSError, ValueError):
        return False


def _holds(folder: Path, methods: Methods) -> bool:
    for name in filter(lambda name: name.casefold() in CLASSES, os.listdir(folder)):  # noqa: PTH208  # names are enough
        if not os.path.isdir(folder / name):  # noqa: PTH112  # asked of every folder of a search
            continue
        has_flat = CLASSES[name.casefold()] in methods.flat
        with os.scandir(folder / name) as entries:
            for entry in entries:
                is_folder = entry.is_dir(follow_symlinks=False)
                if (has_flat and is_image(entry.name) and not is_folder) or (
                    methods.holds(entry.name) and entry.is_dir()
                ):
                    return True
    return False


def _list_searched_folders(
    data_root: Path, part: Part, vocabulary: DataIdResolver
) -> Iterator[Path]:
    for modifier in vocabulary.modifier_keys(part.modifier):
        there = modifier_folders(data_root, modifier, vocabulary)
        yield from there or (data_root / vocabulary.folders(modifier)[0],)


def _images(folder: KeyedFolder) -> Iterator[Image]:
    above, below = f"{folder.path}/", folder.below
    files = [above + name for name in folder.names]
    keys = [below + name.rpartition(".")[0] for name in folder.names]
    if any("\\" in key for key in keys):  # splits have slashes only
        keys = [key.replace("\\", "/") for key in keys]
    # without a call of Python for each: there may be 200,000
    facts = zip(
        files,
        keys,
        repeat(folder.label),
        repeat(folder.method),
        repeat(folder.modifier),
        repeat(()),
    )
    return map(partial(tuple.__new__, Image), facts)


def _find_whole_folders(names: set[str]) -> frozenset[str]:
    """Return method folders, and "" for both labels of images without one."""
    flat = {f"/{label}" for label in CLASSES.values()}
    return frozenset(names - flat | ({""} if flat <= names else set()))
