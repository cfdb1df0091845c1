"""The model that an unlearned one was made from: whether it lies there, and what it answered."""

from pathlib import Path

import numpy as np

from trueface.audit.reading import legacy_runs
from trueface.audit.reading.model_folders import data_of, model_name, score_paths
from trueface.audit.run_facts import Base, Tested
from trueface.evaluation import score_tables
from trueface.runtime import paths
from trueface.runtime.errors import DataError
from trueface.runtime.files import read_json
from trueface.runtime.ids import model_folder_name

NONE = np.zeros(0)


def base_of(folder: Path, name: str, rate: float | None, tests: tuple[Tested, ...]) -> Base | None:
    """Return what the model before answered; None where nothing tells which it was.

    Args:
        folder: of the unlearned model.
        name: its ID.
        rate: fraction of flipped labels, by which the original system named its runs.
        tests: of the unlearned model.
    """
    before = _folder(folder, name, rate)
    if before is None:
        return None
    whose = model_name(before)
    files = {data_of(path, whose): path for path in score_paths(before)}
    if not files:
        return Base(name=whose, trouble=f"no scores of the model before in {before}: test it, too")
    equal, compared, sizes, trouble = [], 0, [], ""
    ours = {test.data: test.scores for test in tests}
    for data, path in files.items():
        try:
            then = score_tables.load(path)
        except DataError as error:
            trouble = str(error)
            continue
        sizes.append(np.abs(then.logits[np.isfinite(then.logits)]))
        now = ours.get(data)
        if now is not None and len(now):
            compared += 1
            if np.array_equal(np.sort(then.logits), np.sort(now.logits)):  # old rows are shuffled
                equal.append(data)
    return Base(
        name=whose,
        sizes=np.concatenate(sizes) if sizes else NONE,
        equal=tuple(equal),
        compared=compared,
        trouble=trouble or "the two models were not tested on the same data",
    )


def _folder(folder: Path, name: str, rate: float | None) -> Path | None:
    base = (read_json(paths.unlearning(folder)) or {}).get("base")
    if isinstance(base, str):
        return folder.parent / model_folder_name(base)
    if rate is None or not legacy_runs.is_old(folder):
        return None
    run = folder.parent.parent / f"{100 * rate:.0f}_poison"
    data = legacy_runs.data_of(folder) or name
    return run / data
