"""Pages: an address, a template of the same name, a function that returns its values, and rendering to HTML.

The parts of a page that update themselves are `live` blocks of its template.
"""

import hashlib
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from launcher.frontends.screens.queue_head import DAY_S
from launcher.frontends.screens.snapshots import read_scheduler_status, short_path
from launcher.frontends.web.chart_library import chart_library
from launcher.frontends.web.view import QueueView
from launcher.queue.jobs.states import OPEN_STATES, ReasonCode
from launcher.queue.store.listings import ListedPage
from launcher.queue.texts import GLYPHS, PAUSED, local_under, time_of_day, utc_offset
from launcher.system.terminal_codes import PlainTextFilter, apply_backspaces
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import Cell, TextTable, text_of
from launcher.system.units import format_bytes, format_seconds

FOLDER = Path(__file__).parent
_TICKS = re.compile(r"(<time data-(?:since|until)=\"[^\"]*\">)[^<]*")
_SPARSE = frozenset({"run", "node", "priority"})  # columns
_FRAGMENTS = "fragments_"  # name of the fragments among the values of a template


def parse_number(text: str) -> int | None:
    """Return a text as a number; None if it is not a number that the database can store."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


class Address(NamedTuple):
    """The requested page; equal addresses have equal pages."""

    path: str  # below the root, such as `jobs/12`
    number: int = 0  # number of the job or the run that the path names
    query: tuple[tuple[str, str], ...] = ()  # a name may be repeated

    def text(self, name: str, default: str = "") -> str:
        """Return a value of the query, the last if there are several."""
        return dict(self.query).get(name, default)

    def integer(self, name: str) -> int | None:
        """Return a value of the query as a number, None if it is not one."""
        return parse_number(self.text(name))

    def integers(self, name: str) -> list[int]:
        """Return all numbers of a name in the query, each once."""
        numbers = (parse_number(value) for key, value in self.query if key == name)
        return [*dict.fromkeys(number for number in numbers if number is not None)]

    def with_query(self, **changes: str | int | None) -> str:
        """Return a link's query with other values; None removes a value."""
        kept = [(name, value) for name, value in self.query if name not in changes]
        kept += [(name, str(value)) for name, value in changes.items() if value is not None]
        return f"?{urlencode(kept)}"

    def page_links(self, page: ListedPage) -> dict[str, str]:
        """Return the links to the newer, the older and the first page of a list; '' if there is none."""
        newest, oldest = (page.numbers[0], page.numbers[-1]) if page.numbers else (0, 0)
        return {
            "newer": self.with_query(after=newest, before=None) if page.newer else "",
            "older": self.with_query(before=oldest, after=None) if page.older else "",
            "first": self.with_query(before=None, after=None) if page.newer else "",
        }


class PageContent(NamedTuple):
    """The title and the values of a template."""

    title: str
    values: Mapping[str, object]
    files: tuple[Path, ...] = ()  # besides the queue's, whose change changes the page
    pending: bool = False  # some values are still being read: the page changes soon


class WebPage(NamedTuple):
    """A page; its template is `templates/NAME.html`."""

    name: str
    path: str  # below the root, with `{number:int}` for that of a job or a run
    context: Callable[[QueueView, Address], PageContent]


class Fragment(NamedTuple):
    """A part of a page that updates itself."""

    html: str
    version: str  # digest of the HTML without relative times


class Rendered(NamedTuple):
    """A page."""

    html: str
    fragments: Mapping[str, Fragment]


