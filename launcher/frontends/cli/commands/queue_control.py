"""The verbs that control the queue (stop, start, service) and divide its resources (group, share)."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from enum import Enum, auto
from pathlib import Path

import click
import platformdirs

from launcher.experiments.functions.options import check_groups
from launcher.frontends.cli.complete import GROUP_PREFIX, RUN_PREFIX, offer_groups, offer_runs
from launcher.frontends.cli.help_pages import HelpPage, launcher_command, launcher_group
from launcher.frontends.cli.job_selection import dry_run_option, print_unchanged
from launcher.frontends.cli.option_types import (
    SHARE,
    flag,
    json_option,
    policy_option,
    whole_number,
)
from launcher.frontends.screens.command_output import print_table
from launcher.frontends.screens.job_view import GroupStatus, limited_groups
from launcher.queue.backends.pilot_records import PilotRecords
from launcher.queue.backends.pilot_rules import LOST_STATES
from launcher.queue.backends.pilot_status import PilotRow, read_pilot_status
from launcher.queue.backends.slurm_states import manual_commands
from launcher.queue.home.daemon_control import scheduler_pid, wake
from launcher.queue.home.paths import Home, find_home, make_home
from launcher.queue.home.scheduler_start import ensure_scheduler
from launcher.queue.jobs.states import State
from launcher.queue.scheduler.chosen_policy import policy_message, set_policy
from launcher.queue.scheduler.policy.disciplines import SchedulingPolicy
from launcher.queue.scheduler.run_places import runs_of
from launcher.queue.store.client import open_queue, wake_or_start_scheduler
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from launcher.queue.texts import format_job_names, list_first_texts
from launcher.system.errors import MachineError, UsageError, nearest, pluralize
from launcher.system.files import write_atomic, write_json
from launcher.system.terminal import print_stderr
from launcher.system.text import sanitize_terminal, shell_line
from launcher.system.text_table import TextTable, text_columns
from launcher.system.units import format_seconds
from launcher.system.waiting import wait_until

UNIT = "launcher.service"
SYSTEMCTL = ("systemctl", "--user")
BOOTED = Path("/run/systemd/system")  # sd_booted(3): there when systemd started the machine
PATIENCE_S = 30.0  # seconds for an answer of systemctl
NAMED = 8  # pilots of a backend that a message names
MARGIN_S = 30.0  # seconds after the longest grace: for killing programs and recording their ends


@launcher_command(
    heading="Queue and machine",
    place=20,
    summary="Start no more jobs; --now also ends running ones.",
    other_names={"": "shutdown quit exit down -K"},
)
@flag(
    "--now",
    help="Also end running jobs (SIGTERM) and queue them again. Jobs with --rerun never fail instead.",
)
def stop(now: bool) -> None:
    """Stop starting jobs.

    Running jobs finish. New jobs wait until `launcher start`, `launcher run` or `launcher retry`.

    \b
    Examples:
      launcher stop
      launcher stop --now
    """
    with open_queue() as (home, store):
        try:
            write_json(home.stop_record, {"schema": 1, "now": now, "at": time.time()}, mode=0o600)
        except OSError as error:
            raise MachineError(
                f"cannot write {home.stop_record} ({error.strerror}). Free disk space and try again."
            ) from error
        jobs, pilots = store.read.jobs_in_state(State.RUNNING), number_of_pilots(home)
        if jobs or pilots:
            ensure_scheduler(home)
        wake(home)
        if not now:
            print_stderr(f"The queue is stopped. {_finishing_text(len(jobs), pilots)}")
            return
        patience_s = MARGIN_S + max((job.spec.terms.grace_s for job in jobs), default=0.0)
        if not wait_until(lambda: _has_stopped(home, store), patience_s, 0.02):
            raise MachineError(_unfinished_text(home, store, patience_s))
        rows = store.read.jobs_by_id(job.id for job in jobs)
        _print_failed([row for row in rows if row.state is State.FAILED])
        queued = store.read.counts().get(State.QUEUED, 0)
        verb = "waits" if queued == 1 else "wait"
        print_stderr(f"The queue is stopped. {pluralize(queued, 'job')} {verb} in it.")


def _has_stopped(home: Home, store: Store) -> bool:
    """Whether nothing runs; a scheduler that was killed before it had recorded all ends is started again."""
    if scheduler_pid(home) is not None:
        return False
    if not store.read.counts().get(State.RUNNING):
        return True
    ensure_scheduler(home)
    return False


def _finishing_text(jobs: int, pilots: int) -> str:
    finish = f"{pluralize(jobs, 'running job')} {'finishes' if jobs == 1 else 'finish'}"
    text = finish if jobs else "No job is running"
    if pilots:
        end = f"{pluralize(pilots, 'pilot')} {'exits' if pilots == 1 else 'exit'}"
        text += f", then {end}" if jobs else f"; {end}"
    return f"{text}."


def _unfinished_text(home: Home, store: Store, patience_s: float) -> str:
    """Return what has not ended in time, who does what about it, and what its owner can do."""
    running = ", ".join(
        sanitize_terminal(job.name) for job in store.read.jobs_in_state(State.RUNNING)
    )
    lines = [f"still running: {running}"] if running else []
    lines += remaining_pilot_lines(home)
    what = "some jobs or pilots have not ended" if lines else "the scheduler has not exited"
    text = (
        f"{what} after {format_seconds(patience_s)}. The queue stays stopped, and the scheduler keeps "
        f"trying. See its log: {home.scheduler_log}"
    )
    return "\n".join([text, *(f"  {line}" for line in lines)])


def number_of_pilots(home: Home) -> int:
    """Return how many pilots there are, or may be; of one that has ended, the record may still be there."""
    over = {pilot.token for pilot in read_pilot_status(home).pilots if pilot.stage in LOST_STATES}
    return len({*PilotRecords(home).tokens()} - over)


def remaining_pilot_lines(home: Home) -> Iterator[str]:
    """Give lines about the pilots that are still there: those of each backend, then what to type.

    Args:
        home: whose scheduler has written down how it saw them last.
    """
    seen, recorded = read_pilot_status(home), {*PilotRecords(home).tokens()}
    for backend in seen.backends:
        ours = (pilot for pilot in seen.pilots if pilot.backend == backend.name)
        there = [pilot for pilot in ours if pilot.token in recorded]
        if not there:
            continue
        named = list_first_texts([*map(_describe_place, there)], NAMED)
        yield f"{pluralize(len(there), 'pilot')} of {backend.name}: {named}"
        if backend.reason:
            yield f"  {backend.reason}"
        recorded -= {pilot.token for pilot in there}
        for command in manual_commands(backend.kind, (pilot.token for pilot in there)):
            yield f"  {command}"
    if recorded:
        yield f"{pluralize(len(recorded), 'pilot')} of unknown state"


def _describe_place(pilot: PilotRow) -> str:
    """Return where a pilot is, as its engine knows it."""
    place = f"{pilot.stage} on {pilot.node}" if pilot.node else pilot.stage
    return f"{place} (job {pilot.job})" if pilot.job else place


def _print_failed(jobs: Sequence[JobRow]) -> None:
    """Name the jobs that were stopped and must never run twice: these do not wait in the queue."""
    never = [job for job in jobs if job.spec.terms.rerun == "never"]
    if never:
        numbers = " ".join(str(job.id) for job in never)
        print_stderr(f"failed because of --rerun never: {format_job_names(never, len(never))}")
        print_stderr(f"  launcher retry {numbers}")


@launcher_command(
    heading="Queue and machine",
    place=10,
    other_names={"": "up"},
)
@policy_option()
def start(policy: SchedulingPolicy | None) -> None:
    """Start jobs again after `launcher stop`.

    --policy also changes the policy of the queue.

    \b
    Examples:
      launcher start
      launcher start --policy easy
    """
    with open_queue() as (home, _):
        if policy is not None:
            set_policy(home, policy)
            print_stderr(policy_message(home))
        was_stopped = home.stop_record.exists()
        home.stop_record.unlink(missing_ok=True)
        wake_or_start_scheduler(home)
    if was_stopped or policy is None:
        print_stderr(
            "The queue starts jobs again." if was_stopped else "The queue was not stopped."
        )


@launcher_command(
    heading="Change",
    place=100,
    summary="Limit how many jobs of a group run at once, or pause it.",
    other_names={"NAME --limit 4": "parallel"},
)
@click.argument("name", required=False, shell_complete=offer_groups)
@click.option(
    "--limit", type=whole_number(1, 1_000_000), help="Run at most this many jobs at once."
)
@flag("--no-limit", help="Remove the limit.")
@flag("--pause", help="Start no job of the group. Running jobs continue.")
@flag("--resume", help="Start jobs of the group again.")
@dry_run_option
@json_option
def group(
    name: str | None,
    limit: int | None,
    no_limit: bool,
    pause: bool,
    resume: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Limit how many jobs of a group run at once, or pause the group.

    Without NAME, all groups are listed. `launcher add --group NAME` adds a job to a group. Every command
    that takes PATTERN selects the jobs of a group: group:NAME.

    In a pipe, tab-separated: name, limit, running, waiting. If a group is paused, its state follows.

    \b
    Examples:
      launcher group
      launcher group downloads --limit 2
      launcher group downloads --pause
      launcher group downloads --no-limit
    """
    given = [
        option
        for option, value in (
            ("--limit", limit),
            ("--no-limit", no_limit),
            ("--pause", pause),
            ("--resume", resume),
        )
        if value
    ]
    if len(given) > 1:
        raise UsageError(f"{given[0]} cannot be combined with {given[-1]}. Remove one of them.")
    changes = limit is not None or no_limit
    if given and not name:
        example = "--limit 2" if changes else given[0]
        raise UsageError(f"missing NAME. Name the group: launcher group NAME {example}")
    with open_queue(make=limit is not None and not dry_run) as (home, store):
        if name is not None and limit is None:
            check_groups(store, [name])
        if name is not None and (pause or resume):
            _set_pause(home, store, name, pause=pause, dry_run=dry_run)
            return
        if name is not None and changes:
            if no_limit and any(each.name == name and each.paused for each in _groups(store)):
                raise UsageError(
                    f"group {name!r} is paused. Resume it first: launcher group {name} --resume"
                )
            if not dry_run:
                store.job_control.set_group_limit(name, limit)
                wake(home)
            at_most = "no limit" if limit is None else f"at most {pluralize(limit, 'job')} at once"
            _print_change(name, at_most, dry_run=dry_run)
            return
        groups = [each for each in _groups(store) if name in {None, each.name}]
        waiting = {each.name: store.read.count_waiting_in(each.name) for each in groups}
    rows = [[each.name, each.limit, each.running, waiting[each.name]] for each in groups]
    names = ["GROUP", "LIMIT", "RUNNING", "WAITING"]
    if any(each.paused for each in groups):  # scripts read the other columns by their places
        names.append("STATE")
        for row, each in zip(rows, groups, strict=True):
            row.append("paused" if each.paused else "")
    columns = text_columns(*names, numbers={1, 2, 3})
    print_table(
        {"groups": [{**each.to_json(), "waiting": waiting[each.name]} for each in groups]},
        TextTable(columns, rows),
        as_json=as_json,
        empty_text="no groups. Create one: launcher group NAME --limit 2",
    )


