"""The tables of a benchmark: its leaderboard, and the paired differences of its models."""

from collections.abc import Iterator

from trueface.benchmark.leaderboard import Leaderboard, LeaderboardRow, SettingScores
from trueface.evaluation.over_seeds import NO_VALUE, seeds_text
from trueface.report.study_table import Column, StudyEntry, StudyRow, StudyTable, decimals

UNRANKED = "†"  # mark of the numbers of a model that is not ranked in a tier
DIFFERENCES = "Differences (paired; p corrected by Holm over the pairs of a tier)"
LEAST_P = 0.001  # smaller values of p are not written


def leaderboard_table(board: Leaderboard) -> StudyTable:
    """Return the leaderboard with columns for each setting and no mean over settings."""
    unit = board.unit
    head = [Column("model"), Column("seeds")]
    if unit is not None:
        head.append(Column("frames per clip", key="frames", is_text=True))
    for setting in board.settings:
        head += [
            Column(setting, plain=f"{setting} mean AUC", key=f"{setting}_auc", below="mean AUC"),
            Column("worst", plain="worst AUC", key=f"{setting}_worst", below=f"cell, {setting}"),
            Column("P(best)", key=f"{setting}_best", below="mean rank", form=decimals(2)),
        ]
    head += [
        Column("ECE", key="ece", form=decimals(4), page_form=decimals(3)),
        Column(
            "after scaling",
            plain="scaled ECE",
            key="ece_scaled",
            joins=True,
            form=decimals(4),
            page_form=decimals(3),
        ),
        Column(
            "ms per image" if unit is None else "ms per clip or frame",
            key="ms_image",
            form=decimals(1),
        ),
        Column("parameters", joins=True),
    ]
    rows = (_line(board, line) for line in board.lines)
    title = f"benchmark {board.run.manifest.name}{', by video' if unit is not None else ''}"
    return StudyTable.of_rows(head, rows, _notes(board), title=title)


def _notes(board: Leaderboard) -> Iterator[str]:
    """Yield what limits the numbers of the leaderboard, a line each."""
    if board.unit is not None:
        yield from board.unit.lines
    yield from (f"predictable from the file format: {each}" for each in board.run.confounds)
    yield from _unranked_notes(board)
    yield from (f"not run: {each}" for each in board.run.not_run(board.names))


def _unranked_notes(board: Leaderboard) -> Iterator[str]:
    return (f"{UNRANKED} not ranked: {each}" for each in board.missing_ranks)


def _line(board: Leaderboard, line: LeaderboardRow) -> StudyRow:
    name = board.names[line.model]
    return StudyRow(
        name,
        (
            StudyEntry(seeds_text(line.seeds, line.missing)),
            *([StudyEntry(line.frames)] if line.frames else []),
            *(entry for setting in board.settings for entry in _column(line.columns.get(setting))),
            StudyEntry(line.ece),
            StudyEntry(line.ece_scaled),
            StudyEntry(line.ms_image),
            StudyEntry(f"{line.parameters:,}"),
        ),
        below="" if name == line.model else line.model,
    )


def _column(column: SettingScores | None) -> tuple[StudyEntry, StudyEntry, StudyEntry]:
    if column is None:
        return StudyEntry(), StudyEntry(), StudyEntry()
    worst, ranked = column.worst, column.ranked
    corrupt, attack = worst.key[:2]
    mark = UNRANKED if ranked is None else ""
    return (
        StudyEntry(column.mean, mark=mark),
        StudyEntry(
            worst.value.value,
            below=(worst.value.ends_text(".3f"), attack),
            hint=corrupt if attack == "none" else f"{attack}, {corrupt}",
            mark=mark,
        ),
        StudyEntry("not ranked", plain=NO_VALUE, why=column.reason, mark=mark)
        if ranked is None
        else StudyEntry(ranked.best, below=(ranked.interval.text(".1f"),)),
    )


def differences_table(board: Leaderboard) -> StudyTable | None:
    """Return the paired differences of all models, by setting; None if there is no pair."""
    rows = tuple(_pairs(board))
    head = (
        Column("tier"),
        Column("models", is_text=True),
        Column("AUC difference", key="difference", form=decimals(3, sign="+")),
        Column("p"),
        Column("p (DeLong)", key="p_delong"),
    )
    marked = any(entry.mark for row in rows for entry in row.entries)
    notes = tuple(_unranked_notes(board)) if marked else ()
    return StudyTable(head, rows, notes, DIFFERENCES) if rows else None


def _pairs(board: Leaderboard) -> Iterator[StudyRow]:
    lines = {line.model: line for line in board.lines}
    for setting, pairs in board.pairs.items():
        for pair in pairs:
            columns = [lines[model].columns[setting] for model in (pair.first, pair.second)]
            mark = UNRANKED if any(column.ranked is None for column in columns) else ""
            yield StudyRow(
                setting,
                (
                    StudyEntry(f"{board.names[pair.second]} minus {board.names[pair.first]}"),
                    StudyEntry(pair.difference, mark=mark),
                    StudyEntry(_p(pair.p_holm)),
                    StudyEntry(None if pair.p_delong is None else _p(pair.p_delong)),
                ),
            )


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= LEAST_P else f"<{LEAST_P:g}"
