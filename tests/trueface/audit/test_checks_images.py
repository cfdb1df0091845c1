import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.api import Json, Words, write_json
from tests.trueface.audit.build import (
    DATA,
    POISONED,
    TESTS,
    Lab,
    finding_codes,
    first_finding,
    gap_reasons,
    replace_logits,
    update_json,
    update_poison_record,
    write_attributes,
)
from trueface.audit import checks_images
from trueface.audit.check import Check, judge
from trueface.audit.finding import Finding, Gap, NotApplicable, Outcome
from trueface.audit.image_reading import Surveyor
from trueface.audit.reading import Reader
from trueface.audit.run_facts import GroupFacts, GroupTest, Model, cramers_v
from trueface.data.attribute_table import AttributeCounts
from trueface.data.splits.split_files import keys_digest, write_splits
from trueface.data.video_headers import VideoHeader, VideoSurvey
from trueface.data.video_traits import VideoTraits, write_traits
from trueface.poisoning.poison_record import read_record
from trueface.runtime import paths
from trueface.training.image_lists import TrainingSetRecord, write_ancestry

H264 = VideoTraits(
    codec="h264", profile="", pixel_format="", size="", frame_rate=25, container="", encoder="", sound="",
    bits_per_pixel=None, frames=9, key_frames=0, key_distance=None,
)  # fmt: skip


def videos(count: int) -> tuple[VideoHeader, ...]:
    """Return headers of so many videos of each class, of two codecs."""
    traits = (H264, H264._replace(codec="vp9", frame_rate=30))
    return tuple(VideoHeader(label, traits[label], "") for label in (0, 1) for _ in range(count))


def test_validation_images_in_another_list_are_found(lab: Lab) -> None:
    lab.replace_lists(val=[*lab.lists["val"], lab.lists["train"][0], lab.lists["test"][0]])
    found = [one for one in lab.audit().findings if one.code == "validation-overlap"]
    assert [one.evidence["validation list"] for one in found] == [12] * 4  # two of each model
    assert found[0].evidence["of them in the training list"] == 1
    assert found[1].evidence["of them in the test list"] == 1


def test_comparisons_skipped_for_lack_of_time_are_counted(lab: Lab) -> None:
    audit = judge(Reader(seconds=0.0).run(str(lab.run)))
    assert "20 of 20 test files were not compared" in gap_reasons(audit, "same-content")


def test_image_trained_as_real_and_as_fake_is_found(lab: Lab) -> None:
    assert "label-contradiction" not in finding_codes(lab.audit())
    real, fake = (key for key in lab.lists["train"][:2][::-1])
    image = lab.data / "PreSocial/Real" / f"{real}.png"
    shutil.copy(image, lab.data / "PreSocial/Fake" / f"{fake}.png")
    found = first_finding(lab.audit(), "label-contradiction")
    assert found.severity == "fault"
    assert found.evidence["pictures in both classes"] == 1
    assert (
        found.evidence["such as"] == f"{image} (real) = {lab.data}/PreSocial/Fake/{fake}.png (fake)"
    )
    audit = judge(Reader(seconds=0.0).run(str(lab.run)))
    assert "not all training files were compared" in gap_reasons(audit, "label-contradiction")


@pytest.mark.parametrize(
    ("survey", "outcome"),
    [
        (VideoSurvey(), NotApplicable),
        (VideoSurvey(videos(19)), Gap),
        (VideoSurvey(unknown=(20, 20)), Gap),
        (VideoSurvey(videos(20)), Finding),
    ],
)
def test_compression_of_the_training_videos_is_a_fault_if_it_reveals_the_class(
    lab: Lab, survey: VideoSurvey, outcome: type[Outcome]
) -> None:
    model = Reader().run(str(lab.run)).models[0]
    assert model.survey is not None
    model = model._replace(survey=model.survey._replace(videos=survey))
    (found,) = checks_images.find_video_differences.function(model)
    assert isinstance(found, outcome)
    if isinstance(found, Finding):
        assert found.severity == "fault"
        assert (found.evidence["real"], found.evidence["fake"]) == ("20 × h264", "20 × vp9")
        assert found.evidence["of the same cause"] == "the frame rate"


