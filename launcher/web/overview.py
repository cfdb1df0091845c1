"""The first page: GPUs, the progress of runs, and running, waiting and recently ended jobs."""

from collections.abc import Iterator

from markupsafe import Markup

from launcher.errors import pluralize
from launcher.screens.gpu_view import GpuView, notes
from launcher.screens.host import host_line
from launcher.screens.pilots import draw_pilots
from launcher.screens.queue_view import recent_table, running_table, waiting_table
from launcher.screens.snapshots import QueueSnapshot
from launcher.units import format_bytes
from launcher.web.charts import spark, stacked_bar
from launcher.web.page import Address, PageContent
from launcher.web.view import QueueView

_SHOWN = {"promised": "reserved"}  # class of a bar's part → its word for people
WAITING = 40
HOST_COLUMNS = 120  # in which all of the line has room: a browser breaks it
PILOT_COLUMNS = 96  # of the table of pilots, whose lines are drawn as for a terminal


def memory_bar(gauge: GpuView) -> Markup:
    """Return a GPU's memory as a bar of ours, others' and reserved; striped if the usage is unknown."""
    gpu = gauge.gpu
    if gpu.used is None or not gpu.total:
        return stacked_bar((("unknown", 1.0),), "the memory in use is unknown")
    amounts = [*zip(("ours", "others", "promised"), gauge.amounts, strict=True)]
    note = ", ".join(
        f"{format_bytes(amount)} {_SHOWN.get(word, word)}" for word, amount in amounts if amount
    )
    shares = tuple((word, amount / gpu.total) for word, amount in amounts)
    return stacked_bar(shares, f"{note or 'nothing'} of {format_bytes(gpu.total)}")


def overview_context(view: QueueView, _address: Address) -> PageContent:
    """Return the page of the queue as it is now."""
    screen = view.queue.read_snapshot(waiting=WAITING, search_text="")
    works = [work.id for work in screen.running]
    left = screen.ended_more
    return PageContent(
        title=f"{len(works)} running" if works else "queue",
        values={
            "screen": screen,
            "memory_bar": memory_bar,
            "spark": spark,
            "notes": notes,
            "host": host_line(screen.host, HOST_COLUMNS).spans if screen.host else (),
            "runs": list(_runs(screen)),
            "pilots": draw_pilots(screen.pilots, screen.at, PILOT_COLUMNS),
            "running": running_table(screen),
            "waiting": waiting_table(screen),
            "recent": recent_table(screen),
            "ended_more": pluralize(left, "more job") if left > 0 else "",
        },
        files=view.progress_of(view.store.read.jobs_by_id(works) if works else ()),
    )


def _runs(screen: QueueSnapshot) -> Iterator[tuple[str, int, int, float | None]]:
    """Yield for each run with open jobs its name, ended jobs, all jobs, and the expected end, if known."""
    for name, (ended, every) in screen.active.items():
        left_s = screen.remaining_of(name)
        yield name, ended, every, None if left_s is None else screen.at + left_s
