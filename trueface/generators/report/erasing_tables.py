"""The table of erasing: one row per method, one column per measure."""

from collections.abc import Sequence

from trueface.evaluation.over_seeds import NO_VALUE, MethodRow
from trueface.generators.erasing.study import PUBLISHED, TEACHER
from trueface.generators.report.study_parts import DIGITS, SHORT, enter_number
from trueface.report.figures import three_digits
from trueface.report.study_table import Column, StudyEntry, StudyRow, StudyTable, decimals

RATE = decimals(3)  # on a page
COLUMNS = (
    Column("concept", is_text=True),
    Column("anchor", key="anchor_class", is_text=True),
    Column("erased concept", plain="still drawn", key="erased", below="still drawn", form=DIGITS, page_form=RATE),
    Column("anchor", plain="anchor drawn", key="anchor", below="drawn instead", form=DIGITS, page_form=RATE),
    Column("other concepts", plain="others drawn", key="others", below="drawn", form=DIGITS, page_form=RATE),
    Column("SSIM", key="ssim", below="to the teacher", form=DIGITS, page_form=RATE),
    Column("feature distance", key="feature_distance", form=DIGITS, page_form=SHORT),
    Column("Fréchet distance", key="frechet", below="floor", form=DIGITS, page_form=SHORT),
    Column("FID", key="fid", below="to the teacher", form=DIGITS, page_form=SHORT),
    Column("KID", key="kid", below="to the teacher", form=DIGITS, page_form=SHORT),
    Column("CLIP score", key="clip_score", form=DIGITS, page_form=decimals(4)),
    Column("null drift", key="null_drift", form=DIGITS, page_form=SHORT),
    Column("recovery", key="recovery", below="floor, ceiling", form=DIGITS, page_form=RATE),
    Column("time, s", plain="time s", key="seconds", form=DIGITS, page_form=SHORT),
    Column("seeds"),
    Column("verdict", is_text=True, is_wide=True),
)  # fmt: skip
FURTHER = (  # numbers that a page shows below others
    Column("recovery floor", key="recovery_floor", form=DIGITS),
    Column("recovery ceiling", key="recovery_ceiling", form=DIGITS),
    Column("Fréchet floor", key="frechet_floor", form=DIGITS),
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
