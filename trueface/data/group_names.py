"""Names of groups as tables write them: which cells name none, and which names mean the same group."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from decimal import Decimal

# as programs write a missing value: pandas nan, <NA> and None, R NA; "none" is a group: makeup none
MISSING = frozenset({"", "nan", "NaN", "NAN", "NA", "N/A", "n/a", "<NA>", "None", "null", "NULL"})
MANY = 50  # groups of a column; beyond it, a column names images rather than groups
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)
_SHOWN = 5  # names in a message


def is_missing(text: str) -> bool:
    """Return whether the cell of a group says that the group is not known."""
    return text.strip() in MISSING


def equal_numbers(names: Iterable[str]) -> dict[str, str]:
    """Return the name to use for each name of a number that is also written in another way.

    "1", "1.0" and "01" are one group. The shortest of its names is used.
    """
    by_value: dict[Decimal, set[str]] = defaultdict(set)
    for name in set(names):
        if _NUMBER.fullmatch(name):
            by_value[Decimal(name)].add(name)
    return {
        name: min(same, key=lambda each: (len(each), each))
        for same in by_value.values()
        if len(same) > 1
        for name in same
    }


def unify_names(names: Iterable[str]) -> dict[str, str]:
    """Return the group of each name that means one. Equal numbers are one group."""
    named = {name for name in names if not is_missing(name)}
    return {name: name for name in named} | equal_numbers(named)


def doubts(names: Iterable[str]) -> Iterator[str]:
    """Yield why the names of a column may be no groups: too many, or differing only in case."""
    different = sorted(set(names))
    if len(different) > MANY:
        yield f"{len(different)} groups, more than {MANY}"
    by_case: dict[str, list[str]] = defaultdict(list)
    for name in different:
        by_case[name.casefold()].append(name)
    for alike in by_case.values():
        if len(alike) > 1:
            yield f"{describe_group_names(alike)} differ only in upper and lower case, and are {len(alike)} groups"


def describe_group_names(names: Iterable[str]) -> str:
    """Return names in words, of many the first ones: "1, 01 and 1.0"."""
    every = list(names)
    if len(every) > _SHOWN:
        return f"{', '.join(every[:_SHOWN])} and {len(every) - _SHOWN} more"
    *first, last = every
    return f"{', '.join(first)} and {last}" if first else last
