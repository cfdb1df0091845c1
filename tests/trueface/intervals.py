"""The interval of an estimate that has one."""

from trueface.benchmark.results import MeasureValue
from trueface.evaluation.estimate import Difference, Estimate, Interval


def interval_of(measure: Estimate | Difference | MeasureValue) -> Interval:
    assert measure.interval is not None
    return measure.interval
