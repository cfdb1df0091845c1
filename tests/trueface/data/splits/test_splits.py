"""Lists of a split: how they are drawn, read, grouped and checked."""

import json
import logging
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.api import parse_data
from tests.trueface.data.splits.keyed_images import an_image
from trueface.data.attributes import Attributes
from trueface.data.index import Image, dangling_links, survey
from trueface.data.splits.split_checks import SplitReport, examine
from trueface.data.splits.split_files import (
    NAMES,
    SplitList,
    load_split,
    read_list,
    read_lists,
    select,
    split_files,
    split_images,
    write_splits,
)
from trueface.data.splits.splitting import (
    Grouping,
    describe_lacking_classes,
    groups_in_several_lists,
    make_splits,
    merge_groups,
    read_groups,
    subsample,
)
from trueface.data.splits.stray_keys import stray_keys
from trueface.data.vocabulary import BUILT_IN
from trueface.runtime.errors import DataError


def some_images(folders: int = 3, each: int = 20) -> list[Image]:
    return [an_image(f"M{f}/s/{number:05d}") for f in range(folders) for number in range(each)]


def test_splits_are_disjoint_and_complete_with_equal_share_of_each_folder() -> None:
    images = some_images()
    lists = make_splits(images, seed=1)
    assert sorted(key for keys in lists.values() for key in keys) == sorted(i.key for i in images)
    assert {name: len(keys) for name, keys in lists.items()} == {"train": 48, "val": 6, "test": 6}
    assert Counter(key[:2] for key in lists["train"]) == {"M0": 16, "M1": 16, "M2": 16}
    assert make_splits(images, seed=2) != lists


def test_copies_of_image_are_in_same_split() -> None:
    images = some_images()
    copies = [an_image(image.key, "fb") for image in images]
    assert make_splits([*images, *copies], seed=1) == make_splits(images, seed=1)


def test_images_without_strata_are_shuffled_together() -> None:
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
def test_shares_are_exact_despite_float_rounding(shares: tuple[float, float]) -> None:
    lists = make_splits(some_images(1, 100), seed=1, shares=shares)
    first, second = (round(100 * share) for share in shares)
    assert [len(keys) for keys in lists.values()] == [first, second, 100 - first - second]


def test_invalid_shares_and_draws_are_refused() -> None:
    for shares in ((0.8, 0.3), (-0.1, 0.1), (1.1, 0.0)):
        with pytest.raises(DataError, match="shares"):
            make_splits(some_images(), seed=1, shares=shares)
    for wanted in (0, -1, Fraction(3, 2), Fraction(0)):
        with pytest.raises(DataError, match="cannot take"):
            subsample({"train": ["M/1"]}, amount=wanted, seed=1)


@pytest.mark.parametrize("stratify", [True, False])
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=30), seed=st.integers(0, 5))
def test_group_is_never_divided(sizes: list[int], seed: int, stratify: bool) -> None:
    images = some_images(2, sum(sizes))
    bound = [number for number, size in enumerate(sizes) for _ in range(size)]
    groups = {image.key: f"{bound[int(image.key[-5:])]}" for image in images}
    lists = make_splits(images, seed=seed, stratify=stratify, groups=groups)
    assert groups_in_several_lists(groups, lists) == {}
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
def test_groups_approximate_shares_of_each_folder(
    images: list[Image], group: Callable[[str], str]
) -> None:
    groups = {image.key: group(image.key) for image in images}
    lists = make_splits(images, seed=1, groups=groups)
    for method in {image.key[:2] for image in images}:
        counts = [sum(key.startswith(method) for key in keys) for keys in lists.values()]
        assert counts == [160, 20, 20]
    assert not groups_in_several_lists(groups, lists)


def test_group_too_large_for_small_splits_goes_to_largest() -> None:
    images = some_images(1, 100)
    groups = {image.key: "large" for image in images[:60]}
    for seed in range(10):
        lists = make_splits(images, seed=seed, groups=groups)
        assert {image.key for image in images[:60]} <= set(lists["train"])
        assert [len(keys) for keys in lists.values()] == [80, 10, 10]


def test_few_large_groups_leave_no_split_empty() -> None:
    images = some_images(1, 20)
    groups = {image.key: f"g{n // 5}" for n, image in enumerate(images)}
    for seed in range(10):
        lists = make_splits(images, seed=seed, groups=groups)
        assert all(lists.values())
        assert not groups_in_several_lists(groups, lists)


