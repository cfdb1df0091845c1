"""Models over their seeds: mean and standard deviation, one verdict, and a rank where that is fair."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trueface.evaluation.fairness.row import FairnessRow, Verdict, against_floor
from trueface.evaluation.tested_sets import without_seed
from trueface.runtime.files import Json

# a gap within its floor is near it, too
VERDICTS = {Verdict.WITHIN: f"{Verdict.NEAR}, {Verdict.WITHIN}"}
SHOWN = ("fpr_gap", "tpr_gap", "f_fpr", "f_eo", "f_oae", "f_dp", "f_meo", "auc_gap")


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
