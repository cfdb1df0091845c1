"""What a check of an audit is: a code, what it looks for, and a function of one model's facts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from trueface.audit.finding import Outcome
from trueface.audit.run_facts import Model

CheckFunction = Callable[[Model], Iterator[Outcome]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check; `registry` collects those of all modules."""

    code: str  # "poisoned-validation"
    purpose: str  # what it looks for: "flipped labels in the validation list"
    function: CheckFunction


def check(code: str, purpose: str) -> Callable[[CheckFunction], Check]:
    """Make a check of a function that yields what it finds in one model.

    It yields a `Finding` for each thing that is wrong, a `Gap` where files that it needs are not
    there, `NotApplicable` where there is nothing to find in such a model, and else nothing.

    Args:
        code: in the audit's text and JSON; lower case with hyphens.
        purpose: what it looks for; lower case, no full stop.
    """
    return lambda function: Check(code=code, purpose=purpose, function=function)
