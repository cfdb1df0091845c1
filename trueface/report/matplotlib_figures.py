"""Figures as PNG and PDF, by matplotlib: in light colours, below their title and above their key, for papers and slides.

Equal figures give equal bytes: nothing is drawn by chance, and no file holds a date.
"""

import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from matplotlib import rc_context, rcdefaults, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patheffects import withStroke

from trueface.report.figures import (
    CHARACTER_PX,
    DrawnShape,
    Figure,
    FigureLegend,
    Frame,
    Label,
    Marks,
)
from trueface.report.style import COLOURS, OWN, SERIES, STYLES, dash_of

LIGHT = {name: light for name, (light, _) in COLOURS.items()}
INCH = 72  # pixels of a figure
DPI = 200  # dots per inch of a PNG
FONT_PX = 9.5  # DejaVu Sans, which matplotlib brings, is wider than the fonts of pages
TITLE_PX, ROW_PX = 24, 18  # above the figure, and for each row of the key below it
AIR_PX = 12
ABOVE = 1000  # everything else
# names are not formulas, dashes have lengths in pixels, and a PDF holds text that can be searched
SETTINGS = {"text.parse_math": False, "lines.scale_dashes": False, "pdf.fonttype": 42}
MARKERS = {"disc": "o", "square": "s", "cross": "x", "triangle": "v"}
SIDES: dict[str, Literal["left", "center", "right"]] = {
    "start": "left",
    "middle": "center",
    "end": "right",
}


def render_figure(figure: Figure, kind: Literal["png", "pdf"]) -> bytes:
    """Return a figure as the content of a file."""
    longest = max(
        _entry_width(figure.key, words) for words, _ in (*figure.key.entries, (figure.title, ()))
    )
    width, bottom = max(figure.frame.width, AIR_PX + longest), TITLE_PX + figure.frame.height
    signs = list(_place_entries(figure.key, width))
    height = bottom + max((down + ROW_PX for *_, down in signs), default=0)
    with rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that the font lacks
        rcdefaults()  # whatever the user's matplotlibrc contains
        rcParams.update(SETTINGS)
        canvas = Canvas(figsize=(width / INCH, height / INCH))
        axes = canvas.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
        axes.set_axis_off()
        _write(axes, Label((0, 0), figure.title, style="mark-label"), AIR_PX, 16)
        _draw(axes, figure.frame, figure.layers, 0, TITLE_PX)
        for words, shapes, right, down in signs:
            _draw(axes, figure.key.frame, shapes, right, bottom + down)
            _write(axes, Label((0, 0), words), right + figure.key.width + 6, bottom + down + 9)
        content = io.BytesIO()
        dated = {"CreationDate": None} if kind == "pdf" else None
        canvas.savefig(content, format=kind, dpi=DPI, metadata=dated)
    return content.getvalue()


def _entry_width(key: FigureLegend, words: str) -> float:
    """Return the room of an entry, with the air behind it, in pixels."""
    return key.width + 6 + len(words) * CHARACTER_PX + AIR_PX


def _place_entries(
    key: FigureLegend, width: float
) -> Iterator[tuple[str, Sequence[DrawnShape], float, float]]:
    """Yield the entries of a key, and the position of each from the top left: as many per row as fit."""
    right, down = float(AIR_PX), 0.0
    for words, drawn in key.entries:
        wide = _entry_width(key, words)
        if right > AIR_PX and right + wide > width:
            right, down = AIR_PX, down + ROW_PX
        yield words, drawn, right, down
        right += wide


def _draw(
    axes: Axes, frame: Frame, shapes: Iterable[DrawnShape], left_px: float, top: float
) -> None:
    """Draw shapes so far right of and below the upper left corner of the file, in pixels."""
    for order, each in enumerate(shapes):
        if isinstance(each, Label):
            x, y = frame.data_to_pixels(*each.point)
            _write(axes, each, left_px + x, top + y)
            continue
        places = [frame.data_to_pixels(*point) for point in each.points]
        across, up = [left_px + x for x, _ in places], [top + y for _, y in places]
        style = STYLES[each.style]
        own = f"c{each.series % SERIES}"
        fill, stroke = (own if name == OWN else name for name in style[:2])
        face = (LIGHT[fill], style.opacity) if fill else "none"
        edge = (LIGHT[stroke], 1.0 if fill else style.opacity) if stroke else "none"
        dashes = [float(length) for length in (style.dash or dash_of(*each[1:3])).split()]
        dash = (0.0, dashes) if dashes else "solid"
        width = style.width if stroke else 0.0
        if isinstance(each, Marks):
            dot = each.shape == "disc" and not fill  # a line without length, its ends round
            axes.plot(
                across,
                up,
                marker=MARKERS[each.shape],
                linestyle="none",
                markersize=width if dot else 2 * each.radius,
                markerfacecolor=edge if dot else face,
                markeredgecolor=edge,
                markeredgewidth=0.0 if dot else width,
                zorder=order,
            )
        elif each.closed:
            axes.fill(across, up, fc=face, ec=edge, linewidth=width, linestyle=dash, zorder=order)
        else:
            axes.plot(across, up, color=edge, linewidth=width, linestyle=dash, zorder=order)


def _write(axes: Axes, label: Label, x: float, y: float) -> None:
    """Write words next to a point, in pixels."""
    right, base = x + label.right, y + label.down
    if label.leader:
        leader = STYLES["leader"]
        colour = LIGHT[leader.stroke]
        axes.plot((x, right), (y, base - 3), color=colour, linewidth=leader.width, zorder=ABOVE)
    axes.text(
        right,
        base,
        label.text,
        fontsize=FONT_PX,
        color=LIGHT["text" if label.style == "mark-label" else "weak"],
        ha=SIDES[label.anchor],
        va="baseline",
        rotation=90 if label.turned else 0,
        rotation_mode="anchor",
        path_effects=[withStroke(linewidth=3, foreground=LIGHT["back"])] if label.style else [],
        zorder=ABOVE,
    )
