"""Plain folders of real and of fake images, at any depth: real/ and fake/, or progan/cat/0_real."""

from collections.abc import Iterator
from pathlib import Path

from trueface.data.imports.images import (
    CLASSES,
    LISTS,
    REAL,
    ImportedImage,
    image_folders,
    listed_name,
    subfolders,
)
from trueface.data.imports.registry import LayoutOptions, register_layout

DEPTH = 3  # folders above that of a class: train/progan/cat/0_real


@register_layout(
    "folders",
    summary="folders of real and fake images, at any depth, also below train/, test/",
    expects="folders named real and fake (or 0_real and 1_fake, nature and ai, …), "
    "at most three folders down",
)
class Folders:
    """The folder of the class says the label; what is above or below it names the source."""

    def fits(self, folder: Path) -> bool:
        """Tell whether two folders side by side name both classes."""
        level = [folder]
        for _ in range(DEPTH + 1):
            below: list[Path] = []
            for place in level:
                names = subfolders(place)
                if {CLASSES.get(name.casefold()) for name in names} >= set(CLASSES.values()):
                    return True
                below += (place / name for name in names)
            level = below[:50]  # a few tell
        return False

    def images(self, folder: Path, options: LayoutOptions) -> Iterator[ImportedImage]:
        """Yield the images in folders below one that names a class."""
        for path, parts, names in image_folders(folder):
            small = [part.casefold() for part in parts]
            at = next((n for n, part in enumerate(small) if part in CLASSES), None)
            if at is None:
                continue
            label = CLASSES[small[at]]
            lists = tuple(LISTS[part] for part in small[:at] if part in LISTS)[:1]
            rest = [
                part for part in (*parts[:at], *parts[at + 1 :]) if part.casefold() not in LISTS
            ]
            source, *deeper = rest or [folder.resolve().name or "images"]
            if source in options.real:
                label = REAL
            below = "".join(f"{part}/" for part in deeper)
            for name in names:
                yield ImportedImage(
                    f"{path}/{name}", label, source, below + listed_name(name, lists), lists=lists
                )
