"""Tables of purifiers and of erasing methods for a screen."""

from collections.abc import Iterable, Mapping, Sequence

from trueface.cli.text_tables import aligned, shown
from trueface.report.generation.rows import Row
from trueface.report.json_fields import number_of, text_of
from trueface.runtime.files import Json

NOTHING = "–"
PURIFIERS = ("mse_adaptive", "mse", "price_clean", "psnr", "ssim", "share", "net_calls", "seconds")
METHODS = ("erased", "anchor", "others", "ssim", "null_drift", "recovery", "seconds")
ATTACKS = ("eps", "linf", "rms", "mse", "share", "ratio")


def method_lines(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    """Return a table with one line a method, ± over seeds."""
    listed: list[tuple[str, ...]] = [("method", *columns, "seeds")]
    for row in rows:
        cells = (_number(row.mean(name), row.mean(f"{name}_sd")) for name in columns)
        listed.append((shown(row.name), *cells, _number(row.mean("seeds"))))
    return aligned(listed)


def attack_lines(records: Sequence[Mapping[str, Json]]) -> list[str]:
    """Return a table with one line an attack; nothing where there is none."""
    listed: list[tuple[str, ...]] = [("attack", "target", *ATTACKS)]
    for record in records:
        names = (text_of(record, "attack"), text_of(record, "target") or NOTHING)
        cells = (_number(number_of(record, name)) for name in ATTACKS)
        listed.append((*map(shown, names), *cells))
    return aligned(listed, left=2) if records else []


def verdict_lines(sentences: Iterable[str]) -> list[str]:
    """Return sentences as lines of their own."""
    return [shown(sentence) for sentence in sentences]


def _number(value: float | None, sd: float | None = None) -> str:
    if value is None:
        return NOTHING
    return f"{value:.3g}" + ("" if sd is None else f" ± {sd:.2g}")
