"""The threshold at which a model calls a given part of all reals fake, by its validation.

At a probability of a half models differ in how often they call anything fake; their gaps are then
those of their calibration as well. At a common false positive rate that is the same for all groups,
what is left is how unevenly these mistakes are spread.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import numpy as np

from trueface.evaluation.fairness.groups import (
    AUC_GAP,
    MEASURES,
    OF_BOTH,
    PERCENT,
    GroupRow,
    GroupTable,
)
from trueface.evaluation.intervals import Difference, Floats, Measure
from trueface.evaluation.over_seeds import without_seed
from trueface.runtime import paths
from trueface.runtime.errors import CheckpointError
from trueface.runtime.files import Json

TARGET = 0.10  # of validation's reals are called fake
FEWEST = 20  # reals of validation: of fewer no image, or a single one, would be a tenth
RATES = ("fpr", "tpr", "acc", "positive", OF_BOTH)
ROUNDING = 1e-9  # of a gap in per cent
NEAR = 2.0  # times its floor: a gap below that is said to be near it
SHOWN = ("fpr_gap", "tpr_gap", "f_fpr", "f_eo", "f_oae", "f_dp", "f_meo", "auc_gap")


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationThreshold:
    """A threshold, or why there is none."""

    threshold: float | None  # in logits: what lies above is called fake
    reals: int  # of validation
    reason: str  # "" where there is a threshold


def at_rate(reals: Floats, rate: float = TARGET) -> float:
    """Return the lowest of these logits (N,) above which at most `rate` of them lie."""
    ordered = np.sort(reals)[::-1]
    return float(ordered[int(rate * len(ordered))])


def of_model(folder: Path) -> ValidationThreshold:
    """Return the threshold of a model's folder by validation's answers in its checkpoint."""
    path = paths.checkpoint(folder)
    if not path.is_file():
        return _none(0, "the model's weights, which keep validation's answers, are not there")
    # torch takes a second to import
    from trueface.models import checkpoint

    try:
        reference = checkpoint.load(path).reference
    except CheckpointError as error:
        return _none(0, str(error))
    labels, logits = reference.get("labels"), reference.get("logits")
    if labels is None or logits is None or labels.shape != logits.shape:
        return _none(0, "the checkpoint keeps no answers of validation")
    reals = logits.double().numpy()[labels.numpy() == 0]
    if len(reals) < FEWEST:
        return _none(len(reals), f"{len(reals)} reals in validation, and {FEWEST} are needed")
    return ValidationThreshold(threshold=at_rate(reals), reals=len(reals), reason="")


def _none(reals: int, reason: str) -> ValidationThreshold:
    return ValidationThreshold(threshold=None, reals=reals, reason=reason)


class Verdict(StrEnum):
    """How a gap stands to its floor: the 95 % point of shuffled groups."""

    ABOVE = "above chance"
    NEAR = "near its floor"  # above the floor, but less than twice as large
    WITHIN = "not above chance"
    UNDEFINED = "undefined"


# a gap within its floor is near it, too
VERDICTS = {Verdict.WITHIN: f"{Verdict.NEAR}, {Verdict.WITHIN}"}


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Mean and standard deviation over seeds; without the latter of one seed."""

    mean: float
    sd: float | None

    @classmethod
    def of(cls, values: Iterable[float | None]) -> "Spread | None":
        """Return that of all values; None where one of them is undefined, or there is none."""
        listed = list(values)
        known = [value for value in listed if value is not None]
        if not known or len(known) < len(listed):
            return None
        sd = float(np.std(known, ddof=1)) if len(known) > 1 else None
        return cls(mean=float(np.mean(known)), sd=sd)

    @property
    def record(self) -> dict[str, Json]:
        """The same as JSON."""
        return {"mean": self.mean, "sd": self.sd}


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """The seeds of one model on one set of images, by one grouping."""

    rows: tuple[FairnessRow, ...]
    rank: int | None = None  # by FPR gap, from 1 on; None: not ranked

    @property
    def model(self) -> str:
        """Its ID without the seed."""
        return without_seed(self.rows[0].model)

    @property
    def place(self) -> tuple[str, str]:
        """What it is compared within: set of images and grouping."""
        return self.rows[0].data, self.rows[0].by

    @property
    def auc(self) -> Spread | None:
        """The AUC of all images."""
        return Spread.of(None if row.auc is None else row.auc.value for row in self.rows)

    @property
    def worst_auc(self) -> Spread | None:
        """The AUC of the worst group, whichever that is."""
        return Spread.of(_worst_area(row) for row in self.rows)

    @property
    def constant(self) -> bool:
        """Whether a seed of it calls every image the same."""
        return any(row.table.constant for row in self.rows)

    @property
    def comparable(self) -> bool:
        """Whether all seeds are; they are compared together."""
        return all(row.comparable for row in self.rows)

    @property
    def verdict(self) -> Verdict:
        """How the mean FPR gap stands to the mean of its floors."""
        gap, floor = self.measure("fpr_gap"), self.floor("fpr_gap")
        if gap is None or floor is None:
            return Verdict.UNDEFINED
        return against_floor(gap.mean, floor.mean)

    @property
    def words(self) -> str:
        """The verdict with what has to be known before any gap."""
        parts = ["constant" if self.constant else VERDICTS.get(self.verdict, str(self.verdict))]
        parts += [] if self.comparable else [self.why_not.partition(":")[0]]
        return ", ".join(parts)

    @property
    def why_not(self) -> str:
        """Why it is not comparable; "" where it is."""
        return next((row.why_not for row in self.rows if row.why_not), "")

    def measure(self, name: str, *, common: bool = False) -> Spread | None:
        """Return a measure, at a probability of a half or at the common rate of validation."""
        tables = (row.common if common else row.table for row in self.rows)
        return Spread.of(None if table is None else table.measures[name] for table in tables)

    def floor(self, name: str, *, common: bool = False) -> Spread | None:
        """Return the 95 % point of a measure's shuffles."""
        tables = [row.common if common else row.table for row in self.rows]
        floors = [None if table is None else table.floor.get(name) for table in tables]
        return Spread.of(None if floor is None else floor.p95 for floor in floors)

    @property
    def record(self) -> dict[str, Json]:
        """The same as JSON."""
        (data, by), first = self.place, self.rows[0]  # seeds are compared together
        measures = {name: _json(self.measure(name)) for name in SHOWN}
        floors = {f"{name}_floor": _json(self.floor(name)) for name in SHOWN}
        return {
            "model": self.model,
            "data": data,
            "by": by,
            "seeds": len(self.rows),
            "auc": _json(self.auc),
            "worst_group_auc": _json(self.worst_auc),
            **measures,
            **floors,
            "fpr_gap_at_common_fpr": _json(self.measure("fpr_gap", common=True)),
            "fpr_gap_at_common_fpr_floor": _json(self.floor("fpr_gap", common=True)),
            "constant": self.constant,
            "verdict": str(self.verdict),
            "comparable": self.comparable,
            "why_not": self.why_not,
            "auc_to_best": None if first.to_best is None else first.to_best.record,
            "auc_to_reference": None if first.to_reference is None else first.to_reference.record,
            "rank": self.rank,
        }


