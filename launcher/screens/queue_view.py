"""A screen as lines: what `status`, its watch and `top` show, at any width."""

from collections.abc import Sequence

from launcher.errors import counted
from launcher.job import PROGRAM
from launcher.params import in_name
from launcher.screens.format import GLYPHS, PAUSED, clock, stamp
from launcher.screens.gpu_view import draw, gib
from launcher.screens.job_view import JobView, UsedMemory
from launcher.screens.pilots import HERE, draw_pilots
from launcher.screens.queue_head import DAY_S, head
from launcher.screens.snapshots import Screen
from launcher.screens.text_table import (
    Cell,
    Column,
    Line,
    Span,
    Table,
    Tone,
    line,
    shortened,
)
from launcher.states import OPEN, ReasonCode, State
from launcher.units import format_seconds

TONES = {
    State.RUNNING: Tone.OURS,
    State.DONE: Tone.GOOD,
    State.FAILED: Tone.BAD,
    State.CANCELLED: Tone.DIM,
    State.SKIPPED: Tone.WARN,
    State.QUEUED: Tone.PLAIN,
    State.HELD: Tone.WARN,
}
_MARK = 2  # characters before a name: its state's glyph and a blank
_WHY_ROWS = 3  # lines of a reason
_WHY_PART = 0.4  # of a screen's width; in narrower lines a reason is cut in its middle
ABOVE = "as above"  # instead of the reason of the line above


def screen_lines(screen: Screen, width: int) -> list[Line]:
    """Return the whole screen."""
    lines = head(screen, width)
    for section in sections(screen, width).values():
        lines += [line(""), *section]
    return lines


def sections(screen: Screen, width: int) -> dict[str, list[Line]]:
    """Return the parts of a screen below its head that have something to tell, by their names."""
    parts = {
        "found": matching_jobs(screen, width),
        "gpus": draw(screen.gpus, width, busy=screen.busy) if screen.gpus else [],
        "pilots": draw_pilots(screen.pilots, screen.at, width),
    }
    if screen.found is None:
        tables = {"running": running, "waiting": waiting, "recent": recent}
        parts |= {name: table(screen).drawn(width) for name, table in tables.items()}
    return {name: lines for name, lines in parts.items() if lines}


def running(screen: Screen) -> Table:
    """Return the running jobs: node where there are several, device, memory, progress, rate, elapsed and remaining time."""
    jobs, now = screen.running, screen.at
    here = HERE if any(job.node for job in jobs) else ""
    columns = (
        *_first_columns(screen, "running", jobs, 5),
        Column("NODE", least=6, drop=1, of=lambda job: job.node or Span(here, Tone.DIM)),
        Column("ON", of=lambda job: Span(job.devices, Tone.OURS if job.memory else Tone.PLAIN)),
        Column("GiB NOW/PEAK/REQUEST", drop=3, key="memory", of=lambda job: _memory(job.memory)),
        Column("STEP", least=16, key="progress", of=lambda job: Span(job.note, _tone_of_note(job))),
        Column("RATE", right=True, drop=4, of=_rate),
        Column("TIME", right=True, of=lambda job: format_seconds(max(0.0, now - job.since))),
        Column("LEFT", right=True, drop=2, of=lambda job: _left_of(job, now)),
    )
    return _of_jobs(columns, jobs)


def waiting(screen: Screen) -> Table:
    """Return the waiting jobs with their reasons; a reason of the line above is not repeated."""
    jobs = screen.waiting
    reasons = {job.id: why for job, why in zip(jobs, reasons_of(jobs), strict=True)}

    def why(job: JobView) -> Span:
        text = reasons[job.id]
        return Span(text, Tone.DIM if text == ABOVE else Tone.PLAIN)

    columns = (
        *_first_columns(screen, "waiting", jobs, 3),
        Column("PRIORITY", right=True, drop=2, of=lambda job: job.priority or ""),
        Column("WHY", least=28, fair=_WHY_PART, rows=_WHY_ROWS, of=why),
    )
    more = ""
    if screen.more:
        more = f"{counted(screen.more, 'more job')} {'waits' if screen.more == 1 else 'wait'}"
        more += " and are not sorted in" * ("waiting" in screen.orders)
    return _of_jobs(columns, jobs, more)


def recent(screen: Screen) -> Table:
    """Return the jobs that ended last, each with its result, or its failure and what follows."""
    jobs, now, left = screen.recent, screen.at, screen.ended_more

    def ended(job: JobView) -> Span:
        when = clock(job.since) if now - job.since < DAY_S else stamp(job.since, "%d %b")
        return Span(f"{GLYPHS[job.state]} {job.state} {when}", TONES[job.state])

    columns = (
        Column(f"RECENT{screen.order_of('recent')}", key="ended", of=ended),
        Column(least=24, middle=True, others=_names(screen), key="job", of=_called),
        _NUMBER,
        Column("TIME", right=True, drop=2, of=_took),
        Column("RESULT", least=24, fair=_WHY_PART, rows=_WHY_ROWS, of=_result),
    )
    more = ""
    if jobs and left > 0:
        more = f"{counted(left, 'more job')} {'has' if left == 1 else 'have'} ended"
    return _of_jobs(columns, jobs, more)


def matching_jobs(screen: Screen, width: int) -> list[Line]:
    """Return the jobs that were looked for."""
    if screen.found is None:
        return []
    if not screen.found:
        return [line(f"no job matches {screen.sought!r}", Tone.WARN).cut(width)]
    title = f"FOUND {shortened(screen.sought, 20)}" if screen.sought else ""
    title += screen.order_of("found")
    return jobs_listed(screen.found, screen.at, title=title).drawn(width)


