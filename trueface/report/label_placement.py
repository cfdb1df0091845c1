"""Where the names of marks in a plot go, so that none lies on another."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

CHARACTER_PX = 6.6  # a wide guess for 11 px letters of any sans serif
ABOVE_PX, BELOW_PX = 9.0, 3.0  # of a base line
MARK_PX = 6.0  # half the side of a mark, with some air
RINGS_PX = (16, 26, 38, 52, 68, 88)  # how far a name may go from its mark, on a leader
ANGLES = 16

Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle in pixels, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: "Box") -> float:
        """Return the area that both cover."""
        across = min(self.right, other.right) - max(self.left, other.left)
        down = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(across, 0.0) * max(down, 0.0)

    def outside(self, room: "Box") -> float:
        """Return by how many pixels it leaves a room."""
        return (
            max(room.left - self.left, 0)
            + max(self.right - room.right, 0)
            + max(room.top - self.top, 0)
            + max(self.bottom - room.bottom, 0)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A name at its place; `x` and `y` are of its base line."""

    text: str
    x: float
    y: float
    anchor: Anchor
    leader: bool = False  # so far from its mark that a line must lead there

    @property
    def box(self) -> Box:
        """What the text covers, by guess."""
        wide = len(self.text) * CHARACTER_PX
        left = self.x - {"start": 0.0, "middle": wide / 2, "end": wide}[self.anchor]
        return Box(left=left, top=self.y - ABOVE_PX, right=left + wide, bottom=self.y + BELOW_PX)


def mark(x: float, y: float) -> Box:
    """Return what a mark covers."""
    return Box(left=x - MARK_PX, top=y - MARK_PX, right=x + MARK_PX, bottom=y + MARK_PX)


def placed(
    names: Sequence[str],
    places: Sequence[tuple[float, float]],
    *,
    room: Box,
    taken: Sequence[Box] = (),
) -> list[Label]:
    """Return a label for each mark: near it, inside the room, and on nothing else if that can be.

    Args:
        names: what to write.
        places: of the marks, in pixels.
        room: that labels must not leave.
        taken: what else labels must not cover.
    """
    marks = [mark(*place) for place in places]
    covered = [*taken, *marks]
    labels: dict[int, Label] = {}
    for index in sorted(range(len(names)), key=lambda index: -_crowd(places, index)):
        best: tuple[float, Label] | None = None
        for label in _candidates(names[index], *places[index]):
            cost = sum(label.box.overlap(other) for other in covered)
            cost += 1000 * label.box.outside(room)
            if label.leader:
                cost += _crossed(label, places[index], covered, own=marks[index])
            if best is None or cost < best[0]:
                best = cost, label
            if not cost:
                break
        if best is not None:
            labels[index] = best[1]
            covered.append(best[1].box)
    return [labels[index] for index in range(len(names))]


def _crowd(places: Sequence[tuple[float, float]], index: int) -> int:
    return sum(math.dist(places[index], other) < RINGS_PX[-2] for other in places)


def _candidates(text: str, x: float, y: float) -> Iterator[Label]:
    middle = (ABOVE_PX - BELOW_PX) / 2
    near: tuple[tuple[float, float, Anchor], ...] = (
        (MARK_PX + 2, middle, "start"),
        (-MARK_PX - 2, middle, "end"),
        (0, -MARK_PX - BELOW_PX, "middle"),
        (0, MARK_PX + ABOVE_PX, "middle"),
        (MARK_PX, -MARK_PX, "start"),
        (MARK_PX, MARK_PX + ABOVE_PX - 1, "start"),
        (-MARK_PX, -MARK_PX, "end"),
        (-MARK_PX, MARK_PX + ABOVE_PX - 1, "end"),
    )
    for across, down, anchor in near:
        yield Label(text=text, x=x + across, y=y + down, anchor=anchor)
    for ring in RINGS_PX:
        for step in range(ANGLES):
            angle = 2 * math.pi * (step + 0.5) / ANGLES
            across, down = ring * math.cos(angle), ring * math.sin(angle)
            anchor = "start" if across >= 0 else "end"
            yield Label(text=text, x=x + across, y=y + down + middle, anchor=anchor, leader=True)


def _crossed(
    label: Label, place: tuple[float, float], covered: Sequence[Box], *, own: Box
) -> float:
    """Return how much of a leader lies on other things, in samples of it."""
    end = (label.x, label.y - (ABOVE_PX - BELOW_PX) / 2)
    cost = 0.0
    for step in range(1, 10):
        x = place[0] + (end[0] - place[0]) * step / 10
        y = place[1] + (end[1] - place[1]) * step / 10
        point = Box(left=x - 0.5, top=y - 0.5, right=x + 0.5, bottom=y + 0.5)
        cost += sum(point.overlap(other) for other in covered if other is not own)
    return cost
