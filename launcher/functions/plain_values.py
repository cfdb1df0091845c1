"""What of the values of functions people see in screens and tables: numbers, truths and short texts."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence

from launcher.system.files import Json

MOST = 50  # of a dict
LONGEST_TEXT = 200
_BITS = 63  # of a whole number that databases and spreadsheets hold, without its sign


def shown(value: object) -> dict[str, Json]:
    """Return what of a returned value can be seen, of a dict by its names; nothing of one that is too large."""
    if isinstance(value, Mapping):
        named = plain_items(value)
        return named if len(named) <= MOST else {}
    return {} if (plain := plain_value(value)) is None else {"value": plain}


def named_arguments(
    function: Callable[..., object], arguments: Sequence[object], keywords: Mapping[str, object]
) -> dict[str, Json]:
    """Return the arguments of a call that can be seen, by their names; none of a function that hides these."""
    try:
        bound = inspect.signature(function).bind(*arguments, **keywords)
    except (TypeError, ValueError):  # a builtin; or they do not fit, which the job says
        return {}
    return plain_items(bound.arguments)


def plain_items(values: Mapping[object, object] | Mapping[str, object]) -> dict[str, Json]:
    """Return those of some values that can be seen, by their names."""
    return {
        key: plain
        for key, value in values.items()
        if isinstance(key, str) and (plain := plain_value(value)) is not None
    }


def plain_value(value: object) -> Json:
    """Return a value as JSON has it, None where it cannot be seen."""
    match value:
        case bool():
            return value
        case int() if value.bit_length() <= _BITS:
            return int(value)
        case float() if math.isfinite(value):
            return float(value)
        case str() if len(value) <= LONGEST_TEXT:
            return str(value)
    return None
