"""Data IDs of generators."""

from pathlib import Path

import pytest

from trueface.data.vocabulary import SETS, picture_data, picture_folder
from trueface.runtime.errors import UnknownName, UsageError
from trueface.runtime.ids import parse_data


def test_a_set_that_a_kind_takes_is_returned() -> None:
    for name in SETS:
        assert str(picture_data(parse_data(f"{name}:A"), name)) == f"{name}:A"


def test_another_set_is_an_error_that_names_what_is_meant() -> None:
    with pytest.raises(UnknownName, match=r"unknown set of images 'image', did you mean images\?"):
        picture_data(parse_data("image:A"), "images", "classes")


def test_a_union_is_refused() -> None:
    with pytest.raises(UsageError, match="learns from one set; name one, such as images:A"):
        picture_data(parse_data("images:A&images:B"), "images")


def test_a_part_is_a_folder_of_the_root_and_all_is_the_root() -> None:
    assert picture_folder(Path("/data"), "images:A") == Path("/data/A")
    assert picture_folder(Path("/data"), "classes:all") == Path("/data")
