"""An audit as text: findings with their evidence, what was checked, and what could not be."""

from collections.abc import Iterator

from trueface.audit.finding import Audit, Finding


def lines(audit: Audit) -> Iterator[str]:
    """Yield the lines of an audit, faults first."""
    for finding in audit.findings:
        yield from _finding(finding)
    yield from _conclusion(audit)
    yield from _gaps(audit)


def count(number: int, what: str) -> str:
    """Return a number of things: "1 fault", "2 faults"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


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
        whom = "every model" if len(names) == len(audit.models) else ", ".join(names)
        yield ", ".join(codes), whom, reason


def _finding(finding: Finding) -> Iterator[str]:
    yield f"{finding.severity}[{finding.code}]: {finding.model}: {finding.sentence}"
    for name, value in finding.evidence.items():
        yield f"   = {name}: {value}"
    yield f"   = do: {finding.advice}"
    yield ""


def _conclusion(audit: Audit) -> Iterator[str]:
    faulty = {finding.code for finding in audit.findings}
    unmade = audit.unmade
    faults, warnings = audit.faults, len(audit.findings) - audit.faults
    yield (
        f"{audit.run}: {count(len(audit.models), 'model')}, {count(faults, 'fault')}, "
        f"{count(warnings, 'warning')}"
    )
    clean = [code for code, _ in audit.checks if code not in faulty and code not in unmade]
    yield f"checked, nothing found: {', '.join(clean) or '–'}"
    gapped = {gap.code for gap in audit.gaps}
    not_applicable = [code for code, _ in audit.checks if code in unmade - faulty - gapped]
    if not_applicable:
        yield f"not asked, as they apply to no model here: {', '.join(not_applicable)}"


def _gaps(audit: Audit) -> Iterator[str]:
    if audit.gaps:
        yield "could not be checked:"
    for codes, whom, reason in gaps(audit):
        yield f"   {codes}"
        yield f"      {whom}: {reason}"
