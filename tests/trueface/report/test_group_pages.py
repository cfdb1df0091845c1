import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from launcher.api import Json, write_json
from tests.trueface.report.test_page import NASTY, Reading, safe
from trueface.evaluation.estimate import Difference, Estimate, Interval
from trueface.evaluation.fairness import LOWER, FairnessRow, ValidationThreshold
from trueface.evaluation.group_rates import (
    MEASURES,
    GroupRow,
    GroupTable,
    PermutationBaseline,
    Undefined,
)
from trueface.evaluation.qualities import SUMMARIES, QualityRow, QualityScores, ReferenceComparison
from trueface.report.collaboration import Collaboration, collaborations, read_collaboration
from trueface.report.fairness_page import bars, comparisons, fairness_page
from trueface.report.fairness_tables import verdict
from trueface.report.figures import Label
from trueface.report.qualities_page import quality_page
from trueface.runtime import paths
from trueface.training.collaboration import CollaborationStatistics

SEXES = ("male", "nonmale")
INTERSEC = tuple(f"{sex}-{race}" for sex in SEXES for race in ("asian", "white", "black", "others"))
KEPT = "no training kept its answers on validation"
QUALITIES = ("raw", "jpeg75", "jpeg50", "half+jpeg30")
DATA = "gan:pre&real:pre"
RAW, ALL, AWP = (f"gan:pre&real:pre@qualities={name}" for name in ("raw", "all", "awp"))


def _row(
    model: str,
    *,
    fpr: Sequence[float] = (20.0, 20.0),
    tpr: float = 80.0,
    auc: float = 0.8,
    floor: float = 9.0,
    constant: bool = False,
    common: bool = True,
    undefined: Sequence[Undefined] = (),
    **further: Any,
) -> FairnessRow:
    """Return a row by gender, or of eight rates by intersection; rates are by group, and follow no answers."""
    names = SEXES if len(fpr) == len(SEXES) else INTERSEC

    def table(fpr: Sequence[float]) -> GroupTable:
        gone = {(each.group, each.rate) for each in undefined}
        gap = max(fpr) - min(fpr)
        return GroupTable(
            threshold=0.0,
            groups=tuple(
                GroupRow(name, 150, 150, _rates(rate, tpr, auc, {r for g, r in gone if g == name}))
                for name, rate in zip(names, fpr, strict=True)
            ),
            overall=GroupRow("all", 999, 999, _rates(float(np.mean(fpr)), tpr, auc)),
            measures=dict.fromkeys(MEASURES, gap),
            floor=dict.fromkeys(MEASURES, PermutationBaseline(floor / 2, floor)),
            intervals={},
            undefined=tuple(undefined),
            constant=constant,
        )

    row = FairnessRow(
        model=model,
        data="forged:pre",
        by="gender" if names is SEXES else "intersec",
        pooled=False,
        auc=Estimate(value=auc, interval=Interval(auc - 0.02, auc + 0.02)),
        table=table(fpr),
        common=table([rate / 2 for rate in fpr]) if common else None,
        validation=ValidationThreshold(0.1, 99, "")
        if common
        else ValidationThreshold(None, 0, KEPT),
        why_not="",
        attributes=("faces.csv",),
    )
    return row._replace(**further)


def _rates(
    fpr: float, tpr: float, auc: float, gone: frozenset[str] | set[str] = frozenset()
) -> dict[str, Estimate]:
    values = {"fpr": fpr, "tpr": tpr, "acc": (100 - fpr + tpr) / 2, "positive": (fpr + tpr) / 2}
    rates = {
        name: Estimate(value=value, interval=Interval(max(value - 6.5, 0), min(value + 6.5, 100)))
        for name, value in values.items()
    }
    rates["auc"] = Estimate(value=auc - 0.01, interval=Interval(auc - 0.05, auc))
    return {name: rate for name, rate in rates.items() if name not in gone}


