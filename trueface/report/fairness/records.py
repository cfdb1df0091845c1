"""The records of `trueface fairness --json` as what a page shows.

Absent and null are the same: not defined. Rates, gaps and floors are in percent, AUC in 0 … 1.
"""

from collections.abc import Mapping

from trueface.report.fairness.content import UNDEFINED, Gap, Group, Point, Rate, Row
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
    at_common = _mapping(record, "at_common_fpr")
    has_common = bool(at_common.get("groups"))
    return Row(
        model=_text(record, "model"),
        data=_text(record, "data"),
        by=_text(record, "by"),
        auc=_rate(record, "auc"),
        worst_group=_text(record, "worst_group"),
        worst_auc=_number(record, "worst_group_auc"),
        constant=record.get("constant") is True,
        comparable=record.get("comparable") is not False,
        verdict=_text(record, "verdict") or UNDEFINED,
        reason=_text(record, "why_not"),
        at_half=_point(record),
        at_common=_point(at_common) if has_common else None,
        common=_common(at_common) if has_common else _text(at_common, "reason"),
        note=_text(record, "note"),
        ungrouped=int(_number(record, "ungrouped") or 0),
        attributes=tuple(map(str, _list(record, "attributes"))),
    )


def _common(record: Mapping[str, Json]) -> str:
    target = _number(record, "target")
    return "common FPR" if target is None else f"FPR {target:g} % of validation"


def _point(record: Mapping[str, Json]) -> Point:
    gaps = {
        name: Gap(value=_number(record, name), floor=_number(record, f"{name}_floor"))
        for name in GAPS
    }
    groups = [_group(group) for group in _list(record, "groups") if isinstance(group, dict)]
    overall = _mapping(record, "overall")
    return Point(
        gaps=gaps,
        overall=_group({"name": "all", **overall}) if overall else None,
        groups=tuple(groups),
        undefined=tuple(map(_undefined, _list(record, "undefined"))),
    )


def _group(record: Mapping[str, Json]) -> Group:
    return Group(
        name=_text(record, "name"),
        n_real=int(_number(record, "n_real") or 0),
        n_fake=int(_number(record, "n_fake") or 0),
        rates={name: _rate(record, name) for name in RATES},
    )


def _undefined(cell: Json) -> str:
    if not isinstance(cell, dict):
        return str(cell)
    group, rate, reason = (_text(cell, name) for name in ("group", "rate", "reason"))
    what = f"{rate.upper()} of {group}" if group else rate
    return f"{what} ({reason})" if reason else what


def _rate(record: Mapping[str, Json], name: str) -> Rate:
    return Rate(
        value=_number(record, name),
        low=_number(record, f"{name}_low"),
        high=_number(record, f"{name}_high"),
    )


def _number(record: Mapping[str, Json], name: str) -> float | None:
    value = record.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _text(record: Mapping[str, Json], name: str) -> str:
    value = record.get(name)
    return value if isinstance(value, str) else ""


def _list(record: Mapping[str, Json], name: str) -> list[Json]:
    value = record.get(name)
    return value if isinstance(value, list) else []


def _mapping(record: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    value = record.get(name)
    return value if isinstance(value, dict) else {}
