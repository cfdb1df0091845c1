"""Features in the plane: a cloud of dots, in it crosses for what is to be forgotten."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trueface.report.svg import SERIES, Frame, svg

SIDE = 238
AIR = 0.25  # of the extent before, around it on each side
CROSS_PX = 2.4  # half its side

Limits = tuple[tuple[float, float], tuple[float, float]]


def limits(before: NDArray[np.float64]) -> Limits:
    """Return the part of the plane that is shown: where the features lay before, and some more."""
    low, high = before.min(0), before.max(0)
    air = np.maximum((high - low) * AIR, 1e-6)
    (left, down), (right, up) = (low - air).tolist(), (high + air).tolist()
    return (left, right), (down, up)


def beyond(places: NDArray[np.float64], shown: Limits) -> float:
    """Return the fraction of points outside of the plot."""
    (left, right), (down, up) = shown
    x, y = places[:, 0], places[:, 1]
    return float(np.mean((x < left) | (x > right) | (y < down) | (y > up)))


def cloud(
    name: str,
    places: NDArray[np.float64],
    *,
    classes: Sequence[int],
    label: NDArray[np.int64],
    forget: NDArray[np.bool_],
    shown: Limits,
) -> str:
    """Return features as dots in the colours of their classes, the forgotten as crosses.

    Args:
        name: for the title.
        places: (M, 2); what lies beyond `shown` is drawn on its edge.
        classes: in the order of their colours.
        label: (M,) class.
        forget: (M,) whether it is to be forgotten.
        shown: the part of the plane.
    """
    frame = Frame(width=SIDE, height=SIDE, left=8, right=8, top=8, bottom=8, x=shown[0], y=shown[1])
    pixels = [frame.at(float(x), float(y)) for x, y in places]
    edge = f'<path class="edge" d="M8 8H{SIDE - 8}V{SIDE - 8}H8Z"/>'
    parts = [edge]
    for kind, chosen in (("kept", ~forget), ("forgotten", forget)):
        for series, class_ in enumerate(classes):
            which = np.flatnonzero(chosen & (label == class_))
            if len(which):
                path = "".join(_sign(kind, *pixels[row]) for row in which)
                parts.append(f'<path class="{kind} s{series % SERIES}" d="{path}"/>')
    description = f"{int((~forget).sum())} kept, {int(forget.sum())} to be forgotten"
    out = beyond(places, shown)
    description += f"; {out:.0%} lie beyond the edge" if out else ""
    return svg(frame, parts, title=f"Features {name}", description=description)


def _sign(kind: str, x: float, y: float) -> str:
    if kind == "kept":
        return f"M{x:.1f} {y:.1f}h0"  # round ends make a dot of it
    size = 2 * CROSS_PX
    left, top = x - CROSS_PX, y - CROSS_PX
    return f"M{left:.1f} {top:.1f}l{size} {size}m0 -{size}l-{size} {size}"
