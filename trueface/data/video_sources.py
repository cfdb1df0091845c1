"""Which sources of a data root are videos: their folders hold the frames of one video each.

<root>/videos.json    {"schema": 1, "sources": ["FF-DF", "FF-real"]}, folders below Real/ or Fake/
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from trueface.runtime.errors import DataError
from trueface.runtime.files import write_json

NAME = "videos.json"
SCHEMA = 1


def write_video_sources(folder: Path, sources: Iterable[str]) -> None:
    """Write videos.json; without any source nothing is written."""
    if names := sorted(sources):
        write_json(folder / NAME, {"schema": SCHEMA, "sources": list(names)})


def video_sources(root: Path) -> frozenset[str]:
    """Return the sources whose folders are videos; none where the data root names none.

    Raises:
        DataError: its videos.json cannot be read.
    """
    try:
        content: Mapping[str, object] = json.loads((root / NAME).read_bytes())
        sources = content["sources"]
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"cannot read {root / NAME}: {error}") from error
    if not isinstance(sources, list):
        raise DataError(f"{root / NAME}: sources is no list of folders")
    return frozenset(map(str, sources))
