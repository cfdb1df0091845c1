"""Landmarks of a face whose head sways, whose mouth opens and whose eyes blink: formulas, in the order of iBUG 300-W."""

import numpy as np
from numpy.typing import NDArray

from trueface.data.landmark_calibration import CENTER

Points = NDArray[np.float64]  # (N, 68, 2)

WIDE, HIGH = (0.7, 0.9), (0.7, 0.9)  # half of a face, from -1 to 1
SWAY, TURN = 0.06, 0.12  # amplitudes of the motion of a head, and of its angle in radians
PERIOD = (14, 30)  # frames of a period of the head
SPEECH = (6, 12)  # frames of a period of the mouth
OPEN, BLINK = 0.5, 0.8  # fractions by which a mouth opens and eyes close
BLINK_EVERY = (18, 40)  # frames between two blinks
MOUTH, EYES = slice(48, 68), slice(36, 48)


def plain_face() -> NDArray[np.float64]:
    """Return 68 points of a face, (68, 2), from -1 to 1: x to the right, y down."""
    jaw = [(-np.cos(angle), np.sin(angle)) for angle in np.linspace(0, np.pi, 17)]
    brows = [(x, -0.5) for x in (*np.linspace(-0.7, -0.2, 5), *np.linspace(0.2, 0.7, 5))]
    nose = [(0.0, y) for y in np.linspace(-0.3, 0.1, 4)]
    base = [(x, 0.2) for x in np.linspace(-0.2, 0.2, 5)]
    rings = ((-0.4, -0.3, 6, 0.1), (0.4, -0.3, 6, 0.1), (0.0, 0.5, 12, 0.3), (0.0, 0.5, 8, 0.2))
    parts = [
        (x - radius * np.cos(angle), y - radius * np.sin(angle) / 3)
        for x, y, count, radius in rings
        for angle in np.linspace(0, 2 * np.pi, count, endpoint=False)
    ]
    return np.array([*jaw, *brows, *nose, *base, *parts])


def move_points(rng: np.random.Generator, frames: int) -> Points:
    """Return calibrated landmarks (frames, 68, 2) of a face that moves smoothly, in whole pixels of a face."""
    face = plain_face() * (rng.uniform(*WIDE), rng.uniform(*HIGH))
    times = np.arange(frames)
    phases = rng.uniform(0, 2 * np.pi, 4)
    head, speech = 2 * np.pi / rng.uniform(*PERIOD, 2), 2 * np.pi / rng.uniform(*SPEECH)
    opening = 1 + OPEN * np.sin(speech * times + phases[0])
    blink = (times + rng.integers(0, 40)) % rng.integers(*BLINK_EVERY) < 3  # frames of a blink
    rows = np.repeat(face[None], frames, axis=0)
    for part, factor in ((MOUTH, opening), (EYES, np.where(blink, 1 - BLINK, 1))):
        middle = rows[:, part, 1].mean(1, keepdims=True)
        rows[:, part, 1] = middle + (rows[:, part, 1] - middle) * factor[:, None]
    angle = TURN * np.sin(head[0] * times + phases[1])
    turn = np.stack([np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)], 1)
    turned = rows @ turn.reshape(-1, 2, 2)
    place = SWAY * np.stack(
        [np.sin(head[0] * times + phases[2]), np.cos(head[1] * times + phases[3])], 1
    )
    moved: Points = np.rint((turned + place[:, None]) * CENTER) / CENTER
    return moved
