"""A snapshot as lines for `status`, its watch and `top`, at any width."""

from collections.abc import Sequence

from launcher.frontends.screens.gpu_view import draw, gib
from launcher.frontends.screens.job_view import GpuMemoryUsage, JobView
from launcher.frontends.screens.pilot_table import LOCAL, draw_pilots
from launcher.frontends.screens.queue_head import DAY_S, head
from launcher.frontends.screens.search_view import search_table
from launcher.frontends.screens.snapshots import QueueSnapshot
from launcher.queue.jobs.job import PROGRAM
from launcher.queue.jobs.params import params_in_job_name
from launcher.queue.jobs.states import OPEN_STATES, ReasonCode, State
from launcher.queue.texts import GLYPHS, PAUSED, format_time, time_of_day
from launcher.system.errors import pluralize
from launcher.system.text_table import (
    Cell,
    Column,
    TextLine,
    TextSpan,
    TextStyle,
    TextTable,
    line,
    shorten,
)
from launcher.system.units import format_seconds

TONES = {
    State.RUNNING: TextStyle.OURS,
    State.DONE: TextStyle.GOOD,
    State.FAILED: TextStyle.BAD,
    State.CANCELLED: TextStyle.DIM,
    State.SKIPPED: TextStyle.WARN,
    State.QUEUED: TextStyle.PLAIN,
    State.HELD: TextStyle.WARN,
}
_MARK = 2  # characters before a name: the glyph of the state and a space
_WHY_ROWS = 3  # lines of a reason
_WHY_PART = 0.4  # part of a screen's width; in narrower lines a reason is cut in its middle
_CODE_LINES = 3  # about changed code, below a table
ABOVE = "as above"  # replaces a reason that equals that of the line above


def snapshot_lines(screen: QueueSnapshot, width: int) -> list[TextLine]:
    """Return the whole screen."""
    lines = head(screen, width)
    for section in sections(screen, width).values():
        lines += [line(""), *section]
    return lines


def sections(screen: QueueSnapshot, width: int) -> dict[str, list[TextLine]]:
    """Return the non-empty sections of a snapshot: name → lines."""
    parts = {
        "found": matching_jobs(screen, width),
        "gpus": draw(screen.gpus, width, busy=screen.busy) if screen.gpus else [],
        "pilots": draw_pilots(screen.pilots, screen.at, width),
        "searches": search_table(screen.searches, screen.unlisted_searches).to_lines(width)
        if screen.searches or screen.unlisted_searches
        else [],
    }
    if screen.found is None:
        tables = {"running": running_table, "waiting": waiting_table, "recent": recent_table}
        parts |= {name: table(screen).to_lines(width) for name, table in tables.items()}
    return {name: lines for name, lines in parts.items() if lines}


def running_table(screen: QueueSnapshot) -> TextTable:
    """Return the running jobs with device, memory, progress, rate, times, and the node if there are several."""
    jobs, now = screen.running, screen.at
    here = LOCAL if any(job.node for job in jobs) else ""
    columns = (
        *_first_columns(screen, "running", jobs, 5),
        Column(
            "NODE", least=6, drop=1, cell_of=lambda job: job.node or TextSpan(here, TextStyle.DIM)
        ),
        Column(
            "ON",
            drop=1,
            cell_of=lambda job: TextSpan(
                job.devices, TextStyle.OURS if job.memory else TextStyle.PLAIN
            ),
        ),
        Column(
            "GiB NOW/PEAK/REQUEST", drop=3, key="memory", cell_of=lambda job: _memory(job.memory)
        ),
        Column(
            "STEP",
            least=16,
            key="progress",
            cell_of=lambda job: TextSpan(job.reason, _reason_style(job)),
        ),
        Column("RATE", right=True, drop=4, cell_of=_rate),
        Column("TIME", right=True, cell_of=lambda job: format_seconds(max(0.0, now - job.since))),
        Column("LEFT", right=True, drop=2, cell_of=lambda job: _remaining_cell(job, now)),
    )
    return _table_of_jobs(columns, jobs)


def waiting_table(screen: QueueSnapshot) -> TextTable:
    """Return the waiting jobs with their reasons; a reason of the line above is not repeated."""
    jobs = screen.waiting
    reasons = {job.id: why for job, why in zip(jobs, shorten_reasons(jobs), strict=True)}

    def why(job: JobView) -> TextSpan:
        text = reasons[job.id]
        return TextSpan(text, TextStyle.DIM if text == ABOVE else TextStyle.PLAIN)

    columns = (
        *_first_columns(screen, "waiting", jobs, 3),
        Column("PRIORITY", right=True, drop=2, cell_of=lambda job: job.priority or ""),
        Column("WHY", least=28, fair=_WHY_PART, rows=_WHY_ROWS, cell_of=why),
    )
    more = ""
    if screen.more:
        more = f"{pluralize(screen.more, 'more job')} {'waits' if screen.more == 1 else 'wait'}"
        more += " and are not sorted in" * ("waiting" in screen.orders)
    return _table_of_jobs(columns, jobs, more)


