"""Data IDs of generators: which images of a data root a translator or a diffuser learns from; no torch.

    data = set ':' part       images:A   labelled:train   classes:all

The set says what is known of the images, the part is a folder in the data root, or `all` for the root itself.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from trueface.runtime.errors import UnknownName, UsageError
from trueface.runtime.ids import DataId, parse_data

SETS: Mapping[str, str] = MappingProxyType(
    {
        "images": "images alone",
        "labelled": "images, and a table of their attributes",
        "classes": "a folder for each class",
        "noisy": "images to which noise is added",
    }
)
WHOLE = "all"  # the part that is the data root itself


def validated(data: DataId, *allowed: str) -> DataId:
    """Return a data ID of one part whose set is among `allowed`.

    Raises:
        UnknownName: another set.
        UsageError: a union.
    """
    parts = tuple(data)
    for part in parts:  # first: a file's detectors have unions, of sets that are not known here
        if part.subset not in allowed:
            raise UnknownName("set of images", part.subset, allowed)
    if len(parts) > 1:
        raise UsageError(f"{data}: a generator learns from one set; name one, such as {parts[0]}")
    return data


def picture_folder(root: Path, data: str) -> Path:
    """Return the folder that a data ID names in a data root: the root, or a folder in it."""
    (part,) = tuple(parse_data(data))
    return root if part.modifier == WHOLE else root / part.modifier
