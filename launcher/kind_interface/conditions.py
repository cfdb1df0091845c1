"""The name of a test among those of its model: data ID, and under which condition it is tested.

    test      = data ['@' condition]
    condition = key '=' value (',' key '=' value)*

A condition holds the settings of a test that have another value than by default, as a variant holds
those of a training in a model's ID. All of this is apart from `launcher.ids`, whose code is part of
the hash of every job: the name of a test decides no result.
"""

import re
from collections.abc import Iterable

_NOT_A_VALUE = re.compile(r"[^A-Za-z0-9_.+\-]+")


def tested(data: str, condition: str) -> str:
    """Return the name of a test among those of its model: data ID, and under what it is tested."""
    return f"{data}@{condition}" if condition else data


def data_of_test(name: str) -> str:
    """Return the data ID in a name of `tested`."""
    return name.partition("@")[0]


def condition_of_test(name: str) -> str:
    """Return under what a test of a name of `tested` is done; '' under nothing particular."""
    return name.partition("@")[2]


def condition_name(settings: Iterable[tuple[str, object, object]]) -> str:
    """Return the condition of a test; '' where every setting has its default.

    Args:
        settings: name, value and default of each, in the order of the condition.
    """
    return ",".join(
        f"{name}={variant_value(value)}"
        for name, value, default in settings
        if value is not None and value != default
    )


def variant_value(value: object) -> str:
    """Return the value of a setting as it may stand in an ID: what cannot becomes a dash."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return _NOT_A_VALUE.sub("-", text).strip("-") or "none"
