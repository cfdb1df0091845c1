"""The page of qualities, of made-up methods and seeds."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from launcher.api import Json, write_json
from tests.trueface.report.test_page import NASTY, Reading
from trueface.evaluation.intervals import Difference, Measure
from trueface.evaluation.qualities import SUMMARIES, Against, QualityRow, QualityScores
from trueface.report.qualities_page import collaborations, of_epochs, quality_page
from trueface.runtime import paths
from trueface.training.parts.qualities import CollaborationMeasured

QUALITIES = ("raw", "jpeg75", "jpeg50", "half+jpeg30")
DATA = "gan:pre&real:pre"
RAW, ALL, AWP = (f"gan:pre&real:pre@qualities={name}" for name in ("raw", "all", "awp"))


def a_row(
    model: str,
    areas: Sequence[float | None],
    *,
    against: str = "",
    worst: tuple[float, float, float] | None = None,
) -> QualityRow:
    """Return what was measured of a model.

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
        change = Difference(value=value, low=low, high=high)
        differences = dict.fromkeys((*SUMMARIES, *QUALITIES), change)
    return QualityRow(
        model=model,
        data=DATA,
        pooled_sets=False,
        qualities=tuple(
            QualityScores(name, 400, 400, Measure(value=0.8, low=0.7, high=0.9), 0.2, 0.8)
            for name in QUALITIES
        ),
        areas={
            name: None if area is None else Measure(value=area, low=area - 0.02, high=area + 0.02)
            for name, area in values.items()
        },
        worst_quality=QUALITIES[list(areas).index(min(known))],
        left_out=0,
        against=Against(against, 1, differences) if differences else None,
    )


def epochs(between: float, permuted: float, share: float) -> list[Mapping[str, Json]]:
    """Return what a training logged of its collaboration, the same in each of three epochs."""
    return [
        CollaborationMeasured(
            epoch=number,
            term=-between,
            nhsic=between,
            nhsic_permuted=permuted,
            gradient_share=share,
        ).record
        for number in (1, 2, 3)
    ]


STUDY = [
    a_row(RAW, (0.842, 0.841, 0.831, 0.689)),
    a_row(ALL, (0.848, 0.847, 0.842, 0.781), against=RAW, worst=(0.092, 0.06, 0.12)),
    a_row(AWP, (0.845, 0.845, 0.841, 0.692), against=RAW, worst=(0.003, -0.02, 0.03)),
]


def test_no_gain_is_claimed_whose_interval_holds_zero() -> None:
    text = Reading(quality_page(STUDY, "study").html).text
    assert "against qualities=raw, gain: qualities=all +9.2 points." in text
    assert "against qualities=raw, no gain shown: qualities=awp +0.3 points." in text
    assert "\N{MINUS SIGN}2.0 … +3.0" in text


def test_the_table_has_every_quality_the_mean_the_worst_and_all_together() -> None:
    read = Reading(quality_page(STUDY, "study").html)
    for word in ("raw", "jpeg75", "half+jpeg30", "mean", "worst", "pooled", "0.689", "0.801"):
        assert word in read.words
    drawn = [str(row["aria-label"]) for row in read.all("svg") if "aria-label" in row]
    assert any("qualities=raw: raw 0.842, jpeg75 0.841" in label for label in drawn)


def test_seeds_are_one_method_with_its_deviation() -> None:
    rows = [
        a_row(f"{RAW},seed={seed}", (area, area, area, area - 0.1))
        for seed, area in ((1, 0.80), (2, 0.84))
    ]
    assert "0.820 ± 0.028" in Reading(quality_page(rows, "study").html).text


def test_a_quality_without_both_classes_is_a_dash() -> None:
    row = a_row(RAW, (0.8, None, 0.7, 0.6))._replace(left_out=3)
    read = Reading(quality_page([row], "study").html)
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
    text = Reading(quality_page(STUDY, "study", trained).html).text
    assert "The collaboration did nothing in qualities=awp" in text
    assert "images exchanged" in text
    drawn = [
        str(row.get("aria-label"))
        for row in Reading(quality_page(STUDY, "study", trained).html).all("svg")
    ]
    assert any("of the same images: last 0.8; images exchanged: last 0.57" in row for row in drawn)
    assert not of_epochs(ALL, []).idle


def test_published_figures_are_marked_as_of_other_data() -> None:
    text = Reading(quality_page(STUDY, "study").html).text
    assert "Not the same data" in text
    assert "QAD-E" in text


def test_names_are_escaped_and_nothing_is_fetched_or_run() -> None:
    row = a_row(NASTY, (0.8, 0.8, 0.8, 0.7), against=NASTY, worst=(0.1, 0.05, 0.2))
    row = row._replace(data=NASTY)
    text = quality_page([row], NASTY, [of_epochs(NASTY, epochs(0.8, 0.5, 0.1))]).html
    read = Reading(text)
    assert not read.all("script")
    assert html.escape(NASTY) in text
    for _, attributes in read.tags:
        assert not any(name.startswith("on") for name in attributes)