def _seeds(fair: str, gaps: tuple[float, ...], **facts: Any) -> list[FairnessRow]:
    """Return the rows of a method's seeds, by gender."""
    return [
        _row(f"forged:pre@fair={fair},seed={seed}", fpr=(30 + gap, 30.0), **facts)
        for seed, gap in enumerate(gaps)
    ]


def fairness(rows: Sequence[FairnessRow]) -> Reading:
    return Reading(fairness_page(rows, "study").html)


def qualities(rows: Sequence[QualityRow], trained: Sequence[Collaboration] = ()) -> Reading:
    return Reading(quality_page(rows, "study", trained).html)


def _study() -> list[FairnessRow]:
    lower = f"{LOWER}: -0.080 (-0.090 to -0.070) compared with none"
    return [
        *_seeds("flat", (0.0, 0.0), auc=0.5, constant=True, why_not=lower),
        *_seeds("dag", (5.0, 7.0), auc=0.58, why_not=lower),
        *_seeds("none", (60.0, 64.0), auc=0.65),
        *_seeds("reweight", (9.5, 12.5), auc=0.66),
    ]


def test_gap_never_decides_the_order_and_a_constant_detector_is_last() -> None:
    (comparison,) = comparisons(_study())
    assert [method.name for method in comparison.methods] == [
        "fair=none",
        "fair=reweight",
        "fair=dag",
        "fair=flat",
    ]


def test_page_names_the_comparable_gaps_and_the_chance_level() -> None:
    text = fairness(_study()).text
    assert "The FPR gap is above chance: fair=none 62.0 ± 2.8" in text
    assert "near its floor (at most twice the floor): fair=reweight 11.0 ± 2.1" in text
    assert "fair=none 62.0 ± 2.8 (floor 9.0)" in text
    assert "Lower AUC, not comparable (gaps can be compared only at similar AUC): fair=dag" in text
    assert "Constant detector, so no gap: fair=flat" in text
    smallest = "fair=reweight has the smallest mean FPR gap of these: 11.0 ± 2.1."
    assert smallest in text


def test_smallest_gap_of_one_seed_is_reported_with_a_caveat() -> None:
    rows = [*_seeds("none", (20.0,)), *_seeds("dro", (18.0,))]
    text = fairness(rows).text
    assert (
        "The next gap, 20.0 of fair=none, cannot be distinguished from it: one seed is not enough."
        in text
    )


def test_leaderboard_has_mean_deviation_floor_and_verdict() -> None:
    text = fairness_page(_study(), "study").html
    assert "62.0<small>± 2.8</small><small>floor 9.0</small>" in text
    assert "lower AUC, not comparable; not above chance" in text
    assert (
        "fair=none: AUC 0.650, gap 62.0" in text
    )  # the description of the figure for screen readers
    assert "seeds)" not in text
    assert "seeds alone)" not in text


def test_verdict_that_differs_between_seeds_is_reported() -> None:
    text = fairness(_seeds("none", (20.0, 14.0))).text
    assert "near its floor (in 1 of 2 seeds alone)" in text


def test_detector_that_is_constant_in_some_seeds_reports_their_number() -> None:
    (comparison,) = comparisons(_study())
    flat = comparison.methods[-1]
    assert verdict(flat) == "constant"
    first, second = flat.rows
    second = second._replace(table=second.table._replace(constant=False))
    assert verdict(flat._replace(rows=(first, second))) == "constant in 1 of 2 seeds"


def test_undefined_rates_are_named_with_their_group_and_drawn_as_undefined() -> None:
    undefined = [Undefined(INTERSEC[0], "tpr", "fake", "no fake image of male-asian")]
    row = _row("forged:pre", fpr=[20.0] * 8, undefined=undefined)
    text = fairness([row]).text
    assert "1 rate is not defined" in text
    assert "Not defined: TPR of male-asian (no fake image of male-asian)." in text
    (comparison,) = comparisons([row])
    *_, fnr = bars(comparison.methods[0])
    assert "not defined" in fnr.description
    assert "not defined" in {each.text for each in fnr.drawn if isinstance(each, Label)}


