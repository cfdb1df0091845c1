"""Fields of records that come from JSON: of the type that a page needs, or nothing."""

from collections.abc import Mapping

from trueface.runtime.files import Json


def number_of(record: Mapping[str, Json], name: str) -> float | None:
    """Return a field that is a number; None where it is not."""
    value = record.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def text_of(record: Mapping[str, Json], name: str) -> str:
    """Return a field that is a text; '' where it is not."""
    value = record.get(name)
    return value if isinstance(value, str) else ""


def list_of(record: Mapping[str, Json], name: str) -> list[Json]:
    """Return a field that is a list; [] where it is not."""
    value = record.get(name)
    return value if isinstance(value, list) else []


def mapping_of(record: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    """Return a field that is a mapping; {} where it is not."""
    value = record.get(name)
    return value if isinstance(value, dict) else {}
