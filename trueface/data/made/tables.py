"""The table of attributes that belongs to images: folders made of them keep it."""

import shutil
from pathlib import Path

from trueface.data.made.writer import MadeFolder

ATTRIBUTES = "attributes.csv"  # image,<attribute>,… with 0 and 1


def keep_attributes(source: Path, made: MadeFolder) -> None:
    """Copy the source's table of attributes into a folder that is made of it; without one, nothing.

    It is copied as it is: it may name more images than were made, and with their first suffixes.
    """
    if (source / ATTRIBUTES).is_file():
        shutil.copyfile(source / ATTRIBUTES, made.root / ATTRIBUTES)