@pytest.mark.parametrize(
    ("real", "fake", "lacking"),
    [
        ([8] * 4, [8] * 4, []),
        ([8] * 3, [8] * 3, []),
        ([2] * 3, [1] * 60, []),
        ([60], [1] * 60, ["val real", "test real"]),
        ([8] * 2, [8] * 5, ["test real"]),
        ([3], [3], []),  # training has both, and the others are empty
    ],
)
def test_each_list_has_a_group_of_each_class_if_possible(
    real: list[int], fake: list[int], lacking: list[str]
) -> None:
    images, groups = [], {}
    for label, sizes in enumerate((real, fake)):
        for video, size in enumerate(sizes):
            for n in range(size):
                image = an_image(f"{'AB'[label]}/{video:03d}/{n}", label=label)
                images.append(image)
                groups[image.key] = image.key.rpartition("/")[0]
    for seed in range(8):
        lists = make_splits(images, seed=seed, groups=groups)
        assert sorted(key for keys in lists.values() for key in keys) == sorted(groups)
        assert not groups_in_several_lists(groups, lists)
        counts = {
            f"{name} {word}": sum(key[0] == folder for key in keys)
            for name, keys in lists.items()
            for word, folder in (("real", "A"), ("fake", "B"))
            if keys
        }
        assert [name for name, count in counts.items() if not count] == lacking
        sentences = list(describe_lacking_classes(lists, images, do_shares_help=False))
        assert len(sentences) == len(lacking)
        for name, sentence in zip(lacking, sentences, strict=True):
            assert "the list {} has no {} images".format(*name.split()) in sentence
            assert sentence.endswith(" Add images or groups of this class.")
        free = list(describe_lacking_classes(lists, images, do_shares_help=True))
        assert all(each.endswith("Add images of this class, or use other shares.") for each in free)


def test_smaller_split_moves_no_key_to_another_split() -> None:
    lists = make_splits(some_images(3, 100), seed=1)
    for wanted, counts in (
        (10, [24, 3, 3]),
        (Fraction(1, 10), [24, 3, 3]),
        (Fraction(1), [240, 30, 30]),
    ):
        smaller = subsample(lists, amount=wanted, seed=1)
        assert all(set(keys) <= set(lists[name]) for name, keys in smaller.items())
        assert [len(keys) for keys in smaller.values()] == counts
    assert subsample(lists, amount=1000, seed=1) == lists


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


def test_each_cell_is_divided_in_same_shares(tmp_path: Path) -> None:
    counts = {("a", 0): 100, ("a", 1): 20, ("b", 0): 10, ("b", 1): 50}
    images, rows = grouped_images(tmp_path, counts)
    known = grouping(tmp_path, rows)
    lists = make_splits(images, seed=1, shares=(0.5, 0.3), cells=known.groups_with_classes(images))
    cells = known.count_lists(lists, images)
    assert cells["train"].counts == {"a": (50, 10), "b": (5, 25)}
    assert cells["val"].counts == {"a": (30, 6), "b": (3, 15)}
    assert list(cells["test"].small_groups) == ["a", "b"]


def test_folders_within_cell_are_divided_equally(tmp_path: Path) -> None:
    images, rows = grouped_images(tmp_path, {("a", 0): 20, ("a", 1): 20})
    cells = dict.fromkeys(grouping(tmp_path, rows).groups_with_classes(images), "all")
    lists = make_splits(images, seed=1, shares=(0.5, 0.25), cells=cells)
    assert {name: Counter(key.split("/")[0] for key in keys) for name, keys in lists.items()} == {
        "train": {"FFHQ": 10, "StyleGAN2": 10},
        "val": {"FFHQ": 5, "StyleGAN2": 5},
        "test": {"FFHQ": 5, "StyleGAN2": 5},
    }


def test_related_images_stay_together_in_balanced_splits(tmp_path: Path) -> None:
    images, rows = grouped_images(
        tmp_path, {("a", 0): 40, ("a", 1): 40, ("b", 0): 40, ("b", 1): 40}
    )
    known = grouping(tmp_path, rows)
    pairs = {image.key: image.key.rpartition("/")[2] for image in images}
    lists = make_splits(
        images, seed=1, shares=(0.5, 0.25), groups=pairs, cells=known.groups_with_classes(images)
    )
    for name, keys in lists.items():
        others = {pairs[key] for other in lists if other != name for key in lists[other]}
        assert others.isdisjoint(pairs[key] for key in keys)
    assert known.count_lists(lists, images)["train"].counts == {"a": (20, 20), "b": (20, 20)}


def test_copies_have_group_of_their_image_and_count_once(tmp_path: Path) -> None:
    images, rows = grouped_images(tmp_path, {("a", 0): 2})
    copies = [
        image._replace(file=f"{tmp_path}/Facebook/Real/FFHQ/other{at}.jpg", modifier="fb")
        for at, image in enumerate(images)
    ]
    both = [*copies, *images]
    cells = grouping(tmp_path, rows).count_lists({"train": [image.key for image in images]}, both)
    assert cells["train"].counts == {"a": (2, 0)}


