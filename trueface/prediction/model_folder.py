"""A model folder to share: weights, provenance and test results.

    model.json: The name of the model, and the names of the files with their SHA-256.
    weights.pt: A checkpoint, without paths of the original machine.
    provenance.json: The same facts as in the checkpoint, as text.
    tests.json: The rows of its tests, and its errors by source.
    card.md: The model card, with training data, test results, failures, and unsuitable uses.

`model.json` ends with a digest over all of it. A folder with a changed byte is refused, and the
message names the file. The digest is not a signature: anyone who can write all files can write the
digest, too.

The form of the card follows M. Mitchell et al., "Model Cards for Model Reporting", arXiv
1810.03993. Every number in it comes from the files of the run. Missing facts are called unknown.
The module `model_card` writes the card.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from trueface.models import checkpoint, model_file
from trueface.models.model_file import Checkpoint
from trueface.runtime import paths
from trueface.runtime.artifact import replace_folder, staging_folder
from trueface.runtime.digests import sha256_hex
from trueface.runtime.errors import CheckpointError, MachineError, UsageError
from trueface.runtime.files import Json, file_sha256, read_json, write_atomic, write_json

SCHEMA = 1
MANIFEST, WEIGHTS, CARD = paths.MODEL_FOLDER, "weights.pt", "card.md"
PROVENANCE, TESTS = "provenance.json", "tests.json"
FILES = (WEIGHTS, PROVENANCE, TESTS, CARD)
# facts of one machine, which are left out
HEADS = ("data_root", "split_path", "git", "device_name", "threads")


class ModelFolder(NamedTuple):
    """The contents of `model.json`."""

    folder: Path
    name: str  # model ID
    licence: str
    files: Mapping[str, str]  # SHA-256 by file name
    digest: str

    @property
    def weights(self) -> Path:
        """The path of the checkpoint."""
        return self.folder / WEIGHTS


def read(folder: Path) -> ModelFolder:
    """Return a model folder after checking that every file is unchanged.

    Raises:
        CheckpointError: the folder is missing, altered (the message names the file), or of a newer
            version.
        MachineError: a file cannot be read because of the disk or its permissions.
    """
    content = _manifest(folder)
    files, digest = content.get("files"), content.pop("digest", None)
    if digest != _digest(content) or not isinstance(files, Mapping) or WEIGHTS not in files:
        raise _altered_error(folder, MANIFEST)
    for name, sha256 in files.items():
        if "/" in name or name in {"", ".", ".."}:
            raise _altered_error(folder, MANIFEST)
        if _sha256(folder / name) != sha256:
            raise _altered_error(folder, name)
    return ModelFolder(
        folder=folder,
        name=str(content.get("name")),
        licence=str(content.get("licence")),
        files={name: str(sha256) for name, sha256 in files.items()},
        digest=str(digest),
    )


def _manifest(folder: Path) -> dict[str, Json]:
    """Return the manifest of a folder after checking its schema."""
    path = folder / MANIFEST
    try:
        content = read_json(path)
    except OSError as error:
        raise MachineError(f"cannot read {path}: {error.strerror or error}") from error
    if content is None:
        if path.is_file():
            raise CheckpointError(
                f"model folder {folder}: {MANIFEST} is truncated or not JSON. Copy the folder again from its source."
            )
        raise CheckpointError(f"{folder} is not a model folder. {MANIFEST} is missing.")
    schema = content.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise CheckpointError(
            f"model folder {folder} has schema {schema}, but this version of trueface supports only schema "
            f"{SCHEMA}. Update trueface."
        )
    if schema != SCHEMA:
        raise CheckpointError(f"{path} is not a manifest of trueface (schema {SCHEMA} expected)")
    return content


def load(folder: Path) -> Checkpoint:
    """Return the checkpoint of a model folder. See `read` for errors."""
    return checkpoint.load(read(folder).weights)


def refuse_other_folder(folder: Path) -> None:
    """Refuse a path at which writing a model folder would remove other files.

    Raises:
        UsageError: the path is a file, or a folder that is not a model folder and is not empty.
        MachineError: the folder cannot be listed.
    """
    try:
        names = {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        if not folder.is_symlink():
            return
        raise UsageError(f"{folder} is a broken symbolic link. Name a new folder.") from None
    except OSError as error:
        if isinstance(error, NotADirectoryError) and folder.exists():
            raise UsageError(f"{folder} is a file. Name a new folder.") from error
        raise MachineError(f"cannot list {folder}: {error.strerror or error}") from error
    if not names:
        return
    if MANIFEST not in names or not _is_own(folder):
        raise UsageError(f"{folder} exists and is not a model folder. Name a new folder.")
    if others := sorted(names - {MANIFEST, *FILES}):
        raise UsageError(
            f"model folder {folder} also contains other files, which would be deleted: {', '.join(others[:3])}. "
            "Name a new folder, or move these files."
        )


def _is_own(folder: Path) -> bool:
    """Return whether model.json was written by this project, even if altered or of another version."""
    try:
        content = read_json(folder / MANIFEST)
    except OSError:
        return False
    return content is not None and {"schema", "files", "digest"} <= content.keys()


def write(
    folder: Path, checkpoint: Checkpoint, *, name: str, licence: str, tests: Json, card: str
) -> ModelFolder:
    """Write or replace a model folder atomically.

    Args:
        folder: path of the model folder; see `refuse_other_folder`.
        checkpoint: checkpoint whose provenance went through `strip_machine_facts`.
        name: name of the model.
        licence: licence of the weights, in words.
        tests: content of `tests.json`.
        card: text of `card.md`.

    Raises:
        MachineError: the folder cannot be written. A previous folder is unchanged.
    """
    refuse_other_folder(folder)
    target = Path(os.path.realpath(folder))  # if it is a link, only the folder is replaced
    try:
        with staging_folder(target) as new:
            model_file.save(new / WEIGHTS, checkpoint)
            write_json(new / PROVENANCE, {"schema": SCHEMA, **checkpoint.provenance})
            write_json(new / TESTS, {"schema": SCHEMA, "tests": tests})
            write_atomic(new / CARD, card)
            files: dict[str, Json] = {file: _sha256(new / file) for file in FILES}
            content: dict[str, Json] = {
                "schema": SCHEMA, "name": name, "arch": checkpoint.arch, "licence": licence, "files": files,
            }  # fmt: skip
            write_json(new / MANIFEST, {**content, "digest": _digest(content)})
            replace_folder(new, target)
    except OSError as error:
        raise MachineError(
            f"cannot write the model folder {folder}: {error.strerror or error}. The old files are unchanged."
        ) from error
    return read(folder)


def strip_machine_facts(content: Mapping[str, Json]) -> dict[str, Json]:
    """Return a provenance without facts of one machine. Absolute paths become file names."""
    return {key: _strip_paths(value) for key, value in content.items() if key not in HEADS}


def portable_row(row: Mapping[str, Json]) -> dict[str, Json]:
    """Return a row of results without facts of one machine; see `strip_machine_facts`."""
    # in this case its modifier contains the name of the folder
    several_roots = row.get("data_root") is not None
    own = {key: value for key, value in row.items() if not (several_roots and key == "modifier")}
    return strip_machine_facts(own)


def _strip_paths(value: Json) -> Json:
    if isinstance(value, str):
        return Path(value).name if value.startswith(("/", "~")) else value
    if isinstance(value, Mapping):
        return {key: _strip_paths(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_strip_paths(each) for each in value]
    return value


def _digest(content: Mapping[str, Json]) -> str:
    return sha256_hex(json.dumps(content, sort_keys=True, separators=(",", ":")))


def _sha256(path: Path) -> str | None:
    """Return the digest of a file, or None if it is missing or not a regular file: reading a pipe could block."""
    if not path.is_file():
        return None
    try:
        return file_sha256(path)
    except OSError as error:
        raise MachineError(f"cannot read {path}: {error.strerror or error}") from error


def _altered_error(folder: Path, name: str) -> CheckpointError:
    if not (folder / name).exists():
        return CheckpointError(
            f"model folder {folder} is incomplete. {name} is missing. Copy the folder again."
        )
    return CheckpointError(
        f"model folder {folder} was changed. The checksum of {name} does not match. Copy the folder again from its "
        "source."
    )
