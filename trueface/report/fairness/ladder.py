"""The ladder of a page of fairness: method × AUC × gaps, each gap with what chance gives of it."""

from html import escape

from trueface.report.fairness.content import Comparison, Method, Standing
from trueface.report.fairness.summary import LOWER, verdict
from trueface.report.over_seeds import cell
from trueface.report.svg import breakable

SHOWN = (("fpr_gap", "FPR gap"), ("f_fpr", "F_FPR"), ("f_eo", "F_EO"))
FURTHER = (
    ("tpr_gap", "TPR gap"), ("f_oae", "F_OAE"), ("f_dp", "F_DP"), ("f_meo", "F_MEO"), ("auc_gap", "AUC gap"),
)  # fmt: skip
GROUP_OF = {
    Standing.COMPARABLE: "method",
    Standing.LOWER_AUC: "reference",
    Standing.CONSTANT: "reference",
}


def ladder(comparison: Comparison) -> str:
    """Return the table of all methods: comparable ones in the task's order, constant ones last."""
    names = ("AUC", "AUC of the worst group", *(title for _, title in SHOWN))
    head = "".join(f'<th scope="col">{title}</th>' for title in names)
    common = common_name(comparison)
    extra = f'<th scope="col">FPR gap<small>at {escape(common)}</small></th>' if common else ""
    body = "".join(_line(method, has_common=bool(common)) for method in comparison.methods)
    return (
        '<p class="caption">Comparable methods first, in the order of the run: no gap decides it. '
        "Gaps in percent at threshold .5; ± is the standard deviation over seeds; below each gap its "
        "floor, the 95 % point of the same measure over groups shuffled within classes.</p>"
        '<div class="wide"><table class="measures ladder"><thead><tr>'
        f'<th scope="col" class="left">method</th><th scope="col">seeds</th>{head}{extra}'
        f'<th scope="col" class="left">verdict</th></tr></thead>{body}</table></div>'
    )


def further(comparison: Comparison) -> str:
    """Return the measures that the ladder leaves out."""
    head = "".join(f'<th scope="col">{title}</th>' for _, title in FURTHER)
    body = "".join(
        f'<tr><th scope="row">{breakable(method.name)}</th>'
        + "".join(_gap(method, name) for name, _ in FURTHER)
        + "</tr>"
        for method in comparison.methods
    )
    return (
        '<div class="wide"><table class="measures"><thead><tr>'
        f'<th scope="col" class="left">method</th>{head}</tr></thead><tbody>{body}</tbody>'
        "</table></div>"
    )


def common_name(comparison: Comparison) -> str:
    """Return which common operating point the methods have; "" where none has one."""
    names = [row.common for method in comparison.methods for row in method.rows if row.at_common]
    return names[0] if names else ""


def _line(method: Method, *, has_common: bool) -> str:
    worst = sorted({row.worst_group for row in method.rows if row.worst_group})
    below = f"<small>{escape(worst[0])}</small>" if len(worst) == 1 else ""
    cells = "".join(_gap(method, name) for name, _ in SHOWN)
    cells += _gap(method, SHOWN[0][0], common=True) if has_common else ""
    row = (
        f'<tr><th scope="row">{breakable(method.name)}</th><td>{len(method.rows)}</td>'
        f"<td>{cell(method.auc, 3)}{_interval(method)}</td>"
        f"<td>{cell(method.worst_auc, 3)}{below}</td>{cells}"
        f'<td class="left">{escape(verdict(method))}{_reason(method)}</td></tr>'
    )
    return f'<tbody class="{GROUP_OF[method.standing]}">{row}</tbody>'


def _interval(method: Method) -> str:
    """Return the interval of the AUC over images, of one seed alone."""
    auc = method.rows[0].auc
    if len(method.rows) > 1 or auc.low is None or auc.high is None:
        return ""
    return f"<small>{auc.low:.3f}–{auc.high:.3f}</small>"


def _reason(method: Method) -> str:
    """Return why it is not comparable, without what its verdict says already."""
    reason = next((row.reason for row in method.rows if row.reason), "")
    if not reason:
        return ""
    return f'<small class="id">AUC {breakable(reason.removeprefix(f"{LOWER}: "))}</small>'


def _gap(method: Method, name: str, *, common: bool = False) -> str:
    floor = method.floor(name, common=common)
    below = "" if floor is None else f"<small>floor {floor.mean:.1f}</small>"
    return f"<td>{cell(method.gap(name, common=common), 1)}{below}</td>"
