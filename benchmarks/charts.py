"""The charts of the studies, drawn from the tables of their pages.

python -m benchmarks.charts            exit code 1 if a chart differs from its table
python -m benchmarks.charts --write    draw all charts
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.bars import Bar, draw_bars
from benchmarks.measured import NUMBER

DOCS = Path(__file__).parents[1] / "docs"
STUDIES = Path(__file__).with_name("studies")


class Chart(NamedTuple):
    """A column of the first table below a heading, as bars."""

    file: str
    page: str
    heading: str
    column: str
    axis: str
    base: float = 0.0


CHARTS = (
    Chart(
        "study-unlearning.svg", "study-unlearning.md", "Which method repairs flipped labels?",
        "test, 50 % flips, %", "accuracy on test images after 50 % flipped labels, %",
    ),
    Chart(
        "study-relearning.svg", "study-unlearning.md", "Which method forgets a class?",
        "relearned, steps", "steps until the forgotten class is learned again",
    ),
    Chart(
        "study-photos.svg", "study-photos.md", "Does it work on changed images?",
        "AUC", "AUC on changed images", 0.5,
    ),
    Chart(
        "study-fairness.svg", "study-fairness.md", "What helps against skewed labels?",
        "gap, points", "gap between the groups, points",
    ),
    Chart(
        "study-generators.svg", "study-generators.md", "Which purifier restores most?",
        "MSE left, set 1", "squared error that is left, set 1",
    ),
)  # fmt: skip


def bars_of(chart: Chart) -> list[Bar]:
    """Return the bars of a chart: the rows of the table that have a number in its column."""
    text = (STUDIES / chart.page).read_text(encoding="utf-8")
    section = re.split(r"\n#+ ", text.partition(f"## {chart.heading}\n")[2])[0]
    rows = [_cells(line) for line in section.splitlines() if line.startswith("|")]
    at = rows[0].index(chart.column)
    found = [(row[0], row[at]) for row in rows[2:]]
    return [
        Bar(name, float(match[0]), match[0])
        for name, value in found
        if (match := re.match(NUMBER, value))
    ]


def _cells(line: str) -> list[str]:
    return [re.sub(r"[`*]", "", cell).strip() for cell in line.strip("|").split("|")]


def drawn(chart: Chart) -> str:
    """Return a chart as SVG."""
    return draw_bars(bars_of(chart), chart.axis, base=chart.base)


def main(words: Sequence[str]) -> int:
    """Draw or check the charts; return the exit code."""
    stale = []
    for chart in CHARTS:
        file, text = DOCS / chart.file, drawn(chart)
        if words == ["--write"]:
            file.write_text(text, encoding="utf-8")
        elif not file.exists() or file.read_text(encoding="utf-8") != text:
            stale.append(chart.file)
            print(
                f"docs/{chart.file} differs from {STUDIES / chart.page}. Draw it: python -m benchmarks.charts --write"
            )
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
