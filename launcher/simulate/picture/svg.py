"""A picture of rectangles, lines and words as SVG text; equal calls give equal bytes."""

from collections.abc import Iterable
from xml.sax.saxutils import escape, quoteattr

FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"


class Svg:
    """A picture that is drawn from back to front; its points count from the upper left corner."""

    def __init__(self, width: float, height: float, *, title: str) -> None:
        """Begin with a white sheet."""
        self._size = f"{_number(width)} {_number(height)}"
        self._parts = [f"<title>{_text(title)}</title>"]
        self.rectangle(0, 0, width, height, fill="#ffffff")

    def rectangle(
        self, x: float, y: float, width: float, height: float, *, fill: str, note: str = ""
    ) -> None:
        """Draw a filled rectangle; `note` is shown when the pointer rests on it."""
        shape = (
            f'<rect x="{_number(x)}" y="{_number(y)}" width="{_number(width)}"'
            f' height="{_number(height)}" fill={quoteattr(fill)}'
        )
        end = f"><title>{_text(note)}</title></rect>" if note else "/>"
        self._parts.append(shape + end)

    def line(
        self,
        points: Iterable[tuple[float, float]],
        *,
        stroke: str,
        width: float = 1.0,
        dashes: str = "",
    ) -> None:
        """Draw a line through points."""
        path = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        self._parts.append(
            f'<polyline points="{path}" fill="none" stroke={quoteattr(stroke)}'
            f' stroke-width="{_number(width)}"{dashed}/>'
        )

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: float = 12,
        anchor: str = "start",
        fill: str = "#333333",
        bold: bool = False,
    ) -> None:
        """Write words whose line stands on `y`."""
        weight = ' font-weight="600"' if bold else ""
        self._parts.append(
            f'<text x="{_number(x)}" y="{_number(y)}" font-size="{_number(size)}"'
            f' text-anchor="{anchor}" fill={quoteattr(fill)}{weight}>{_text(words)}</text>'
        )

    def __str__(self) -> str:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self._size}"'
            f" font-family={quoteattr(FONT)}>"
        )
        return "\n".join([head, *self._parts, "</svg>", ""])


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _text(words: str) -> str:
    """Return words as XML may hold them: most control characters it may not, however written."""
    return escape("".join(char if char.isprintable() else "·" for char in words))
