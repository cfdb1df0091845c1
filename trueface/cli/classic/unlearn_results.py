"""What the classic command line of unlearning writes beside its model, for whoever reads tables.

results.csv    one row a step: loss and accuracies
results.json   accuracies before and after, and whether the model is constant
"""

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from launcher.api import Job, Json, read_json, write_atomic, write_json
from trueface.data.dataset import still
from trueface.evaluation import predictions
from trueface.evaluation.inference import evaluate
from trueface.evaluation.predictions import Answered
from trueface.jobs import job_data, outputs
from trueface.models import checkpoint
from trueface.runtime import paths
from trueface.runtime.progress import Watch
from trueface.unlearning.settings import UnlearnSettings

SCHEMA = 1
CLASSES = ("real", "fake")
MEASURED = ("forget", "retain", "validation", "test")

_ROWS = TypeAdapter(list[dict[str, int | float | None]])

log = logging.getLogger(__name__)


def write(
    folder: Path, result: Mapping[str, Json], rival: Mapping[str, Json] | None
) -> dict[str, Json]:
    """Write the results of an unlearning, and return those to print.

    Args:
        folder: of the model that was made.
        result: of the job.
        rival: the results of a clean model, see `rival`.
    """
    before = predictions.read(paths.answers_before(folder))
    after = predictions.read(paths.answers_after(folder))
    results: dict[str, Json] = {}
    for name in MEASURED:
        for when, parts in (("before", before), ("after", after)):
            if name in parts:
                results[f"{name}_{when}"] = parts[name].accuracy("true")
    for when, parts in (("before", before), ("after", after)):
        results[f"balanced_validation_{when}"] = balanced(parts["validation"])
    constant_class = constant(after["validation"])
    results["constant"] = constant_class
    if constant_class is not None:
        log.warning(
            "state=worthless reason=the model calls every image %s, so its accuracy is only the "
            "share of them; take a lower start_lr, fewer epochs, or another method",
            constant_class,
        )
    results |= {f"baseline_{key}": value for key, value in (rival or {}).items()}
    write_json(folder / "results.json", {"schema": SCHEMA, **result, **results})
    summary = read_json(paths.summary(folder)) or {}
    write_atomic(folder / "results.csv", _table(_ROWS.validate_python(summary.get("log", []))))
    return results


def rival(job: Job, path: Path) -> dict[str, Json]:
    """Return what a clean model says of the test list, for comparison.

    Raises:
        CheckpointError: it cannot be read, or is of another architecture.
        DataError: there is no test list.
    """
    settings = UnlearnSettings.model_validate(job.settings)
    kept = checkpoint.load(path)
    checkpoint.refuse_other_decoding(kept, settings)
    model = checkpoint.revive(kept, path, arch=settings.model).to(job.device)
    feed = still(job_data.of_split(job, settings, job_data.images(job), "test")[0], settings)
    watch = Watch(device=job.device, precision=settings.precision)
    measures = outputs.of_test(evaluate(model, feed(0), total=len(feed), watch=watch))
    return {"test": measures["accuracy"], "called_fake": measures["called_fake"]}


def balanced(predicted: Answered) -> float | None:
    """Return the mean of both classes' accuracies against the truth; None without both classes."""
    right = predicted.logits.argmax(1) == predicted.true
    by_class = [right[predicted.true == label] for label in range(len(CLASSES))]
    return (
        float(np.mean([correct.mean() for correct in by_class]))
        if all(map(len, by_class))
        else None
    )


def constant(predicted: Answered) -> str | None:
    """Return the class that a constant model gives to every image; None of any other model."""
    called = predicted.logits.argmax(1)
    if len(set(predicted.true.tolist())) < 2 or (called != called[0]).any():
        return None
    return CLASSES[int(called[0])]


def _table(rows: Sequence[Mapping[str, int | float | None]]) -> bytes:
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
