"""One model on one set of images by one grouping: what tables, pages and JSON show."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from trueface.evaluation.bootstrap import Difference, Measure
from trueface.evaluation.fairness.gaps import AUC_GAP, MEASURES
from trueface.evaluation.fairness.group_rates import PERCENT
from trueface.evaluation.fairness.group_table import OF_BOTH, GroupRow, GroupTable
from trueface.evaluation.fairness.validation_threshold import TARGET, ValidationThreshold
from trueface.runtime.files import Json

RATES = ("fpr", "tpr", "acc", "positive", OF_BOTH)
ROUNDING = 1e-9  # of a gap in per cent
NEAR = 2.0  # times its floor: a gap below that is said to be near it


class Verdict(StrEnum):
    """How a gap stands to its floor: the 95 % point of shuffled groups."""

    ABOVE = "above chance"
    NEAR = "near its floor"  # above the floor, but less than twice as large
    WITHIN = "not above chance"
    UNDEFINED = "undefined"


@dataclass(frozen=True, slots=True, kw_only=True)
class FairnessRow:
    """A model, a set of images, a grouping."""

    model: str
    data: str
    by: str
    pooled: bool
    auc: Measure | None  # of all images that have a group, with its interval over images
    table: GroupTable  # at a probability of a half
    common: GroupTable | None  # at the threshold of validation
    validation: ValidationThreshold
    comparable: bool
    why_not: str  # "" where it is comparable
    attributes: tuple[str, ...]  # files
    to_best: Difference | None = None  # of the method's mean AUC
    to_reference: Difference | None = None
    ungrouped: int = 0  # images without a group, left out
    note: str = ""

    @property
    def verdict(self) -> Verdict:
        """How the FPR gap at a probability of a half stands to its floor."""
        return verdict(self.table, "fpr_gap")

    @property
    def record(self) -> dict[str, Json]:
        """The same as JSON: rates and gaps in per cent, AUC in 0 … 1."""
        worst = next((row for row in self.table.groups if row.name == self.table.worst), None)
        return {
            "model": self.model,
            "data": self.data,
            "pooled": self.pooled,
            "by": self.by,
            "auc": None if self.auc is None else self.auc.value,
            "auc_low": None if self.auc is None else self.auc.low,
            "auc_high": None if self.auc is None else self.auc.high,
            "worst_group": self.table.worst or None,
            "worst_group_auc": None if worst is None else worst.rates[OF_BOTH].value,
            **table_record(self.table),
            "constant": self.table.constant,
            "verdict": str(self.verdict),
            "near_floor": self.verdict in {Verdict.NEAR, Verdict.WITHIN},
            "comparable": self.comparable,
            "why_not": self.why_not,
            "auc_to_best": None if self.to_best is None else self.to_best.record,
            "auc_to_reference": None if self.to_reference is None else self.to_reference.record,
            "at_common_fpr": self._common_record(),
            "attributes": list(self.attributes),
            "ungrouped": self.ungrouped,
            "note": self.note,
        }

    def _common_record(self) -> dict[str, Json]:
        head: dict[str, Json] = {
            "target": PERCENT * TARGET,
            "validation_reals": self.validation.reals,
            "reason": self.validation.reason,
        }
        if self.common is None:
            return {**head, "threshold": None}
        within = str(verdict(self.common, "fpr_gap"))
        return {**head, **table_record(self.common), "verdict": within}


def verdict(table: GroupTable, measure: str) -> Verdict:
    """Return how a measure of a table stands to its floor."""
    value, floor = table.measures[measure], table.floor.get(measure)
    if value is None or floor is None:
        return Verdict.UNDEFINED
    return against_floor(value, floor.p95)


def against_floor(value: float, floor: float) -> Verdict:
    """Return how a gap stands to the 95 % point of its shuffles."""
    if value <= floor + ROUNDING:
        return Verdict.WITHIN
    return Verdict.NEAR if value <= NEAR * floor else Verdict.ABOVE


def table_record(table: GroupTable) -> dict[str, Json]:
    """Return one table as JSON: measures with floors and intervals, groups, what is undefined."""
    record: dict[str, Json] = {"threshold": table.threshold}
    for name in (*MEASURES, AUC_GAP):
        floor, interval = table.floor.get(name), table.intervals.get(name)
        record |= {
            name: table.measures[name],
            f"{name}_low": None if interval is None else interval.low,
            f"{name}_high": None if interval is None else interval.high,
            f"{name}_floor": None if floor is None else floor.p95,
            f"{name}_floor_mean": None if floor is None else floor.mean,
        }
    return {
        **record,
        "overall": _group(table.overall),
        "groups": [{"name": row.name, **_group(row)} for row in table.groups],
        "undefined": [dict(each.record) for each in table.undefined],
    }


def _group(row: GroupRow) -> dict[str, Json]:
    rates = {key: value for rate in RATES for key, value in _rate(rate, row.rates)}
    return {"n_real": row.reals, "n_fake": row.fakes, **rates}


def _rate(rate: str, rates: Mapping[str, Measure]) -> list[tuple[str, float | None]]:
    measure = rates.get(rate)
    if measure is None:
        return [(rate, None), (f"{rate}_low", None), (f"{rate}_high", None)]
    return [(rate, measure.value), (f"{rate}_low", measure.low), (f"{rate}_high", measure.high)]
