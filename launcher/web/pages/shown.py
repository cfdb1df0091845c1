"""Rows of pages: what several templates show alike."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from launcher.screens.gpu_view import Gauge
from launcher.units import format_bytes
from launcher.web.charts.bars import stacked_bar


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRow:
    """A GPU as a card."""

    gauge: Gauge
    bar: Markup
    spark: Markup
    notes: Sequence[tuple[str, str]]  # text and tone


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressRow:
    """How far a run is."""

    name: str
    done: int
    total: int
    until: float | None  # when it will be done, in seconds since 1970; None: unknown


def memory_bar(gauge: Gauge) -> Markup:
    """Return a GPU's memory as a bar: ours, others', promised; striped where its use is unknown."""
    gpu = gauge.gpu
    if gpu.used is None or not gpu.total:
        return stacked_bar((("unknown", 1.0),), "how much memory is in use is unknown")
    ours = min(gauge.ours or 0, gpu.used)
    promised = gauge.outstanding + sum(promise.amount for promise in gauge.foreign)
    amounts = (("ours", ours), ("others", gpu.used - ours), ("promised", promised))
    note = ", ".join(f"{format_bytes(amount)} {word}" for word, amount in amounts if amount)
    shares = tuple((word, amount / gpu.total) for word, amount in amounts)
    return stacked_bar(shares, f"{note or 'nothing'} of {format_bytes(gpu.total)}")
