"""Which files of a model are damaged, and which of its tests have lost their scores."""

import csv
import hashlib
import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from trueface.audit.run_facts import Tested
from trueface.poisoning.poison_record import read_record
from trueface.runtime import paths
from trueface.runtime.errors import RecordError
from trueface.runtime.files import read_json
from trueface.training.history import Epoch


def damaged(folder: Path, tests: tuple[Tested, ...]) -> Iterator[tuple[str, str]]:
    """Yield each file of a model that is there and cannot be read, and why (with its line)."""
    if trouble := _json_trouble(paths.provenance(folder)):
        yield "provenance.json", trouble
    path = paths.poison_record(folder)
    if trouble := _json_trouble(path):
        yield "poison.json", trouble
    elif path.exists():
        try:
            read_record(path)
        except RecordError as error:
            yield "poison.json", str(error)
    if trouble := read_history(paths.history(folder))[1]:
        yield "history.csv", trouble
    for test in tests:
        if test.scores is None:
            yield f"the score file of {test.data}", test.trouble


def read_history(path: Path) -> tuple[tuple[Epoch, ...], str]:
    """Return the epochs of a history up to the first line that is damaged, and what is wrong there."""
    epochs: list[Epoch] = []
    if not path.exists():
        return (), ""
    try:
        lines = path.read_text().splitlines()
        for row in csv.DictReader(lines):
            balanced = row["val_balanced_accuracy"]
            worst = row.get("val_worst_cell_accuracy")  # earlier versions had no such column
            epochs.append(
                Epoch(
                    epoch=int(row["epoch"]),
                    lr=float(row["lr"]),
                    loss=float(row["loss"]),
                    accuracy=float(row["accuracy"]),
                    val_loss=float(row["val_loss"]),
                    val_accuracy=float(row["val_accuracy"]),
                    val_balanced_accuracy=float(balanced) if balanced else None,
                    seconds=float(row["seconds"]),
                    images_per_s=float(row["images_per_s"]),
                    val_worst_cell_accuracy=float(worst) if worst else None,
                )
            )
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        return tuple(epochs), f"{path}:{len(epochs) + 2}: not an epoch: {error}"
    return tuple(epochs), "" if lines else f"{path}:1: the file is empty"


def scoreless(folder: Path, tests: tuple[Tested, ...]) -> tuple[str, ...]:
    """Return the metrics of tests that kept scores, where no score file is left."""
    there = {paths.metrics(folder, test.data).name for test in tests}
    gone = []
    records = ((folder / place).glob("*.json") for place in ("metrics", paths.CONDITIONS))
    for path in sorted(chain.from_iterable(records)):
        record = read_json(path) or {}
        settings = record.get("settings")
        recorded = settings if isinstance(settings, dict) else {}
        # a triggered test keeps its scores elsewhere; an attack that makes no sense has none
        if (
            path.name not in there
            and recorded.get("save_scores") is True
            and not recorded.get("trigger")
            and "reason" not in record
        ):
            gone.append(path.stem)
    return tuple(gone)


def mark_of(path: Path) -> str | None:
    """Return the SHA-256 of a file's bytes; None where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _json_trouble(path: Path) -> str:
    if not path.exists():
        return ""
    try:
        document = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        return f"{path}:{error.lineno}: {error.msg}"
    except (OSError, ValueError, RecursionError) as error:
        return f"{path}:1: {error}"
    return "" if isinstance(document, dict) else f"{path}:1: not a JSON object"
