from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from tests.trueface.intervals import interval_of
from trueface.evaluation.dependent_rows import DependentRows
from trueface.evaluation.fairness import original_rows
from trueface.evaluation.group_columns import ONE_LOGIT
from trueface.evaluation.group_rates import (
    MEASURES,
    GroupConfusion,
    GroupTable,
    SortedScores,
    auc_gap_baseline,
    count_by_group,
    group_aucs,
    group_gaps,
    intervals,
    permutation_baselines,
)
from trueface.evaluation.measurement import evaluate_scores
from trueface.evaluation.published_gaps import GroupedLogits, with_published_gaps
from trueface.runtime.errors import DataError


def table_of(
    rates: Sequence[tuple[int, int, int, int]], threshold: float = 0.0, shuffles: int = 0
) -> GroupTable:
    """Return the table of groups a, b, …, each of reals, of these called fake, fakes, called fake."""
    labels, logits, groups = [], [], []
    for group, (reals, false_positives, fakes, true_positives) in enumerate(rates):
        labels += [0] * reals + [1] * fakes
        for images, called in ((reals, false_positives), (fakes, true_positives)):
            logits += [1.0] * called + [-1.0] * (images - called)
        groups += [group] * (reals + fakes)
    names = [chr(ord("a") + number) for number in range(len(rates))]
    return GroupTable.from_logits(
        np.array(labels, np.int8),
        np.array(logits),
        np.array(groups),
        names,
        threshold,
        shuffles=shuffles,
    )


def test_two_groups_with_rates_of_10_and_30_percent_are_20_points_apart() -> None:
    table = table_of([(100, 10, 100, 90), (100, 30, 100, 80)])
    gaps = {
        "fpr_gap": 20, "tpr_gap": 10, "f_fpr": 20, "f_eo": 30, "f_meo": 20, "f_oae": 15, "f_dp": 5,
    }  # fmt: skip
    assert {name: table.measures[name] for name in gaps} == pytest.approx(gaps)
    first = table.groups[0]
    assert (first.name, first.reals, first.fakes) == ("a", 100, 100)
    assert first.rates["fpr"].value == pytest.approx(10.0)
    exact = binomtest(10, 100).proportion_ci(method="exact")
    assert interval_of(first.rates["fpr"]) == pytest.approx((100 * exact.low, 100 * exact.high))
    assert table.undefined == ()


def test_group_with_one_class_has_only_the_rates_of_that_class() -> None:
    table = table_of([(50, 5, 50, 45), (50, 10, 50, 40), (40, 10, 0, 0)])
    assert table.measures["fpr_gap"] == pytest.approx(15.0)  # the third group's 25 % counts
    assert table.measures["f_meo"] == pytest.approx(15.0)  # its TPR is not taken to be 0
    assert {(each.group, each.rate, each.missing) for each in table.undefined} == {
        ("c", "tpr", "fake"),
        ("c", "auc", "fake"),
    }
    assert set(table.groups[2].rates) == {"fpr", "acc", "positive"}


def test_single_group_has_no_gap_and_a_reason() -> None:
    table = table_of([(50, 5, 50, 45)], shuffles=20)
    assert set(table.measures.values()) == {None}
    assert table.floor == {}
    assert {each.rate for each in table.undefined} == set(table.measures)
    assert all("fewer than two groups" in each.reason for each in table.undefined)


def test_gap_is_undefined_if_fewer_than_two_groups_have_its_rate() -> None:
    table = table_of([(50, 5, 0, 0), (0, 0, 50, 40)], shuffles=20)
    assert table.measures["fpr_gap"] is table.measures["auc_gap"] is None
    assert table.measures["f_oae"] == pytest.approx(10.0)
    assert table.worst is None


def test_measure_of_two_rates_is_undefined_if_fewer_than_two_groups_have_one_of_them() -> None:
    table = table_of([(60, 6, 60, 60), (60, 6, 0, 0)], shuffles=20)
    undefined = {"tpr_gap", "f_eo", "f_meo", "auc_gap"}
    assert {name for name, value in table.measures.items() if value is None} == undefined
    assert undefined.isdisjoint(table.floor)
    assert undefined.isdisjoint(table.intervals)
    assert table.worst is None
    reasons = {each.rate: each.reason for each in table.undefined if not each.group}
    assert reasons["f_eo"] == reasons["f_meo"] == "fewer than two groups have a known TPR"
    turned = table_of([(60, 6, 60, 60), (0, 0, 60, 60)])
    assert {name for name, value in turned.measures.items() if value is None} == {
        "fpr_gap", "f_fpr", "f_eo", "f_meo", "auc_gap",
    }  # fmt: skip


