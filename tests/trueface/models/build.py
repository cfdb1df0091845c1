"""Detectors of random weights."""

from typing import Any

from trueface.models.detectors import Detector, build


def untrained(name: str, **given: Any) -> Detector:
    """Return a detector whose weights follow from a seed alone."""
    return build(name, **{"weights": "none", "seed": 1, **given})
