"""The tables of the page of purification: attacks with their control, purifiers, detectors."""

from collections.abc import Collection, Mapping, Sequence
from html import escape

from trueface.report.generation.detectors import Detector
from trueface.report.generation.purifier_verdicts import aims
from trueface.report.generation.rows import Row
from trueface.report.json_fields import number_of, text_of
from trueface.report.svg import breakable, number
from trueface.report.tables import NO_VALUE
from trueface.runtime.files import Json

PERCENT = 100


def purifier_table(rows: Sequence[Row]) -> str:
    """Return one row a purifier: damage left without and with knowledge of it, price, speed."""
    head = (
        "MSE<small>adaptive</small>",
        "MSE",
        "share &gt; .05",
        "price on clean",
        "PSNR, dB",
        "SSIM",
        "Fréchet distance",
        "net calls",
        "ms<small>an image</small>",
        "seeds",
    )
    body = "".join(
        f'<tr><th scope="row">{breakable(row.name)}</th>{_purifier(row)}'
        f'<td class="left words">{escape(text_of(row.record, "verdict")) or NO_VALUE}</td></tr>'
        for row in rows
    )
    return _table("purifier", (*head, "verdict"), body, words=("verdict",))


def aim_table(rows: Sequence[Row]) -> str:
    """Return the damage by attack and target; nothing where no row has it apart."""
    columns = {
        f"{prefix}{aim}": f"{escape(aim.replace('_', ', '))}{note}"
        for prefix, note in (("mse_", ""), ("mse_adaptive_", "<small>adaptive</small>"))
        for row in rows
        for aim in aims(row, prefix)
    }
    body = "".join(
        f'<tr><th scope="row">{breakable(row.name)}</th>'
        + "".join(f"<td>{row.cell(key, 4)}</td>" for key in columns)
        + "</tr>"
        for row in rows
    )
    return _table("purifier", tuple(columns.values()), body) if columns else ""


def attack_table(records: Sequence[Mapping[str, Json]]) -> str:
    """Return one row an attack, the random control among them; nothing where there is none."""
    head = (
        "target", "eps", "largest change", "RMS", "MSE of the output", "share &gt; .05",
        "times the control", "seeds",
    )  # fmt: skip
    body = "".join(map(_attack, records))
    return _table("attack", head, body, words=("target",)) if records else ""


def detector_table(detectors: Sequence[Detector]) -> str:
    """Return what detectors that were trained on such images reach; nothing where there is none."""
    head = ("trained on", "tested on", "AUC", "accuracy", "seeds")
    body = "".join(
        f'<tr><th scope="row">{breakable(each.model)}</th><td class="left">{escape(each.trained_on)}'
        f'</td><td class="left">{breakable(each.tested_on)}</td>'
        f"<td>{_mean(each.auc)}</td><td>{_mean(each.accuracy)}</td><td>{len(each.auc)}</td></tr>"
        for each in detectors
    )
    return _table("detector", head, body, words=head[:2]) if detectors else ""


def _purifier(row: Row) -> str:
    share = row.mean("share")
    cells = (
        row.cell("mse_adaptive", 4),
        row.cell("mse", 4),
        NO_VALUE if share is None else f"{PERCENT * share:.0f} %",
        row.cell("price_clean", 4),
        row.cell("psnr", 1),
        row.cell("ssim", 3),
        row.short("frechet"),
        row.short("net_calls"),
        row.short("seconds", 1000),
        row.short("seeds"),
    )
    return "".join(f"<td>{cell}</td>" for cell in cells)


def _attack(record: Mapping[str, Json]) -> str:
    def digits(key: str, places: int) -> str:
        value = number_of(record, key)
        return NO_VALUE if value is None else f"{value:.{places}f}"

    name = text_of(record, "attack")
    target, over = text_of(record, "target"), text_of(record, "over")
    where = ", ".join(filter(None, (target, "" if over in {"", "own"} else f"labels: {over}")))
    share, ratio = number_of(record, "share"), number_of(record, "ratio")
    seeds = number_of(record, "seeds")
    cells = (
        digits("eps", 3),
        digits("linf", 4),
        digits("rms", 4),
        digits("mse", 4),
        NO_VALUE if share is None else f"{PERCENT * share:.0f} %",
        NO_VALUE if ratio is None else f"{ratio:.1f}",
        NO_VALUE if seeds is None else number(seeds),
    )
    control = "<small>control</small>" if name == "random" else ""
    return (
        f'<tr><th scope="row">{escape(name)}{control}</th><td class="left">{escape(where) or NO_VALUE}'
        f"</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
    )


def _mean(values: Sequence[float]) -> str:
    if not values:
        return NO_VALUE
    mean = sum(values) / len(values)
    ends = f"<small>{min(values):.3f}–{max(values):.3f}</small>" if len(values) > 1 else ""
    return f"{mean:.3f}{ends}"


def _table(name: str, head: Sequence[str], body: str, *, words: Collection[str] = ()) -> str:
    """Return a table; `head` is HTML, its columns are numbers but for those of `words`."""
    titles = "".join(
        f'<th scope="col"{" class=left" if title in words else ""}>{title}</th>' for title in head
    )
    return (
        '<div class="wide"><table class="measures"><thead><tr>'
        f'<th scope="col" class="left">{name}</th>{titles}</tr></thead><tbody>{body}</tbody>'
        "</table></div>"
    )
