"""Which interval belongs to a number: over sources, videos or images, or none with its reason."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from benchmarks.coverage import (
    CELLS,
    LOW,
    PAGE,
    STORED,
    Cell,
    coverage,
    low_cells,
    page_text,
    read_rows,
)
from tests.trueface.evaluation.tables import make_scores
from tests.trueface.intervals import interval_of
from trueface.cli.comparison_text import text
from trueface.cli.text_tables import format_with_interval
from trueface.evaluation.comparison import ComparisonInput, compare, contrast, document
from trueface.evaluation.estimate import MAY_BE_NARROW, NOT_COMPARABLE, Difference, Interval, Over
from trueface.evaluation.estimates import (
    Sampled,
    SourcedScores,
    difference_of,
    differences,
    estimates,
    estimates_over_images,
    group_estimate,
    group_rate,
    mean_over_seeds,
    sample_metric,
    share_of,
)
from trueface.evaluation.measurement import METRICS, evaluate_scores
from trueface.evaluation.metrics.confusion import ACCURACY, BALANCED_ACCURACY, RECALL
from trueface.evaluation.metrics.curve import AP, AUC, EER, TPR_AT_1_FPR
from trueface.evaluation.metrics.probability import ECE
from trueface.evaluation.result_rows import by_video, video_report
from trueface.predictions.predictions import Predictions


def make_table(
    count: int, *, sources: Sequence[int] = (1, 1), shift: float = 1.5, seed: int = 0
) -> SourcedScores:
    """Return `count` images of each class, in so many sources of reals and of fakes."""
    rng = np.random.default_rng(seed)
    logits = np.concatenate([rng.normal(size=count) + sign * shift for sign in (-1, 1)])
    labels = np.repeat(np.array([0, 1], np.int8), count)
    keys = [f"{y}{n % sources[y]}/{n}" for y in (0, 1) for n in range(count)]
    return SourcedScores(labels=labels, logits=logits, keys=keys)


@pytest.mark.parametrize(("detector", "reals"), [("calibrated", 30), ("heavy tails", 500)])
def test_interval_of_one_source_contains_the_truth(
    detector: str, reals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = 120
    monkeypatch.setattr("benchmarks.coverage.ENDLESS", 100_000)
    for name, count in coverage(Cell(detector, reals), rounds).items():
        assert count.intervals in {0, rounds}, name
        # 93 % in so many rounds, less three standard deviations
        assert count.held >= 0.86 * count.intervals, name


def test_page_of_coverage_names_each_number_below_92_percent_with_its_note() -> None:
    rows, page = read_rows(STORED), PAGE.read_text()
    assert Counter(list(rows)) == Counter(cell for cells in CELLS.values() for cell in cells)
    assert page_text(page, rows) == page
    sections = re.findall(r"\|(\d+) of (\d+)\|", page)
    total = re.findall(r"^(\d+) of (\d+) numbers", page, re.MULTILINE)
    assert total == [tuple(str(sum(map(int, counts))) for counts in zip(*sections, strict=True))]
    stored: Any = json.loads(STORED.read_text())
    below = [
        (row["detector"], row["reals"], row["fakes"], f"{numbers[0]:.1f}")
        for row in stored["rows"]
        for numbers in row["measures"].values()
        if numbers is not None and numbers[0] < LOW
    ]
    listed = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("|")]
    named = [
        (cells[1], int(cells[2]), int(cells[3]), cells[5])
        for cells in listed
        if len(cells) == 7 and cells[2].isdigit()
    ]
    assert sorted(named) == sorted(below)
    assert all(each.note for each in low_cells(rows))


@pytest.mark.parametrize("sources", [(1, 1), (2, 1), (5, 5)])
@pytest.mark.parametrize(("count", "least"), [(49, "49 of 50 reals"), (50, "")])
def test_ap_and_eer_need_50_images_of_each_class_whatever_the_sources(
    sources: tuple[int, int], count: int, least: str
) -> None:
    measures = estimates([AP, EER, AUC], make_table(count, sources=sources))
    assert [measures[name].why for name in ("ap", "eer", "auc")] == [least, least, ""]
    assert (measures["eer"].interval is None) == bool(least)
    if sources == (5, 5):
        assert [measures[name].by_images.why for name in ("ap", "eer")] == [least, least]


def test_interval_over_sources_contains_that_over_images() -> None:
    """Of 40 images in 20 sources, leaving one source out says next to nothing."""
    tables = [make_table(40, sources=(20, 20), shift=2.2, seed=seed) for seed in (3, 4)]
    alone = [
        SourcedScores(
            labels=table.labels,
            logits=table.logits,
            keys=[f"{key[0]}/{key.rpartition('/')[2]}" for key in table.keys],
        )
        for table in tables
    ]
    metrics = [ACCURACY, BALANCED_ACCURACY, AUC]
    for name, measure in estimates(metrics, tables[0]).items():
        images = interval_of(estimates(metrics, alone[0])[name])
        assert interval_of(measure) == interval_of(measure).merge(images), name
    for name, change in differences(metrics, tables[0], tables[1], are_paired=True).items():
        images = interval_of(differences(metrics, alone[0], alone[1], are_paired=True)[name])
        both = interval_of(change)
        assert both.low <= images.low + 0.02, name
        assert both.high >= images.high - 0.02, name


@pytest.mark.parametrize(
    ("count", "sources", "text"),
    [
        (500, (10, 12), ""),
        (500, (1, 9), "1 real source (over its images), 9 fake sources"),
        (40, (1, 12), "1 real source (over its 40 images), 12 fake sources (40 images)"),
        (1, (1, 1), "1 real source (over its 1 image), 1 fake source (over its 1 image)"),
    ],
)
def test_classes_of_few_sources_or_images_are_named(
    count: int, sources: tuple[int, int], text: str
) -> None:
    assert make_table(count, sources=sources).few_sources == text


@pytest.mark.parametrize(("count", "note"), [(49, MAY_BE_NARROW), (50, "")])
def test_auc_of_a_group_with_few_images_has_a_note(count: int, note: str) -> None:
    table = make_table(count)
    area = group_estimate(AUC, table, AUC.value(table.whole))
    assert area.note == note
    assert area.json_record.get("note", "") == note
    assert area.scale(100).text(".1f").endswith(f", {note})") == bool(note)
    assert not group_rate(1.0, table, (0,)).note


@pytest.mark.parametrize(
    ("sources", "shift", "noted"),
    [(12, 2.5, {"auc", "ap"}), (12, 0.8, set()), (1, 2.5, set())],
)
def test_difference_of_areas_near_1_over_sources_has_a_note(
    sources: int, shift: float, noted: set[str]
) -> None:
    tables = [make_table(60, sources=(sources, sources), shift=shift, seed=seed) for seed in (1, 2)]
    made = differences([ACCURACY, AUC, AP], *tables, are_paired=True)
    assert {name for name, change in made.items() if change.note} == noted
    for change in made.values():
        assert change.json_record.get("note", "") == change.note
        assert format_with_interval(change, 1).endswith(f", {MAY_BE_NARROW})") == bool(change.note)


def test_models_that_only_decide_alike_may_differ_on_other_images() -> None:
    first = make_table(20, shift=2.0)
    second = SourcedScores(labels=first.labels, logits=4 * first.logits, keys=first.keys)
    change = differences([ACCURACY], first, second, are_paired=True)["accuracy"]
    assert change.value == 0
    assert interval_of(change) == pytest.approx((-0.09, 0.09), abs=0.01)


@pytest.mark.parametrize(
    ("reals", "why"),
    [
        (50, "50 of 368 reals; no false alarm in 50 reals"),
        (100, "100 of 368 reals"),
        (367, "367 of 368 reals"),
        (368, ""),
    ],
)
def test_rate_at_a_fixed_fpr_needs_368_reals(reals: int, why: str) -> None:
    measure = estimates([TPR_AT_1_FPR], make_table(reals))["tpr_at_1fpr"]
    assert measure.why == why
    assert (measure.interval is None) == bool(why)
    record = measure.json_record
    assert record.get("why", "") == why
    if why:
        assert measure.text(".2f").endswith(f"(no interval: {why})")
        assert record["low"] is record["high"] is None


@pytest.mark.parametrize(("shift", "found"), [(9.0, 40), (-9.0, 0)])
def test_recall_of_1_or_0_has_the_interval_of_so_few_fakes_of_many_sources(
    shift: float, found: int
) -> None:
    table = make_table(40, sources=(10, 10), shift=shift)
    measure = estimates_over_images([RECALL], table)["recall"]
    least = stats.beta.ppf(0.025, 40, 1)  # Clopper and Pearson, of 40 of 40
    assert measure.value == found / 40
    assert measure.interval == pytest.approx((least, 1) if found else (0, 1 - least))


def test_interval_of_a_recall_is_that_of_clopper_and_pearson() -> None:
    table = make_table(40, shift=0.6)
    found = int((table.logits[table.labels == 1] > 0).sum())
    measure = estimates([RECALL], table)["recall"]
    ends = stats.beta.ppf([0.025, 0.975], [found, found + 1], [41 - found, 40 - found])
    assert measure.interval == pytest.approx(ends)


def test_balanced_accuracy_has_the_interval_of_both_rates() -> None:
    """With 10 of 40 errors in one class and 8 in the other, square-and-add is the wider one below."""
    measure = estimates([BALANCED_ACCURACY], make_table(40, shift=0.6))["balanced_accuracy"]
    low, high = stats.beta.ppf([0.025, 0.975], [30, 9], [11, 32])
    assert interval_of(measure).low == pytest.approx(
        measure.value - np.hypot(measure.value - (low + 0.8) / 2, measure.value - (1.75 - high) / 2)
    )
    errors = stats.beta.ppf(0.025, 18, 63) * 80 / 18
    assert interval_of(measure).high == pytest.approx(1 - (10 + 8) * errors / 80)


def frames(videos: int, count: int, sets: int = 1) -> Predictions:
    """Return frames of videos of each class, whose frames have nearly the same logit."""
    rng = np.random.default_rng(1)
    keys, labels, logits, names = [], [], [], []
    for label in (0, 1):
        for video in range(videos):
            middle = rng.normal() + 2 * label - 1
            for frame in range(count):
                names.append(f"Fake/set{label}{video % sets}/v{video}")
                keys.append(f"set{label}{video % sets}/v{video}/{frame}")
                labels.append(label)
                logits.append(middle + 0.01 * rng.normal())
    return make_scores(keys, labels, logits, videos=names)


def test_videos_of_one_set_are_not_sources() -> None:
    scores = frames(40, 8)
    report = evaluate_scores(scores.labels, scores.margin, keys=scores.keys, videos=scores.videos)
    assert report.sources == {0: 1, 1: 1}
    assert report.over == {0: Over.VIDEOS, 1: Over.VIDEOS}
    assert report.metrics["tpr_at_1fpr"].why.startswith("40 of 368 real videos")
    by_frames = evaluate_scores(scores.labels, scores.margin, keys=[*map(str, range(640))])
    # 320 frames of a class are worth 40 images
    assert report.metrics["auc"].half_width > 2 * by_frames.metrics["auc"].half_width
    videos = video_report(scores)
    assert videos is not None
    assert videos.auc is not None
    assert videos.auc.over == {0: Over.VIDEOS, 1: Over.VIDEOS}
    assert len(by_video(scores)) == videos.videos == 80


@pytest.mark.parametrize("sets", [1, 2, 3])
def test_frames_without_an_error_have_the_intervals_of_as_many_videos(sets: int) -> None:
    def margins(scores: Predictions) -> NDArray[np.float64]:
        return scores.margin + np.where(scores.labels == 1, 9.0, -9.0)

    found = []
    for scores in (frames(12, 1, sets), frames(12, 30, sets)):
        report = evaluate_scores(
            scores.labels, margins(scores), keys=scores.keys, videos=scores.videos,
            names={"accuracy", "recall", "auc"},
        )  # fmt: skip
        assert {interval_of(each).high for each in report.metrics.values()} == {1.0}
        found.append(
            [interval_of(report.metrics[name]).low for name in ("recall", "accuracy", "auc")]
        )
    assert found[1] == pytest.approx(found[0])
    assert found[1][:2] == pytest.approx([0.025 ** (1 / 12), 0.025 ** (1 / 24)])
    scores = frames(12, 30, sets)
    logits = margins(scores)
    logits[-1] = -9.0  # one wrong frame of 360
    wrong = evaluate_scores(scores.labels, logits, keys=scores.keys, videos=scores.videos)
    for each in (wrong.metrics["recall"], wrong.metrics["auc"]):
        assert interval_of(each).low < 0.8


def test_two_sets_of_videos_have_intervals_over_both_and_over_their_videos() -> None:
    scores = frames(20, 4, sets=2)
    report = evaluate_scores(scores.labels, scores.margin, keys=scores.keys, videos=scores.videos)
    area = report.metrics["auc"]
    assert area.over == {0: Over.SOURCES, 1: Over.SOURCES}
    assert area.images is not None
    assert area.images.over == {0: Over.VIDEOS, 1: Over.VIDEOS}


def test_two_sources_have_both_intervals_and_three_only_that_over_sources() -> None:
    for sources, both in ((2, True), (3, False)):
        table = make_table(60, sources=(sources, sources), shift=0.8)
        scores = make_scores(table.keys, table.labels, table.logits)
        given = ComparisonInput("m", (), scores, ())
        made: Any = document(compare(given, given))
        area = made["before"]["auc"]
        assert area["over"] == {"real": "sources", "fake": "sources"}
        assert ("images" in area) is both
        assert ("over Images of These Sources" in text(compare(given, given))) is both
        if both:
            assert area["low"] < area["images"]["low"] < area["images"]["high"] < area["high"]


def test_difference_without_an_interval_is_not_comparable_and_wins_nothing() -> None:
    before, after = (make_table(60, seed=seed) for seed in (1, 2))
    made = differences(list(METRICS.values()), before, after, are_paired=True)
    assert made["tpr_at_1fpr"].word == NOT_COMPARABLE
    assert made["tpr_at_1fpr"].json_record["low"] is None
    assert made["auc"].word != NOT_COMPARABLE
    unknown, known = Difference(0.3, why="50 of 368 reals"), Difference(0.3, Interval(0.1, 0.5))
    assert unknown.word == NOT_COMPARABLE
    assert unknown.json_record["why"] == "50 of 368 reals"
    assert known.json_record == {"difference": 0.3, "low": 0.1, "high": 0.5, "word": "gain"}


@pytest.mark.parametrize("paired", [True, False])
def test_difference_of_equal_models_contains_0(paired: bool) -> None:
    table = make_table(400)
    other = SourcedScores(
        labels=table.labels, logits=table.logits + 0.0, keys=table.keys, seed=int(not paired)
    )
    for name, change in differences(
        list(METRICS.values()), table, other, are_paired=paired
    ).items():
        assert change.interval is not None, name
        assert change.value == 0
        assert change.interval.low <= 0 <= change.interval.high, name
        # identical models on the same images
        assert (change.interval.low == change.interval.high) is paired, name


def test_perfect_models_that_differ_have_a_difference_with_a_width() -> None:
    first, second = (make_table(40, shift=9.0, seed=seed) for seed in (1, 2))
    change = differences([AUC, ACCURACY], first, second, are_paired=True)
    for name in ("auc", "accuracy"):
        assert change[name].value == 0
        low, high = change[name].interval or (0, 0)
        assert low < 0 < high
    of_draws = difference_of(sample_metric(AUC, first), sample_metric(AUC, second))
    assert interval_of(of_draws).low == pytest.approx(interval_of(change["auc"]).low)


def test_means_over_draws_have_percentiles_as_their_interval() -> None:
    draws = np.linspace(0, 1, 1001)
    measure = Sampled(0.5, draws).estimate
    assert measure.interval == pytest.approx((0.025, 0.975))


def test_calibrated_detector_has_an_error_whose_interval_reaches_0() -> None:
    rng = np.random.default_rng(3)
    for count in (30, 300):
        logits = np.concatenate([2 * (rng.normal(size=count) + sign) for sign in (-1, 1)])
        table = SourcedScores(
            labels=np.repeat([0, 1], count),
            logits=logits,
            keys=[f"{n // count}/{n}" for n in range(2 * count)],
        )
        measure = estimates([ECE], table)["ece"]
        assert measure.interval is not None
        assert measure.interval.low <= 0.004 < measure.value


@pytest.mark.parametrize("right", [0.9, 0.99])
def test_error_of_a_sure_detector_has_an_interval_with_the_true_value(right: float) -> None:
    held = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        labels = np.repeat([0, 1], 100)
        signs = np.where(rng.random(200) < right, 1, -1) * (2 * labels - 1)
        table = SourcedScores(
            labels=labels,
            logits=signs * rng.uniform(8, 16, 200),
            keys=[f"{n // 100}/{n}" for n in range(200)],
        )
        held += estimates([ECE], table)["ece"].contains(1 - right)
    assert held >= 52  # 93 % of 60, less two standard deviations


def test_mean_of_perfect_models_has_an_interval_with_a_width() -> None:
    models = [sample_metric(AUC, make_table(30, shift=9.0, seed=seed)) for seed in (1, 2, 3)]
    (alone, *_), mean = models, mean_over_seeds(models).estimate
    assert mean.value == 1
    assert interval_of(mean).low == pytest.approx(interval_of(alone.estimate).low)


def test_frames_of_one_video_have_no_interval() -> None:
    scores = frames(1, 300)
    report = evaluate_scores(scores.labels, scores.margin, keys=scores.keys, videos=scores.videos)
    assert {each.why for each in report.metrics.values()} == {
        "all real and fake images are of one video"
    }


def test_metric_that_is_not_finite_has_a_reason() -> None:
    labels = np.repeat(np.array([0, 1], np.int8), 4)
    logits = np.where(labels == 1, -1.7e308, 1.7e308)
    keys = [f"{n // 2}/{n}" for n in range(8)]
    report = evaluate_scores(labels, logits, keys=keys)
    assert report.reasons["loss"] == "the logits are too large"
    assert report.metrics["accuracy"].value == 0


def test_share_of_copies_is_that_of_their_images() -> None:
    holds = np.arange(40) % 4 > 0
    alone = share_of(holds, [f"s/{n}" for n in range(40)])
    thrice = share_of(np.tile(holds, 3), [f"s/{n}" for n in range(40)] * 3)
    assert thrice.value == alone.value
    assert thrice.half_width == pytest.approx(alone.half_width)


def test_one_source_beside_many_has_a_number_with_its_scope() -> None:
    table = make_table(400, sources=(1, 20))
    measures = estimates(list(METRICS.values()), table)
    for name, measure in measures.items():
        assert measure.interval is not None, name
        assert set(measure.over.values()) <= {Over.IMAGES, Over.SOURCES}, name


def test_contrast_of_empty_tables_has_no_measures() -> None:
    table = make_table(20)
    scores = make_scores(table.keys, table.labels, table.logits)
    made = contrast(scores, scores.rows(np.zeros(40, bool)))
    assert made.after is None
    assert set(made.difference.values()) == {None}
