"""The records of `trueface qualities --json` as what a page shows; AUC and accuracy in 0 … 1."""

from collections.abc import Mapping

from trueface.report.json_fields import number_of, text_of
from trueface.report.qualities.content import TOTALS, Area, Difference, Quality, Row
from trueface.runtime.errors import DataError
from trueface.runtime.files import Json


def row_of(record: Mapping[str, Json]) -> Row:
    """Return one record of `models`.

    Raises:
        DataError: it does not say of which model and test it is.
    """
    missing = [name for name in ("model", "data") if not isinstance(record.get(name), str)]
    if missing:
        raise DataError(
            f"a record of qualities lacks {', '.join(missing)}; make it anew with trueface qualities"
        )
    against = record.get("against")
    differences = against if isinstance(against, dict) else {}
    listed = record.get("qualities")
    qualities = listed if isinstance(listed, list) else []
    return Row(
        model=str(record["model"]),
        data=str(record["data"]),
        qualities=tuple(_quality(each) for each in qualities if isinstance(each, dict)),
        totals={name: _area(record, name) for name in TOTALS},
        worst_quality=text_of(record, "worst_quality"),
        left_out=int(number_of(record, "left_out") or 0),
        against=text_of(differences, "model"),
        differences={**_differences(differences), **_differences(_inner(differences))},
    )


def _quality(record: Mapping[str, Json]) -> Quality:
    return Quality(
        name=text_of(record, "quality"),
        auc=_area(record, "auc"),
        accuracy=number_of(record, "acc"),
        real_score=number_of(record, "mean_real"),
        fake_score=number_of(record, "mean_fake"),
    )


def _inner(record: Mapping[str, Json]) -> Mapping[str, Json]:
    inner = record.get("qualities")
    return inner if isinstance(inner, dict) else {}


def _differences(record: Mapping[str, Json]) -> dict[str, Difference]:
    differences = {}
    for name, each in record.items():
        value = number_of(each, "difference") if isinstance(each, dict) else None
        if isinstance(each, dict) and value is not None:
            low, high = number_of(each, "low"), number_of(each, "high")
            differences[name] = Difference(value=value, low=low, high=high)
    return differences


def _area(record: Mapping[str, Json], name: str) -> Area:
    return Area(
        value=number_of(record, name),
        low=number_of(record, f"{name}_low"),
        high=number_of(record, f"{name}_high"),
    )
