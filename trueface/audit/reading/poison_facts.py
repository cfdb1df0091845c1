"""The flipped labels of a model, by its name and its poison records."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trueface.audit.reading import legacy_runs
from trueface.audit.run_facts import Record, number
from trueface.data.index import Image
from trueface.poisoning.poison_record import fingerprint, read_record
from trueface.runtime import paths
from trueface.runtime.errors import RecordError, UsageError
from trueface.runtime.files import read_json
from trueface.runtime.ids import parse_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Poisoned:
    """The flipped labels of a model, by its name and its records."""

    rate: float | None
    kind: str
    said_by: str
    unlearned: bool
    record: Record | None
    trouble: str  # why there is no record


def poisoned(folder: Path, name: str) -> Poisoned:
    """Return the facts on the flipped labels of the model in `folder`."""
    rate, kind, unlearned = _said(name)
    record, trouble = _record(folder)
    by = "the model's ID"
    if legacy_runs.is_old(folder):
        old = legacy_runs.said(folder)
        if rate is None:
            rate, by = old.rate, old.said_by
        unlearned = unlearned or old.unlearned
        if record is None:
            record, trouble = legacy_runs.record(folder, rate)
    elif rate is None and record is not None:  # the rate was a flag, and the ID does not tell it
        rate = number(read_json(paths.poison_record(folder)) or {}, "rate")
        kind, by = record.kind, "the poison record"
    return Poisoned(
        rate=rate, kind=kind, said_by=by, unlearned=unlearned, record=record, trouble=trouble
    )


def misplaced(record: Record | None, images: Sequence[Image]) -> int:
    """Return how many indices of a record are not the place of their key, or stand there twice."""
    if record is None or record.images_sha256 is None:
        return 0
    inside = {index for index in record.indices if 0 <= index < record.total}
    wrong = len(record.indices) - len(inside)
    if len(images) == record.total and fingerprint(images) == record.images_sha256:
        pairs = zip(record.indices, record.keys, strict=True)
        wrong = max(
            wrong, sum(not 0 <= at < len(images) or images[at].key != key for at, key in pairs)
        )
    return wrong


def _said(name: str) -> tuple[float | None, str, bool]:
    """Return the fraction of flipped labels, its kind and whether it was unlearned, by a model's ID."""
    try:
        last = parse_model(name).last
    except UsageError:
        return None, "", False
    if last.poison is None:
        return None, "", bool(last.methods)
    return last.poison.rate, last.poison.kind or "", bool(last.methods)


def _record(folder: Path) -> tuple[Record | None, str]:
    path = paths.poison_record(folder)
    if not path.exists():
        return None, ""
    try:
        written = read_record(path)
    except (RecordError, OSError) as error:
        return None, f"cannot read the poison record: {error}"
    record = Record(
        path=str(path),
        keys=tuple(key.partition(":")[2] for key in written.keys),
        total=written.total,
        kind=written.kind,
        images_sha256=written.split_sha256,
        classes=None,
        indices=written.indices,
    )
    return record, ""
