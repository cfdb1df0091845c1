"""torchvision's ImageFolder: one folder per class, below train/, val/ and test/ or alone."""

from collections.abc import Iterator
from pathlib import Path

from trueface.data.imports.people import people_of_video
from trueface.data.imports.registry import (
    CLASSES,
    FAKE,
    REAL,
    ImportedImage,
    LayoutOptions,
    image_folders,
    is_video,
    listed_name,
    register_layout,
    subfolders,
)
from trueface.data.splits.split_files import LISTS
from trueface.runtime.errors import DataError


@register_layout(
    "imagefolder",
    summary="torchvision's ImageFolder: one folder per class, and each class is a source",
    reads_videos=True,
    expects="<class>/ with images, or train/<class>/ and test/<class>/ (or val/<class>/)",
)
class ImageFolder:
    """Each class is a source; those that are real have a name that says so, or are named."""

    def fits(self, folder: Path) -> bool:
        """Return whether there are two class folders with images."""
        tops = [folder / name for name in subfolders(folder) if name.casefold() in LISTS]
        return any(
            sum(_has_content(top / name) for name in subfolders(top)) > 1
            for top in tops or [folder]
        )

    def images(self, folder: Path, options: LayoutOptions) -> Iterator[ImportedImage]:
        """Yield the images of all classes.

        Raises:
            DataError: no class, or every class, is real.
        """
        tops = [name for name in subfolders(folder) if name.casefold() in LISTS] or [""]
        names = sorted({name for top in tops for name in _class_folders(folder / top, options)})
        if not names:
            return
        real = {name for name in names if _is_real(name, options)}
        if not real or len(real) == len(names):
            which = "all classes are" if real else "no known class is"
            raise DataError(
                f"{which} real in {folder} ({', '.join(names[:10])}). Name the real ones, such as "
                "--real camera."
            )
        for top in tops:
            lists = (LISTS[top.casefold()],) if top else ()
            for name in _class_folders(folder / top, options):
                label = REAL if name in real else FAKE
                for path, parts, files in image_folders(folder / top / name, frames=options.frames):
                    below = "".join(f"{part}/" for part in parts)
                    is_frame = options.videos and bool(parts)
                    people = people_of_video(parts[-1]) if is_frame else ()
                    for file in files:
                        yield ImportedImage(
                            f"{path}/{file}",
                            label,
                            name,
                            below + listed_name(file, lists),
                            ties=people,
                            is_frame=is_frame,
                            lists=lists,
                        )


def _class_folders(folder: Path, options: LayoutOptions) -> list[str]:
    """Return the class folders, those that hold an image."""
    return [
        name
        for name in subfolders(folder)
        if any(True for _ in image_folders(folder / name, frames=options.frames))
    ]


def _has_content(folder: Path) -> bool:
    """Return whether a class folder has an image, or a video file that can be read."""
    others: list[str] = []
    return any(True for _ in image_folders(folder, others)) or any(
        is_video(path.rpartition("/")[2]) for path in others
    )


def _is_real(name: str, options: LayoutOptions) -> bool:
    if options.real:
        return name in options.real
    small = name.casefold()
    return CLASSES.get(small) == REAL or (small.startswith("real") and CLASSES.get(small) != FAKE)
