"""Where each image of a data set goes in a data root, and what it has in common with others."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from trueface.data.folder_names import MODIFIERS
from trueface.data.imports.grouping import groups_of
from trueface.data.imports.images import FAKE, REAL, ImportedImage
from trueface.data.imports.source_names import folder_of
from trueface.data.index import Image
from trueface.data.splits.splits import NAMES
from trueface.runtime.errors import DataError

CLASS_FOLDERS = {REAL: "Real", FAKE: "Fake"}
STRICTEST = ("test", "val", "train")  # of several lists that name an image, the first wins


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """A data set in TrueFace's shape."""

    files: Mapping[str, str]  # path below the data root → image file
    images: tuple[Image, ...]  # the same, as a survey would find them
    sources: Mapping[str, int]  # folder below Real/ or Fake/ → label
    modifiers: tuple[str, ...]  # words of the set's own, each the name of its folder
    groups: Mapping[str, str]  # key → what must stay in one list
    published: Mapping[str, str]  # key → list
    video_folders: frozenset[str]  # sources whose folders are videos
    remarks: tuple[str, ...]

    def without(self, files: Iterable[str]) -> "Arrangement":
        """Return the arrangement without image files that do not exist.

        Raises:
            DataError: nothing is left.
        """
        left_out = frozenset(files)
        if not left_out:
            return self
        kept = {path: file for path, file in self.files.items() if file not in left_out}
        images = tuple(image for image in self.images if image.file in kept)
        if not images:
            raise DataError(f"none of {len(self.images)} images exists, such as {min(left_out)}")
        keys = {image.key for image in images}
        sources = {image.method for image in images}
        return replace(
            self,
            files=kept,
            images=images,
            sources={source: label for source, label in self.sources.items() if source in sources},
            groups={key: group for key, group in self.groups.items() if key in keys},
            published={key: name for key, name in self.published.items() if key in keys},
        )


def arrange(imported: Iterable[ImportedImage]) -> Arrangement:
    """Return where images go.

    Raises:
        DataError: no image, none of a class named by its label, or two files for one place.
    """
    images = list(dict.fromkeys(imported))
    if not images:
        raise DataError("the folder holds no image of this layout")
    fakes = {image.source for image in images if image.label == FAKE}
    folders = {
        (image.source, image.label): folder_of(image.source, image.label, fakes) for image in images
    }
    placing = _Placing()
    for image in images:
        placing.add(image, folders[image.source, image.label])
    groups, remark = placing.groups()
    return Arrangement(
        files=placing.files,
        images=tuple(placing.images.values()),
        sources=dict(sorted((folder, label) for (_, label), folder in folders.items())),
        modifiers=tuple(sorted({image.modifier for image in images} - MODIFIERS.keys())),
        groups=groups,
        published=placing.published(),
        video_folders=frozenset(
            folders[image.source, image.label] for image in images if image.is_frame
        ),
        remarks=tuple(filter(None, (remark, placing.several()))),
    )


class _Placing:
    """Gives each image its place; an image may come again, with further lists."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.images: dict[str, Image] = {}
        self.lists: dict[str, set[str]] = defaultdict(set)
        self.ties: dict[str, tuple[str, ...]] = {}
        self.unit: dict[str, str] = {}  # key → video, or itself

    def add(self, image: ImportedImage, folder: str) -> None:
        below = "/".join(
            part if part[0] != "." else f"_{part[1:]}" for part in image.below.split("/")
        )
        key = f"{folder}/{below.rpartition('.')[0]}"
        top = MODIFIERS[image.modifier][0] if image.modifier in MODIFIERS else image.modifier
        path = f"{top}/{CLASS_FOLDERS[image.label]}/{folder}/{below}"
        if self.files.setdefault(path, image.file) != image.file:
            raise DataError(
                f"{self.files[path]} and {image.file} would both be {path}; give one of them "
                "another name or source"
            )
        self.images[path] = Image(path, key, image.label, folder, image.modifier)
        self.lists[key].update(image.lists)
        # a video by its whole path: other sources may have one of the same name
        unit = key.rpartition("/")[0] if image.is_frame else key
        self.unit[key] = unit
        self.ties[unit] = tuple(dict.fromkeys((*self.ties.get(unit, ()), *image.ties)))

    def groups(self) -> tuple[dict[str, str], str]:
        """Return the group of each key that has one, and a remark."""
        sizes = Counter(self.unit.values())
        tied, remark = groups_of(self.ties, sizes)
        groups = {
            key: tied.get(unit, unit)
            for key, unit in self.unit.items()
            if unit in tied or unit != key
        }
        return groups, remark

    def published(self) -> dict[str, str]:
        """Return the list of each key that any list names."""
        return {
            key: next(name for name in STRICTEST if name in lists)
            for key, lists in self.lists.items()
            if lists
        }

    def several(self) -> str:
        """Return a remark on images that several published lists name; "" if there are none."""
        many = [key for key, lists in self.lists.items() if len(lists) > 1]
        if not many:
            return ""
        return (
            f"{len(many)} images stand in several of the published lists, such as {many[0]}; each "
            f"is kept in one: test before val before train"
        )


def by_list(published: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the keys of each list."""
    lists: dict[str, list[str]] = {name: [] for name in NAMES}
    for key, name in published.items():
        lists[name].append(key)
    return lists
