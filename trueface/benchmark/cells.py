"""The files of a benchmark: an index per model and dataset, the scores of each cell, and the images of the run.

`<model>/benchmark/model.json`               Threshold, temperature, parameters, time per image.
`<model>/benchmark/<test>/cells.json`        The index. It is written last and proves that the set is complete.
`<model>/benchmark/<test>/<condition>.npz`   The scores of one cell.
`benchmark/manifests/<SHA-256>.json`         The image files of a set, identified by their content.

The file of a cell contains the values that it was computed from, so that cells of an interrupted job are reused.
The name of a benchmark is the SHA-256 of the sorted list of all images. Results may share a table only if that
name is equal. It depends on the names and contents of the images, not on their folders.
"""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from trueface.benchmark.conditions import FOLDER, INDEX, Condition, Setting
from trueface.data.image_headers import Shortcut
from trueface.evaluation.arrays import Floats
from trueface.evaluation.operating_threshold import Calibration
from trueface.predictions.predictions import Predictions
from trueface.runtime import npz_files
from trueface.runtime.digests import sha256_hex
from trueface.runtime.errors import DataError
from trueface.runtime.files import Json, read_json, write_atomic, write_json
from trueface.runtime.ids import Words

SCHEMA = 1
MODEL = "model.json"
MANIFESTS = "manifests"  # folder in the benchmark folder of a run, with one file per set of images
DIGITS = 12  # hexadecimal digits of a manifest's hash in the name of the benchmark

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True, kw_only=True)
class CellScores:
    """The predictions of one model in one cell, in the order of the dataset."""

    predictions: Predictions  # identified by paths relative to the data root
    before: Floats | None = None  # (N,) logits of the same images before an attack
    psnr: Floats | None = None  # (N,) dB, of the attacked images; inf if an image did not change
    threshold: float = 0.0  # for an attack: the logit above which the model calls an image fake


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell of an index: its key, and the file of its scores or the reason if there are none."""

    corrupt: str
    attack: str
    access: str
    setting: Setting
    why: str  # reason for the setting
    file: str  # file name in the folder of the index; "" if the cell was not run
    reason: str = ""  # reason if the cell was not run

    @property
    def condition(self) -> Condition:
        """The processing of the images."""
        return Condition(corrupt=self.corrupt, attack=self.attack)


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """All cells of one model on one set of images."""

    model: str  # model ID
    test: str  # data ID
    architecture: str
    train: str  # data ID of the training
    seed: int | None
    manifest: str  # SHA-256 of the images
    checkpoint_sha256: str
    code: str  # SHA-256 of the code of this package
    root: str  # absolute path that relative paths in settings refer to
    words: Words  # words of the data ID that the user defined
    settings: dict[str, Any]  # settings of the benchmark
    cells: tuple[Cell, ...]
    shortcuts: tuple[Shortcut, ...] = ()  # header fields that predict the class


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """The facts of a model that are the same in all its cells."""

    checkpoint_sha256: str
    threshold: float  # threshold of the logit, from validation
    temperature: float  # divisor of the logits, from validation
    in_logits: bool  # whether the model's outputs are already divided by the temperature
    source: str  # source of both: "training" if the checkpoint has them, otherwise "validation"
    parameters: int
    ms_image: float  # milliseconds per image, median over batches, including features
    device: str
    threads: int

    @property
    def calibration(self) -> Calibration:
        """The factors that turn the model's outputs into plain and scaled logits."""
        return Calibration(
            temperature=self.temperature, threshold=self.threshold, in_logits=self.in_logits
        )


