"""`launcher doctor`: what is wrong with this machine for jobs, and what to do about it."""

import os
import platform
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import click

from launcher.frontends.cli import disk_checks, gpu_checks
from launcher.frontends.cli import machine_checks as machine
from launcher.frontends.cli import queue_checks as queued
from launcher.frontends.cli.findings import CheckStatus, Finding, Findings
from launcher.frontends.cli.help_pages import launcher_command
from launcher.frontends.cli.main import cli, defaults
from launcher.frontends.cli.option_types import flag, json_option
from launcher.frontends.cli.verb_table import VERBS
from launcher.frontends.notify.settings import read_configured_notify
from launcher.frontends.screens.command_output import CommandOutput, print_output
from launcher.queue.backends.settings import read_configured_backends
from launcher.system import cgroups
from launcher.system.config import Configuration, Options, read_configuration
from launcher.system.config_tables import Fault
from launcher.system.environment import owners_environment
from launcher.system.errors import MachineError, UsageError
from launcher.system.mounts import read_mountinfo
from launcher.system.processes import login_name, usable_cores
from launcher.system.terminal import supports_unicode
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import (
    ADVICE,
    Cell,
    TextLine,
    TextSpan,
    TextStyle,
    TextTable,
    line,
    text_columns,
)

Part = TypeVar("Part")  # a part of the user's file
STATUS_STYLES = {
    CheckStatus.OK: ("✓", TextStyle.GOOD),
    CheckStatus.WARNING: ("▲", TextStyle.WARN),
    CheckStatus.TROUBLE: ("✗", TextStyle.BAD),
    CheckStatus.UNKNOWN: ("·", TextStyle.DIM),
}
_LEAST = 20  # columns for the summary, however narrow the screen


def check(
    environ: Mapping[str, str],
    read: Callable[[], Configuration],
    *,
    unicode: bool,
    deep: bool = False,
) -> tuple[Finding, ...]:
    """Look at this machine, this shell and its queue, and return a finding of each thing that matters here.

    Causes precede effects.

    Args:
        environ: the shell's environment.
        read: reads the user's file; its options of verbs are not known here.
        unicode: the terminal knows more characters than ASCII.
        deep: also let torch compute on a GPU, in a process of its own.
    """
    now, mountinfo, user = time.time(), read_mountinfo(), login_name(os.geteuid())
    home, queue = queued.read_queue_health(environ, mountinfo, now)
    # a file with faults has no other findings: the faults are a separate finding
    faults: list[str] = []
    configuration = _read_or_note_fault(faults, read)
    backends = _read_or_note_fault(faults, partial(read_configured_backends, environ))
    messages = _read_or_note_fault(faults, partial(read_configured_notify, environ))
    disk = None if home is None else disk_checks.read_disk(home.folder, mountinfo)
    shm = Path("/dev/shm")
    shared = disk_checks.read_disk(shm, mountinfo) if shm.is_dir() else None
    found: Findings = {
        **_check_gpus(environ, user, deep=deep),
        "configuration": queued.judge_configuration(faults, configuration),
        "queue folder": queued.judge_home(queue, disk),
        "queue's disk": disk and disk_checks.judge_room(disk, queued.HOME_BYTES),
        "results' disk": disk_checks.judge_results(disk_checks.read_results_disk(mountinfo)),
        "shared memory": disk_checks.judge_shared(shared),
        **queued.judge_backends(backends, environ, home, mountinfo),
        **queued.judge_targets(messages, environ),
        "messages": queued.judge_unsent(queued.read_unsent(home)),
        "reservations": queued.judge_reservations(*queued.find_reservations_folder(environ, home)),
        "clock": machine.judge_clock(now, queue.probe and queue.probe.newest_event_at),
        "cores": machine.judge_cores(
            os.cpu_count() or 1, len(os.sched_getaffinity(0)), usable_cores(), environ
        ),
        **machine.judge_job_limits(
            machine.read_limits(0), machine.read_scheduler_limits(queue.scheduler)
        ),
        "logout": queued.judge_logout(queued.read_logout_settings(user, environ)),
        # supervisors live where their scheduler does, which may be a service of systemd's
        "leftovers": queued.judge_leftovers(
            cgroups.unavailability_reason(queue.scheduler or "self"),
            service=Path("/", queued.SYSTEMD).is_dir(),
        ),
        "scheduler": queued.judge_scheduler(queue),
        "queue": queued.judge_queue(queue),
        "SQLite": queued.judge_sqlite(sqlite3.sqlite_version_info, platform.python_version()),
        "terminal": machine.judge_terminal(environ.get("TERM", ""), unicode=unicode),
    }
    return tuple(finding._replace(name=name) for name, finding in found.items() if finding)


