import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueface.errors import DataError
from trueface.index import Image
from trueface.splits import (
    NAMES,
    Split,
    load_split,
    make_splits,
    match,
    read_list,
    select,
    split_files,
    write_splits,
)


def an_image(key: str, modifier: str = "pre") -> Image:
    return Image(
        file=str(Path(modifier, f"{key}.png")),
        key=key,
        label=0,
        method=key.partition("/")[0],
        modifier=modifier,
    )


def a_split(keys: Sequence[str], others: Sequence[str] = ()) -> Split:
    return Split(name="train", keys=frozenset(keys), others=frozenset(others), sha256="")


def some_images(folders: int = 3, each: int = 20) -> list[Image]:
    return [an_image(f"M{f}/s/{number:05d}") for f in range(folders) for number in range(each)]


def test_a_split_is_read_from_a_folder_or_from_one_file(tmp_path: Path) -> None:
    lists = {"train": ["FFHQ/00000"], "val": ["FFHQ/00001"], "test": ["FFHQ/00002"]}
    write_splits(tmp_path / "folder", lists)
    (tmp_path / "split.json").write_text(json.dumps(lists))
    for name in NAMES:
        split = load_split(tmp_path / "folder", name)
        assert split.keys == set(lists[name])
        assert split == load_split(tmp_path / "split.json", name)


def test_the_list_that_is_not_asked_for_may_be_absent(tmp_path: Path) -> None:
    write_splits(tmp_path, {"test": ["FFHQ/00002"]})
    assert load_split(tmp_path, "test").keys == {"FFHQ/00002"}
    with pytest.raises(DataError, match=r"no list 'train'.*train\.json"):
        load_split(tmp_path, "train")


@pytest.mark.parametrize("content", ["[1, 2]", '{"a": 1}', "[", '"FFHQ/00000"'])
def test_a_list_that_is_none_is_refused_by_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "train.json").write_text(content)
    with pytest.raises(DataError, match=r"train\.json"):
        load_split(tmp_path, "train")


def test_a_missing_split_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="trueface splits"):
        load_split(tmp_path / "nowhere", "train")


def test_a_key_in_two_lists_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_splits(tmp_path, {"train": ["FFHQ/00000"], "test": ["FFHQ/00000", "FFHQ/00001"]})
    load_split(tmp_path, "train")
    assert "FFHQ/00000" in caplog.text


def test_the_hash_depends_on_the_keys_alone(tmp_path: Path) -> None:
    write_splits(tmp_path / "a", {"train": ["FFHQ/00001", "FFHQ/00000"]})
    write_splits(tmp_path / "b", {"train": ["FFHQ/00000", "FFHQ/00001"], "val": ["FFHQ/00002"]})
    one, two = load_split(tmp_path / "a", "train"), load_split(tmp_path / "b", "train")
    assert one.sha256 == two.sha256


def test_the_files_of_a_split_follow_from_its_name() -> None:
    assert split_files(Path("a/b"), ("train", "val")) == (
        Path("a/b/train.json"),
        Path("a/b/val.json"),
    )
    assert split_files(Path("a/b.json")) == (Path("a/b.json"),)


def test_one_list_serves_an_image_and_its_shared_copies() -> None:
    images = [an_image("FFHQ/00001", modifier) for modifier in ("pre", "fb", "tw")]
    assert select(images, a_split(["FFHQ/00001"])) == tuple(images)


def test_a_renamed_copy_is_found_by_its_first_five_characters_and_counted() -> None:
    images = [an_image("FFHQ/00001", "pre"), an_image("FFHQ/00001_n", "fb")]
    selection = match(images, a_split(["FFHQ/00001"], ["FFHQ/00002"]))
    assert (selection.images, selection.renamed, selection.unknown) == (tuple(images), 1, 0)


@pytest.mark.parametrize("other", ["FFHQ/00001_2", "FFHQ/000012"])
def test_a_longer_name_beside_the_whole_one_is_another_image(other: str) -> None:
    images = [an_image("FFHQ/00001"), an_image(other)]
    selection = match(images, a_split(["FFHQ/00001"]))
    assert (selection.images, selection.renamed, selection.unknown) == ((images[0],), 0, 1)


def test_a_whole_name_of_another_list_never_falls_back() -> None:
    images = [an_image("FFHQ/000012")]
    with pytest.raises(DataError, match="none of 1 images"):
        select(images, a_split(["FFHQ/00001"], ["FFHQ/000012"]))


def test_two_renamed_copies_cannot_be_the_same_image() -> None:
    images = [an_image("FFHQ/00001_a", "fb"), an_image("FFHQ/00001_b", "fb")]
    selection = match(images, a_split(["FFHQ/00001"]))
    assert (selection.images, selection.unknown) == ((images[0],), 1)


def test_the_lists_share_no_key_and_hold_all() -> None:
    images = some_images()
    lists = make_splits(images, seed=1)
    assert sorted(key for keys in lists.values() for key in keys) == sorted(i.key for i in images)
    assert {name: len(keys) for name, keys in lists.items()} == {"train": 48, "val": 6, "test": 6}


def test_every_folder_gives_the_same_shares() -> None:
    lists = make_splits(some_images(), seed=1)
    for folder in ("M0", "M1", "M2"):
        assert sum(key.startswith(folder) for key in lists["train"]) == 16


@given(order=st.randoms(), seed=st.integers(0, 10))
def test_the_same_keys_and_seed_give_the_same_lists(order: random.Random, seed: int) -> None:
    images = some_images()
    before = make_splits(images, seed=seed)
    order.shuffle(images)
    assert make_splits(images, seed=seed) == before


def test_another_seed_gives_other_lists() -> None:
    assert make_splits(some_images(), seed=1) != make_splits(some_images(), seed=2)


def test_copies_of_an_image_fall_into_the_same_list() -> None:
    images = some_images()
    copies = [an_image(image.key, "fb") for image in images]
    assert make_splits([*images, *copies], seed=1) == make_splits(images, seed=1)


def test_an_image_without_a_folder_is_found_by_its_stem_and_by_its_first_characters() -> None:
    split = a_split(["00001", "00002"])
    images = [an_image("00001"), an_image("00002_8x9"), an_image("00003")]
    found = match(images, split)
    assert [image.key for image in found.images] == ["00001", "00002_8x9"]
    assert (found.renamed, found.unknown) == (1, 1)


def test_two_folders_of_one_modifier_each_have_a_claim_to_a_key() -> None:
    images = [
        Image(file=f"{folder}/M/00001_{folder}.png", key=f"M/00001_{folder}", label=0, method="M",
              modifier="wa")
        for folder in ("a", "b")
    ]  # fmt: skip
    assert len(match(images, a_split(["M/00001"])).images) == 2


def test_one_list_is_read_from_either_form(tmp_path: Path) -> None:
    lists = {"train": ("M/1", "M/2"), "val": (), "test": ("M/3",)}
    write_splits(tmp_path, lists)
    (tmp_path / "one.json").write_text(json.dumps(lists))
    for path in (tmp_path, tmp_path / "one.json"):
        (file,) = split_files(path, ("train",))
        assert read_list(file, "train") == {"M/1", "M/2"}