def recent_table(screen: QueueSnapshot) -> TextTable:
    """Return the most recently ended jobs, each with its result, or its failure and the next action."""
    jobs, now, left = screen.recent, screen.at, screen.ended_more

    def describe_end(job: JobView) -> TextSpan:
        when = (
            time_of_day(job.since) if now - job.since < DAY_S else format_time(job.since, "%d %b")
        )
        return TextSpan(f"{GLYPHS[job.state]} {job.state} {when}", TONES[job.state])

    columns = (
        Column(f"RECENT{screen.order_of('recent')}", key="ended", cell_of=describe_end),
        Column(least=24, middle=True, others=_names(screen), key="job", cell_of=_display_name),
        _NUMBER,
        Column("TIME", right=True, drop=2, cell_of=_duration_text),
        Column("RESULT", least=24, fair=_WHY_PART, rows=_WHY_ROWS, cell_of=_result),
    )
    more = ""
    if jobs and left > 0:
        more = f"{pluralize(left, 'more job')} {'has' if left == 1 else 'have'} ended"
    return _table_of_jobs(columns, jobs, more)


def matching_jobs(screen: QueueSnapshot, width: int) -> list[TextLine]:
    """Return the jobs found by a search."""
    if screen.found is None:
        return []
    if not screen.found:
        return [line(f"no job matches {screen.search_text!r}", TextStyle.WARN).truncate(width)]
    title = f"FOUND {shorten(screen.search_text, 20)}" if screen.search_text else ""
    title += screen.order_of("found")
    return job_table(screen.found, screen.at, title=title).to_lines(width)


def job_table(jobs: Sequence[JobView], now: float, *, title: str = "") -> TextTable:
    """Return jobs of any state, each with its state in words.

    Args:
        jobs: jobs to list.
        now: seconds since 1970.
        title: title above the table.
    """
    rate = Column("RATE", right=True, drop=4, cell_of=_rate)
    left = Column(
        "LEFT",
        right=True,
        drop=3,
        cell_of=lambda job: _remaining_cell(job, now) if job.ends else "",
    )
    columns = (
        Column(
            title,
            key="state",
            cell_of=lambda job: TextSpan(f"{_sign(job)} {job.state}", TONES[job.state]),
        ),
        Column(right=True, key="id", cell_of=_number),
        Column(least=8, drop=1, key="run", cell_of=lambda job: job.run),
        Column(
            least=24,
            middle=True,
            key="job",
            cell_of=lambda job: TextSpan(_display_name(job), TextStyle.STRONG),
        ),
        Column(right=True, drop=2, key="since", cell_of=lambda job: _format_age(job, now)),
        *((rate, left) if any(job.ends for job in jobs) else ()),
        Column(least=20, fair=_WHY_PART, key="why", cell_of=lambda job: job.reason),
    )
    return _table_of_jobs(columns, jobs)


def shorten_reasons(waiting_jobs: Sequence[JobView]) -> list[str]:
    """Return why each job waits, without the part that equals the line above."""
    reasons, above, situation = [], "", ""
    for job in waiting_jobs:
        reason = _reason_text(job)
        if reason == above and len(reason) > len(ABOVE):
            reasons.append(ABOVE)
        elif job.situation and job.situation == situation:
            joined = reason.endswith(job.situation)
            need = reason.removesuffix(job.situation) if joined else f"{job.need}; "
            reasons.append(f"{need}{ABOVE}")
        else:
            reasons.append(reason)
        above, situation = reason, job.situation
    return reasons


def _rate(job: JobView) -> str:
    return "" if job.step is None or job.step.rate is None else f"{job.step.rate:.3g}/s"


def _remaining_cell(job: JobView, now: float) -> Cell:
    return (
        TextSpan("–", TextStyle.DIM)
        if job.ends is None
        else format_seconds(max(1.0, job.ends - now))
    )


def _duration_text(job: JobView) -> str:
    return "" if job.seconds is None else format_seconds(job.seconds)


def _reason_style(work: JobView) -> TextStyle:
    if work.code is ReasonCode.PAUSED:
        return TextStyle.WARN
    return TextStyle.PLAIN if work.step else TextStyle.DIM


