import json
from pathlib import Path

import pytest

from trueface.data.splitting import joined, read_groups, torn
from trueface.runtime.errors import DataError

KEYS = ("SDXL/faces/p1_00000", "SDXL/faces/p1_00001", "SDXL/faces/p2_00000", "FFHQ/00000")


def test_a_group_is_told_by_a_regular_expression() -> None:
    assert read_groups("/p([0-9]+)_", KEYS) == {KEYS[0]: "1", KEYS[1]: "1", KEYS[2]: "2"}
    assert read_groups("/p(?:[0-9]+)_([0-9]+)|x", KEYS)[KEYS[2]] == "00000"


def test_a_group_is_told_by_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({KEYS[0]: 7, KEYS[3]: "x", "gone": "y"}))
    (tmp_path / "a.csv").write_text(f"key,identity\n{KEYS[0]},7\n\n{KEYS[3]},x,more\n")
    for name in ("a.json", "a.csv"):
        assert read_groups(str(tmp_path / name), KEYS) == {KEYS[0]: "7", KEYS[3]: "x"}


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("p[0-9]+", "0 groups in parentheses"),
        ("(p)([0-9]+)", "2 groups in parentheses"),
        ("(p", "no regular expression"),
        ("prompt([0-9]+)", "no group for any of 4 keys, such as FFHQ/00000"),
        ("nowhere.csv", "cannot read groups from nowhere.csv"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(rule: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_groups(rule, KEYS)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", "[]", "an object"),
        ("a.json", "{", "cannot read"),
        ("a.json", '{"a": [1]}', "group of a"),
        ("a.csv", "alone\n", "line 1 has no key and group"),
        ("a.csv", "a,1\na,2\n", "line 2 puts a in a second group"),
        ("a.csv", "b,1\n", "no group for any"),
    ],
)
def test_a_table_that_cannot_be_is_refused(
    tmp_path: Path, name: str, content: str, said: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=said):
        read_groups(str(tmp_path / name), KEYS)


def test_groups_in_several_lists_are_found() -> None:
    groups = {KEYS[0]: "1", KEYS[1]: "1", KEYS[2]: "2"}
    assert torn(groups, {"train": KEYS[:1], "val": KEYS[2:], "test": KEYS[1:2]}) == {
        "1": ("train", "test")
    }


def test_rules_together_bind_what_any_of_them_binds() -> None:
    one = {"a": "1", "b": "1", "c": "2", "d": "2", "e": "3"}
    other = {"b": "x", "c": "x", "f": "y", "g": "y"}
    found = joined(one, other)
    bound: dict[str, set[str]] = {}
    for key, group in found.items():
        bound.setdefault(group, set()).add(key)
    assert bound == {"1": {"a", "b", "c", "d"}, "3": {"e"}, "y": {"f", "g"}}
    assert joined(one) == one
    assert joined() == {}
