"""What a page of fairness shows, methods over their seeds in an order that no gap decides, and says in words.

It says whose gap is more than chance, and who may be compared.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from trueface.evaluation.fairness.rows import Verdict, against_floor
from trueface.evaluation.over_seeds import OverSeeds, over_seeds, short_names, shown, without_seed

UNDEFINED = str(Verdict.UNDEFINED)


GAP = "fpr_gap"
LOWER = "lower AUC, not comparable"
CONSTANT = "constant"
_SENTENCES = {
    str(Verdict.ABOVE): "The FPR gap is above chance",
    str(Verdict.NEAR): "The FPR gap is near its floor, at most twice as large",
    str(Verdict.WITHIN): "The FPR gap is not above chance",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A rate of a group with its interval; None where it is not defined."""

    value: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def complement(self) -> "Rate":
        """The rate of the other answer: of a TPR in percent the FNR."""
        value, low, high = (
            None if end is None else 100 - end for end in (self.value, self.high, self.low)
        )
        return Rate(value=value, low=low, high=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A measure over groups, and what as many shuffled groups give by chance."""

    value: float | None = None
    floor: float | None = None  # 95 % point of the shuffles


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A group of a test: rates in percent, the AUC in 0 … 1."""

    name: str
    n_real: int
    n_fake: int
    rates: Mapping[str, Rate]  # "fpr", "tpr", "acc", "auc", "positive"

    def rate(self, name: str) -> Rate:
        """Return a rate; one without a value where there is none. "fnr" follows from the TPR."""
        if name == "fnr":
            return self.rate("tpr").complement
        return self.rates.get(name, Rate())


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """All that follows from the answers at one threshold."""

    gaps: Mapping[str, Gap]  # "fpr_gap", "f_fpr", …, in percent
    overall: Group | None
    groups: tuple[Group, ...]
    undefined: tuple[str, ...]  # rates of cells that are not defined, and why


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model on one test, by one column of groups."""

    model: str
    data: str
    by: str
    auc: Rate
    worst_group: str
    worst_auc: float | None
    constant: bool
    comparable: bool
    verdict: str  # of its FPR gap
    reason: str  # why it is not comparable, or its gap undefined; "" where nothing is said
    at_half: Point
    at_common: Point | None
    common: str  # which common rate that is, or why there is none
    note: str  # what must be known of its answers; "" where nothing is
    ungrouped: int  # images without a group, left out
    attributes: tuple[str, ...]


class Standing(IntEnum):
    """What may be said of a method's gap; better ones come first on the page."""

    COMPARABLE = 0
    LOWER_AUC = 1
    CONSTANT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method: models that differ in nothing but their seed."""

    name: str
    rows: tuple[Row, ...]

    @property
    def standing(self) -> Standing:
        """What may be said of its gap; one seed that is constant, or not comparable, decides it."""
        if any(row.constant for row in self.rows):
            return Standing.CONSTANT
        lower = any(not row.comparable for row in self.rows)
        return Standing.LOWER_AUC if lower else Standing.COMPARABLE

    @property
    def verdict(self) -> str:
        """How the mean FPR gap stands to the mean of its floors."""
        gap, floor = self.gap("fpr_gap"), self.floor("fpr_gap")
        if gap is None or floor is None:
            return UNDEFINED
        return str(against_floor(gap.mean, floor.mean))

    @property
    def agreeing(self) -> int:
        """Of how many seeds alone the verdict is the same."""
        return sum(row.verdict == self.verdict for row in self.rows)

    @property
    def auc(self) -> OverSeeds | None:
        """The AUC over all groups together."""
        return over_seeds(row.auc.value for row in self.rows)

    @property
    def worst_auc(self) -> OverSeeds | None:
        """The AUC of the group where it is lowest, seed by seed."""
        return over_seeds(row.worst_auc for row in self.rows)

    def points(self, *, common: bool = False) -> tuple[Point, ...]:
        """Return what each seed has at threshold .5, or at the common FPR."""
        points = (row.at_common if common else row.at_half for row in self.rows)
        return tuple(point for point in points if point is not None)

    def gap(self, name: str, *, common: bool = False) -> OverSeeds | None:
        """Return a measure over groups."""
        return over_seeds(self._gaps(name, common=common, floor=False))

    def floor(self, name: str, *, common: bool = False) -> OverSeeds | None:
        """Return what chance gives of it."""
        return over_seeds(self._gaps(name, common=common, floor=True))

    def _gaps(self, name: str, *, common: bool, floor: bool) -> Iterator[float | None]:
        for point in self.points(common=common):
            gap = point.gaps.get(name, Gap())
            yield gap.floor if floor else gap.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All methods on one test, by one column of groups."""

    data: str
    by: str
    methods: tuple[Method, ...]  # comparable ones first, constant ones last

    @property
    def comparable(self) -> tuple[Method, ...]:
        """Those whose gaps may be compared."""
        return self.of(Standing.COMPARABLE)

    def of(self, standing: Standing) -> tuple[Method, ...]:
        """Return the methods of which the same may be said."""
        return tuple(method for method in self.methods if method.standing is standing)


def comparisons(rows: Sequence[Row]) -> tuple[Comparison, ...]:
    """Return the rows by test and column, each in the order of their first row."""
    names = short_names([without_seed(row.model) for row in rows])
    groups: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in rows:
        methods = groups.setdefault((row.data, row.by), {})
        methods.setdefault(names[without_seed(row.model)], []).append(row)
    return tuple(
        Comparison(data=data, by=by, methods=_ordered(methods.items()))
        for (data, by), methods in groups.items()
    )


def _ordered(methods: Iterable[tuple[str, list[Row]]]) -> tuple[Method, ...]:
    made = [Method(name=name, rows=tuple(rows)) for name, rows in methods]
    return tuple(sorted(made, key=lambda method: method.standing))  # else in the task's order


def sentences(comparison: Comparison) -> Iterator[str]:
    """Yield the sentences of one test and column; plain text, to be escaped."""
    yield from _chance(comparison)
    yield from _comparable(comparison)
    for standing, words in (
        (Standing.LOWER_AUC, "Lower AUC, not comparable (a gap says little without equal AUC)"),
        (Standing.CONSTANT, "Constant, so without any gap and without any use"),
    ):
        methods = [method for method in comparison.of(standing) if method.auc]
        if methods:
            yield f"{words}: {_names(methods)}."
    without = [method.name for method in comparison.methods if not method.auc]
    if without:
        yield f"Without an AUC, as all images are of one class: {'; '.join(without)}."
    columns = {cell for method in comparison.methods for cell in _undefined(method)}
    if columns:
        number = f"{len(columns)} rate{'s are' if len(columns) > 1 else ' is'}"
        yield f"{number} not defined, and listed below the groups."
    yield from _notes(comparison)


def _notes(comparison: Comparison) -> Iterator[str]:
    rows = [row for method in comparison.methods for row in method.rows]
    ungrouped = max((row.ungrouped for row in rows), default=0)
    if ungrouped:
        yield f"Left out: {ungrouped} images without a group."
    for note in dict.fromkeys(row.note for row in rows if row.note):
        yield f"{note[:1].upper()}{note[1:]}."


def verdict(method: Method) -> str:
    """Return what the ladder says of a method."""
    if method.standing is Standing.CONSTANT:
        constant = sum(row.constant for row in method.rows)
        every = constant == len(method.rows)
        return CONSTANT if every else f"{CONSTANT} in {constant} of {len(method.rows)} seeds"
    parts = []
    if method.standing is Standing.LOWER_AUC:
        parts = [LOWER if method.auc else "no AUC, not comparable"]
    few = "" if method.agreeing == len(method.rows) else f" ({_of_seeds(method)})"
    return "; ".join([*parts, f"{method.verdict}{few}"])


def _of_seeds(method: Method) -> str:
    return f"by themselves {method.agreeing} of {len(method.rows)} seeds"


def _chance(comparison: Comparison) -> Iterator[str]:
    sound = [method for method in comparison.methods if method.standing is not Standing.CONSTANT]
    for word, sentence in _SENTENCES.items():
        methods = [method for method in sound if method.verdict == word]
        if methods:
            yield f"{sentence}: {'; '.join(map(_gap, methods))}."
    others = [method.name for method in sound if method.verdict not in _SENTENCES]
    if others:
        yield f"The FPR gap is not defined: {'; '.join(others)}."


def _comparable(comparison: Comparison) -> Iterator[str]:
    methods = comparison.comparable
    if len(methods) < 2:
        if len(comparison.methods) > 1:
            yield "No two methods are alike enough in AUC for their gaps to be compared."
        return
    yield f"Comparable by AUC: {_names(methods)}."
    gaps = [(gap, method) for method in methods if (gap := method.gap(GAP)) is not None]
    if len(gaps) < 2:
        return
    gaps.sort(key=lambda pair: pair[0].mean)
    (least, first), (second, other) = gaps[:2]
    clause = f"The smallest mean FPR gap among these is that of {first.name}, {shown(least, 1)}"
    if _overlap(least, second):
        spread = (
            "one seed cannot tell it" if least.sd is None else "the seeds' spread does not tell it"
        )
        clause += f"; {spread} from that of {other.name}, {shown(second, 1)}"
    yield f"{clause}."


def _overlap(first: OverSeeds, second: OverSeeds) -> bool:
    if first.sd is None or second.sd is None:
        return True
    return first.mean + first.sd >= second.mean - second.sd


def _gap(method: Method) -> str:
    floor = method.floor(GAP)
    against = "" if floor is None else f" (floor {floor.mean:.1f})"
    return f"{method.name} {shown(method.gap(GAP), 1)}{against}"


def _undefined(method: Method) -> Iterable[str]:
    return (cell for point in method.points() for cell in point.undefined)


def _names(methods: Sequence[Method]) -> str:
    return "; ".join(f"{method.name} (AUC {shown(method.auc, 3)})" for method in methods)
