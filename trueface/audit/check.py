"""A check of an audit: a code, a description, and a function of one model's facts."""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import NamedTuple

from trueface import audit
from trueface.audit.finding import FAULT, Audit, Finding, Gap, NotApplicable, Outcome
from trueface.audit.run_facts import Model, Run

CheckFunction = Callable[[Model], Iterator[Outcome]]


class Check(NamedTuple):
    """One check; `collect` finds those of all modules."""

    code: str  # "poisoned-validation"
    purpose: str  # subject of the check: "flipped labels in the validation list"
    function: CheckFunction


def check(code: str, purpose: str) -> Callable[[CheckFunction], Check]:
    """Register a function that yields the outcomes for one model as a check.

    It yields a `Finding` for each fault, a `Gap` if a file that it needs is missing, `NotApplicable` if such
    a model cannot have the fault. A sound model yields nothing.

    Args:
        code: in the audit's text and JSON; lower case with hyphens.
        purpose: description of the fault; lower case, no full stop.
    """
    return lambda function: Check(code, purpose, function)


PREFIX = "checks_"  # beginning of the names of modules with checks
# checks of what makes a result void come first; modules that are not named here follow, by name
ORDER = ("poisoning", "predictions", "images", "testing", "training", "unlearning")


def collect(modules: Iterable[ModuleType]) -> tuple[Check, ...]:
    """Return the checks at the top of some modules, in each as they are written.

    Raises:
        ValueError: two checks have one code; both functions are named.
    """
    checks: dict[str, Check] = {}
    for module in modules:
        for check in vars(module).values():
            if not isinstance(check, Check):
                continue
            if (other := checks.setdefault(check.code, check)) is not check:
                raise ValueError(
                    f"check code {check.code!r} is used by {_place(other)} and {_place(check)}. "
                    "Change one code."
                )
    return tuple(checks.values())


def _place(check: Check) -> str:
    function = getattr(check.function, "func", check.function)  # some are partial
    return f"{function.__module__}.{function.__qualname__}"


@cache
def every_check() -> tuple[Check, ...]:
    """Return the checks of all modules of the room, in the order in which they are reported."""
    modules = [module.name for module in iter_modules(audit.__path__)]
    names = sorted(name.removeprefix(PREFIX) for name in modules if name.startswith(PREFIX))
    ordered = [*ORDER, *(name for name in names if name not in ORDER)]
    return collect(import_module(f"{audit.__name__}.{PREFIX}{name}") for name in ordered)


def judge(run: Run) -> Audit:
    """Return all faults of a run, and the checks that could not be made."""
    outcomes = [outcome for model in run.models for outcome in _outcomes(model)]
    findings = [outcome for outcome in outcomes if isinstance(outcome, Finding)]
    return Audit(
        run=run.name,
        models=tuple(model.name for model in run.models),
        checks=tuple((check.code, check.purpose) for check in every_check()),
        findings=tuple(sorted(findings, key=lambda finding: finding.severity != FAULT)),
        gaps=tuple(outcome for outcome in outcomes if isinstance(outcome, Gap)),
        not_applicable=tuple(outcome for outcome in outcomes if isinstance(outcome, NotApplicable)),
    )


def _outcomes(model: Model) -> Iterator[Outcome]:
    for check in every_check():
        for outcome in check.function(model):
            yield outcome._replace(code=check.code, model=model.name)
