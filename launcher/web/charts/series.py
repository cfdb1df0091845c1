"""A curve: its points, smoothed, and thinned to what a picture can show."""

from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[float, float]  # step, value
MOST = 1e300  # larger numbers have no place: the difference of two may have none
LEAST = 1e-300  # smaller ones are drawn as zero: a tenth of their difference may be none


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A named curve. Those of one `colour` have one colour; `dashed` ones differ by that."""

    name: str
    points: Sequence[Point]
    colour: int = 0
    dashed: bool = False


def finite(points: Sequence[Point], *, above_zero: bool = False) -> list[Point]:
    """Return the points that have a place on the axes.

    Args:
        points: any.
        above_zero: the axis is logarithmic.
    """
    return [
        (x, y if abs(y) >= LEAST else 0.0)
        for x, y in points
        if abs(x) <= MOST and abs(y) <= MOST and (y >= LEAST or not above_zero)  # NaN is not
    ]


def smoothed(points: Sequence[Point], weight: float) -> list[Point]:
    """Return the running mean in which older values count less and less.

    Args:
        points: in the order of their steps.
        weight: of what came before, from 0 (nothing changes) to below 1.

    Source: the exponential moving average of TensorBoard, divided by the sum of its weights, so that
        it begins at the first value.
    """
    mean, total = 0.0, 0.0
    result = []
    for x, y in points:
        mean = weight * mean + (1 - weight) * y
        total = weight * total + (1 - weight)
        result.append((x, mean / total))
    return result


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """Return at most so many points: of each stretch its lowest and its highest, in their order."""
    if len(points) <= most:
        return list(points)
    stretches = max(1, most // 2 - 1)
    size = len(points) / stretches
    kept: list[Point] = []
    for number in range(stretches):
        stretch = points[round(number * size) : round((number + 1) * size)]
        ends = {min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1])}
        kept += sorted(ends)
    return [points[0], *kept[1:-1], points[-1]]
