"""Detectors of random weights."""

from typing import Any

from trueface.models.detectors import Detector, build_detector


def untrained(name: str, **given: Any) -> Detector:
    """Return a detector whose weights follow from a seed alone."""
    return build_detector(name, **{"weights": "none", "seed": 1, **given})
