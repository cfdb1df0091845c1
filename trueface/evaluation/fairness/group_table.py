"""The table of one grouping: a row a group, the gaps between them, and what is undefined."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation.bootstrap import Floats, Measure
from trueface.evaluation.fairness import noise_floor
from trueface.evaluation.fairness.gaps import AUC_GAP, MEASURES, gaps, spread
from trueface.evaluation.fairness.group_areas import Ranking, areas, interval
from trueface.evaluation.fairness.group_rates import PERCENT, Counts, count, wilson
from trueface.evaluation.fairness.noise_floor import SHUFFLES, Floor
from trueface.runtime.errors import DataError

REAL, FAKE = "real", "fake"
OF_CLASS = {REAL: ("fpr",), FAKE: ("tpr",)}  # rates that need a class
OF_BOTH = "auc"
TOO_FEW = "fewer than two groups have such a rate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Undefined:
    """A rate that a group has not."""

    group: str
    rate: str  # "fpr", "tpr", "auc", or of a measure its name with the group ""
    missing: str  # the class: "real", "fake", or ""
    reason: str

    @property
    def record(self) -> dict[str, str]:
        """The same as JSON."""
        return {
            "group": self.group, "rate": self.rate, "class": self.missing, "reason": self.reason,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRow:
    """One group, or all of them together."""

    name: str
    reals: int
    fakes: int
    # in per cent with Wilson's interval: fpr, tpr, acc, positive; auc in 0 … 1; those there are
    rates: Mapping[str, Measure]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupTable:
    """The rates of groups at one threshold, and how far they lie apart.

    Attributes:
        threshold: in logits: what lies above is called fake.
        groups: in the order of their names; those without an image are left out.
        overall: of all images.
        measures: in per cent: those of `gaps.MEASURES` and `auc_gap`; None where undefined.
        floor: of those that are defined; see `noise_floor`.
        intervals: likewise, but for the AUC gap.
        worst: the group with the lowest AUC, "" where none has one.
        undefined: every rate that a group has not, and every measure that is undefined.
        called: the fraction of all images that was called fake, 0 … 1.
        equal: whether all logits are the same.
    """

    threshold: float
    groups: tuple[GroupRow, ...]
    overall: GroupRow
    measures: Mapping[str, float | None]
    floor: Mapping[str, Floor]
    intervals: Mapping[str, Measure]
    worst: str
    undefined: tuple[Undefined, ...]
    called: float
    equal: bool

    @property
    def constant(self) -> bool:
        """Whether the detector calls every image the same: it has no gaps, and no use."""
        return self.equal or self.called in {0.0, 1.0}

    @classmethod
    def of(
        cls,
        labels: NDArray[np.integer],
        logits: Floats,
        groups: NDArray[np.integer],
        names: Sequence[str],
        threshold: float = 0.0,
        *,
        shuffles: int = SHUFFLES,
        ranking: Ranking | None = None,
        beside: "GroupTable | None" = None,
        seed: int = 0,
    ) -> "GroupTable":
        """Return the table of N images.

        Args:
            labels: (N,) 1 fake, 0 real.
            logits: (N,) positive = fake.
            groups: (N,) number of the group of each image, an index of `names`.
            names: of the groups.
            threshold: in logits; 0 is a probability of a half.
            shuffles: for the floor; 0: none, and no intervals of measures.
            ranking: of the logits, where it is at hand.
            beside: table of the same images at another threshold, where it is at hand: the AUC has
                no threshold, and its floor is taken from there.
            seed: root seed of the shuffles.

        Raises:
            DataError: no image, or a logit that is no finite number.
        """
        _check(logits)
        fake, called = labels == 1, logits > threshold
        ranking = Ranking.of(logits) if ranking is None else ranking
        size = len(names)
        counts = count(fake, called, groups, size)
        group_areas = areas(ranking, fake, groups, size)
        whole = areas(ranking, fake, np.zeros(len(fake), np.uint8), 1)
        there = counts.rows > 0
        values = {
            **{name: _finite(value) for name, value in gaps(counts).items()},
            AUC_GAP: _finite(PERCENT * spread(group_areas)),
        }
        floor = dict(noise_floor.floors(counts, shuffles=shuffles, seed=seed)) if shuffles else {}
        if beside is not None:
            floor |= {name: beside.floor[name] for name in (AUC_GAP,) if name in beside.floor}
        elif shuffles and values[AUC_GAP] is not None:
            of_areas = noise_floor.area_floor(
                ranking, fake, groups, size, shuffles=shuffles, seed=seed
            )
            floor |= {} if of_areas is None else {AUC_GAP: of_areas}
        rows = tuple(_rows(names, counts, group_areas))
        return cls(
            threshold=threshold,
            groups=tuple(row for row, any_ in zip(rows, there, strict=True) if any_),
            overall=next(_rows(("all",), counts.overall, whole)),
            measures=values,
            floor=floor,
            intervals=noise_floor.intervals(counts, seed=seed) if shuffles else {},
            worst=_worst(names, group_areas),
            undefined=tuple(_undefined(names, counts, values)),
            called=float(called.mean()),
            equal=bool(np.ptp(logits) == 0),
        )


def _check(logits: Floats) -> None:
    if not len(logits):
        raise DataError("no image has a group: there is nothing to measure")
    broken = int(np.count_nonzero(~np.isfinite(logits)))
    if broken:
        raise DataError(f"{broken} of {len(logits)} logits are no finite numbers")


def _rows(names: Sequence[str], counts: Counts, group_areas: Floats) -> Iterator[GroupRow]:
    """Yield the row of each group, with the rates that it has."""
    rates = {
        "fpr": (counts.fpr, counts.reals),
        "tpr": (counts.tpr, counts.fakes),
        "acc": (counts.accuracy, counts.rows),
        "positive": (counts.positive, counts.rows),
    }
    ends = {
        name: wilson(shares, images) for name, (shares, images) in rates.items() if images.any()
    }
    for at, name in enumerate(names):
        reals, fakes = int(counts.reals[at]), int(counts.fakes[at])
        measures = {
            rate: Measure(
                value=PERCENT * float(shares[at]),
                low=PERCENT * float(ends[rate][0][at]),
                high=PERCENT * float(ends[rate][1][at]),
            )
            for rate, (shares, images) in rates.items()
            if images[at]
        }
        if np.isfinite(group_areas[at]):
            area = float(group_areas[at])
            low, high = interval(area, reals, fakes)
            measures[OF_BOTH] = Measure(value=area, low=min(low, area), high=max(high, area))
        yield GroupRow(name=name, reals=reals, fakes=fakes, rates=measures)


def _undefined(
    names: Sequence[str], counts: Counts, values: Mapping[str, float | None]
) -> Iterator[Undefined]:
    for name, reals, fakes in zip(names, counts.reals, counts.fakes, strict=True):
        for kind, images in ((REAL, reals), (FAKE, fakes)):
            if images:
                continue
            for rate in (*OF_CLASS[kind], OF_BOTH):
                reason = f"no {kind} image of {name}"
                yield Undefined(group=name, rate=rate, missing=kind, reason=reason)
    for measure in (*MEASURES, AUC_GAP):
        if values[measure] is None:
            yield Undefined(group="", rate=measure, missing="", reason=TOO_FEW)


def _worst(names: Sequence[str], group_areas: Floats) -> str:
    defined = np.flatnonzero(np.isfinite(group_areas))
    return names[int(defined[np.argmin(group_areas[defined])])] if len(defined) else ""


def _finite(value: Floats) -> float | None:
    return float(value) if np.isfinite(value) else None
