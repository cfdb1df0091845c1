"""What an import has put into a data root, so that the next one adds to it and changes nothing.

<root>/import.json    every file with its origin, size and time; the words of its sources
<root>/groups.json    key → group, as `trueface splits --group-by` reads it
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trueface.data.imports.arrangement import Arrangement
from trueface.data.imports.source_names import words
from trueface.runtime.errors import DataError
from trueface.runtime.files import write_atomic

NAME = "import.json"
GROUPS = "groups.json"
SCHEMA = 1
SHOWN = 3

Origin = tuple[str, int, int]  # file, size in bytes, modification time in ns


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRecord:
    """What lies in a data root by imports."""

    files: Mapping[str, Origin] = field(default_factory=dict)  # by path below the root
    sources: Mapping[str, int] = field(default_factory=dict)  # folder → label
    words: Mapping[str, str] = field(default_factory=dict)  # folder → word
    modifiers: tuple[str, ...] = ()
    video_folders: frozenset[str] = frozenset()
    groups: Mapping[str, str] = field(default_factory=dict)  # key → group
    origins: tuple[tuple[str, str], ...] = ()  # layout and folder of each import


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What an arrangement has beyond a record."""

    new: Mapping[str, Origin]
    there: int
    missing: tuple[str, ...]  # files that are named and do not exist


def read_record(root: Path) -> ImportRecord:
    """Read the record of a data root; an empty one where nothing was imported.

    Raises:
        DataError: it cannot be read.
    """
    try:
        content = json.loads((root / NAME).read_bytes())
        return _record(content, json.loads((root / GROUPS).read_bytes()))
    except FileNotFoundError:
        return ImportRecord()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise DataError(f"cannot read {root / NAME}: {error}; import into a new folder") from error


def _record(content: Mapping[str, Any], groups: Mapping[str, str]) -> ImportRecord:
    if content["schema"] != SCHEMA:
        raise ValueError(f"schema {content['schema']} is unknown here")
    return ImportRecord(
        files={path: (o[0], int(o[1]), int(o[2])) for path, o in content["files"].items()},
        sources=dict(content["sources"]),
        words=dict(content["words"]),
        modifiers=tuple(content["modifiers"]),
        video_folders=frozenset(content["videos"]),
        groups=dict(groups),
        origins=tuple((layout, folder) for layout, folder in content["origins"]),
    )


def compared(record: ImportRecord, arrangement: Arrangement) -> Difference:
    """Return what of an arrangement is not in the data root yet.

    Raises:
        DataError: a file differs from what was imported, or goes where another one is.
    """
    new: dict[str, Origin] = {}
    changed, missing, there = list[str](), list[str](), 0
    for path, file in arrangement.files.items():
        try:
            status = os.stat(file)  # noqa: PTH116  # for each of 200,000
        except OSError:
            missing.append(file)
            continue
        origin = (file, status.st_size, status.st_mtime_ns)
        before = record.files.get(path)
        if before is None:
            new[path] = origin
        elif before == origin:
            there += 1
        else:
            changed.append(f"{file} (was {before[0]})" if before[0] != file else file)
    if changed:
        raise DataError(
            f"{len(changed)} images were changed since they were imported: "
            f"{', '.join(changed[:SHOWN])}{', …' * (len(changed) > SHOWN)}; results on the old ones "
            "would not be those of the new ones: import into a new folder"
        )
    return Difference(new=new, there=there, missing=tuple(missing))


def joined_record(
    record: ImportRecord, arrangement: Arrangement, difference: Difference, origin: tuple[str, str]
) -> ImportRecord:
    """Return the record once the difference is in the data root."""
    sources = {**record.sources, **arrangement.sources}
    for folder, label in arrangement.sources.items():
        if record.sources.get(folder, label) != label:
            raise DataError(
                f"{folder} holds {'real' if label else 'fake'} images in this data root, and is "
                f"{'fake' if label else 'real'} in the new set; import into a new folder"
            )
    return ImportRecord(
        files={**record.files, **difference.new},
        sources=dict(sorted(sources.items())),
        words=words(sorted(sources.items()), record.words),
        modifiers=tuple(sorted({*record.modifiers, *arrangement.modifiers})),
        video_folders=record.video_folders | arrangement.video_folders,
        groups={**record.groups, **arrangement.groups},
        origins=tuple(dict.fromkeys((*record.origins, origin))),
    )


def write_record(root: Path, record: ImportRecord) -> None:
    """Write both files, the record last."""
    write_atomic(root / GROUPS, _text(dict(record.groups)))
    content = {
        "schema": SCHEMA,
        "origins": record.origins,
        "sources": record.sources,
        "words": record.words,
        "modifiers": record.modifiers,
        "videos": sorted(record.video_folders),
        "files": record.files,
    }
    write_atomic(root / NAME, _text(content))


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, indent=0) + "\n"
