"""The tables of purification: purifiers, attacks, and detectors trained on such images."""

from collections.abc import Iterable, Sequence

from trueface.evaluation.over_seeds import NO_VALUE, MethodRow, seeds_text, summarize_seeds
from trueface.generators.purification.study import CONTROL, DetectorRow
from trueface.generators.report.study_parts import MILLISECONDS, PERCENT, enter_number, measure
from trueface.report.study_table import Column, StudyEntry, StudyRow, StudyTable, decimals

MSE = decimals(4)  # on a page
SHARE = measure(
    "share", "MSE > 0.05", PERCENT, plain="share MSE > 0.05", line_below="share of images"
)
SEEDS = Column("seeds")
PURIFIERS = (
    measure(
        "mse_adaptive", "MSE", MSE, plain="MSE (adaptive attack)", line_below="adaptive attack"
    ),
    measure("mse", "MSE", MSE),
    SHARE,
    measure("price_clean", "MSE", MSE, plain="MSE (clean)", line_below="clean images"),
    measure("psnr", "PSNR, dB", decimals(1), plain="PSNR dB"),
    measure("ssim", "SSIM", decimals(3)),
    measure("frechet", "Fréchet distance"),
    measure("net_calls", "network passes", plain="passes per image", line_below="per image"),
    measure("seconds", "time, ms", MILLISECONDS, plain="s per image", line_below="per image"),
    SEEDS,
    Column("verdict", is_text=True, is_wide=True),
)
FURTHER = measure("l1", "L1"), measure("linf", "L∞")  # not on a page
REFERENCE = (  # columns of generators that were trained against disruption
    measure(
        "reference_mse_adaptive",
        "MSE",
        MSE,
        plain="MSE to undefended (adaptive)",
        line_below="to the undefended generator, adaptive attack",
    ),
    measure(
        "reference_mse",
        "MSE",
        MSE,
        plain="MSE to undefended",
        line_below="to the undefended generator",
    ),
)
ATTACKS = (
    Column("target", is_text=True),
    measure("eps", "eps", decimals(3)),
    measure("linf", "largest change", MSE),
    measure("rms", "RMS change", MSE),
    measure("mse", "MSE of the output", MSE),
    SHARE,
    measure("ratio", "MSE / control", decimals(1)),
    SEEDS,
)
TERMINAL = (
    "mse_adaptive",
    "mse",
    "price_clean",
    "psnr",
    "ssim",
    "share",
    "net_calls",
    "seconds",
    "seeds",
)
ATTACKS_IN_TERMINAL = tuple(column.name for column in ATTACKS if column is not SEEDS)
ADAPTIVE = "mse_adaptive"  # under an attack that knows the purifier


def is_generator(row: MethodRow) -> bool:
    """Return whether the defence is a generator that was trained against disruption."""
    return REFERENCE[0].name in row.record


def name_defence(rows: Iterable[MethodRow]) -> str:
    """Return what the rows of a table are called."""
    return "defence" if any(map(is_generator, rows)) else "purifier"


def aims(row: MethodRow, prefix: str) -> list[str]:
    """Return the attacks and targets of which a row has a number of their own.

    Args:
        row: of a purifier.
        prefix: "mse_" or "mse_adaptive_".
    """
    return [
        key.removeprefix(prefix)
        for key in row.values
        if key.startswith(prefix)
        and (prefix != "mse_" or not key.startswith(ADAPTIVE))
        and row.mean(key) is not None
    ]


def aim_columns(rows: Sequence[MethodRow]) -> tuple[Column, ...]:
    """Return a column for each attack and target of which a row has a number of its own."""
    titles = {
        f"{prefix}{aim}": (aim.replace("_", ", "), note)
        for prefix, note in (("mse_", ""), (f"{ADAPTIVE}_", "adaptive"))
        for row in rows
        for aim in aims(row, prefix)
    }
    return tuple(
        measure(key, title, MSE, plain=key, line_below=note)
        for key, (title, note) in titles.items()
    )


def reference_columns(rows: Iterable[MethodRow]) -> tuple[Column, ...]:
    """Return the further columns if a row is a defended generator."""
    return REFERENCE if any(map(is_generator, rows)) else ()


def purifiers_table(rows: Sequence[MethodRow]) -> StudyTable:
    """Return all measures of purifiers."""
    columns = (*PURIFIERS, *FURTHER, *reference_columns(rows), *aim_columns(rows))
    return StudyTable.of_rows(
        (Column(name_defence(rows), plain="method", key="method"), *columns),
        (StudyRow(row.name, tuple(_entry(row, each.name) for each in columns)) for row in rows),
        title="purifiers",
        facts={"table": "purifiers"},
    )


def terminal_table(rows: Sequence[MethodRow], *, verdicts: bool = False) -> StudyTable:
    """Return the table of purifiers of a terminal, without or with their verdicts."""
    further = (column.name for column in reference_columns(rows))
    words = ("verdict",) if verdicts else ()
    return purifiers_table(rows).select((*TERMINAL, *further, *words))


def attacks_table(rows: Sequence[MethodRow]) -> StudyTable:
    """Return the attacks on images that nothing purified, with the random control."""
    return StudyTable.of_rows(
        (Column("attack"), *ATTACKS),
        (
            StudyRow(
                row.name,
                tuple(_entry(row, column.name) for column in ATTACKS),
                below="control" if row.name == CONTROL else "",
            )
            for row in rows
        ),
        title="attacks",
        facts={"table": "attacks"},
    )


def detectors_table(detectors: Sequence[DetectorRow]) -> StudyTable:
    """Return the results of detectors trained on such images."""
    head = (
        Column("detector", key="model"),
        Column("trained on", key="trained_on", is_text=True),
        Column("tested on", key="data", is_text=True),
        Column("AUC", key="auc"),
        Column("accuracy"),
        SEEDS,
    )
    return StudyTable.of_rows(
        head, map(_detector, detectors), title="detectors", facts={"table": "detectors"}
    )


def _detector(row: DetectorRow) -> StudyRow:
    entries = (
        StudyEntry(row.trained_on),
        StudyEntry(row.data),
        StudyEntry(summarize_seeds(row.auc)),
        StudyEntry(summarize_seeds(row.accuracy)),
        StudyEntry(seeds_text(len(row.auc), row.missing)),
    )
    return StudyRow(row.model, entries)


def _entry(row: MethodRow, name: str) -> StudyEntry:
    match name:
        case "seeds":
            return StudyEntry(row.text(name) or None)
        case "verdict":
            return StudyEntry(row.text(name))
        case "target":
            over = row.text("over")
            labels = "" if over in {"", "own"} else f"labels: {over}"
            target = row.text(name)
            return StudyEntry(", ".join(filter(None, (target, labels))), plain=target or NO_VALUE)
        case _:
            return enter_number(row, name)