def _groups(store: Store) -> Sequence[GroupStatus]:
    return limited_groups(store, store.read.jobs_in_state(State.RUNNING))


def _set_pause(home: Home, store: Store, name: str, *, pause: bool, dry_run: bool) -> None:
    """Pause or resume a group; print the change, and how to pause its running jobs too."""
    (status,) = (each for each in _groups(store) if each.name == name)
    if not dry_run:
        if pause:
            store.job_control.pause_group(name, time.time())
            wake(home)
        else:
            store.job_control.resume_group(name)
            wake_or_start_scheduler(home)
    did = (
        ("be paused" if dry_run else "paused")
        if pause
        else ("be resumed" if dry_run else "resumed")
    )
    if pause == (status.paused is not None):
        did = "paused already" if pause else "not paused"
        dry_run = False
    click.echo(f"{sanitize_terminal(name)}\t{'would ' if dry_run else ''}{did}")
    if dry_run:
        print_unchanged()
    elif pause and status.running:
        verb = "continues" if status.running == 1 else "continue"
        those = shlex.quote(f"{GROUP_PREFIX}{name}")
        print_stderr(
            f"{pluralize(status.running, 'running job')} {verb}. To pause too: launcher pause {those}"
        )


@launcher_command(
    heading="Queue and machine",
    place=30,
    summary="Divide the machine between runs.",
)
@click.argument("run", required=False, shell_complete=offer_runs)
@click.argument("number", required=False, type=SHARE)
@dry_run_option
@json_option
def share(run: str | None, number: float | None, dry_run: bool, as_json: bool) -> None:
    """Print or set the shares of runs.

    While several runs wait, a run with share 3 gets three times the GPU time of a run with share 1, the
    default. Listed GPU-hours are recent usage, which halves every day. Without RUN, all runs that have
    unfinished jobs are listed.

    In a pipe, tab-separated: run, share, GPU-hours, running, waiting.

    \b
    Examples:
      launcher share
      launcher share quickstart 3
    """
    with open_queue() as (home, store):
        rows = runs_of(store, time.time())
        if run is not None:
            run = run.removeprefix(RUN_PREFIX)
            _check_run(store, run)
        if run is not None and number is not None:
            if not dry_run:
                store.job_control.set_share(run, number)
                wake(home)
            _print_change(run, f"share {number:g}", dry_run=dry_run)
            return
    rows = [row for row in rows if run in {None, row.account.name}]
    whose = "no run has" if run is None else f"run {sanitize_terminal(run)} has no"
    columns = text_columns(
        "RUN", "SHARE", "RECENT GPU-HOURS", "RUNNING", "WAITING", numbers=range(1, 5)
    )
    print_table(
        {"runs": [row.to_json() for row in rows]},
        TextTable(columns, [row.cells() for row in rows]),
        as_json=as_json,
        empty_text=f"{whose} running or waiting jobs",
    )


