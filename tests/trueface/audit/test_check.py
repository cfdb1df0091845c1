from collections.abc import Iterator
from types import ModuleType

import pytest

from trueface.audit.check import Check, check, collect, every_check
from trueface.audit.finding import Gap, Outcome
from trueface.audit.run_facts import Model


def module(name: str, **contents: Check) -> ModuleType:
    made = ModuleType(name)
    made.__dict__.update(contents)
    return made


@check("nothing", "nothing at all")
def first(model: Model) -> Iterator[Outcome]:
    """Find nothing."""
    yield Gap(reason=model.name)


@check("nothing", "nothing either")
def second(model: Model) -> Iterator[Outcome]:
    """Find nothing."""
    yield Gap(reason=model.name)


def test_two_checks_of_one_code_are_refused_and_both_are_named() -> None:
    assert collect([module("a", first=first), module("b", again=first)]) == (first,)
    names = rf"{__name__}\.first and {__name__}\.second"
    with pytest.raises(ValueError, match=names):
        collect([module("a", first=first), module("b", second=second)])


def test_checks_report_by_their_modules_and_in_each_as_they_are_written() -> None:
    codes = [check.code for check in every_check()]
    assert codes[:4] == [
        "poisoned-validation",
        "record-of-another-split",
        "flag-without-effect",
        "one-class-forget-set",
    ]
    assert codes[-1] == "unlearned-model-is-the-old-one"
    assert len(codes) == 31