def _memory(memory: GpuMemoryUsage | None) -> Cell:
    if memory is None:
        return ""
    asked = "alone" if memory.exclusive else "–"
    if memory.requested is not None:
        asked = gib(memory.requested)
    elif memory.estimate is not None:
        asked = f"~{gib(memory.estimate)}"
    numbers = f"{gib(memory.now)} / {gib(memory.peak)} / {asked}"
    return TextLine(
        (TextSpan(numbers), TextSpan(" ▲" if memory.exceeds_request else "", TextStyle.WARN))
    )


def _number(job: JobView) -> TextSpan:
    return TextSpan(str(job.id), TextStyle.DIM)


_NUMBER = Column("ID", right=True, drop=1, cell_of=_number)


def _is_named_by_params(job: JobView) -> bool:
    """Return whether the parameters of a job stand for its name, which is only its number."""
    return bool(job.params_text) and job.name == f"{PROGRAM}/{job.id}"


def _table_of_jobs(
    columns: Sequence[Column], jobs: Sequence[JobView], summary: str = ""
) -> TextTable:
    lines = (
        [line(f"{summary}. List all jobs: launcher status --all", TextStyle.DIM)] if summary else []
    )
    lines += [line(text, TextStyle.WARN) for text in _code_lines(jobs)]
    return TextTable(columns, jobs, [job.id for job in jobs], lines)


def _code_lines(jobs: Sequence[JobView]) -> list[str]:
    """Return lines about jobs whose code was changed after they were queued."""
    by_change: dict[str, list[int]] = {}
    for job in jobs:
        if job.code_note and job.id not in by_change.setdefault(job.code_note, []):
            by_change[job.code_note].append(job.id)
    lines = []
    for change, numbers in [*by_change.items()][:_CODE_LINES]:
        more = f" (and {len(numbers) - 1:,} more)" if len(numbers) > 1 else ""
        lines.append(f"job {numbers[0]}{more}: {change}")
    return lines


def _first_columns(
    screen: QueueSnapshot, state: str, jobs: Sequence[JobView], drop: int
) -> Sequence[Column]:
    """Return the common columns of jobs: name, number, and the run if there are several."""
    several = len({job.run for job in jobs}) > 1

    def name(job: JobView) -> TextSpan:
        return TextSpan(f"{_sign(job)} {_display_name(job)}", TONES[job.state])

    title = f"{state.upper()}{screen.order_of(state)}"
    return (
        Column(
            title, least=24, middle=True, mark=_MARK, others=_names(screen), key="job", cell_of=name
        ),
        _NUMBER._replace(drop=0 if any(map(_is_named_by_params, jobs)) else 1),
        Column(
            "RUN",
            least=8,
            drop=drop,
            cell_of=lambda job: TextSpan(job.run if several else "", TextStyle.DIM),
        ),
    )


def _sign(job: JobView) -> str:
    return PAUSED if job.code is ReasonCode.PAUSED else GLYPHS[job.state]


def _names(screen: QueueSnapshot) -> tuple[str, ...]:
    """Return the names of all jobs of a snapshot."""
    listed = (*screen.running, *screen.waiting, *screen.recent)
    return tuple(dict.fromkeys(map(_display_name, listed)))


def _display_name(job: JobView) -> str:
    """Return a job's name, with its differing parameters and its command if the name does not contain them."""
    tells = job.params_text or params_in_job_name(job.name)
    # the name of a program can also be given without its kind
    name = job.name.removeprefix(f"{PROGRAM}/") if tells else job.name
    name = "" if _is_named_by_params(job) else name
    return " ".join(filter(None, (name, job.params_text, job.program)))


def _result(job: JobView) -> Cell:
    """Return the result of a job, or its failure and the next command.

    The class of an exception and the beginning of its message are kept at any width.
    """
    if job.state is not State.FAILED:
        return job.reason
    then = "(queued again)" if job.is_open_again else f"→ launcher logs {job.id}"
    if job.short:
        return TextLine((TextSpan(f"{job.short} ", TextStyle.BAD), TextSpan(then, TextStyle.BAD)))
    text = job.reason if job.is_open_again and job.requeued else f"{job.reason} {then}"
    return TextSpan(text, TextStyle.BAD)


def _reason_text(job: JobView) -> str:
    """Return why a job waits; for a held job, always that it is held."""
    explained = {ReasonCode.HELD, ReasonCode.COPIED, ReasonCode.FAILURE_LIMIT}
    held = job.state is State.HELD and job.code not in explained
    return f"held by its owner ({job.reason})" if held else job.reason


def _format_age(job: JobView, now: float) -> str:
    """Return how long a job has run, or when it ended; '' for a waiting job."""
    if job.state is State.RUNNING:
        return format_seconds(max(0.0, now - job.since))
    if job.state in OPEN_STATES:
        return ""
    return time_of_day(job.since) if now - job.since < DAY_S else format_time(job.since, "%Y-%m-%d")
