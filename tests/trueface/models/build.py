"""Detectors without training."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from torch import nn

from trueface.models.detectors import Detector, build_detector

DRAWS = ("kaiming_normal_", "kaiming_uniform_", "normal_", "trunc_normal_", "uniform_", "xavier_uniform_")  # fmt: skip


def untrained(name: str, **given: Any) -> Detector:
    """Return a detector whose weights follow from a seed alone."""
    return build_detector(name, **{"weights": "none", "seed": 1, **given})


def undrawn(name: str, **given: Any) -> Detector:
    """Return a detector of constant weights, in a fraction of the time."""
    with no_draws():
        return untrained(name, **given)


@contextmanager
def no_draws() -> Iterator[None]:
    """Let networks begin with constant weights: to draw millions takes long."""
    with pytest.MonkeyPatch.context() as patch:
        for each in DRAWS:
            patch.setattr(nn.init, each, lambda tensor, *_, **__: nn.init.constant_(tensor, 0.01))
        yield