def methods(rows: Sequence[FairnessRow]) -> list[Method]:
    """Return the rows over seeds, in the order of their first one, with their ranks.

    The smallest mean FPR gap comes first. A method is ranked only where its AUC is not lower than the
    best one's beyond its interval, where it is no constant, and where it has a gap and a floor.
    """
    groups: dict[tuple[str, str, str], list[FairnessRow]] = {}
    for row in rows:
        groups.setdefault((row.data, row.by, without_seed(row.model)), []).append(row)
    made = [Method(rows=tuple(seeds)) for seeds in groups.values()]
    ranks: dict[int, int] = {}
    for place in dict.fromkeys(method.place for method in made):
        fit = [
            (gap.mean, at)
            for at, method in enumerate(made)
            if method.place == place and is_rankable(method)
            if (gap := method.measure("fpr_gap")) is not None
        ]
        ranks |= {at: rank for rank, (_, at) in enumerate(sorted(fit), start=1)}
    return [replace(method, rank=ranks.get(at)) for at, method in enumerate(made)]


def is_rankable(method: Method) -> bool:
    """Return whether a smaller gap than another's would mean anything."""
    return method.comparable and not method.constant and method.verdict is not Verdict.UNDEFINED


def _worst_area(row: FairnessRow) -> float | None:
    areas = {group.name: group.rates.get("auc") for group in row.table.groups}
    area = areas.get(row.table.worst)
    return None if area is None else area.value


def _json(spread: Spread | None) -> Json:
    return None if spread is None else spread.record
