"""A model that can be handed on: weights, where they come from, how good they are, in one folder.

model.json      names the files with their SHA-256, and the model
weights.pt      a checkpoint, without paths of the machine that made it
provenance.json the same facts as in the checkpoint, to be read
tests.json      the rows of its tests, and its errors by source
card.md         for people

`model.json` ends with a digest over all of it, so that a folder of which a byte has changed is refused by
the name of the file. It is no signature: whoever can write all files can write the digest, too.
"""

import hashlib
import json
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trueface.models import checkpoint
from trueface.models.checkpoint import Checkpoint
from trueface.runtime import paths
from trueface.runtime.errors import CheckpointError, MachineError, UsageError
from trueface.runtime.files import Json, read_json, write_atomic, write_json

SCHEMA = 1
MANIFEST, WEIGHTS, CARD = paths.MODEL_FOLDER, "weights.pt", "card.md"
PROVENANCE, TESTS = "provenance.json", "tests.json"
HEADS = ("data_root", "split_path", "git", "device_name", "threads")  # of one machine: left out


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolder:
    """What `model.json` says."""

    folder: Path
    name: str  # of the model: its ID
    licence: str
    files: Mapping[str, str]  # SHA-256 by name
    digest: str

    @property
    def weights(self) -> Path:
        """The checkpoint."""
        return self.folder / WEIGHTS


def read(folder: Path) -> ModelFolder:
    """Return a model folder of which every file is as it was written.

    Raises:
        CheckpointError: no such folder, or one that was altered; names the file.
    """
    path = folder / MANIFEST
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"model folder {folder}: {MANIFEST} cannot be read: {error}"
        ) from error
    if content is None:
        raise CheckpointError(f"{folder} is no model folder: it has no {MANIFEST}")
    files, digest = content.get("files"), content.pop("digest", None)
    if content.get("schema") != SCHEMA or not isinstance(files, Mapping) or WEIGHTS not in files:
        raise CheckpointError(f"{path} is no model folder's of schema {SCHEMA}")
    if digest != _digest(content):
        raise _altered(folder, MANIFEST)
    for name, sha256 in files.items():
        if "/" in name or name in {"", ".", ".."}:
            raise _altered(folder, MANIFEST)
        if _sha256(folder / name) != sha256:
            raise _altered(folder, name)
    return ModelFolder(
        folder=folder,
        name=str(content.get("name")),
        licence=str(content.get("licence")),
        files={name: str(sha256) for name, sha256 in files.items()},
        digest=str(digest),
    )


def load(folder: Path) -> Checkpoint:
    """Return the checkpoint of a model folder; see `read`."""
    return checkpoint.load(read(folder).weights)


def refuse_other_folder(folder: Path) -> None:
    """Refuse a place that a model folder cannot take.

    Raises:
        UsageError: it is a file, or a folder with something else in it.
    """
    if folder.is_dir() and ((folder / MANIFEST).is_file() or not any(folder.iterdir())):
        return
    if folder.exists() or folder.is_symlink():
        raise UsageError(f"{folder} is there and is no model folder: name a new folder with --out")


def write(
    folder: Path, kept: Checkpoint, *, name: str, licence: str, tests: Json, card: str
) -> ModelFolder:
    """Write a model folder, or replace one: whole, or not at all.

    Args:
        folder: see `refuse_other_folder`.
        kept: the checkpoint, of `portable` provenance.
        name: of the model.
        licence: of the weights, in words.
        tests: what `tests.json` holds.
        card: what `card.md` says.

    Raises:
        MachineError: it cannot be written; what was there is still there.
    """
    refuse_other_folder(folder)
    unfinished = folder.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        unfinished.mkdir(parents=True)
        checkpoint.save(unfinished / WEIGHTS, kept)
        write_json(unfinished / PROVENANCE, {"schema": SCHEMA, **kept.provenance})
        write_json(unfinished / TESTS, {"schema": SCHEMA, "tests": tests})
        write_atomic(unfinished / CARD, card)
        files: dict[str, Json] = {
            each: _sha256(unfinished / each) for each in (WEIGHTS, PROVENANCE, TESTS, CARD)
        }
        content: dict[str, Json] = {
            "schema": SCHEMA, "name": name, "arch": kept.arch, "licence": licence, "files": files,
        }  # fmt: skip
        write_json(unfinished / MANIFEST, {**content, "digest": _digest(content)})
        _replace(folder, unfinished)
    except OSError as error:
        raise MachineError(
            f"cannot write the model folder {folder}: {error.strerror or error}; what was there is "
            "still there"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return read(folder)


def _replace(folder: Path, new: Path) -> None:
    """Put a folder in the place of another, which goes away."""
    if not folder.exists():
        new.rename(folder)
        return
    old = new.with_suffix(".old")
    folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    shutil.rmtree(old)


def portable(content: Mapping[str, Json]) -> dict[str, Json]:
    """Return a provenance without what belongs to one machine: absolute paths become file names."""
    return {key: _portable(value) for key, value in content.items() if key not in HEADS}


def _portable(value: Json) -> Json:
    if isinstance(value, str):
        return Path(value).name if value.startswith(("/", "~")) else value
    if isinstance(value, Mapping):
        return {key: _portable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_portable(each) for each in value]
    return value


def _digest(content: Mapping[str, Json]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _altered(folder: Path, name: str) -> CheckpointError:
    if not (folder / name).exists():
        return CheckpointError(
            f"model folder {folder} is not whole: {name} is missing; copy it anew"
        )
    return CheckpointError(
        f"model folder {folder} was altered: {name} is not what it was when the folder was written; "
        "copy it anew from where it came"
    )
