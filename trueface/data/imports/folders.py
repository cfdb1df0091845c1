"""Plain folders of real and of fake images, at any depth: real/ and fake/, or progan/cat/0_real."""

from collections.abc import Iterator
from pathlib import Path

from trueface.data.imports.people import people_of_video
from trueface.data.imports.registry import (
    CLASSES,
    REAL,
    ImportedImage,
    LayoutOptions,
    image_folders,
    listed_name,
    register_layout,
    subfolders,
)
from trueface.data.splits.split_files import LISTS

DEPTH = 3  # folders above that of a class: train/progan/cat/0_real


@register_layout(
    "folders",
    summary="folders of real and fake images, at any depth, also below train/, test/",
    reads_videos=True,
    expects="folders named real and fake (or 0_real and 1_fake, nature and ai, …), at most three "
    "levels down",
)
class Folders:
    """The class folder gives the label. The folders above or below it name the source."""

    def fits(self, folder: Path) -> bool:
        """Return whether two sibling folders name both classes."""
        level = [folder]
        for _ in range(DEPTH + 1):
            below: list[Path] = []
            for place in level:
                names = subfolders(place)
                if {CLASSES.get(name.casefold()) for name in names} >= set(CLASSES.values()):
                    return True
                below += (place / name for name in names)
            level = below[:50]  # a few are enough
        return False

    def images(self, folder: Path, options: LayoutOptions) -> Iterator[ImportedImage]:
        """Yield the images in folders below one that names a class."""
        for path, parts, names in image_folders(folder, frames=options.frames):
            small = [part.casefold() for part in parts]
            at = next((n for n, part in enumerate(small) if part in CLASSES), None)
            if at is None:
                continue
            label = CLASSES[small[at]]
            lists = tuple(LISTS[part] for part in small[:at] if part in LISTS)[:1]
            rest = [
                part for part in (*parts[:at], *parts[at + 1 :]) if part.casefold() not in LISTS
            ]
            is_frame = options.videos and bool(rest)
            if len(rest) == int(is_frame):  # no folder is left to name the source
                rest = [folder.resolve().name or "images", *rest]
            source, *deeper = rest
            if source in options.real:
                label = REAL
            below = "".join(f"{part}/" for part in deeper)
            people = people_of_video(rest[-1]) if is_frame else ()
            for name in names:
                list_names = below + listed_name(name, lists)
                yield ImportedImage(
                    f"{path}/{name}",
                    label,
                    source,
                    list_names,
                    ties=people,
                    is_frame=is_frame,
                    lists=lists,
                )
