from collections.abc import Mapping
from pathlib import Path

import pytest

from launcher.api import Words
from trueface.runtime import paths
from trueface.training import image_lists
from trueface.training.image_lists import Ancestry, Lesson


def a_lesson(images: str = "gan2:pre&real:pre", words: Words | None = None) -> Lesson:
    return Lesson(
        images=images,
        words=words or Words(),
        data_root="/data",
        split_path="/splits",
        train_sha256="0" * 64,
    )


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    own = Words(subsets={"mine": ("A", "B-*")}, modifiers={"wa": ("WhatsApp",)})
    lessons = (a_lesson(), a_lesson("mine:wa&real:wa", own))
    image_lists.write_ancestry(tmp_path / "model", "base", lessons)
    found = image_lists.read_ancestry(tmp_path / "model")
    assert found == Ancestry(base="base", lessons=lessons)
    assert found.lessons[1].vocabulary.methods("mine").folders == ("A", "B-*")


def test_a_repeated_lesson_is_written_once(tmp_path: Path) -> None:
    image_lists.write_ancestry(tmp_path, None, [a_lesson(), a_lesson("sd:pre"), a_lesson()])
    assert image_lists.read_ancestry(tmp_path) == Ancestry(
        base=None, lessons=(a_lesson(), a_lesson("sd:pre"))
    )


@pytest.mark.parametrize("further", [False, True])
def test_what_older_weights_saw_stays_written_until_there_are_new_ones(
    tmp_path: Path, further: bool
) -> None:
    old, new = a_lesson(), a_lesson("sd:pre")
    image_lists.write_ancestry(tmp_path, "base", [old])
    paths.checkpoint(tmp_path).parent.mkdir()
    paths.checkpoint(tmp_path).touch()
    written = image_lists.begin_lesson(tmp_path, "base", new, further=further)
    assert image_lists.read_ancestry(tmp_path) == Ancestry(base="base", lessons=(old, new))
    written()
    kept = (old, new) if further else (new,)
    assert image_lists.read_ancestry(tmp_path) == Ancestry(base="base", lessons=kept)


def test_what_weights_saw_that_are_gone_is_not_kept(tmp_path: Path) -> None:
    image_lists.write_ancestry(tmp_path, None, [a_lesson()])
    image_lists.begin_lesson(tmp_path, None, a_lesson("sd:pre"))
    assert image_lists.read_ancestry(tmp_path) == Ancestry(base=None, lessons=(a_lesson("sd:pre"),))


def test_words_of_a_record_that_it_does_not_explain_make_it_void(tmp_path: Path) -> None:
    image_lists.write_ancestry(tmp_path, None, [a_lesson("mine:pre")])
    assert image_lists.read_ancestry(tmp_path) is None


@pytest.mark.parametrize("name", ["absent", "x" * 300, "a\0b"])
def test_a_model_that_is_not_there_says_nothing(tmp_path: Path, name: str) -> None:
    assert image_lists.read_ancestry(tmp_path / name) is None


def test_a_folder_in_the_place_of_a_record_says_nothing(tmp_path: Path) -> None:
    paths.ancestry(tmp_path).mkdir()
    assert image_lists.read_ancestry(tmp_path) is None


def test_a_chain_is_followed_to_its_end_and_not_in_a_circle() -> None:
    known: Mapping[str, Ancestry] = {
        "a": Ancestry(base=None, lessons=(a_lesson(),)),
        "b": Ancestry(base="a", lessons=(a_lesson("sd:pre"), a_lesson())),
        "c": Ancestry(base="gone", lessons=()),
        "d": Ancestry(base="e", lessons=(a_lesson(),)),
        "e": Ancestry(base="d", lessons=(a_lesson(),)),
    }
    told = {
        model: [name for name, _ in image_lists.follow_lessons(model, known.get)] for model in known
    }
    assert told == {"a": ["a"], "b": ["b", "b", "a"], "c": [], "d": ["d", "e"], "e": ["e", "d"]}