def test_measure_reports_its_number_of_groups() -> None:
    table = table_of([(50, 5, 50, 45), (50, 10, 50, 40), (40, 10, 0, 0), (0, 0, 0, 0)])
    assert table.measures["f_eo"] == pytest.approx(
        sum(abs(100 * part / whole - 2500 / 140) for part, whole in ((5, 50), (10, 50), (10, 40)))
        + 10.0
    )
    parts = {name: table.groups_note(name) for name in table.measures}
    partial = "2 of 3 groups"
    assert parts == {
        "fpr_gap": "", "tpr_gap": partial, "f_fpr": "", "f_eo": partial, "f_oae": "", "f_dp": "",
        "f_meo": partial, "auc_gap": partial,
    }  # fmt: skip
    assert table.json_record["f_eo_groups"] == 2
    assert table.json_record["fpr_gap_groups"] == 3


def test_constant_detector_has_no_gaps_and_is_called_constant() -> None:
    table = table_of([(30, 30, 30, 30), (50, 50, 20, 20)], shuffles=20)
    assert table.constant
    assert table.measures["fpr_gap"] == table.measures["f_fpr"] == table.measures["auc_gap"] == 0
    assert table.overall.rates["auc"].value == 0.5
    assert table_of([(30, 29, 30, 30), (50, 50, 20, 20)]).constant
    assert not table_of([(30, 28, 30, 30), (50, 50, 20, 20)]).constant


def test_aucs_are_computed_within_each_group_with_ties_counted_half() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 600)
    logits = np.round(rng.normal(size=600) + labels, 1)
    groups = rng.integers(0, 5, 600)
    table = GroupTable.from_logits(labels, logits, groups, tuple("abcde"), shuffles=0)
    for number, row in enumerate(table.groups):
        chosen = groups == number
        area = roc_auc_score(labels[chosen], logits[chosen])
        assert row.rates["auc"].value == pytest.approx(area, abs=1e-12)
        assert interval_of(row.rates["auc"]).low < area < interval_of(row.rates["auc"]).high
    assert table.overall.rates["auc"].value == pytest.approx(roc_auc_score(labels, logits))
    assert table.worst == min(table.groups, key=lambda row: row.rates["auc"].value)


def test_intervals_of_a_group_are_those_of_a_test_of_its_images_whatever_their_sources() -> None:
    rng = np.random.default_rng(1)
    labels, groups = np.repeat([0, 1], [140, 900]), rng.integers(0, 2, 1040)
    logits = np.round(rng.standard_t(3, 1040) + 2 * labels, 1)
    sources = tuple(f"s{number % 5}/{number}" for number in range(1040))
    table = GroupTable.from_logits(labels, logits, groups, "ab", keys=sources, shuffles=0)
    for number, row in enumerate(table.groups):
        chosen = groups == number
        keys = [f"{label}/{image}" for image, label in enumerate(labels[chosen])]
        report = evaluate_scores(labels[chosen], logits[chosen], keys=keys).metrics
        for rate, metric, factor in (
            ("auc", "auc", 1),
            ("tpr", "recall", 100),
            ("acc", "accuracy", 100),
        ):
            ends = interval_of(report[metric]).scale(factor)
            assert interval_of(row.rates[rate]) == pytest.approx(ends), rate
    twice = GroupTable.from_logits(
        np.tile(labels, 2),
        np.tile(logits, 2),
        np.tile(groups, 2),
        "ab",
        keys=2 * sources,
        shuffles=0,
    )
    for once, copied in zip(table.groups, twice.groups, strict=True):
        assert set(once.rates) == {"fpr", "tpr", "acc", "positive", "auc"}
        for rate, measure in once.rates.items():
            assert copied.rates[rate].value == pytest.approx(measure.value)
            assert interval_of(copied.rates[rate]) == pytest.approx(interval_of(measure)), rate


