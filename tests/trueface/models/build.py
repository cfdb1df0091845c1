"""Detectors without training."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from torch import nn

from trueface.models.detectors import Detector, build_detector

KAIMING = ("kaiming_normal_", "kaiming_uniform_")
DRAWS = (*KAIMING, "normal_", "trunc_normal_", "uniform_", "xavier_uniform_")


def untrained(name: str, **given: Any) -> Detector:
    """Return a detector whose weights follow from a seed alone."""
    return build_detector(name, **{"weights": "none", "seed": 1, **given})


def undrawn(name: str, **given: Any) -> Detector:
    """Return a detector of constant weights, in a fraction of the time."""
    with no_draws():
        return untrained(name, **given)


@contextmanager
def no_draws() -> Iterator[None]:
    """Let networks begin with constant weights."""
    with pytest.MonkeyPatch.context() as patch:
        draw_no_weights(patch, DRAWS)
        yield


def draw_no_weights(patch: pytest.MonkeyPatch, draws: Sequence[str]) -> None:
    """Replace functions of `nn.init` by a constant: to draw millions of weights takes long."""
    for each in draws:
        patch.setattr(nn.init, each, lambda tensor, *_, **__: nn.init.constant_(tensor, 0.01))
