"""The outcomes of checks: findings with evidence, gaps if a check could not be made, or does not apply.

A check yields the finding; `check.judge` adds the code of the check and the model.
"""

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from trueface.runtime.files import Json

Severity = Literal["fault", "warning"]  # a fault makes a figure of the run wrong; a warning may
FAULT: Severity = "fault"
WARNING: Severity = "warning"


class Finding(NamedTuple):
    """One thing that went wrong in an experiment."""

    severity: Severity
    sentence: str  # description of the fault; lower case, no full stop
    advice: str  # remedy for it
    evidence: Mapping[str, int | float | str]
    code: str = ""  # code of the check, "poisoned-validation"
    model: str = ""

    def as_json(self) -> dict[str, Json]:
        """Return all of it for a JSON file."""
        return {
            "severity": self.severity,
            "code": self.code,
            "model": self.model,
            "sentence": self.sentence,
            "advice": self.advice,
            "evidence": dict(self.evidence),
        }


class Gap(NamedTuple):
    """A check that could not be made."""

    reason: str
    code: str = ""
    model: str = ""


class NotApplicable(NamedTuple):
    """A check that does not apply to a model: there is nothing that it could find."""

    reason: str
    code: str = ""
    model: str = ""


Outcome = Finding | Gap | NotApplicable


class Audit(NamedTuple):
    """The findings of a run, and the checks that were done."""

    run: str
    models: tuple[str, ...]
    checks: tuple[tuple[str, str], ...]  # code and description, in order
    findings: tuple[Finding, ...]  # faults first
    gaps: tuple[Gap, ...]
    not_applicable: tuple[NotApplicable, ...] = ()

    @property
    def faults(self) -> int:
        """How many findings are faults."""
        return sum(finding.severity == FAULT for finding in self.findings)

    @property
    def checks_without_result(self) -> frozenset[str]:
        """The checks that were made on no model: each has a gap or does not apply, and has no finding."""
        models: dict[str, set[str]] = {}
        unasked: tuple[Gap | NotApplicable, ...] = (*self.gaps, *self.not_applicable)
        for outcome in unasked:
            models.setdefault(outcome.code, set()).add(outcome.model)
        codes_with_findings = {finding.code for finding in self.findings}
        return frozenset(
            code
            for code, models_of_code in models.items()
            if len(models_of_code) == len(self.models) and code not in codes_with_findings
        )

    def as_json(self) -> dict[str, Json]:
        """Return all of it for a JSON file."""
        return {
            "schema": 1,
            "run": self.run,
            "models": list(self.models),
            "faults": self.faults,
            "findings": [finding.as_json() for finding in self.findings],
            "checks": dict(self.checks),
            "not_checked": [_outcome_json(gap) for gap in self.gaps],
            "does_not_apply": [_outcome_json(outcome) for outcome in self.not_applicable],
        }


def _outcome_json(outcome: Gap | NotApplicable) -> dict[str, Json]:
    return {"code": outcome.code, "model": outcome.model, "reason": outcome.reason}


def lines(audit: Audit) -> Iterator[str]:
    """Yield the lines of an audit, faults first."""
    for finding in audit.findings:
        yield from _finding(finding)
    yield from _conclusion(audit)
    yield from _gaps(audit)


def count(number: int, noun: str) -> str:
    """Return a number of things: "1 fault", "2 faults"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def gaps(audit: Audit) -> Iterator[tuple[str, str, str]]:
    """Yield the checks that could not be made for one reason, of which models, and the reason."""
    by_gap: dict[tuple[str, str], list[str]] = {}
    for gap in audit.gaps:
        models = by_gap.setdefault((gap.code, gap.reason), [])
        if gap.model not in models:
            models.append(gap.model)
    by_models: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (code, reason), models in by_gap.items():
        by_models.setdefault((reason, tuple(models)), []).append(code)
    for (reason, names), codes in by_models.items():
        whom = "all models" if len(names) == len(audit.models) else ", ".join(names)
        yield ", ".join(codes), whom, reason


def _finding(finding: Finding) -> Iterator[str]:
    yield f"{finding.severity}[{finding.code}]: {finding.model}: {finding.sentence}"
    for name, value in finding.evidence.items():
        yield f"   = {name}: {value}"
    yield f"   = do: {finding.advice}"
    yield ""


def _conclusion(audit: Audit) -> Iterator[str]:
    faulty = {finding.code for finding in audit.findings}
    unmade = audit.checks_without_result
    faults, warnings = audit.faults, len(audit.findings) - audit.faults
    yield (
        f"{audit.run}: {count(len(audit.models), 'model')}, {count(faults, 'fault')}, "
        f"{count(warnings, 'warning')}"
    )
    clean = [code for code, _ in audit.checks if code not in faulty and code not in unmade]
    yield f"checked without findings: {', '.join(clean) or '–'}"
    gapped = {gap.code for gap in audit.gaps}
    not_applicable = [code for code, _ in audit.checks if code in unmade - faulty - gapped]
    if not_applicable:
        yield f"not applicable to these models: {', '.join(not_applicable)}"


def _gaps(audit: Audit) -> Iterator[str]:
    if audit.gaps:
        yield "not possible to check:"
    for codes, whom, reason in gaps(audit):
        yield f"   {codes}"
        yield f"      {whom}: {reason}"
