"""A finding of the check: a verdict, a summary, and what to do."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from textwrap import wrap

from launcher.screens.format import harmless
from launcher.screens.text_table import Line, Span, Tone
from launcher.system.files import Json


class Verdict(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    TROUBLE = "trouble"
    UNKNOWN = "unknown"


LOOKS = {
    Verdict.OK: ("✓", Tone.GOOD),
    Verdict.WARNING: ("▲", Tone.WARN),
    Verdict.TROUBLE: ("✗", Tone.BAD),
    Verdict.UNKNOWN: ("·", Tone.DIM),
}
_GAP = "  "
_LEAST = 20  # columns for the summary, however narrow the screen


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check."""

    name: str
    verdict: Verdict
    summary: str
    advice: str = ""  # what to do; empty: nothing

    def columns(self) -> tuple[str, ...]:
        """Return the finding as a line for pipes."""
        return (self.name, self.verdict, harmless(self.summary), harmless(self.advice) or "-")

    def record(self) -> dict[str, Json]:
        """Return the finding for JSON."""
        return {
            "name": self.name,
            "verdict": self.verdict,
            "told": self.summary,
            "advice": self.advice or None,
        }


def ok(name: str, summary: str, advice: str = "") -> Finding:
    """Return that a thing is in order."""
    return Finding(name=name, verdict=Verdict.OK, summary=summary, advice=advice)


def warning(name: str, summary: str, advice: str) -> Finding:
    """Return that a thing may cause trouble."""
    return Finding(name=name, verdict=Verdict.WARNING, summary=summary, advice=advice)


def trouble(name: str, summary: str, advice: str) -> Finding:
    """Return that jobs cannot run well until this is repaired."""
    return Finding(name=name, verdict=Verdict.TROUBLE, summary=summary, advice=advice)


def unknown(name: str, summary: str, advice: str = "") -> Finding:
    """Return that a thing cannot be determined, or does not matter here."""
    return Finding(name=name, verdict=Verdict.UNKNOWN, summary=summary, advice=advice)


def draw(findings: Sequence[Finding], width: int) -> list[Line]:
    """Return lines for each finding and its advice, and last the number of findings by verdict."""
    names = max((len(finding.name) for finding in findings), default=0)
    words = max(len(verdict.value) for verdict in Verdict)
    before = 2 + words + len(_GAP) + names + len(_GAP)
    room = max(_LEAST, width - before)
    lines = []
    for finding in findings:
        glyph, tone = LOOKS[finding.verdict]
        first, *rest = wrap(harmless(finding.summary), room, break_on_hyphens=False) or [""]
        head = (
            Span(f"{glyph} {finding.verdict:<{words}}", tone),
            Span(f"{_GAP}{finding.name:<{names}}{_GAP}", Tone.STRONG),
            Span(first),
        )
        lines.append(Line(head))
        lines += [Line((Span(" " * before), Span(text))) for text in rest]
        advice = wrap(harmless(finding.advice), max(_LEAST, room - 2), break_on_hyphens=False)
        for number, text in enumerate(advice):
            mark = "  " if number else "→ "
            lines.append(Line((Span(" " * before), Span(f"{mark}{text}", tone))))
    lines += [Line(()), Line((Span(tally(findings), Tone.STRONG),))]
    return [row.cut(width) for row in lines]


def tally(findings: Iterable[Finding]) -> str:
    """Return the number of findings by verdict, in words."""
    counts = Counter(finding.verdict for finding in findings)
    plural = {Verdict.WARNING: "s", Verdict.TROUBLE: "s"}
    parts = [
        f"{counts[verdict]} {verdict}{plural.get(verdict, '') if counts[verdict] > 1 else ''}"
        for verdict in Verdict
        if counts[verdict]
    ]
    return " · ".join(parts)
