"""The head of a screen: home, scheduler, progress of runs, number of jobs by state, machine."""

from launcher.frontends.screens.host import host_line
from launcher.frontends.screens.snapshots import QueueSnapshot
from launcher.queue.jobs.states import State
from launcher.queue.texts import ORDER, format_time, list_first_texts
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import (
    GAP,
    TextLine,
    TextSpan,
    TextStyle,
    join_spans,
    line,
    shorten,
    width_of,
)
from launcher.system.units import format_seconds

DAY_S = 86_400.0
MOST_S = 300 * DAY_S  # longest span for which a date without its year is clear
BAR = 30  # columns of a run's progress at most
RUNS = 3  # number of runs whose progress is shown


def head(screen: QueueSnapshot, width: int) -> list[TextLine]:
    """Return the home, the scheduler, warnings, progress, the number of jobs by state, the machine, and groups."""
    moment = format_time(screen.at, "%a %d %b %H:%M:%S")
    begin, loop = "launcher  ", f"  {_scheduler_text(screen)}"
    room = width - len(begin) - len(loop) - len(moment) - GAP
    home = shorten(screen.home, max(room, 8), middle=True)
    gap = " " * max(GAP, room - width_of(home) + GAP)
    spans = (
        TextSpan(begin, TextStyle.STRONG),
        TextSpan(home),
        TextSpan(loop),
        TextSpan(gap),
        TextSpan(moment, TextStyle.DIM),
    )
    lines = [TextLine(spans)]
    lines += [line(f"warning: {warning}", TextStyle.WARN) for warning in screen.warnings]
    lines += progress(screen, width)
    lines.append(_tally(screen))
    if screen.host is not None:
        lines.append(host_line(screen.host, width))
    if screen.groups:
        limits = (
            f"{group.name} {group.running} of {group.limit}{' (paused)' if group.paused else ''}"
            for group in screen.groups
        )
        lines.append(line(sanitize_terminal(f"groups: {' · '.join(limits)}")))
    return [row.truncate(width) for row in lines]


def _scheduler_text(screen: QueueSnapshot) -> str:
    """Return the state of the scheduler, in words."""
    scheduler = screen.scheduler
    if scheduler.pid is None:
        return f"scheduler {scheduler.state}"
    up = f", up {format_seconds(max(0.0, screen.at - scheduler.since))}" if scheduler.since else ""
    stopping = ", stopping" if scheduler.state == "stopping" else ""
    return f"scheduler pid {scheduler.pid}{up}{stopping}"


def _tally(screen: QueueSnapshot) -> TextLine:
    """Return how many jobs are in each state; the failed ones stand out."""
    parts = [
        TextSpan(f"{number:,} {state}", TextStyle.BAD if state is State.FAILED else TextStyle.PLAIN)
        for state in ORDER
        if (number := screen.counts.get(state))
    ]
    return join_spans(parts) if parts else line("no jobs")


def progress(screen: QueueSnapshot, width: int) -> list[TextLine]:
    """Return the progress of the runs with open jobs, and when they will be done at this pace."""
    left_s, names = screen.remaining_s, [*screen.active]
    if len(names) == 1:
        # a run's own: what else is queued or runs does not take it away
        left_s, text = screen.remaining_of(names[0]), names[0]
    else:
        text = list_first_texts([_name_with_remaining(screen, name) for name in names], RUNS)
    left = _remaining_text(left_s, screen.at)
    if not names:
        return [line(left)] if left else []
    ended = sum(done for done, _ in screen.active.values())
    every = sum(total for _, total in screen.active.values())
    size = min(BAR, width // 4)
    filled = size * ended // max(1, every)
    spans = (
        TextSpan("█" * filled, TextStyle.GOOD),
        TextSpan("░" * (size - filled), TextStyle.DIM),
        TextSpan(f" {ended:,} of {every:,}", TextStyle.STRONG),
        TextSpan(f"  {left}" if left else ""),
        TextSpan(f"  {text}", TextStyle.DIM),
    )
    return [TextLine(spans)]


def _name_with_remaining(screen: QueueSnapshot, run: str) -> str:
    """Return a run's name, and how long it still takes if that is known."""
    left_s = screen.remaining_of(run)
    return run if left_s is None else f"{run} (about {format_seconds(left_s)})"


def _remaining_text(left_s: float | None, now: float) -> str:
    """Return the time until all is done, and when that is; '' if it is unknown."""
    if left_s is None:
        return ""
    text = f"about {format_seconds(left_s)} left"
    if left_s > MOST_S:
        return text
    form = "%H:%M" if left_s < DAY_S else "%a %d %b %H:%M"
    return f"{text} ({format_time(now + left_s, form)})"