def _print_change(name: str, text: str, *, dry_run: bool) -> None:
    click.echo(f"{sanitize_terminal(name)}\t{'would have ' if dry_run else ''}{text}")
    if dry_run:
        print_unchanged()


def _check_run(store: Store, name: str) -> None:
    names = store.read.runs()
    if name not in names:
        close = nearest(name, names)
        hint = f"Did you mean {close!r}?" if close else "List the runs: launcher share"
        run, equals, number = name.rpartition("=")
        if equals and run in names:
            hint = f"To set its share: launcher share {shell_line([run, number])}"
        raise UsageError(f"run {name!r} does not exist. {hint}")


# --- at the start of the machine


class Manager(Enum):
    """What is known of the user's systemd."""

    ANSWERS = auto()
    SILENT = auto()  # the machine runs systemd, but this shell has no way to the user's manager
    ABSENT = auto()


@launcher_group(
    heading="Queue and machine",
    place=50,
    other_names={"install": "daemon server enable"},
)
def service() -> None:
    """Start the scheduler at boot.

    \b
    Examples:
      launcher service install
      launcher service install --print
      launcher service remove
    """


@service.command(cls=HelpPage)
@flag("--print", "only_print", help="Print the unit file and change nothing.")
def install(only_print: bool) -> None:
    """Write a systemd user unit and enable it.

    Without systemd, a line for crontab is printed.

    \b
    Examples:
      launcher service install
      launcher service install --print
    """
    home = find_home(os.environ)
    text = unit(home.folder, sys.executable)
    if only_print:
        click.echo(text, nl=False)
        return
    make_home(home)
    manager = find_manager()
    if manager is Manager.ABSENT:
        print_stderr("No systemd for users found. Nothing was written.")
        print_stderr("If cron runs here, add this line with `crontab -e`:")
        click.echo(cron_line(home.folder, sys.executable))
        return
    file = unit_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, text)
    print_stderr(f"wrote {file}")
    enable = (*SYSTEMCTL, "enable", "--now", UNIT)
    if manager is Manager.ANSWERS:
        _run_systemctl(*SYSTEMCTL, "daemon-reload")
        _run_systemctl(*enable)
        print_stderr("The scheduler starts when you log in.")
    else:
        print_stderr(f"Your systemd does not respond here. Log in and run: {shlex.join(enable)}")
    print_stderr("To start it at boot: loginctl enable-linger")


