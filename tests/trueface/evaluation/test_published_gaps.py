"""F_G, F_A and F_COV against numbers that the program of Fairness-Generalization printed."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from trueface.evaluation.fairness import FairnessRow, original_rows
from trueface.evaluation.group_columns import ONE_LOGIT
from trueface.evaluation.npy_folder import write_npy_folders
from trueface.evaluation.published_gaps import NEITHER, places_in_list, with_published_gaps
from trueface.runtime.errors import DataError, MachineError, UsageError

RACES = ("asian", "white", "black", "others")
EIGHT, SIX = (60, 80, 40, 30, 50, 90, 30, 20), (60, 80, 40, 30, 50, 90)
NAMES = ("f_g", "f_a", "f_cov")
# values of fairness_metrics.py of Purdue-M2/Fairness-Generalization @e552a54, run on `write_groups` with twelve
# decimals instead of five: F_G, F_A and F_COV of group_1 (gender) and of group_2 (race), F_G_inter, F_A_inter
PRINTED: dict[str, tuple[float, ...]] = {
    "eight": (
        0.146315789474, 0.298157894737, 0.251247792578, 0.140000000000, 0.295000000000, 0.290785479692,
        0.230000000000, 0.340000000000,
    ),
    "six": (
        0.148571428571, 0.271507936508, 0.254305084884, 0.125494505495, 0.259969474969, 0.427760140810,
        0.201428571429, 0.297936507937,
    ),
    "a race without members": (
        0.139408866995, 0.275954433498, 0.246134134623, 0.056551724138, 0.234525862069, 0.246599305377,
        0.246551724138, 0.329525862069,
    ),
    "a group without members": (
        0.174346405229, 0.362173202614, 0.289483101202, 0.147222222222, 0.348611111111, 0.294059828592,
        0.313888888889, 0.431944444444,
    ),
    "a group with one class": (
        0.146315789474, 0.281491228070, 0.251247792578, 0.140000000000, 0.278333333333, 0.290785479692,
        0.230000000000, 0.323333333333,
    ),
}  # fmt: skip
SIZES = {
    "eight": EIGHT,
    "six": SIX,
    "a race without members": (0, *EIGHT[1:4], 0, *EIGHT[5:]),
    "a group without members": (*EIGHT[:2], 0, *EIGHT[3:]),
    "a group with one class": EIGHT,
}


def write_groups(
    folder: Path, sizes: Sequence[int], *, races: Sequence[str] = RACES, one_class: str = ""
) -> None:
    """Write the files of groups with so many images, whose logits rise from group to group."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(7)
    groups = [f"{gender},{race}" for gender in ("male", "nonmale") for race in races]
    for number, (group, size) in enumerate(zip(groups, sizes, strict=True)):
        labels = np.arange(size) % 2
        logits = rng.normal(size=size) + 1.5 * (labels - 0.5) + 0.25 * number
        np.save(
            folder / f"{group}labels.npy", np.ones_like(labels) if group == one_class else labels
        )
        np.save(folder / f"{group}predictions.npy", logits)


def write_case(folder: Path, case: str) -> list[FairnessRow]:
    """Write the files of a case and return its rows by gender, race and intersection."""
    one_class = "nonmale,others" if case == "a group with one class" else ""
    races = RACES[1:] if case == "six" else RACES
    write_groups(folder, SIZES[case], races=races, one_class=one_class)
    return original_rows(folder)


@pytest.mark.parametrize("case", PRINTED)
def test_measures_equal_those_of_the_authors_program(tmp_path: Path, case: str) -> None:
    gender, race, both = write_case(tmp_path, case)
    ours = [row.table.measures[name] for row in (gender, race) for name in NAMES]
    ours += [both.table.measures[name] for name in NAMES[:2]]
    units = [100, 100, 1, 100, 100, 1, 100, 100]  # per cent, except F_COV
    assert ours == pytest.approx(np.multiply(PRINTED[case], units), abs=1e-9)


