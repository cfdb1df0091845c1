"""How sure a model is of what it was to forget: before, after, and trained anew."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trueface.report.svg import Frame, axes, steps, svg, ticks

BINS = 20
EDGES = tuple(np.linspace(0, 1, BINS + 1).tolist())


def shares(beliefs: NDArray[np.float64]) -> list[float]:
    """Return the fraction of probabilities in each bin."""
    counts, _ = np.histogram(np.clip(beliefs, 0, 1), EDGES)
    return [float(count) for count in counts / max(counts.sum(), 1)]


def histogram(
    name: str,
    *,
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    retrain: NDArray[np.float64] | None,
    top: float,
) -> str:
    """Return one of several histograms of the same height `top`, a share."""
    frame = Frame(height=150, left=44, y=(0.0, top))
    drawn = [("before", before), ("after", after)]
    drawn += [("retrain", retrain)] if retrain is not None else []
    parts = [
        axes(frame, "probability", "share", y_ticks=ticks(0, top, 3)),
        *(steps(frame, EDGES, shares(beliefs), f"belief-{which}") for which, beliefs in drawn),
    ]
    medians = "; ".join(f"{which}: median {np.median(beliefs):.3f}" for which, beliefs in drawn)
    title = f"Probability of the label as trained, {name}"
    return svg(frame, parts, title=title, description=medians)


def greatest(groups: Sequence[NDArray[np.float64]]) -> float:
    """Return a height that holds them all."""
    return min(max((max(shares(group)) for group in groups), default=1.0) * 1.05, 1.0)
