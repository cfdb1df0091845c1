"""Folders of classes: where those that are trained on lie, and their names; no torch here."""

from pathlib import Path

from trueface.data.picture_sets import picture_folder
from trueface.runtime.errors import DataError

TRAINED = "train"  # in a data root that is divided into train/ and test/


def training_folder(root: Path, data: str) -> Path:
    """Return the folder of the images that a data ID names: of classes in train/ and test/, those in train/."""
    folder = picture_folder(root, data)
    inside = folder / TRAINED
    return inside if data.startswith("classes:") and inside.is_dir() else folder


def names_of_classes(folder: Path) -> tuple[str, ...]:
    """Return the names of the folders in a folder, sorted; hidden ones are left out.

    Raises:
        DataError: it is not there, or holds fewer than two.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}")
    names = sorted(
        path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    if len(names) < 2:
        count = "1 folder" if names else "no folder"
        raise DataError(
            f"{folder} has {count} of a class, and two at least are needed: put the images of each "
            "class into a folder of its name, or train with data: images:…"
        )
    return tuple(names)
