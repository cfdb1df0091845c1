"""Records in a model folder: training images, epochs, and the licence of the weights."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.api import Words
from tests.trueface.training.test_trainer import tiny
from trueface.data.index import Image
from trueface.models.detectors import Detector
from trueface.runtime import paths
from trueface.runtime.errors import DataError
from trueface.runtime.files import write_json
from trueface.runtime.ids import model_folder_name
from trueface.training import image_lists
from trueface.training.checkpointing import TrainingStart, network_provenance
from trueface.training.history import Epoch, epochs, write_history
from trueface.training.image_lists import Ancestry, TrainingSetRecord


def a_lesson(images: str = "gan2:pre&real:pre", words: Words | None = None) -> TrainingSetRecord:
    return TrainingSetRecord(
        images=images,
        words=words or Words(),
        data_root="/data",
        split_path="/splits",
        train_sha256="0" * 64,
    )


@pytest.mark.parametrize(
    ("sources", "is_always_drawn", "reason"),
    [
        (("real pre",), True, ""),
        (
            ("real fb",),
            True,
            "1 real and 0 fake ones.*all re-shared. Add fake images, or original real",
        ),
        (("real fb", "fake fb"), False, ""),
        (("real none", "real fb"), True, ""),
        (
            ("real none",),
            False,
            "makes no fake in epoch 2 of 3, and the 1 training images are all real",
        ),
    ],
)
def test_self_blending_replaces_fakes_only_if_each_epoch_has_an_original_to_blend(
    sources: tuple[str, ...], is_always_drawn: bool, reason: str
) -> None:
    images = [
        Image("a.png", "a", int(label == "fake"), "", modifier)
        for label, modifier in map(str.split, sources)
    ]
    with pytest.raises(DataError, match=reason) if reason else nullcontext():
        image_lists.refuse_one_class(images, makes_fakes=True)
        image_lists.refuse_epoch_without_fake(
            images, lambda _, epoch: epoch != 1 or is_always_drawn, epochs=3
        )


def test_training_record_is_read_as_written(tmp_path: Path) -> None:
    own = Words(subsets={"mine": ("A", "B-*")}, modifiers={"wa": ("WhatsApp",)})
    lessons = (a_lesson(), a_lesson("mine:wa&real:wa", own))
    image_lists.write_ancestry(tmp_path / "model", "base", lessons)
    found = image_lists.read_ancestry(tmp_path / "model")
    assert found == Ancestry(base="base", lessons=lessons)
    assert found.lessons[1].vocabulary.methods("mine").folders == ("A", "B-*")


def test_repeated_training_list_is_written_once(tmp_path: Path) -> None:
    image_lists.write_ancestry(tmp_path, None, [a_lesson(), a_lesson("sd:pre"), a_lesson()])
    assert image_lists.read_ancestry(tmp_path) == Ancestry(
        base=None, lessons=(a_lesson(), a_lesson("sd:pre"))
    )


@pytest.mark.parametrize("further", [False, True])
def test_lists_of_older_weights_are_kept_until_new_weights_exist(
    tmp_path: Path, further: bool
) -> None:
    old, new = a_lesson(), a_lesson("sd:pre")
    image_lists.write_ancestry(tmp_path, "base", [old])
    paths.checkpoint(tmp_path).parent.mkdir()
    paths.checkpoint(tmp_path).touch()
    written = image_lists.begin_training_set(tmp_path, "base", new, extends=further)
    assert image_lists.read_ancestry(tmp_path) == Ancestry(base="base", lessons=(old, new))
    written()
    kept = (old, new) if further else (new,)
    assert image_lists.read_ancestry(tmp_path) == Ancestry(base="base", lessons=kept)


def test_lists_of_deleted_weights_are_not_kept(tmp_path: Path) -> None:
    image_lists.write_ancestry(tmp_path, None, [a_lesson()])
    image_lists.begin_training_set(tmp_path, None, a_lesson("sd:pre"))
    assert image_lists.read_ancestry(tmp_path) == Ancestry(base=None, lessons=(a_lesson("sd:pre"),))


def test_record_with_undefined_words_is_invalid(tmp_path: Path) -> None:
    image_lists.write_ancestry(tmp_path, None, [a_lesson("mine:pre")])
    assert image_lists.read_ancestry(tmp_path) is None


@pytest.mark.parametrize("name", ["absent", "x" * 300, "a\0b"])
def test_missing_model_has_no_record(tmp_path: Path, name: str) -> None:
    assert image_lists.read_ancestry(tmp_path / name) is None


def test_folder_in_place_of_record_gives_no_record(tmp_path: Path) -> None:
    paths.ancestry(tmp_path).mkdir()
    assert image_lists.read_ancestry(tmp_path) is None


def test_bases_and_teachers_are_followed_to_their_end_without_cycles(tmp_path: Path) -> None:
    outside = str(tmp_path / "best.pt")
    elsewhere = str(paths.checkpoint(tmp_path / "other" / "x"))
    known: Mapping[str, Ancestry] = {
        "run/a": Ancestry(base=None, lessons=(a_lesson(),)),
        "run/b": Ancestry(base="a", lessons=(a_lesson("sd:pre"), a_lesson())),
        "run/c": Ancestry(base="gone", lessons=()),
        "run/d": Ancestry(base="e", lessons=(a_lesson(),)),
        "run/e": Ancestry(base="d", lessons=(a_lesson(),)),
        "run/s": Ancestry(base=None, lessons=(replace(a_lesson(), teacher="b"),)),
        "run/t": Ancestry(base="s", lessons=(replace(a_lesson(), teacher=outside),)),
        "run/u": Ancestry(base=None, lessons=(replace(a_lesson(), teacher=elsewhere),)),
        "other/x": Ancestry(base="y", lessons=()),
        "other/y": Ancestry(base=None, lessons=()),
    }
    for name, ancestry in known.items():
        image_lists.write_ancestry(tmp_path / name, ancestry.base, ancestry.lessons)
        write_json(paths.provenance(tmp_path / name), {})

    def names(model: str) -> list[str]:
        found = image_lists.iter_ancestors(model, lambda name: tmp_path / "run" / name)
        return [Path(each.name).name if each.folder is None else each.name for each, _ in found]

    assert [*map(names, "abcde")] == [["a"], ["b", "a"], ["c", "gone"], ["d", "e"], ["e", "d"]]
    assert [*map(names, "stu")] == [
        ["s", "b", "a"],
        ["t", "s", "best.pt", "b", "a"],
        ["u", elsewhere, "y"],
    ]


@pytest.mark.parametrize(
    ("provenance", "teacher", "unknown"),
    [
        ({"settings": {"objective": "add", "teacher": "t"}}, ["m", "t"], True),
        ({"settings": {"objective": "bce", "teacher": "t"}}, ["m"], False),
        ({"preprocessing": {}}, ["m"], True),
    ],
    ids=["a record of an earlier version", "an objective without a teacher", "published"],
)
def test_origin_is_unknown_if_that_of_a_teacher_is(
    tmp_path: Path, provenance: dict[str, Any], teacher: list[str], unknown: bool
) -> None:
    image_lists.write_ancestry(tmp_path / "m", None, [a_lesson()])
    write_json(paths.provenance(tmp_path / "m"), provenance)
    found = [*image_lists.iter_ancestors("m", lambda name: tmp_path / name)]
    assert [each.name for each, _ in found] == teacher
    assert any(image_lists.has_unknown_origin(*each) for each in found) is unknown


def an_epoch(number: int) -> Epoch:
    return Epoch(
        epoch=number,
        lr=0.001,
        loss=1 / number,
        accuracy=0.5,
        val_loss=0.7,
        val_accuracy=0.5,
        val_balanced_accuracy=None,
        seconds=1.5,
        images_per_s=100.0,
    )


def test_model_epochs_are_read_as_written(tmp_path: Path) -> None:
    long = "&".join(["gan2:pre"] * 40)  # too long for a folder's name
    for model in ("gan2:pre", long):
        folder = tmp_path / model_folder_name(model)
        write_history(paths.history(folder), [an_epoch(1), an_epoch(2)])
    rows = list(epochs(tmp_path, ["gan2:pre", "gan3:pre", long]))
    assert [(row["model"], row["epoch"]) for row in rows] == [
        ("gan2:pre", 1), ("gan2:pre", 2), (long, 1), (long, 2),
    ]  # fmt: skip
    assert rows[1]["loss"] == 0.5
    assert rows[1]["val_balanced_accuracy"] is None


@pytest.mark.parametrize(
    "content", [b"", b"epoch,lr\n1", b"epoch,lr\nx,1\n", b"\xff\xfe", b"a,b,c\n1,2,3\n"]
)
def test_damaged_history_gives_readable_epochs(tmp_path: Path, content: bytes) -> None:
    path = paths.history(tmp_path / "m:pre")
    path.parent.mkdir()
    path.write_bytes(content)
    assert [row["epoch"] for row in epochs(tmp_path, ["m:pre"])] in ([], [1])


LICENCE = "cc-by-nc-4.0"


@pytest.fixture(scope="module")
def model() -> Detector:
    """A network with the declaration that a library would give."""
    made = tiny()
    made.spec = replace(made.spec, library="library 1.0", licence=LICENCE)
    return made


@pytest.mark.parametrize("licence", [LICENCE, None])
def test_derived_model_inherits_licence(
    model: Detector, licence: str | None, tmp_path: Path
) -> None:
    write_json(paths.provenance(tmp_path), {"weights_licence": licence})
    facts = network_provenance(
        model, TrainingStart(model="gan1:pre", folder=tmp_path, weights="none")
    )
    assert facts.get("weights_licence") == licence
