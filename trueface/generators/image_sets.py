"""The sets of images that data IDs of generators name. This module does not import torch."""

from pathlib import Path

from trueface.data.vocabulary import WHOLE_ROOT
from trueface.runtime.errors import UnknownName, UsageError
from trueface.runtime.ids import DataId, parse_data


def picture_data(data: DataId, *allowed_sets: str) -> DataId:
    """Return a data ID of one part whose set is among `allowed_sets`.

    Raises:
        UnknownName: another set.
        UsageError: a union.
    """
    parts = tuple(data)
    for part in parts:  # first: a file's detectors have unions, of sets that are not known here
        if part.subset not in allowed_sets:
            raise UnknownName("set of images", part.subset, allowed_sets)
    if len(parts) > 1:
        raise UsageError(
            f"{data}: a generator is trained on one set. Name one, such as {parts[0]}."
        )
    return data


def picture_folder(root: Path, data: str) -> Path:
    """Return the folder that a data ID names in a data root: the root, or a folder in it."""
    (part,) = tuple(parse_data(data))
    return root if part.modifier == WHOLE_ROOT else root / part.modifier
