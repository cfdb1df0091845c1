"""What a page of qualities shows: methods over their seeds, on copies of the same images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from trueface.evaluation.over_seeds import OverSeeds, over_seeds, short_names
from trueface.evaluation.score_tables import without_seed

TOTALS = ("mean", "worst", "pooled")
NO_GAIN = "no gain shown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """An AUC with its 95 % interval over images; None where it is not defined."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """A model on the images at one quality."""

    name: str  # "raw", "jpeg50", "half+jpeg30"
    auc: Area
    accuracy: float | None
    real_score: float | None  # mean probability of fake over the real images
    fake_score: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A method minus the reference, on the same images."""

    value: float
    low: float | None
    high: float | None

    @property
    def words(self) -> str:
        """What may be said of it: no gain or loss whose interval holds 0."""
        if self.low is not None and self.low > 0:
            return "gain"
        if self.high is not None and self.high < 0:
            return "loss"
        return NO_GAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model on one test, at all its qualities."""

    model: str
    data: str
    qualities: tuple[Quality, ...]  # in the order of the test
    totals: Mapping[str, Area]  # of TOTALS
    worst_quality: str
    left_out: int  # images that were not scored in every quality
    against: str  # the reference's ID; "" where there is none
    # of TOTALS, and of qualities by name; of all seeds of the method together
    differences: Mapping[str, Difference]

    def area(self, quality: str) -> Area:
        """Return the AUC at a quality."""
        return next((each.auc for each in self.qualities if each.name == quality), Area())


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method: models that differ in nothing but their seed."""

    name: str
    rows: tuple[Row, ...]

    def auc(self, quality: str) -> OverSeeds | None:
        """Return the AUC at a quality."""
        return over_seeds(row.area(quality).value for row in self.rows)

    def total(self, name: str) -> OverSeeds | None:
        """Return one of TOTALS."""
        return over_seeds(row.totals.get(name, Area()).value for row in self.rows)

    def score(self, quality: str, *, fake: bool) -> OverSeeds | None:
        """Return the mean score of the real or fake images at a quality."""
        return over_seeds(
            each.fake_score if fake else each.real_score
            for row in self.rows
            for each in row.qualities
            if each.name == quality
        )

    def difference(self, name: str) -> Difference | None:
        """Return how far the method, all seeds together, is from the reference."""
        return next((row.differences[name] for row in self.rows if name in row.differences), None)

    def band(self, quality: str) -> tuple[float, float] | None:
        """Return the band about a point: ± the seeds' deviation, of one seed its interval."""
        auc = self.auc(quality)
        if auc is None:
            return None
        if auc.sd is not None:
            return auc.mean - auc.sd, auc.mean + auc.sd
        ends = self.rows[0].area(quality)
        return None if ends.low is None or ends.high is None else (ends.low, ends.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All methods on one test."""

    data: str
    qualities: tuple[str, ...]
    methods: tuple[Method, ...]

    @property
    def against(self) -> str:
        """The reference of the differences; "" where there is none."""
        return next((row.against for row in self._rows if row.against), "")

    @property
    def left_out(self) -> int:
        """How many images were not scored in every quality, at most."""
        return max((row.left_out for row in self._rows), default=0)

    @property
    def _rows(self) -> Iterator[Row]:
        return (row for method in self.methods for row in method.rows)


def comparisons(rows: Sequence[Row]) -> tuple[Comparison, ...]:
    """Return the rows by test, each in the order of its first row."""
    names = short_names([without_seed(row.model) for row in rows])
    groups: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        groups.setdefault(row.data, {}).setdefault(names[without_seed(row.model)], []).append(row)
    return tuple(
        Comparison(
            data=data,
            qualities=tuple(
                dict.fromkeys(
                    quality.name
                    for rows_ in methods.values()
                    for row in rows_
                    for quality in row.qualities
                )
            ),
            methods=tuple(Method(name=name, rows=tuple(of)) for name, of in methods.items()),
        )
        for data, methods in groups.items()
    )
