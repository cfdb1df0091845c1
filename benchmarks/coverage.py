"""How often 95 % intervals contain the true value, and how wide they are: simulated test sets.

python -m benchmarks.coverage [--rounds N] [--subject test] [--sources 1] [--reals 100] [--detector good] [--write]

Intervals are those that users get of a test, of a group of people, and of the difference of two models. A source moves
the logits of its images alike. The truth is each measure over endlessly many sources; if a class has one source, over
endlessly many images of it. With 1,000 rounds, a coverage of 95 % is measured to ±1.4 points. `--out` adds or replaces
rows of a file, and `--write` writes the tables of benchmarks/studies/coverage.md from the stored rows.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import click
import numpy as np
from numpy.typing import NDArray

from trueface.evaluation.estimate import Difference, Estimate
from trueface.evaluation.estimates import (
    SourcedScores,
    differences,
    estimates,
    estimates_over_sources,
    group_estimate,
    group_rate,
)
from trueface.evaluation.group_rates import RATES
from trueface.evaluation.measurement import METRICS, undefined_metrics
from trueface.evaluation.metrics.curve import AUC
from trueface.evaluation.weighted_scores import FAKE, REAL, WeightedScores

Floats = NDArray[np.float64]
Labels = NDArray[np.int8]
Row = Mapping[str, object]  # a cell with its numbers as JSON

STORED = Path(__file__).parent / "coverage.json"
PAGE = Path(__file__).parent / "studies" / "coverage.md"
ENDLESS = 400_000  # images of the larger class that stand for the population
SPREAD = 0.06  # standard deviation of the accuracy between sources
MOST = 0.6  # largest standard deviation of the logits between sources
ALIKE = 0.9  # correlation of the logits of two compared models
LOW = 92.0  # coverage in %, below which a page names the cell
SEED = 20_261_128


class Subject(StrEnum):
    """The kind of number that has the interval."""

    TEST = "test"
    GROUP = "group"
    DIFFERENCE = "difference"


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """Distribution of the logits of a class around its mean, -shift or +shift, times `stretch`."""

    about: str
    shift: float
    stretch: float = 1.0
    second: float = 0.0  # shift of the other model, of a difference
    draw: Callable[[np.random.Generator, int], Floats] = lambda rng, size: rng.normal(size=size)

    @property
    def moves(self) -> float:
        """Standard deviation between sources, before the stretch."""
        return min(SPREAD / NormalDist().pdf(self.shift), MOST)


def _with_errors(rng: np.random.Generator, size: int, share: float) -> Floats:
    noise = rng.normal(size=size)
    return np.where(rng.random(size) < share, noise - 7.5, noise)


def _rounded(rng: np.random.Generator, size: int) -> Floats:
    """Return distances from 0.75 of logits of -2, -1, 0, 1, 2."""
    return np.clip(np.rint(0.75 + rng.normal(size=size)), -2, 2) - 0.75


DETECTORS: Mapping[str, Detector] = {
    "mediocre": Detector(about="normal, means 1.5 standard deviations apart", shift=0.75),
    "good": Detector(about="normal, means 3 standard deviations apart", shift=1.5, second=1.7),
    "calibrated": Detector(
        about="normal, means 2 standard deviations apart, stretched so that the probabilities are right",
        shift=1.0,
        stretch=2.0,
    ),
    "heavy tails": Detector(
        about="Student's t with 3 degrees of freedom, means 3 apart",
        shift=1.5,
        draw=lambda rng, size: rng.standard_t(3, size),
    ),
    "gross errors": Detector(
        about="as good, and 5 % of the images have a logit of about 6 on the wrong side",
        shift=1.5,
        draw=lambda rng, size: _with_errors(rng, size, 0.05),
    ),
    "rare errors": Detector(
        about="the same of 1 % of the images",
        shift=1.5,
        draw=lambda rng, size: _with_errors(rng, size, 0.01),
    ),
    "few scores": Detector(
        about="as mediocre, rounded to five different logits", shift=0.75, draw=_rounded
    ),
    "skewed": Detector(
        about="exponential tail towards the other class, means 3 apart",
        shift=1.5,
        draw=lambda rng, size: 1 - rng.exponential(size=size),
    ),
    "excellent": Detector(about="normal, means 4 standard deviations apart", shift=2.0, second=2.2),
    "very good": Detector(about="normal, means 5 standard deviations apart", shift=2.5),
}


class Cell(NamedTuple):
    """The distribution that test sets are drawn from."""

    detector: str
    reals: int
    sources: int = 1  # sources of each class
    fakes: int = 0  # 0: as many as reals
    subject: Subject = Subject.TEST

    @property
    def counts(self) -> tuple[int, int]:
        """Numbers of reals and of fakes."""
        return self.reals, self.fakes or self.reals

    @property
    def labels(self) -> Labels:
        """The class of each image."""
        return np.repeat(np.array([REAL, FAKE], np.int8), self.counts)

    @property
    def keys(self) -> Sequence[str]:
        """The source and the name of each image, images of a source side by side."""
        return [
            f"{label}{number * self.sources // count}/{number}"
            for label, count in enumerate(self.counts)
            for number in range(count)
        ]

    def draw(self, rng: np.random.Generator) -> tuple[Floats, ...]:
        """Return the logits (N,) of a model, or of both models of a difference."""
        detector = DETECTORS[self.detector]
        parts = [
            _draw_class(detector, rng, sign, (count, self.sources), paired=self.paired)
            for sign, count in zip((-1, 1), self.counts, strict=True)
        ]
        return tuple(map(np.concatenate, zip(*parts, strict=True)))

    @property
    def paired(self) -> bool:
        """Whether two models are compared."""
        return self.subject is Subject.DIFFERENCE

    @property
    def endless(self) -> "Cell":
        """The population: images of each class in their proportion, each of a source of its own."""
        reals, fakes = (count * ENDLESS // max(self.counts) for count in self.counts)
        sources = 1 if self.sources == 1 else ENDLESS
        return self._replace(reals=reals, fakes=fakes, sources=sources)


def _draw_class(
    detector: Detector,
    rng: np.random.Generator,
    sign: int,
    size: tuple[int, int],
    *,
    paired: bool,
) -> list[Floats]:
    """Return the logits of a class of one model or of two, whose logits are alike.

    Args:
        detector: the distribution.
        rng: random numbers.
        sign: -1 for reals, 1 for fakes.
        size: number of images and of sources.
        paired: draw two models.
    """
    images, sources = size
    of_source = np.arange(images) * sources // images if sources < images else np.arange(images)

    def noise() -> Floats:
        drawn = detector.draw(rng, images)
        if sources > 1:
            drawn = drawn + (detector.moves * rng.normal(size=min(sources, images)))[of_source]
        return drawn

    if not paired:
        return [sign * detector.stretch * (detector.shift + noise())]
    shared = noise()
    own = (noise(), noise())
    return [
        sign * (shift + ALIKE**0.5 * shared + (1 - ALIKE) ** 0.5 * each)
        for shift, each in zip((detector.shift, detector.second), own, strict=True)
    ]


ONE, THREE, TWENTY = 1, 3, 20
SUBJECTS = [str(subject) for subject in Subject]
NAMED = ("mediocre", "good", "calibrated", "heavy tails")
UNUSUAL = ("gross errors", "rare errors", "few scores", "skewed", "heavy tails", "very good")
SIZES = (30, 50, 100, 200, 500, 1000)
SHOWN = (30, 100, 500)  # sizes of the first tables of the page; the file has all
CELLS: Mapping[str, Sequence[Cell]] = {
    **{
        f"{'One source' if sources == ONE else f'{sources} sources'} of each class": [
            Cell(name, reals, sources, reals)
            for name in NAMED
            for reals in (SIZES if sources == ONE else SHOWN)
        ]
        for sources in (ONE, THREE, TWENTY)
    },
    "One source, small and unequal tests": [
        Cell(name, reals, ONE, fakes)
        for name in UNUSUAL
        for reals, fakes in ((20, 20), (40, 800), (100, 100), (200, 200), (400, 400))
        if not (name in NAMED and reals == fakes and reals in SIZES)  # in the first section
    ],
    "Several sources, unusual detectors": [
        Cell(name, reals, sources, fakes)
        for name in ("gross errors", "skewed", "heavy tails", "good", "very good")
        for sources in (5, 12)
        for reals, fakes in ((40, 800), (800, 40), (120, 120), (400, 400))
    ],
    "Groups of people": [
        Cell(name, reals, ONE, fakes, Subject.GROUP)
        for name in ("good", "heavy tails", "gross errors", "few scores", "very good")
        for reals, fakes in ((10, 10), (20, 20), (40, 800), (120, 120), (400, 400))
    ],
    "Differences of two models": [
        Cell(name, reals, sources, fakes, Subject.DIFFERENCE)
        for name in ("good", "excellent")
        for sources, reals, fakes in (
            (1, 50, 50),
            (1, 120, 120),
            (5, 50, 50),
            (5, 120, 120),
            (5, 400, 400),
            (5, 40, 800),
            (10, 400, 400),
            (20, 400, 400),
        )
    ],
}


def _measures(
    cell: Cell, logits: Sequence[Floats], labels: Labels, keys: Sequence[str]
) -> Mapping[str, Estimate | Difference]:
    """Return the values of a test set with their intervals, as users get them."""
    tables = [SourcedScores(labels=labels, logits=each, keys=keys) for each in logits]
    undefined = {name for table in tables for name in undefined_metrics(table)}
    metrics = [metric for name, metric in METRICS.items() if name not in undefined]
    if cell.paired:
        return differences(metrics, *tables, are_paired=True)
    (table,) = tables
    if cell.subject is Subject.GROUP:
        return _of_group(table)
    if cell.sources > 1:
        return estimates_over_sources(metrics, table)
    return estimates(metrics, table)


def _of_group(table: SourcedScores) -> Mapping[str, Estimate]:
    called, fake = table.logits > 0, table.labels == FAKE
    return {
        "fpr": group_rate(float(called[~fake].mean()), table, (REAL,)),
        "tpr": group_rate(float(called[fake].mean()), table, (FAKE,)),
        "acc": group_rate(float((called == fake).mean()), table, (REAL, FAKE)),
        "auc": group_estimate(AUC, table, AUC.value(table.whole)),
    }


@lru_cache(maxsize=32)
def _population(cell: Cell) -> Mapping[str, float]:
    labels = cell.labels
    scores = [
        WeightedScores.from_logits(labels, each)
        for each in cell.draw(np.random.default_rng([SEED, 1]))
    ]
    values = [{name: metric.value(each) for name, metric in METRICS.items()} for each in scores]
    if cell.paired:
        return {name: values[1][name] - value for name, value in values[0].items()}
    right = [float(np.mean((scores[0].table.margins > 0)[labels == label])) for label in (0, 1)]
    count = len(labels)
    accuracy = ((1 - right[0]) * cell.counts[0] + right[1] * cell.counts[1]) / count
    return {**values[0], "fpr": right[0], "tpr": right[1], "acc": accuracy}


def truth(cell: Cell) -> Mapping[str, float]:
    """Return the measures over the population."""
    return _population(cell.endless)


@dataclass(slots=True)
class Count:
    """The intervals of one measure over all rounds."""

    values: list[float]
    intervals: int = 0
    held: int = 0
    width: float = 0.0

    @property
    def spread(self) -> float:
        """The width of the middle 95 % of the values."""
        low, high = np.quantile(self.values, [0.025, 0.975])
        return float(high - low)

    @property
    def record(self) -> list[float] | None:
        """Coverage in %, mean width and spread; None without an interval."""
        if not self.intervals:
            return None
        coverage = round(100 * self.held / self.intervals, 1)
        return [coverage, round(self.width / self.intervals, 4), round(self.spread, 4)]


def coverage(cell: Cell, rounds: int) -> dict[str, Count]:
    """Return how often each measure has an interval, and how often it contains the truth."""
    true, labels, keys = truth(cell), cell.labels, cell.keys
    counts: dict[str, Count] = {}
    for number in range(rounds):
        logits = cell.draw(np.random.default_rng([SEED, 2, number]))
        for name, measure in _measures(cell, logits, labels, keys).items():
            count = counts.setdefault(name, Count([]))
            count.values.append(measure.value)
            if measure.interval is None:
                continue
            low, high = measure.interval
            count.intervals += 1
            count.held += low <= true[name] <= high
            count.width += high - low
    return counts


def record(cell: Cell, rounds: int) -> Row:
    """Return a cell as JSON, with coverage in %, mean width and spread of each measure; null without an interval."""
    reals, fakes = cell.counts
    measures = {name: count.record for name, count in coverage(cell, rounds).items()}
    return {
        "subject": str(cell.subject),
        "detector": cell.detector,
        "reals": reals,
        "fakes": fakes,
        "sources": cell.sources,
        "rounds": rounds,
        "measures": measures,
    }


def read_rows(path: Path) -> dict[Cell, Row]:
    """Return the stored rows by their cells."""
    rows: Sequence[Row] = json.loads(path.read_text())["rows"] if path.exists() else []
    return {_cell(row): row for row in rows}


def _cell(row: Row) -> Cell:
    reals, fakes, sources = (int(str(row[key])) for key in ("reals", "fakes", "sources"))
    return Cell(str(row["detector"]), reals, sources, fakes, Subject(str(row["subject"])))


def _numbers(row: Row) -> Mapping[str, Sequence[float]]:
    """Return coverage, width and spread of the measures that have an interval."""
    measures = row["measures"]
    assert isinstance(measures, dict)
    return {name: each for name, each in measures.items() if each is not None}


class LowCell(NamedTuple):
    """A measure of a cell whose coverage is below `LOW`."""

    section: str
    cell: Cell
    measure: str
    coverage: float  # %

    @property
    def note(self) -> str:
        """What is printed beside such an interval."""
        labels = self.cell.labels
        table = SourcedScores(labels=labels, logits=labels - 0.5, keys=self.cell.keys)
        if self.cell.subject is Subject.GROUP:
            return group_estimate(AUC, table, 1.0).note if self.measure == AUC.name else ""
        return table.few_sources


def low_cells(rows: Mapping[Cell, Row]) -> Sequence[LowCell]:
    """Return all measures whose intervals contain the true value in less than 92 %, section by section."""
    return [
        LowCell(section, cell, name, numbers[0])
        for section, cells in CELLS.items()
        for cell in cells
        for name, numbers in _numbers(rows[cell]).items()
        if numbers[0] < LOW
    ]


def page_text(text: str, rows: Mapping[Cell, Row]) -> str:
    """Return a page with its parts written from the stored numbers."""
    parts = {
        "result": _result_lines(rows),
        "detectors": _detector_lines(),
        "low": _low_lines(rows),
        "tables": _table_lines(rows),
    }
    for name, lines in parts.items():
        before, _, rest = text.partition(f"<!-- {name} -->")
        _, _, after = rest.partition(f"<!-- end of {name} -->")
        body = "\n".join(lines)
        text = f"{before}<!-- {name} -->\n\n{body}\n\n<!-- end of {name} -->{after}"
    return text


class _Measured(NamedTuple):
    """A measure of a cell with its numbers."""

    coverage: float
    width: float
    spread: float
    about: str

    @property
    def relative_width(self) -> float:
        """The mean width of the interval in widths of the middle 95 % of the values."""
        return self.width / self.spread if self.spread else 0.0


def _result_lines(rows: Mapping[Cell, Row]) -> Iterator[str]:
    yield from _header("tests", "lowest %", "highest %", f"below {LOW:g} %", "widest")
    low = low_cells(rows)
    for section, cells in CELLS.items():
        measured = [
            _Measured(numbers[0], numbers[1], numbers[2], f"{_heading(name)}, {_about(cell)}")
            for cell in cells
            for name, numbers in _numbers(rows[cell]).items()
        ]
        ends = (min(each.coverage for each in measured), max(each.coverage for each in measured))
        wide = max(measured, key=lambda each: each.relative_width)
        below = f"{sum(each.section == section for each in low)} of {len(measured)}"
        widest = f"{wide.relative_width:.1f} × ({wide.about})"
        yield _line(section, *(f"{each:.1f}" for each in ends), below, widest)


def _detector_lines() -> Iterator[str]:
    yield from _header("detector", "[logits](../../docs/glossary.md#logit)")
    yield from (_line(name, detector.about) for name, detector in DETECTORS.items())


def _low_lines(rows: Mapping[Cell, Row]) -> Iterator[str]:
    low = low_cells(rows)
    every = sum(len(_numbers(row)) for row in rows.values())
    yield f"{len(low)} of {every} numbers are below {LOW:g} %."
    yield ""
    yield from _header("tests", "detector", "reals", "fakes", "measure", "coverage, %", "note")
    for each in low:
        counts = map(str, each.cell.counts)
        named = (each.section, each.cell.detector, *counts, _heading(each.measure))
        yield _line(*named, f"{each.coverage:.1f}", each.note)


def _table_lines(rows: Mapping[Cell, Row]) -> Iterator[str]:
    for section, cells in CELLS.items():
        measures = list(
            dict.fromkeys(name for cell in cells for name in _measure_names(rows[cell]))
        )
        yield f"### {section}"
        yield ""
        heads = ("detector", "reals", "fakes", "sources", *map(_heading, measures))
        yield from _header(*heads)
        for cell in cells:
            if cell.reals in SHOWN or cells[0].reals not in SHOWN:
                numbers = _numbers(rows[cell])
                texts = (_number_text(numbers.get(name)) for name in measures)
                yield _line(cell.detector, *map(str, (*cell.counts, cell.sources)), *texts)
        yield ""


def _measure_names(row: Row) -> Sequence[str]:
    measures = row["measures"]
    assert isinstance(measures, dict)
    return list(measures)


def _number_text(numbers: Sequence[float] | None) -> str:
    return "–" if numbers is None else f"{numbers[0]:.1f} ({numbers[1]:.3f})"


def _heading(measure: str) -> str:
    return METRICS[measure].heading if measure in METRICS else RATES[measure]


def _about(cell: Cell) -> str:
    reals, fakes = cell.counts
    return f"{cell.detector}, {reals} reals and {fakes} fakes"


def _header(*titles: str) -> Iterator[str]:
    yield _line(*titles)
    yield f"|{'---|' * len(titles)}"


def _line(*texts: str) -> str:
    return f"|{'|'.join(texts)}|"


@click.command()
@click.option("--rounds", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option("--subject", type=click.Choice(SUBJECTS), multiple=True, default=SUBJECTS)
@click.option("--sources", type=int, multiple=True, help="Only cells with so many sources.")
@click.option("--reals", type=int, multiple=True, help="Only cells with so many reals.")
@click.option("--detector", type=click.Choice([*DETECTORS]), multiple=True, default=[*DETECTORS])
@click.option("--out", type=click.Path(path_type=Path), help="Add the rows to this JSON file.")
@click.option("--write", is_flag=True, help="Only write the page from the stored numbers.")
def main(
    rounds: int,
    subject: tuple[str, ...],
    sources: tuple[int, ...],
    reals: tuple[int, ...],
    detector: tuple[str, ...],
    *,
    out: Path | None,
    write: bool,
) -> None:
    """Print coverage in %, mean width and spread of nominal 95 % intervals, one cell per line."""
    if write:
        PAGE.write_text(page_text(PAGE.read_text(), read_rows(STORED)))
        return
    for cell in dict.fromkeys(cell for cells in CELLS.values() for cell in cells):
        chosen = (cell.subject in subject, cell.detector in detector)
        sized = (not sources or cell.sources in sources, not reals or cell.reals in reals)
        if not all((*chosen, *sized)):
            continue
        row = record(cell, rounds)
        print(json.dumps(row), flush=True)
        if out is not None:
            stored = read_rows(out) | {cell: row}
            out.write_text(json.dumps({"seed": SEED, "rows": [*stored.values()]}, indent=0))


if __name__ == "__main__":
    main()
