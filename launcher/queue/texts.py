"""Texts about jobs that screens and messages share: reasons, names, counts and times."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache

from launcher.queue.jobs.context import entry_variables, start_folder
from launcher.queue.jobs.job import CPU
from launcher.queue.jobs.states import Reason, ReasonCode, State
from launcher.queue.store.job_queries import UnmetDependency
from launcher.queue.store.job_selection import words_for_jobs
from launcher.queue.store.rows import JobRow
from launcher.system.errors import pluralize
from launcher.system.files import Json
from launcher.system.stored_fields import Unreadable
from launcher.system.text import sanitize_terminal, shell_line
from launcher.system.units import format_bytes

GLYPHS = {
    State.QUEUED: "○",
    State.HELD: "‖",
    State.RUNNING: "●",
    State.DONE: "✓",
    State.FAILED: "✗",
    State.CANCELLED: "–",
    State.SKIPPED: "·",
}
PAUSED = "◐"  # in place of the glyph of a running job
LONGEST_NEED = 40  # characters of a name that is shown without its job's number
ORDER = (
    State.RUNNING,
    State.QUEUED,
    State.HELD,
    State.DONE,
    State.FAILED,
    State.CANCELLED,
    State.SKIPPED,
)


def command_text(job: JobRow, folder: str) -> str:
    """Return the command of a job as one line for a shell.

    Args:
        job: the row of the database.
        folder: folder from which it was queued.
    """
    variables = [f"{name}={text}" for name, text in variables_of(job).items()]
    words = (*(["env"] if variables else []), *variables, *job.spec.argv)
    return f"cd {shell_line([folder_of(job, folder)])} && {shell_line(words)}"


def folder_of(job: JobRow, folder: str) -> str:
    """Return the working folder of a job, or that from which it was queued if its own is unreadable."""
    try:
        return start_folder(job.spec, folder)
    except Unreadable:
        return folder


def variables_of(job: JobRow) -> Mapping[str, str]:
    """Return the variables that a program's entry sets; none if they are unreadable."""
    try:
        return entry_variables(job.spec)
    except Unreadable:
        return {}


def why(job: JobRow, need: UnmetDependency | None = None) -> str:
    """Return the reason of a job's state in one line."""
    return first_line(reason_to_show(job, need).text)


def reason_to_show(job: JobRow, need: UnmetDependency | None = None) -> Reason:
    """Return the reason of a job's state; for a waiting job, the dependency, time or resource it waits for.

    Args:
        job: the row of the database.
        need: its first open dependency, if known.
    """
    if job.state is not State.QUEUED:
        return job.state_reason
    pause = job.starts_at is not None
    needs = job.waits - pause  # the database counts an earliest start as a dependency
    writer = (
        job.state_reason.data.get("need")
        if job.state_reason.code is ReasonCode.OUTPUT_IN_USE
        else None
    )
    if needs > 0 and writer is not None and (need is None or need.job == writer):
        return job.state_reason
    waits = [_dependency_text(needs, need)] if needs > 0 else []
    if job.starts_at is not None and not job.failures:
        waits.append(f"{'until ' if waits else ''}{short_local_time(job.starts_at)}")
    if waits:
        code = ReasonCode.NEEDS if needs > 0 else ReasonCode.NOT_BEFORE
        return Reason(code=code, text=f"waiting for {' and '.join(waits)}")
    # after a failure the reason names the pause itself
    return job.state_reason if pause or job.lane_reason is None else job.lane_reason


def pause_reason(device: str, vram: int | None, now: float) -> Reason:
    """Return the reason of a paused running job.

    Args:
        device: "cpu", or the UUIDs of its GPUs, separated by commas.
        vram: bytes reserved on each GPU. None if they are an estimate or the whole GPU.
        now: seconds since 1970.
    """
    kept = reserved_text(device, vram)
    data: dict[str, Json] = {"vram": vram} if kept and vram is not None else {}
    text = f"paused since {short_local_time(int(now))}"
    return Reason(
        code=ReasonCode.PAUSED,
        text=f"{text}; {kept}" if kept else text,
        data={"since": now, **data},
    )


def reserved_text(device: str, vram: int | None) -> str:
    """Return the text on the GPU memory that stays reserved while a job is paused; '' on the CPU.

    Args:
        device: "cpu", or the UUIDs of its GPUs, separated by commas.
        vram: bytes reserved on each GPU. None if they are an estimate or the whole GPU.
    """
    if device == CPU:
        return ""
    number = device.count(",") + 1
    where = "its GPU" if number == 1 else f"each of its {number} GPUs"
    if vram is None:
        return f"its memory on {where} stays reserved"
    return f"{format_bytes(vram)} on {where} stays reserved"


