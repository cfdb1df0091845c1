import time

import pytest

from launcher.errors import Problem, Problems, TaskFileError
from launcher.taskfile.yaml_tree import (
    MOST_NODES,
    Fields,
    Items,
    Node,
    Scalar,
    plain_value,
    read_document,
)


def read(text: str) -> Node | None:
    problems = Problems()
    root = read_document(text, "x.yaml", problems)
    assert not problems, [str(one) for one in problems]
    return root


def refused(text: str) -> Problem:
    with pytest.raises(TaskFileError) as caught:
        read(text)
    return caught.value.problems[-1]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("None", "None"),
        ("true", True),
        ("FALSE", False),
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("12", 12),
        ("-3", -3),
        ("010", "010"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("9" * 30, "9" * 30),
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        (".5", 0.5),
        ("5.", 5.0),
        (".inf", ".inf"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("'12'", "12"),
        ('"true"', "true"),
        ("!!str 12", "12"),
        ("a:b&c:d%20~m", "a:b&c:d%20~m"),
        ("|\n  two\n  lines", "two\nlines\n"),
    ],
)
def test_a_word_means_what_yaml_1_2_says(written: str, value: object) -> None:
    root = read(f"key: {written}\n")
    assert root is not None
    assert plain_value(root) == {"key": value}


def test_every_key_and_value_knows_its_place() -> None:
    root = read("a: 1\nb:\n  - {c: 'x y', d: [1, two]}\n")
    assert isinstance(root, Fields)
    (_, first), (key, items) = root.pairs
    assert isinstance(first, Scalar)
    assert (first.place.line, first.place.column, first.place.length) == (1, 4, 1)
    assert (key.place.line, key.place.column) == (2, 1)
    assert isinstance(items, Items)
    inner = items.nodes[0]
    assert isinstance(inner, Fields)
    quoted = inner.pairs[0][1]
    assert isinstance(quoted, Scalar)
    assert (quoted.place.line, quoted.place.column, quoted.place.length) == (3, 9, 5)
    assert quoted.part(2, 1).column == 12
    assert quoted.place.text == "  - {c: 'x y', d: [1, two]}"


def test_a_part_of_a_text_with_escapes_is_marked_as_a_whole() -> None:
    root = read('a: "x\\ty"\n')
    assert isinstance(root, Fields)
    value = root.pairs[0][1]
    assert isinstance(value, Scalar)
    assert value.part(2, 1) == value.place


@pytest.mark.parametrize("text", ["", "# only a comment\n", "\n\n", "---\n", "null\n"])
def test_nothing_is_no_document(text: str) -> None:
    assert read(text) is None


def test_what_can_be_gone_past_is_told_with_the_rest() -> None:
    problems = Problems()
    root = read_document("a: 1\na: 2\n? [x]\n: 3\n<<: 4\nb: !x 5\n", "x.yaml", problems)
    assert isinstance(root, Fields)
    assert [key.text for key, _ in root.pairs] == ["a", "b"]
    assert [one.code for one in problems] == ["yaml-tag", "duplicate-key", "yaml-key", "yaml-merge"]


def test_merged_mappings_give_way_to_what_is_written_and_to_earlier_ones() -> None:
    root = read("x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz: {<<: [*x, *y], a: 0}\n")
    assert root is not None
    assert plain_value(root)["z"] == {"a": 0, "b": 1, "c": 2}


def test_a_chain_of_aliases_counts_as_deep_as_it_is() -> None:
    chain = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 30))
    assert refused(chain).code == "too-deep"


def test_bombs_are_refused_at_once() -> None:
    began = time.monotonic()
    assert refused("[" * 200_000).code == "too-deep"
    assert refused("x" * 5_000_000).code == "too-large"
    assert refused("[" + "x, " * (MOST_NODES + 1) + "]").code == "too-large"
    bomb = "a: &a [1, 2, 3]\n" + "".join(
        f"{name}: &{name} [{', '.join([f'*{before}'] * 99)}]\n"
        for before, name in zip("abcd", "bcde", strict=True)
    )
    assert refused(bomb).code == "too-large"
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("x: {a: f(1, 2), b: g(3, h(4, 5)), c: 6}", {"a": "f(1, 2)", "b": "g(3, h(4, 5))", "c": 6}),
        ("x: {a: f(1, 2), b: f(1, 2)}", {"a": "f(1, 2)", "b": "f(1, 2)"}),
        ("x: {a: f(1, b: 2}", {"a": "f(1", "b": 2}),
        ("x:\n  a: f(1\n  b:\n", {"a": "f(1", "b": None}),
        ("x: {a: 'f(1', b}", {"a": "f(1", "b": None}),
    ],
)
def test_commas_in_parentheses_divide_no_pairs(text: str, meant: object) -> None:
    problems = Problems()
    root = read_document(text, "x.yaml", problems)
    assert root is not None
    assert (plain_value(root), list(problems)) == ({"x": meant}, [])
