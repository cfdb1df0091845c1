"""Which images a data ID means on this disk, in one defined order.

    <root>/<modifier folder>/{Real,Fake}/<Method>/[<Subset>/…]<name>.{png,jpg,jpeg}

The order is: parts as written in the ID; modifiers in the order of their table; folders sorted;
files sorted by name. It does not depend on the file system, because the choice of poisoned
images is a choice of positions in it.
"""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from launcher.api import DataId, Part
from trueface.errors import DataError
from trueface.subsets import MODIFIERS, SUBSETS, method_folders, modifier_keys, subset_keys

SUFFIXES = frozenset({"png", "jpg", "jpeg"})
CLASSES = {"fake": 1, "real": 0}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image file and what its place in the tree says of it."""

    file: str  # as a text: making 200,000 paths takes longer than listing their folders
    key: str  # path below Real/ or Fake/ without suffix: "StyleGAN2/conf-f-psi-1/00012"
    label: int  # 1 fake, 0 real
    method: str  # first folder below Real/ or Fake/: "StyleGAN2"
    modifier: str  # "pre", "fb", "tl", "tw" or "none"

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.file)

    @property
    def name(self) -> str:
        """Modifier and key: the same key exists once under every modifier."""
        return f"{self.modifier}:{self.key}"


def list_images(data_root: Path, data: DataId) -> tuple[Image, ...]:
    """Return every image of `data` below `data_root` in the defined order, each file once.

    Raises:
        DataError: no such folder, or a part of the ID has no image.
        UnknownName: an unknown subset or modifier.
    """
    return tuple(image for images in list_parts(data_root, data).values() for image in images)


def list_parts(data_root: Path, data: DataId) -> dict[Part, tuple[Image, ...]]:
    """Return the images of each part of `data`; an image of two parts stands in the first only.

    Raises:
        DataError: no such folder, or a part of the ID has no image.
        UnknownName: an unknown subset or modifier.
    """
    if not data_root.is_dir():
        raise DataError(f"no data folder {data_root}; make one with: trueface sample {data_root}")
    parts: dict[Part, tuple[Image, ...]] = {}
    seen: set[str] = set()
    for part in dict.fromkeys(data):
        images = list_part(data_root, part)
        if not images:
            looked_in = ", ".join(str(folder) for folder in _looked_in(data_root, part))
            raise DataError(f"no image of {part} in {looked_in}")
        parts[part] = tuple(image for image in images if image.file not in seen)
        seen.update(image.file for image in parts[part])
    return parts


def list_part(data_root: Path, part: Part) -> tuple[Image, ...]:
    """Return the images of one part in the defined order; empty when there is none.

    Raises:
        DataError: both layouts hold a folder for the same modifier.
        UnknownName: an unknown subset or modifier.
    """
    methods = method_folders(part.subset)
    images: list[Image] = []
    for modifier in modifier_keys(part.modifier):
        folder = modifier_folder(data_root, modifier)
        if folder is None:
            log.info("part=%s modifier=%s reason=no such folder", part, modifier)
            continue
        images += _modifier_images(folder, modifier, methods)
    return tuple(images)


def parts_without_folder(data_root: Path, data: DataId) -> Iterator[tuple[Part, Path]]:
    """Yield each part of `data` that has no folder below `data_root`, and where one could be.

    No image is looked for, so that a plan of many jobs stays quick.

    Raises:
        UnknownName: an unknown subset or modifier.
    """
    for part in dict.fromkeys(data):
        names = [name for modifier in modifier_keys(part.modifier) for name in MODIFIERS[modifier]]
        methods = method_folders(part.subset)
        if not any(_holds(data_root / name, methods) for name in names):
            class_name = "Real" if "real" in part.subset else "Fake"
            method = SUBSETS[subset_keys(part.subset)[0]]
            yield part, data_root / names[0] / class_name / method


def _holds(folder: Path, methods: frozenset[str]) -> bool:
    if not folder.is_dir():
        return False
    classes = [name for name in _folders(folder) if name.casefold() in CLASSES]
    return any((folder / name / method).is_dir() for name in classes for method in methods)


def modifier_folder(data_root: Path, modifier: str) -> Path | None:
    """Return the folder of an elementary modifier in whichever layout is there, or None.

    Raises:
        DataError: both layouts are there, so that a choice would be a guess.
    """
    there = [data_root / name for name in MODIFIERS[modifier] if (data_root / name).is_dir()]
    if len(there) > 1:
        raise DataError(f"two folders for modifier {modifier!r}: {there[0]} and {there[1]}")
    return there[0] if there else None


def _looked_in(data_root: Path, part: Part) -> Iterator[Path]:
    for modifier in modifier_keys(part.modifier):
        yield modifier_folder(data_root, modifier) or data_root / MODIFIERS[modifier][0]


def _modifier_images(folder: Path, modifier: str, methods: frozenset[str]) -> Iterator[Image]:
    for class_name in _folders(folder):
        label = CLASSES.get(class_name.casefold())
        if label is None:
            continue
        class_folder = folder / class_name
        for method in _folders(class_folder):
            if method not in methods:
                continue
            for below, names in _walk(class_folder / method, method, ()):
                above = f"{class_folder}/{below}"
                for name in names:
                    yield Image(
                        file=f"{above}/{name}",
                        key=f"{below}/{name.rpartition('.')[0]}",
                        label=label,
                        method=method,
                        modifier=modifier,
                    )


def _folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir())


def _walk(
    folder: Path, below: str, above: tuple[tuple[int, int], ...]
) -> Iterator[tuple[str, list[str]]]:
    """Yield (path below the class folder, names of image files) of a folder and those in it.

    Links are followed, but never in a circle.
    """
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        log.warning("folder=%s reason=link leads back to a folder above it, left out", folder)
        return
    folders, names = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith("."):
                continue
            if name.rpartition(".")[2].lower() in SUFFIXES:
                names.append(name)
            elif entry.is_dir():
                folders.append(name)
    yield below, sorted(names)
    for name in sorted(folders):
        yield from _walk(folder / name, f"{below}/{name}", (*above, here))
