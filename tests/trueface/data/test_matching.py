from collections.abc import Iterable

import pytest

from tests.trueface.data.keyed_images import an_image
from trueface.data.index import Image
from trueface.data.splits import MatchedImages, SplitList, match, method_of, select
from trueface.runtime.errors import DataError


def a_split(keys: Iterable[str], others: Iterable[str] = ()) -> SplitList:
    return SplitList(name="train", keys=frozenset(keys), others=frozenset(others), sha256="")


def matched(images: list[Image], keys: Iterable[str], others: Iterable[str] = ()) -> MatchedImages:
    return match(images, frozenset(keys), frozenset(others))


@pytest.mark.parametrize(("key", "method"), [("FFHQ/a/1", "FFHQ"), ("FFHQ/1", "FFHQ"), ("1", "")])
def test_a_key_begins_with_the_folder_of_its_method(key: str, method: str) -> None:
    assert method_of(key) == method


def test_one_list_serves_an_image_and_its_shared_copies() -> None:
    images = [an_image("FFHQ/00001", modifier) for modifier in ("pre", "fb", "tw")]
    assert select(images, a_split(["FFHQ/00001"])) == tuple(images)


def test_a_renamed_copy_is_found_by_its_first_five_characters_and_counted() -> None:
    images = [an_image("FFHQ/00001", "pre"), an_image("FFHQ/00001_n", "fb")]
    selection = matched(images, ["FFHQ/00001"], ["FFHQ/00002"])
    assert (selection.images, selection.renamed, selection.unknown) == (tuple(images), 1, 0)


@pytest.mark.parametrize("other", ["FFHQ/00001_2", "FFHQ/000012"])
def test_a_longer_name_beside_the_whole_one_is_another_image(other: str) -> None:
    images = [an_image("FFHQ/00001", "fb"), an_image(other, "fb")]
    selection = matched(images, ["FFHQ/00001"])
    assert (selection.images, selection.renamed, selection.unknown) == ((images[0],), 0, 1)


@pytest.mark.parametrize("modifier", ["pre", "none"])
def test_only_what_was_shared_may_have_been_renamed(modifier: str) -> None:
    selection = matched([an_image("FFHQ/00001_n", modifier)], ["FFHQ/00001"])
    assert (selection.images, selection.unknown) == ((), 1)


def test_copies_under_a_persons_own_modifier_may_have_been_renamed() -> None:
    images = [an_image("FFHQ/00001_n", "whatsapp")]
    assert matched(images, ["FFHQ/00001"]).images == tuple(images)


def test_a_sixth_digit_makes_another_number() -> None:
    images = [an_image("FFHQ/000123", "fb"), an_image("FFHQ/00045_2", "fb")]
    selection = matched(images, ["FFHQ/00012", "FFHQ/00045"])
    assert (selection.images, selection.unknown) == ((images[1],), 1)


def test_a_whole_name_of_another_list_never_falls_back() -> None:
    images = [an_image("FFHQ/000012")]
    with pytest.raises(DataError, match="none of 1 images"):
        select(images, a_split(["FFHQ/00001"], ["FFHQ/000012"]))


def test_two_renamed_copies_cannot_be_the_same_image() -> None:
    images = [an_image("FFHQ/00001_a", "fb"), an_image("FFHQ/00001_b", "fb")]
    selection = matched(images, ["FFHQ/00001"])
    assert (selection.images, selection.unknown) == ((images[0],), 1)


def test_an_image_without_a_folder_is_found_by_its_stem_and_by_its_first_characters() -> None:
    images = [an_image(name, "fb") for name in ("00001", "00002_8x9", "00003")]
    found = matched(images, ["00001", "00002"])
    assert [image.key for image in found.images] == ["00001", "00002_8x9"]
    assert (found.renamed, found.unknown) == (1, 1)


def test_two_folders_of_one_modifier_each_have_a_claim_to_a_key() -> None:
    images = [
        Image(file=f"{folder}/M/00001_{folder}.png", key=f"M/00001_{folder}", label=0, method="M",
              modifier="wa")
        for folder in ("a", "b")
    ]  # fmt: skip
    assert len(matched(images, ["M/00001"]).images) == 2