def first_line(text: str) -> str:
    """Return a text's first line."""
    return text.partition("\n")[0]


def _dependency_text(number: int, dependency: UnmetDependency | None) -> str:
    if dependency is None:
        return pluralize(number, "more job")
    # a long name may be cut, and one of another run may be that of several jobs
    marked = dependency.is_in_other_run or len(dependency.name) > LONGEST_NEED
    name = _with_number(dependency.name, dependency.job) if marked else dependency.name
    return name + (f" and {pluralize(number - 1, 'more job')}" if number > 1 else "")


def _with_number(name: str, job: int) -> str:
    return f"{name} (job {job})"


def failure_hold_texts(jobs: Iterable[JobRow]) -> list[str]:
    """Return for each run which of these jobs are held because others failed, and how to release them."""
    held: dict[tuple[str, str], dict[int, str]] = {}
    for job in jobs:
        if job.is_held_by_failures:
            held.setdefault((job.run, job.reason), {})[job.id] = job.name
    return [
        sanitize_terminal(
            f"{pluralize(len(those), 'job')} {'is' if len(those) == 1 else 'are'} {reason}. "
            f"To continue: launcher release {words_for_jobs(run, those)}"
        )
        for (run, reason), those in held.items()
    ]


def format_job_names(
    jobs: Sequence[JobRow], most: int = 3, other_jobs: Iterable[JobRow] = ()
) -> str:
    """Return the names of the first `most` jobs, and the number of further ones.

    Args:
        jobs: Jobs.
        most: Number of names.
        other_jobs: Jobs that are named at the same time; a name that they share gets the job number.
    """
    times = Counter(job.name for job in (*jobs, *other_jobs))
    names = ", ".join(
        sanitize_terminal(job.name if times[job.name] == 1 else _with_number(job.name, job.id))
        for job in jobs[:most]
    )
    return names + (f" and {len(jobs) - most:,} more" if len(jobs) > most else "")


def list_first_texts(texts: Sequence[str], most: int) -> str:
    """Return the first `most` texts, and the number of further ones."""
    more = len(texts) - most
    return ", ".join(texts[:most]) + (f" and {more} more" if more > 0 else "")


def format_range(least: str, most: str) -> str:
    """Return a range as text; a single value if both ends are equal."""
    return least if least == most else f"{least} to {most}"


def tally(counts: Mapping[State, int]) -> str:
    """Return the number of jobs in each state as text."""
    parts = [f"{counts[state]} {state}" for state in ORDER if counts.get(state)]
    return " · ".join(parts) or "no jobs"


def iso_time(timestamp: float) -> str:
    """Return a time as ISO 8601 in UTC, to the second."""
    return _iso_second(math.floor(timestamp))


@lru_cache(maxsize=1024)  # jobs of a list often have the same second
def _iso_second(timestamp: int) -> str:
    return (
        datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    )


def iso_time_or_none(timestamp: float | None) -> str | None:
    """Return a time as `iso_time` does, or None."""
    return None if timestamp is None else iso_time(timestamp)


def format_time(timestamp: float, form: str) -> str:
    """Return a local time in a format of `strftime`."""
    return datetime.fromtimestamp(timestamp).astimezone().strftime(form)


def local_time(timestamp: float) -> str:
    """Return a local date and time to the second; `utc_offset` returns its time zone."""
    return format_time(timestamp, "%Y-%m-%d %H:%M:%S")


def utc_offset(timestamp: float) -> str:
    """Return the UTC offset of local time at a time: `UTC+01:00`."""
    text = format_time(timestamp, "%z")
    return f"UTC{text[:3]}:{text[3:5]}"


def common_zone(times: Iterable[float]) -> str:
    """Return the common UTC offset of times; '' if they differ, as in summer and winter."""
    zones = {utc_offset(at) for at in times}
    return zones.pop() if len(zones) == 1 else ""


def local_under(timestamp: float, head: str) -> str:
    """Return a local date and time for a table whose head names a UTC offset, with its own offset if different."""
    own = utc_offset(timestamp)
    return local_time(timestamp) if own == head else f"{local_time(timestamp)} {own}"


def short_local_time(timestamp: float) -> str:
    """Return a local date and time, with seconds only if they are not zero."""
    return local_time(timestamp).removesuffix(":00")


def time_of_day(timestamp: float) -> str:
    """Return the local time of day."""
    return format_time(timestamp, "%H:%M:%S")