def test_measures_have_no_value_for_fewer_than_two_groups(tmp_path: Path) -> None:
    write_groups(tmp_path, (50, 0), races=("white",))
    table = original_rows(tmp_path, ["gender"])[0].table
    assert [table.measures[name] for name in NAMES] == [None] * 3
    reasons = {each.rate: each.reason for each in table.undefined if not each.group}
    assert reasons["f_g"] == "fewer than two groups have images of both classes"
    assert reasons["f_cov"] == "fewer than two groups have images"
    assert not set(NAMES) & {*table.floor, *table.intervals}


def test_logits_whose_sums_overflow_are_the_reason_of_no_covariance(tmp_path: Path) -> None:
    for number, group in enumerate(("male,white", "nonmale,white")):
        np.save(tmp_path / f"{group}labels.npy", np.arange(40) % 2)
        np.save(tmp_path / f"{group}predictions.npy", np.full(40, 1e308 - number))
    table = original_rows(tmp_path, ["gender"])[0].table
    assert table.measures["f_cov"] is None
    reasons = {each.rate: each.reason for each in table.undefined if not each.group}
    assert reasons["f_cov"] == "sums of the logits overflow"


def test_two_files_of_one_group_are_refused(tmp_path: Path) -> None:
    write_groups(tmp_path, EIGHT)
    for end in ("labels", "predictions"):
        (tmp_path / f"male-white{end}.npy").write_bytes(
            (tmp_path / f"male,white{end}.npy").read_bytes()
        )
    with pytest.raises(
        DataError, match=r"male,whitepredictions.npy and male-whitepredictions.npy are both of"
    ):
        original_rows(tmp_path)


@pytest.mark.parametrize(
    ("names", "empty", "places"),
    [
        (("black", "others", "white"), (), [1, 2, 0]),
        (("black", "others", "white"), ("asian",), [2, 3, 1]),
        (("black", "white"), (), [1, 0]),
        (("female", "male"), (), [0, 1]),
        (("male-white", "nonmale-black"), (), [0, 4]),
        (("black", "unknown", "white"), (), [0, 1, 2]),
    ],
)
def test_groups_have_their_place_in_the_list_of_the_program(
    names: Sequence[str], empty: Sequence[str], places: Sequence[int]
) -> None:
    assert places_in_list(names, empty).tolist() == places


def test_floors_equal_groups_shuffled_row_by_row_within_each_class(tmp_path: Path) -> None:
    write_groups(tmp_path, EIGHT)
    row = original_rows(tmp_path, ["gender"])[0]
    assert row.grouped is not None
    of = row.grouped.grouped_logits
    floors = with_published_gaps(row.table, of, shuffles=4000).floor
    rng, found = np.random.default_rng(0), []
    for _ in range(2000):
        order = np.arange(len(of.logits))
        for kind in (0, 1):
            rows = np.flatnonzero(of.fake == kind)
            order[rows] = rng.permutation(rows)
        groups, finer = of.groups[order], of.intersections[order]
        called = of.logits > 0
        rates = np.array([called[groups == group].mean() for group in range(2)])
        largest = np.abs(rates - called.mean()).max()
        between = np.ptp([called[finer == group].mean() for group in range(8)])
        second = of.logits[groups == 1]  # nonmale has the weight 1
        covariance = len(second) / len(groups) * abs(second.mean() - of.logits.mean())
        found.append((100 * largest, 50 * (largest + between), covariance))
    for name, values in zip(NAMES, np.transpose(found), strict=True):
        assert floors[name].mean == pytest.approx(values.mean(), rel=0.06)
        assert floors[name].p95 == pytest.approx(np.quantile(values, 0.95), rel=0.08)


def test_images_without_an_intersection_count_in_their_group_alone(tmp_path: Path) -> None:
    write_groups(tmp_path, EIGHT)
    row = original_rows(tmp_path, ["gender"])[0]
    assert row.grouped is not None
    of = row.grouped.grouped_logits
    known = of.intersections < 3
    partly = of._replace(intersections=np.where(known, of.intersections, NEITHER))
    found = with_published_gaps(row.table, partly, shuffles=0).measures
    rates = [np.mean(of.logits[of.intersections == number] > 0) for number in range(3)]
    assert found["f_g"] == row.table.measures["f_g"]
    assert found["f_a"] == pytest.approx((row.table.measures["f_g"] + 100 * np.ptp(rates)) / 2)