def test_key_without_group_is_an_error_or_unknown(tmp_path: Path) -> None:
    images, rows = grouped_images(tmp_path, {("a", 0): 3})
    with pytest.raises(DataError, match="have no row"):
        grouping(tmp_path, rows[:-1]).groups_of_keys(images)
    known = grouping(tmp_path, rows[:-1], "skip")
    assert [*known.groups_of_keys(images).values()] == ["a", "a", "unknown"]


Tree = Callable[[Iterable[str]], Path]


def a_split(keys: Iterable[str], others: Iterable[str] = ()) -> SplitList:
    return SplitList(name="train", keys=frozenset(keys), others=frozenset(others), sha256="")


def test_split_is_read_from_folder_or_single_file(tmp_path: Path) -> None:
    lists = {"train": ["FFHQ/00001", "FFHQ/00000"], "val": [], "test": ["FFHQ/00002"]}
    folder, one = tmp_path / "folder", tmp_path / "new" / "split.json"
    for place in (folder, one):
        write_splits(place, lists)
        assert read_lists(place) == lists
        (file,) = split_files(place, ("train",))
        assert read_list(file, "train") == {"FFHQ/00000", "FFHQ/00001"}
    for name in NAMES:
        split = load_split(folder, name)
        assert split.keys == set(lists[name])
        assert split == load_split(one, name)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1, 2]", r"train\.json"),
        ('{"a": 1}', r"train\.json"),
        ("[", r"train\.json"),
        ('"FFHQ/00000"', r"train\.json"),
        (None, r"list 'train' .* does not exist.*train\.json"),
        ("no folder", "trueface splits"),
    ],
)
def test_invalid_or_missing_list_is_refused_by_name(
    tmp_path: Path, content: str | None, said: str
) -> None:
    folder = tmp_path / "splits"
    if content != "no folder":
        write_splits(folder, {"test": ["FFHQ/00002"]})
        assert load_split(folder, "test").keys == {"FFHQ/00002"}
        if content is not None:
            (folder / "train.json").write_text(content)
    with pytest.raises(DataError, match=said):
        load_split(folder, "train")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"M9/s/00001"},
            "such as M0/s/00000 and M9/s/00001. Make a split of these images: trueface splits",
        ),
        (set(), "list 'train' .* is empty. Make a split of these images: trueface splits"),
    ],
)
def test_list_without_any_of_the_images_is_refused_with_remedy(
    keys: set[str], message: str, tmp_path: Path
) -> None:
    split = SplitList(
        name="train", keys=frozenset(keys), others=frozenset(), sha256="", path=tmp_path
    )
    with pytest.raises(DataError, match=message):
        select(some_images(), split)


def test_key_in_two_lists_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_splits(tmp_path, {"train": ["FFHQ/00000"], "test": ["FFHQ/00000", "FFHQ/00001"]})
    load_split(tmp_path, "train")
    assert "FFHQ/00000" in caplog.text


def test_hash_depends_on_keys_only(tmp_path: Path) -> None:
    write_splits(tmp_path / "a", {"train": ["FFHQ/00001", "FFHQ/00000"]})
    write_splits(tmp_path / "b", {"train": ["FFHQ/00000", "FFHQ/00001"], "val": ["FFHQ/00002"]})
    one, two = load_split(tmp_path / "a", "train"), load_split(tmp_path / "b", "train")
    assert one.sha256 == two.sha256


FAKES = tuple(f"StyleGAN2/a/{n:05d}" for n in range(4))


REALS = tuple(f"FFHQ/{n:05d}" for n in range(4))


@pytest.fixture
def root(tree: Tree) -> Path:
    fakes = (f"PreSocial/Fake/{key}.png" for key in FAKES)
    reals = (f"PreSocial/Real/{key}.png" for key in REALS)
    shared = (f"Facebook/Fake/{key}_n.jpg" for key in FAKES[:3])
    return tree([*fakes, *reals, *shared])


def test_images_of_split_come_from_all_parts_in_order(root: Path) -> None:
    data = parse_data("gan2:pre&real:pre&gan2:fb")
    found = split_images(root, data, a_split(FAKES[:2] + REALS[:1], FAKES[2:] + REALS[1:]))
    assert [image.name for image in found] == [
        "pre:StyleGAN2/a/00000",
        "pre:StyleGAN2/a/00001",
        "pre:FFHQ/00000",
        "fb:StyleGAN2/a/00000_n",
        "fb:StyleGAN2/a/00001_n",
    ]


def test_part_without_image_in_split_is_an_error(root: Path) -> None:
    with pytest.raises(DataError, match=r"none of the 4 images of real:pre .* list 'train'"):
        split_images(root, parse_data("gan2:pre&real:pre"), a_split(FAKES, REALS))


