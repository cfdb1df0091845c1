"""Data roots for detectors: pairs by name, the same format, lists that detectors read."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from launcher.api import parse_data
from tests.trueface.generators.translation.build import a_translator, portraits
from trueface.data.splits.split_files import load_split, split_images
from trueface.data.vocabulary import BUILT_IN
from trueface.generators.drawn_set import ATTRIBUTES
from trueface.generators.made_folders import image_names, output_folder
from trueface.generators.translation.detector_set import (
    lists_of,
    original_of,
    pairs_of,
    write_pairs,
)
from trueface.generators.translation.settings import TranslateSettings
from trueface.runtime.errors import DataError, UnknownName
from trueface.runtime.ids import Words
from trueface.runtime.progress import RunContext

WORDS = BUILT_IN.with_words(
    Words(subsets={"translated": ("Translated",), "realOriginals": ("Originals",)}, modifiers={})
)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return portraits(tmp_path_factory.mktemp("portraits"), 40) / "A"


def settings(**given: Any) -> TranslateSettings:
    return TranslateSettings.model_validate(
        {"source": "drawn/A", "translator": "labelled:A", **given}
    )


def write_detector_set(place: Path, source: Path, real: Path, **given: Any) -> Path:
    translator, chosen = a_translator(), settings(**given)
    pairs = pairs_of(source, real, chosen, translator.labels)
    with output_folder(place) as made:
        write_pairs(made, pairs, translator, chosen, RunContext())
        made.write_output_record({"kind": "translate"})
    return place


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, drawn: Path) -> Path:
    return write_detector_set(tmp_path_factory.mktemp("sets") / "made", drawn, drawn)


def keys(root: Path, name: str) -> Iterator[str]:
    yield from json.loads((root / "splits" / f"{name}.json").read_text())


def test_each_list_contains_fake_and_real_images(made: Path, drawn: Path) -> None:
    data = parse_data("translated:pre&realOriginals:pre")
    names = set(image_names(drawn))
    seen = set()
    for name, count in (("train", 20), ("val", 4), ("test", 4)):
        images = split_images(made, data, load_split(made / "splits", name), WORDS)
        assert sum(image.label for image in images) == count == len(images) - count
        fakes, reals = ({i.path.stem for i in images if i.label == label} for label in (1, 0))
        assert fakes == reals
        seen |= fakes
    assert seen == {name.removesuffix(".png") for name in names}


def test_file_format_does_not_reveal_the_class(tmp_path: Path, drawn: Path) -> None:
    jpegs = tmp_path / "real"
    jpegs.mkdir()
    for name in image_names(drawn):
        with PIL.Image.open(drawn / name) as picture:
            picture.save(jpegs / name.replace(".png", ".jpg"), quality=95)
    (jpegs / "attributes.csv").write_text((drawn / "attributes.csv").read_text())
    root = write_detector_set(tmp_path / "made", drawn, jpegs)
    heads = {(path.suffix, path.read_bytes()[:33]) for path in (root / "PreSocial").rglob("*.*")}
    assert len(heads) == 1  # signature, size, depth, colours


def test_batch_size_changes_neither_names_nor_attributes(drawn: Path) -> None:
    alone, together = (
        pairs_of(drawn, drawn, settings(batch_size=size), ATTRIBUTES).changed for size in (1, 32)
    )
    assert alone == together


def test_given_attribute_is_flipped_in_all_images(drawn: Path) -> None:
    pairs = pairs_of(drawn, drawn, settings(attribute="warm_skin"), ATTRIBUTES)
    assert set(pairs.changed) == {"warm_skin"}


def test_clean_and_purified_images_with_equal_name_are_in_the_same_list() -> None:
    names = [f"{number:05d}" for number in range(30)]
    png, jpg = (
        lists_of([f"{name}{suffix}" for name in names], settings()) for suffix in (".png", ".jpg")
    )
    assert png == jpg


def test_all_images_can_be_test_images(tmp_path: Path, drawn: Path) -> None:
    root = write_detector_set(tmp_path / "made", drawn, drawn, train=0, val=0, limit=6)
    assert not [*keys(root, "train"), *keys(root, "val")]
    assert len([*keys(root, "test")]) == 12


def test_real_images_come_from_the_original_folder_of_the_chain(tmp_path: Path) -> None:
    for name, source in (("disrupted", "clean"), ("purified", "disrupted"), ("circle", "circle")):
        with output_folder(tmp_path / name) as made:
            made.write_output_record({"source": source})
    (tmp_path / "clean").mkdir()
    resolve = tmp_path.__truediv__
    assert original_of(tmp_path / "purified", resolve) == tmp_path / "clean"
    with pytest.raises(DataError, match="form a circle"):
        original_of(tmp_path / "circle", resolve)


def test_missing_real_image_is_named(tmp_path: Path, drawn: Path) -> None:
    with PIL.Image.open(drawn / image_names(drawn)[0]) as picture:
        picture.save(tmp_path / "stranger.png")
    with pytest.raises(DataError, match=r"no image for stranger\.png"):
        pairs_of(tmp_path, drawn, settings(), ATTRIBUTES)


def test_table_without_translator_attributes_is_rejected(drawn: Path) -> None:
    with pytest.raises(UnknownName, match="Male"):
        pairs_of(drawn, drawn, settings(), ("Male", "dark_hair"))
    with pytest.raises(UnknownName, match="warm_skn"):
        pairs_of(drawn, drawn, settings(attribute="warm_skn"), ATTRIBUTES)


def test_images_of_another_size_are_rejected_and_no_files_are_left(
    tmp_path: Path, drawn: Path
) -> None:
    name = image_names(drawn)[0]
    source = tmp_path / "source"
    source.mkdir()
    PIL.Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(source / name)
    with pytest.raises(DataError, match="has 40x40 pixels, expected 32x32"):
        write_detector_set(tmp_path / "made", source, drawn)
    assert not (tmp_path / "made").exists()


def test_fake_and_real_folders_must_have_different_names() -> None:
    with pytest.raises(ValueError, match="fakes and reals are both 'Same'"):
        settings(fakes="Same", reals="Same")
    with pytest.raises(ValueError, match="add up to more than 1"):
        settings(train=0.9, val=0.2)
    with pytest.raises(ValueError, match="is not a folder name"):
        settings(fakes="a/b")
