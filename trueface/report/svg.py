"""Figures as SVG: in a page, where they follow light and dark, and as files of their own.

Colours, dashes and widths are classes of the style sheet; every figure has a title and a description for those who
cannot see it. Coordinates have one decimal: a tenth of a pixel. Equal figures give equal bytes.
"""

from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise

from markupsafe import Markup

from trueface.report.figures import (
    DrawnShape,
    Figure,
    FigureLegend,
    Frame,
    Label,
    Marks,
    Point,
    Polyline,
)
from trueface.report.style import CSS, OWN, SERIES, STYLES, dash_of

SMALL_PX = Frame().width  # wider figures scroll where a screen is narrow


def picture(figure: Figure, content: str = "", attributes: str = "") -> Markup:
    """Return a figure as an element of a page.

    Args:
        figure: without its caption and key.
        content: elements before all drawn ones.
        attributes: further ones.
    """
    frame = figure.frame
    return Markup(
        f'<svg{attributes} class="plot" viewBox="0 0 {frame.width} {frame.height}" '
        f'width="{frame.width}" height="{frame.height}" role="img" '
        f'aria-label="{escape(f"{figure.title}. {figure.description}")}">'
        f"<title>{escape(figure.title)}</title>{content}{_render_shapes(frame, figure.layers)}</svg>"
    )


def file(figure: Figure) -> str:
    """Return a figure as a file of its own, which takes the style sheet along."""
    style = f"<style>{escape(CSS, quote=False)}</style>"
    return picture(figure, style, ' xmlns="http://www.w3.org/2000/svg"')


def render_framed(figure: Figure | None) -> Markup:
    """Return a figure with its caption and key, as HTML; nothing of None."""
    if figure is None:
        return Markup()
    drawn, below = picture(figure), key(figure.key)
    wide = figure.frame.width > SMALL_PX
    if wide:
        drawn = Markup(f'<div class="wide">{drawn}</div>')
    if not figure.caption and not below:
        return drawn
    note = f"<small>{escape(figure.note)}</small>" if figure.note else ""
    caption = f"{escape(figure.caption)}{note}"
    if caption:
        limit = f' style="max-width:{figure.frame.width}px"' if wide else ""
        caption = f"<figcaption{limit}>{caption}</figcaption>"
    kind = ' class="picture"' if wide else ""
    return Markup(f"<figure{kind}>{caption}{drawn}{below}</figure>")


def side_by_side(figures: Iterable[Figure]) -> Markup:
    """Return figures with their captions and keys, side by side if there is room; nothing without figures."""
    inside = "".join(map(render_framed, figures))
    return Markup(f'<div class="grid-of">{inside}</div>' if inside else "")


def key(legend: FigureLegend) -> Markup:
    """Return the key of lines and marks, as HTML."""
    items = "".join(
        f'<li><svg width="{legend.width}" height="{legend.height}" aria-hidden="true">'
        f"{_render_shapes(legend.frame, drawn)}</svg><span>{allow_line_breaks(words)}</span></li>"
        for words, drawn in legend.entries
    )
    kind = "key across" if legend.beside else "key"
    return Markup(f'<ul class="{kind}">{items}</ul>' if items else "")


def allow_line_breaks(text: str) -> Markup:
    """Return a name as HTML that may go on in the next line after each of its parts."""
    escaped = escape(text).replace("&amp;", "&amp;<wbr>")
    return Markup(escaped.replace("@", "<wbr>@").replace("=", "=<wbr>"))


def _render_shapes(frame: Frame, shapes: Iterable[DrawnShape]) -> str:
    return "".join(_element(frame, each) for each in shapes)


def _element(frame: Frame, each: DrawnShape) -> str:
    match each:
        case Label():
            return _text(each, *frame.data_to_pixels(*each.point))
        case Polyline():
            path = _path([frame.data_to_pixels(*point) for point in each.points])
            dash = dash_of(each.style, each.series)
            dashes = f' stroke-dasharray="{dash}"' if dash else ""
            return f'<path class="{_class(each)}"{dashes} d="{path}{"Z" if each.closed else ""}"/>'
        case Marks(shape="disc") if STYLES[each.style].fill:
            return "".join(
                f'<circle class="{_class(each)}" cx="{x:.1f}" cy="{y:.1f}" r="{each.radius:g}"/>'
                for x, y in (frame.data_to_pixels(*point) for point in each.points)
            )
        case Marks():
            path = "".join(_mark(each, *frame.data_to_pixels(*point)) for point in each.points)
            ends = ' stroke-linecap="round"' if each.shape == "disc" else ""
            return f'<path class="{_class(each)}"{ends} d="{path}"/>'


def _class(each: Polyline | Marks) -> str:
    """Return the classes of a shape: its style, and the series whose colour it has."""
    style = STYLES[each.style]
    return f"{each.style} s{each.series % SERIES}" if OWN in style[:2] else each.style


def _path(places: Sequence[Point]) -> str:
    """Return the path through some points, shortened for horizontal and vertical steps."""
    texts = [(f"{x:.1f}", f"{y:.1f}") for x, y in places]
    path = "M{} {}".format(*texts[0])
    for (left, top), (x, y) in pairwise(texts):
        path += f"V{y}" if x == left else f"H{x}" if y == top else f"L{x} {y}"
    return path


def _mark(each: Marks, x: float, y: float) -> str:
    half, side = each.radius, f"{2 * each.radius:g}"
    match each.shape:
        case "disc":
            return f"M{x:.1f} {y:.1f}h0"  # round ends make a disc of it, as wide as its line
        case "square":
            return f"M{x - half:.1f} {y - half:.1f}h{side}v{side}h-{side}z"
        case "cross":
            return f"M{x - half:.1f} {y - half:.1f}l{side} {side}m0 -{side}l-{side} {side}"
        case "triangle":
            down = 0.8 * half
            return f"M{x - half:.1f} {y - down:.1f}h{side}l-{half:g} {2 * down:g}z"


def _text(label: Label, x: float, y: float) -> str:
    kind = f' class="{label.style}"' if label.style else ""
    left, base = x + label.right, y + label.down
    coordinates = f'x="{left:.1f}" y="{base:.1f}"'
    if label.turned:
        coordinates = f'transform="translate({left:.1f} {base:.1f}) rotate(-90)"'
    leader = (
        f'<path class="leader" d="M{x:.1f} {y:.1f}L{left:.1f} {base - 3:.1f}"/>'
        if label.leader
        else ""
    )
    return f'{leader}<text{kind} {coordinates} text-anchor="{label.anchor}">{escape(label.text)}</text>'
