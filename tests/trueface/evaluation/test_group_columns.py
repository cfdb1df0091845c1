from pathlib import Path

import numpy as np
import pytest

from trueface.evaluation.fairness import original_rows
from trueface.evaluation.group_columns import ONE_LOGIT
from trueface.runtime.errors import DataError


def write(folder: Path, group: str, labels: object, logits: object) -> None:
    np.save(folder / f"{group}labels.npy", np.array(labels))
    np.save(folder / f"{group}predictions.npy", np.array(logits))


def test_files_of_the_original_are_measured_and_their_lost_logit_is_named(tmp_path: Path) -> None:
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
    assert "class 1 only" in ONE_LOGIT


def test_of_two_logits_a_row_the_difference_counts(tmp_path: Path) -> None:
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
        ([0, 1, 1], [1.0, np.nan, 2.0], "male,asianpredictions.npy, row 1: .*no finite number"),
        ([0, 1], [1.0, 2.0, 3.0], "has 3 rows, and male,asianlabels.npy has 2"),
        ([0, 2], [1.0, 2.0], "male,asianlabels.npy, row 1: the label is 2"),
        ([0, 1], [[1.0, 2.0, 3.0]] * 2, "3 numbers a row"),
        ([0, 1], ["a", "b"], "no array of numbers"),
    ],
)
def test_what_is_no_prediction_is_refused_with_file_and_row(
    tmp_path: Path, labels: object, logits: object, message: str
) -> None:
    write(tmp_path, "male,asian", labels, logits)
    with pytest.raises(DataError, match=message):
        original_rows(tmp_path)


def test_a_group_without_an_image_is_named_and_the_others_are_measured(tmp_path: Path) -> None:
    for group in ("male,asian", "nonmale,asian"):
        write(tmp_path, group, [0, 1], [[1.0, 2.0], [0.0, 3.0]])
    write(tmp_path, "male,white", np.zeros(0, int), np.zeros((0, 2)))
    (row,) = original_rows(tmp_path, ["intersec"])
    assert [group.name for group in row.table.groups] == ["male-asian", "nonmale-asian"]
    assert row.note == "no image of male-white, whose files are empty"


def test_objects_in_a_file_are_not_unpickled(tmp_path: Path) -> None:
    write(tmp_path, "male,asian", [0, 1], [1.0, 2.0])
    np.save(tmp_path / "male,asianpredictions.npy", np.array([{}, 1], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"cannot read .*predictions.npy"):
        original_rows(tmp_path)


def test_a_file_without_its_partner_is_named(tmp_path: Path) -> None:
    write(tmp_path, "male,asian", [0, 1], [1.0, 2.0])
    (tmp_path / "male,asianlabels.npy").unlink()
    with pytest.raises(DataError, match=r"has no male,asianlabels.npy beside it"):
        original_rows(tmp_path)
