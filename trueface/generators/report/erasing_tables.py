"""The table of erasing: one row per method, one column per measure."""

import math
from collections.abc import Sequence
from dataclasses import replace

from trueface.evaluation import estimates
from trueface.evaluation.over_seeds import NO_VALUE, MethodRow
from trueface.generators.erasing.published_figures import published_erasing
from trueface.generators.erasing.study import (
    NUDENET_VERSION,
    PUBLISHED,
    TEACHER,
    ErasedMethod,
)
from trueface.generators.report.study_parts import NOT_MEASURED, enter_number, measure
from trueface.report.figures import three_digits
from trueface.report.study_table import (
    Column,
    NumberForm,
    StudyEntry,
    StudyRow,
    StudyTable,
    decimals,
)

RATE = decimals(3)  # on a page
COLUMNS = (
    Column("concept", is_text=True),
    Column("anchor", key="anchor_class", is_text=True),
    measure("erased", "erased concept", RATE, plain="still drawn", line_below="still drawn"),
    measure("anchor", "anchor", RATE, plain="anchor drawn", line_below="drawn instead"),
    measure("others", "other concepts", RATE, plain="others drawn", line_below="drawn"),
    measure("ssim", "SSIM", RATE, line_below="to the teacher"),
    measure("feature_distance", "feature distance"),
    measure("frechet", "Fréchet distance", line_below="floor"),
    measure("nudenet", "nudity", RATE, line_below="NudeNet"),
    measure("fid", "FID", line_below="to the teacher"),
    measure("kid", "KID", line_below="to the teacher"),
    measure("clip_score", "CLIP score", decimals(4)),
    measure("null_drift", "null drift"),
    measure("recovery", "recovery", RATE, line_below="floor, ceiling"),
    measure("seconds", "time, s", plain="time s"),
    Column("seeds"),
    Column("verdict", is_text=True, is_wide=True),
)
FURTHER = (  # numbers that a page shows below others
    measure("recovery_floor", "recovery floor"),
    measure("recovery_ceiling", "recovery ceiling"),
    measure("frechet_floor", "Fréchet floor"),
)
# smallest and largest possible values
LIMITS = {"fid": (0.0, math.inf), "clip_score": (-1.0, 1.0), "ssim": (-1.0, 1.0)}
FOUR_DIGITS = NumberForm(lambda value: f"{value:.4g}")  # those of the published table
# measures of the published table, without the names of the methods
PUBLISHED_COLUMNS = (
    Column("measured", key="source", is_text=True),
    Column("NudeNet, %", key="nudenet_percent", form=FOUR_DIGITS),
    Column("FID", key="fid", form=FOUR_DIGITS),
    Column("KID", key="kid", form=FOUR_DIGITS),
    Column("CLIP score", key="clip_score", form=FOUR_DIGITS),
    Column("SSIM", key="ssim", form=FOUR_DIGITS),
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


def published_table(names: Sequence[str], methods: Sequence[ErasedMethod]) -> StudyTable:
    """Return the published table with our rows below: means over seeds, with interval or the reason for none.

    Args:
        names: names of our rows.
        methods: our methods.
    """
    published = (
        StudyRow(
            each.method,
            (
                StudyEntry("published"),
                *(
                    StudyEntry(value, why="" if value is not None else "not published")
                    for value in (
                        each.nudenet_percent, each.fid, each.kid, each.clip_score, each.ssim
                    )
                ),
            ),
        )
        for each in published_erasing()
    )  # fmt: skip
    ours = (
        StudyRow(
            name,
            (
                StudyEntry(_origin(method)),
                _nudity(method),
                *(_mean(method.row, column.name) for column in PUBLISHED_COLUMNS[2:]),
            ),
        )
        for name, method in zip(names, methods, strict=True)
    )
    return StudyTable.of_rows(
        (Column("method"), *PUBLISHED_COLUMNS), (*published, *ours), title="published"
    )


def _origin(method: ErasedMethod) -> str:
    versions = method.row.text(NUDENET_VERSION)
    return f"here, NudeNet {versions}" if versions else "here"


def _mean(row: MethodRow, name: str) -> StudyEntry:
    value = row.value(name)
    if value is None:
        return StudyEntry(why=NOT_MEASURED)
    least, most = LIMITS.get(name, (-math.inf, math.inf))
    return StudyEntry(estimates.mean_of_seeds(value.values, least=least, most=most))


def _nudity(method: ErasedMethod) -> StudyEntry:
    """Return the share over all seeds in per cent. Its interval contains that of the samples and that of the seeds."""
    rates = [record.nudity for record in method.seeds.values() if record.nudity is not None]
    if not rates:
        return StudyEntry(why=NOT_MEASURED)
    seeds = estimates.mean_of_seeds([share for share, _ in rates], least=0, most=1)
    samples = estimates.rate(seeds.value, sum(count for _, count in rates))
    if seeds.interval is not None and samples.interval is not None:
        samples = replace(samples, interval=seeds.interval.merge(samples.interval))
    return StudyEntry(samples.scale(100))


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
