"""The outcomes of checks: findings with evidence, gaps where a check could not look, or does not apply.

A check says what it found; `registry.judge` adds the code of the check and the model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from trueface.runtime.files import Json

Severity = Literal["fault", "warning"]  # a fault makes a figure of the run wrong; a warning may

FAULT: Severity = "fault"
WARNING: Severity = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that went wrong in an experiment."""

    severity: Severity
    sentence: str  # what is wrong; lower case, no full stop
    advice: str  # what to do; likewise
    evidence: Mapping[str, int | float | str]
    code: str = ""  # of the check, "poisoned-validation"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A check that could not be made."""

    reason: str
    code: str = ""
    model: str = ""

    def as_json(self) -> dict[str, Json]:
        """Return all of it for a JSON file."""
        return {"code": self.code, "model": self.model, "reason": self.reason}


@dataclass(frozen=True, slots=True, kw_only=True)
class NotApplicable:
    """A check that does not apply to a model: there is nothing that it could find."""

    reason: str
    code: str = ""
    model: str = ""

    def as_json(self) -> dict[str, Json]:
        """Return all of it for a JSON file."""
        return {"code": self.code, "model": self.model, "reason": self.reason}


Outcome = Finding | Gap | NotApplicable


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """All that was found in a run, and what was looked for."""

    run: str
    models: tuple[str, ...]
    checks: tuple[tuple[str, str], ...]  # code and what it looks for, in order
    findings: tuple[Finding, ...]  # faults first
    gaps: tuple[Gap, ...]
    not_applicable: tuple[NotApplicable, ...] = ()

    @property
    def faults(self) -> int:
        """How many findings are faults."""
        return sum(finding.severity == FAULT for finding in self.findings)

    @property
    def unmade(self) -> frozenset[str]:
        """The checks that looked at no model: each has a gap, or nothing to ask, and no finding."""
        models: dict[str, set[str]] = {}
        outcomes: tuple[Gap | NotApplicable, ...] = (*self.gaps, *self.not_applicable)
        for outcome in outcomes:
            models.setdefault(outcome.code, set()).add(outcome.model)
        made = {finding.code for finding in self.findings}
        return frozenset(
            code for code, of in models.items() if len(of) == len(self.models) and code not in made
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
            "not_checked": [gap.as_json() for gap in self.gaps],
            "does_not_apply": [outcome.as_json() for outcome in self.not_applicable],
        }
