"""`launcher doctor`: what is wrong with this machine for jobs, and what to do about it."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from textwrap import wrap

import click

from launcher.cli.doctor.checks import Finding, Verdict, check
from launcher.cli.main import VERBS, cli
from launcher.cli.option_defaults import defaults
from launcher.cli.option_types import flag, json_option
from launcher.cli.output import Answer, tell
from launcher.errors import MachineError
from launcher.screens.format import harmless
from launcher.screens.terminal import speaks_unicode
from launcher.screens.text_table import Line, Span, Tone
from launcher.system.config import Fault, Options, read_configuration

LOOKS = {
    Verdict.OK: ("✓", Tone.GOOD),
    Verdict.WARNING: ("▲", Tone.WARN),
    Verdict.TROUBLE: ("✗", Tone.BAD),
    Verdict.UNKNOWN: ("·", Tone.DIM),
}
_GAP = "  "
_LEAST = 20  # columns for the summary, however narrow the screen


@click.command()
@flag("--deep", help="Also compute something with torch on a GPU; takes longer.")
@json_option
def command(deep: bool, as_json: bool) -> int:
    """Check driver, torch, GPUs, disks, limits and the queue; change nothing.

    Each check ends with ok, warning, trouble or unknown, and says what to do. In a pipe: name,
    verdict, finding and remedy, separated by tabs. The exit code is 3 if there is trouble.

    \b
    Examples:
      launcher doctor
      launcher doctor --deep
      launcher doctor --json
    """
    read = partial(read_configuration, os.environ, VERBS, _option_faults)
    findings = check(os.environ, read, unicode=speaks_unicode(os.environ), deep=deep)
    answer = Answer(
        record=lambda: {"findings": [finding.record() for finding in findings]},
        tabs=lambda: [finding.columns() for finding in findings],
        drawn=partial(draw, findings),
    )
    tell(answer, as_json=as_json)
    sick = any(finding.verdict is Verdict.TROUBLE for finding in findings)
    return MachineError.exit_code if sick else 0


def _option_faults(options: Mapping[str, Options]) -> list[Fault]:
    """Return what is wrong with the options of verbs."""
    context = click.Context(cli)
    faults: list[Fault] = []
    for name, table in options.items():
        verb = cli.get_command(context, name)
        if verb is not None:
            defaults(verb, (name,), table, faults)
    return faults


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
    return " · ".join(
        f"{counts[verdict]} {verdict}{plural.get(verdict, '') if counts[verdict] > 1 else ''}"
        for verdict in Verdict
        if counts[verdict]
    )
