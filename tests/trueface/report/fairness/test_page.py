import html
from dataclasses import dataclass
from pathlib import Path

import pytest

from launcher.api import Json
from tests.trueface.group_runs import logits, pairs_of, write_faces, write_tests
from tests.trueface.report.fairness.records_of_a_run import INTERSEC, record
from tests.trueface.report.test_page import NASTY, Reading
from trueface.evaluation.fairness.groups import AUC_GAP, MEASURES
from trueface.evaluation.fairness.run import fairness_rows
from trueface.report.fairness.content import comparisons
from trueface.report.fairness.page import GAPS, bars, fairness_page, row_of, write_fairness_page
from trueface.runtime.errors import DataError


def _seeds(fair: str, gaps: tuple[float, ...], **facts: object) -> list[dict[str, Json]]:
    """Return the records of a method's seeds, by gender."""
    return [
        record(f"forged:pre@fair={fair},seed={seed}", fpr=(30 + gap, 30.0), **facts)  # type: ignore[arg-type]  # passed on
        for seed, gap in enumerate(gaps)
    ]


def _study() -> list[dict[str, Json]]:
    return [
        *_seeds("flat", (0.0, 0.0), auc=0.5, constant=True, comparable=False, verdict="undefined"),
        *_seeds("dag", (5.0, 7.0), auc=0.58, comparable=False, verdict="not above chance"),
        *_seeds("none", (60.0, 64.0), auc=0.65),
        *_seeds("reweight", (9.5, 12.5), auc=0.66, verdict="near its floor"),
    ]


def test_a_gap_never_decides_the_order_and_a_constant_detector_comes_last() -> None:
    (comparison,) = comparisons([row_of(each) for each in _study()])
    assert [method.name for method in comparison.methods] == [
        "fair=none",
        "fair=reweight",
        "fair=dag",
        "fair=flat",
    ]


def test_the_page_says_whose_gaps_may_be_compared_and_what_chance_gives() -> None:
    text = Reading(fairness_page(_study(), "study")).text
    assert "The FPR gap is above chance: fair=none 62.0 ± 2.8" in text
    assert "near its floor, at most twice as large: fair=reweight 11.0 ± 2.1" in text
    assert "fair=none 62.0 ± 2.8 (floor 9.0)" in text
    assert "Lower AUC, not comparable (a gap says little without equal AUC): fair=dag" in text
    assert "Constant, so without any gap and without any use: fair=flat" in text
    smallest = "The smallest mean FPR gap among these is that of fair=reweight, 11.0 ± 2.1."
    assert smallest in text


def test_one_seed_is_not_said_to_have_the_smallest_gap_without_a_word_of_doubt() -> None:
    rows = [*_seeds("none", (20.0,)), *_seeds("dro", (18.0,))]
    text = Reading(fairness_page(rows, "study")).text
    assert "one seed cannot tell it from that of fair=none, 20.0" in text


def test_the_ladder_has_mean_deviation_floor_and_verdict() -> None:
    text = fairness_page(_study(), "study")
    assert "62.0<small>± 2.8</small><small>floor 9.0</small>" in text
    assert "lower AUC, not comparable; not above chance" in text
    assert "seeds)" not in text


def test_a_verdict_that_the_seeds_do_not_share_says_so() -> None:
    rows = _seeds("none", (20.0, 14.0))
    rows[1]["verdict"] = "near its floor"
    text = Reading(fairness_page(rows, "study")).text
    assert "near its floor (by themselves 1 of 2 seeds)" in text


def test_undefined_rates_are_named_with_their_group_and_drawn_as_such() -> None:
    undefined = [(INTERSEC[0], "tpr", "no fake image of male-asian")]
    row = record("forged:pre", "intersec", fpr=[20.0] * 8, tpr=[70.0] * 8, undefined=undefined)
    text = Reading(fairness_page([row], "study")).text
    assert "1 rate is not defined" in text
    assert "Not defined: TPR of male-asian (no fake image of male-asian)." in text
    (comparison,) = comparisons([row_of(row)])
    assert bars(comparison.methods[0]).count("not defined") == 2  # drawn, and read out


def test_a_table_has_a_line_for_each_group_with_wilsons_interval_and_one_for_all() -> None:
    read = Reading(fairness_page(_seeds("none", (20.0,)), "study"))
    assert read.words.count("150") >= 4
    assert "43.5–56.5" in read.text  # FPR of 50 in hand-made intervals
    assert "all" in read.words


def test_without_a_common_rate_the_page_says_why() -> None:
    text = Reading(fairness_page(_seeds("none", (20.0,), common=False), "study")).text
    assert "No common FPR: no training kept its answers on validation." in text


def test_names_are_escaped_and_nothing_is_fetched_or_run() -> None:
    row = record(NASTY, fpr=(50.0, 20.0))
    row |= {"data": NASTY, "why_not": NASTY, "attributes": [NASTY], "worst_group": NASTY}
    text = fairness_page([row], NASTY)
    read = Reading(text)
    assert not read.all("script")
    assert not read.all("link")
    assert html.escape(NASTY) in text
    for _, attributes in read.tags:
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")


def test_a_run_without_groups_is_told_so() -> None:
    assert "No model of this run was tested on images whose groups are known" in fairness_page(
        [], "x"
    )


def test_predictions_from_elsewhere_name_no_test_and_what_must_be_known_is_said() -> None:
    row = record("celebdf", fpr=(50.0, 20.0)) | {"data": "", "attributes": []}
    row |= {"note": "logit of class 1 only", "ungrouped": 7}
    read = Reading(fairness_page([row], "celebdf"))
    assert "By gender" in read.words
    assert "tests" not in read.words
    assert "Left out: 7 images without a group." in read.words
    assert "Logit of class 1 only." in read.words


def test_records_by_hand_have_the_keys_of_measured_ones(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "skew"
    write_faces(tmp_path / "faces.csv")
    write_tests(run, "gan2:pre", [logits(label, power=3, skew=1.0) for label in (0, 1)])
    (row,) = fairness_rows(run, pairs_of("gan2:pre"), ["gender"])
    measured, by_hand = row.record, record("gan2:pre")
    assert by_hand.keys() <= measured.keys()
    for name in ("overall", "groups"):
        ours, other = (each[name] for each in (by_hand, measured))
        if isinstance(ours, list) and isinstance(other, list):
            ours, other = ours[0], other[0]
        assert isinstance(ours, dict)
        assert isinstance(other, dict)
        assert ours.keys() <= other.keys()


def test_the_page_reads_the_gaps_that_are_measured_and_shades_fpr_and_fnr() -> None:
    assert {*GAPS} == {*MEASURES, AUC_GAP}
    (comparison,) = comparisons([row_of(each) for each in _seeds("none", (20.0,))])
    assert bars(comparison.methods[0]).count('class="floor"') == 2


def test_a_record_that_does_not_say_what_it_is_of_is_refused() -> None:
    with pytest.raises(DataError, match="lacks data, by"):
        row_of({"model": "a"})


@dataclass(frozen=True)
class _Row:
    record: dict[str, Json]


def test_the_page_is_written_whole_with_the_runs_name(tmp_path: Path) -> None:
    path = tmp_path / "night" / "fairness.html"
    write_fairness_page([_Row(each) for each in _study()], path)
    text = path.read_text()
    assert "<h1>night: fairness</h1>" in text
    assert list(path.parent.iterdir()) == [path]
