"""The table of erasing: one row per method, one column per measure."""

from collections.abc import Sequence

from trueface.evaluation.over_seeds import NO_VALUE, MethodRow
from trueface.generators.erasing.study import PUBLISHED, TEACHER
from trueface.generators.report.study_parts import enter_number, measure
from trueface.report.figures import three_digits
from trueface.report.study_table import Column, StudyEntry, StudyRow, StudyTable, decimals

RATE = decimals(3)  # on a page
COLUMNS = (
    Column("concept", is_text=True),
    Column("anchor", key="anchor_class", is_text=True),
    measure("erased", "erased concept", RATE, plain="still drawn", below="still drawn"),
    measure("anchor", "anchor", RATE, plain="anchor drawn", below="drawn instead"),
    measure("others", "other concepts", RATE, plain="others drawn", below="drawn"),
    measure("ssim", "SSIM", RATE, below="to the teacher"),
    measure("feature_distance", "feature distance"),
    measure("frechet", "Fréchet distance", below="floor"),
    measure("fid", "FID", below="to the teacher"),
    measure("kid", "KID", below="to the teacher"),
    measure("clip_score", "CLIP score", decimals(4)),
    measure("null_drift", "null drift"),
    measure("recovery", "recovery", RATE, below="floor, ceiling"),
    measure("seconds", "time, s", plain="time s"),
    Column("seeds"),
    Column("verdict", is_text=True, is_wide=True),
)
FURTHER = (  # numbers that a page shows below others
    measure("recovery_floor", "recovery floor"),
    measure("recovery_ceiling", "recovery ceiling"),
    measure("frechet_floor", "Fréchet floor"),
)
NAMES = tuple(column.name for column in COLUMNS)
TERMINAL = "erased", "anchor", "others", "ssim", "null_drift", "recovery", "seconds", "seeds"
LATEX = (*TERMINAL, "verdict")


def methods_table(rows: Sequence[MethodRow]) -> StudyTable:
    """Return all measures of methods."""
    columns = (*COLUMNS, *FURTHER)
    shown = (
        StudyRow(row.name, tuple(_entry(row, column.name) for column in columns)) for row in rows
    )
    return StudyTable.of_rows((Column("method"), *columns), shown, title="erasing")


def page_names(rows: Sequence[MethodRow]) -> tuple[str, ...]:
    """Return the columns of a page: published measures only if a row has them."""
    measured = {name for row in rows for name in row.values}
    return tuple(name for name in NAMES[2:] if name not in PUBLISHED or name in measured)


def _entry(row: MethodRow, name: str) -> StudyEntry:
    match name:
        case "concept" | "anchor_class":
            return StudyEntry(row.text(name))
        case "seeds":
            return StudyEntry(row.text(name) or None)
        case "verdict":
            words = "" if row.name.startswith(TEACHER) else row.text(name)
            return StudyEntry(words, reason=row.text("verdict_at") if words else "")
        case "recovery":
            ends = (row.mean(key) for key in ("recovery_floor", "recovery_ceiling"))
            below = ", ".join(NO_VALUE if end is None else f"{end:.2f}" for end in ends)
            return enter_number(row, name, below)
        case "frechet":
            floor = row.mean("frechet_floor")
            return enter_number(row, name, "" if floor is None else three_digits(floor))
        case _:
            return enter_number(row, name)
