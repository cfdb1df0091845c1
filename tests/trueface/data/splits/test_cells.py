from collections import Counter
from pathlib import Path

import pytest

from trueface.data.attributes.attributes import Attributes
from trueface.data.index import Image
from trueface.data.splits.make_splits import Grouping, make_splits
from trueface.runtime.errors import DataError

FOLDERS = {0: "PreSocial/Real/FFHQ", 1: "PreSocial/Fake/StyleGAN2/x"}


def some_images(root: Path, counts: dict[tuple[str, int], int]) -> tuple[list[Image], list[str]]:
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
    attributes = Attributes.read([root / "t.csv"], root)
    return Grouping(attributes=attributes, data_root=root, by="skin", missing=missing)  # type: ignore[arg-type]  # a text


def test_each_cell_is_divided_in_the_same_shares(tmp_path: Path) -> None:
    counts = {("a", 0): 100, ("a", 1): 20, ("b", 0): 10, ("b", 1): 50}
    images, rows = some_images(tmp_path, counts)
    known = grouping(tmp_path, rows)
    lists = make_splits(images, seed=1, shares=(0.5, 0.3), cells=known.cells_of_keys(images))
    cells = known.of_lists(lists, images)
    assert cells["train"].counts == {"a": (50, 10), "b": (5, 25)}
    assert cells["val"].counts == {"a": (30, 6), "b": (3, 15)}
    assert list(cells["test"].few) == ["a", "b"]


def test_folders_within_a_cell_are_divided_alike(tmp_path: Path) -> None:
    images, rows = some_images(tmp_path, {("a", 0): 20, ("a", 1): 20})
    cells = dict.fromkeys(grouping(tmp_path, rows).cells_of_keys(images), "all")
    lists = make_splits(images, seed=1, shares=(0.5, 0.25), cells=cells)
    assert {name: Counter(key.split("/")[0] for key in keys) for name, keys in lists.items()} == {
        "train": {"FFHQ": 10, "StyleGAN2": 10},
        "val": {"FFHQ": 5, "StyleGAN2": 5},
        "test": {"FFHQ": 5, "StyleGAN2": 5},
    }


def test_related_images_stay_together_in_balanced_lists(tmp_path: Path) -> None:
    images, rows = some_images(tmp_path, {("a", 0): 40, ("a", 1): 40, ("b", 0): 40, ("b", 1): 40})
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
    images, rows = some_images(tmp_path, {("a", 0): 2})
    copies = [
        image._replace(file=f"{tmp_path}/Facebook/Real/FFHQ/other{at}.jpg", modifier="fb")
        for at, image in enumerate(images)
    ]
    both = [*copies, *images]
    cells = grouping(tmp_path, rows).of_lists({"train": [image.key for image in images]}, both)
    assert cells["train"].counts == {"a": (2, 0)}


def test_a_key_without_a_group_stops_or_is_unknown(tmp_path: Path) -> None:
    images, rows = some_images(tmp_path, {("a", 0): 3})
    with pytest.raises(DataError, match="have no row"):
        grouping(tmp_path, rows[:-1]).of_keys(images)
    known = grouping(tmp_path, rows[:-1], "skip")
    assert [*known.of_keys(images).values()] == ["a", "a", "unknown"]
