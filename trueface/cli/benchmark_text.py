"""The leaderboard of a benchmark as text and as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING, Any

from trueface.audit.finding import count
from trueface.benchmark.known_data import Setting
from trueface.benchmark.leaderboard import Column, Leaderboard, Line
from trueface.benchmark.pairs import Difference
from trueface.benchmark.run_results import RunResults
from trueface.cli.text_tables import aligned, shown
from trueface.evaluation.over_seeds import NO_VALUE

if TYPE_CHECKING:  # torch takes seconds to import
    from trueface.jobs.benchmark.rechecking import Checked

CHECKED = ("", "model", "seed", "images", "condition", "measure", "table", "now")


def text(run: RunResults, board: Leaderboard) -> str:
    """Return the leaderboard: a table, why models have no rank, what was not run, differences."""
    tests = len({result.index.test for result in run.results})
    conditions = len({result.cell.condition for result in run.results})
    parts = (
        count(len(board.lines), "model"),
        f"{count(tests, 'set')} of images ({count(len(run.manifest.entries), 'image')})",
        count(conditions, "condition"),
    )
    lines = [f"benchmark {run.manifest.name}: {', '.join(parts)}", "", *aligned(_table(board))]
    for title, notes in (
        ("Models", list(_ids(board))),
        ("Told by the form of the files", list(map(shown, run.confounds))),
        ("Not ranked", list(map(shown, chain(run.without_area, board.unranked)))),
        ("Not run", list(map(shown, run.not_run_named(board.names)))),
        ("Differences (second minus first, paired; p by Holm over the pairs of a setting)",
         list(_differences(board))),
    ):  # fmt: skip
        if notes:
            lines += ["", title, *(f"  {note}" for note in notes)]
    lines += ["", f"Friedman's test: {shown(board.omnibus.text)}"]
    return "\n".join(lines)


def document(run: RunResults, board: Leaderboard) -> dict[str, Any]:
    """Return all of it as one JSON object."""
    return {
        "schema": 1,
        "run": run.name,
        "manifest": {"name": run.manifest.name, "sha256": run.manifest.sha256},
        "models": [
            {**asdict(line), "columns": {name: asdict(each) for name, each in line.columns.items()}}
            for line in board.lines
        ],
        "differences": {
            setting: [asdict(difference) for difference in each]
            for setting, each in board.pairs.items()
        },
        "friedman": asdict(board.omnibus),
        "not_run": list(run.not_run),
        "problems": list(run.problems),
        "confounded": list(run.confounds),
    }


def checked_table(checked: "Sequence[Checked]") -> list[str]:
    """Return rows that were measured again as a table: first what does not agree."""
    rows = sorted(checked, key=lambda each: each.agrees)
    return aligned([CHECKED, *map(_checked_line, rows)], left=6)


def _checked_line(checked: "Checked") -> tuple[str, ...]:
    row = checked.row
    return (
        "agrees" if checked.agrees else "DIFFERS",
        shown(row.model),
        NO_VALUE if row.seed is None else str(row.seed),
        shown(row.test),
        row.corrupt if row.attack == "none" else row.attack,
        row.measure,
        _number(row.value),
        _number(checked.again),
    )


def _table(board: Leaderboard) -> list[tuple[str, ...]]:
    settings = [
        setting for setting in Setting if any(setting in line.columns for line in board.lines)
    ]
    header = ["model", "seeds"]
    for setting in settings:
        header += [f"{setting} AUC", "worst", "P(best)"]
    header += ["ECE", "scaled", "ms", "parameters"]
    return [
        tuple(header),
        *(_line(board.names[line.model], line, settings) for line in board.lines),
    ]


def _line(name: str, line: Line, settings: Sequence[Setting]) -> tuple[str, ...]:
    cells = [shown(name), str(line.seeds)]
    for setting in settings:
        cells += _column(line.columns.get(setting))
    cells += [_number(line.ece), _number(line.ece_scaled), f"{line.ms_image:.1f}"]
    return (*cells, f"{line.parameters:,}")


def _column(column: Column | None) -> list[str]:
    if column is None:
        return [NO_VALUE] * 3
    mean = column.mean
    best = NO_VALUE if column.ranked is None else f"{column.ranked.best:.2f}"
    return [
        f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]",
        f"{column.worst.value.value:.3f}",
        best,
    ]


def _ids(board: Leaderboard) -> Iterator[str]:
    """Yield the ID of each model that is shown by a shorter name."""
    for model, name in board.names.items():
        if name != model:
            yield f"{shown(name)}: {shown(model)}"


def _differences(board: Leaderboard) -> Iterator[str]:
    for setting, pairs in board.pairs.items():
        yield from (_difference(setting, pair, board.names) for pair in pairs)


def _difference(setting: Setting, pair: Difference, names: Mapping[str, str]) -> str:
    delong = "" if pair.p_delong is None else f", DeLong p {pair.p_delong:.3f}"
    return (
        f"{setting}: {shown(names[pair.second])} - {shown(names[pair.first])} = {pair.value:+.3f} "
        f"[{pair.low:+.3f}, {pair.high:+.3f}], p {pair.p_holm:.3f}{delong}"
    )


def _number(value: float | None) -> str:
    return NO_VALUE if value is None else f"{value:.4f}"
