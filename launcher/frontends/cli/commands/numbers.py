"""`launcher numbers`: the numbers that the queue reads from logs."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from launcher.experiments.results.metric import format_value
from launcher.frontends.cli.complete import offer_files
from launcher.frontends.cli.help_pages import launcher_command
from launcher.frontends.cli.option_types import json_option
from launcher.frontends.screens.command_output import CommandOutput, print_output
from launcher.queue.workers.progress.log_report import LogReport, read_log_report
from launcher.system.errors import MachineError, UsageError
from launcher.system.terminal import print_stderr
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import TextLine, TextTable, line, text_columns

LEFT_OUT = "left out"
_LEAST = 24  # columns for the last text


@launcher_command(
    heading="Results",
    place=20,
)
@click.argument(
    "files",
    nargs=-1,
    required=True,
    metavar="FILE…",
    type=click.Path(path_type=Path),
    shell_complete=offer_files,
)
@click.option(
    "--numbers",
    "asked",
    metavar="NAMES",
    help="Comma-separated names that also count, as with `launcher add --numbers`.",
)
@json_option
def command(files: tuple[Path, ...], asked: str | None, as_json: bool) -> None:
    """Print the numbers that the queue reads from logs.

    FILE is the log of a program. Each number has its line and the rule that reads it. Printed names that
    are no results follow, each with the reason. See `launcher help progress`.

    In a pipe, tab-separated: file, name, value, line, rule. The value of a name that is left out is empty.

    \b
    Examples:
      launcher numbers train.log
      launcher numbers runs/*.log --json
      launcher numbers train.log --numbers tokens/s
    """
    names = tuple(name.strip() for name in (asked or "").split(",") if name.strip())
    reports = {file: _read(file, names) for file in files}
    for file, report in reports.items():
        for note in report.notes:
            print_stderr(f"{sanitize_terminal(str(file))}: {sanitize_terminal(note)}")
    output = CommandOutput(
        record=lambda: {"files": [_record(file, report) for file, report in reports.items()]},
        rows=lambda: [row for file, report in reports.items() for row in _rows(file, report)],
        draw_lines=lambda width: [
            each for file, report in reports.items() for each in _lines(file, report, width)
        ],
    )
    print_output(output, as_json=as_json)


def _read(file: Path, asked_names: Sequence[str]) -> LogReport:
    if file.is_dir():
        raise UsageError(f"{file} is a folder. Name the log file of a program.")
    try:
        return read_log_report(file, asked_names)
    except FileNotFoundError as error:
        raise UsageError(f"no file {str(file)!r}. Name the log file of a program.") from error
    except OSError as error:
        raise MachineError(
            f"cannot read {file} ({error.strerror}). Check its permissions."
        ) from error


def _record(file: Path, report: LogReport) -> dict[str, Any]:
    step = report.step
    return {
        "file": str(file),
        "numbers": {name: _json_value(each.value) for name, each in report.numbers.items()},
        "progress": None if step is None else {"step": step.step, "total": step.total},
        "lines": {name: each.line for name, each in report.numbers.items()},
        "rules": {name: each.rule for name, each in report.numbers.items()},
        "left_out": {name: each.reason for name, each in report.left_out.items()},
        "notes": [*report.notes],
    }


def _json_value(value: float) -> float | str:
    """Return a number for JSON, which has neither NaN nor infinities."""
    return value if math.isfinite(value) else str(value)


def _rows(file: Path, report: LogReport) -> Iterator[tuple[str, str, str, str, str]]:
    for name, each in report.numbers.items():
        yield str(file), name, repr(each.value), str(each.line), each.rule
    for name, left in report.left_out.items():
        yield str(file), name, "", str(left.line), f"{LEFT_OUT}: {left.reason}"


def _lines(file: Path, report: LogReport, width: int) -> list[TextLine]:
    """Return the numbers of a log for a terminal."""
    rows = [
        (name, format_value(each.value), str(each.line), each.rule)
        for name, each in report.numbers.items()
    ]
    rows += [
        (name, "–", str(left.line), f"{LEFT_OUT}: {left.reason}")
        for name, left in report.left_out.items()
    ]
    columns = text_columns("NAME", "VALUE", "LINE", "RULE", numbers={1, 2}, least=_LEAST)
    step = "" if report.step is None else f"  step {report.step._replace(metrics={})}"
    head = line(sanitize_terminal(f"{file}{step}"))
    if not rows:
        return [head, line("no numbers")]
    return [head, *TextTable(columns, rows).to_lines(width)]