@service.command(cls=HelpPage)
def remove() -> None:
    """Remove the systemd unit.

    The queue and running jobs are not affected.

    \b
    Examples:
      launcher service remove
      LAUNCHER_HOME=/data/queue launcher service remove
    """
    file = unit_file()
    if not file.exists():
        print_stderr(f"{file} does not exist. Nothing was changed.")
        print_stderr("To remove a line from crontab: crontab -e")
        return
    manager = find_manager()
    if manager is Manager.ANSWERS:
        _run_systemctl(*SYSTEMCTL, "disable", "--now", UNIT)
    else:  # `disable` would delete the link of [Install]
        (file.parent / "default.target.wants" / UNIT).unlink(missing_ok=True)
    file.unlink()
    if manager is Manager.ANSWERS:
        _run_systemctl(*SYSTEMCTL, "daemon-reload")
    print_stderr(f"removed {file}")


def unit_file() -> Path:
    """Return the path of the user's unit."""
    return platformdirs.user_config_path() / "systemd" / "user" / UNIT


def unit(home: Path, python: str) -> str:
    """Return the unit that keeps a home's scheduler; it leaves by itself when nothing is to do."""
    # LAUNCHER_HOME is for those who ask the environment, the argument for the scheduler itself
    return f"""\
[Unit]
Description=launcher, the queue in {_specifiers(str(home)).replace(chr(10), " ")}
StartLimitIntervalSec=300
StartLimitBurst=3

[Service]
Environment={_quote_word(f"LAUNCHER_HOME={home}")}
ExecStart={_quote_word(python)} -P -m launcher.scheduler {_quote_word(str(home)).replace("$", "$$")}
KillMode=process
Delegate=yes
Restart=on-failure
RestartSec=5

[Install]
WantedBy=default.target
"""


