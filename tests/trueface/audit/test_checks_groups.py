from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from tests.trueface.audit.build import (
    DATA,
    TESTS,
    Lab,
    codes,
    rescore,
    the,
    why_not,
    write_attributes,
)
from trueface.audit import checks_groups
from trueface.audit.check import Check
from trueface.audit.finding import Finding, Gap, NotApplicable, Outcome
from trueface.audit.reading.reader import Reader
from trueface.audit.run_facts import Groups, Model, TestedGroups, dependence
from trueface.data.attribute_table import Cells

SKEWED = {"male": (90, 10), "nonmale": (10, 90)}
EVEN = {"male": (50, 50), "nonmale": (50, 50)}
Asked = Callable[[Check, Groups | None], list[Outcome]]


def groups(
    train: Mapping[str, tuple[int, int]] = EVEN,
    test: Mapping[str, tuple[int, int]] = EVEN,
    *,
    gap: float | None = 5.0,
    floor: float | None = 9.0,
    trouble: str = "",
) -> Groups:
    tested = TestedGroups(
        data="forged:pre", by="gender", cells=Cells(counts=test), gap=gap, floor=floor
    )
    return Groups(
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
    return lambda check, facts: list(check.function(replace(model, groups=facts)))


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
    (found,) = ask(checks_groups.dependent_labels, groups(train=SKEWED))
    assert isinstance(found, Finding)
    assert found.severity == "warning"
    assert "gender, Cramér's V 0.8" in found.sentence
    assert found.evidence["male"] == "90 real, 10 fake"
    assert not ask(checks_groups.dependent_labels, groups())


def test_groups_of_few_test_images_are_named(ask: Asked) -> None:
    few = {"male": (150, 150), "nonmale": (29, 150)}
    (found,) = ask(checks_groups.few_of_a_group, groups(test=few))
    assert isinstance(found, Finding)
    assert found.evidence == {"gender, forged:pre": "nonmale 29 real and 150 fake"}
    only_fakes = {
        "male": (0, 150),
        "nonmale": (0, 150),
    }  # a test without reals has no group of them
    assert not ask(checks_groups.few_of_a_group, groups(test=only_fakes))


def test_a_gap_is_found_from_twice_its_floor_on(ask: Asked) -> None:
    (found,) = ask(checks_groups.gap_above_floor, groups(gap=63.0, floor=12.1))
    assert isinstance(found, Finding)
    assert "63.0 points; 95 % of shuffles are below 12.1" in str(found.evidence)
    assert not ask(checks_groups.gap_above_floor, groups(gap=18.0, floor=9.0))
    (gap,) = ask(checks_groups.gap_above_floor, groups(gap=None, floor=None))
    assert isinstance(gap, Gap)


def test_a_group_that_training_lacks_is_found(ask: Asked) -> None:
    (found,) = ask(checks_groups.untrained_group, groups(train={"male": (50, 50)}))
    assert isinstance(found, Finding)
    assert found.evidence == {"gender, forged:pre": "nonmale 50 real and 50 fake"}
    assert not ask(checks_groups.untrained_group, groups())


def test_without_attributes_no_question_applies_and_with_broken_ones_it_is_said(ask: Asked) -> None:
    every = [value for value in vars(checks_groups).values() if isinstance(value, Check)]
    assert len(every) == 4
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
