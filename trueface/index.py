"""Which images a data ID means on this disk, in one defined order.

    <root>/<modifier folder>/{Real,Fake}/[<Method>/[<Subset>/…]]<name>.{png,jpg,jpeg}

The order is: parts as written in the ID; modifiers in the order of their table; folders sorted;
files sorted by name. It does not depend on the file system, because the choice of poisoned
images is a choice of positions in it.
"""

import glob
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from launcher.api import DataId, Part
from trueface.errors import DataError
from trueface.subsets import BUILT_IN, MODIFIERS, Methods, Vocabulary, names_real

SUFFIXES = frozenset({"png", "jpg", "jpeg"})
CLASSES = {"fake": 1, "real": 0}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image file and what its place in the tree says of it."""

    file: str  # as a text: making 200,000 paths takes longer than listing their folders
    key: str  # path below Real/ or Fake/ without suffix: "StyleGAN2/conf-f-psi-1/00012"
    label: int  # 1 fake, 0 real
    method: str  # first folder below Real/ or Fake/: "StyleGAN2"; "" where there is none
    modifier: str  # "pre", "fb", "tl", "tw", "none" or a word of the user's for other folders

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.file)

    @property
    def name(self) -> str:
        """Modifier and key: the same key exists once under every modifier."""
        return f"{self.modifier}:{self.key}"


def list_images(
    data_root: Path, data: DataId, vocabulary: Vocabulary = BUILT_IN
) -> tuple[Image, ...]:
    """Return every image of `data` below `data_root` in the defined order, each file once.

    Raises:
        DataError: no such folder, or a part of the ID has no image.
        UnknownName: an unknown subset or modifier.
    """
    parts = list_parts(data_root, data, vocabulary)
    return tuple(image for images in parts.values() for image in images)


def list_parts(
    data_root: Path, data: DataId, vocabulary: Vocabulary = BUILT_IN
) -> dict[Part, tuple[Image, ...]]:
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
        images = list_part(data_root, part, vocabulary)
        if not images:
            looked_in = ", ".join(map(str, _looked_in(data_root, part, vocabulary)))
            raise DataError(f"no image of {part} in {looked_in}")
        parts[part] = tuple(image for image in images if image.file not in seen)
        seen.update(image.file for image in parts[part])
    return parts


def list_part(data_root: Path, part: Part, vocabulary: Vocabulary = BUILT_IN) -> tuple[Image, ...]:
    """Return the images of one part in the defined order; empty when there is none.

    Raises:
        DataError: both layouts hold a folder for the same modifier.
        UnknownName: an unknown subset or modifier.
    """
    methods = vocabulary.methods(part.subset)
    images: list[Image] = []
    for modifier in vocabulary.modifier_keys(part.modifier):
        folders = modifier_folders(data_root, modifier, vocabulary)
        if not folders:
            log.info("part=%s modifier=%s reason=no such folder", part, modifier)
        for folder in folders:
            images += _modifier_images(folder, vocabulary.modifier_name(modifier), methods)
    return tuple(images)


def parts_without_folder(
    data_root: Path, data: DataId, vocabulary: Vocabulary = BUILT_IN
) -> Iterator[tuple[Part, Path]]:
    """Yield each part of `data` that has no folder below `data_root`, and where one could be.

    No image is looked for, so that a plan of many jobs stays quick; but for those without a method
    folder, of which the first is looked for. A folder that cannot be looked at is not there.

    Raises:
        UnknownName: an unknown subset or modifier.
    """
    for part in dict.fromkeys(data):
        methods = vocabulary.methods(part.subset)
        names = list(_names(part, vocabulary))
        folders = (folder for name in names for folder in _matching(data_root, name))
        if not any(_seems_to_hold(folder, methods) for folder in folders):
            class_name = "Real" if names_real(part.subset) or methods.flat == {0} else "Fake"
            # no folder is called *.png: what stands for images that are not there is not there
            yield part, data_root / names[0] / class_name / (*methods.folders, "*.png")[0]


def modifier_folders(
    data_root: Path, modifier: str, vocabulary: Vocabulary = BUILT_IN
) -> tuple[Path, ...]:
    """Return the folders of an elementary modifier that are there.

    The laboratory's own have one folder, in whichever layout; a user's may have several.

    Raises:
        DataError: both layouts are there, so that a choice would be a guess.
    """
    own = vocabulary.own_folders(modifier)
    names = MODIFIERS[modifier] if own is None else own
    there = tuple(dict.fromkeys(one for name in names for one in _matching(data_root, name)))
    if own is None and len(there) > 1:
        raise DataError(f"two folders for modifier {modifier!r}: {there[0]} and {there[1]}")
    return there


def _names(part: Part, vocabulary: Vocabulary) -> Iterator[str]:
    for modifier in vocabulary.modifier_keys(part.modifier):
        own = vocabulary.own_folders(modifier)
        yield from MODIFIERS[modifier] if own is None else own


def _matching(data_root: Path, name: str) -> Iterator[Path]:
    """Yield the folder of that name, or those that the pattern `name` finds."""
    # os.path.isdir, as Path.is_dir raises for a name that no file system takes
    if os.path.isdir(data_root / name):  # noqa: PTH112
        yield data_root / name
    elif glob.has_magic(name):
        for found in sorted(glob.glob(name, root_dir=data_root)):  # noqa: PTH207  # Path.glob refuses patterns such as a**
            if (data_root / found).is_dir():
                yield data_root / found


def _seems_to_hold(folder: Path, methods: Methods) -> bool:
    """Tell whether a folder holds any of the methods; not if it cannot be looked at."""
    try:
        return _holds(folder, methods)
    except (OSError, ValueError):
        return False


def _holds(folder: Path, methods: Methods) -> bool:
    classes = [name for name in _folders(folder) if name.casefold() in CLASSES]
    if any((folder / name / one).is_dir() for name in classes for one in methods.folders):
        return True
    patterns = any(map(glob.has_magic, methods.folders))
    return any(
        (patterns and any(map(methods.holds, _folders(folder / name))))
        or (CLASSES[name.casefold()] in methods.flat and _has_image(folder / name))
        for name in classes
    )


def _looked_in(data_root: Path, part: Part, vocabulary: Vocabulary) -> Iterator[Path]:
    for modifier in vocabulary.modifier_keys(part.modifier):
        there = modifier_folders(data_root, modifier, vocabulary)
        own = vocabulary.own_folders(modifier)
        yield from there or (data_root / (MODIFIERS[modifier] if own is None else own)[0],)


def _modifier_images(folder: Path, modifier: str, methods: Methods) -> Iterator[Image]:
    for class_name in _folders(folder):
        label = CLASSES.get(class_name.casefold())
        if label is None:
            continue
        class_folder = folder / class_name
        if label in methods.flat:
            for name in _image_names(class_folder):
                yield Image(
                    file=f"{class_folder}/{name}",
                    key=name.rpartition(".")[0],
                    label=label,
                    method="",
                    modifier=modifier,
                )
        for method in filter(methods.holds, _folders(class_folder)):
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


def _image_names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if _is_image(entry.name))


def _has_image(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(_is_image(entry.name) for entry in entries)


def _is_image(name: str) -> bool:
    return name.rpartition(".")[2].lower() in SUFFIXES and not name.startswith(".")


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
            if _is_image(name):
                names.append(name)
            elif entry.is_dir():
                folders.append(name)
    yield below, sorted(names)
    for name in sorted(folders):
        yield from _walk(folder / name, f"{below}/{name}", (*above, here))