def test_table_has_one_line_per_group_with_wilson_interval_and_one_for_all() -> None:
    read = fairness(_seeds("none", (20.0,)))
    assert read.words.count("150") >= 4
    assert "43.5 to 56.5" in read.text  # FPR of 50 in hand-made intervals
    assert "all" in read.words


def test_page_gives_the_reason_if_there_is_no_common_rate() -> None:
    text = fairness(_seeds("none", (20.0,), common=False)).text
    assert "No threshold at a common FPR: no training kept its answers on validation." in text


def test_page_defines_the_measures_of_the_original() -> None:
    text = fairness(_study()).text
    assert "F_G, F_A and F_COV are those of Fairness-Generalization" in text
    assert "F_COV sum over groups of place in the list" in text


def test_names_are_escaped_and_nothing_is_loaded_or_executed() -> None:
    row = _row(NASTY, fpr=(50.0, 20.0), data=NASTY, why_not=NASTY, attributes=(NASTY,))
    group = row.table.groups[0]._replace(name=NASTY)
    row = row._replace(table=row.table._replace(groups=(group,)), note=NASTY)
    text = fairness_page([row], NASTY).html
    safe(text)
    assert html.escape(NASTY) in text


def test_run_without_groups_is_reported() -> None:
    assert "No model of this run was tested on images with known groups" in (
        fairness_page([], "x").html
    )


def test_external_predictions_name_no_test_and_the_missing_facts_are_listed() -> None:
    facts: dict[str, Any] = {"note": "logit of class 1 only", "ungrouped": 7}
    row = _row("celebdf", fpr=(50.0, 20.0), data="", attributes=(), **facts)
    read = Reading(fairness_page([row], "celebdf").html)
    assert "By gender" in read.words
    assert "tests" not in read.words
    assert "Left out: 7 images without a group." in read.words
    assert "Logit of class 1 only." in read.words


def test_page_shades_the_chance_level_of_fpr_and_fnr() -> None:
    (comparison,) = comparisons(_seeds("none", (20.0,)))
    for figure in bars(comparison.methods[0]):
        assert "floor" in {each.style for each in figure.drawn}


def test_mean_over_some_of_the_seeds_states_their_number() -> None:
    rows = [*_seeds("none", (20.0, 24.0)), _row("forged:pre@fair=none,seed=9", common=False)]
    assert "2 of 3 seeds" in fairness(rows).text


def make_quality_row(
    model: str,
    areas: Sequence[float | None],
    *,
    against: str = "",
    worst: tuple[float, float, float] | None = None,
) -> QualityRow:
    """Return the measures of a model.

    Args:
        model: its ID.
        areas: AUC at each of QUALITIES.
        against: ID of the reference.
        worst: difference at the worst quality, with the ends of its interval; the same by all else.
    """
    known = [area for area in areas if area is not None]
    mean = sum(known) / len(known)
    totals = dict(zip(SUMMARIES, (mean, min(known), mean - 0.01), strict=True))
    values = {**dict(zip(QUALITIES, areas, strict=True)), **totals}
    differences = {}
    if worst is not None:
        value, low, high = worst
        change = Difference(value=value, interval=Interval(low, high))
        differences = dict.fromkeys((*SUMMARIES, *QUALITIES), change)
    return QualityRow(
        model=model,
        data=DATA,
        pooled_sets=False,
        qualities=tuple(
            QualityScores(
                name, 400, 400, Estimate(value=0.8, interval=Interval(0.7, 0.9)), 0.2, 0.8
            )
            for name in QUALITIES
        ),
        areas={
            name: None
            if area is None
            else Estimate(value=area, interval=Interval(area - 0.02, area + 0.02))
            for name, area in values.items()
        },
        worst_quality=QUALITIES[list(areas).index(min(known))],
        left_out=0,
        reference_comparison=ReferenceComparison(against, 1, differences) if differences else None,
    )


