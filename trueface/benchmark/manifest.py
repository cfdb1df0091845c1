"""The manifest of a benchmark: which image files it consists of, by their content.

The SHA-256 of the sorted list of all images names the benchmark: results may stand in one table only
where that name is the same. Where an image lies does not count, what it is called and holds does.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from trueface.runtime.errors import DataError
from trueface.runtime.files import Json, read_json, write_json

SCHEMA = 1
DIGITS = 12  # of the hash, as the name


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Entry:
    """One image of a benchmark."""

    path: str  # below the data root
    key: str  # shared by all copies of the image
    sha256: str  # of the file's bytes
    label: int  # 1 fake, 0 real
    source: str  # first folder below Real/ or Fake/
    modifier: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The images of a benchmark, sorted by path."""

    entries: tuple[Entry, ...]
    versions: Mapping[str, Json] = field(
        default_factory=dict
    )  # of what decodes them: no part of the name

    @property
    def sha256(self) -> str:
        """The SHA-256 of the sorted list."""
        digest = hashlib.sha256()
        for entry in self.entries:
            digest.update(f"{json.dumps(_row(entry))}\n".encode())
        return digest.hexdigest()

    @property
    def name(self) -> str:
        """The name of the benchmark."""
        return self.sha256[:DIGITS]

    def differences(self, other: "Manifest") -> tuple[str, ...]:
        """Return the paths that differ: in one manifest only, or of other content."""
        ours, theirs = ({entry.path: entry for entry in one.entries} for one in (self, other))
        return tuple(
            path
            for path in sorted(ours.keys() | theirs.keys())
            if ours.get(path) != theirs.get(path)
        )


def manifest_of(entries: Iterable[Entry], versions: Mapping[str, Json] | None = None) -> Manifest:
    """Return a manifest; an image that is named twice counts once.

    Args:
        entries: its images, in any order.
        versions: of what decodes and changes them.

    Raises:
        DataError: a path has two contents: the image changed between two tests.
    """
    by_path: dict[str, Entry] = {}
    for entry in entries:
        if by_path.setdefault(entry.path, entry) != entry:
            raise DataError(
                f"{entry.path} is not the same image in all tests: it changed in between; run the "
                "benchmark again, so that every model is scored on the same files"
            )
    return Manifest(entries=tuple(sorted(by_path.values())), versions=dict(versions or {}))


def write(path: Path, manifest: Manifest) -> None:
    """Write a manifest, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images: list[Json] = [list(_row(entry)) for entry in manifest.entries]
    columns: list[Json] = ["path", "key", "sha256", "label", "source", "modifier"]
    head: dict[str, Json] = {"schema": SCHEMA, "name": manifest.name, "sha256": manifest.sha256}
    write_json(
        path, {**head, "versions": dict(manifest.versions), "columns": columns, "images": images}
    )


_ROWS = TypeAdapter(list[tuple[str, str, str, int, str, str]])


def read(path: Path) -> Manifest:
    """Return a manifest.

    Raises:
        DataError: there is none, or it was changed: its images do not give its name.
    """
    try:
        record = read_json(path)
        if record is None or record.get("schema") != SCHEMA:
            raise DataError(f"no manifest {path}; run the benchmark again")
        rows = _ROWS.validate_python(record.get("images"))
    except (OSError, ValueError, ValidationError) as error:
        raise DataError(
            f"manifest {path} cannot be read: {error}; run the benchmark again"
        ) from error
    entries = (
        Entry(path=path, key=key, sha256=sha256, label=label, source=source, modifier=modifier)
        for path, key, sha256, label, source, modifier in rows
    )
    versions = record.get("versions")
    manifest = manifest_of(entries, versions if isinstance(versions, dict) else {})
    if manifest.sha256 != record.get("sha256"):
        raise DataError(f"manifest {path} was changed: its images do not give its name")
    return manifest


def _row(entry: Entry) -> tuple[str, str, str, int, str, str]:
    return (entry.path, entry.key, entry.sha256, entry.label, entry.source, entry.modifier)
