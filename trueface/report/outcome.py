"""What came out of a run, in a sentence each: how its detectors test, which method unlearned best.

A winner is named where it is one: ahead of all others by more than the standard deviations over seeds of both.
Where these overlap, or only one seed of it was run, the sentence says so and names none. Of one seed of another, the
deviation is taken to be the largest that is known.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from trueface.evaluation.over_seeds import (
    NO_MODELS,
    MissingModels,
    SeedSummary,
    by_method,
    short_names,
    summarize_seeds,
)
from trueface.report.content import ModelReport
from trueface.report.figures import three_digits
from trueface.report.unlearning import describe_forget_set
from trueface.runtime.launch_mode import read_launch_mode
from trueface.unlearning.evaluation.leaderboard import UnlearningGroup, UnlearningRow

MOST_NAMED = 3


class RankedMethod(NamedTuple):
    """A detector or a method with the number that ranks it."""

    name: str
    value: SeedSummary

    def text(self) -> str:
        """Return "scrub (0.021 ± 0.003)"; a single seed is mentioned."""
        alone = ", one seed" if self.value.sd is None and not self.value.seeds_note else ""
        return f"{self.name} ({self.value.text(3)}{alone})"


def indistinguishable_methods(
    first: RankedMethod, others: Sequence[RankedMethod]
) -> list[RankedMethod]:
    """Return the methods indistinguishable from `first`: spreads over seeds overlap, or its own is unknown."""
    own = first.value.sd
    if own is None:
        return list(others)
    known = max([own, *(other.value.sd for other in others if other.value.sd is not None)])
    return [
        other
        for other in others
        if abs(first.value.mean - other.value.mean)
        <= own + (known if other.value.sd is None else other.value.sd)
    ]


def launch_modes_outcome(models: Sequence[ModelReport]) -> Iterator[str]:
    """Yield a sentence if models were trained in different modes of launching their steps."""
    modes = Counter(
        read_launch_mode(shown.model.summary) for shown in models if shown.model.summary
    )
    if len(modes) > 1:
        groups = ", ".join(f"{count} with {mode}" for mode, count in sorted(modes.items()))
        yield (
            f"Models were trained in different modes of accelerate: {groups}. Between modes, weights also differ by "
            "rounding."
        )


def detectors_outcome(
    models: Sequence[ModelReport], missing: MissingModels = NO_MODELS
) -> Iterator[str]:
    """Yield a sentence about the tests of detectors, plain text; nothing where none has an AUC.

    Detectors are ranked by their mean AUC over the tests that all of them have.
    """
    named = [(shown.model.name, found) for shown in models if (found := _areas(shown))]
    if not named:
        return
    areas = [each for _, each in named]
    methods = by_method(named, lambda pair: pair[0], lambda _: "")[""]
    names = short_names(list(methods))
    shared = [test for test in areas[0] if all(test in each for each in areas)]
    if not shared and len(methods) == 1:
        (name,) = names.values()
        yield f"No test covers all seeds of {name}. The tables below show each seed on its own tests."
        return
    if not shared:
        yield (
            f"No test covers all {len(methods)} detectors, so none is called the best. The tables below show each "
            "detector on its own tests."
        )
        return
    ranked = []
    for method, seeds in methods.items():
        value = summarize_seeds(
            (_mean([each[test] for test in shared]) for _, each in seeds),
            missing.count_missing_seeds({model for model, _ in seeds}),
        )
        if value is not None:
            ranked.append(RankedMethod(names[method], value))
    ranked.sort(key=lambda each: -each.value.mean)
    first, *others = ranked
    measure = f"AUC on {shared[0]}" if len(shared) == 1 else f"mean AUC over {len(shared)} tests"
    near = indistinguishable_methods(first, others)
    if not others:
        yield f"{first.name}: {measure} {first.value.text(3)}{_range(areas, shared)}. A random guess has 0.5."
    elif not near:
        yield (
            f"{first.name} is the best of {len(ranked)} detectors by {measure}: "
            f"{first.value.text(3)} over seeds. Next is {others[0].text()}."
        )
    elif all(each.value.sd is None for each in ranked):
        best, rest = _split_ties(ranked)
        has = "has" if len(best) == 1 else "share"
        yield (
            f"{join_names([each.name for each in best])} {has} the highest {measure}, {first.value.text(3)}"
            f"{_describe_next_best(rest)}. Each was measured with one seed, so none of the {len(ranked)} detectors is called the best."
        )
    else:
        yield (
            f"None of {len(ranked)} detectors is the best by {measure}. The spreads over seeds of "
            f"{_join_method_names([first, *near])} overlap or are unknown."
        )


def unlearning_outcome(group: UnlearningGroup) -> str:
    """Return a sentence about the unlearnings of one base that forget the same, plain text.

    Methods that left a working model are ranked by their gap to retraining.
    """
    methods = [row for row in group.rows if not row.is_reference]
    ruined = [row.name for row in methods if row.verdict]
    working = {row.name: row for row in methods if not row.verdict}
    ranked = [
        RankedMethod(name, value._replace(missing=row.missing))
        for name, row in working.items()
        if (value := row.values.get("gap")) is not None
    ]
    ranked.sort(key=lambda each: each.value.mean)
    subject = f"{group.base}, forgetting {describe_forget_set(group)}"
    return f"{subject}: {_nearest(methods, working, ranked)}{_ruined_sentence(ruined, working)}."


def _nearest(
    methods: Sequence[UnlearningRow],
    working_methods: Mapping[str, UnlearningRow],
    ranking: Sequence[RankedMethod],
) -> str:
    if not methods:
        return "only references were trained, so there is no method to compare"
    if not working_methods:
        return "no method left a working model"
    if not ranking:
        why = next(iter(working_methods.values())).reasons.get("gap", "the predictions are unknown")
        return f"the gap to retraining is unknown ({why})"
    first, *others = ranking
    near = indistinguishable_methods(first, others)
    if first.value.sd is None and all(other.value.sd is None for other in others):
        best, rest = _split_ties(ranking)
        has = "has" if len(best) == 1 else "share"
        return (
            f"{join_names([each.name for each in best])} {has} the smallest gap to retraining, {first.value.text(3)}"
            f"{_describe_next_best(rest)}. With one seed, no method is called the best"
        )
    if near:
        return (
            "no method is nearest to retraining. The spreads over seeds of the gaps of "
            f"{_join_method_names([first, *near])} overlap or are unknown"
        )
    row = working_methods[first.name]
    time = row.values.get("of_retrain")
    taken = "" if time is None else f" and takes {three_digits(100 * time.mean)} % of its time"
    warned = ", ".join(alarm.alarm_kind for alarm in row.alarms)
    place = (
        "is nearest to retraining" if others else "is the only method to compare with retraining"
    )
    return (
        f"{first.name} {place}{taken}, with a gap of {first.value.text(3)} over seeds"
        + (f". Next is {others[0].text()}" if others else "")
        + (f". Check its alarm: {warned}" if warned else "")
    )


def _split_ties(ranking: Sequence[RankedMethod]) -> tuple[list[RankedMethod], list[RankedMethod]]:
    """Return the first ones, which read the same, and the rest."""
    text = ranking[0].value.text(3)
    best = [each for each in ranking if each.value.text(3) == text]
    return best, list(ranking[len(best) :])


def _describe_next_best(others: Sequence[RankedMethod]) -> str:
    return f". Next is {others[0].name}, {others[0].value.text(3)}" if others else ""


def _ruined_sentence(methods: Sequence[str], working_methods: Mapping[str, UnlearningRow]) -> str:
    if not methods or not working_methods:
        return ""
    return f". {join_names(methods)} left no working model"


def _areas(model_report: ModelReport) -> Mapping[str, float]:
    """Return the AUC of each test of a model that has both classes."""
    return {
        row.data: row.report.metrics["auc"].value
        for row in model_report.rows
        if not row.pooled and "auc" in row.report.metrics
    }


def _range(areas: Sequence[Mapping[str, float]], tests: Sequence[str]) -> str:
    """Return from where to where the tests go, where there are several."""
    if len(tests) == 1:
        return ""
    means = {test: _mean([each[test] for each in areas]) for test in tests}
    low, high = min(tests, key=means.__getitem__), max(tests, key=means.__getitem__)
    return f", from {means[low]:.3f} on {low} to {means[high]:.3f} on {high}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _join_method_names(ranking: Sequence[RankedMethod]) -> str:
    return join_names([each.text() for each in ranking])


def join_names(texts: Sequence[str]) -> str:
    """Return "a, b and c" of few texts, "a, b, c and 4 more" of many."""
    more = len(texts) - MOST_NAMED
    *before, last = texts if more <= 0 else (*texts[:MOST_NAMED], f"{more} more")
    return f"{', '.join(before)} and {last}" if before else last
