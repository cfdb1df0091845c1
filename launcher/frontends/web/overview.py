"""The first page: GPUs, the progress of runs, and running, waiting and recently ended jobs."""

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from launcher.frontends.screens.gpu_view import GpuView, notes
from launcher.frontends.screens.host import host_line
from launcher.frontends.screens.pilot_table import draw_pilots
from launcher.frontends.screens.queue_view import recent_table, running_table, waiting_table
from launcher.frontends.screens.snapshots import QueueSnapshot
from launcher.frontends.web.page import Address, PageContent
from launcher.frontends.web.view import QueueView
from launcher.system.errors import pluralize
from launcher.system.units import format_bytes

_SHOWN = {"promised": "reserved"}  # class of a bar's part → its word for people
WAITING = 40
HOST_COLUMNS = 120  # in which all of the line has room: a browser breaks it
PILOT_COLUMNS = 96  # width of the table of pilots, whose lines are drawn as for a terminal
_SPARK = (60, 16)  # width and height of a sparkline


def memory_bar(gauge: GpuView) -> Markup:
    """Return a GPU's memory as a bar of ours, others' and reserved; striped if the usage is unknown."""
    gpu = gauge.gpu
    if gpu.used is None or not gpu.total:
        return stacked_bar((("unknown", 1.0),), "the memory in use is unknown")
    amounts = [*zip(("ours", "others", "promised"), gauge.amounts, strict=True)]
    description = ", ".join(
        f"{format_bytes(amount)} {_SHOWN.get(word, word)}" for word, amount in amounts if amount
    )
    shares = tuple((word, amount / gpu.total) for word, amount in amounts)
    return stacked_bar(shares, f"{description or 'nothing'} of {format_bytes(gpu.total)}")


def overview_context(view: QueueView, _address: Address) -> PageContent:
    """Return the page of the queue as it is now."""
    screen = view.queue.read_snapshot(waiting_limit=WAITING, search_text="")
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


def stacked_bar(shares: Sequence[tuple[str, float]], description: str) -> Markup:
    """Return a bar of pieces from the left; what goes beyond its end is cut.

    Args:
        shares: the class of each piece in the style sheet, and how much of the bar it is, 0 to 1.
        description: the same in words.
    """
    pieces, begin = Markup(), 0.0
    for name, share in shares:
        end = min(100.0, begin + 100 * max(0.0, share))  # units of the bar, as wide as its place
        if end > begin:
            pieces += Markup('<rect class="{}" x="{:.2f}" width="{:.2f}" height="10"/>').format(
                name, begin, end - begin
            )
        begin = end
    return Markup(
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" role="img"'
        ' aria-label="{0}"><title>{0}</title>{1}</svg>'
    ).format(description, pieces)


def spark(values: Sequence[float]) -> Markup:
    """Return values from 0 to 1 as a sparkline, the newest at the right; '' for fewer than two."""
    if len(values) < 2:
        return Markup()
    width, height = _SPARK
    step = width / (len(values) - 1)
    places = " ".join(
        f"{at * step:.1f},{height - 1 - min(max(value, 0.0), 1.0) * (height - 2):.1f}"
        for at, value in enumerate(values)
    )
    return Markup(
        '<svg class="spark" viewBox="0 0 {} {}" aria-hidden="true"><polyline points="{}"/></svg>'
    ).format(width, height, places)


def _runs(screen: QueueSnapshot) -> Iterator[tuple[str, int, int, float | None]]:
    """Yield for each run with open jobs its name, ended jobs, all jobs, and the expected end, if known."""
    for name, (ended, every) in screen.active.items():
        left_s = screen.remaining_of(name)
        yield name, ended, every, None if left_s is None else screen.at + left_s
