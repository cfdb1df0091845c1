"""The picture of a replay as SVG: what ran on each GPU and when, and below how many jobs waited.

Equal calls give equal bytes.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from math import ceil, floor, log10
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

from launcher.errors import counted
from launcher.simulate.replay import Span
from launcher.units import format_seconds


def slots(spans: Sequence[Span]) -> list[tuple[Span, int, int]]:
    """Return (span, card, place): of jobs that share a card at a time each has another place."""
    until: dict[int, list[float]] = {}  # card → when each of its places is free again
    bars = []
    for span in sorted(spans, key=lambda span: (span.start, span.job)):
        for card in span.cards:
            places = until.setdefault(card, [])
            free = next((at for at, end in enumerate(places) if end <= span.start), len(places))
            places[free : free + 1] = [span.end]
            bars.append((span, card, free))
    return bars


def jobs_per_gpu(
    spans: Sequence[Span], *, cards: int, per_row: int, columns: int, end: float
) -> list[list[float]]:
    """Return how many jobs a card ran on average, by rows of cards and stretches of time.

    Args:
        spans: the replay.
        cards: how many there were.
        per_row: cards of a row; the last row may have fewer.
        columns: into so many stretches the time is divided.
        end: of the last one.
    """
    rows = -(-cards // per_row)
    stretch = end / columns
    whole = [[0.0] * (columns + 1) for _ in range(rows)]  # changes from one stretch to the next
    part = [[0.0] * columns for _ in range(rows)]
    for span in spans:
        first = min(columns - 1, int(span.start / stretch))
        last = min(columns - 1, int(span.end / stretch))
        for card in span.cards:
            row = card // per_row
            if first == last:
                part[row][first] += (span.end - span.start) / stretch
                continue
            part[row][first] += first + 1 - span.start / stretch
            part[row][last] += span.end / stretch - last
            whole[row][first + 1] += 1
            whole[row][last] -= 1
    return [
        [
            (full + partly) / min(per_row, cards - row * per_row)
            for full, partly in zip(accumulate(whole[row][:columns]), part[row], strict=True)
        ]
        for row in range(rows)
    ]


def queue_lengths(spans: Sequence[Span], samples: int, end: float) -> list[int]:
    """Return the most jobs that waited at once in each of so many equal stretches of time."""
    changes = sorted(
        change
        for span in spans
        if span.start > span.ready
        for change in ((span.ready, 1), (span.start, -1))
    )
    most = [0] * samples
    waiting, before = 0, 0
    for at, change in changes:  # at one instant starts come first
        stretch = min(samples - 1, int(at / end * samples))
        for sample in range(before, stretch + 1):
            most[sample] = max(most[sample], waiting)
        waiting += change
        most[stretch] = max(most[stretch], waiting)
        before = stretch
    return most


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


_UNITS = (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0), ("seconds", 1.0))
_ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)


class Frame(NamedTuple):
    """A part of a picture with time from left to right and rows from top to bottom."""

    x: float
    y: float
    width: float
    height: float
    end: float  # seconds at its right edge
    rows: int

    @property
    def row_height(self) -> float:
        """The height of a row."""
        return self.height / self.rows

    def across(self, at: float) -> float:
        """Return where a time lies."""
        return self.x + self.width * at / self.end


def steps(most: float, about: int) -> list[float]:
    """Return round whole numbers from 0, evenly spaced, until one is not less than `most`."""
    rough = most / about
    power = 10.0 ** floor(log10(rough))
    step = next(multiple * power for multiple in _ROUND if multiple * power >= rough * (1 - 1e-9))
    step = max(1.0, ceil(step))  # there is no half job
    return [step * at for at in range(ceil(most / step - 1e-9) + 1)]


def moments(end: float) -> tuple[list[tuple[float, str]], str]:
    """Return times for an axis up to `end`, each with its name, and the unit of the names."""
    unit, unit_s = next((named for named in _UNITS if end >= 3 * named[1]), _UNITS[-1])
    rough = end / unit_s / 10
    power = 10.0 ** floor(log10(rough))
    step = next(multiple * power for multiple in _ROUND if multiple * power >= rough * (1 - 1e-9))
    count = floor(end / unit_s / step + 1e-9)
    return [(at * step * unit_s, f"{at * step:g}") for at in range(count + 1)], unit


MOST_ROWS = 64  # of more GPUs several share a row
MOST_BARS = 6000  # of more jobs only how many there were is drawn: none would be wider than a line
COLUMNS = 300  # stretches of time that have a colour each where jobs have no bars
SAMPLES = 600  # of the curve
WIDTHS = ((1, "#7fb3d5"), (2, "#2e86c1"), (4, "#1a5276"), (8, "#d68910"), (1 << 30, "#922b21"))
EMPTY, FULL = (0xF4, 0xF4, 0xF4), (0x0B, 0x3C, 0x5D)
SHADES = 8  # from empty to full
CURVES = ("#0b3c5d", "#b9770e", "#7d3c98")
PAPER = 1160.0
LEFT, RIGHT, TOP = 84.0, 20.0, 84.0
CURVE_HEIGHT, GAP, BOTTOM = 170.0, 46.0, 54.0


class Story(NamedTuple):
    """What a picture tells of."""

    title: str
    about: str
    cards: int
    most: int  # jobs that may share a card
    widths: Mapping[int, int]  # job → its GPUs
    spans: Mapping[str, Sequence[Span]]  # by policy; the first one is drawn, all are in the curve


def draw_timeline(story: Story) -> str:
    """Return the picture as SVG."""
    spans = next(iter(story.spans.values()))
    end = (
        max(
            (span.end for policy_spans in story.spans.values() for span in policy_spans),
            default=0.0,
        )
        or 1.0
    )
    rows = min(story.cards, MOST_ROWS)
    per_row = ceil(story.cards / rows)
    rows = ceil(story.cards / per_row)
    height = rows * min(36.0, max(6.0, 440.0 / rows))
    upper = Frame(LEFT, TOP, PAPER - LEFT - RIGHT, height, end, rows)
    lower = Frame(LEFT, TOP + height + GAP, upper.width, CURVE_HEIGHT, end, 1)
    svg = Svg(PAPER, lower.y + CURVE_HEIGHT + BOTTOM, title=f"{story.title}. {story.about}")
    svg.text(LEFT, 26, story.title, size=17, bold=True, fill="#111111")
    svg.text(LEFT, 46, story.about, size=12, fill="#555555")
    bars = sum(len(span.cards) for span in spans)
    if per_row == 1 and bars <= MOST_BARS:
        _draw_bars(svg, upper, story, spans)
    else:
        _draw_shades(svg, upper, story, spans, per_row)
    _name_rows(svg, upper, story.cards, per_row)
    _draw_curves(svg, lower, story.spans)
    _draw_clock(svg, upper, lower)
    return str(svg)


def _draw_bars(svg: Svg, frame: Frame, story: Story, spans: Sequence[Span]) -> None:
    """Draw a bar for each job on each of its cards; those that share one lie above each other."""
    svg.rectangle(frame.x, frame.y, frame.width, frame.height, fill=_colour(EMPTY))
    places = slots(spans)
    deep = max((place for _, _, place in places), default=0) + 1
    edge = (
        1.2 if frame.row_height > 12 else 0.4
    )  # between cards; between jobs of a card it is a third
    thick = (frame.row_height - 2 * edge) / deep
    for span, card, place in places:
        width = story.widths[span.job]
        x = frame.across(span.start)
        note = (
            f"job {span.job}: {counted(width, 'GPU')}, waited {format_seconds(span.waited)}, "
            f"ran {format_seconds(span.end - span.start)}"
        )
        svg.rectangle(
            x,
            frame.y + card * frame.row_height + edge + place * thick,
            max(0.6, frame.across(span.end) - x - 0.3),
            thick - edge / 3,
            fill=next(colour for most, colour in WIDTHS if width <= most),
            note=note,
        )
    before = 0
    names = []
    for most, colour in WIDTHS:
        if any(before < width <= most for width in story.widths.values()):
            name = f"{most} GPU" if most == 1 else f"{before + 1} to {most} GPUs"
            name = f"more than {before} GPUs" if most == WIDTHS[-1][0] else name
            names.append((colour, f"{most} GPUs" if most == before + 1 > 1 else name))
        before = most
    _legend(svg, frame.y - 14, [("", "jobs on"), *names])


def _draw_shades(svg: Svg, frame: Frame, story: Story, spans: Sequence[Span], per_row: int) -> None:
    """Draw how many jobs each card ran on average, darker for more."""
    svg.rectangle(frame.x, frame.y, frame.width, frame.height, fill=_colour(EMPTY))
    table = jobs_per_gpu(spans, cards=story.cards, per_row=per_row, columns=COLUMNS, end=frame.end)
    most = max(1.0, *(max(row) for row in table)) if story.most > 64 else float(story.most)
    wide = frame.width / COLUMNS
    for row, cells in enumerate(table):
        levels = [min(SHADES, ceil(cell / most * SHADES - 1e-9)) for cell in cells]
        since = 0
        for column in range(1, COLUMNS + 1):
            if column < COLUMNS and levels[column] == levels[since]:
                continue
            if levels[since]:
                svg.rectangle(
                    frame.x + since * wide,
                    frame.y + row * frame.row_height,
                    (column - since) * wide,
                    frame.row_height,
                    fill=_shade(levels[since]),
                )
            since = column
    steps_told = [(_shade(0), "0")]
    steps_told += [(_shade(level), f"{most * level / SHADES:g}") for level in range(1, SHADES + 1)]
    _legend(svg, frame.y - 14, [("", "jobs per GPU, at most:"), *steps_told])


def _legend(svg: Svg, y: float, entries: Sequence[tuple[str, str]]) -> None:
    x = LEFT
    for colour, words in entries:
        if colour:
            svg.rectangle(x, y - 9, 14, 10, fill=colour)
            x += 18
        svg.text(x, y, words, size=11)
        x += 6.3 * len(words) + 16


def _name_rows(svg: Svg, frame: Frame, cards: int, per_row: int) -> None:
    every = max(1, ceil(12 / frame.row_height))
    for row in range(0, frame.rows, every):
        first, last = row * per_row, min(cards, (row + 1) * per_row) - 1
        name = f"{first}" if first == last else f"{first} to {last}"
        middle = frame.y + (row + 0.5) * frame.row_height
        svg.text(frame.x - 8, middle + 4, name, size=11, anchor="end")
    svg.text(8, frame.y - 14, "GPU", size=12, bold=True)


def _draw_curves(svg: Svg, frame: Frame, spans: Mapping[str, Sequence[Span]]) -> None:
    curves = {
        name: queue_lengths(policy_spans, SAMPLES, frame.end)
        for name, policy_spans in spans.items()
    }
    most = max((max(curve) for curve in curves.values()), default=0)
    marks = steps(float(max(1, most)), 4)
    top = marks[-1]
    for mark in marks:
        y = frame.y + frame.height * (1 - mark / top)
        svg.line([(frame.x, y), (frame.x + frame.width, y)], stroke="#dddddd")
        svg.text(frame.x - 8, y + 4, f"{mark:,.0f}", size=11, anchor="end")
    svg.text(8, frame.y - 14, "waiting", size=12, bold=True)
    entries = []
    for (name, curve), colour in reversed([*zip(curves.items(), CURVES, strict=False)]):
        points = []
        for at, value in enumerate(curve):
            y = frame.y + frame.height * (1 - value / top)
            points += [(frame.across(frame.end * (at + step) / SAMPLES), y) for step in (0, 1)]
        svg.line(points, stroke=colour, width=1.6)
        entries.append((colour, f"{name}: at most {counted(max(curve), 'job')}"))
    _legend(svg, frame.y - 14, entries[::-1])


def _draw_clock(svg: Svg, upper: Frame, lower: Frame) -> None:
    base = lower.y + lower.height
    svg.line([(lower.x, base), (lower.x + lower.width, base)], stroke="#333333")
    marks, unit = moments(lower.end)
    for at, name in marks:
        x = lower.across(at)
        svg.line([(x, base), (x, base + 5)], stroke="#333333")
        svg.line([(x, upper.y + upper.height), (x, upper.y + upper.height + 4)], stroke="#999999")
        svg.text(x, base + 19, name, size=11, anchor="middle")
    middle = lower.x + lower.width / 2
    svg.text(middle, base + 40, f"{unit} since the first submission", size=12, anchor="middle")


def _shade(level: int) -> str:
    share = level / SHADES
    mixed = [round(a + (b - a) * share) for a, b in zip(EMPTY, FULL, strict=True)]
    return _colour((mixed[0], mixed[1], mixed[2]))


def _colour(rgb: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)
