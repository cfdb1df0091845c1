import pytest

from trueface.evaluation.published_tables import (
    PublishedTable,
    published_tables,
    selected_detectors,
)


@pytest.mark.parametrize("table", published_tables(), ids=lambda table: table.name)
def test_every_published_figure_is_a_fraction_with_its_source(table: PublishedTable) -> None:
    assert table.rows
    assert "arXiv" in table.citation
    for row in table.rows:
        assert 0 <= row.value <= 1
        assert row.metric in {"auc", "accuracy", "f1", "tpr", "tnr", "balanced_accuracy"}
    names = [(row.detector, row.tested_on, row.metric) for row in table.rows]
    assert len(names) == len(set(names))


def test_balanced_accuracy_is_derived_from_the_means_of_both_rates() -> None:
    (table,) = [table for table in published_tables() if table.name == "truefake"]
    balanced = {
        (row.detector, row.tested_on): row.value
        for row in table.rows
        if row.metric == "balanced_accuracy"
    }
    assert balanced["CLIP-D", "all, Telegram"] == pytest.approx(0.9375, abs=0.001)
    assert balanced["NPR", "all, Facebook"] == pytest.approx(0.529, abs=0.001)
    assert len(balanced) == 24


def test_the_means_of_quality_agnostic_detectors_are_those_of_their_rows() -> None:
    (table,) = [table for table in published_tables() if table.name == "qad"]
    rows: dict[tuple[str, str], list[float]] = {}
    means: dict[tuple[str, str], float] = {}
    for row in table.rows:
        place, _, tested = row.tested_on.partition(", ")
        if place == "mean of these":
            means[row.detector, tested] = row.value
        elif tested != "ablation":
            rows.setdefault((row.detector, tested), []).append(row.value)
    assert len(means) == 26
    odd = [
        detector
        for (detector, tested), mean in means.items()
        if abs(mean - sum(rows[detector, tested]) / len(rows[detector, tested])) > 1.01e-4
    ]
    assert odd == ["BZNet"]  # on videos; the note says so
    steps = [
        row.value
        for each in ("Baseline", "HSIC", "AWP-XE", "QAD (ours)")
        for row in table.rows
        if row.detector == f"ResNet-50, {each}" and row.metric == "auc"
    ]
    assert steps == sorted(steps)


def test_sixteen_detectors_were_selected_and_all_but_one_have_a_published_figure() -> None:
    selected = selected_detectors()
    assert len({each.detector for each in selected}) == 16
    assert [each.detector for each in selected if each.published is None] == ["FTCN"]
    assert [each.detector for each in selected if not each.networks] == ["ADD"]
    assert all(each.remark for each in selected if each.detector in {"FTCN", "ADD"})
