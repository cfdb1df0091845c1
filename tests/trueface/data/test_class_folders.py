from pathlib import Path

import pytest

from launcher.api import UnknownName, UsageError, parse_data
from tests.trueface.class_toys import NAMES, write_class, write_data
from trueface.data.vocabulary import SORTS, class_data, class_number, find_classes, sort_of
from trueface.runtime.errors import DataError


def test_folders_with_train_and_test_are_a_data_set_of_their_names(tmp_path: Path) -> None:
    root = write_data(tmp_path, train=1, test=1) / "data"
    found = find_classes("folders", root)
    assert (found.names, found.divided, found.packed) == (NAMES, True, False)
    assert find_classes("cifar10", root).names == NAMES


def test_one_folder_of_identities_is_to_be_divided(tmp_path: Path) -> None:
    for name in ("ada", "bob"):
        write_class(tmp_path, name, 1)
    found = find_classes("folders", tmp_path)
    assert (found.names, found.divided) == (("ada", "bob"), False)


@pytest.mark.parametrize("sort", ["cifar10", "fashion"])
def test_the_files_that_torchvision_keeps_go_before_folders(sort: str, tmp_path: Path) -> None:
    (tmp_path / SORTS[sort].packed).mkdir(parents=True)
    found = find_classes(sort, tmp_path)
    assert found.packed
    assert len(found.names) == 10


def test_a_folder_without_data_is_told_with_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data folder"):
        find_classes("folders", tmp_path / "absent")
    with pytest.raises(DataError, match="holds no CIFAR-10: it needs torchvision's cifar-10"):
        find_classes("cifar10", tmp_path)
    with pytest.raises(DataError, match="0 folder of a class"):
        find_classes("folders", tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="none called test"):
        find_classes("folders", tmp_path)


def test_unknown_words_are_told_with_the_nearest_ones() -> None:
    with pytest.raises(UnknownName, match="did you mean cifar10"):
        class_data(parse_data("cifar:all"))
    with pytest.raises(UnknownName, match="modifier 'al'"):
        class_data(parse_data("cifar10:al"))
    with pytest.raises(UsageError, match="several data sets"):
        sort_of("cifar10:all&fashion:all")


def test_a_class_is_found_by_its_name_or_its_place_and_names_go_first() -> None:
    assert [class_number(NAMES, one) for one in ("red", 2, "2", 0)] == [2, 2, 2, 0]
    assert class_number(("1", "10", "2"), 2) == 2
    assert class_number(("1", "10", "2"), "10") == 1
    with pytest.raises(UsageError, match="there are 0 blue, 1 green, 2 red"):
        class_number(NAMES, "rde")
    with pytest.raises(UsageError, match="no class 3"):
        class_number(NAMES, 3)