def test_part_whose_images_belong_to_earlier_part_is_in_split(root: Path, tree: Tree) -> None:
    tree(["PreSocial/Fake/StyleGAN3/b/00000.png"])
    for data in ("gan2:pre&gan:pre", "gan:pre&gan2:pre"):
        found = split_images(root, parse_data(data), a_split(FAKES, ["StyleGAN3/b/00000"]))
        assert [image.key for image in found] == [*FAKES]


def test_key_without_file_is_an_error_unless_skipped(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    split = a_split([*FAKES, "StyleGAN2/a/00007", "StyleGAN2/lost/00001"], REALS)
    with pytest.raises(DataError, match=r"2 images of list 'train'.*'pre'.*StyleGAN2/a/00007"):
        split_images(root, parse_data("gan2:pre"), split)
    assert len(split_images(root, parse_data("gan2:pre"), split, missing="skip")) == len(FAKES)
    assert "such as StyleGAN2/a/00007, StyleGAN2/lost/00001. They are left out." in caplog.text


def link_elsewhere(root: Path, folder: str, names: Iterable[str]) -> list[Path]:
    """Replace images by links to the same files in another folder; return these files."""
    elsewhere = root.parent / "originals"
    elsewhere.mkdir()
    for name in names:
        file = root / folder / name
        file.rename(elsewhere / file.name)
        file.symlink_to(elsewhere / file.name)
    return [elsewhere / Path(name).name for name in names]


def test_dangling_link_is_a_missing_image(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    originals = link_elsewhere(root, "PreSocial/Fake", [f"{key}.png" for key in FAKES])
    data, split = parse_data("gan2:pre"), a_split(FAKES, REALS)
    assert len(split_images(root, data, split)) == len(FAKES)
    for original in originals[1:3]:
        original.unlink()
    with pytest.raises(DataError) as caught:
        split_images(root, data, split)
    said = str(caught.value)
    assert said.startswith("2 of 4 images of list 'train' are broken links, such as")
    assert f"{root}/PreSocial/Fake/{FAKES[1]}.png, which points to {originals[1]}." in said
    assert said.endswith("missing_images: skip.")
    left = split_images(root, data, split, missing="skip")
    assert [image.key for image in left] == [FAKES[0], FAKES[3]]
    assert "2 of 4 images of list 'train' are broken links" in caplog.text
    assert len(split_images(root, data, split, missing="keep")) == len(FAKES)
    for original in (originals[0], originals[3]):
        original.unlink()
    with pytest.raises(DataError, match=r"4 of 4 images .* are broken links"):
        split_images(root, data, split, missing="skip")


def test_second_file_of_key_does_not_hide_dangling_link(root: Path) -> None:
    (root / f"PreSocial/Fake/{FAKES[0]}.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(DataError, match=r"1 of 5 images .* which points to nowhere\.jpg"):
        split_images(root, parse_data("gan2:pre"), a_split(FAKES, REALS))


def test_dangling_links_of_other_splits_and_shared_copies_are_ignored(root: Path) -> None:
    (first, *_) = link_elsewhere(root, "Facebook/Fake", [f"{key}_n.jpg" for key in FAKES[:3]])
    first.unlink()
    (root / f"PreSocial/Fake/{FAKES[3]}.png").unlink()
    (root / f"PreSocial/Fake/{FAKES[3]}.png").symlink_to("nowhere.png")
    found = split_images(root, parse_data("gan2:pre&gan2:fb"), a_split(FAKES[:3], FAKES[3:]))
    assert [image.modifier for image in found] == ["pre"] * 3 + ["fb"] * 2


def test_only_links_are_checked(tmp_path: Path) -> None:
    (tmp_path / "there.png").touch()
    (tmp_path / "link.png").symlink_to("there.png")
    (tmp_path / "lost.png").symlink_to("nowhere.png")
    files = [str(tmp_path / f"{name}.png") for name in ("unlisted", "there", "link", "lost")]
    assert dangling_links(files, files[2:]) == files[3:]


@pytest.mark.parametrize("other", ["StyleGAN3/b/00000", "FFHQ/00009", "00001", "StyleGAN/1"])
def test_keys_of_absent_method_folders_are_ignored(root: Path, other: str) -> None:
    split = a_split([*FAKES, other])
    found = split_images(root, parse_data("gan:pre"), split)
    assert [image.key for image in found] == [*FAKES]
    (root / "PreSocial/Fake/StyleGAN3").mkdir()  # empty
    if other.startswith("StyleGAN3"):
        with pytest.raises(DataError, match=other):
            split_images(root, parse_data("gan:pre"), split)


def rewritten(change: Callable[[str], str], tmp_path: Path) -> SplitList:
    """Return the list of all images, with half of the keys of each folder written another way."""
    keys = [change(key) if at % 2 else key for at, key in enumerate((*FAKES, *REALS))]
    write_splits(tmp_path / "splits", {"train": keys, "val": [], "test": []})
    return load_split(tmp_path / "splits", "train")


def test_keys_with_backslashes_are_found(root: Path, tmp_path: Path) -> None:
    split = rewritten(lambda key: key.replace("/", "\\"), tmp_path)
    assert len(split_images(root, parse_data("gan2:pre&real:pre"), split)) == 8
    assert split.keys == {*FAKES, *REALS}
    odd = root / "PreSocial/Fake/StyleGAN2/a\\7.png"  # a file of this name has the same key
    odd.write_bytes((root / f"PreSocial/Fake/{FAKES[0]}.png").read_bytes())
    found = split_images(root, parse_data("gan2:pre"), a_split(["StyleGAN2/a/7"]))
    assert [image.path for image in found] == [odd]


@pytest.mark.parametrize(
    ("change", "folder"),
    [
        (str.lower, "FFHQ"),
        (lambda key: f"Real/{key}", "FFHQ"),
        (lambda key: f"./{key}", "FFHQ/00001"),
        (lambda key: f"data/PreSocial/Fake/{key}.png", "FFHQ"),
        (lambda key: key.replace("FFHQ", "ffhq-256"), "FFHQ"),
    ],
)
@pytest.mark.parametrize("data", ["gan2:pre&real:pre", "real:pre", "gan2:fb"])
def test_key_of_an_unknown_folder_is_an_error_unless_skipped(
    root: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[str], str],
    folder: str,
    data: str,
) -> None:
    split = rewritten(change, tmp_path)
    # keys of reals stop no job of fakes, unless their first folder is unknown
    if data == "gan2:fb" and not any(each in str(split.keys) for each in ("ffhq-256", "data/Pre")):
        folder = folder.replace("FFHQ/", "StyleGAN2/a/").replace("FFHQ", "StyleGAN2")
    with pytest.raises(DataError, match=rf"\d of 8 keys of .* such as {folder}/?, make a split"):
        split_images(root, parse_data(data), split)
    assert split_images(root, parse_data(data), split, missing="skip")
    assert "belong to no subset and to no folder" in caplog.text


@pytest.mark.parametrize(
    "key", ["stylegan3/b/00001", "Fake/StyleGAN3/b/1", "./FFHQ/00001", "ffhq/1"]
)
def test_misspelt_key_of_an_unused_source_is_left_out_with_a_warning(
    root: Path, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    found = split_images(root, parse_data("gan2:pre"), a_split([*FAKES, key]))
    assert [image.key for image in found] == [*FAKES]
    (message,) = [each.message for each in caplog.records if each.levelname == "WARNING"]
    assert message.startswith("1 of 5 keys of list 'train' belong to no subset and to no folder")
    assert message.endswith(f"such as {key}. They are left out.")
    if "FFHQ" in key.upper():
        with pytest.raises(DataError, match=f"such as {key}"):
            split_images(root, parse_data("gan2:pre&real:pre"), a_split([*FAKES, *REALS, key]))


def test_key_that_lost_its_folder_is_an_error(root: Path, tree: Tree) -> None:
    lost = FAKES[3].rpartition("/")[2]
    with pytest.raises(DataError, match=r"1 of 4 keys .* such as 00003\."):
        split_images(root, parse_data("gan2:pre"), a_split([*FAKES[:3], lost]))
    tree(["PreSocial/Fake/00003.png"])  # now it may be the key of this image
    assert len(split_images(root, parse_data("gan2:pre"), a_split([*FAKES[:3], lost]))) == 3


def test_used_images_of_each_source_are_logged(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    split_images(root, parse_data("gan2:pre&real:pre&gan2:fb"), a_split(FAKES[:2] + REALS))
    lines = [line for line in caplog.messages if "source=" in line]
    assert lines == [
        "split=train source=FFHQ modifier=pre used=4 listed=4 on_disk=4",
        "split=train source=StyleGAN2 modifier=fb used=2 listed=2 on_disk=3",
        "split=train source=StyleGAN2 modifier=pre used=2 listed=2 on_disk=4",
    ]


@pytest.mark.parametrize("lacking", [0, 1])
def test_missing_shared_copies_are_counted_and_renamed_ones_are_not(
    root: Path, caplog: pytest.LogCaptureFixture, lacking: int
) -> None:
    caplog.set_level(logging.INFO)
    found = split_images(root, parse_data("gan2:fb"), a_split(FAKES[: 3 + lacking]))
    assert len(found) == 3
    assert ("missing=1 modifier=fb" in caplog.text) == ("missing=" in caplog.text) == bool(lacking)


def test_renamed_original_file_is_missing(root: Path) -> None:
    fake = root / f"PreSocial/Fake/{FAKES[0]}.png"
    fake.rename(fake.with_stem("00000_1080x1080"))
    with pytest.raises(DataError, match=r"1 images of .*StyleGAN2/a/00000"):
        split_images(root, parse_data("gan2:pre"), a_split(FAKES))


def test_images_without_method_folder_can_be_missing(tree: Tree) -> None:
    root = tree(f"{name}/{n:05d}.png" for n, name in enumerate(("Fake", "Real", "Fake")))
    with pytest.raises(DataError, match=r"1 images of .*'none'.*00009"):
        split_images(root, parse_data("all:none"), a_split(["00000", "00001", "00002", "00009"]))
    found = split_images(root, parse_data("fakeFlat:none"), a_split(["00000", "00001"]))
    assert [image.key for image in found] == ["00000"]


def test_lists_are_replaced_atomically(tmp_path: Path) -> None:
    folder = tmp_path / "splits"
    for key in ("M/1", "M/2"):
        write_splits(folder, {"train": [key], "val": [], "test": []})
        assert read_lists(folder) == {"train": [key], "val": [], "test": []}
    with pytest.raises(TypeError):
        write_splits(folder, {"train": ["M/3"], "val": [b"M/4"]})  # type: ignore[list-item]  # what JSON has no word for
    assert read_lists(folder)["train"] == ["M/2"]
    assert sorted(path.name for path in folder.iterdir()) == ["test.json", "train.json", "val.json"]
    assert [*tmp_path.iterdir()] == [folder]


def test_list_absent_from_new_split_is_deleted(tmp_path: Path) -> None:
    for out in (tmp_path / "splits", tmp_path / "split.json"):
        write_splits(out, {"train": ["M/1"], "val": ["M/2"], "test": ["M/3"]})
        write_splits(out, {"test": ["M/1"]})
        assert read_lists(out) == {"test": ["M/1"]}


KEYS = ("SDXL/faces/p1_00000", "SDXL/faces/p1_00001", "SDXL/faces/p2_00000", "FFHQ/00000")


def test_group_is_extracted_by_regular_expression() -> None:
    assert read_groups(["/p([0-9]+)_"], KEYS) == {KEYS[0]: "1", KEYS[1]: "1", KEYS[2]: "2"}
    assert read_groups(["/p(?P<prompt>[0-9]+)_"], KEYS)[KEYS[2]] == "2"
    assert read_groups(["/p(?:[0-9]+)_([0-9]+)|x"], KEYS)[KEYS[2]] == "00000"


GROUPS = ("nan", "7.0", "NA", "7")
# a fake shows the person of its video and the person of its face; 006 is in no swap
SWAPS = ("real/000/1", "real/001/1", "real/006/1", "DF/000_001/1", "DF/001_002/1", "DF/004_005/1")


@pytest.mark.parametrize(
    "rules",
    [
        [r"/(\d{3})(?:_(\d{3}))?/"],
        [r"/(\d{3})(?:_\d{3})?/", r"/(?:\d{3}_)(\d{3})/"],
        [r"/(?:\d{3}_)(\d{3})/", r"/(\d{3})(?:_\d{3})?/"],
    ],
)
def test_both_people_of_face_swap_are_in_one_group(rules: list[str]) -> None:
    groups = read_groups(rules, SWAPS)
    assert groups == {
        "real/000/1": "000",
        "real/001/1": "000",
        "DF/000_001/1": "000",
        "DF/001_002/1": "000",
        "real/006/1": "006",
        "DF/004_005/1": "004",
    }


def test_table_may_leave_group_unknown_and_write_number_in_two_ways(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.csv").write_text(
        "".join(f"{k},{g}\n" for k, g in zip(KEYS, GROUPS, strict=True))
    )
    (tmp_path / "a.json").write_text(json.dumps(dict(zip(KEYS, [None, *GROUPS[1:]], strict=True))))
    for name in ("a.csv", "a.json"):
        groups = read_groups([str(tmp_path / name)], KEYS)
        assert groups == {KEYS[1]: "7", KEYS[3]: "7"}


def test_names_of_different_kinds_are_different_groups() -> None:
    keys = ("a/person1-camera2", "a/person2-camera3", "a/person3-camera1")
    rules = ["person(?P<person>[0-9])", "camera(?P<camera>[0-9])"]
    assert len(set(read_groups(rules, keys).values())) == 3
    assert len(set(read_groups([rules[0], "camera([0-9])"], keys).values())) == 3
    assert len(set(read_groups(["person([0-9])", "camera([0-9])"], keys).values())) == 1


def test_table_and_expression_share_group_names(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{KEYS[3]},1\n")
    groups = read_groups(["/p([0-9]+)_", str(tmp_path / "a.csv")], KEYS)
    assert groups == {KEYS[0]: "1", KEYS[1]: "1", KEYS[2]: "2", KEYS[3]: "1"}


def test_group_is_read_from_table(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({KEYS[0]: 7, KEYS[3]: "x", "gone": "y"}))
    (tmp_path / "a.csv").write_text(f"key,identity\n{KEYS[0]},7\n\n{KEYS[3]},x,more\n")
    for name in ("a.json", "a.csv"):
        assert read_groups([str(tmp_path / name)], KEYS) == {KEYS[0]: "7", KEYS[3]: "x"}


@pytest.mark.parametrize(
    ("rule", "content", "said"),
    [
        ("p[0-9]+", None, "has no parentheses"),
        ("(p", None, "not a regular expression"),
        ("prompt([0-9]+)", None, "no group for any of 4 keys, such as FFHQ/00000"),
        ("nowhere.csv", None, "cannot read nowhere.csv"),
        ("a.json", "[]", "an object"),
        ("a.json", "{", "cannot read"),
        ("a.json", '{"a": [1]}', "group of a"),
        ("a.json", '{"a": NaN}', "group of a"),
        ("a.json", '{"a": 1, "a": 2}', "a has a second group, 2"),
        ("a.csv", "alone\n", "a.csv:1: the row does not have a key and a group"),
        ("a.csv", "a,1\na,2\n", "a.csv:2: a has a second group, 2"),
        ("a.csv", "b,1\n", "no group for any"),
    ],
)
def test_invalid_rule_or_table_is_refused(
    tmp_path: Path, rule: str, content: str | None, said: str
) -> None:
    if content is not None:
        (tmp_path / rule).write_text(content)
        rule = str(tmp_path / rule)
    with pytest.raises(DataError, match=said):
        read_groups([rule], KEYS)


def test_table_with_backslashes_is_read_and_another_case_refused(tmp_path: Path) -> None:
    table = tmp_path / "groups.csv"
    table.write_text("M\\a,anna\nM/b,anna\nm/c,berta\n")
    assert read_groups([str(table)], ["M/a", "M/b"]) == {"M/a": "anna", "M/b": "anna"}
    with pytest.raises(DataError, match=r"1 keys in another case, such as m/c\. Write M/c\."):
        read_groups([str(table)], ["M/a", "M/b", "M/c"])
    assert len(read_groups([str(table)], ["M/a", "m/c", "M/C"])) == 2


def test_combined_rules_join_groups_of_each_rule() -> None:
    one = {"a": "1", "b": "1", "c": "2", "d": "2", "e": "3"}
    other = {"b": "x", "c": "x", "f": "y", "g": "y"}
    found = merge_groups(one, other)
    bound: dict[str, set[str]] = {}
    for key, group in found.items():
        bound.setdefault(group, set()).add(key)
    assert bound == {"1": {"a", "b", "c", "d"}, "3": {"e"}, "y": {"f", "g"}}
    assert merge_groups(one) == one
    assert merge_groups() == {}


CHECK_FAKES = tuple(f"StyleGAN2/a/{n:05d}" for n in range(6))


CHECK_REALS = tuple(f"FFHQ/{n:05d}" for n in range(6))


LISTS = {
    "train": CHECK_FAKES[:4] + CHECK_REALS[:4],
    "val": CHECK_FAKES[4:5] + CHECK_REALS[4:5],
    "test": CHECK_FAKES[5:] + CHECK_REALS[5:],
}


@pytest.fixture
def check_root(tree: Tree) -> Path:
    fakes = (f"PreSocial/Fake/{key}.png" for key in CHECK_FAKES)
    return tree([*fakes, *(f"PreSocial/Real/{key}.png" for key in CHECK_REALS)])


def file(check_root: Path, key: str) -> Path:
    return check_root / "PreSocial" / ("Fake" if key in CHECK_FAKES else "Real") / f"{key}.png"


def examine_split(
    check_root: Path, lists: dict[str, tuple[str, ...]], **how: object
) -> SplitReport:
    return examine(lists, survey(check_root, parse_data("all:pre")), **how)  # type: ignore[arg-type]  # as the test says


def report_cells(found: SplitReport) -> dict[str, list[str]]:
    return {name: cells for name, *cells in found.rows()}


def test_valid_split_has_no_leak_and_its_classes_are_counted(check_root: Path) -> None:
    found = examine_split(check_root, LISTS, similar=True)
    assert found.leaks == 0
    assert [(one.keys, one.real, one.fake) for one in found.lists.values()] == [
        (8, 4, 4),
        (2, 1, 1),
        (2, 1, 1),
    ]
    assert found.lists["train"].methods == {"StyleGAN2": 4, "FFHQ": 4}
    assert (found.unlisted, found.torn) == (0, None)
    assert found.pictures is not None
    assert (found.pictures.looked_at, found.pictures.same, found.pictures.near) == (12, (), ())


def test_key_in_two_lists_is_a_leak(check_root: Path) -> None:
    found = examine_split(
        check_root, LISTS | {"test": LISTS["test"] + CHECK_FAKES[:1], "val": CHECK_FAKES[:1]}
    )
    assert found.shared == {CHECK_FAKES[0]: ("train", "val", "test")}
    assert found.leaks == 1
    assert report_cells(found)["leak: key in several lists"] == [
        "1",
        "StyleGAN2/a/00000 in train and val and test",
    ]


def test_same_pixels_in_two_lists_are_a_leak(check_root: Path) -> None:
    shutil.copy(file(check_root, CHECK_REALS[0]), file(check_root, CHECK_REALS[5]))
    shutil.copy(file(check_root, CHECK_REALS[0]), file(check_root, CHECK_REALS[1]))
    found = examine_split(check_root, LISTS)
    assert found.pictures is not None
    assert found.pictures.same == (("train:FFHQ/00000", "train:FFHQ/00001", "test:FFHQ/00005"),)
    assert (found.leaks, found.pictures.repeated) == (1, 1)
    assert examine_split(check_root, LISTS, content=False).leaks == 0


def test_picture_both_real_and_fake_is_reported_also_within_list(check_root: Path) -> None:
    shutil.copy(file(check_root, CHECK_REALS[0]), file(check_root, CHECK_FAKES[1]))
    found = examine_split(check_root, LISTS)
    assert found.leaks == 0
    assert report_cells(found)["same pixels, real and fake"] == [
        "1",
        "train:FFHQ/00000 (real) = train:StyleGAN2/a/00001 (fake)",
    ]
    assert report_cells(examine_split(check_root, {"test": CHECK_REALS}))[
        "same pixels, real and fake"
    ] == ["0"]


def test_picture_with_many_copies_gives_one_short_example(check_root: Path) -> None:
    for key in (*CHECK_REALS[1:], *CHECK_FAKES):
        shutil.copy(file(check_root, CHECK_REALS[0]), file(check_root, key))
    found = examine_split(check_root, LISTS)
    assert report_cells(found)["leak: same pixels in several lists"] == [
        "1",
        "train:StyleGAN2/a/00000 = val:StyleGAN2/a/00004 = test:StyleGAN2/a/00005 = "
        "train:StyleGAN2/a/00001 = … (12 images)",
    ]
    assert report_cells(found)["same pixels, real and fake"] == [
        "1",
        "train:FFHQ/00000 (real) = train:StyleGAN2/a/00000 (fake) = … (12 images)",
    ]


def test_group_in_two_lists_is_a_leak(check_root: Path) -> None:
    groups = {
        CHECK_FAKES[0]: "anna",
        CHECK_FAKES[1]: "anna",
        CHECK_REALS[5]: "anna",
        CHECK_REALS[4]: "berta",
    }
    found = examine_split(check_root, LISTS, groups=groups)
    assert (found.torn, found.leaks) == ({"anna": ("train", "test")}, 1)


def test_missing_unlisted_and_unreadable_files_are_reported(check_root: Path) -> None:
    file(check_root, CHECK_FAKES[0]).unlink()
    file(check_root, CHECK_REALS[0]).write_bytes(b"no image")
    lists = LISTS | {"val": ("StyleGAN3/b/00001",), "train": LISTS["train"] + CHECK_FAKES[1:2]}
    found = examine_split(check_root, lists)
    assert found.lists["train"].missing == (CHECK_FAKES[0],)
    assert (found.lists["train"].repeated, found.lists["val"].elsewhere) == (1, 1)
    assert (found.unlisted, found.leaks) == (2, 0)
    assert found.pictures is not None
    assert [path for path, _ in found.pictures.unreadable] == [
        str(file(check_root, CHECK_REALS[0]))
    ]
    assert report_cells(found)["keys without a file"] == ["1", f"train:{CHECK_FAKES[0]}"]


def test_keys_of_an_unknown_folder_are_missing_in_the_report(check_root: Path) -> None:
    lists = LISTS | {"train": (*CHECK_FAKES[:4], *(key.lower() for key in CHECK_REALS[:4]))}
    find = partial(stray_keys, data_root=check_root, vocabulary=BUILT_IN)
    found = examine_split(check_root, lists, find_stray=find, content=False)
    assert (found.lists["train"].elsewhere, len(found.lists["train"].missing)) == (0, 4)
    assert found.lists["val"].missing == ()
