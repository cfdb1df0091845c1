"""Which images must stay together in one list of a split: those of one prompt, of one identity.

A group is named by a regular expression over the keys with one pair of parentheses around what
names it, such as `/prompt([0-9]+)_`, or by a table: a CSV file of key and group, or a JSON object key → group.
"""

import csv
import json
import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path

from trueface.runtime.errors import DataError

TABLES = frozenset({".csv", ".json"})


def read_groups(rule: str, keys: Collection[str]) -> dict[str, str]:
    """Return the group of each key that has one.

    Args:
        rule: a regular expression with one group, or the path of a .csv or .json file.
        keys: of the images at hand.

    Raises:
        DataError: the rule cannot be read, or says nothing of any key.
    """
    table = Path(rule).suffix in TABLES
    groups = _from_table(Path(rule), keys) if table else _from_expression(rule, keys)
    if not groups:
        shown = f", such as {min(keys)}" if keys else ""
        raise DataError(f"no group for any of {len(keys)} keys{shown}: {rule} fits none of them")
    return groups


def joined(*many: Mapping[str, str]) -> dict[str, str]:
    """Return groups by several rules as groups by one: what any rule binds stays together.

    Groups of one name are one group. A joined group is called by the least of its names.
    """
    above: dict[str, str] = {}

    def top(group: str) -> str:
        while above.setdefault(group, group) != group:
            above[group] = group = above[above[group]]  # halves the way for the next time
        return group

    for groups in many:
        for key, group in groups.items():
            # a key that an earlier rule has bound binds its group to this one
            ends = sorted((top(group), top(f"key {key}")))
            above[ends[1]] = ends[0]
    keys = {key: None for groups in many for key in groups}
    names: dict[str, str] = {}
    for groups in many:
        for group in groups.values():
            names[top(group)] = min(names.get(top(group), group), group)
    return {key: names[top(f"key {key}")] for key in keys}


def torn(
    groups: Mapping[str, str], lists: Mapping[str, Collection[str]]
) -> dict[str, tuple[str, ...]]:
    """Return the groups that have keys in several lists, with the names of the lists."""
    lists_of: dict[str, list[str]] = defaultdict(list)
    for name, keys in lists.items():
        for group in sorted({groups[key] for key in keys if key in groups}):
            lists_of[group].append(name)
    return {group: tuple(names) for group, names in lists_of.items() if len(names) > 1}


def _from_expression(rule: str, keys: Collection[str]) -> dict[str, str]:
    try:
        expression = re.compile(rule)
    except re.error as error:
        raise DataError(f"{rule!r} is no regular expression: {error}") from error
    if expression.groups != 1:
        raise DataError(
            f"{rule!r} has {expression.groups} groups in parentheses; one must name the group of a "
            "key, such as '([0-9]+)$'"
        )
    groups = {key: match[1] for key in keys if (match := expression.search(key))}
    return {key: group for key, group in groups.items() if group is not None}


def _from_table(path: Path, keys: Collection[str]) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = _json_rows(text) if path.suffix == ".json" else _csv_rows(text)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"cannot read groups from {path}: {error}") from error
    return {key: rows[key] for key in keys if key in rows}


def _json_rows(text: str) -> dict[str, str]:
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("an object with a group for each key is needed")  # noqa: TRY004  # of the file, not of our code
    bad = [key for key, group in content.items() if not isinstance(group, str | int)]
    if bad:
        raise ValueError(f"the group of {bad[0]} is no text or whole number")
    return {key: str(group) for key, group in content.items()}


def _csv_rows(text: str) -> dict[str, str]:
    rows: dict[str, str] = {}
    for number, row in enumerate(csv.reader(text.splitlines()), start=1):
        if not row:
            continue
        if len(row) < 2 or not row[1]:
            raise ValueError(f"line {number} has no key and group")
        if rows.setdefault(row[0], row[1]) != row[1]:
            raise ValueError(f"line {number} puts {row[0]} in a second group, {row[1]}")
    return rows
