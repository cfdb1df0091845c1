"""Lists of a split: shares, strata, groups that stay together, and smaller draws."""

import random
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trueface.data.keyed_images import an_image
from trueface.data.attributes import Attributes
from trueface.data.index import Image
from trueface.data.splitting import Grouping, make_splits, subsample, torn
from trueface.runtime.errors import DataError


def some_images(folders: int = 3, each: int = 20) -> list[Image]:
    return [an_image(f"M{f}/s/{number:05d}") for f in range(folders) for number in range(each)]


def test_the_lists_share_no_key_and_hold_all_and_the_same_share_of_every_folder() -> None:
    images = some_images()
    lists = make_splits(images, seed=1)
    assert sorted(key for keys in lists.values() for key in keys) == sorted(i.key for i in images)
    assert {name: len(keys) for name, keys in lists.items()} == {"train": 48, "val": 6, "test": 6}
    assert Counter(key[:2] for key in lists["train"]) == {"M0": 16, "M1": 16, "M2": 16}
    assert make_splits(images, seed=2) != lists


def test_copies_of_an_image_fall_into_the_same_list() -> None:
    images = some_images()
    copies = [an_image(image.key, "fb") for image in images]
    assert make_splits([*images, *copies], seed=1) == make_splits(images, seed=1)


def test_without_strata_all_are_shuffled_as_one() -> None:
    images = some_images()
    keys = sorted(image.key for image in images)
    random.Random(7).shuffle(keys)
    lists = make_splits(images, seed=7, stratify=False)
    assert {name: set(members) for name, members in lists.items()} == {
        "train": set(keys[:48]),
        "val": set(keys[48:54]),
        "test": set(keys[54:]),
    }


@pytest.mark.parametrize("shares", [(0.7, 0.1), (0.6, 0.3), (0.29, 0.01), (1.0, 0.0), (0.0, 0.1)])
def test_shares_are_exact_whatever_floats_do(shares: tuple[float, float]) -> None:
    lists = make_splits(some_images(1, 100), seed=1, shares=shares)
    first, second = (round(100 * share) for share in shares)
    assert [len(keys) for keys in lists.values()] == [first, second, 100 - first - second]


def test_shares_and_draws_that_cannot_be_are_refused() -> None:
    for shares in ((0.8, 0.3), (-0.1, 0.1), (1.1, 0.0)):
        with pytest.raises(DataError, match="shares"):
            make_splits(some_images(), seed=1, shares=shares)
    for wanted in (0, -1, Fraction(3, 2), Fraction(0)):
        with pytest.raises(DataError, match="cannot take"):
            subsample({"train": ["M/1"]}, wanted=wanted, seed=1)


@pytest.mark.parametrize("stratify", [True, False])
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=30), seed=st.integers(0, 5))
def test_a_group_is_never_torn(sizes: list[int], seed: int, stratify: bool) -> None:
    images = some_images(2, sum(sizes))
    bound = [number for number, size in enumerate(sizes) for _ in range(size)]
    groups = {image.key: f"{bound[int(image.key[-5:])]}" for image in images}
    lists = make_splits(images, seed=seed, stratify=stratify, groups=groups)
    assert torn(groups, lists) == {}
    assert sorted(key for keys in lists.values() for key in keys) == sorted(i.key for i in images)
    assert lists == make_splits(images[::-1], seed=seed, stratify=stratify, groups=groups)


@pytest.mark.parametrize(
    ("images", "group"),
    [
        # ten of each folder together
        (some_images(3, 200), lambda key: key[-5:-1]),
        # folders of one group each are divided as those above them are
        (
            [an_image(f"M{m}/v{v:03d}/{n}") for m in range(2) for v in range(50) for n in range(4)],
            lambda key: key.split("/")[1],
        ),
    ],
)
def test_groups_meet_the_shares_of_each_folder_as_far_as_they_can(
    images: list[Image], group: Callable[[str], str]
) -> None:
    groups = {image.key: group(image.key) for image in images}
    lists = make_splits(images, seed=1, groups=groups)
    for method in {image.key[:2] for image in images}:
        counts = [sum(key.startswith(method) for key in keys) for keys in lists.values()]
        assert counts == [160, 20, 20]
    assert not torn(groups, lists)


def test_a_group_too_large_for_the_small_lists_goes_to_the_large_one() -> None:
    images = some_images(1, 100)
    groups = {image.key: "large" for image in images[:60]}
    for seed in range(10):
        lists = make_splits(images, seed=seed, groups=groups)
        assert {image.key for image in images[:60]} <= set(lists["train"])
        assert [len(keys) for keys in lists.values()] == [80, 10, 10]


def test_few_large_groups_leave_no_list_empty() -> None:
    images = some_images(1, 20)
    groups = {image.key: f"g{n // 5}" for n, image in enumerate(images)}
    for seed in range(10):
        lists = make_splits(images, seed=seed, groups=groups)
        assert all(lists.values())
        assert not torn(groups, lists)


