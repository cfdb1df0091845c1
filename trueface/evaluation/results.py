"""The table of a run: models by data, measured once and cached until a score file changes.

A cached table needs neither scikit-learn nor NumPy.
"""

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from trueface.runtime import paths
from trueface.runtime.digests import sha256_hex
from trueface.runtime.files import Json, code_digest, read_json, write_json
from trueface.runtime.ids import model_folder_name

KEPT = "results.json"  # in the run's folder
MEASURED_BY = "trueface.evaluation.result_rows:compare"  # its code: a metric added is measured
# Schema of its rows. 2 added precision to TPR at 1 % FPR, and 3 intervals over sources. 4 added calibrated
# measures, conditions and videos. 5 added tests that were not run, and 6 the method of each model. 7 added what
# an interval is over, and why there is none.
KEPT_SCHEMA = 7


def table(run_folder: Path, tests: Sequence[tuple[str, str]]) -> list[dict[str, Json]]:
    """Return one row for each model and each set of test images, and rows that pool them.

    Scores of real images are joined with the scores of fakes under the same modifiers. The original system
    called this `merge_real`. Every row then has both classes if any test gives them. Tests of two data roots are
    never joined, because equal paths there are other images. Rows keep the order of `tests`. A model's pooled
    row follows its rows of the same modifiers.

    Args:
        run_folder: runs/<run>.
        tests: (model ID, test) pairs. A test is a data ID, or one under conditions as in
            `gan2:pre@corrupt=jpeg50`. The latter are pooled among themselves. Tests without a score file are
            left out, except attacks that a model does not allow. Their rows come last, without a measure, and
            `verdict` says why.

    Returns:
        Rows with the keys model, method (train, or that of its unlearning), data, modifier, condition, pooled,
        n, and the name of each metric. The metrics are accuracy, balanced_accuracy, precision, recall, f1, auc,
        ap, eer, tpr_at_1fpr, ece and loss. Further keys are accuracy_by_images, balanced_accuracy_by_images,
        auc_by_images, balanced_accuracy_at_threshold, ece_unscaled, ece_scaled, threshold, temperature, sources,
        over, few_sources, confusion, verdict, reason, reasons, data_root, seconds.

        A measure is {"value", "low", "high"}. It is None if `reasons` says why, or, for those after calibration, if
        validation gave none. If there is no interval, `low` and `high` are None and `why` has the reason.

        `over` is the scope of the intervals of each class: sources, the videos of one source, or the images of one
        source. A measure with another scope has its own `over`. If a class has exactly two sources, `images` in a
        measure has the interval over images of these. `_by_images` always has the interval over other images of
        the same sources. `sources` counts them by class, and `few_sources` names classes with so few sources or
        images that intervals may be too narrow. If images are frames, `videos` counts their videos, and `video_auc` is the AUC of mean
        probabilities with its interval over videos. If tests have attributes, `fpr_gap` and `f_fpr` are in
        percent by the column `groups_by`, that of the training. Their `_floor` is the 95th percentile of
        shuffled groups. If the headers of the image files or the videos of frames alone reveal their class, `verdict` is "confounded by
        …", and `confounded` is a sentence. `edited` is one if a score file differs from what its test recorded. `reason` says why there is no measure of two classes. `data_root` is
        the folder of the images if the model was tested on several roots. `seconds` is the time of training or
        unlearning, if known.

    Raises:
        DataError: a score file cannot be read, or contains a non-finite number.
    """
    folders = {model: run_folder / model_folder_name(model) for model, _ in tests}
    scores = {
        (model, data): _state(paths.scores(folders[model], model, data)) for model, data in tests
    }
    done = [test for test, state in scores.items() if state is not None]
    undone = [test for test, state in scores.items() if state is None]
    refused = {test: reason for test in undone if (reason := _reason(run_folder, *test))}
    mark = _mark(run_folder, {test: scores[test] for test in (*done, *refused)})
    kept = read_json(run_folder / KEPT)
    if kept is not None and kept.get("schema") == KEPT_SCHEMA and kept.get("mark") == mark:
        kept_rows = kept["rows"]
        is_current = (
            _are_unchanged(kept.get("attributes"))
            and _are_unchanged(kept.get("video_traits"))
            and not _any_exists(kept.get("absent"))
        )
        if isinstance(kept_rows, list) and is_current:
            return [row for row in kept_rows if isinstance(row, dict)]
    # scikit-learn takes a second to import: only where there is something to measure
    from trueface.evaluation.confounds import TestedFiles
    from trueface.evaluation.group_columns import AttributeFiles
    from trueface.evaluation.result_rows import compare, not_run

    project = run_folder.parent.parent
    groups, files = AttributeFiles(project=project), TestedFiles(project=project)
    rows = compare(run_folder, done, groups, files)
    rows += [not_run(run_folder, *test, reason) for test, reason in refused.items()]
    with contextlib.suppress(OSError):  # a folder that only others may write: measured each time
        record: dict[str, Json] = {"schema": KEPT_SCHEMA, "mark": mark, "rows": list(rows)}
        if groups.used:
            record["attributes"] = {str(path): _state(path) for path in sorted(groups.used)}
        if files.video_records:
            records = sorted(files.video_records)
            record["video_traits"] = {str(path): _state(path) for path in records}
        if files.absent:
            record["absent"] = [*sorted(files.absent)]
        write_json(run_folder / KEPT, record)
    return rows


def _any_exists(absent: Json) -> bool:
    """Return whether image files exist now that could not be read before."""
    return isinstance(absent, list) and any(Path(str(path)).exists() for path in absent)


def _are_unchanged(files: Json) -> bool:
    """Return whether files that rows rest on are as they were."""
    if not isinstance(files, dict):
        return files is None
    return all(_state(Path(path)) == state for path, state in files.items())


def _state(path: Path) -> Json:
    """Return a stamp that changes when a file changes. None if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    ]  # programs can set back the second


def _reason(run_folder: Path, model: str, data: str) -> str:
    """Return why a test has no score file; "" where it is not done."""
    folder = run_folder / model_folder_name(model)
    reason = (read_json(paths.metrics(folder, data)) or {}).get("reason")
    return reason if isinstance(reason, str) else ""


def _mark(run_folder: Path, scores: Mapping[tuple[str, str], Json]) -> str:
    """Return a key that changes when a row of the table may change.

    Args:
        run_folder: runs/<run>.
        scores: (model ID, test) of each row, and the stamp of its score file.
    """
    folders = {model: run_folder / model_folder_name(model) for model, _ in scores}
    entries: list[Json] = [KEPT_SCHEMA, code_digest(MEASURED_BY)]
    entries += [[model, _state(paths.summary(folder))] for model, folder in folders.items()]
    entries += [
        [model, data, state, _state(paths.metrics(folders[model], data))]
        for (model, data), state in scores.items()
    ]
    return sha256_hex(json.dumps(entries))
