"""The scores of a run side by side: which tests belong together, and what each group is worth."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.api import Json, UnknownName, model_folder_name, parse_data, read_json
from trueface import layout
from trueface.metrics import MEASURES, Measure, measure
from trueface.scores import Scores, merge, read_scores
from trueface.subsets import BUILT_IN


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """One test of one model."""

    data: str
    modifier: str  # as written, "+" between several
    elementary: frozenset[str]  # what the modifier stands for
    scores: Scores

    @property
    def classes(self) -> frozenset[int]:
        """Which labels it has."""
        return frozenset(map(int, self.scores.labels))


def compare(run_folder: Path, tests: Sequence[tuple[str, str]]) -> list[dict[str, Json]]:
    """Return the rows of `results.table` for tests whose score files are all there.

    Raises:
        DataError: a score file cannot be read, or holds what is no finite number.
    """
    rows: list[dict[str, Json]] = []
    for model in dict.fromkeys(model for model, _ in tests):
        tested = [_read(run_folder, model, data) for tested, data in tests if tested == model]
        folder = run_folder / model_folder_name(model)
        took = (read_json(layout.summary(folder)) or {}).get("seconds")
        rows += [{"model": model, **row, "seconds": took} for row in _rows(tested)]
    return rows


def _rows(tested: Sequence[Tested]) -> Iterator[dict[str, Json]]:
    """Yield a model's rows: of each modifier first every set of fakes, then all of them pooled."""
    for elementary in dict.fromkeys(test.elementary for test in tested):
        group = [test for test in tested if test.elementary == elementary]
        reals = [test for test in group if test.classes == {0}]
        others = [test for test in group if test.classes != {0}]
        for test in others or reals:
            beside = reals if test.classes == {1} else []
            yield _row(test.data, [test, *beside], pooled=False)
        if len(others) > 1:
            yield _row("&".join(test.data for test in (*others, *reals)), group, pooled=True)


def _row(data: str, tests: Sequence[Tested], *, pooled: bool) -> dict[str, Json]:
    scores = merge(test.scores for test in tests)
    report = measure(scores.labels, scores.logits, keys=scores.keys)
    return {
        "data": data,
        "modifier": tests[0].modifier,
        "pooled": pooled,
        "n": report.n,
        **{name: _json(getattr(report, name)) for name in MEASURES},
        "confusion": [list(row) for row in report.confusion],
        "verdict": report.verdict,
        "reason": report.reason,
        "reasons": dict(report.reasons),
    }


def _read(run_folder: Path, model: str, data: str) -> Tested:
    parts = parse_data(data).parts
    modifiers = tuple(dict.fromkeys(part.modifier for part in parts))
    return Tested(
        data=data,
        modifier="+".join(modifiers),
        elementary=frozenset(key for modifier in modifiers for key in _elementary(modifier)),
        scores=read_scores(layout.scores(run_folder / model_folder_name(model), model, data)),
    )


def _elementary(modifier: str) -> tuple[str, ...]:
    try:
        return BUILT_IN.modifier_keys(modifier)
    except UnknownName:  # a word of the user's: taken as written
        return (modifier,)


def _json(value: Measure | None) -> Json:
    if value is None:
        return None
    return {"value": value.value, "low": value.low, "high": value.high}