def test_one_wrong_pair_of_14_400_leaves_a_narrow_interval_of_the_auc() -> None:
    labels, logits = np.repeat([0, 1], 120), np.concatenate([np.arange(120), 200 + np.arange(120)])
    logits[[119, 120]] = 199, 198
    for sources in (1, 6):
        keys = [f"{image % sources}/{image}" for image in range(240)]
        table = GroupTable.from_logits(
            labels, logits - 150.0, np.zeros(240, int), "a", keys=keys, shuffles=0
        )
        area = table.groups[0].rates["auc"]
        assert area.value == pytest.approx(1 - 1 / 14_400)
        assert interval_of(area).low > 0.99


def test_auc_has_one_interval_at_both_thresholds() -> None:
    logits = np.array([-2.0, 0.5, 0.7, -0.5, 1.0, 2.0] * 2)
    labels, groups = np.array([0, 0, 0, 1, 1, 1] * 2), np.repeat([0, 1], 6)
    keys = tuple(f"s/{number // 2}" for number in range(12))
    even = GroupTable.from_logits(labels, logits, groups, "ab", keys=keys, shuffles=0)
    common = GroupTable.from_logits(
        labels, logits, groups, "ab", 0.6, keys=keys, shuffles=0, base_table=even
    )
    for one, other in zip(
        (*even.groups, even.overall), (*common.groups, common.overall), strict=True
    ):
        assert one.rates["auc"] == other.rates["auc"]
        assert one.rates["fpr"] != other.rates["fpr"]


def test_group_of_one_image_of_each_class_has_wide_intervals() -> None:
    table = GroupTable.from_logits(
        np.array([0, 1]), np.array([-1.0, 1.0]), np.zeros(2, int), "a", shuffles=0
    )
    rates = table.groups[0].rates
    assert interval_of(rates["tpr"]) == pytest.approx((2.5, 100.0))
    assert interval_of(rates["auc"]).low < 0.5
    assert interval_of(rates["auc"]).high == 1


def test_group_without_images_has_no_row_but_its_rates_are_listed() -> None:
    table = table_of([(50, 5, 50, 45), (0, 0, 0, 0), (50, 10, 50, 40)])
    assert [row.name for row in table.groups] == ["a", "c"]
    assert table.measures["fpr_gap"] == pytest.approx(10.0)
    assert {each.group for each in table.undefined} == {"b"}


def test_logits_at_the_threshold_count_as_real() -> None:
    table = table_of([(10, 5, 10, 5), (10, 2, 10, 8)], threshold=1.0)
    assert table.overall.rates["positive"].value == 0


def test_non_finite_logit_is_rejected() -> None:
    with pytest.raises(DataError, match="1 of 2 logits"):
        GroupTable.from_logits(np.array([0, 1]), np.array([np.nan, 1.0]), np.array([0, 1]), "ab")


def test_gaps_equal_fairlearn_if_every_group_has_both_classes() -> None:
    metrics = pytest.importorskip("fairlearn.metrics", reason="fairlearn is not installed")
    rng = np.random.default_rng(1)
    labels, groups = rng.integers(0, 2, 800), rng.integers(0, 4, 800)
    logits = rng.normal(size=800) + labels * 0.5 + groups * 0.2
    table = GroupTable.from_logits(labels, logits, groups, tuple("abcd"), shuffles=0)
    called = (logits > 0).astype(int)
    parity = metrics.demographic_parity_difference(labels, called, sensitive_features=groups)
    odds = metrics.equalized_odds_difference(labels, called, sensitive_features=groups)
    assert table.measures["f_dp"] == pytest.approx(100 * parity)
    assert table.measures["f_meo"] == pytest.approx(100 * odds)
    frame = metrics.MetricFrame(
        metrics={
            "fpr": metrics.false_positive_rate,
            "tpr": metrics.true_positive_rate,
            "positive": metrics.selection_rate,
        },
        y_true=labels,
        y_pred=called,
        sensitive_features=groups,
    )
    for number, row in enumerate(table.groups):
        for name in ("fpr", "tpr", "positive"):
            assert row.rates[name].value == pytest.approx(100 * frame.by_group[name][number])


def test_floors_equal_groups_shuffled_row_by_row_within_each_class() -> None:
    rng = np.random.default_rng(0)
    fake, groups = rng.random(900) < 0.4, rng.choice(4, 900, p=[0.6, 0.2, 0.15, 0.05])
    called = rng.random(900) < np.where(fake, 0.7, 0.2)
    shuffled: dict[str, list[float]] = {}
    for _ in range(1000):
        dealt = groups.copy()
        for kind in (fake, ~fake):
            dealt[kind] = rng.permutation(groups[kind])
        for name, value in group_gaps(count_by_group(fake, called, dealt, 4)).items():
            shuffled.setdefault(name, []).append(float(value))
    floor = permutation_baselines(count_by_group(fake, called, groups, 4), shuffles=4000)
    assert set(floor) == set(shuffled)
    for name, values in shuffled.items():
        assert floor[name].mean == pytest.approx(np.mean(values), rel=0.05)
        assert floor[name].p95 == pytest.approx(np.quantile(values, 0.95), rel=0.08)


