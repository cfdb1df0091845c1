"""Skews of the training list, and the words in which they are asked for."""

import pytest

from tests.trueface.data.forging.build import people
from trueface.data.forging.plan import Face, kept, parse_cells
from trueface.runtime.errors import UnknownName, UsageError

EVERYBODY = people(male_white=20, male_asian=10, nonmale_white=10, nonmale_others=10)


def counts(text: str, ordered: dict[str, list[Face]] = EVERYBODY) -> dict[str, tuple[int, int]]:
    """Return how many reals and fakes are kept of each group."""
    reals, fakes = kept(ordered, parse_cells(text))
    return {
        group: (
            sum(face.path in reals for face in faces),
            sum(face.path in fakes for face in faces),
        )
        for group, faces in ordered.items()
    }


def test_a_label_skew_keeps_each_face_in_one_class() -> None:
    text = "male/real: .9, male/fake: .1, nonmale/real: .1, nonmale/fake: .9"
    assert counts(text) == {
        "male-white": (18, 2),
        "male-asian": (9, 1),
        "nonmale-white": (1, 9),
        "nonmale-others": (1, 9),
    }
    reals, fakes = kept(EVERYBODY, parse_cells(text))
    assert not reals & fakes


def test_a_share_skew_keeps_whole_pairs() -> None:
    assert counts("male-white: 15, *: 2") == {
        "male-white": (15, 15),
        "male-asian": (2, 2),
        "nonmale-white": (2, 2),
        "nonmale-others": (2, 2),
    }
    reals, fakes = kept(EVERYBODY, parse_cells("male-white: 15, *: 2"))
    assert reals == fakes


def test_without_cells_and_for_groups_not_named_all_is_kept() -> None:
    assert counts("") == {group: (len(faces),) * 2 for group, faces in EVERYBODY.items()}
    assert counts("male-asian/fake: 0")["male-asian"] == (10, 0)
    assert counts("male-asian/fake: 0")["male-white"] == (20, 20)
    assert counts("gender=male/real: .5")["male-white"] == (10, 20)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("male", "'male' is no cell: write NAME: NUMBER"),
        ("male: many", "expected a share from 0 to 1, or a whole number"),
        ("male: -0.1", "expected a share"),
        ("male: 1.5", "expected a share"),
        ("male/both: .5", "'both' is no class; write real or fake"),
        (": .5", "names no group"),
    ],
)
def test_what_is_no_cell_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_cells(text)


def test_a_group_that_is_not_there_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match="did you mean male-white"):
        counts("male-withe: .5")
    with pytest.raises(UnknownName, match="column of groups"):
        counts("gendre=male: .5")


def test_cells_that_share_images_or_ask_for_more_than_there_are_are_refused() -> None:
    with pytest.raises(
        UsageError, match=r"'male: \.5' and 'white: \.5' both name images of male-wh"
    ):
        counts("male: .5, white: .5")
    with pytest.raises(UsageError, match="asks for 11 of 10 images"):
        counts("male-asian: 11")
    with pytest.raises(UsageError, match="name every group already"):
        counts("male: .5, nonmale: .5, *: 2")
