"""Rejections of tests on training images of a model, and of models whose weights are not saved."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.api import Draft, Words
from tests.trueface.jobs.build import write_lists as write
from trueface.data.index import Image
from trueface.data.splits.split_files import keys_digest
from trueface.data.vocabulary import BUILT_IN
from trueface.jobs import lineage
from trueface.jobs.kinds import TEST, TRAIN, UNLEARN
from trueface.jobs.published.kind import CHECKPOINT
from trueface.poisoning.poison_record import PoisonRecord, fingerprint, write_record
from trueface.runtime import paths
from trueface.training import image_lists
from trueface.training.image_lists import TrainingSetRecord

TRAINED = ["StyleGAN2/a/1", "StyleGAN2/a/2", "StyleGAN3/a/1", "FFHQ/1", "MyGAN/1"]
TESTED = ["StyleGAN2/a/2", "StyleGAN2/a/3", "StyleGAN3/a/1", "FFHQ/2", "FFHQ/1", "MyGAN/1"]


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    write(tmp_path / "one", train=TRAINED, test=["FFHQ/9"])
    write(tmp_path / "two", train=["FFHQ/8"], test=TESTED)
    return tmp_path


def a_draft(lab: Path, kind: str, split: str, data: str, **facts: Any) -> Draft:
    if kind == CHECKPOINT.name:
        return Draft(kind=kind, run="r", run_folder=lab / "runs/r", folder=lab, **facts)
    places = {"split_path": split, "data_root": facts.pop("data_root", "data")}
    fields = {TRAIN.name: TRAIN, UNLEARN.name: UNLEARN, TEST.name: TEST}[kind].settings.model_fields
    defaults = {name: field.get_default() for name, field in fields.items()}
    settings = {**defaults, "save_weights": True, **places, **facts.pop("settings", {})}
    return Draft(
        kind=kind, run="r", run_folder=lab / "runs/r", folder=lab, data=data, settings=settings,
        **facts,
    )  # fmt: skip


def shared_image_refusals(lab: Path, trained: str, tested: str, **facts: Any) -> tuple[str, ...]:
    maker = a_draft(lab, "train", "one", trained, model="m", **facts)
    return leak_refusals(lab, "m", maker, data=tested)


def test_test_images_seen_in_training_are_counted_and_named(lab: Path) -> None:
    assert shared_image_refusals(lab, "gan2:pre&real:pre", "gan2:pre") == (
        "1 of the 2 test images of gan2:pre are among the training images of m "
        "(two/test.json, one/train.json): StyleGAN2/a/2",
    )


def test_first_five_shared_images_are_listed_in_order(lab: Path) -> None:
    keys = [f"StyleGAN2/a/{number}" for number in range(9)]
    write(lab / "one", train=keys[::-1])
    write(lab / "two", test=[*keys, "FFHQ/1"])
    (message,) = shared_image_refusals(lab, "gan2:pre", "gan2:pre&real:pre")
    assert message.endswith(f": {', '.join(keys[:5])} and 4 more")


@pytest.mark.parametrize(
    ("trained", "tested", "counts"),
    [
        ("gan2:pre", "gan2:fb", "1 of the 2"),  # a shared copy shows the same picture
        ("all:pre", "all:all", "3 of the 5"),  # one is of no method of the laboratory
        ("gan2:pre", "gan3:pre", None),
        ("gan3:pre", "gan:pre", "1 of the 3"),
        ("real:pre", "gan:pre", None),
    ],
)
def test_only_methods_of_both_datasets_count(
    lab: Path, trained: str, tested: str, counts: str | None
) -> None:
    found = shared_image_refusals(lab, trained, tested)
    assert [text.startswith(counts or "-") for text in found] == ([True] if counts else [])


def test_added_real_images_count_and_one_split_serves_both_jobs(lab: Path) -> None:
    assert shared_image_refusals(lab, "gan2:pre", "real:pre") == ()
    assert len(shared_image_refusals(lab, "gan2:pre", "real:pre", images="gan2:pre&real:pre")) == 1
    maker = a_draft(lab, "train", "two", "all:pre", model="m")
    assert leak_refusals(lab, "m", maker, data="all:pre") == ()


def test_each_producing_job_is_checked_and_reported_once(lab: Path) -> None:
    makers = [
        a_draft(lab, "train", "two", "all:pre", model="a"),
        a_draft(lab, "train", "one", "gan2:pre", model="a#b"),
        a_draft(lab, "unlearn", "one", "gan2:pre", model="a#b~m"),
    ]
    found = leak_refusals(lab, "a#b~m", *makers)
    assert [text.partition("images of a#b ")[1] for text in found] == ["images of a#b "]


def test_user_subset_counts_with_its_meaning_in_earlier_run(lab: Path) -> None:
    own = TEST.with_words(Words(subsets={"mine": ("My*",)}))
    maker = a_draft(lab, "train", "one", "mine:pre", model="m")
    (text,) = own.refusals(a_draft(lab, "test", "two", "mine:pre", model="m"), [maker])
    assert text.startswith("1 of the 1")
    a_model(lab, "m", "mine:pre", words=Words(subsets={"mine": ("Style*",)}))
    other = TEST.with_words(Words(subsets={"mine": ("Nothing",)}))
    for kind in (TEST, other):
        assert len(kind.refusals(a_draft(lab, "test", "two", "gan2:pre", model="m"), ())) == 1


@pytest.mark.parametrize(
    ("tested", "count"),
    [("fakeFlat:none", 1), ("all:none", 1), ("realFlat:none", 0), ("gan:pre", 0)],
)
def test_images_without_method_folder_are_reported_by_class(
    lab: Path, tested: str, count: int
) -> None:
    write(lab / "one", train=["00001", "00002"])
    write(lab / "two", test=["00002", "00003"])
    assert len(shared_image_refusals(lab, "fakeFlat:none", tested)) == count


@pytest.mark.parametrize(
    ("trained", "known"),
    [
        ("gan2:pre", {"jpeg", "blur", "resize"}),
        ("gan2:all", {"jpeg", "blur", "resize"}),
        ("gan2:fb", {"resize"}),
    ],
)
def test_augmentations_of_originals_count_if_there_are_originals(
    lab: Path, trained: str, known: set[str]
) -> None:
    given = {"jpeg_prob": 0.5, "blur_prob": 0.5, "resize_prob": 0.5}
    maker = a_draft(lab, "train", "one", trained, model="m", settings=given)
    test = a_draft(lab, "test", "two", "gan2:pre", model="m")
    origin = lineage.origin_of_makers(test, [maker], BUILT_IN)
    assert origin is not None
    assert origin.processing == known


DISTILLED: dict[str, Any] = {"objective": "add", "teacher": "t"}


def a_student(lab: Path, *, teachers: tuple[Draft, ...] = (), **settings: Any) -> Draft:
    """Return a training on images without a leak, from a teacher that the plan makes, or from an earlier one."""
    facts: dict[str, Any] = {"plan_makers": {"t": teachers}} if teachers else {}
    given = {**DISTILLED, **settings}
    return a_draft(lab, "train", "two", "gan1:pre", model="s", settings=given, **facts)


def test_images_of_a_teacher_count_in_this_plan_and_in_earlier_runs(lab: Path) -> None:
    expected = (
        "1 of the 2 test images of gan2:pre are among the training images of t, the teacher of s "
        "(two/test.json, one/train.json): StyleGAN2/a/2",
    )
    planned = (a_draft(lab, "train", "one", "gan2:pre", model="t"),)
    student = a_student(lab, teachers=planned)
    assert leak_refusals(lab, "s", student) == expected
    tuned = a_draft(lab, "train", "two", "gan1:pre", model="s#u", base="s")
    assert leak_refusals(lab, "s#u", student, tuned) == expected
    file = str(paths.checkpoint(lab / "runs/r/t").relative_to(lab))
    assert leak_refusals(lab, "s", a_student(lab, teachers=planned, teacher=file)) == expected
    assert leak_refusals(lab, "s", a_student(lab)) == ()
    a_model(lab, "t", "gan2:pre")
    assert leak_refusals(lab, "s", a_student(lab)) == expected
    assert leak_refusals(lab, "s", a_student(lab, objective="bce")) == ()
    a_model(lab, "x", "gan1:pre", split="two", teacher="t")
    assert leak_refusals(lab, "x") == (expected[0].replace("of s", "of x"),)
    a_model(lab, "x~m", "gan1:pre", base="x", split="two")
    assert len(leak_refusals(lab, "x~m")) == 1


@pytest.mark.parametrize(
    ("teacher", "percent"),
    [
        ("t:pre%30", 30.0),
        ("runs/r/flipped/checkpoints/best.pt", 30.0),
        ("runs/r/tuned/checkpoints/best.pt", 30.0),
        ("runs/r/clean/checkpoints/best.pt", 0.0),
        ("theirs.pt", None),
    ],
)
def test_flips_of_a_teacher_come_from_its_id_or_from_the_records_of_its_run(
    lab: Path, teacher: str, percent: float | None
) -> None:
    for model, base in (("flipped", None), ("tuned", "flipped"), ("clean", None)):
        a_model(lab, model, "gan2:pre", base=base)
        paths.provenance(lab / "runs/r" / model).write_text("{}")
    image = Image(file="a.png", key="StyleGAN2/a/1", label=1, method="StyleGAN2", modifier="pre")
    record = PoisonRecord(
        rate=0.3,
        kind="flip",
        seed=0,
        per="subset",
        total=1,
        split_sha256=fingerprint([image]),
        indices=(0,),
        keys=(image.name,),
    )
    write_record(paths.poison_record(lab / "runs/r/flipped"), record)
    student = a_student(lab, teacher=teacher)
    path = str(lab / teacher) if teacher.endswith(".pt") else teacher
    assert image_lists.read_teacher_poison(path, student.model_folder) == percent
    warned = [text for text in TRAIN.warnings(student) if "flipped labels" in text]
    assert [f"its teacher {teacher} (30 %)" in text for text in warned] == [True] * bool(percent)
    folder = student.model_folder("s")
    stored = {"settings": {"teacher": teacher}, "teacher_poison": percent}
    folder.mkdir(parents=True)
    paths.provenance(folder).write_text(json.dumps(stored))
    assert TRAIN.recorded_labels(folder, student.settings, "teacher") == percent
    assert TRAIN.recorded_labels(folder, {"teacher": "another"}, "teacher") is None


@pytest.mark.parametrize("is_planned", [True, False], ids=["same file", "earlier run"])
def test_base_of_a_teacher_is_called_its_base(lab: Path, is_planned: bool) -> None:
    base = a_draft(lab, "train", "one", "gan2:pre", model="b")
    tuned = a_draft(lab, "train", "two", "gan1:pre", model="t", base="b")
    if not is_planned:
        a_model(lab, "b", "gan2:pre")
        a_model(lab, "t", "gan1:pre", split="two", base="b")
    student = a_student(lab, teachers=(base, tuned) if is_planned else ())
    (text,) = leak_refusals(lab, "s", student)
    assert "the training images of b, a base of t, the teacher of s (two/test.json" in text


@pytest.mark.parametrize(
    ("settings", "published"),
    [
        ({}, False),
        ({"teacher": "published:theirs"}, True),
        ({"teacher": "theirs.pt"}, True),
        ({"teacher": "unrecorded"}, True),
        ({"teacher": "theirs.pt", "objective": "bce"}, False),
    ],
    ids=str,
)
def test_origin_of_a_teacher_is_part_of_that_of_its_student(
    lab: Path, settings: dict[str, Any], published: bool
) -> None:
    write(lab / "two", train=["StyleGAN/a/1"], test=TESTED)
    a_model(lab, "t", "gan2:pre")
    a_model(lab, "unrecorded", "gan2:pre")
    paths.ancestry(lab / "runs/r/unrecorded").unlink()
    maker = a_draft(lab, "checkpoint", "", "", model="published:theirs")
    student = a_student(lab, **settings)
    makers = {"published:theirs": (maker,)}
    test = a_draft(lab, "test", "two", "gan2:pre", model="s")
    student = replace(student, plan_makers=makers)
    warned = [text for text in TRAIN.warnings(student) if "are not known" in text]
    name = student.settings["teacher"]
    assert [f"images of {name}, the teacher of s are" in text for text in warned] == [
        True
    ] * published
    planned = lineage.origin_of_makers(test, [student], BUILT_IN)
    if "objective" not in settings:
        a_model(lab, "s", "gan1:pre", split="two", teacher=str(student.settings["teacher"]))
        a_model(lab, "published:theirs", "gan2:pre")
        paths.provenance(lab / "runs/r/published:theirs").write_text('{"preprocessing": {}}')
        recorded = lineage.origin_of_model("s", test.model_folder, BUILT_IN)
        assert recorded == planned
    assert planned is not None
    assert planned.is_published is published
    if not published:
        from_teacher = {("gan2", "pre")} if not settings else set[tuple[str, str]]()
        assert planned.parts == {("gan1", "pre"), *from_teacher}


def test_test_images_used_for_epoch_selection_are_counted_and_named(lab: Path) -> None:
    write(lab / "one", train=["StyleGAN2/a/9"], val=["StyleGAN2/a/2", "StyleGAN2/a/8"])
    # a shared copy shows the same picture
    (text,) = shared_image_refusals(lab, "gan2:pre", "gan2:fb")
    assert text == (
        "1 of the 2 test images of gan2:fb are among the validation images that selected m "
        "(two/test.json, one/val.json): StyleGAN2/a/2. Use a test list without training and "
        "validation images: trueface splits"
    )


@pytest.mark.parametrize(
    ("kind", "settings", "decides"),
    [
        ("train", {}, False),
        ("unlearn", {}, True),
        ("train", {"solver": "ridge", "penalty": 0.0}, True),
        ("train", {"solver": "ridge", "penalty": 0.1}, False),
        ("train", {"early_stop": 2}, True),
        ("train", {"lr_decay_epochs": 3}, True),
        ("train", {"lr_decay_epochs": 3, "schedule": "step"}, False),
        ("train", {"lr_decay_epochs": 3, "schedule": "onecycle"}, False),
        ("train", {"early_stop": 0, "lr_decay_epochs": -1, "schedule": "plateau"}, False),
    ],
)
def test_validation_images_count_if_they_influenced_training(
    lab: Path, kind: str, settings: dict[str, Any], decides: bool
) -> None:
    write(lab / "one", train=["StyleGAN2/a/9"], val=["StyleGAN2/a/2"])
    settings = {"select": "last", **settings}
    maker = a_draft(lab, kind, "one", "gan2:pre", model="m", settings=settings)
    texts = leak_refusals(lab, "m", maker)
    assert ["validation images" in text for text in texts] == [True] * decides


def test_validation_of_earlier_run_counts_if_its_record_lists_it(lab: Path) -> None:
    write(lab / "one", train=["StyleGAN2/a/9"], val=["StyleGAN2/a/2"])
    a_model(lab, "m", "gan2:pre")
    assert leak_refusals(lab, "m") == ()  # written by a version that named the training list alone
    a_model(lab, "n", "gan2:pre", val=True)
    assert "validation images that selected n" in leak_refusals(lab, "n")[0]


def test_same_key_in_another_data_folder_is_another_image(lab: Path) -> None:
    assert shared_image_refusals(lab, "gan2:pre", "gan2:pre", data_root="elsewhere") == ()
    (lab / "data").mkdir()
    (lab / "link").symlink_to("data")
    assert len(shared_image_refusals(lab, "gan2:pre", "gan2:pre", data_root="link")) == 1


def test_training_in_another_folder_hides_no_leak_in_this_one(lab: Path) -> None:
    makers = [
        a_draft(lab, "train", "one", "gan2:pre", model=name, data_root=root)
        for name, root in (("a", "elsewhere"), ("a#b", "data"))
    ]
    found = leak_refusals(lab, "a#b", *makers)
    assert ["of a#b (" in text for text in found] == [True]


@pytest.mark.parametrize("content", [None, "", "{", "[1]"])
def test_unreadable_lists_cause_no_report(lab: Path, content: str | None) -> None:
    path = lab / "one/train.json"
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    assert shared_image_refusals(lab, "all:pre", "all:pre") == ()


def test_changed_list_is_read_again(lab: Path) -> None:
    assert shared_image_refusals(lab, "gan2:pre", "gan2:pre")
    write(lab / "one", train=[key for key in TRAINED if key != "StyleGAN2/a/2"])
    assert shared_image_refusals(lab, "gan2:pre", "gan2:pre") == ()


def test_lists_are_read_once_for_thousands_of_tests(lab: Path) -> None:
    assert shared_image_refusals(lab, "gan2:pre", "gan2:pre")
    path = lab / "one/train.json"
    before = path.stat()
    path.write_text(" " * before.st_size)  # no list: reading it again would find no overlap
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert shared_image_refusals(lab, "gan2:pre", "gan2:pre")


def test_shared_images_do_not_reject_trainings_and_unlearnings(lab: Path) -> None:
    maker = a_draft(lab, "train", "one", "all:pre", model="m")
    given = {"method": "relabel", "force": True}
    draft = a_draft(lab, "unlearn", "one", "all:pre", model="m", settings=given)
    assert UNLEARN.refusals(draft, [maker]) == ()
    fresh = a_draft(lab, "train", "one", "all:pre", model="m")
    assert TRAIN.refusals(fresh, ()) == ()


def a_model(
    lab: Path,
    model: str,
    data: str,
    *,
    base: str | None = None,
    split: str = "one",
    words: Words | None = None,
    root: str = "data",
    val: bool = False,
    teacher: str = "",
) -> None:
    """Write a model of an earlier run with the record of its training images."""
    folder = lab / "runs/r" / model
    paths.checkpoint(folder).parent.mkdir(parents=True)
    paths.checkpoint(folder).touch()
    lesson = TrainingSetRecord(
        images=data,
        words=words or Words(),
        data_root=str(lab / root),
        split_path=str(lab / split),
        train_sha256=keys_digest(json.loads((lab / split / "train.json").read_text())),
        val_sha256=keys_digest(json.loads((lab / split / "val.json").read_text())) if val else None,
        teacher=teacher,
    )
    image_lists.write_ancestry(folder, base, [lesson])


def leak_refusals(lab: Path, model: str, *makers: Draft, data: str = "gan2:pre") -> tuple[str, ...]:
    return TEST.refusals(a_draft(lab, "test", "two", data, model=model), makers)


def test_model_of_earlier_run_is_checked(lab: Path) -> None:
    a_model(lab, "m", "gan2:pre")
    assert leak_refusals(lab, "m") == (
        "1 of the 2 test images of gan2:pre are among the training images of m "
        "(two/test.json, one/train.json): StyleGAN2/a/2",
    )
    assert leak_refusals(lab, "m", data="gan1:pre") == ()


def test_base_models_of_earlier_model_are_checked(lab: Path) -> None:
    a_model(lab, "a", "gan2:pre")
    a_model(lab, "a#b", "gan3:fb", base="a")
    a_model(lab, "a#b~m", "gan3:fb", base="a#b")
    (shared_image_refusals,) = leak_refusals(lab, "a#b~m")
    assert "of a (" in shared_image_refusals


def test_chain_of_models_may_begin_outside_the_plan(lab: Path) -> None:
    a_model(lab, "a", "gan2:pre")
    a_model(lab, "a#b", "gan2:pre", base="a")  # is trained again by this plan, on other images
    again = a_draft(lab, "train", "one", "gan3:pre", model="a#b", base="a")
    more = a_draft(lab, "train", "one", "gan3:pre", model="a#b#c", base="a#b")
    (shared_image_refusals,) = leak_refusals(lab, "a#b#c", again, more)
    assert "of a (" in shared_image_refusals


def test_warm_started_training_includes_images_of_earlier_weights(lab: Path) -> None:
    a_model(lab, "m", "gan2:pre")
    facts = {"model": "m", "settings": {"warm_start": True}}
    warm = a_draft(lab, "train", "two", "gan3:pre", **facts)
    assert [text.startswith("1 of the 2") for text in leak_refusals(lab, "m", warm)] == [True]
    assert leak_refusals(lab, "m", a_draft(lab, "train", "two", "gan3:pre", model="m")) == ()
    paths.checkpoint(lab / "runs/r/m").unlink()
    again = a_draft(lab, "train", "two", "gan3:pre", **facts)
    assert leak_refusals(lab, "m", again) == ()


@pytest.mark.parametrize(
    ("root", "train", "count"),
    [
        ("data", [*TRAINED, "StyleGAN2/a/4"], 0),
        ("data", TRAINED[::-1], 1),
        ("elsewhere", TRAINED, 0),
    ],
    ids=["a list that has changed", "another order", "another data folder"],
)
def test_earlier_training_counts_if_list_and_folder_are_equal(
    lab: Path, root: str, train: list[str], count: int
) -> None:
    a_model(lab, "m", "gan2:pre", root=root)
    write(lab / "one", train=train)
    assert len(leak_refusals(lab, "m")) == count


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "[]",
        "{}",
        '{"schema": 2}',
        '{"schema": 1, "base": null, "lessons": [{"images": "gan2:pre"}]}',
        json.dumps({
            "schema": 1, "base": "../m", "lessons": [{
                "images": "gan2::", "words": {}, "data_root": "/", "split_path": "/",
                "train_sha256": "",
            }],
        }),
    ],
)  # fmt: skip
def test_unreadable_record_causes_no_report(lab: Path, broken: str) -> None:
    a_model(lab, "m", "gan2:pre")
    paths.ancestry(lab / "runs/r/m").write_text(broken)
    assert leak_refusals(lab, "m") == ()


def test_cyclic_bases_are_read_once(lab: Path) -> None:
    a_model(lab, "a", "gan2:pre", base="b")
    a_model(lab, "b", "gan2:pre", base="a")
    assert len(leak_refusals(lab, "a")) == 1


def test_records_are_read_once_for_thousands_of_tests(lab: Path) -> None:
    a_model(lab, "m", "gan2:pre")
    first = a_draft(lab, "test", "two", "gan2:pre", model="m")
    assert len(TEST.refusals(first, ())) == 1
    paths.ancestry(lab / "runs/r/m").unlink()
    again = a_draft(lab, "test", "two", "gan2:pre", model="m", lookups=first.lookups)
    assert len(TEST.refusals(again, ())) == 1


@pytest.mark.parametrize("kind", [TEST, TRAIN, UNLEARN], ids=lambda kind: kind.name)
def test_model_produced_without_weights_is_rejected(lab: Path, kind: Any) -> None:
    settings = {"save_weights": False, "optimizer_state": "fresh"}
    unkept = a_draft(lab, "train", "two", "gan3:pre", model="a", settings=settings)
    kept = a_draft(lab, "train", "two", "gan3:pre", model="a#b", base="a")
    chosen = {"optimizer_state": "fresh", "method": "scrub", "precision": "fp32"}
    facts = {"model": "a#b", "base": "a", "settings": chosen}
    draft = a_draft(lab, kind.name, "two", "real:pre", **facts)
    assert kind.refusals(draft, [unkept]) == (
        "the training of a does not save the weights that this job needs. "
        "Set save_weights: true in the training.",
    )
    assert kind.refusals(draft, [unkept, kept]) == ()  # the second one was refused itself


def test_unlearning_always_saves_its_weights(lab: Path) -> None:
    facts = {"model": "a~m", "settings": {"save_weights": False}}
    maker = a_draft(lab, "unlearn", "two", "gan3:pre", **facts)
    assert leak_refusals(lab, "a~m", maker, data="gan1:pre") == ()
