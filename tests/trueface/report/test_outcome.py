"""The sentences on top of a report: who is named the best, and when nobody is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.trueface.unlearning.unlearned_runs import (
    class_predictions,
    flip_predictions,
    make_record,
    write_unlearning,
)
from trueface.audit.run_facts import Model
from trueface.benchmark.conditions import Setting
from trueface.evaluation.estimate import Estimate, Interval
from trueface.evaluation.over_seeds import MissingModels, summarize_seeds
from trueface.report.benchmark_page import outcome
from trueface.report.content import ModelReport, ReportRow
from trueface.report.outcome import (
    RankedMethod,
    detectors_outcome,
    indistinguishable_methods,
    launch_modes_outcome,
    unlearning_outcome,
)
from trueface.unlearning.evaluation.leaderboard import make_unlearning_leaderboard


class Stub:
    """Stands in for a value of which a test reads only some attributes."""

    def __init__(self, **given: Any) -> None:
        self.__dict__.update(given)


def detector(name: str, **areas: float) -> ModelReport:
    rows = tuple(
        ReportRow(
            data=data,
            pooled=False,
            labels=None,  # type: ignore[arg-type]  # not looked at
            logits=None,  # type: ignore[arg-type]  # likewise
            report=Stub(metrics={"auc": Estimate(value=area, interval=Interval(0, 1))}),  # type: ignore[arg-type]
        )
        for data, area in areas.items()
    )
    model: Model = Stub(name=name)  # type: ignore[assignment]
    return ModelReport(model=model, rows=rows, parts=(), troubles=())


@pytest.mark.parametrize(
    ("summaries", "sentence"),
    [
        ([{"loss": 1.0}, {"accelerate": "off"}, {}], ""),
        ([{"accelerate": "graph"}, {}], ""),
        (
            [{"accelerate": "graph"}, {"loss": 1.0}, {"accelerate": "graph"}],
            "Models were trained in different modes of accelerate: 2 with graph, 1 with off. Between modes, "
            "weights also differ by rounding.",
        ),
    ],
)
def test_mixed_modes_of_trainings_are_noted(summaries: list[dict[str, Any]], sentence: str) -> None:
    models = [
        ModelReport(model=Stub(name="m", summary=summary), rows=(), parts=(), troubles=())  # type: ignore[arg-type]
        for summary in summaries
    ]
    assert "".join(launch_modes_outcome(models)) == sentence


def seeds(method: str, *areas: float) -> list[ModelReport]:
    return [detector(f"{method}@seed={at}", x=area) for at, area in enumerate(areas)]


CASES: Mapping[str, tuple[list[ModelReport], str]] = {
    "nothing was tested": ([], ""),
    "one detector": (
        [detector("gan:pre", x=0.9, y=0.7)],
        "gan:pre: mean AUC over 2 tests 0.800, from 0.700 on y to 0.900 on x. A random guess has 0.5.",
    ),
    "a winner": (
        [*seeds("gan:pre", 0.8, 0.82), *seeds("gan2:pre", 0.9, 0.92), *seeds("gan3:pre", 0.5, 0.7)],
        "gan2:pre is the best of 3 detectors by AUC on x: 0.910 ± 0.014 over seeds. Next is gan:pre "
        "(0.810 ± 0.014).",
    ),
    "a third that varies as far as the first": (
        [*seeds("gan:pre", 0.8, 0.82), *seeds("gan2:pre", 0.9, 0.92), *seeds("gan3:pre", 0.6, 0.9)],
        "None of 3 detectors is the best by AUC on x. The spreads over seeds of gan2:pre (0.910 ± 0.014) and "
        "gan3:pre (0.750 ± 0.212) overlap or are unknown.",
    ),
    "one seed": (
        [detector("gan:pre", x=0.8), detector("gan2:pre", x=0.9)],
        "gan2:pre has the highest AUC on x, 0.900. Next is gan:pre, 0.800. Each was measured with one seed, so "
        "none of the 2 detectors is called the best.",
    ),
    "equal ones of one seed": (
        [detector(f"gan{at}:pre", x=area) for at, area in enumerate((0.9, 0.8, 0.9))],
        "gan0:pre and gan2:pre share the highest AUC on x, 0.900. Next is gan1:pre, 0.800. Each was measured with "
        "one seed, so none of the 3 detectors is called the best.",
    ),
    "a winner before a single seed far behind": (
        [*seeds("gan:pre", 0.8, 0.82), *seeds("gan2:pre", 0.9, 0.92), detector("gan3:pre", x=0.5)],
        "gan2:pre is the best of 3 detectors by AUC on x: 0.910 ± 0.014 over seeds. Next is gan:pre "
        "(0.810 ± 0.014).",
    ),
    "two folders of one ID": (
        [detector("gan:pre", x=0.8), detector("gan:pre", x=0.6)],
        "gan:pre: AUC on x 0.700 ± 0.141. A random guess has 0.5.",
    ),
    "one of a single seed": (
        [*seeds("gan:pre", 0.8, 0.82), detector("gan2:pre", x=0.9)],
        "None of 2 detectors is the best by AUC on x. The spreads over seeds of gan2:pre (0.900, one seed) and "
        "gan:pre (0.810 ± 0.014) overlap or are unknown.",
    ),
    "no test of all seeds": (
        [detector("gan:pre@seed=0", x=0.8), detector("gan:pre@seed=1", y=0.9)],
        "No test covers all seeds of gan:pre. The tables below show each seed on its own tests.",
    ),
    "no test in common": (
        [detector("gan:pre", x=0.8), detector("gan2:pre", y=0.9)],
        "No test covers all 2 detectors, so none is called the best. The tables below show each detector on its "
        "own tests.",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_detectors_are_ranked_by_the_tests_that_all_have(case: str) -> None:
    models, sentence = CASES[case]
    assert "".join(detectors_outcome(models)) == sentence


@pytest.mark.parametrize(
    ("first", "other", "apart"),
    [
        ((0.9, 0.9), (0.8, 0.8), True),
        ((0.9, 0.8), (0.84, 0.76), False),
        ((0.9,), (0.1, 0.1), False),
        ((0.9, 0.9), (0.1,), True),
        ((0.9, 0.7), (0.6,), False),
        ((0.9, 0.9), (0.9, 0.9), False),
    ],
)
def test_method_is_indistinguishable_if_its_spread_overlaps_or_is_unknown(
    first: tuple[float, ...], other: tuple[float, ...], apart: bool
) -> None:
    values = [summarize_seeds(each) for each in (first, other)]
    one, two = (
        RankedMethod(name, value) for name, value in zip("ab", values, strict=True) if value
    )
    assert (indistinguishable_methods(one, [two]) == []) is apart


Area = tuple[float, float, float]
MODELS: Mapping[str, tuple[Mapping[str, Mapping[Setting, Area]], str]] = {
    "no AUC": ({"a": {}}, ""),
    "one model": (
        {"a": {Setting.WHITE: (0.9, 0.8, 1), Setting.BLACK: (0.7, 0.6, 0.8)}},
        "One model has an AUC, by the lowest mean AUC of its tiers, with its 95 % interval: a (0.700, "
        "0.600 to 0.800, black).",
    ),
    "a winner": (
        {"a": {Setting.GREY: (0.6, 0.4, 0.69)}, "b": {Setting.WHITE: (0.8, 0.7, 0.9)}, "c": {}},
        "b is the best of 2 models by the lowest mean AUC of its tiers, with its 95 % interval: b (0.800, "
        "0.700 to 0.900, white). Next is a (0.600, 0.400 to 0.690, grey).",
    ),
    "intervals that overlap, and that of the first a guess": (
        {"a": {Setting.GREY: (0.6, 0.4, 0.7)}, "b": {Setting.GREY: (0.5, 0.3, 0.6)}},
        "None of 2 models is the best by the lowest mean AUC of its tiers. The 95 % intervals of a (0.600, "
        "0.400 to 0.700, grey) and b (0.500, 0.300 to 0.600, grey) overlap. The interval of a contains 0.5, a random "
        "guess.",
    ),
}


@pytest.mark.parametrize("case", MODELS)
def test_benchmark_models_are_ranked_by_their_worst_tier(case: str) -> None:
    models, sentence = MODELS[case]
    lines = [
        Stub(
            model=name,
            columns={
                setting: Stub(mean=Estimate(value=value, interval=Interval(low, high)))
                for setting, (value, low, high) in areas.items()
            },
        )
        for name, areas in models.items()
    ]
    board: Any = Stub(lines=lines, names={name: name for name in models})
    assert "".join(outcome(board)) == sentence


def outcome_of(run: Path) -> str:
    (group,) = make_unlearning_leaderboard(run).groups
    return unlearning_outcome(group)


def write_seeds(run: Path, method: str, *wrong: int, **changed: Any) -> None:
    """Write a model of one seed for each number of wrong predictions on the test."""
    for seed, count in enumerate(wrong):
        record = make_record(f"a:b~{method}@seed={seed}", f"a:b@seed={seed}", seed=seed, **changed)
        write_unlearning(
            run, record, flip_predictions(24, follows=30), flip_predictions(count, seed=seed)
        )


def test_method_closest_to_retraining_is_named(tmp_path: Path) -> None:
    write_seeds(tmp_path, "retrain", 4, 4, 4, seconds=100.0)
    write_seeds(tmp_path, "scrub", 6, 6, 6)
    write_seeds(tmp_path, "salun", 12, 12, 12)
    assert outcome_of(tmp_path).startswith(
        "a:b, forgetting flipped labels: scrub is nearest to retraining and takes 10 % of its time, with a gap of 0.006 ± 0.000 over seeds. Next is "
        "salun (0.025 ± 0.000)"
    )


def test_alarm_of_the_closest_method_is_reported(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "goal": "class", "classes": 3, "class_names": ("a", "b", "c"), "forgotten": (2,), "rate": None,
    }  # fmt: skip
    for seed in (0, 1):
        for method in ("retrain", "lau"):
            record = make_record(
                f"a:b~{method}@seed={seed}", f"a:b@seed={seed}", seed=seed, **given
            )
            write_unlearning(
                tmp_path, record, class_predictions(0), class_predictions(0, wrong=3, seed=5)
            )
    assert "Check its alarm: never known" in outcome_of(tmp_path)


def test_overlapping_gaps_over_seeds_name_no_best_method(tmp_path: Path) -> None:
    write_seeds(tmp_path, "retrain", 4, 4)
    write_seeds(tmp_path, "scrub", 8, 12)
    write_seeds(tmp_path, "salun", 9, 12)
    sentence = outcome_of(tmp_path)
    assert (
        "no method is nearest to retraining. The spreads over seeds of the gaps of scrub ("
        in sentence
    )
    assert ") and salun (" in sentence


def test_single_seed_names_no_best_method(tmp_path: Path) -> None:
    write_seeds(tmp_path, "retrain", 4)
    write_seeds(tmp_path, "restart", 4)
    write_seeds(tmp_path, "finetune", 6)
    write_seeds(tmp_path, "salun", 12)
    assert outcome_of(tmp_path) == (
        "a:b, forgetting flipped labels: finetune has the smallest gap to retraining, 0.006. Next is salun, 0.025. "
        "With one seed, no method is called the best."
    )


def test_methods_with_the_same_gap_share_the_first_place(tmp_path: Path) -> None:
    write_seeds(tmp_path, "retrain", 4)
    for method in ("scrub", "salun"):
        write_seeds(tmp_path, method, 6)
    assert (
        " salun and scrub share the smallest gap to retraining, 0.006. With one seed"
        in outcome_of(tmp_path)
    )


def test_one_measured_seed_of_several_is_not_called_the_only_one(tmp_path: Path) -> None:
    write_seeds(tmp_path, "retrain", 4)
    write_seeds(tmp_path, "scrub", 6, 6, 6)
    write_seeds(tmp_path, "salun", 12, 12, 12)
    assert (
        "scrub has the smallest gap to retraining, 0.006 (1 of 3 seeds). Next is salun, 0.025 (1 of 3 seeds). "
        "With one seed" in outcome_of(tmp_path)
    )


def test_groups_of_one_base_are_distinguished_by_their_forget_set(tmp_path: Path) -> None:
    for label, name in enumerate("ab"):
        given: dict[str, Any] = {
            "goal": "class", "classes": 3, "class_names": ("a", "b", "c"), "forgotten": (label,), "rate": None,
        }  # fmt: skip
        record = make_record(f"a:b~retrain@class={name}", "a:b", **given)
        write_unlearning(tmp_path, record, class_predictions(0), class_predictions(0))
    groups = [*make_unlearning_leaderboard(tmp_path).groups]
    groups += [groups[0]._replace(goal="instances", fraction=part) for part in (0.125, None)]
    told_of = (
        "a, of 3 classes",
        "b, of 3 classes",
        "12.5 % of the training images",
        "single images",
    )
    for group, forgotten in zip(groups, told_of, strict=True):
        assert unlearning_outcome(group).startswith(f"a:b, forgetting {forgotten}: ")


def test_ruined_models_are_named_and_never_best(tmp_path: Path) -> None:
    write_seeds(tmp_path, "retrain", 4)
    ruined = flip_predictions(4)
    ruined["test"].logits[:] = [0.0, 9.0]
    record = make_record("a:b~ng@seed=0", "a:b@seed=0")
    write_unlearning(tmp_path, record, flip_predictions(24, follows=30), ruined)
    assert outcome_of(tmp_path).endswith(": no method left a working model.")
    write_seeds(tmp_path, "scrub", 6)
    sentence = outcome_of(tmp_path)
    assert "scrub has the smallest gap" in sentence
    assert sentence.endswith(". ng left no working model.")


def test_sentence_gives_the_reason_if_retraining_or_methods_are_missing(tmp_path: Path) -> None:
    write_seeds(tmp_path / "a", "scrub", 8)
    assert "the gap to retraining is unknown (no model was retrained" in outcome_of(tmp_path / "a")
    write_seeds(tmp_path / "b", "retrain", 8)
    assert outcome_of(tmp_path / "b") == (
        "a:b, forgetting flipped labels: only references were trained, so there is no method to compare."
    )


def test_sentence_states_the_number_of_seeds_of_a_mean() -> None:
    (said,) = detectors_outcome(
        seeds("gan:pre", 0.8, 0.82), MissingModels({"gan:pre@seed=7": "failed"})
    )
    assert (
        said == "gan:pre: AUC on x 0.810 ± 0.014 (2 of 3 seeds, 1 failed). A random guess has 0.5."
    )