class Entry(NamedTuple):
    """One image of a benchmark."""

    path: str  # relative to the data root
    key: str  # equal for all copies of the image
    sha256: str  # digest of the file
    label: int  # 1 fake, 0 real
    source: str  # first folder below Real/ or Fake/
    modifier: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The images of a benchmark, sorted by path."""

    entries: tuple[Entry, ...]
    # versions of the decoders, which are not part of the name
    versions: Mapping[str, Json] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """The SHA-256 of the sorted list of images."""
        lines = (f"{json.dumps(entry)}\n" for entry in self.entries)
        return sha256_hex(*lines)

    @property
    def name(self) -> str:
        """The name of the benchmark."""
        return self.sha256[:DIGITS]


_INDEX, _FACTS, _ENTRIES = TypeAdapter(Index), TypeAdapter(ModelFacts), TypeAdapter(list[Entry])


def manifest_file(run_folder: Path, sha256: str) -> Path:
    """Return the path of the manifest of a set of images in a run."""
    return run_folder / FOLDER / MANIFESTS / f"{sha256}.json"


def find_indexes(run_folder: Path) -> Sequence[Path]:
    """Return the folders of all indexes of a run, sorted."""
    return sorted(path.parent for path in run_folder.glob(f"*/{FOLDER}/*/{INDEX}"))


def identity_of(facts: Mapping[str, Json]) -> str:
    """Return a digest of everything that determines the scores of a cell."""
    return sha256_hex(json.dumps(facts, sort_keys=True))


def write_scores(path: Path, scores: CellScores, identity: str) -> None:
    """Write the scores of a cell atomically."""
    table = scores.predictions
    arrays: dict[str, NDArray[Any]] = {
        "identity": np.array([identity]),
        "paths": np.array(table.ids, dtype=np.str_),
        "labels": table.labels.astype(np.int8),
        "logits": table.margin,
        "threshold": np.array(scores.threshold),
    }
    for name, values in (("before", scores.before), ("psnr", scores.psnr)):
        if values is not None:
            arrays[name] = values.astype(np.float64)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # its keyword is no array
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())


def read_scores(path: Path) -> CellScores:
    """Return the scores of a cell.

    Raises:
        DataError: the file is absent, damaged or of another format, or a logit is not finite.
    """
    arrays = npz_files.read(path, "the scores")
    try:
        further = {
            name: arrays[name].astype(np.float64) for name in ("before", "psnr") if name in arrays
        }
        names = tuple(map(str, arrays["paths"].tolist()))
        labels, logits = arrays["labels"].astype(np.int8), arrays["logits"].astype(np.float64)
        if not len(names) == len(labels) == len(logits):
            raise DataError(f"the columns of score file {path} have different lengths")
        scores = CellScores(
            predictions=Predictions.from_margin(logits, labels, ids=names),
            threshold=float(arrays.get("threshold", 0.0)),
            **further,
        )
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"cannot read score file {path}: {error}") from error
    for values in (logits, scores.before):
        if values is None:
            continue
        broken = np.flatnonzero(~np.isfinite(values))
        if len(broken):
            raise DataError(
                f"score file {path}: the logit {values[broken[0]]} of {names[broken[0]]} is not a "
                f"finite number ({len(broken)} of {len(logits)} rows)"
            )
    return scores


def is_done(path: Path, identity: str) -> bool:
    """Return whether a cell's scores exist and were computed from the same inputs."""
    try:
        return path.exists() and bool(
            npz_files.read(path, "the scores")["identity"].tolist() == [identity]
        )
    except (DataError, KeyError):  # a damaged cell is computed again
        return False


def write_index(folder: Path, index: Index) -> None:
    """Write an index atomically, and remove the files of cells that it does not contain."""
    _write(folder / INDEX, _INDEX.dump_python(index, mode="json"))
    named = {cell.file for cell in index.cells}
    for path in folder.glob("*.npz"):
        if path.name not in named:
            path.unlink(missing_ok=True)


def remove_index(folder: Path) -> None:
    """Remove an index if it exists. Call this before its cells change."""
    (folder / INDEX).unlink(missing_ok=True)


def read_index(folder: Path) -> Index:
    """Return the index in a folder.

    Raises:
        DataError: the index is missing or damaged.
    """
    return _read(folder / INDEX, _INDEX)


def write_facts(model_folder: Path, facts: ModelFacts) -> None:
    """Write the facts of a model atomically."""
    _write(model_folder / FOLDER / MODEL, _FACTS.dump_python(facts, mode="json"))


def read_facts(model_folder: Path) -> ModelFacts:
    """Return the facts of a model.

    Raises:
        DataError: the file is missing or damaged.
    """
    return _read(model_folder / FOLDER / MODEL, _FACTS)


def manifest_of(entries: Iterable[Entry], versions: Mapping[str, Json] | None = None) -> Manifest:
    """Return the manifest of images. Repeated entries count once.

    Args:
        entries: images in any order.
        versions: versions of the software that decodes and changes the images.

    Raises:
        DataError: one path has two digests, so the image changed between two tests.
    """
    by_path: dict[str, Entry] = {}
    for entry in entries:
        if by_path.setdefault(entry.path, entry) != entry:
            raise DataError(
                f"{entry.path} changed between two tests. Run the benchmark again so that all models are scored on "
                "the same files."
            )
    return Manifest(entries=tuple(sorted(by_path.values())), versions=dict(versions or {}))


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write a manifest atomically."""
    record: dict[str, Json] = {
        "name": manifest.name,
        "sha256": manifest.sha256,
        "versions": dict(manifest.versions),
        "columns": list(Entry._fields),
        "images": [list(entry) for entry in manifest.entries],
    }
    _write(path, record)


def read_manifest(path: Path) -> Manifest:
    """Return the manifest in a file.

    Raises:
        DataError: the file is missing, or was changed, so that its digest does not match its name.
    """
    try:
        record = read_json(path)
        if record is None or record.get("schema") != SCHEMA:
            raise DataError(f"manifest {path} is missing. Run the benchmark again.")
        entries = _ENTRIES.validate_python(record.get("images"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read manifest {path}. Run the benchmark again ({error})."
        ) from error
    versions = record.get("versions")
    manifest = manifest_of(entries, versions if isinstance(versions, dict) else {})
    if manifest.sha256 != record.get("sha256"):
        raise DataError(
            f"manifest {path} was changed. Its checksum does not match its images. Run the benchmark again."
        )
    return manifest


def _write(path: Path, record: Mapping[str, Json]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"schema": SCHEMA, **record})


def _read(path: Path, adapter: TypeAdapter[Record]) -> Record:
    try:
        record = read_json(path)
        if record is None:
            raise DataError(f"{path} is missing")
        if record.pop("schema", None) != SCHEMA:
            raise DataError(f"{path} has an unknown schema version")
        return adapter.validate_python(record)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        fault = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise DataError(f"cannot read {path} ({fault})") from error
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path} ({error})") from error