def render(
    view: QueueView, template: str, address: Address, content: PageContent, notice: str = ""
) -> Rendered:
    """Render a template with the values of its page and those of every page.

    Args:
        view: the queue, which need not exist.
        template: name of its file, without suffix.
        address: the requested page.
        content: values of the page; texts are escaped.
        notice: message above the page; '' for none.
    """
    store, scheduler = view.queue.current(), read_scheduler_status(view.home)
    counts = {} if store is None else store.read.current_counts()
    fragments: dict[str, Fragment] = {}
    values = {
        "root": view.root,
        "address": address,
        "title": content.title,
        "home": sanitize_terminal(short_path(view.home.folder)),
        "scheduler": scheduler,
        "totals": counts,
        "is_there": store is not None,
        # no scheduler starts the open jobs or records their end
        "idle": scheduler.pid is None and any(map(counts.get, OPEN_STATES)),
        "notice": notice,
        "now": view.now,
        "read_only": view.read_only,
        _FRAGMENTS: fragments,
        **content.values,
    }
    html = _environment().get_template(f"{template}.html").render(values)
    return Rendered(html, fragments)


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
    assets = b"".join(file.read_bytes() for file in sorted((FOLDER / "static").iterdir()))
    environment.globals |= {
        "assets": _digest(assets, 12),
        "chart_library": chart_library(),
        # "paused" replaces the state of a job whose program is stopped
        "glyphs": {
            ReasonCode.PAUSED: PAUSED,
            **{str(state): sign for state, sign in GLYPHS.items()},
        },
        "live": _mark_live,
        "zone": utc_offset,
    }
    environment.filters |= {
        "amount": lambda amount: "?" if amount is None else format_bytes(amount),
        "span": format_seconds,
        "lately": lambda timestamp, now: (
            local_under(timestamp, utc_offset(now))
            if now - timestamp > DAY_S
            else time_of_day(timestamp)
        ),
        "lines": lines_of,
        "local": lambda timestamp: local_under(timestamp, utc_offset(time.time())),
        "shown": visible_columns,
        "text": text_of,
        "plain": lambda value: sanitize_terminal(str(value)),
        "since": lambda timestamp, now: _relative_time("since", timestamp, now - timestamp),
        "until": lambda timestamp, now: _relative_time("until", timestamp, timestamp - now),
    }
    return environment


def visible_columns(
    table: TextTable, left_out: Collection[str]
) -> list[tuple[str, Callable[[Any], Cell]]]:
    """Return the columns of a table of jobs on a page; sparse columns only if a row has a text."""
    return [
        (column.name, column.cell_of)
        for column in table.columns
        if column.cell_of is not None
        and column.name not in left_out
        and (column.name not in _SPARSE or any(text_of(column.cell_of(row)) for row in table.rows))
    ]


def _digest(content: bytes, length: int) -> str:
    """Return the first characters of the SHA-256 of a content."""
    return hashlib.sha256(content).hexdigest()[:length]


@pass_context
def _mark_live(context: Context, name: str, caller: Callable[[], str]) -> Markup:
    """Wrap a part of a page in the element by which the script finds it, and record it."""
    html = caller()
    version = _digest(_TICKS.sub(r"\1", html).encode(), 16)
    context[_FRAGMENTS][name] = Fragment(html, version)
    return Markup('<div id="{}" class="live" data-version="{}">{}</div>').format(
        name, version, Markup(html)
    )


def _relative_time(way: str, timestamp: float, span_s: float) -> Markup:
    """Return the time since or until `timestamp` as an element that the script keeps up to date."""
    return Markup('<time data-{}="{:.1f}">{}</time>').format(
        way, timestamp, format_seconds(max(0.0, span_s))
    )


LONGEST_LINE = 2000  # characters; a program may write 10 MB without a line break
TAB = 8


def lines_of(data: bytes) -> Iterator[str]:
    """Yield the lines of a log as a terminal shows them: text before a carriage return is overwritten."""
    if b"\b" in data:
        lines = data.decode(errors="replace").split("\n")
        data = "\n".join(apply_backspaces(each)[0] for each in lines).encode()
    plain = PlainTextFilter()
    text = (plain.feed(data) + plain.flush()).decode(errors="replace")
    for line in text.removesuffix("\n").split("\n") if text else ():
        shown = line.rstrip("\r").rpartition("\r")[2]
        cut = len(shown) - LONGEST_LINE
        note = f" … {cut:,} more characters" if cut > 0 else ""
        yield sanitize_terminal(shown[:LONGEST_LINE].expandtabs(TAB)) + note
