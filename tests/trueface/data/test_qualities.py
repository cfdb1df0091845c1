"""Qualities of images and lists of them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from trueface.data.index import Image
from trueface.data.qualities import (
    QualityList,
    canonical_qualities,
    chain_of,
    files_of,
    join_qualities,
    missing_file_words,
    plugin_modules,
    split_quality_words,
    with_files,
)
from trueface.runtime.errors import DataError


def test_qualities_have_one_spelling_as_text_and_list() -> None:
    with pytest.raises(
        ValueError, match=r"unknown corruption 'source'.* in a data.json, set quality_list to it"
    ):
        canonical_qualities("raw,source")
    assert canonical_qualities("none, jpeg075 ,half+jpeg30") == "raw,jpeg75,half+jpeg30"
    assert canonical_qualities(join_qualities(["raw", "jpeg30-100"])) == "raw,jpeg30-100"
    assert canonical_qualities("") == ""
    assert split_quality_words("") == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raw,jpeg0", "jpeg0: expected quality from 1 to 100"),
        ("raw,jpg50", "Did you mean 'jpeg'?"),
        ("raw,none", "raw is listed twice"),
        ("raw,,jpeg5", "missing between two commas"),
        ("raw,files:a/b", "such as files:c23"),
        (",".join(f"jpeg{at}" for at in range(1, 18)), "at most 16"),
    ],
)
def test_invalid_list_of_qualities_is_refused_with_reason(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        canonical_qualities(text)


def test_words_next_to_file_list_are_files_and_corruptions_are_kept() -> None:
    assert with_files("raw, c23, jpeg50, mine") == "raw,files:c23,jpeg50,files:mine"
    assert files_of("files:c23") == "c23"
    assert files_of("jpeg50") is None
    assert [chain_of(name) for name in ("raw", "files:c23", "jpeg50")] == ["none", "none", "jpeg50"]
    assert list(missing_file_words("raw,files:c23,files:c4", ["raw", "c23"])) == ["c4"]


def test_modules_include_those_of_all_corruption_kinds() -> None:
    kinds = "trueface.corruptions.kinds"
    assert plugin_modules("raw,half+jpeg30,jpeg75") == (f"{kinds}.resizing", f"{kinds}.codecs")


PAIRS: dict[str, Any] = {
    "raw": ["raw/1.png", "raw/2.png"],
    "c23": ["c23/1.jpg", "c23/2.jpg"],
    "labels": [0, 1],
}


def write_list(folder: Path, train: Any) -> Path:
    path = folder / "data.json"
    path.write_text(json.dumps({"train": train}))
    return path


def an_image(folder: Path, number: int, label: int) -> Image:
    return Image(str(folder / f"raw/{number}.png"), f"A/{number}", label, "A", "pre")


def test_fakes_that_are_their_own_source_are_found(tmp_path: Path) -> None:
    fakes = [an_image(tmp_path, 1, 0), an_image(tmp_path, 2, 1)]
    cases = (
        (["raw/1.png", "c/2.png"], [0, 1], None, True),
        (["raw/1.png", "raw/2.png"], [0, 1], fakes[1], False),
        (["c/1.png", "raw/2.png"], None, fakes[1], True),
        (["raw/1.png", "c/2.png"], None, None, True),  # it may be real
        (["raw/1.png", "raw/2.png"], None, fakes[1], False),
    )
    for source, labels, own, has_sources in cases:
        lists = {"raw": PAIRS["raw"], "source": source} | ({"labels": labels} if labels else {})
        read = QualityList.read(write_list(tmp_path, lists))
        found = read.own_source(fakes, "source"), read.has_sources("source")
        assert found == (own, has_sources), source
    (tmp_path / "link").symlink_to(tmp_path)
    read = QualityList.read(write_list(tmp_path, PAIRS | {"c23": PAIRS["raw"]}))
    assert read.own_source([an_image(tmp_path / "link", 2, 1)], "c23") is not None


def test_files_of_images_are_found_by_position(tmp_path: Path) -> None:
    read = QualityList.read(write_list(tmp_path, PAIRS))
    images = [an_image(tmp_path, 2, 1), an_image(tmp_path, 1, 0)]
    assert read.partners(images, "c23") == {
        "pre:A/2": tmp_path / "c23/2.jpg", "pre:A/1": tmp_path / "c23/1.jpg",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"c23": ["c23/1.jpg"]}, r"1 files of 'c23' but 2 of 'raw'.*raw/2.png \(entry 2\) has no"),
        ({"c23": ["c23/1.jpg", "c23/3.jpg"]}, r"pair 2 of train .*raw/2.png, c23 .*c23/3.jpg"),
        ({"c23": ["c23/2.jpg"]}, r"first different pair is 1: .*raw/1.png, .*c23/2.jpg"),
        ({"labels": [0]}, "1 labels but 2 files"),
        ({"labels": [0, 2]}, r"entry 2 of labels of train is 2, expected 1 \(fake\) or 0"),
        ({"labels": [0, [1]]}, r"entry 2 of labels of train is \[1\]"),
        (
            {"raw": ["raw/1.png"] * 2, "c23": ["c23/1.jpg", "c40/1.jpg"]},
            r"raw/1.png is in entries 1 and 2 of 'raw' of train, with different files",
        ),
        ({"c23": "c23"}, "'c23' of train is not a list of paths"),
        ({"c23": ["c23/1.jpg", 3]}, "entry 2 of 'c23' of train is not a path: 3"),
    ],
)
def test_lists_without_pairs_are_refused_with_first_bad_entry(
    tmp_path: Path, changed: Any, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        QualityList.read(write_list(tmp_path, {**PAIRS, **changed}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, r"Set quality_list to a data\.json"),
        ('{"train":\n {"raw": [}}', r"data.json:2: not valid JSON"),
        ('{"val": {}}', "lists by quality in 'train', found val"),
        ('{"train": {"c23": []}}', "no list 'raw'"),
    ],
)
def test_invalid_list_file_is_refused_with_its_line(
    tmp_path: Path, text: str | None, said: str
) -> None:
    path = tmp_path / "data.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=said):
        QualityList.read(path)


@pytest.mark.parametrize(
    ("images", "quality", "said"),
    [
        ([(3, 0)], "c23", r"raw/3.png is not in the list 'raw'"),
        ([(2, 0)], "c23", r"has 1 for .*raw/2.png, but its folder means 0"),
        ([], "c40", r"no list 'c40'\. Its lists: raw, c23"),
    ],
)
def test_unlisted_images_are_refused(
    tmp_path: Path, images: list[tuple[int, int]], quality: str, said: str
) -> None:
    read = QualityList.read(write_list(tmp_path, PAIRS))
    with pytest.raises(DataError, match=said):
        read.partners([an_image(tmp_path, *each) for each in images], quality)


def test_linked_images_match_those_of_the_list(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    (folder / "raw").mkdir(parents=True)
    (tmp_path / "data").symlink_to(folder)
    read = QualityList.read(write_list(folder, PAIRS))
    image = an_image(tmp_path / "data", 1, 0)
    assert read.partners([image], "c23") == {image.name: folder / "c23/1.jpg"}
