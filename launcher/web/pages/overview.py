"""The first page: the GPUs, what runs, what waits and why, what ended; and rows that several templates show alike."""

from collections.abc import Iterator

from markupsafe import Markup

from launcher.errors import counted
from launcher.screens.gpu_view import Gauge, notes
from launcher.screens.host import host_line
from launcher.screens.pilots import draw_pilots
from launcher.screens.queue_view import briefly
from launcher.screens.screen import Screen
from launcher.units import format_bytes
from launcher.web.charts import spark, stacked_bar
from launcher.web.pages.page import Address, Content, View


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
    running = [work.id for work in screen.running]
    left = screen.ended_more
    lines = screen.waiting
    return Content(
        title=f"{len(running)} running" if running else "queue",
        values={
            "screen": screen,
            "memory_bar": memory_bar,
            "spark": spark,
            "notes": notes,
            "host": host_line(screen.host, HOST_COLUMNS).spans if screen.host else (),
            "runs": list(_runs(screen)),
            "pilots": draw_pilots(screen.pilots, screen.at, PILOT_COLUMNS),
            # their reasons without what the line above tells already
            "waiting": [
                (line, briefly(line, above))
                for line, above in zip(lines, (None, *lines), strict=False)
            ],
            "ended_more": counted(left, "more job") if left > 0 else "",
            "several": len({work.run for work in screen.running}) > 1,
            "several_wait": len({line.run for line in screen.waiting}) > 1,
            "priorities": any(line.priority for line in screen.waiting),
            "nodes": any(work.node for work in screen.running),
        },
        files=view.progress_of(view.store.read.jobs_by_id(running) if running else ()),
    )


def _runs(screen: Screen) -> Iterator[tuple[str, int, int, float | None]]:
    """Give how far each run with open jobs is, and when it will be done, where that is known."""
    for name, (ended, every) in screen.active.items():
        left_s = screen.runs_left.get(name, screen.left_s if len(screen.active) == 1 else None)
        yield name, ended, every, None if left_s is None else screen.at + left_s