def jobs_listed(jobs: Sequence[JobView], now: float, *, title: str = "") -> Table:
    """Return jobs of any state, each with its state in words.

    Args:
        jobs: what is listed.
        now: seconds since 1970.
        title: what stands above them.
    """
    rate = Column("RATE", right=True, drop=4, of=_rate)
    left = Column("LEFT", right=True, drop=3, of=lambda job: _left_of(job, now) if job.ends else "")
    columns = (
        Column(
            title,
            key="state",
            of=lambda job: Span(f"{_sign(job)} {job.state}", TONES[job.state]),
        ),
        Column(right=True, key="id", of=_number),
        Column(least=8, drop=1, key="run", of=lambda job: job.run),
        Column(least=24, middle=True, key="job", of=lambda job: Span(_called(job), Tone.STRONG)),
        Column(right=True, drop=2, key="since", of=lambda job: _when(job, now)),
        *((rate, left) if any(job.ends for job in jobs) else ()),
        Column(least=20, fair=_WHY_PART, key="why", of=lambda job: job.note),
    )
    return _of_jobs(columns, jobs)


def reasons_of(waiting: Sequence[JobView]) -> list[str]:
    """Return why each job waits, without what the line above repeats: what is free, or all of it."""
    reasons, above, situation = [], "", ""
    for job in waiting:
        note = _note(job)
        if note == above and len(note) > len(ABOVE):
            reasons.append(ABOVE)
        elif job.situation and job.situation == situation:
            joined = note.endswith(job.situation)
            need = note.removesuffix(job.situation) if joined else f"{job.need}; "
            reasons.append(f"{need}{ABOVE}")
        else:
            reasons.append(note)
        above, situation = note, job.situation
    return reasons


def _rate(job: JobView) -> str:
    return "" if job.step is None or job.step.rate is None else f"{job.step.rate:.3g}/s"


def _left_of(job: JobView, now: float) -> Cell:
    return Span("–", Tone.DIM) if job.ends is None else format_seconds(max(0.0, job.ends - now))


def _took(job: JobView) -> str:
    return "" if job.seconds is None else format_seconds(job.seconds)


def _tone_of_note(work: JobView) -> Tone:
    if work.code is ReasonCode.PAUSED:
        return Tone.WARN
    return Tone.PLAIN if work.step else Tone.DIM


def _memory(memory: UsedMemory | None) -> Cell:
    if memory is None:
        return ""
    asked = "alone" if memory.alone else "–"
    if memory.asked is not None:
        asked = gib(memory.asked)
    elif memory.estimate is not None:
        asked = f"~{gib(memory.estimate)}"
    numbers = f"{gib(memory.now)} / {gib(memory.peak)} / {asked}"
    return Line((Span(numbers), Span(" ▲" if memory.beyond else "", Tone.WARN)))


def _number(job: JobView) -> Span:
    return Span(str(job.id), Tone.DIM)


_NUMBER = Column("ID", right=True, drop=1, of=_number)


def _of_jobs(columns: Sequence[Column], jobs: Sequence[JobView], note: str = "") -> Table:
    notes = [line(f"{note}. List all jobs: launcher status --all", Tone.DIM)] if note else []
    return Table(columns, jobs, [job.id for job in jobs], notes)


def _first_columns(
    screen: Screen, listed: str, jobs: Sequence[JobView], drop: int
) -> Sequence[Column]:
    """Return what is told of a job in any state: name, number, and run where there are several."""
    several = len({job.run for job in jobs}) > 1

    def name(job: JobView) -> Span:
        return Span(f"{_sign(job)} {_called(job)}", TONES[job.state])

    title = f"{listed.upper()}{screen.order_of(listed)}"
    return (
        Column(title, least=24, middle=True, mark=_MARK, others=_names(screen), key="job", of=name),
        _NUMBER,
        Column(
            "RUN", least=8, drop=drop, of=lambda job: Span(job.run if several else "", Tone.DIM)
        ),
    )


def _sign(job: JobView) -> str:
    return PAUSED if job.code is ReasonCode.PAUSED else GLYPHS[job.state]


def _names(screen: Screen) -> tuple[str, ...]:
    """Return the names of all jobs on a screen."""
    listed = (*screen.running, *screen.waiting, *screen.recent)
    return tuple(dict.fromkeys(map(_called, listed)))


def _called(job: JobView) -> str:
    """Return a job's name, and where that does not tell them, what is its own in its run, and what it runs."""
    tells = job.told or in_name(job.name)
    # a person may type the name of a program without its kind, too
    name = job.name.removeprefix(f"{PROGRAM}/") if tells else job.name
    return " ".join(filter(None, (name, job.told, job.program)))


def _result(ended: JobView) -> Cell:
    """Return what came out, or why it failed and what to do next.

    Of an exception its class and the beginning of its message stay, however little room there is.
    """
    if ended.state is not State.FAILED:
        return ended.note
    then = "(queued again)" if ended.again else f"→ launcher logs {ended.id}"
    if ended.short:
        return Line((Span(f"{ended.short} ", Tone.BAD), Span(then, Tone.BAD)))
    text = ended.note if ended.again and ended.requeued else f"{ended.note} {then}"
    return Span(text, Tone.BAD)


def _note(job: JobView) -> str:
    """Return why a job waits; of a held one always that it is held."""
    held = job.state is State.HELD and job.code not in {ReasonCode.HELD, ReasonCode.COPIED}
    return f"held by its owner ({job.note})" if held else job.note


def _when(job: JobView, now: float) -> str:
    """Return how long a job runs, or when it ended; nothing for one that waits."""
    if job.state is State.RUNNING:
        return format_seconds(max(0.0, now - job.since))
    if job.state in OPEN:
        return ""
    return clock(job.since) if now - job.since < DAY_S else stamp(job.since, "%Y-%m-%d")