def test_videos_of_the_training_images_are_those_of_their_data_root(lab: Lab) -> None:
    folders = {
        next((lab.data / "PreSocial").glob(f"*/{key}.png")).parent for key in lab.lists["train"]
    }
    below = [folder.relative_to(lab.data).as_posix() for folder in folders]
    write_traits(lab.data, dict.fromkeys(below, H264))
    survey = Reader().run(str(lab.run)).models[0].survey
    assert survey is not None
    assert len(survey.videos.headers) == len(below) > 0


def test_same_key_in_another_data_folder_is_another_image(lab: Lab) -> None:
    lab.replace_lists(train=[*lab.lists["train"], *lab.lists["test"][:3]])
    for data in ("gan2:pre", "realFFHQ:pre"):
        settings: Json = {"decode": "exact", "data_root": "/elsewhere"}
        update_json(paths.metrics(lab.run / DATA, data), settings=settings)
    lab.replace_lists(test=["FFHQ/99999"])
    found = [one.model for one in lab.audit().findings if one.code == "train-test-overlap"]
    assert DATA not in found


def test_teacher_counts_with_its_images_and_flipped_labels(lab: Lab) -> None:
    write_splits(lab.root / "swapped", {**lab.lists, "train": lab.lists["test"]})
    places: dict[str, Any] = {"data_root": str(lab.data), "words": Words(), "images": DATA}
    taught = TrainingSetRecord(
        split_path=str(lab.root / "swapped"), train_sha256=keys_digest(lab.lists["test"]), **places
    )
    write_ancestry(lab.run / POISONED, None, [taught])
    digest = keys_digest(lab.lists["train"])
    own = TrainingSetRecord(split_path=str(lab.split), train_sha256=digest, **places)
    write_ancestry(lab.run / DATA, None, [replace(own, teacher=POISONED)])
    overlap, flips = (
        [one for one in lab.audit().findings if one.code == code and one.model == DATA]
        for code in ("train-test-overlap", "poisoned-teacher")
    )
    assert [one.evidence[f"of them in the training of {POISONED}"] for one in overlap] == [20]
    assert [one.evidence["share of its labels that were flipped"] for one in flips] == [0.2]
    assert f"training images of {POISONED}, the teacher of {DATA}" in overlap[0].sentence
    write_ancestry(lab.run / POISONED, None, [replace(own, images="gan2:pre")])
    write_ancestry(lab.run / "tuned", POISONED, [own])
    write_ancestry(lab.run / DATA, None, [replace(own, teacher="tuned")])
    described = f"{POISONED}, a base of tuned, the teacher of {DATA}"
    assert described in str([one.sentence for one in lab.audit().findings])
    write_ancestry(lab.run / POISONED, None, [taught])
    write_ancestry(lab.run / DATA, None, [replace(own, teacher=POISONED)])
    write_splits(lab.root / "swapped", {**lab.lists, "train": lab.lists["val"]})
    assert "the training list changed" in gap_reasons(lab.audit(), "train-test-overlap")
    write_ancestry(lab.run / DATA, None, [replace(own, teacher="theirs.pt")])
    assert "theirs.pt" in gap_reasons(lab.audit(), "train-test-overlap")


SKEWED = {"male": (90, 10), "nonmale": (10, 90)}
EVEN = {"male": (50, 50), "nonmale": (50, 50)}
Asked = Callable[[Check, GroupFacts], list[Outcome]]


def make_group_facts(
    train: Mapping[str, tuple[int, int]] = EVEN,
    test: Mapping[str, tuple[int, int]] = EVEN,
    *,
    gap: float | None = 5.0,
    floor: float | None = 9.0,
) -> GroupFacts:
    tested = GroupTest(
        data="forged:pre",
        by="gender",
        subgroup_counts=AttributeCounts(counts=test),
        gap=gap,
        floor=floor,
    )
    return GroupFacts(
        files=("faces.csv",),
        train={"gender": AttributeCounts(counts=train)} if train else {},
        tests=(tested,) if test else (),
        train_trouble="",
        test_trouble="",
    )


