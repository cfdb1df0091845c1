"""What the classic command line of unlearning writes beside its model, for whoever reads tables.

results.csv    one row a step: loss and accuracies
results.json   accuracies before and after, and whether the model still tells images apart
"""

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from launcher.api import Job, Json, read_json, write_atomic, write_json
from trueface.data.loaders import still
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
    """Write the results of an unlearning, and return what is worth telling of them.

    Args:
        folder: of the model that was made.
        result: of the job.
        rival: what a clean model came to, see `rival`.
    """
    before = predictions.read(paths.answers_before(folder))
    after = predictions.read(paths.answers_after(folder))
    told: dict[str, Json] = {}
    for name in MEASURED:
        for when, parts in (("before", before), ("after", after)):
            if name in parts:
                told[f"{name}_{when}"] = parts[name].accuracy("true")
    for when, parts in (("before", before), ("after", after)):
        told[f"balanced_validation_{when}"] = balanced(parts["validation"])
    said = constant(after["validation"])
    told["constant"] = said
    if said is not None:
        log.warning(
            "state=worthless reason=the model calls every image %s, so its accuracy is only the "
            "share of them; take a lower start_lr, fewer epochs, or another method",
            said,
        )
    told |= {f"baseline_{key}": value for key, value in (rival or {}).items()}
    write_json(folder / "results.json", {"schema": SCHEMA, **result, **told})
    summary = read_json(paths.summary(folder)) or {}
    write_atomic(folder / "results.csv", _table(_ROWS.validate_python(summary.get("log", []))))
    return told


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
    said = outputs.of_test(evaluate(model, feed(0), total=len(feed), watch=watch))
    return {"test": said["accuracy"], "called_fake": said["called_fake"]}


def balanced(said: Answered) -> float | None:
    """Return the mean of both classes' accuracies against the truth; None without both classes."""
    right = said.logits.argmax(1) == said.true
    shares = [right[said.true == one] for one in range(len(CLASSES))]
    return float(np.mean([one.mean() for one in shares])) if all(map(len, shares)) else None


def constant(said: Answered) -> str | None:
    """Return what a model calls every image, of whichever class; None where it tells them apart."""
    called = said.logits.argmax(1)
    if len(set(said.true.tolist())) < 2 or (called != called[0]).any():
        return None
    return CLASSES[int(called[0])]


def _table(rows: Sequence[Mapping[str, int | float | None]]) -> bytes:
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