def test_a_smaller_split_moves_no_key_to_another_list() -> None:
    lists = make_splits(some_images(3, 100), seed=1)
    for wanted, counts in (
        (10, [24, 3, 3]),
        (Fraction(1, 10), [24, 3, 3]),
        (Fraction(1), [240, 30, 30]),
    ):
        smaller = subsample(lists, wanted=wanted, seed=1)
        assert all(set(keys) <= set(lists[name]) for name, keys in smaller.items())
        assert [len(keys) for keys in smaller.values()] == counts
    assert subsample(lists, wanted=1000, seed=1) == lists


@given(
    sizes=st.tuples(*[st.integers(0, 40)] * 3), small=st.integers(1, 60), more=st.integers(0, 60)
)
def test_a_larger_draw_of_the_same_seed_holds_the_smaller(
    sizes: tuple[int, int, int], small: int, more: int
) -> None:
    names = ("train", "val", "test")
    lists = {
        name: [f"M/{name}{n:05d}" for n in range(size)]
        for name, size in zip(names, sizes, strict=True)
    }
    few, many = (subsample(lists, wanted=n, seed=3) for n in (small, small + more))
    assert all(set(few[name]) <= set(many[name]) for name in names)
    assert sum(map(len, few.values())) == min(small, sum(sizes))


FOLDERS = {0: "PreSocial/Real/FFHQ", 1: "PreSocial/Fake/StyleGAN2/x"}


def grouped_images(root: Path, counts: dict[tuple[str, int], int]) -> tuple[list[Image], list[str]]:
    """Return images, and the rows of their groups."""
    images, rows = [], ["img_path,skin"]
    for (group, label), count in counts.items():
        for number in range(count):
            path = f"{FOLDERS[label]}/{group}{number:03}.png"
            key = path.split("/", 2)[2].removesuffix(".png")
            images.append(Image(f"{root}/{path}", key, label, key.partition("/")[0], "pre"))
            rows.append(f"{path},{group}")
    return images, rows


def grouping(root: Path, rows: list[str], missing: str = "stop") -> Grouping:
    (root / "t.csv").write_text("\n".join(rows) + "\n")
    attributes = Attributes([root / "t.csv"], root)
    return Grouping(attributes=attributes, data_root=root, by="skin", missing=missing)  # type: ignore[arg-type]  # a text


def test_each_cell_is_divided_in_the_same_shares(tmp_path: Path) -> None:
    counts = {("a", 0): 100, ("a", 1): 20, ("b", 0): 10, ("b", 1): 50}
    images, rows = grouped_images(tmp_path, counts)
    known = grouping(tmp_path, rows)
    lists = make_splits(images, seed=1, shares=(0.5, 0.3), cells=known.cells_of_keys(images))
    cells = known.of_lists(lists, images)
    assert cells["train"].counts == {"a": (50, 10), "b": (5, 25)}
    assert cells["val"].counts == {"a": (30, 6), "b": (3, 15)}
    assert list(cells["test"].few) == ["a", "b"]


def test_folders_within_a_cell_are_divided_alike(tmp_path: Path) -> None:
    images, rows = grouped_images(tmp_path, {("a", 0): 20, ("a", 1): 20})
    cells = dict.fromkeys(grouping(tmp_path, rows).cells_of_keys(images), "all")
    lists = make_splits(images, seed=1, shares=(0.5, 0.25), cells=cells)
    assert {name: Counter(key.split("/")[0] for key in keys) for name, keys in lists.items()} == {
        "train": {"FFHQ": 10, "StyleGAN2": 10},
        "val": {"FFHQ": 5, "StyleGAN2": 5},
        "test": {"FFHQ": 5, "StyleGAN2": 5},
    }


def test_related_images_stay_together_in_balanced_lists(tmp_path: Path) -> None:
    images, rows = grouped_images(
        tmp_path, {("a", 0): 40, ("a", 1): 40, ("b", 0): 40, ("b", 1): 40}
    )
    known = grouping(tmp_path, rows)
    pairs = {image.key: image.key.rpartition("/")[2] for image in images}
    lists = make_splits(
        images, seed=1, shares=(0.5, 0.25), groups=pairs, cells=known.cells_of_keys(images)
    )
    for name, keys in lists.items():
        others = {pairs[key] for other in lists if other != name for key in lists[other]}
        assert others.isdisjoint(pairs[key] for key in keys)
    assert known.of_lists(lists, images)["train"].counts == {"a": (20, 20), "b": (20, 20)}


def test_copies_have_the_group_of_their_image_and_count_once(tmp_path: Path) -> None:
    images, rows = grouped_images(tmp_path, {("a", 0): 2})
    copies = [
        image._replace(file=f"{tmp_path}/Facebook/Real/FFHQ/other{at}.jpg", modifier="fb")
        for at, image in enumerate(images)
    ]
    both = [*copies, *images]
    cells = grouping(tmp_path, rows).of_lists({"train": [image.key for image in images]}, both)
    assert cells["train"].counts == {"a": (2, 0)}


def test_a_key_without_a_group_stops_or_is_unknown(tmp_path: Path) -> None:
    images, rows = grouped_images(tmp_path, {("a", 0): 3})
    with pytest.raises(DataError, match="have no row"):
        grouping(tmp_path, rows[:-1]).of_keys(images)
    known = grouping(tmp_path, rows[:-1], "skip")
    assert [*known.of_keys(images).values()] == ["a", "a", "unknown"]
