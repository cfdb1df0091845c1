import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from launcher.api import Json
from tests.trueface.audit.build import (
    DATA,
    TESTS,
    Lab,
    amend,
    codes,
    rescore,
    the,
    why_not,
    write_attributes,
)
from trueface.audit import checks_images
from trueface.audit.check import Check, judge
from trueface.audit.finding import Finding, Gap, NotApplicable, Outcome
from trueface.audit.image_reading import Surveyor
from trueface.audit.reading import Reader
from trueface.audit.run_facts import GroupFacts, GroupTest, Model, dependence
from trueface.data.attribute_table import Cells
from trueface.runtime import paths


def test_test_images_in_the_training_list_are_found(lab: Lab) -> None:
    lab.relist(train=[*lab.lists["train"], *lab.lists["test"][:3]])
    audit = lab.audit()
    assert "train-test-overlap" in codes(audit)
    evidence = the(audit, "train-test-overlap").evidence
    assert (evidence["test images"], evidence["of them in the training list"]) == (20, 3)


def test_validation_images_in_another_list_are_found(lab: Lab) -> None:
    lab.relist(val=[*lab.lists["val"], lab.lists["train"][0], lab.lists["test"][0]])
    found = [one for one in lab.audit().findings if one.code == "validation-overlap"]
    assert [one.evidence["validation list"] for one in found] == [12] * 4  # two of each model
    assert found[0].evidence["of them in the training list"] == 1
    assert found[1].evidence["of them in the test list"] == 1


def test_a_test_file_with_the_bytes_of_a_training_file_is_found(lab: Lab) -> None:
    fakes = lab.data / "PreSocial/Fake"
    trained = next(key for key in lab.lists["train"] if key.startswith("StyleGAN2"))
    tested = next(key for key in lab.lists["test"] if key.startswith("StyleGAN2"))
    shutil.copy(fakes / f"{trained}.png", fakes / f"{tested}.png")
    audit = lab.audit()
    assert codes(audit) == {"same-content"}
    evidence = the(audit, "same-content").evidence
    assert (evidence["same bytes"], evidence["test files compared"]) == (1, 20)
    assert f"{tested}.png" in str(evidence["such as"])


def test_what_was_not_compared_for_want_of_time_is_counted(lab: Lab) -> None:
    audit = judge(Reader(seconds=0.0).run(str(lab.run)))
    assert "no time was left for 20 of 20 test files" in why_not(audit, "same-content")


def test_the_same_key_in_another_data_folder_is_another_picture(lab: Lab) -> None:
    lab.relist(train=[*lab.lists["train"], *lab.lists["test"][:3]])
    for data in ("gan2:pre", "realFFHQ:pre"):
        settings: Json = {"decode": "exact", "data_root": "/elsewhere"}
        amend(paths.metrics(lab.run / DATA, data), settings=settings)
    lab.relist(test=["FFHQ/99999"])
    found = [one.model for one in lab.audit().findings if one.code == "train-test-overlap"]
    assert DATA not in found


def test_lists_that_have_changed_since_are_found(lab: Lab) -> None:
    amend(paths.metrics(lab.run / DATA, "gan2:pre"), split_sha256="0" * 64)
    audit = lab.audit()
    assert codes(audit) == {"changed-split"}
    assert the(audit, "changed-split").severity == "warning"


def test_a_list_that_is_not_there_is_told(lab: Lab) -> None:
    (lab.split / "train.json").unlink()
    audit = lab.audit()
    assert codes(audit) == set()
    assert "train.json" in why_not(audit, "train-test-overlap")
    assert "cannot be listed" in why_not(audit, "class-differs-in-format")


def _again(lab: Lab, *, suffix: str = "png", size: int = 16) -> None:
    """Write the training fakes anew, in another form."""
    for number, key in enumerate(lab.lists["train"]):
        if key.startswith("StyleGAN2"):
            (lab.data / f"PreSocial/Fake/{key}.png").unlink()
            lab.image(key, number, suffix=suffix, size=size)


def _all_jpeg(lab: Lab, quality: dict[str, int]) -> None:
    for number, key in enumerate(lab.lists["train"]):
        side = "Fake" if key.startswith("StyleGAN2") else "Real"
        (lab.data / f"PreSocial/{side}/{key}.png").unlink()
        lab.image(key, number, suffix="jpg", quality=quality[side])


def test_a_class_in_another_format_is_found(lab: Lab) -> None:
    _again(lab, suffix="jpg")
    audit = lab.audit()
    assert codes(audit) == {"class-differs-in-format"}
    found = the(audit, "class-differs-in-format")
    assert found.severity == "fault"
    assert (found.evidence["real"], found.evidence["fake"]) == ("30 × PNG", "30 × JPEG")
    assert found.evidence["balanced accuracy"] == 1.0


