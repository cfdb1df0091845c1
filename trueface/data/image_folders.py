"""Folders with the images of a part of a data ID, in one defined order."""

import glob
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from trueface.data.folders import FolderListing, ListedFolder, phone_twins
from trueface.data.vocabulary import BUILT_IN, DataIdResolver, Methods
from trueface.runtime.errors import DataError
from trueface.runtime.ids import Part

log = logging.getLogger(__name__)


CLASSES = {"fake": 1, "real": 0}
# unions that mean every folder of these labels
WHOLE_CLASSES = {"all": frozenset({0, 1}), "real": frozenset({0})}


class KeyedFolder(NamedTuple):
    """One folder with images, or one that may have some."""

    path: str
    below: str  # beginning of its images' keys: "StyleGAN2/conf-f-psi-1/", or ""
    names: tuple[str, ...]  # without `twins`
    label: int
    method: str
    modifier: str
    device_and_inode: tuple[int, int]  # device and inode: the folder itself, by whatever path
    others: Mapping[str, int]  # other files: suffix → how many
    broken: bool  # a link that leads nowhere, in place of a folder
    links: frozenset[str]  # those of `names` that are links
    twins: frozenset[str]  # HEIC and AVIF files of images that are there in another format


def list_image_folders(
    data_root: Path,
    part: Part,
    vocabulary: DataIdResolver,
    listing: FolderListing,
    unnamed_folders: set[str] | None = None,
) -> Iterator[KeyedFolder]:
    """Yield the folders of one part in the defined order.

    Args:
        data_root: the data root.
        part: of a data ID.
        vocabulary: the known words.
        listing: the content of the folders.
        unnamed_folders: gets the folders with images that no subset names, if the part means all of a class.
    """
    methods, root = vocabulary.methods(part.subset), str(data_root / "_")[:-1]  # also where it is /
    known, labels = vocabulary.methods("all"), WHOLE_CLASSES.get(part.subset, frozenset())

    def add_unnamed(label: int, path: str, method: str) -> None:
        if unnamed_folders is not None and label in labels and not known.holds(method):
            found = _walk(listing, f"{path}/", method)
            if any(held and held.images for _, held in found):
                unnamed_folders.add(f"{path}/{method}")

    for modifier in vocabulary.modifier_keys(part.modifier):
        folders = modifier_folders(data_root, modifier, vocabulary)
        if not folders:
            log.info("part=%s modifier=%s reason=the folder does not exist", part, modifier)
        for folder in folders:
            below = folder.relative_to(data_root).as_posix()
            above, named = "" if below == "." else f"{below}/", vocabulary.modifier_name(modifier)
            for path, key, label, method, held in _class_folders(
                listing, above, methods, add_unnamed
            ):
                twins = phone_twins(held.images) if held else frozenset[str]()
                names = held.images if held else ()
                yield KeyedFolder(
                    path=root + path,
                    below=key,
                    names=tuple(name for name in names if name not in twins) if twins else names,
                    label=label,
                    method=method,
                    modifier=named,
                    device_and_inode=held.mark[:2] if held else (-1, -1),
                    others=held.others if held else {},
                    broken=held is None,
                    links=held.links - twins if held else frozenset(),
                    twins=twins,
                )


def _class_folders(
    listing: FolderListing,
    parent: str,
    methods: Methods,
    pass_over: Callable[[int, str, str], None],
) -> Iterator[tuple[str, str, int, str, ListedFolder | None]]:
    """Yield the folders with images in the class folders of one folder.

    Each item contains the path below the root, the prefix of the keys of its images, label, method,
    and the content. The content is None for a dangling link. Other folders that are not hidden are
    passed over, with label, path of the class folder, and name.
    """
    modifier_folder = listing.folder(parent.rstrip("/"))
    for class_name in modifier_folder.folders if modifier_folder else ():
        label, path = CLASSES.get(class_name.casefold()), f"{parent}{class_name}"
        if label is None:
            continue
        class_folder = listing.folder(path)
        if class_folder is None or label in methods.flat:
            yield path, "", label, "", class_folder
        for method in class_folder.folders if class_folder else ():
            if not methods.holds(method):
                if not method.startswith("."):
                    pass_over(label, path, method)
                continue
            for below, held in _walk(listing, f"{path}/", method):
                yield f"{path}/{below}", f"{below}/", label, method, held


def modifier_folders(
    data_root: Path, modifier: str, vocabulary: DataIdResolver = BUILT_IN
) -> tuple[Path, ...]:
    """Return the folders of an elementary modifier that are there.

    The laboratory's own have one folder, in whichever layout; a user's may have several.

    Raises:
        DataError: both layouts are there, so that a choice would be a guess.
    """
    own = vocabulary.custom_folders(modifier)
    names = vocabulary.folders(modifier)
    there = tuple(dict.fromkeys(folder for name in names for folder in matching(data_root, name)))
    if own is None and len(there) > 1:
        raise DataError(
            f"two folders for modifier {modifier!r}: {there[0]} and {there[1]}. Choose one with "
            "the setting layout (--layout): plain is the first, trueface the second."
        )
    return there


def matching(data_root: Path, name: str) -> Iterator[Path]:
    """Yield the folder of that name, or those that the pattern `name` finds."""
    # os.path.isdir, as Path.is_dir raises for a name that no file system takes
    if os.path.isdir(data_root / name):  # noqa: PTH112
        yield data_root / name
    elif glob.has_magic(name):
        for folder in sorted(glob.glob(name, root_dir=data_root)):  # noqa: PTH207  # Path.glob refuses patterns such as a**
            if (data_root / folder).is_dir():
                yield data_root / folder


def _walk(listing: FolderListing, root: str, method: str) -> list[tuple[str, ListedFolder | None]]:
    """Return a method folder and those in it, sorted, with their paths below `root`.

    None replaces an entry that is not a folder: a dangling link, or a link to a file.

    Links are followed, but no folder is listed twice. A folder comes before a link to it, and among
    links the shortest and first one counts. Links therefore never form a cycle, and folders with
    links to each other are each listed once.
    """
    folders: dict[str, ListedFolder | None] = {}
    seen: set[tuple[int, int]] = set()
    own, links = [method], list[str]()
    while own or links:
        below = own.pop(0) if own else links.pop(0)
        folder = listing.folder(root + below)
        if folder is None:  # a link to nowhere, or a folder that was removed just now
            folders[below] = None
            continue
        if folder.mark[:2] in seen:
            log.warning(
                "folder=%s%s reason=ignored, because the link leads back to a folder of its method",
                root, below,
            )  # fmt: skip
            continue
        seen.add(folder.mark[:2])
        folders[below] = folder
        for name in folder.folders:
            if not name.startswith("."):
                inner = f"{below}/{name}"
                (links if listing.is_link(root + inner) else own).append(inner)
    return sorted(folders.items(), key=lambda item: item[0].split("/"))