def _check_gpus(environ: Mapping[str, str], user: str, *, deep: bool) -> Findings:
    driver, torch = gpu_checks.query_driver(), gpu_checks.find_torch()
    if deep and torch.version is not None and driver.gpus:
        torch = gpu_checks.try_torch(torch)
    visible = owners_environment(environ).get("CUDA_VISIBLE_DEVICES")
    return {
        "driver": gpu_checks.judge_driver(driver),
        "CUDA": gpu_checks.judge_cuda(torch, driver),
        "GPUs": gpu_checks.judge_gpus(driver.gpus),
        "visible GPUs": gpu_checks.judge_visible(
            driver.gpus, visible, environ.get("CUDA_DEVICE_ORDER")
        ),
        "other users": gpu_checks.judge_others(driver.gpus, user),
    }


def _read_or_note_fault(faults: list[str], read: Callable[[], Part]) -> Part | None:
    """Return what is read of the user's file, None if it is wrong; then what is wrong is added to the faults."""
    try:
        return read()
    except UsageError as error:
        faults.append(" ".join(str(error).split()))
        return None


@launcher_command(
    heading="Queue and machine",
    place=70,
    other_names={"": "check diagnose health"},
)
@flag("--deep", help="Also run a computation with torch on a GPU. Takes longer.")
@json_option
def command(deep: bool, as_json: bool) -> int:
    """Check this machine and suggest repairs.

    Checks the driver, torch, GPUs, disks, limits and the queue, and changes nothing. Each finding has a
    verdict: ok, warning, trouble or unknown. The exit code is 3 if there is trouble.

    In a pipe: name, verdict, finding and remedy, tab-separated.

    \b
    Examples:
      launcher doctor
      launcher doctor --deep
      launcher doctor --json
    """
    read = partial(read_configuration, os.environ, VERBS, _option_faults)
    findings = check(os.environ, read, unicode=supports_unicode(os.environ), deep=deep)
    answer = CommandOutput(
        record=lambda: {"findings": [finding.to_json() for finding in findings]},
        rows=lambda: [finding.columns() for finding in findings],
        draw_lines=partial(draw, findings),
    )
    print_output(answer, as_json=as_json)
    sick = any(finding.status is CheckStatus.TROUBLE for finding in findings)
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


def draw(findings: Sequence[Finding], width: int) -> list[TextLine]:
    """Return lines for each finding and its advice, and last the number of findings by verdict."""
    words = max(len(verdict.value) for verdict in CheckStatus)
    rows: list[tuple[Cell, ...]] = []
    for finding in findings:
        glyph, tone = STATUS_STYLES[finding.status]
        verdict = TextSpan(f"{glyph} {finding.status:<{words}}", tone)
        rows.append((verdict, TextSpan(finding.name, TextStyle.STRONG), finding.summary))
        if finding.advice:
            rows.append(("", "", TextSpan(f"{ADVICE}{sanitize_terminal(finding.advice)}", tone)))
    lines = TextTable(text_columns("", "", "", least=_LEAST), rows).to_lines(width)
    lines += [TextLine(()), line(tally(findings), TextStyle.STRONG)]
    return [row.truncate(width) for row in lines]


def tally(findings: Iterable[Finding]) -> str:
    """Return the number of findings by verdict, in words."""
    counts = Counter(finding.status for finding in findings)
    plural = {CheckStatus.WARNING: "s", CheckStatus.TROUBLE: "s"}
    return " · ".join(
        f"{counts[verdict]} {verdict}{plural.get(verdict, '') if counts[verdict] > 1 else ''}"
        for verdict in CheckStatus
        if counts[verdict]
    )
