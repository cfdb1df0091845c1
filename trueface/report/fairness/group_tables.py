"""The groups of a method: bars over its seeds, and of each seed the table of counts and rates."""

from html import escape

from trueface.report.fairness.content import Group, Method, Point, Rate, Row
from trueface.report.fairness.group_bars import bars
from trueface.report.fairness.summary import GAP
from trueface.report.over_seeds import seed_of, shown
from trueface.report.svg import breakable
from trueface.report.tables import NO_VALUE

COLUMNS = (
    ("fpr", "FPR"), ("tpr", "TPR"), ("acc", "accuracy"), ("auc", "AUC"), ("positive", "called fake"),
)  # fmt: skip


def groups_of(method: Method, *, opened: bool) -> str:
    """Return a method's bars and tables, folded; those of several seeds once more.

    Args:
        method: with the rows of its seeds.
        opened: whether it is shown unfolded.
    """
    common = next((row.common for row in method.rows if row.at_common), "")
    pictures = f"<h4>At threshold .5</h4>{_grid(bars(method))}"
    if common:
        pictures += f"<h4>At {escape(common)}</h4>{_grid(bars(method, common=True))}"
    else:
        reason = next((row.common for row in method.rows if row.common), "")
        pictures += f"<p>No common FPR: {escape(reason)}.</p>" if reason else ""
    return (
        f"<details{' open' if opened else ''}><summary>{breakable(method.name)}: FPR gap "
        f"{shown(method.gap(GAP), 1)}</summary>{pictures}{_tables(method)}</details>"
    )


def _grid(plots: str) -> str:
    return f'<div class="grid-of">{plots}</div>' if plots else "<p>No rate is defined.</p>"


def _tables(method: Method) -> str:
    if len(method.rows) == 1:
        return _seed(method.rows[0])
    return "".join(
        f"<details><summary>seed {escape(seed_of(row.model))}</summary>{_seed(row)}</details>"
        for row in method.rows
    )


def _seed(row: Row) -> str:
    text = _table(row.at_half, "threshold .5")
    return text + (_table(row.at_common, row.common) if row.at_common else "")


def _table(point: Point, where: str) -> str:
    head = "".join(f'<th scope="col">{title}</th>' for _, title in COLUMNS)
    lines = [*point.groups, *([point.overall] if point.overall else [])]
    undefined = "; ".join(point.undefined)
    below = f"<p>Not defined: {escape(undefined)}.</p>" if undefined else ""
    return (
        f'<div class="wide"><table class="measures"><caption>At {escape(where)}; percent, with '
        "Wilson's 95 % intervals; the AUC in 0 … 1.</caption><thead><tr>"
        '<th scope="col" class="left">group</th><th scope="col">real</th>'
        f'<th scope="col">fake</th>{head}</tr></thead>'
        f"<tbody>{''.join(map(_line, lines))}</tbody></table></div>{below}"
    )


def _line(group: Group) -> str:
    cells = "".join(_cell(group.rate(name), 3 if name == "auc" else 1) for name, _ in COLUMNS)
    return (
        f'<tr><th scope="row">{escape(group.name)}</th><td>{group.n_real}</td>'
        f"<td>{group.n_fake}</td>{cells}</tr>"
    )


def _cell(rate: Rate, digits: int) -> str:
    if rate.value is None:
        return f"<td>{NO_VALUE}</td>"
    if rate.low is None or rate.high is None:
        return f"<td>{rate.value:.{digits}f}</td>"
    return f"<td>{rate.value:.{digits}f}<small>{rate.low:.{digits}f}–{rate.high:.{digits}f}</small></td>"
