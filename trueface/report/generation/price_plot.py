"""The price on clean images against the damage that is left, on two logarithmic axes."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from trueface.report.generation.purifier_verdicts import NONE
from trueface.report.generation.rows import Row
from trueface.report.label_placement import Box, mark, placed
from trueface.report.svg import Frame, axes, number, svg

WIDTH, HEIGHT = 1050, 460
EDGE_DECADES = 0.15
FREE_DECADES = 0.35  # left of the least price: the place of those that cost nothing
Place = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """A purifier: its price, and the damage it leaves without and with knowledge of it."""

    name: str
    price: float  # ≥ 0
    blind: float | None
    adaptive: float | None

    @property
    def damages(self) -> tuple[float, ...]:
        return tuple(value for value in (self.blind, self.adaptive) if value is not None)


def price_plot(rows: Sequence[Row]) -> str:
    """Return the plot; nothing where no purifier has both numbers. Better is lower and further left."""
    pairs = list(_pairs(rows))
    if not pairs:
        return ""
    prices = [math.log10(pair.price) for pair in pairs if pair.price > 0] or [-3.0, -1.0]
    damages = [math.log10(value) for pair in pairs for value in pair.damages]
    free = any(pair.price <= 0 for pair in pairs)
    least = min(prices) - (FREE_DECADES if free else EDGE_DECADES)
    frame = Frame(
        width=WIDTH,
        height=HEIGHT,
        left=64,
        x=(least, max(prices) + EDGE_DECADES),
        y=(min(damages) - EDGE_DECADES, max(damages) + EDGE_DECADES),
    )
    at = {pair.name: _places(frame, pair) for pair in pairs}
    parts = [_axes(frame), *_marks(pairs, at), *_names(frame, pairs, at)]
    picture = svg(
        frame,
        parts,
        title="Damage left by the price on clean images",
        description="; ".join(map(_words, pairs)),
    )
    shapes = (
        (
            "attack that does not know the purifier",
            '<circle class="of-method" cx="8" cy="6" r="4.5"/>',
        ),
        ("attack that does (adaptive)", '<path class="of-broken" d="M4 2l8 8m0 -8l-8 8"/>'),
    )
    key = "".join(
        f'<li><svg width="16" height="12" aria-hidden="true">{shape}</svg><span>{name}</span></li>'
        for name, shape in shapes
    )
    return (
        f'<figure class="picture"><div class="wide">{picture}</div>'
        f'<ul class="key across">{key}</ul></figure>'
    )


def _pairs(rows: Sequence[Row]) -> Iterator[_Pair]:
    for row in rows:
        # who does nothing costs nothing, and need not be measured
        price = 0.0 if row.name == NONE else row.mean("price_clean")
        blind, adaptive = (
            value if value is not None and value > 0 else None
            for value in (row.mean("mse"), row.mean("mse_adaptive"))
        )
        if price is not None and (blind is not None or adaptive is not None):
            yield _Pair(name=row.name, price=price, blind=blind, adaptive=adaptive)


def _places(frame: Frame, pair: _Pair) -> tuple[Place | None, Place | None]:
    x = math.log10(pair.price) if pair.price > 0 else frame.x[0]
    blind, adaptive = (
        None if value is None else frame.at(x, math.log10(value))
        for value in (pair.blind, pair.adaptive)
    )
    return blind, adaptive


def _marks(
    pairs: Sequence[_Pair], at: dict[str, tuple[Place | None, Place | None]]
) -> Iterator[str]:
    for pair in pairs:
        blind, adaptive = at[pair.name]
        if blind and adaptive:
            yield f'<path class="leader" d="M{blind[0]:.1f} {blind[1]:.1f}V{adaptive[1]:.1f}"/>'
        if blind:
            yield f'<circle class="of-method" cx="{blind[0]:.1f}" cy="{blind[1]:.1f}" r="4.5"/>'
        if adaptive:
            x, y = adaptive
            yield f'<path class="of-broken" d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"/>'


def _names(
    frame: Frame, pairs: Sequence[_Pair], at: dict[str, tuple[Place | None, Place | None]]
) -> Iterator[str]:
    """Yield a name for each pair: beside its adaptive mark, as that one counts."""
    (left, bottom), (right, top) = (
        frame.at(frame.x[0], frame.y[0]),
        frame.at(frame.x[1], frame.y[1]),
    )
    room = Box(left=left + 2, top=top, right=right + frame.right, bottom=bottom - 1)
    every = [place for both in at.values() for place in both if place]
    lines = [
        Box(
            left=first[0] - 1,
            right=first[0] + 1,
            top=min(first[1], second[1]),
            bottom=max(first[1], second[1]),
        )
        for first, second in at.values()
        if first and second
    ]
    places = [place for pair in pairs for place in [at[pair.name][1] or at[pair.name][0]] if place]
    names = [f"{pair.name} (costs nothing)" if pair.price <= 0 else pair.name for pair in pairs]
    taken = [*(mark(*place) for place in every), *lines]
    for label, (x, y) in zip(placed(names, places, room=room, taken=taken), places, strict=True):
        if label.leader:
            yield f'<path class="leader" d="M{x:.1f} {y:.1f}L{label.x:.1f} {label.y - 3:.1f}"/>'
        yield (
            f'<text class="mark-label" x="{label.x:.1f}" y="{label.y:.1f}" '
            f'text-anchor="{label.anchor}">{escape(label.text)}</text>'
        )


def _axes(frame: Frame) -> str:
    x_ticks, x_names = log_ticks(*frame.x)
    plain = axes(
        frame,
        "price: MSE of the output of purified clean images",
        "MSE of the output that is left",
        x_ticks=x_ticks,
        x_names=x_names,
        y_ticks=(),
    )
    parts = [plain]
    for value, name in zip(*log_ticks(*frame.y), strict=True):
        (left, y), (right, _) = frame.at(frame.x[0], value), frame.at(frame.x[1], value)
        parts.append(f'<path class="grid" d="M{left:.1f} {y:.1f}H{right:.1f}"/>')
        parts.append(f'<text x="{left - 5:.1f}" y="{y + 3.5:.1f}" text-anchor="end">{name}</text>')
    return "".join(parts)


def log_ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """Return the ticks of a logarithmic axis, at 1, 2 and 5 of each decade, and their names.

    Args:
        low: exponent of ten of its least value.
        high: that of its greatest one.
    """
    values = [
        factor * 10.0**power
        for power in range(math.floor(low), math.ceil(high) + 1)
        for factor in (1, 2, 5)
    ]
    inside = [value for value in values if low <= math.log10(value) <= high]
    return [math.log10(value) for value in inside], [
        number(float(f"{value:.3g}")) for value in inside
    ]


def _words(pair: _Pair) -> str:
    damages = (
        f"{value:.4f} {word}"
        for value, word in ((pair.blind, "non-adaptive"), (pair.adaptive, "adaptive"))
        if value is not None
    )
    return f"{pair.name}: price {pair.price:.4f}, {', '.join(damages)}"