def test_same_table_has_the_same_floor() -> None:
    fake = np.arange(200) % 2 == 0
    counts = count_by_group(fake, np.arange(200) % 3 == 0, np.arange(200) % 5, 5)
    assert permutation_baselines(counts) == permutation_baselines(counts)


def test_interval_contains_its_gap_and_widens_with_fewer_images() -> None:
    fake = np.arange(400) % 2 == 0
    called = np.arange(400) % 7 < 3
    few, many = (count_by_group(np.tile(fake, n), np.tile(called, n), np.tile(np.arange(400) // 100, n), 4)
                 for n in (1, 20))  # fmt: skip
    narrow, wide = intervals(many), intervals(few)
    for name, value in group_gaps(few).items():
        assert wide[name].contains(float(value))
        assert narrow[name].half_width < wide[name].half_width


def test_floor_of_the_auc_gap_equals_shuffled_rows() -> None:
    rng = np.random.default_rng(2)
    fake, groups = rng.random(400) < 0.5, rng.choice(3, 400, p=[0.7, 0.2, 0.1])
    logits = np.round(rng.normal(size=400) + fake, 1)
    ranking, gaps_of_areas = SortedScores.from_logits(fake, logits), []
    for _ in range(300):
        dealt = groups.copy()
        for kind in (fake, ~fake):
            dealt[kind] = rng.permutation(groups[kind])
        gaps_of_areas.append(100 * np.ptp(group_aucs(ranking, dealt, 3)))
    floor = auc_gap_baseline(ranking, groups, 3, shuffles=2000)
    assert floor is not None
    assert floor.mean == pytest.approx(np.mean(gaps_of_areas), rel=0.1)
    assert floor.p95 == pytest.approx(np.quantile(gaps_of_areas, 0.95), rel=0.15)


def test_copies_of_images_change_neither_the_floors_nor_the_intervals_of_gaps() -> None:
    rng = np.random.default_rng(3)
    labels, groups = np.repeat([0, 1], [150, 250]), rng.choice(3, 400, p=[0.5, 0.3, 0.2])
    scores, keys = np.round(rng.normal(size=400) + labels, 1), [f"s/{row}" for row in range(400)]
    found = []
    for copies in (1, 3):
        rows = np.tile(np.arange(400), copies)
        table = GroupTable.from_logits(
            labels[rows], scores[rows], groups[rows], "abc", keys=keys * copies, shuffles=1000
        )
        logits = GroupedLogits(
            fake=labels[rows] == 1,
            logits=scores[rows],
            groups=groups[rows].astype(np.int32),
            places=np.arange(3),
            intersections=groups[rows].astype(np.int32),
            keys=keys * copies,
        )
        found.append(with_published_gaps(table, logits, shuffles=1000))
    once, thrice = found
    assert set(once.floor) == set(thrice.floor) == set(MEASURES)
    for name, floor in once.floor.items():
        assert thrice.measures[name] == pytest.approx(once.measures[name])
        assert thrice.floor[name].p95 == pytest.approx(floor.p95, rel=0.12), name
    for name, estimate in once.intervals.items():
        width = interval_of(estimate).high - interval_of(estimate).low
        ends = interval_of(thrice.intervals[name])
        assert ends == pytest.approx(interval_of(estimate), abs=0.12 * width), name


def test_units_of_unequal_sizes_are_dealt_as_in_shuffles_of_the_units() -> None:
    rng = np.random.default_rng(5)
    images = np.sort(rng.integers(0, 60, 300))
    fake, groups = images % 3 == 0, images % 4 % 3
    called = rng.random(300) < 0.2 + 0.5 * (images % 5 == 0)
    units = DependentRows.find(list(map(str, images)), fake, called, groups)
    assert units is not None
    dealt = GroupConfusion(*units.shuffle_counts(rng, 4000, 3))
    by_hand = [
        count_by_group(fake, called, parts[units.units], 3) for parts in units.shuffle(rng, 4000)
    ]
    assert set(dealt.rows.sum(1)) == {300}
    for rate in ("fpr", "tpr", "accuracy"):
        found, expected = getattr(dealt, rate)[:, 0], [getattr(each, rate)[0] for each in by_hand]
        for quantile in (0.05, 0.5, 0.95):
            ends = np.quantile(found, quantile), np.quantile(expected, quantile)
            assert ends[0] == pytest.approx(ends[1], abs=0.015), (rate, quantile)


def write(folder: Path, group: str, labels: object, logits: object) -> None:
    np.save(folder / f"{group}labels.npy", np.array(labels))
    np.save(folder / f"{group}predictions.npy", np.array(logits))


def test_files_of_the_original_system_are_measured_and_their_missing_logit_is_named(
    tmp_path: Path,
) -> None:
    for group, shift in (("male,asian", 0.0), ("male,white", 1.0), ("nonmale,asian", -1.0)):
        logits = np.linspace(-2, 2, 40) + shift
        write(tmp_path, group, np.arange(40) % 2, logits.reshape(-1, 1))
    rows = original_rows(tmp_path)
    assert [row.by for row in rows] == ["gender", "race", "intersec"]
    assert [group.name for group in rows[2].table.groups] == [
        "male-asian", "male-white", "nonmale-asian",
    ]  # fmt: skip
    assert {group.name for group in rows[0].table.groups} == {"male", "nonmale"}
    assert rows[0].table.overall.reals == 60
    assert all(row.note == ONE_LOGIT and row.common is None for row in rows)
    assert "only the logit of class 1" in ONE_LOGIT


def test_two_logits_per_row_count_by_their_difference(tmp_path: Path) -> None:
    # class 1 has the higher logit in the first two rows alone, however large its logit is
    pairs = [[0.0, 1.0], [-5.0, -4.0], [9.0, 5.0], [3.0, 2.0]]
    write(tmp_path, "male,asian", [1, 1, 0, 0], pairs)
    write(tmp_path, "nonmale,asian", [1, 1, 0, 0], pairs)
    (row,) = original_rows(tmp_path, ["gender"])
    assert row.note == ""
    assert row.table.overall.rates["acc"].value == 100
    assert row.auc is not None
    assert row.auc.value == 1


@pytest.mark.parametrize(
    ("labels", "logits", "message"),
    [
        ([0, 1, 1], [1.0, np.nan, 2.0], "male,asianpredictions.npy, row 1: .*is not finite"),
        ([0, 1], [1.0, 2.0, 3.0], "has 3 rows, but male,asianlabels.npy has 2"),
        ([0, 2], [1.0, 2.0], "male,asianlabels.npy, row 1: label 2"),
        ([0, 1], [[1.0, 2.0, 3.0]] * 2, "3 numbers per row"),
        ([0, 1], ["a", "b"], "not an array of numbers"),
    ],
)
def test_invalid_prediction_is_rejected_with_file_and_row(
    tmp_path: Path, labels: object, logits: object, message: str
) -> None:
    write(tmp_path, "male,asian", labels, logits)
    with pytest.raises(DataError, match=message):
        original_rows(tmp_path)


def test_group_without_images_is_named_and_the_others_are_measured(tmp_path: Path) -> None:
    for group in ("male,asian", "nonmale,asian"):
        write(tmp_path, group, [0, 1], [[1.0, 2.0], [0.0, 3.0]])
    write(tmp_path, "male,white", np.zeros(0, int), np.zeros((0, 2)))
    (row,) = original_rows(tmp_path, ["intersec"])
    assert [group.name for group in row.table.groups] == ["male-asian", "nonmale-asian"]
    assert row.note.startswith(f"no images in the group files of male-white in {tmp_path}. ")


def test_objects_in_a_file_are_not_unpickled(tmp_path: Path) -> None:
    write(tmp_path, "male,asian", [0, 1], [1.0, 2.0])
    np.save(tmp_path / "male,asianpredictions.npy", np.array([{}, 1], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"cannot read .*predictions.npy"):
        original_rows(tmp_path)


def test_file_without_its_partner_is_named(tmp_path: Path) -> None:
    write(tmp_path, "male,asian", [0, 1], [1.0, 2.0])
    (tmp_path / "male,asianlabels.npy").unlink()
    with pytest.raises(DataError, match=r"has no male,asianlabels.npy in the same folder"):
        original_rows(tmp_path)
