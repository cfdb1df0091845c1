"""The models of a run on the same images in several qualities, as rows."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from trueface.evaluation.bootstrap import Floats, Measure, interval
from trueface.evaluation.bounded_intervals import unvaried
from trueface.evaluation.calibration import probabilities
from trueface.evaluation.qualities.differences import Measured, against
from trueface.evaluation.qualities.quality_table import RAW, Areas, QualityTable, quality_of
from trueface.evaluation.qualities.row import Against, Quality, QualityRow
from trueface.evaluation.score_tables import Scores
from trueface.evaluation.tested_sets import Tested, by_place, finite_tests, joined
from trueface.runtime.errors import DataError, UnknownName
from trueface.runtime.ids import data_of_test

FEWEST = 2  # qualities
WORSE_WITH_MORE = ("blur", "h264", "median", "noise")
_NUMBER = re.compile(r"(\d+)")


def quality_rows(
    run_folder: Path,
    tests: Sequence[tuple[str, str]],
    *,
    reference: str = "",
    qualities: Sequence[str] = (),
) -> list[QualityRow]:
    """Return a row for each model and set of images that was tested in two qualities or more.

    Scores of reals stand beside each set of fakes, as in `results.table`. Only images that were
    scored in every quality count.

    Args:
        run_folder: runs/<run>.
        tests: (model ID, test) pairs; plain tests and those under a corruption alone are qualities.
        reference: model, or model without its seed, that the others are compared with; "": none.
        qualities: the ones that count, in their order; (): raw, then all others by name, each kind
            from its mildest on.

    Raises:
        DataError: a score file cannot be read, or holds what is no finite number; an unknown quality.
        UsageError: an unknown reference.
    """
    measured: list[Measured] = []
    for model in dict.fromkeys(model for model, _ in tests):
        done = finite_tests(run_folder, model, tests)
        measured += _of_model(model, done, qualities)
    beside = against(measured, reference) if reference else {}
    return [_row(each, beside.get((each.model, each.data))) for each in measured]


def _of_model(model: str, tests: Sequence[Tested], wanted: Sequence[str]) -> Iterator[Measured]:
    several = len({test.root for test in tests}) > 1
    sets: dict[tuple[str, str, bool], dict[str, Scores]] = {}
    for (root, condition, _), group in by_place(tests).items():
        corrupt = group[0].settings.get("corrupt")
        quality = quality_of(condition, corrupt if isinstance(corrupt, str) else "")
        if quality is None:
            continue
        for each in joined(group):
            data = data_of_test(each.data)
            named = f"{data} in {root}" if several else data
            sets.setdefault((root, named, each.pooled), {})[quality] = each.scores
    for (_, data, pooled), tables in sets.items():
        table = QualityTable.of(_ordered(tables, wanted)) if len(tables) >= FEWEST else None
        if table is None or len(table.qualities) < FEWEST:
            continue
        yield Measured(
            model=model, data=data, pooled_sets=pooled, table=table, areas=Areas.of(table)
        )


def _ordered(tables: Mapping[str, Scores], wanted: Sequence[str]) -> dict[str, Scores]:
    for name in wanted:
        if name not in tables:
            raise DataError(str(UnknownName("quality", name, list(tables))))
    names = wanted or sorted(tables, key=_place)
    return {name: tables[name] for name in names}


def _place(name: str) -> tuple[object, ...]:
    """Return where a quality stands: raw, fewer steps, then each kind from its mildest on."""
    sign = 1 if name.startswith(WORSE_WITH_MORE) else -1  # a JPEG quality falls
    parts = _NUMBER.split(name)
    numbers = [sign * int(number) for number in parts[1::2]]
    return name != RAW, name.count("+"), tuple(zip(parts[::2], [*numbers, 0], strict=True))


def _row(measured: Measured, beside: Against | str | None) -> QualityRow:
    table, areas = measured.table, measured.areas
    worst = table.qualities[int(np.argmin(areas.values))] if np.isfinite(areas.pooled) else ""
    return QualityRow(
        model=measured.model,
        data=measured.data,
        pooled_sets=measured.pooled_sets,
        qualities=tuple(_qualities(table, areas)),
        summaries={name: _measure(*summary) for name, summary in areas.summaries.items()},
        worst_quality=worst,
        left_out=table.left_out,
        against=beside if isinstance(beside, Against) else None,
        why_not=beside if isinstance(beside, str) else "",
    )


def _qualities(table: QualityTable, areas: Areas) -> Iterator[Quality]:
    fake = table.labels == 1
    for name, logits, area, spread in zip(
        table.qualities, table.logits, areas.values, areas.spread, strict=True
    ):
        likely = probabilities(logits)
        right = float(np.mean((logits > 0) == fake))
        yield Quality(
            name=name,
            reals=int(np.sum(~fake)),
            fakes=int(np.sum(fake)),
            auc=_measure(float(area), spread),
            accuracy=unvaried(right, len(fake)),
            real_score=_mean(likely[~fake]),
            fake_score=_mean(likely[fake]),
        )


def _measure(value: float, spread: Floats) -> Measure | None:
    return interval(value, spread) if np.isfinite(value) else None


def _mean(values: Floats) -> float | None:
    return float(values.mean()) if len(values) else None
