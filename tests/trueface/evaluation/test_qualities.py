import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from launcher.api import model_folder_name
from tests.trueface.group_runs import COUNT, logits, pairs_of, write_tests
from tests.trueface.intervals import interval_of
from trueface.cli.qualities import text
from trueface.evaluation.qualities import comparisons, quality_rows
from trueface.predictions.csv_tables import read_csv, write_csv
from trueface.runtime import paths
from trueface.runtime.errors import DataError, UsageError

QUALITIES = {"none": 1.0, "jpeg75": 0.9, "jpeg50": 0.8, "half+jpeg30": 0.3}
RAW_ONLY = tuple(f"gan2:pre@collab=0,seed={seed}" for seed in (1, 2, 3))
ALL = tuple(f"gan2:pre@collab=0.05,seed={seed}" for seed in (1, 2, 3))
LABELS = np.repeat([0, 1], COUNT)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that no test changes."""
    tmp_path = tmp_path_factory.mktemp("qualities")
    folder = tmp_path / "runs" / "quality"
    for seed in range(3):
        for name, power in QUALITIES.items():
            weak = [logits(y, power=3 * power, skew=0, seed=seed) for y in (0, 1)]
            firm = [logits(y, power=3 * max(power, 0.8), skew=0, seed=seed) for y in (0, 1)]
            write_tests(folder, RAW_ONLY[seed], weak, corrupt=name, attributes="")
            write_tests(folder, ALL[seed], firm, corrupt=name, attributes="")
    return folder


def test_copies_of_an_image_do_not_narrow_the_interval_of_an_accuracy(tmp_path: Path) -> None:
    folder, ends = tmp_path / "runs" / "copies", []
    for copies in (1, 3):
        for name in ("none", "jpeg50"):
            values = [
                np.repeat(logits(y, power=1, skew=0)[: COUNT // copies], copies) for y in (0, 1)
            ]
            write_tests(folder, ALL[0], values, corrupt=name, attributes="")
            for _, test in pairs_of(ALL[0], corrupt=[name]):
                path = paths.scores(folder / model_folder_name(ALL[0]), ALL[0], test)
                keys = tuple(f"{test}/{row // copies}" for row in range(COUNT))
                write_csv(path, replace(read_csv(path), keys=keys))
        (row,) = quality_rows(folder, pairs_of(ALL[0], corrupt=["none", "jpeg50"]))
        accuracy = row.qualities[0].accuracy
        images = 2 * COUNT // copies
        exact = binomtest(round(accuracy.value * images), images).proportion_ci(method="wilson")
        ends.append((interval_of(accuracy), (exact.low, exact.high)))
    for found, expected in ends:
        assert found == pytest.approx(expected)


def test_qualities_of_the_same_images_are_measured_separately_and_together(run: Path) -> None:
    (row,) = quality_rows(run, pairs_of(RAW_ONLY[0], corrupt=list(QUALITIES)))
    assert [each.name for each in row.qualities] == ["raw", "jpeg75", "jpeg50", "half+jpeg30"]
    areas, every = [], []
    for each, power in zip(row.qualities, QUALITIES.values(), strict=True):
        values = np.concatenate([logits(y, power=3 * power, skew=0) for y in (0, 1)])
        every.append(values)
        areas.append(roc_auc_score(LABELS, values))
        area = row.areas[each.name]
        assert area is not None
        assert area.value == pytest.approx(areas[-1], abs=1e-6)
        assert each.accuracy.value == pytest.approx(np.mean((values > 0) == LABELS))
        assert (each.reals, each.fakes) == (COUNT, COUNT)
        assert each.real_score is not None
        assert each.real_score == pytest.approx(
            np.mean(1 / (1 + np.exp(-values[:COUNT]))), abs=1e-6
        )
    record = json.loads(json.dumps(row.json_record))
    assert (record["data"], record["worst_quality"]) == ("gan2:pre", "half+jpeg30")
    assert record["mean"] == pytest.approx(np.mean(areas))
    assert record["worst"] == pytest.approx(min(areas))
    pooled = roc_auc_score(np.tile(LABELS, 4), np.concatenate(every))
    assert record["pooled"] == pytest.approx(pooled)
    for name in ("mean", "worst", "pooled"):
        assert record[f"{name}_low"] < record[name] < record[f"{name}_high"]
    assert record["qualities"][0]["quality"] == "raw"
    assert record["against"] is None


def test_gain_is_claimed_only_if_its_interval_is_above_0(run: Path) -> None:
    tests = pairs_of(*RAW_ONLY, *ALL, corrupt=["none", "half+jpeg30"])
    rows = {row.model: row for row in quality_rows(run, tests, reference="gan2:pre@collab=0")}
    assert rows[RAW_ONLY[0]].reference_comparison is None
    assert rows[RAW_ONLY[0]].why_not == "the reference"
    against = rows[ALL[0]].reference_comparison
    assert against is not None
    assert (against.model, against.seeds) == ("gan2:pre@collab=0", 3)
    assert against.differences["worst"].word == "gain"
    assert against.differences["worst"].interval is not None
    assert against.differences["worst"].interval.low > 0.05
    # both are the same on raw images, and a constant difference of 0 is not a gain
    assert against.differences["raw"].word == "no difference shown"
    backwards = quality_rows(run, tests, reference="gan2:pre@collab=0.05")[0].reference_comparison
    assert backwards is not None
    assert backwards.differences["worst"].word == "loss"


def test_only_images_available_in_every_quality_count(run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(run, tmp_path / run.name)
    model = RAW_ONLY[0]
    place = paths.scores(run / model_folder_name(model), model, "real:pre@corrupt=jpeg50")
    place.write_text("".join(place.read_text().splitlines(keepends=True)[:-5]))
    (row,) = quality_rows(run, pairs_of(model, corrupt=list(QUALITIES)))
    assert row.left_out == 5
    assert row.qualities[0].reals == COUNT - 5
    tests = pairs_of(model, ALL[0], corrupt=list(QUALITIES))
    other = next(row for row in quality_rows(run, tests, reference=model) if row.model == ALL[0])
    assert other.why_not == f"{model} was not tested on the same images in the same qualities"


def test_seeds_that_were_tested_on_other_images_have_no_common_mean(
    run: Path, tmp_path: Path
) -> None:
    shutil.copytree(run, folder := tmp_path / "runs" / "quality")
    for file in (folder / model_folder_name(ALL[0])).glob("*/*.csv"):
        write_csv(file, read_csv(file).rows(np.arange(COUNT // 2)))
    rows = quality_rows(folder, pairs_of(*ALL, corrupt=["none", "jpeg50"]))
    found = {each.data: [len(method.rows) for method in each.methods] for each in comparisons(rows)}
    assert found == {
        f"gan2:pre, {COUNT} images, set 1 of 2": [1],
        f"gan2:pre, {2 * COUNT} images, set 2 of 2": [2],
    }


def test_fakes_alone_have_accuracies_but_no_auc(run: Path) -> None:
    tests = [pair for pair in pairs_of(ALL[0], corrupt=list(QUALITIES)) if "gan2" in pair[1]]
    (row,) = quality_rows(run, tests)
    assert set(row.areas.values()) == {None}
    assert row.json_record["worst_quality"] is None
    assert all(each.real_score is None for each in row.qualities)
    assert f" – / {row.qualities[0].fake_score:.2f}" in text("quality", [row])


def test_mean_is_over_the_seeds_that_have_a_value_and_states_their_number(run: Path) -> None:
    tests = pairs_of(*ALL, corrupt=list(QUALITIES))
    fakes = [pair for pair in tests if pair[0] != ALL[2] or "gan2" in pair[1]]
    rows = quality_rows(run, fakes)
    (compared,) = comparisons(rows)
    (method,) = compared.methods
    area = method.area("worst")
    assert area is not None
    assert (len(area.values), area.seeds) == (2, 3)
    assert f"{area.mean:.3f} ± {area.sd:.3f} (2 of 3 seeds)" in text("quality", rows)
    # one seed that has a value: its own interval over images
    (compared,) = comparisons(rows[1:])
    assert compared.methods[0].over_images("raw") == rows[1].areas["raw"]


def test_model_tested_in_one_quality_has_no_row_and_unknown_names_are_rejected(run: Path) -> None:
    assert quality_rows(run, pairs_of(ALL[0])) == []
    tests = pairs_of(ALL[0], corrupt=list(QUALITIES))
    with pytest.raises(UsageError, match="model"):
        quality_rows(run, tests, reference="other")
    for name in (RAW_ONLY[0], "gan2:pre@collab=0"):
        with pytest.raises(UsageError, match=f"{name} was not tested on the same images in two"):
            quality_rows(run, [*tests, *pairs_of(RAW_ONLY[0])], reference=name)
    with pytest.raises(DataError, match="jpeg75"):
        quality_rows(run, tests, qualities=["raw", "jpeg7"])
    (row,) = quality_rows(run, tests, qualities=["jpeg50", "raw"])
    assert [each.name for each in row.qualities] == ["jpeg50", "raw"]