def test_a_class_of_another_size_is_found(lab: Lab) -> None:
    _again(lab, size=24)
    audit = lab.audit()
    assert codes(audit) == {"class-differs-in-size"}
    assert the(audit, "class-differs-in-size").evidence["fake"] == "30 × 24×24"


def test_a_class_with_other_jpeg_tables_is_found(lab: Lab) -> None:
    _all_jpeg(lab, {"Fake": 75, "Real": 90})
    assert codes(lab.audit()) == {"class-differs-in-jpeg-tables"}


def test_classes_with_the_same_jpeg_tables_are_alike(lab: Lab) -> None:
    _all_jpeg(lab, {"Fake": 90, "Real": 90})
    assert codes(lab.audit()) == set()


def test_a_broken_header_is_no_image_of_the_sample(lab: Lab) -> None:
    broken = next(key for key in lab.lists["train"] if key.startswith("FFHQ"))
    (lab.data / f"PreSocial/Real/{broken}.png").write_bytes(b"no image")
    assert codes(lab.audit()) == set()


def test_too_few_headers_are_told(lab: Lab) -> None:
    lab.relist(train=lab.lists["train"][:30])
    audit = lab.audit()
    assert "15 real and 15 fake headers" in why_not(audit, "class-differs-in-size")


SKEWED = {"male": (90, 10), "nonmale": (10, 90)}
EVEN = {"male": (50, 50), "nonmale": (50, 50)}
Asked = Callable[[Check, GroupFacts | None], list[Outcome]]


def groups(
    train: Mapping[str, tuple[int, int]] = EVEN,
    test: Mapping[str, tuple[int, int]] = EVEN,
    *,
    gap: float | None = 5.0,
    floor: float | None = 9.0,
    trouble: str = "",
) -> GroupFacts:
    tested = GroupTest(
        data="forged:pre", by="gender", cells=Cells(counts=test), gap=gap, floor=floor
    )
    return GroupFacts(
        files=("faces.csv",),
        train={"gender": Cells(counts=train)} if train else {},
        tests=(tested,) if test else (),
        train_trouble=trouble,
        test_trouble=trouble,
    )


