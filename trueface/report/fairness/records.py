"""The records of `trueface fairness --json` as what a page shows.

Absent and null are the same: not defined. Rates, gaps and floors are in percent, AUC in 0 … 1.
"""

from collections.abc import Mapping

from trueface.report.fairness.content import UNDEFINED, Gap, Group, Point, Rate, Row
from trueface.report.json_fields import list_of, mapping_of, number_of, text_of
from trueface.runtime.errors import DataError
from trueface.runtime.files import Json

GAPS = ("fpr_gap", "tpr_gap", "f_fpr", "f_eo", "f_oae", "f_dp", "f_meo", "auc_gap")
RATES = ("fpr", "tpr", "acc", "auc", "positive")


def row_of(record: Mapping[str, Json]) -> Row:
    """Return one record of `models`.

    Raises:
        DataError: it does not say of which model, test and column it is.
    """
    missing = [name for name in ("model", "data", "by") if not isinstance(record.get(name), str)]
    if missing:
        raise DataError(
            f"a record of fairness lacks {', '.join(missing)}; make it anew with trueface fairness"
        )
    at_common = mapping_of(record, "at_common_fpr")
    has_common = bool(at_common.get("groups"))
    return Row(
        model=text_of(record, "model"),
        data=text_of(record, "data"),
        by=text_of(record, "by"),
        auc=_rate(record, "auc"),
        worst_group=text_of(record, "worst_group"),
        worst_auc=number_of(record, "worst_group_auc"),
        constant=record.get("constant") is True,
        comparable=record.get("comparable") is not False,
        verdict=text_of(record, "verdict") or UNDEFINED,
        reason=text_of(record, "why_not"),
        at_half=_point(record),
        at_common=_point(at_common) if has_common else None,
        common=_common(at_common) if has_common else text_of(at_common, "reason"),
        note=text_of(record, "note"),
        ungrouped=int(number_of(record, "ungrouped") or 0),
        attributes=tuple(map(str, list_of(record, "attributes"))),
    )


def _common(record: Mapping[str, Json]) -> str:
    target = number_of(record, "target")
    return "common FPR" if target is None else f"FPR {target:g} % of validation"


def _point(record: Mapping[str, Json]) -> Point:
    gaps = {
        name: Gap(value=number_of(record, name), floor=number_of(record, f"{name}_floor"))
        for name in GAPS
    }
    groups = [_group(group) for group in list_of(record, "groups") if isinstance(group, dict)]
    overall = mapping_of(record, "overall")
    return Point(
        gaps=gaps,
        overall=_group({"name": "all", **overall}) if overall else None,
        groups=tuple(groups),
        undefined=tuple(map(_undefined, list_of(record, "undefined"))),
    )


def _group(record: Mapping[str, Json]) -> Group:
    return Group(
        name=text_of(record, "name"),
        n_real=int(number_of(record, "n_real") or 0),
        n_fake=int(number_of(record, "n_fake") or 0),
        rates={name: _rate(record, name) for name in RATES},
    )


def _undefined(cell: Json) -> str:
    if not isinstance(cell, dict):
        return str(cell)
    group, rate, reason = (text_of(cell, name) for name in ("group", "rate", "reason"))
    what = f"{rate.upper()} of {group}" if group else rate
    return f"{what} ({reason})" if reason else what


def _rate(record: Mapping[str, Json], name: str) -> Rate:
    return Rate(
        value=number_of(record, name),
        low=number_of(record, f"{name}_low"),
        high=number_of(record, f"{name}_high"),
    )
