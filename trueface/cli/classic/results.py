"""Results of an unlearning in the file formats of the original program unlearn_trueface.py."""

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from launcher.api import (
    Job,
    Json,
    read_json,
    write_atomic,
    write_json,
)
from trueface.runtime import paths
from trueface.unlearning.settings import UnlearnSettings

if TYPE_CHECKING:  # see `write_results`
    from trueface.predictions.predictions import Predictions

log = logging.getLogger(__name__)


SCHEMA = 1  # schema of config.json and results.json
CLASSES = ("real", "fake")
MEASURED = ("forget", "retain", "validation", "test")
_ROWS = TypeAdapter(list[dict[str, int | float | None]])


def write_results(
    folder: Path, result: Mapping[str, Json], rival: Mapping[str, Json] | None
) -> dict[str, Json]:
    """Write the results of an unlearning, and return those to print.

    Args:
        folder: folder of the unlearned model.
        result: result of the job.
        rival: results of a clean model from `rival`, or None.
    """
    # help and wrong arguments must not wait until NumPy is imported
    from trueface.predictions.npz_tables import read_npz

    before = read_npz(paths.predictions_before(folder))
    after = read_npz(paths.predictions_after(folder))
    results: dict[str, Json] = {}
    for name in MEASURED:
        for when, parts in (("before", before), ("after", after)):
            if name in parts:
                results[f"{name}_{when}"] = parts[name].accuracy("true")
    for when, parts in (("before", before), ("after", after)):
        results[f"balanced_validation_{when}"] = balanced_accuracy(parts["validation"])
    constant_class = class_of_constant_model(after["validation"])
    results["constant"] = constant_class
    if constant_class is not None:
        log.warning(
            "state=worthless reason=the model predicts %s for every image, so its accuracy is the "
            "share of that class. Use a lower start_lr, fewer epochs, or another method.",
            constant_class,
        )
    results |= {f"baseline_{key}": value for key, value in (rival or {}).items()}
    write_json(folder / "results.json", {"schema": SCHEMA, **result, **results})
    summary = read_json(paths.summary(folder)) or {}
    write_atomic(folder / "results.csv", _table(_ROWS.validate_python(summary.get("log", []))))
    return results


def rival(job: Job, path: Path) -> dict[str, Json]:
    """Return the results of a clean model on the test list, for comparison.

    Raises:
        CheckpointError: the model cannot be read, or has another architecture.
        DataError: the test list does not exist.
    """
    # torch takes seconds to import; help and wrong arguments must not wait for it
    from trueface.data.loading.image_loaders import eval_loader
    from trueface.evaluation.inference import evaluate
    from trueface.jobs import job_data
    from trueface.jobs.testing import numbers_of_test
    from trueface.models import checkpoint
    from trueface.runtime.progress import RunContext

    settings = UnlearnSettings.model_validate(job.settings)
    kept = checkpoint.load(path)
    checkpoint.refuse_other_decoding(kept, settings)
    model = checkpoint.from_checkpoint(kept, path, arch=settings.model).to(job.device)
    feed = eval_loader(
        job_data.load_split_images(job, settings, job_data.job_data_id(job), "test")[0], settings
    )
    watch = RunContext(device=job.device, precision=settings.precision)
    measures = numbers_of_test(evaluate(model, feed(0), total=len(feed), watch=watch))
    return {"test": measures["accuracy"], "called_fake": measures["called_fake"]}


def balanced_accuracy(predictions: "Predictions") -> float | None:
    """Return the balanced accuracy against the true labels, or None if a class is missing."""
    has_both = set(predictions.true_labels.tolist()) == {0, 1}
    return predictions.balanced_accuracy("true") if has_both else None


def class_of_constant_model(predictions: "Predictions") -> str | None:
    """Return the class of a constant model, or None if it predicts both or the images are of one class."""
    called = predictions.predicted_classes
    if len(set(predictions.true_labels.tolist())) < 2 or (called != called[0]).any():
        return None
    return CLASSES[int(called[0])]


def _table(rows: Sequence[Mapping[str, int | float | None]]) -> bytes:
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