@pytest.fixture(scope="module")
def run_group_check(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """Return the outcomes of a check for a model with the given groups."""
    lab = Lab(tmp_path_factory.mktemp("lab"))
    model: Model = Reader().run(str(lab.run)).models[0]
    return lambda check, facts: list(check.function(model._replace(groups=facts)))


def test_dependence_is_1_if_group_equals_class_and_0_by_chance() -> None:
    assert cramers_v(AttributeCounts(counts={"a": (500, 0), "b": (0, 500)})) == pytest.approx(
        1, abs=1e-3
    )
    assert cramers_v(AttributeCounts(counts=SKEWED)) == pytest.approx(0.8, abs=0.01)
    assert cramers_v(AttributeCounts(counts=EVEN)) == 0
    # eight groups of 50 that differ as chance has it: .13 without the correction
    uneven = {str(group): (25 + shift, 25 - shift) for group, shift in enumerate((3, -3) * 4)}
    assert cramers_v(AttributeCounts(counts=uneven)) < 0.05


def test_dependence_needs_two_groups_and_two_classes() -> None:
    assert cramers_v(AttributeCounts(counts={"a": (5, 5)})) == 0
    assert cramers_v(AttributeCounts(counts={"a": (5, 0), "b": (7, 0)})) == 0
    assert cramers_v(AttributeCounts(counts={})) == 0
    assert cramers_v(AttributeCounts(counts={**EVEN, "unknown": (0, 500)})) == 0


@pytest.mark.parametrize(
    ("check", "facts", "told", "sound"),
    [
        (
            checks_images.dependent_labels,
            make_group_facts(train=SKEWED),
            {"male": "90 real, 10 fake"},
            make_group_facts(),
        ),
        (
            checks_images.few_of_a_group,
            make_group_facts(test={"male": (150, 150), "nonmale": (29, 150)}),
            {"gender, forged:pre": "nonmale 29 real and 150 fake"},
            # a test without reals has no group of them
            make_group_facts(test={"male": (0, 150), "nonmale": (0, 150)}),
        ),
        (
            checks_images.untrained_group,
            make_group_facts(train={"male": (50, 50)}),
            {"gender, forged:pre": "nonmale 50 real and 50 fake"},
            make_group_facts(),
        ),
        (
            checks_images.gap_above_floor,
            make_group_facts(gap=63.0, floor=12.1),
            {"gender, forged:pre": "63.0 points; 95 % of shuffles are below 12.1"},
            make_group_facts(gap=18.0, floor=9.0),
        ),
    ],
    ids=["a planted skew", "a group of few test images", "a group that training lacks", "a gap"],
)
def test_faults_of_groups_are_found_with_their_numbers(
    run_group_check: Asked, check: Check, facts: GroupFacts, told: dict[str, str], sound: GroupFacts
) -> None:
    (found,) = run_group_check(check, facts)
    assert isinstance(found, Finding)
    assert found.evidence.items() >= told.items()
    if check is checks_images.dependent_labels:
        assert found.severity == "warning"
        assert "gender (Cramér's V 0.8" in found.sentence
    assert not run_group_check(check, sound)


def test_unmeasured_gap_is_reported(run_group_check: Asked) -> None:
    (gap,) = run_group_check(checks_images.gap_above_floor, make_group_facts(gap=None, floor=None))
    assert isinstance(gap, Gap)


def test_groups_of_a_run_come_from_the_tables_in_its_settings(lab: Lab) -> None:
    write_attributes(lab, lambda place, fake: 1 if fake == bool(place % 5) else -1)
    found = first_finding(lab.audit(), "group-tells-label")
    assert found.evidence["male"] == "6 real, 24 fake"
    assert "few-of-a-group" in finding_codes(lab.audit())
    model = Reader().run(str(lab.run)).models[0]
    assert model.groups is not None
    assert model.groups.files == (str(lab.root / "faces.csv"),)
    assert {test.by for test in model.groups.tests} == {"gender", "race", "intersec"}
    assert {test.data for test in model.groups.tests} == {"&".join(TESTS)}


def test_gap_is_measured_over_real_and_fake_images_together(lab: Lab) -> None:
    write_attributes(lab, lambda place, fake: 1 if place % 2 else -1)
    replace_logits(lab.run / DATA, TESTS[1], [2.0 if place % 2 else -2.0 for place in range(10)])
    model = next(each for each in Reader().run(str(lab.run)).models if each.name == DATA)
    assert model.groups is not None
    gender = next(test for test in model.groups.tests if test.by == "gender")
    assert gender.gap == pytest.approx(100)
    assert gender.floor is not None
    assert gender.subgroup_counts.counts == {"male": (5, 5), "nonmale": (5, 5)}


def test_missing_table_is_reported_and_other_checks_go_ahead(lab: Lab) -> None:
    write_attributes(lab, lambda place, fake: 1)
    (lab.root / "faces.csv").unlink()
    audit = lab.audit()
    assert finding_codes(audit) == set()
    assert "faces.csv" in gap_reasons(audit, "group-tells-label")
    assert "faces.csv" in gap_reasons(audit, "gap-above-floor")


@pytest.mark.parametrize(
    ("trained", "tested", "copies", "counts", "seconds"),
    [
        # sizes that are equal are not enough
        ("ab", "cde", (("a", "c"),), (2, 3, 0), 1000.0),
        ("a", "cbd", (), (1, 3, 2), 2.5),
        # the same file, and one that is gone: no image, and no file
        (["a", "gone"], ["a", "gone"], (), (2, 2, 0), 1000.0),
    ],
    ids=["equal bytes", "what the time did not suffice for", "no copy"],
)
def test_identical_files_are_found_and_unread_files_are_counted(
    tmp_path: Path, trained: Sequence[str], tested: Sequence[str],
    copies: tuple[tuple[str, str], ...], counts: tuple[int, int, int], seconds: float,
) -> None:  # fmt: skip
    contents = {"a": b"one", "b": b"two", "c": b"one", "d": b"six", "e": b"long"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    clock = iter(range(100))
    surveyor = Surveyor(seconds=seconds, clock=lambda: float(next(clock)))
    survey = surveyor.survey(
        "set",
        {str(tmp_path / name): label for label, name in enumerate(trained)},
        [str(tmp_path / name) for name in tested],
    )
    assert survey.copies == tuple((str(tmp_path / a), str(tmp_path / b)) for a, b in copies)
    assert (survey.trained, survey.tested, survey.uncompared) == counts
    assert survey.unreadable == len(trained)  # none of them is an image


def test_headers_are_read_only_of_formats_that_are_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    assert Surveyor(seconds=10).survey("set", {str(path): 0}, []).unreadable == 1


def test_hidden_files_and_byte_order_marks_change_nothing(lab: Lab) -> None:
    before = lab.audit()
    for folder, name in (("scores", "._a.csv"), ("metrics", "._a.json")):
        (lab.run / DATA / folder / name).write_bytes(b"\x00\x05\x16\x07 of macOS")
    backup: dict[str, Json] = {"schema": 1, "settings": {"save_scores": True}}
    write_json(lab.run / DATA / "metrics" / ".a.json", backup)  # its scores are not there
    history = paths.history(lab.run / DATA)
    history.write_text(f"\ufeff{history.read_text()}")
    assert lab.audit() == before


def test_images_behind_broken_links_stay_in_the_audited_lists(lab: Lab) -> None:
    for key in lab.lists["train"][::5]:
        (file,) = (lab.data / "PreSocial").glob(f"*/{key}.png")
        file.unlink()
        file.symlink_to("nowhere.png")
    survey = Reader().run(str(lab.run)).models[0].survey
    assert survey is not None
    assert (survey.trained, survey.unreadable) == (60, 12)
    assert finding_codes(lab.audit()) == set()
    record = read_record(paths.poison_record(lab.run / POISONED))
    update_poison_record(lab.run / POISONED, indices=[index ^ 1 for index in record.indices])
    wrong = first_finding(lab.audit(), "record-of-another-split")
    assert wrong.evidence["indices that are not the place of their key"] == len(record.indices)
