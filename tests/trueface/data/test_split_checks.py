import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from launcher.api import parse_data
from trueface.data.index import survey
from trueface.data.split_checks import Soundness, examine

Tree = Callable[[Iterable[str]], Path]

FAKES = tuple(f"StyleGAN2/a/{n:05d}" for n in range(6))
REALS = tuple(f"FFHQ/{n:05d}" for n in range(6))
LISTS = {
    "train": FAKES[:4] + REALS[:4],
    "val": FAKES[4:5] + REALS[4:5],
    "test": FAKES[5:] + REALS[5:],
}


@pytest.fixture
def root(tree: Tree) -> Path:
    fakes = (f"PreSocial/Fake/{key}.png" for key in FAKES)
    return tree([*fakes, *(f"PreSocial/Real/{key}.png" for key in REALS)])


def file(root: Path, key: str) -> Path:
    return root / "PreSocial" / ("Fake" if key in FAKES else "Real") / f"{key}.png"


def look(root: Path, lists: dict[str, tuple[str, ...]], **how: object) -> Soundness:
    return examine(lists, survey(root, parse_data("all:pre")), **how)  # type: ignore[arg-type]  # as the test says


def told(found: Soundness) -> dict[str, list[str]]:
    return {name: cells for name, *cells in found.rows()}


def test_a_sound_split_has_no_leak_and_its_classes_are_counted(root: Path) -> None:
    found = look(root, LISTS, similar=True)
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


def test_a_key_in_two_lists_is_a_leak(root: Path) -> None:
    found = look(root, LISTS | {"test": LISTS["test"] + FAKES[:1], "val": FAKES[:1]})
    assert found.shared == {FAKES[0]: ("train", "val", "test")}
    assert found.leaks == 1
    assert told(found)["leak: key in several lists"] == [
        "1",
        "StyleGAN2/a/00000 in train and val and test",
    ]


def test_the_same_number_under_two_methods_is_no_leak(root: Path) -> None:
    assert look(root, {"train": FAKES, "test": REALS}).leaks == 0


def test_the_same_pixels_in_two_lists_are_a_leak(root: Path) -> None:
    shutil.copy(file(root, REALS[0]), file(root, REALS[5]))
    shutil.copy(file(root, REALS[0]), file(root, REALS[1]))
    found = look(root, LISTS)
    assert found.pictures is not None
    assert found.pictures.same == (("train:FFHQ/00000", "train:FFHQ/00001", "test:FFHQ/00005"),)
    assert (found.leaks, found.pictures.repeated) == (1, 1)
    assert look(root, LISTS, content=False).leaks == 0


def test_a_group_in_two_lists_is_a_leak(root: Path) -> None:
    groups = {FAKES[0]: "anna", FAKES[1]: "anna", REALS[5]: "anna", REALS[4]: "berta"}
    found = look(root, LISTS, groups=groups)
    assert (found.torn, found.leaks) == ({"anna": ("train", "test")}, 1)


def test_files_that_are_missing_unlisted_or_unreadable_are_told(root: Path) -> None:
    file(root, FAKES[0]).unlink()
    file(root, REALS[0]).write_bytes(b"no image")
    lists = LISTS | {"val": ("StyleGAN3/b/00001",), "train": LISTS["train"] + FAKES[1:2]}
    found = look(root, lists)
    assert found.lists["train"].missing == (FAKES[0],)
    assert (found.lists["train"].repeated, found.lists["val"].elsewhere) == (1, 1)
    assert (found.unlisted, found.leaks) == (2, 0)
    assert found.pictures is not None
    assert [path for path, _ in found.pictures.unreadable] == [str(file(root, REALS[0]))]
    assert told(found)["keys without a file"] == ["1", f"train:{FAKES[0]}"]


def test_all_of_it_can_be_written_as_json(root: Path) -> None:
    content = json.loads(json.dumps(look(root, LISTS).as_json()))
    assert (content["schema"], content["leaks"]) == (1, 0)
    assert content["lists"]["train"]["missing"] == []