def epochs(between: float, permuted: float, share: float) -> list[Mapping[str, Json]]:
    """Return the collaboration log of a training, equal in each of three epochs."""
    return [
        CollaborationStatistics(
            epoch=number,
            term=-between,
            nhsic=between,
            nhsic_permuted=permuted,
            gradient_share=share,
        ).json_record
        for number in (1, 2, 3)
    ]


STUDY = [
    make_quality_row(RAW, (0.842, 0.841, 0.831, 0.689)),
    make_quality_row(ALL, (0.848, 0.847, 0.842, 0.781), against=RAW, worst=(0.092, 0.06, 0.12)),
    make_quality_row(AWP, (0.845, 0.845, 0.841, 0.692), against=RAW, worst=(0.003, -0.02, 0.03)),
]


@pytest.fixture(scope="module")
def study_page() -> Reading:
    """Return the page of the study of qualities."""
    return qualities(STUDY)


def test_gain_is_not_claimed_if_its_interval_contains_zero(study_page: Reading) -> None:
    text = study_page.text
    assert "compared with qualities=raw, gain: qualities=all +9.2 points." in text
    assert "compared with qualities=raw, no gain shown: qualities=awp +0.3 points." in text
    assert "\N{MINUS SIGN}2.0 to +3.0" in text


def test_table_has_every_quality_the_mean_the_worst_and_all_together(study_page: Reading) -> None:
    for word in ("raw", "jpeg75", "half+jpeg30", "mean", "worst", "pooled", "0.689", "0.801"):
        assert word in study_page.words
    drawn = study_page.labels
    assert any("qualities=raw: raw 0.842, jpeg75 0.841" in label for label in drawn)


def test_seeds_form_one_method_with_its_deviation() -> None:
    rows = [
        make_quality_row(f"{RAW},seed={seed}", (area, area, area, area - 0.1))
        for seed, area in ((1, 0.80), (2, 0.84))
    ]
    assert "0.820 ± 0.028" in qualities(rows).text


def test_quality_without_both_classes_is_a_dash() -> None:
    row = make_quality_row(RAW, (0.8, None, 0.7, 0.6))._replace(left_out=3)
    read = qualities([row])
    assert "–" in read.words
    assert "Left out: 3 images without scores in every quality." in read.words


def test_nhsic_is_shown_with_its_permuted_baseline_and_an_inactive_term_is_named(
    tmp_path: Path,
) -> None:
    for model, share in ((ALL, 0.02), (AWP, 2e-8)):
        folder = tmp_path / model
        folder.mkdir()
        logged = [dict(each) for each in epochs(0.8, 0.57, share)]
        write_json(paths.summary(folder), {"collaboration": [*logged]})
    trained = list(collaborations(tmp_path))
    text = qualities(STUDY, trained).text
    assert "The collaboration term had no effect in qualities=awp" in text
    assert "permuted images" in text
    drawn = [str(row.get("aria-label")) for row in qualities(STUDY, trained).all("svg")]
    assert any("same images: last 0.8; permuted images: last 0.57" in row for row in drawn)
    assert not read_collaboration(ALL, []).is_without_effect


def test_published_figures_are_marked_as_measured_on_other_data(study_page: Reading) -> None:
    text = study_page.text
    assert "Not the same data" in text
    assert "QAD-E" in text


def test_names_of_qualities_are_escaped_and_nothing_is_loaded_or_executed() -> None:
    row = make_quality_row(NASTY, (0.8, 0.8, 0.8, 0.7), against=NASTY, worst=(0.1, 0.05, 0.2))
    row = row._replace(data=NASTY)
    text = quality_page([row], NASTY, [read_collaboration(NASTY, epochs(0.8, 0.5, 0.1))]).html
    safe(text)
    assert html.escape(NASTY) in text
