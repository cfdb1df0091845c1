"""Lists of a split: how they are read, grouped and checked."""

import json
import logging
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from launcher.api import parse_data
from trueface.data.index import survey
from trueface.data.split_checks import Soundness, examine
from trueface.data.splits import (
    NAMES,
    SplitList,
    load_split,
    read_list,
    read_lists,
    split_files,
    split_images,
    write_splits,
)
from trueface.data.splitting import joined, read_groups
from trueface.runtime.errors import DataError

Tree = Callable[[Iterable[str]], Path]


def a_split(keys: Iterable[str], others: Iterable[str] = ()) -> SplitList:
    return SplitList(name="train", keys=frozenset(keys), others=frozenset(others), sha256="")


def test_a_split_is_read_from_a_folder_or_from_one_file(tmp_path: Path) -> None:
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
        (None, r"no list 'train'.*train\.json"),
        ("no folder", "trueface splits"),
    ],
)
def test_a_list_that_is_none_or_not_there_is_refused_by_name(
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


def test_a_key_in_two_lists_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_splits(tmp_path, {"train": ["FFHQ/00000"], "test": ["FFHQ/00000", "FFHQ/00001"]})
    load_split(tmp_path, "train")
    assert "FFHQ/00000" in caplog.text


def test_the_hash_depends_on_the_keys_alone(tmp_path: Path) -> None:
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


def test_the_images_of_a_split_are_those_of_all_parts_in_order(root: Path) -> None:
    data = parse_data("gan2:pre&real:pre&gan2:fb")
    found = split_images(root, data, a_split(FAKES[:2] + REALS[:1], FAKES[2:] + REALS[1:]))
    assert [image.name for image in found] == [
        "pre:StyleGAN2/a/00000",
        "pre:StyleGAN2/a/00001",
        "pre:FFHQ/00000",
        "fb:StyleGAN2/a/00000_n",
        "fb:StyleGAN2/a/00001_n",
    ]


def test_a_part_of_which_no_image_is_in_the_split_is_an_error(root: Path) -> None:
    with pytest.raises(DataError, match=r"none of the 4 images of real:pre .* list 'train'"):
        split_images(root, parse_data("gan2:pre&real:pre"), a_split(FAKES, REALS))


def test_a_part_whose_images_an_earlier_part_has_is_in_the_split(root: Path, tree: Tree) -> None:
    tree(["PreSocial/Fake/StyleGAN3/b/00000.png"])
    for data in ("gan2:pre&gan:pre", "gan:pre&gan2:pre"):
        found = split_images(root, parse_data(data), a_split(FAKES, ["StyleGAN3/b/00000"]))
        assert [image.key for image in found] == [*FAKES]


def test_a_key_without_a_file_is_an_error_unless_it_is_to_be_skipped(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    split = a_split([*FAKES, "StyleGAN2/a/00007", "StyleGAN2/lost/00001"], REALS)
    with pytest.raises(DataError, match=r"2 images of list 'train'.*'pre'.*StyleGAN2/a/00007"):
        split_images(root, parse_data("gan2:pre"), split)
    assert len(split_images(root, parse_data("gan2:pre"), split, missing="skip")) == len(FAKES)
    assert "such as StyleGAN2/a/00007, StyleGAN2/lost/00001; left out" in caplog.text


@pytest.mark.parametrize("other", ["StyleGAN3/b/00000", "FFHQ/00009", "00001", "StyleGAN/1"])
def test_keys_of_methods_whose_folders_are_not_there_are_no_matter(root: Path, other: str) -> None:
    split = a_split([*FAKES, other])
    found = split_images(root, parse_data("gan:pre"), split)
    assert [image.key for image in found] == [*FAKES]
    (root / "PreSocial/Fake/StyleGAN3").mkdir()  # empty
    if other.startswith("StyleGAN3"):
        with pytest.raises(DataError, match=other):
            split_images(root, parse_data("gan:pre"), split)


@pytest.mark.parametrize("lacking", [0, 1])
def test_shared_copies_that_are_missing_are_counted_only_and_renamed_ones_are_not(
    root: Path, caplog: pytest.LogCaptureFixture, lacking: int
) -> None:
    caplog.set_level(logging.INFO)
    found = split_images(root, parse_data("gan2:fb"), a_split(FAKES[: 3 + lacking]))
    assert len(found) == 3
    assert ("missing=1 modifier=fb" in caplog.text) == ("missing=" in caplog.text) == bool(lacking)


def test_an_unshared_file_that_was_renamed_is_missing(root: Path) -> None:
    fake = root / f"PreSocial/Fake/{FAKES[0]}.png"
    fake.rename(fake.with_stem("00000_1080x1080"))
    with pytest.raises(DataError, match=r"1 images of .*StyleGAN2/a/00000"):
        split_images(root, parse_data("gan2:pre"), a_split(FAKES))


def test_images_without_a_method_folder_can_be_missing_too(tree: Tree) -> None:
    root = tree(f"{name}/{n:05d}.png" for n, name in enumerate(("Fake", "Real", "Fake")))
    with pytest.raises(DataError, match=r"1 images of .*'none'.*00009"):
        split_images(root, parse_data("all:none"), a_split(["00000", "00001", "00002", "00009"]))
    found = split_images(root, parse_data("fakeFlat:none"), a_split(["00000", "00001"]))
    assert [image.key for image in found] == ["00000"]


def test_lists_replace_others_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "splits"
    for key in ("M/1", "M/2"):
        write_splits(folder, {"train": [key], "val": [], "test": []})
        assert read_lists(folder) == {"train": [key], "val": [], "test": []}
    with pytest.raises(TypeError):
        write_splits(folder, {"train": ["M/3"], "val": [b"M/4"]})  # type: ignore[list-item]  # what JSON has no word for
    assert read_lists(folder)["train"] == ["M/2"]
    assert sorted(path.name for path in folder.iterdir()) == ["test.json", "train.json", "val.json"]
    assert [*tmp_path.iterdir()] == [folder]


def test_a_list_that_the_new_split_has_not_is_gone(tmp_path: Path) -> None:
    for out in (tmp_path / "splits", tmp_path / "split.json"):
        write_splits(out, {"train": ["M/1"], "val": ["M/2"], "test": ["M/3"]})
        write_splits(out, {"test": ["M/1"]})
        assert read_lists(out) == {"test": ["M/1"]}


KEYS = ("SDXL/faces/p1_00000", "SDXL/faces/p1_00001", "SDXL/faces/p2_00000", "FFHQ/00000")


def test_a_group_is_told_by_a_regular_expression() -> None:
    assert read_groups("/p([0-9]+)_", KEYS) == {KEYS[0]: "1", KEYS[1]: "1", KEYS[2]: "2"}
    assert read_groups("/p(?:[0-9]+)_([0-9]+)|x", KEYS)[KEYS[2]] == "00000"


def test_a_group_is_told_by_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({KEYS[0]: 7, KEYS[3]: "x", "gone": "y"}))
    (tmp_path / "a.csv").write_text(f"key,identity\n{KEYS[0]},7\n\n{KEYS[3]},x,more\n")
    for name in ("a.json", "a.csv"):
        assert read_groups(str(tmp_path / name), KEYS) == {KEYS[0]: "7", KEYS[3]: "x"}


@pytest.mark.parametrize(
    ("rule", "content", "said"),
    [
        ("p[0-9]+", None, "0 groups in parentheses"),
        ("(p)([0-9]+)", None, "2 groups in parentheses"),
        ("(p", None, "no regular expression"),
        ("prompt([0-9]+)", None, "no group for any of 4 keys, such as FFHQ/00000"),
        ("nowhere.csv", None, "cannot read groups from nowhere.csv"),
        ("a.json", "[]", "an object"),
        ("a.json", "{", "cannot read"),
        ("a.json", '{"a": [1]}', "group of a"),
        ("a.csv", "alone\n", "line 1 has no key and group"),
        ("a.csv", "a,1\na,2\n", "line 2 puts a in a second group"),
        ("a.csv", "b,1\n", "no group for any"),
    ],
)
def test_a_rule_or_a_table_that_cannot_be_is_refused(
    tmp_path: Path, rule: str, content: str | None, said: str
) -> None:
    if content is not None:
        (tmp_path / rule).write_text(content)
        rule = str(tmp_path / rule)
    with pytest.raises(DataError, match=said):
        read_groups(rule, KEYS)


def test_rules_together_bind_what_any_of_them_binds() -> None:
    one = {"a": "1", "b": "1", "c": "2", "d": "2", "e": "3"}
    other = {"b": "x", "c": "x", "f": "y", "g": "y"}
    found = joined(one, other)
    bound: dict[str, set[str]] = {}
    for key, group in found.items():
        bound.setdefault(group, set()).add(key)
    assert bound == {"1": {"a", "b", "c", "d"}, "3": {"e"}, "y": {"f", "g"}}
    assert joined(one) == one
    assert joined() == {}


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


def look(check_root: Path, lists: dict[str, tuple[str, ...]], **how: object) -> Soundness:
    return examine(lists, survey(check_root, parse_data("all:pre")), **how)  # type: ignore[arg-type]  # as the test says


def told(found: Soundness) -> dict[str, list[str]]:
    return {name: cells for name, *cells in found.rows()}


def test_a_sound_split_has_no_leak_and_its_classes_are_counted(check_root: Path) -> None:
    found = look(check_root, LISTS, similar=True)
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


def test_a_key_in_two_lists_is_a_leak(check_root: Path) -> None:
    found = look(
        check_root, LISTS | {"test": LISTS["test"] + CHECK_FAKES[:1], "val": CHECK_FAKES[:1]}
    )
    assert found.shared == {CHECK_FAKES[0]: ("train", "val", "test")}
    assert found.leaks == 1
    assert told(found)["leak: key in several lists"] == [
        "1",
        "StyleGAN2/a/00000 in train and val and test",
    ]


def test_the_same_number_under_two_methods_is_no_leak(check_root: Path) -> None:
    assert look(check_root, {"train": CHECK_FAKES, "test": CHECK_REALS}).leaks == 0


def test_the_same_pixels_in_two_lists_are_a_leak(check_root: Path) -> None:
    shutil.copy(file(check_root, CHECK_REALS[0]), file(check_root, CHECK_REALS[5]))
    shutil.copy(file(check_root, CHECK_REALS[0]), file(check_root, CHECK_REALS[1]))
    found = look(check_root, LISTS)
    assert found.pictures is not None
    assert found.pictures.same == (("train:FFHQ/00000", "train:FFHQ/00001", "test:FFHQ/00005"),)
    assert (found.leaks, found.pictures.repeated) == (1, 1)
    assert look(check_root, LISTS, content=False).leaks == 0


def test_a_group_in_two_lists_is_a_leak(check_root: Path) -> None:
    groups = {
        CHECK_FAKES[0]: "anna",
        CHECK_FAKES[1]: "anna",
        CHECK_REALS[5]: "anna",
        CHECK_REALS[4]: "berta",
    }
    found = look(check_root, LISTS, groups=groups)
    assert (found.torn, found.leaks) == ({"anna": ("train", "test")}, 1)


def test_files_that_are_missing_unlisted_or_unreadable_are_told(check_root: Path) -> None:
    file(check_root, CHECK_FAKES[0]).unlink()
    file(check_root, CHECK_REALS[0]).write_bytes(b"no image")
    lists = LISTS | {"val": ("StyleGAN3/b/00001",), "train": LISTS["train"] + CHECK_FAKES[1:2]}
    found = look(check_root, lists)
    assert found.lists["train"].missing == (CHECK_FAKES[0],)
    assert (found.lists["train"].repeated, found.lists["val"].elsewhere) == (1, 1)
    assert (found.unlisted, found.leaks) == (2, 0)
    assert found.pictures is not None
    assert [path for path, _ in found.pictures.unreadable] == [
        str(file(check_root, CHECK_REALS[0]))
    ]
    assert told(found)["keys without a file"] == ["1", f"train:{CHECK_FAKES[0]}"]


def test_all_of_it_can_be_written_as_json(check_root: Path) -> None:
    content = json.loads(json.dumps(look(check_root, LISTS).as_json()))
    assert (content["schema"], content["leaks"]) == (1, 0)
    assert content["lists"]["train"]["missing"] == []
