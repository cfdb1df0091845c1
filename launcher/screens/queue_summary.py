"""The lines above a queue's jobs: the scheduler, the progress of runs, how many jobs are in each state, the machine."""

from datetime import datetime

from launcher.screens.format import ORDER
from launcher.screens.host.host_line import host_line
from launcher.screens.screen import Screen
from launcher.screens.text_table import (
    GAP,
    Line,
    Span,
    Tone,
    line,
    shortened,
    width_of,
)
from launcher.states import State
from launcher.units import format_seconds

DAY_S = 86_400.0
MOST_S = 300 * DAY_S  # a date without its year tells no more
BAR = 30  # columns of a run's progress at most
RUNS = 3  # whose progress is named


def head(screen: Screen, width: int) -> list[Line]:
    """Return the home, the scheduler, warnings, progress, the number of jobs by state, the machine, and groups."""
    moment = datetime.fromtimestamp(screen.at).astimezone().strftime("%a %d %b %H:%M:%S")
    begin, loop = "launcher  ", f"  {_loop(screen)}"
    room = width - len(begin) - len(loop) - len(moment) - GAP
    home = shortened(screen.home, max(room, 8), middle=True)
    gap = " " * max(GAP, room - width_of(home) + GAP)
    spans = (Span(begin, Tone.STRONG), Span(home), Span(loop), Span(gap), Span(moment, Tone.DIM))
    lines = [Line(spans)]
    lines += [line(f"warning: {warning}", Tone.WARN) for warning in screen.warnings]
    lines += progress(screen, width)
    lines.append(_tally(screen))
    if screen.host is not None:
        lines.append(host_line(screen.host, width))
    if screen.groups:
        limits = (f"{group.name} {group.running} of {group.limit}" for group in screen.groups)
        lines.append(line("groups: " + " · ".join(limits)))
    return [row.cut(width) for row in lines]


def _loop(screen: Screen) -> str:
    """Return the state of the scheduler, in words."""
    scheduler = screen.scheduler
    if scheduler.pid is None:
        return f"scheduler {scheduler.state}"
    up = f", up {format_seconds(max(0.0, screen.at - scheduler.since))}" if scheduler.since else ""
    stopping = ", stopping" if scheduler.state == "stopping" else ""
    return f"scheduler pid {scheduler.pid}{up}{stopping}"


def _tally(screen: Screen) -> Line:
    """Return how many jobs are in each state; the failed ones stand out."""
    spans = []
    for state in (state for state in ORDER if screen.counts.get(state)):
        text = f"{screen.counts[state]:,} {state}"
        spans += [Span(" · "), Span(text, Tone.BAD if state is State.FAILED else Tone.PLAIN)]
    return Line(tuple(spans[1:])) if spans else line("no jobs")


def progress(screen: Screen, width: int) -> list[Line]:
    """Return the progress of the runs with open jobs, and when they will be done at this pace."""
    if not screen.active:
        left = _left(screen.left_s, screen.at)
        return [line(left)] if left else []
    ended = sum(done for done, _ in screen.active.values())
    every = sum(total for _, total in screen.active.values())
    size = min(BAR, width // 4)
    filled = size * ended // max(1, every)
    spans = [
        Span("█" * filled, Tone.GOOD),
        Span("░" * (size - filled), Tone.DIM),
        Span(f" {ended:,} of {every:,}", Tone.STRONG),
    ]
    names = [*screen.active]
    if len(names) == 1:
        # a run's own: what else is queued or runs does not take it away
        left = _left(screen.runs_left.get(names[0], screen.left_s), screen.at)
        spans += [Span(f"  {left}")] if left else []
        return [Line((*spans, Span(f"  {names[0]}", Tone.DIM)))]
    left = _left(screen.left_s, screen.at)
    spans += [Span(f"  {left}")] if left else []
    text = ", ".join(_with_left(screen, name) for name in names[:RUNS])
    text += f" and {len(names) - RUNS} more" if names[RUNS:] else ""
    return [Line((*spans, Span(f"  {text}", Tone.DIM)))]


def _with_left(screen: Screen, run: str) -> str:
    """Return a run's name, and how long it still takes where that is known."""
    left_s = screen.runs_left.get(run)
    return run if left_s is None else f"{run} (about {format_seconds(left_s)})"


def _left(left_s: float | None, now: float) -> str:
    """Return the time until all is done, and when that is; '' if it is unknown."""
    if left_s is None:
        return ""
    text = f"about {format_seconds(left_s)} left"
    if left_s > MOST_S:
        return text
    end = datetime.fromtimestamp(now + left_s).astimezone()
    return f"{text} ({end.strftime('%H:%M' if left_s < DAY_S else '%a %d %b %H:%M')})"