def cron_line(home: Path, python: str) -> str:
    """Return the line of a crontab that does the same."""
    argv = shlex.join([python, "-P", "-m", "launcher.scheduler", str(home)])
    setting = f"LAUNCHER_HOME={shlex.quote(str(home))}"
    log = shlex.quote(str(home / "scheduler.log"))
    line = f"@reboot {setting} {argv} >> {log} 2>&1"
    return line.replace("%", r"\%")  # crontab(5): a plain one ends the line


def find_manager(boot_folder: Path = BOOTED) -> Manager:
    """Return whether the user's systemd can be asked."""
    if shutil.which(SYSTEMCTL[0]) is None:
        return Manager.ABSENT
    if _systemctl(*SYSTEMCTL, "show-environment").returncode == 0:
        return Manager.ANSWERS
    return Manager.SILENT if boot_folder.is_dir() else Manager.ABSENT


def _run_systemctl(*argv: str) -> None:
    """Run systemctl.

    Raises:
        MachineError: it failed; the message holds its output.
    """
    done = _systemctl(*argv)
    if done.returncode:
        raise MachineError(
            f"`{shlex.join(argv)}` failed: {done.stderr.strip()}. See: systemctl --user status"
        )


def _systemctl(*argv: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(argv, 1, "", f"no answer in {PATIENCE_S:.0f} s")


def _quote_word(word: str) -> str:
    """Quote a word for a unit file. Source: systemd.syntax(7), Quoting; systemd.unit(5), Specifiers."""
    escaped = word.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'"{_specifiers(escaped)}"'


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")
