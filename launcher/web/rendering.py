"""Pages as HTML; what of a page renews itself stands in `live` blocks of its template."""

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
from launcher.units import format_bytes, format_seconds

FOLDER = Path(__file__).parent
_TICKS = re.compile(r"(<time data-(?:since|until)=\"[^\"]*\">)[^<]*")
PAUSED = "paused"  # stands in the place of a state where a program stands still
_GLYPHS: Mapping[str, str] = {PAUSED: "‖", **{str(state): glyph for state, glyph in GLYPHS.items()}}
_FRAGMENTS = "fragments_"  # of the values of a template


class Fragment(NamedTuple):
    """A part of a page that renews itself."""

    html: str
    version: str  # of equal ones it is the same, whatever time it is


class Rendered(NamedTuple):
    """A page."""

    html: str
    fragments: Mapping[str, Fragment]


def render(template: str, values: Mapping[str, object]) -> Rendered:
    """Return a page from its template.

    Args:
        template: its file's name.
        values: what stands in it; texts are escaped.
    """
    fragments: dict[str, Fragment] = {}
    html = _environment().get_template(template).render({**values, _FRAGMENTS: fragments})
    return Rendered(html=html, fragments=fragments)


def asset_version() -> str:
    """Return what is another text when a script or a style sheet is another."""
    return _asset_version()


@cache
def _asset_version() -> str:
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
    environment.globals |= {"live": _live, "glyphs": _GLYPHS, "zone": zone_of}
    environment.filters |= {
        "amount": lambda amount: "?" if amount is None else format_bytes(amount),
        "span": format_seconds,
        "clock": clock,
        "local": local,
        "plain": lambda value: harmless(str(value)),
        "since": _since,
        "until": _until,
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


def _since(at: float, now: float) -> Markup:
    """Return how long ago a time is; the script counts on."""
    return Markup('<time data-since="{:.1f}">{}</time>').format(
        at, format_seconds(max(0.0, now - at))
    )


def _until(at: float, now: float) -> Markup:
    """Return how far a time lies ahead; the script counts down."""
    return Markup('<time data-until="{:.1f}">{}</time>').format(
        at, format_seconds(max(0.0, at - now))
    )