@pytest.fixture
def ask(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """Return what a check says of a model whose groups are made by hand."""
    lab = Lab(tmp_path_factory.mktemp("lab"))
    model: Model = Reader().run(str(lab.run)).models[0]
    return lambda check, facts: list(check.function(model._replace(groups=facts)))


def test_dependence_is_one_if_the_group_is_the_class_and_nought_by_chance() -> None:
    assert dependence(Cells(counts={"a": (500, 0), "b": (0, 500)})) == pytest.approx(1, abs=1e-3)
    assert dependence(Cells(counts=SKEWED)) == pytest.approx(0.8, abs=0.01)
    assert dependence(Cells(counts=EVEN)) == 0
    # eight groups of 50 that differ as chance has it: .13 without the correction
    uneven = {str(group): (25 + shift, 25 - shift) for group, shift in enumerate((3, -3) * 4)}
    assert dependence(Cells(counts=uneven)) < 0.05


def test_dependence_needs_two_groups_and_two_classes() -> None:
    assert dependence(Cells(counts={"a": (5, 5)})) == 0
    assert dependence(Cells(counts={"a": (5, 0), "b": (7, 0)})) == 0
    assert dependence(Cells(counts={})) == 0
    assert dependence(Cells(counts={**EVEN, "unknown": (0, 500)})) == 0


def test_a_planted_skew_is_found_with_its_table(ask: Asked) -> None:
    (found,) = ask(checks_images.dependent_labels, groups(train=SKEWED))
    assert isinstance(found, Finding)
    assert found.severity == "warning"
    assert "gender, Cramér's V 0.8" in found.sentence
    assert found.evidence["male"] == "90 real, 10 fake"
    assert not ask(checks_images.dependent_labels, groups())


def test_groups_of_few_test_images_are_named(ask: Asked) -> None:
    few = {"male": (150, 150), "nonmale": (29, 150)}
    (found,) = ask(checks_images.few_of_a_group, groups(test=few))
    assert isinstance(found, Finding)
    assert found.evidence == {"gender, forged:pre": "nonmale 29 real and 150 fake"}
    only_fakes = {
        "male": (0, 150),
        "nonmale": (0, 150),
    }  # a test without reals has no group of them
    assert not ask(checks_images.few_of_a_group, groups(test=only_fakes))


def test_a_gap_is_found_from_twice_its_floor_on(ask: Asked) -> None:
    (found,) = ask(checks_images.gap_above_floor, groups(gap=63.0, floor=12.1))
    assert isinstance(found, Finding)
    assert "63.0 points; 95 % of shuffles are below 12.1" in str(found.evidence)
    assert not ask(checks_images.gap_above_floor, groups(gap=18.0, floor=9.0))
    (gap,) = ask(checks_images.gap_above_floor, groups(gap=None, floor=None))
    assert isinstance(gap, Gap)


def test_a_group_that_training_lacks_is_found(ask: Asked) -> None:
    (found,) = ask(checks_images.untrained_group, groups(train={"male": (50, 50)}))
    assert isinstance(found, Finding)
    assert found.evidence == {"gender, forged:pre": "nonmale 50 real and 50 fake"}
    assert not ask(checks_images.untrained_group, groups())


def test_without_attributes_no_question_applies_and_with_broken_ones_it_is_said(ask: Asked) -> None:
    every = (
        checks_images.dependent_labels,
        checks_images.few_of_a_group,
        checks_images.gap_above_floor,
        checks_images.untrained_group,
    )
    for check in every:
        (outcome,) = ask(check, None)
        assert isinstance(outcome, NotApplicable)
        (gap, *_) = ask(check, groups({}, {}, trouble="no faces.csv"))
        assert gap == Gap(reason="no faces.csv")


def test_the_groups_of_a_run_are_read_by_the_tables_that_its_settings_name(lab: Lab) -> None:
    write_attributes(lab, lambda place, fake: 1 if fake == bool(place % 5) else -1)
    found = the(lab.audit(), "group-tells-label")
    assert found.evidence["male"] == "6 real, 24 fake"
    assert "few-of-a-group" in codes(lab.audit())
    model = Reader().run(str(lab.run)).models[0]
    assert model.groups is not None
    assert model.groups.files == (str(lab.root / "faces.csv"),)
    assert {test.by for test in model.groups.tests} == {"gender", "race", "intersec"}
    assert {test.data for test in model.groups.tests} == {"&".join(TESTS)}


def test_a_gap_is_measured_over_reals_and_fakes_together(lab: Lab) -> None:
    write_attributes(lab, lambda place, fake: 1 if place % 2 else -1)
    rescore(lab.run / DATA, TESTS[1], [2.0 if place % 2 else -2.0 for place in range(10)])
    model = next(each for each in Reader().run(str(lab.run)).models if each.name == DATA)
    assert model.groups is not None
    gender = next(test for test in model.groups.tests if test.by == "gender")
    assert gender.gap == pytest.approx(100)
    assert gender.floor is not None
    assert gender.cells.counts == {"male": (5, 5), "nonmale": (5, 5)}


def test_a_table_that_is_gone_is_told_and_stops_no_other_question(lab: Lab) -> None:
    write_attributes(lab, lambda place, fake: 1)
    (lab.root / "faces.csv").unlink()
    audit = lab.audit()
    assert codes(audit) == set()
    assert "faces.csv" in why_not(audit, "group-tells-label")
    assert "faces.csv" in why_not(audit, "gap-above-floor")


def _files(folder: Path, contents: dict[str, bytes]) -> dict[str, str]:
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: str(folder / name) for name in contents}


def test_equal_bytes_are_found_and_equal_sizes_are_not_enough(tmp_path: Path) -> None:
    at = _files(tmp_path, {"a": b"one", "b": b"two", "c": b"one", "d": b"six", "e": b"long"})
    trained = {at["a"]: 0, at["b"]: 1}
    survey = Surveyor(seconds=10).survey("set", trained, [at["c"], at["d"], at["e"]])
    assert survey.copies == ((at["a"], at["c"]),)
    assert (survey.trained, survey.tested, survey.left) == (2, 3, 0)


def test_what_the_time_did_not_suffice_for_is_counted(tmp_path: Path) -> None:
    at = _files(tmp_path, {"a": b"one", "b": b"one", "c": b"two", "d": b"six"})
    seconds = iter(range(100))
    surveyor = Surveyor(seconds=2.5, clock=lambda: float(next(seconds)))
    survey = surveyor.survey("set", {at["a"]: 0}, [at["b"], at["c"], at["d"]])
    assert survey.left == 2


def test_a_file_that_is_gone_or_the_same_file_is_no_copy(tmp_path: Path) -> None:
    at = _files(tmp_path, {"a": b"one"})
    gone = str(tmp_path / "gone")
    survey = Surveyor(seconds=10).survey("set", {at["a"]: 0, gone: 1}, [at["a"], gone])
    assert survey.copies == ()
    assert survey.unreadable == 2  # no image, and no file


def test_headers_are_read_of_the_formats_that_are_decoded_and_of_no_other(tmp_path: Path) -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    at = _files(tmp_path, {"a.png": postscript})
    assert Surveyor(seconds=10).survey("set", {at["a.png"]: 0}, []).unreadable == 1
