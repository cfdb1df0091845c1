from pathlib import Path

import pytest

from trueface.data.vocabulary import SETS
from trueface.generators.image_sets import picture_data, picture_folder
from trueface.runtime.errors import UnknownName, UsageError
from trueface.runtime.ids import parse_data


def test_set_accepted_by_job_type_is_returned() -> None:
    for name in SETS:
        assert str(picture_data(parse_data(f"{name}:A"), name)) == f"{name}:A"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("image:A", r"Did you mean 'images'\?"),
        ("images:A&images:B", "is trained on one set. Name one, such as images:A"),
    ],
)
def test_other_set_or_union_is_refused(data: str, said: str) -> None:
    with pytest.raises((UnknownName, UsageError), match=said):
        picture_data(parse_data(data), "images", "classes")


def test_part_is_a_folder_of_root_and_all_is_the_root() -> None:
    assert picture_folder(Path("/data"), "images:A") == Path("/data/A")
    assert picture_folder(Path("/data"), "classes:all") == Path("/data")
