"""The figures of a report: each drawing in an HTML page of a run, as a picture of its own.

A laboratory writes its report as one page with drawings inside. Their colours come from the page's style
sheet, which each picture takes along.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from xml.etree import ElementTree

MOST_FIGURES = 60  # of a page
WIDE = 2.0  # widths to a height
SMALLEST = 120  # units wide; what is narrower is a mark in a line
_STYLE = re.compile(r"<style\b[^>]*>(.*?)</style>", re.DOTALL | re.IGNORECASE)
_HEADING = re.compile(r"<h2\b[^>]*>(.*?)</h2>", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_DRAWING = re.compile(r"<svg\b[^>]*>.*?</svg>", re.DOTALL)
_HEAD = re.compile(r"<svg\b[^>]*>")
_TITLE = re.compile(r"<title>(.*?)</title>", re.DOTALL)
_BOX = re.compile(r'\bviewBox="[-\d.]+ [-\d.]+ (\d+(?:\.\d+)?) (\d+(?:\.\d+)?)"')
_NAMESPACE = "http://www.w3.org/2000/svg"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A drawing of a page."""

    number: int  # among its drawings, from 0
    title: str
    section: str = ""  # the heading above it
    wide: bool = False  # more than twice as wide as high


def figures_of(page: str) -> list[Figure]:
    """Return the drawings of a page that can be shown alone.

    Args:
        page: HTML.
    """
    figures: list[Figure] = []
    headings = [(match.start(), _plain(match[1])) for match in _HEADING.finditer(page)][::-1]
    for number, match in enumerate(_DRAWING.finditer(page)):
        if len(figures) == MOST_FIGURES:
            break
        if _box(match[0])[0] >= SMALLEST and _is_xml(standing_alone(match[0], "")):
            title = _TITLE.search(match[0])
            figures.append(
                Figure(
                    number=number,
                    title=_plain(title[1]) if title else "",
                    wide=_shape(match[0]) > WIDE,
                    section=next((text for at, text in headings if at < match.start()), ""),
                )
            )
    return figures


def figure_of(page: str, number: int) -> str | None:
    """Return a drawing of a page as an SVG file, None where there is none.

    Args:
        page: HTML.
        number: of the drawing, from 0.
    """
    for at, drawing in enumerate(_drawings(page)):
        if at == number:
            style = "\n".join(_STYLE.findall(page))
            return standing_alone(drawing, style)
    return None


def standing_alone(drawing: str, style: str) -> str:
    """Return a drawing of a page as a file.

    Args:
        drawing: its element.
        style: the rules of the page.
    """
    head = _HEAD.match(drawing)
    if head is None:
        return drawing
    start = head[0]
    if "xmlns=" not in start:
        start = start.replace("<svg", f'<svg xmlns="{_NAMESPACE}"', 1)
    rules = style.replace("]]>", "")
    sheet = f"<style><![CDATA[{rules}]]></style>" if style else ""
    return f"{start}{sheet}{drawing[head.end() :]}"


def _plain(html: str) -> str:
    return " ".join(unescape(_TAG.sub("", html)).split())


def _drawings(page: str) -> Iterator[str]:
    for match in _DRAWING.finditer(page):
        yield match[0]


def _box(drawing: str) -> tuple[float, float]:
    """Return the width and the height of a drawing, 0 where it does not say them."""
    head = _HEAD.match(drawing)
    box = _BOX.search(head[0]) if head else None
    return (float(box[1]), float(box[2])) if box else (0.0, 0.0)


def _shape(drawing: str) -> float:
    width, height = _box(drawing)
    return width / height if height else 0.0


def _is_xml(text: str) -> bool:
    """Tell whether a browser shows it: a page may hold what only HTML allows."""
    try:
        ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return False
    return True
