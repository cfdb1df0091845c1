"""All pages of a home as HTML; what of a page renews itself stands in `live` blocks of its template."""

import hashlib
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from launcher.screens.format import GLYPHS, clock, harmless, local
from launcher.screens.format import zone as zone_of
from launcher.screens.screen import Scheduler
from launcher.screens.snapshots import scheduler_of, short_path
from launcher.states import OPEN, ReasonCode, State
from launcher.units import format_bytes, format_seconds
from launcher.web.pages import curves, jobs, log, overview, runs
from launcher.web.pages.page import Address, Content, NotThere, Page, View

# in the order of the menu; a new page is a function that fills it, a template, and a line here
PAGES = (
    Page("overview", "", overview.fill, menu="Queue"),
    Page("jobs", "jobs", jobs.fill_list, menu="Jobs"),
    Page("runs", "runs", runs.fill_list, menu="Runs"),
    Page("curves", "curves", curves.fill),
    Page("job", "jobs/{number:int}", jobs.fill_job),
    Page("log", "jobs/{number:int}/log", log.fill),
    Page("run", "runs/{number:int}", runs.fill_run),
    Page("compare", "runs/compare", runs.fill_comparison),
)
FOLDER = Path(__file__).parent
_TICKS = re.compile(r"(<time data-(?:since|until)=\"[^\"]*\">)[^<]*")
_FRAGMENTS = "fragments_"  # of the values of a template


class Head(NamedTuple):
    """What stands above every page."""

    home: str
    scheduler: Scheduler
    counts: Mapping[State, int]
    there: bool  # there is a queue

    @property
    def idle(self) -> bool:
        """Jobs are open, and nothing is there that starts them or sees them end."""
        return self.scheduler.pid is None and any(map(self.counts.get, OPEN))


class Fragment(NamedTuple):
    """A part of a page that renews itself."""

    html: str
    version: str  # of equal ones it is the same, whatever time it is


class Rendered(NamedTuple):
    """A page."""

    html: str
    fragments: Mapping[str, Fragment]


def render(
    view: View,
    template: str,
    address: Address,
    content: Content,
    *,
    renewed: bool = False,
    notice: str = "",
) -> Rendered:
    """Return a template filled with what is on its page, and with what stands on every page.

    Args:
        view: the queue.
        template: its file's name, without its ending.
        address: what was asked for.
        content: what is on the page; texts are escaped.
        renewed: a stream sends what of it changes.
        notice: stands above it.
    """
    fragments: dict[str, Fragment] = {}
    values = {
        "root": view.root,
        "assets": _asset_version(),
        "menu": [page for page in PAGES if page.menu],
        "address": address,
        "title": content.title,
        "head": _head_of(view),
        "renewed": renewed,
        "notice": notice,
        "now": view.now,
        "read_only": view.read_only,
        _FRAGMENTS: fragments,
        **content.values,
    }
    html = _environment().get_template(f"{template}.html").render(values)
    return Rendered(html=html, fragments=fragments)


def _head_of(view: View) -> Head:
    """Return what stands above every page, also where there is no queue."""
    try:
        counts = view.store.read.counts()
    except NotThere:
        counts = {}
    return Head(
        home=harmless(short_path(view.home.folder)),
        scheduler=scheduler_of(view.home),
        counts=counts,
        there=view.queue.store is not None,
    )


@cache
def _asset_version() -> str:
    """Return what is another text when a script or a style sheet is another."""
    files = sorted((FOLDER / "static").iterdir())
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    # "paused" stands in the place of a state where a program stands still
    glyphs = {ReasonCode.PAUSED: "‖", **{str(state): glyph for state, glyph in GLYPHS.items()}}
    environment.globals |= {"live": _live, "glyphs": glyphs, "zone": zone_of}
    environment.filters |= {
        "amount": lambda amount: "?" if amount is None else format_bytes(amount),
        "span": format_seconds,
        "clock": clock,
        "local": local,
        "plain": lambda value: harmless(str(value)),
        "since": lambda at, now: _time("since", at, now - at),
        "until": lambda at, now: _time("until", at, at - now),
    }
    return environment


@pass_context
def _live(context: Context, name: str, caller: Callable[[], str]) -> Markup:
    """Put a part of a page between the tags by which the script finds it, and note it down."""
    html = caller()
    version = hashlib.sha256(_TICKS.sub(r"\1", html).encode()).hexdigest()[:16]
    context[_FRAGMENTS][name] = Fragment(html, version)
    return Markup('<div id="{}" class="live" data-version="{}">{}</div>').format(
        name, version, Markup(html)
    )


def _time(way: str, at: float, span_s: float) -> Markup:
    """Return how long ago a time is, or how far it lies ahead; the script counts on."""
    return Markup('<time data-{}="{:.1f}">{}</time>').format(
        way, at, format_seconds(max(0.0, span_s))
    )
