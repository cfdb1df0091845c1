"""How often 95 % intervals contain the true value, and how wide they are: simulated test sets.

python -m benchmarks.coverage [--rounds N] [--sources 1] [--reals 100] [--detector good] [--write]

Intervals are those of `evaluate_scores`, as users get them. Each class has as many images. A source moves the logits of
its images alike. The truth is each measure over endlessly many sources; if a class has one source, over endlessly
many images of it. With 1,000 rounds, a coverage of 95 % is measured to ±1.4 points. `--write` stores the numbers and
writes the table of docs/coverage.md.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import click
import numpy as np
from numpy.typing import NDArray

from launcher.screens.text_table import columns
from trueface.evaluation.measurement import METRICS, evaluate_scores
from trueface.evaluation.weighted_scores import WeightedScores

Floats = NDArray[np.float64]

STORED = Path(__file__).parent / "coverage.json"
PAGE = Path(__file__).parents[1] / "docs" / "coverage.md"
BEGIN, END = "<!-- table -->", "<!-- end of the table -->"
ENDLESS = 1_000_000  # images of either class that stand for the population
SPREAD = 0.06  # standard deviation of the accuracy between sources
SIZES = (30, 50, 100, 200, 500, 1000)
SHOWN = (30, 100, 500)  # sizes on the page; the file has all
SEED = 20_261_128


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """Distribution of the logits of a class around its mean, -shift or +shift, times `stretch`."""

    about: str
    shift: float
    stretch: float = 1.0
    draw: Callable[[np.random.Generator, int], Floats] = lambda rng, size: rng.normal(size=size)


DETECTORS: Mapping[str, Detector] = {
    "mediocre": Detector(about="normal, d' 1.5", shift=0.75),
    "good": Detector(about="normal, d' 3", shift=1.5),
    "calibrated": Detector(about="normal, d' 2, probabilities are right", shift=1.0, stretch=2.0),
    "heavy tails": Detector(
        about="t with 3 degrees of freedom, means 3 apart",
        shift=1.5,
        draw=lambda rng, size: rng.standard_t(3, size),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """The distribution that test sets are drawn from."""

    detector: str
    reals: int  # images of each class
    sources: int  # sources of each class

    @property
    def moves(self) -> float:
        """Standard deviation between sources, before the stretch."""
        detector = DETECTORS[self.detector]
        return SPREAD / NormalDist().pdf(detector.shift) if self.sources > 1 else 0.0

    def draw(self, rng: np.random.Generator, images: int, sources: int) -> tuple[Floats, ...]:
        """Return the logits of reals and of fakes, images of a source side by side."""
        detector = DETECTORS[self.detector]
        of_source = np.arange(images) * sources // images
        return tuple(
            detector.stretch
            * (
                sign * detector.shift
                + detector.draw(rng, images)
                + (self.moves * rng.normal(size=sources))[of_source]
            )
            for sign in (-1, 1)
        )


def truth(cell: Cell) -> dict[str, float]:
    """Return the measures over the population."""
    rng = np.random.default_rng([SEED, 1])
    endless = 1 if cell.sources == 1 else ENDLESS
    logits = np.concatenate(cell.draw(rng, ENDLESS, endless))
    labels = np.repeat(np.array([0, 1], np.int8), ENDLESS)
    scores = WeightedScores.from_logits(labels, logits)
    return {name: metric.value(scores) for name, metric in METRICS.items()}


@dataclass(slots=True)
class Count:
    """The intervals of one measure over all rounds."""

    intervals: int = 0
    held: int = 0
    width: float = 0.0


def coverage(cell: Cell, rounds: int) -> dict[str, Count]:
    """Return how often each measure has an interval, and how often it contains the truth."""
    true = truth(cell)
    counts = {name: Count() for name in METRICS}
    labels = np.repeat(np.array([0, 1], np.int8), cell.reals)
    of_source = np.arange(cell.reals) * cell.sources // cell.reals
    keys = [f"{y}{s}/{n}" for y in (0, 1) for n, s in enumerate(of_source.tolist())]
    for number in range(rounds):
        rng = np.random.default_rng([SEED, 2, number])
        logits = np.concatenate(cell.draw(rng, cell.reals, cell.sources))
        for name, measure in evaluate_scores(labels, logits, keys=keys).metrics.items():
            if measure.interval is None:
                continue
            low, high = measure.interval
            count = counts[name]
            count.intervals += 1
            count.held += low <= true[name] <= high
            count.width += high - low
    return counts


def record(cell: Cell, rounds: int) -> dict[str, object]:
    """Return coverage in % and mean width of each measure of a cell as JSON, null without an interval."""
    measures = {
        name: [
            round(100 * count.held / count.intervals, 1),
            round(count.width / count.intervals, 4),
        ]
        if count.intervals
        else None
        for name, count in coverage(cell, rounds).items()
    }
    return {
        "detector": cell.detector,
        "reals": cell.reals,
        "sources": cell.sources,
        "rounds": rounds,
        "measures": measures,
    }


def _measures(row: Mapping[str, object]) -> Mapping[str, Sequence[float] | None]:
    measures = row["measures"]
    assert isinstance(measures, dict)
    return measures


def rows_text(rows: Iterable[Mapping[str, object]]) -> list[str]:
    """Return rows as a table of text: coverage in %, and the mean width."""
    lines: list[tuple[str, ...]] = [("detector", "reals", "sources", *METRICS)]
    for row in rows:
        cells = (_cell(each) for each in _measures(row).values())
        lines.append((str(row["detector"]), str(row["reals"]), str(row["sources"]), *cells))
    return columns(lines, right=frozenset(range(1, 3 + len(METRICS))))


def _cell(measure: Sequence[float] | None) -> str:
    return "–" if measure is None else f"{measure[0]:.1f} ({measure[1]:.3f})"


def page_table(rows: Iterable[Mapping[str, object]]) -> Iterator[str]:
    """Yield the lines of the tables of docs/coverage.md, one for each number of sources."""
    listed = list(rows)
    for sources in sorted({int(str(row["sources"])) for row in listed}):
        yield ""
        yield f"### {'One source' if sources == 1 else f'{sources} sources'} of each class"
        yield ""
        yield f"| detector | reals | {' | '.join(metric.heading for metric in METRICS.values())} |"
        yield f"|{'---|' * (2 + len(METRICS))}"
        for row in listed:
            if row["sources"] == sources and row["reals"] in SHOWN:
                cells = " | ".join(map(_cell, _measures(row).values()))
                yield f"| {row['detector']} | {int(str(row['reals'])):,} | {cells} |"
    yield ""


def write_page() -> None:
    """Write the stored numbers into docs/coverage.md."""
    stored = json.loads(STORED.read_text())
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = "\n".join(page_table(stored["rows"]))
    PAGE.write_text(f"{before}{BEGIN}\n{lines}\n{END}{after}")


@click.command()
@click.option("--rounds", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option("--sources", type=int, multiple=True, default=(1, 3, 20), show_default=True)
@click.option("--reals", type=int, multiple=True, default=SIZES, show_default=True)
@click.option("--detector", type=click.Choice([*DETECTORS]), multiple=True, default=[*DETECTORS])
@click.option("--out", type=click.Path(path_type=Path), help="Add the rows to this JSON file.")
@click.option("--write", is_flag=True, help="Only write the page from the stored numbers.")
def main(
    rounds: int,
    sources: tuple[int, ...],
    reals: tuple[int, ...],
    detector: tuple[str, ...],
    *,
    out: Path | None,
    write: bool,
) -> None:
    """Print coverage in % and mean width of nominal 95 % intervals."""
    if write:
        write_page()
        return
    rows = []
    for count in sources:
        for name in detector:
            for size in reals:
                rows.append(record(Cell(detector=name, reals=size, sources=count), rounds))
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
                if out is not None:
                    out.write_text(json.dumps({"seed": SEED, "rows": rows}, indent=0))
    print("\n".join(rows_text(rows)))


if __name__ == "__main__":
    main()
