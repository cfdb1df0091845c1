import html
from pathlib import Path

from launcher.api import write_json
from tests.trueface.group_runs import logits, pairs_of, write_tests
from tests.trueface.report.qualities.records_of_a_run import epochs, record
from tests.trueface.report.test_page import NASTY, Reading
from trueface.evaluation.qualities import quality_rows
from trueface.report.qualities.collaboration import collaborations, of_epochs
from trueface.report.qualities.page import quality_page
from trueface.runtime import paths

RAW, ALL, AWP = (f"gan:pre&real:pre@qualities={name}" for name in ("raw", "all", "awp"))
STUDY = [
    record(RAW, (0.842, 0.841, 0.831, 0.689)),
    record(ALL, (0.848, 0.847, 0.842, 0.781), against=RAW, worst=(0.092, 0.06, 0.12)),
    record(AWP, (0.845, 0.845, 0.841, 0.692), against=RAW, worst=(0.003, -0.02, 0.03)),
]


def test_no_gain_is_claimed_whose_interval_holds_zero() -> None:
    text = Reading(quality_page(STUDY, "study")).text
    assert "against qualities=raw, gain: qualities=all +9.2 points." in text
    assert "against qualities=raw, no gain shown: qualities=awp +0.3 points." in text
    assert "\N{MINUS SIGN}2.0 … +3.0" in text


def test_the_table_has_every_quality_the_mean_the_worst_and_all_together() -> None:
    read = Reading(quality_page(STUDY, "study"))
    for word in ("raw", "jpeg75", "half+jpeg30", "mean", "worst", "pooled", "0.689", "0.801"):
        assert word in read.words
    drawn = [str(row["aria-label"]) for row in read.all("svg") if "aria-label" in row]
    assert any("qualities=raw: raw 0.842, jpeg75 0.841" in label for label in drawn)


def test_seeds_are_one_method_with_its_deviation() -> None:
    rows = [
        record(f"{RAW},seed={seed}", (area, area, area, area - 0.1))
        for seed, area in ((1, 0.80), (2, 0.84))
    ]
    assert "0.820 ± 0.028" in Reading(quality_page(rows, "study")).text


def test_a_quality_without_both_classes_is_a_dash() -> None:
    row = record(RAW, (0.8, None, 0.7, 0.6)) | {"left_out": 3}
    read = Reading(quality_page([row], "study"))
    assert "–" in read.words
    assert "Left out: 3 images that were not scored in every quality." in read.words


def test_nhsic_stands_beside_its_permuted_baseline_and_an_idle_term_is_named(
    tmp_path: Path,
) -> None:
    for model, share in ((ALL, 0.02), (AWP, 2e-8)):
        folder = tmp_path / model
        folder.mkdir()
        logged = [dict(each) for each in epochs(0.8, 0.57, share)]
        write_json(paths.summary(folder), {"collaboration": [*logged]})
    trained = list(collaborations(tmp_path))
    text = Reading(quality_page(STUDY, "study", trained)).text
    assert "The collaboration did nothing in qualities=awp" in text
    assert "images exchanged" in text
    drawn = [
        str(row.get("aria-label"))
        for row in Reading(quality_page(STUDY, "study", trained)).all("svg")
    ]
    assert any("of the same images: last 0.8; images exchanged: last 0.57" in row for row in drawn)
    assert not of_epochs(ALL, []).idle


def test_records_by_hand_have_the_keys_of_measured_ones(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "study"
    for model, power in ((RAW, 3.0), (ALL, 4.0)):
        values = [logits(label, power=power, skew=0) for label in (0, 1)]
        for corrupt in ("none", "jpeg50"):
            write_tests(run, model, values, corrupt=corrupt)
    tests = pairs_of(RAW, ALL, corrupt=("none", "jpeg50"))
    _, other = (row.record for row in quality_rows(run, tests, reference=RAW))
    by_hand = STUDY[1]
    assert by_hand.keys() <= other.keys()
    for name in ("against", "qualities"):
        ours, measured = (each[name] for each in (by_hand, other))
        if isinstance(ours, list) and isinstance(measured, list):
            ours, measured = ours[0], measured[0]
        assert isinstance(ours, dict)
        assert isinstance(measured, dict)
        assert ours.keys() <= measured.keys()


def test_published_figures_are_marked_as_of_other_data() -> None:
    text = Reading(quality_page(STUDY, "study")).text
    assert "Not the same data" in text
    assert "QAD-E" in text


def test_names_are_escaped_and_nothing_is_fetched_or_run() -> None:
    row = record(NASTY, (0.8, 0.8, 0.8, 0.7), against=NASTY, worst=(0.1, 0.05, 0.2))
    row["data"] = NASTY
    text = quality_page([row], NASTY, [of_epochs(NASTY, epochs(0.8, 0.5, 0.1))])
    read = Reading(text)
    assert not read.all("script")
    assert html.escape(NASTY) in text
    for _, attributes in read.tags:
        assert not any(name.startswith("on") for name in attributes)
