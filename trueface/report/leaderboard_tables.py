"""The tables of a benchmark: its leaderboard, and the paired differences of its models."""

from collections.abc import Iterator

from trueface.benchmark.leaderboard import Leaderboard, LeaderboardRow, SettingScores
from trueface.evaluation.over_seeds import NO_VALUE, seeds_text
from trueface.report.study_table import Heading, StudyEntry, StudyRow, StudyTable

LEAST_P = 0.001  # smaller values of p are not written


def leaderboard_table(board: Leaderboard, *, ece_digits: int = 3) -> StudyTable:
    """Return the leaderboard with columns for each setting and no mean over settings."""
    head = [Heading("model"), Heading("seeds")]
    for setting in board.settings:
        head += [
            Heading(setting, plain=f"{setting} mean AUC", below="mean AUC"),
            Heading("worst", plain="worst AUC", below=f"cell, {setting}"),
            Heading("P(best)", below="mean rank"),
        ]
    head += [
        Heading("ECE"),
        Heading("after scaling", plain="scaled ECE", joins=True),
        Heading("ms per image"),
        Heading("parameters", joins=True),
    ]
    return StudyTable.of_rows(head, (_line(board, line, ece_digits) for line in board.lines))


def _line(board: Leaderboard, line: LeaderboardRow, ece_digits: int) -> StudyRow:
    name = board.names[line.model]
    return StudyRow(
        name,
        (
            StudyEntry(seeds_text(line.seeds, line.missing)),
            *(entry for setting in board.settings for entry in _column(line.columns.get(setting))),
            StudyEntry(line.ece, ece_digits),
            StudyEntry(line.ece_scaled, ece_digits),
            StudyEntry(line.ms_image, 1),
            StudyEntry(f"{line.parameters:,}"),
        ),
        below="" if name == line.model else line.model,
    )


def _column(column: SettingScores | None) -> tuple[StudyEntry, StudyEntry, StudyEntry]:
    if column is None:
        return StudyEntry(None), StudyEntry(None), StudyEntry(None)
    worst, ranked = column.worst, column.ranked
    corrupt, attack = worst.key[:2]
    return (
        StudyEntry(column.mean),
        StudyEntry(
            worst.value.value,
            below=(worst.value.ends_text(".3f"), attack),
            hint=corrupt if attack == "none" else f"{attack}, {corrupt}",
        ),
        StudyEntry("not ranked", plain=NO_VALUE, hint=column.reason)
        if ranked is None
        else StudyEntry(ranked.best, 2, below=(ranked.interval.text(".1f"),)),
    )


def differences_table(board: Leaderboard) -> StudyTable | None:
    """Return the paired differences of all models, by setting; None if there is no pair."""
    rows = tuple(_pairs(board))
    head = (
        Heading("tier"),
        Heading("models", is_text=True),
        Heading("AUC difference"),
        Heading("p"),
        Heading("p (DeLong)"),
    )
    return StudyTable(head, rows) if rows else None


def _pairs(board: Leaderboard) -> Iterator[StudyRow]:
    for setting, pairs in board.pairs.items():
        for pair in pairs:
            value, ends = f"{pair.difference.value:+.3f}", pair.difference.ends_text("+.3f")
            yield StudyRow(
                setting,
                (
                    StudyEntry(f"{board.names[pair.second]} minus {board.names[pair.first]}"),
                    StudyEntry(value, plain=f"{value} ({ends})", below=(ends,)),
                    StudyEntry(_p(pair.p_holm)),
                    StudyEntry(None if pair.p_delong is None else _p(pair.p_delong)),
                ),
            )


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= LEAST_P else f"<{LEAST_P:g}"