def test_written_folder_gives_the_same_numbers_when_it_is_read(tmp_path: Path) -> None:
    for case in ("a race without members", "a group with one class"):
        rows = write_case(tmp_path / case, case)
        (folder,) = write_npy_folders(tmp_path / "out" / case, rows)
        again = original_rows(folder)
        for before, after in zip(rows, again, strict=True):
            assert after.table.measures == before.table.measures
            assert after.table.groups == before.table.groups
            assert [after.table.floor[name] for name in NAMES] == [
                before.table.floor[name] for name in NAMES
            ]
            assert ONE_LOGIT in after.note  # nobody said that it is the difference of both


def test_record_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    write_groups(tmp_path, EIGHT)
    (tmp_path / "predictions.json").mkdir()
    with pytest.raises(DataError, match=re.escape(f"cannot read {tmp_path}/predictions.json: Is")):
        original_rows(tmp_path)


def test_intersections_of_the_program_without_images_have_empty_files(tmp_path: Path) -> None:
    write_groups(tmp_path / "read", (20, 30), races=("black",))
    (folder,) = write_npy_folders(tmp_path / "out", original_rows(tmp_path / "read"))
    np.save(tmp_path / "read/male,whitelabels.npy", np.zeros(0, np.int64))
    np.save(tmp_path / "read/male,whitepredictions.npy", np.zeros(0))
    (beside,) = write_npy_folders(tmp_path / "beside", original_rows(tmp_path / "read"))
    assert {path.name for path in beside.iterdir()} == {path.name for path in folder.iterdir()}
    sizes = {path.name: len(np.load(path)) for path in folder.glob("*labels.npy")}
    assert sizes == {
        f"{gender},{race}labels.npy": 0 if race != "black" else 20 if gender == "male" else 30
        for gender in ("male", "nonmale")
        for race in ("white", "black", "others")
    }


def test_folder_with_other_files_is_not_overwritten(tmp_path: Path) -> None:
    write_groups(tmp_path / "read", EIGHT)
    rows = original_rows(tmp_path / "read")
    with pytest.raises(UsageError, match="files that trueface fairness did not write"):
        write_npy_folders(tmp_path / "read", rows)
    (folder,) = write_npy_folders(tmp_path / "out", rows)
    write_npy_folders(folder, rows)  # its own files are replaced
    (folder / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UsageError, match=r"notes\.txt would be deleted"):
        write_npy_folders(folder, rows)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_linked_folder_stays_a_link(tmp_path: Path) -> None:
    write_groups(tmp_path / "read", EIGHT)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    for _ in range(2):
        (folder,) = write_npy_folders(tmp_path / "link", original_rows(tmp_path / "read"))
        assert folder.is_symlink()
        assert (tmp_path / "elsewhere/predictions.json").is_file()


def test_two_tests_never_share_a_folder(tmp_path: Path) -> None:
    write_groups(tmp_path / "read", EIGHT)
    (row,) = original_rows(tmp_path / "read", ["intersec"])
    assert row.grouped is not None
    rows = [
        row._replace(data=data, grouped=row.grouped._replace(data=data))
        for data in ("data/a_b", "data/a/b")
    ]
    with pytest.raises(UsageError, match="the tests 'data/a_b' and 'data/a/b' of read would both"):
        write_npy_folders(tmp_path / "out", rows)
    assert not (tmp_path / "out").exists()


def test_error_mentions_old_files_only_if_there_are_some(tmp_path: Path) -> None:
    write_groups(tmp_path / "read", EIGHT)
    (tmp_path / "link").symlink_to("/proc/nowhere")
    with pytest.raises(MachineError, match="cannot write the folder") as caught:
        write_npy_folders(tmp_path / "link", original_rows(tmp_path / "read"))
    assert "old files" not in str(caught.value)


def test_folder_of_empty_groups_names_them(tmp_path: Path) -> None:
    write_groups(tmp_path, (0, 0), races=("white",))
    with pytest.raises(
        DataError, match="no group has an image, in files of male-white, nonmale-white"
    ):
        original_rows(tmp_path)
