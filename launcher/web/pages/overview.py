"""The first page: the GPUs, what runs, what waits and why, what ended; and rows that several templates show alike."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from markupsafe import Markup

from launcher.errors import counted
from launcher.screens.format import JobLine
from launcher.screens.gpu_view import Gauge, notes
from launcher.screens.host import host_line
from launcher.screens.pilots import draw_pilots
from launcher.screens.queue_view import briefly
from launcher.screens.screen import Screen
from launcher.states import ENDED
from launcher.units import format_bytes
from launcher.web.charts import spark, stacked_bar
from launcher.web.pages.page import Address, Content, Page, View


class GpuRow(NamedTuple):
    """A GPU as a card."""

    gauge: Gauge
    bar: Markup
    spark: Markup
    notes: Sequence[tuple[str, str]]  # text and tone


class ProgressRow(NamedTuple):
    """How far a run is."""

    name: str
    done: int
    total: int
    until: float | None  # when it will be done, in seconds since 1970; None: unknown


def memory_bar(gauge: Gauge) -> Markup:
    """Return a GPU's memory as a bar: ours, others', promised; striped where its use is unknown."""
    gpu = gauge.gpu
    if gpu.used is None or not gpu.total:
        return stacked_bar((("unknown", 1.0),), "how much memory is in use is unknown")
    ours = min(gauge.ours or 0, gpu.used)
    promised = gauge.outstanding + sum(promise.amount for promise in gauge.foreign)
    amounts = (("ours", ours), ("others", gpu.used - ours), ("promised", promised))
    note = ", ".join(f"{format_bytes(amount)} {word}" for word, amount in amounts if amount)
    shares = tuple((word, amount / gpu.total) for word, amount in amounts)
    return stacked_bar(shares, f"{note or 'nothing'} of {format_bytes(gpu.total)}")


WAITING = 40
HOST_COLUMNS = 120  # in which all of the line has room: a browser breaks it
PILOT_COLUMNS = 96  # of the table of pilots, whose lines are drawn as for a terminal


def fill(view: View, address: Address) -> Content:  # noqa: ARG001  # as every page
    """Return what the queue is at."""
    screen = view.queue.look(waiting=WAITING, sought="")
    running = tuple(work.line.id for work in screen.running)
    return Content(
        title=_title(screen),
        values={
            "screen": screen,
            "gpus": list(_gpus(screen)),
            "host": host_line(screen.host, HOST_COLUMNS).spans if screen.host else (),
            "runs": list(_runs(screen)),
            "pilots": draw_pilots(screen.pilots, screen.at, PILOT_COLUMNS),
            "waiting": _waiting(screen),
            "ended_more": _ended_more(screen),
            "several": len({work.line.run for work in screen.running}) > 1,
            "several_wait": len({line.run for line in screen.waiting}) > 1,
            "priorities": any(line.priority for line in screen.waiting),
            "nodes": any(work.node for work in screen.running),
        },
        files=tuple(
            view.home.attempt(job.id, job.attempts).progress
            for job in (view.store.read.jobs_by_id(running) if running else ())
        ),
    )


def _title(screen: Screen) -> str:
    works = len(screen.running)
    return f"{works} running" if works else "queue"


def _gpus(screen: Screen) -> Iterator[GpuRow]:
    for gauge in screen.gpus:
        yield GpuRow(
            gauge=gauge,
            bar=memory_bar(gauge),
            spark=spark(screen.busy.get(gauge.gpu.uuid, ())),
            notes=tuple((text, str(tone)) for text, tone in notes(gauge)),
        )


def _waiting(screen: Screen) -> list[tuple[JobLine, str]]:
    """Return the waiting jobs with their reasons, without what the line above tells already."""
    lines = screen.waiting
    return [
        (line, briefly(line, above)) for line, above in zip(lines, (None, *lines), strict=False)
    ]


def _runs(screen: Screen) -> Iterator[ProgressRow]:
    """Give the progress of each run with open jobs."""
    for name, (ended, every) in screen.active.items():
        left_s = screen.runs_left.get(name, screen.left_s if len(screen.active) == 1 else None)
        until = None if left_s is None else screen.at + left_s
        yield ProgressRow(name=name, done=ended, total=every, until=until)


def _ended_more(screen: Screen) -> str:
    """Return how many jobs have ended that are not listed; '' where there are none."""
    listed = len({ended.line.id for ended in screen.recent if ended.line.state in ENDED})
    left = sum(screen.counts.get(state, 0) for state in ENDED) - listed
    return counted(left, "more job") if left > 0 else ""


PAGE = Page(name="overview", path="", fill=fill, menu="Queue")
