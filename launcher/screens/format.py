"""What the screens show, as plain values: every screen says the same because it starts here."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from launcher.context import entry_variables, start_folder
from launcher.errors import pluralize
from launcher.job import CPU
from launcher.states import Reason, ReasonCode, State
from launcher.store.job_queries import UnmetDependency
from launcher.store.rows import JobRow
from launcher.system.files import Json
from launcher.system.stored_fields import Unreadable
from launcher.system.text import sanitize_terminal, shell_line
from launcher.units import format_bytes

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
    """Return what a job runs, as one line that a shell reads.

    Args:
        job: as the queue knows it.
        folder: in which it was queued.
    """
    variables = [f"{name}={text}" for name, text in variables_of(job).items()]
    words = (*(["env"] if variables else []), *variables, *job.spec.argv)
    return f"cd {shell_line([folder_of(job, folder)])} && {shell_line(words)}"


def folder_of(job: JobRow, folder: str) -> str:
    """Return the folder in which a job begins; where it was queued if its own cannot be understood."""
    try:
        return start_folder(job.spec, folder)
    except Unreadable:
        return folder


def variables_of(job: JobRow) -> Mapping[str, str]:
    """Return the variables that a program's entry sets; none where they cannot be understood."""
    try:
        return entry_variables(job.spec)
    except Unreadable:
        return {}


def why(job: JobRow, need: UnmetDependency | None = None) -> str:
    """Return in one line why a job is in its state, and what a waiting one waits for."""
    return first_line(reason_to_show(job, need).text)


def reason_to_show(job: JobRow, need: UnmetDependency | None = None) -> Reason:
    """Return why a job is in its state, and what a waiting one waits for.

    Args:
        job: as the queue knows it.
        need: the first of the jobs that must still be done before it, where it is known.
    """
    if job.state is not State.QUEUED:
        return job.state_reason
    pause = job.starts_at is not None
    needs = job.waits - pause  # the store counts a time to wait for as one of them
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


def pause_reason(device: str, reservation: int | None, now: float) -> Reason:
    """Return what is said of a running job while it is paused.

    Args:
        device: where it runs: "cpu", or the UUIDs of its GPUs with commas between.
        reservation: bytes that are promised to it on each of them; None: an estimate, or all of it.
        now: seconds since 1970.
    """
    kept = reserved_text(device, reservation)
    vram: dict[str, Json] = {"vram": reservation} if kept and reservation is not None else {}
    text = f"paused since {short_local_time(int(now))}"
    return Reason(
        code=ReasonCode.PAUSED,
        text=f"{text}; {kept}" if kept else text,
        data={"since": now, **vram},
    )


def reserved_text(device: str, reservation: int | None) -> str:
    """Return what of GPUs stays reserved for a running job while it is paused; '' on the CPU.

    Args:
        device: where it runs: "cpu", or the UUIDs of its GPUs with commas between.
        reservation: bytes that are promised to it on each of them; None: an estimate, or all of it.
    """
    if device == CPU:
        return ""
    number = device.count(",") + 1
    where = "its GPU" if number == 1 else f"each of its {number} GPUs"
    if reservation is None:
        return f"its memory on {where} stays reserved"
    return f"{format_bytes(reservation)} on {where} stays reserved"


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


def format_job_names(jobs: Sequence[JobRow], most: int = 3) -> str:
    """Return the names of the first few jobs, each once, and how many more there are."""
    times = Counter(job.name for job in jobs)
    names = ", ".join(
        sanitize_terminal(job.name if times[job.name] == 1 else _with_number(job.name, job.id))
        for job in jobs[:most]
    )
    return names + (f" and {len(jobs) - most:,} more" if len(jobs) > most else "")


def first_few(texts: Sequence[str], most: int) -> str:
    """Return the first few texts, and how many more there are."""
    more = len(texts) - most
    return ", ".join(texts[:most]) + (f" and {more} more" if more > 0 else "")


def format_range(least: str, most: str) -> str:
    """Return from what to what something is; one text where both are the same."""
    return least if least == most else f"{least} to {most}"


def tally(counts: Mapping[State, int]) -> str:
    """Return how many jobs are in each state, in words."""
    parts = [f"{counts[state]} {state}" for state in ORDER if counts.get(state)]
    return " · ".join(parts) or "no jobs"


def iso_time(at: float) -> str:
    """Return a time as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def iso_time_or_none(at: float | None) -> str | None:
    """Return a time as `iso_time` does, None where there is none."""
    return None if at is None else iso_time(at)


def format_time(at: float, form: str) -> str:
    """Return a local time in a form of `strftime`."""
    return datetime.fromtimestamp(at).astimezone().strftime(form)


def local_time(at: float) -> str:
    """Return a local date and time to the second; `utc_offset` says which that is."""
    return format_time(at, "%Y-%m-%d %H:%M:%S")


def utc_offset(at: float) -> str:
    """Return by how much local time differs from UTC at a time: `UTC+01:00`."""
    text = format_time(at, "%z")
    return f"UTC{text[:3]}:{text[3:5]}"


def common_zone(times: Iterable[float]) -> str:
    """Return the zone that local times share; '' if they lie in several, as in summer and winter."""
    zones = {utc_offset(at) for at in times}
    return zones.pop() if len(zones) == 1 else ""


def local_under(at: float, head: str) -> str:
    """Return a local date and time below a head that names a zone, with its own zone if that is another one."""
    own = utc_offset(at)
    return local_time(at) if own == head else f"{local_time(at)} {own}"


def short_local_time(at: float) -> str:
    """Return a local date and time, the seconds only where there are some."""
    return local_time(at).removesuffix(":00")


def time_of_day(at: float) -> str:
    """Return the local time of day."""
    return format_time(at, "%H:%M:%S")
