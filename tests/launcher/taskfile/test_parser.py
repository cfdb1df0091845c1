"""Reading task files; `python -m tests.launcher.test_taskfile` rewrites the expected texts."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from launcher.experiments.kind_interface import Kind
from launcher.experiments.kinds import COMMAND
from launcher.experiments.planning.load import load
from launcher.experiments.planning.plan_builder import build_plan
from launcher.experiments.taskfile import yaml_tree
from launcher.experiments.taskfile.entries import TaskFile, TrainEntry
from launcher.experiments.taskfile.nodes import (
    MappingNode,
    Node,
    ScalarNode,
    SequenceNode,
    plain_value,
)
from launcher.experiments.taskfile.parser import ParseContext, parse
from launcher.experiments.taskfile.yaml_tree import read_document
from launcher.queue.jobs.job import MOST_RUN_NAME, run_name_fault
from launcher.system.errors import Problem, Problems, TaskFileError, UsageError
from tests.launcher.toylab import laboratory

KINDS: Mapping[str, Kind] = {**laboratory(), "command": COMMAND}


BROKEN = Path(__file__).parents[2] / "data" / "broken"


def read(text: str) -> TaskFile:
    task = parse(text, file="x.yaml", context=ParseContext(kinds=KINDS))
    assert not task.problems, [str(one) for one in task.problems]
    return task


def told(text: str, name: str = "tasks/x.yaml") -> str:
    """Return the printed errors of an invalid task file."""
    with pytest.raises(TaskFileError) as caught:
        refuse(text, name)
    return str(caught.value) + "\n"


def refuse(text: str, name: str) -> None:
    task = parse(text, file=name, context=ParseContext(kinds=KINDS))
    build_plan(
        task,
        root=Path("/root"),
        exists=lambda _: False,
        code=lambda *_: {"": ""},
        content=lambda _: "",
    )


@pytest.mark.parametrize(
    ("written", "name", "value"),
    [
        ("lr: 1e-4", "lr", 1e-4),
        ("lr: 1E+2", "lr", 100.0),
        ("lr: 1", "lr", 1.0),
        ("lr: .5", "lr", 0.5),
        ("lr: '0.5'", "lr", 0.5),
        ("epochs: 1e1", "epochs", 10),
        ("epochs: 010", "epochs", 10),
        ("frozen: no", "frozen", False),
        ("frozen: on", "frozen", True),
        ("frozen: True", "frozen", True),
        ("model: no", "model", "no"),
        ("model: 1:30", "model", "1:30"),
        ("model: 0o7", "model", "0o7"),
        ("model: 1e3", "model", "1e3"),
        ("model: 2024-01-01", "model", "2024-01-01"),
        ("model: true", "model", "true"),
        ("scale: 2", "scale", 2.0),
        ("scale: [1, 2e0]", "scale", [1.0, 2.0]),
    ],
)
def test_values_have_their_apparent_types(written: str, name: str, value: object) -> None:
    task = read(f"name: x\ndefaults: {{train: {{{written}}}}}\ntrain: [{{data: dot:pre}}]\n")
    training = task.entries[0]
    assert isinstance(training, TrainEntry)
    assert training.variants[0].settings.values[name] == value
    assert type(training.variants[0].settings.values[name]) is type(value)


def test_a_byte_order_mark_and_windows_line_ends_are_read() -> None:
    task = read("\ufeffname: x\r\ntrain:\r\n  - {data: dot:pre}\r\n")
    assert isinstance(task.entries[0], TrainEntry)
    assert task.entries[0].place.text == "  - {data: dot:pre}"


@pytest.mark.parametrize("path", sorted(BROKEN.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_broken_task_file_is_explained(path: Path) -> None:
    assert told(path.read_text()) == path.with_suffix(".txt").read_text()


def test_model_is_tested_by_its_plugin_package() -> None:
    kinds = {**laboratory(), **laboratory("toy")}
    text = "name: x\ntoytrain: [{data: dot:pre}]\ntrain: [{data: dot:pre}]\nautotest: [dot:pre]\n"
    task = parse(text, file="x.yaml", context=ParseContext(kinds=kinds))
    assert [one.code for one in task.problems] == ["no-test-kind", "no-test-kind"]


def test_missing_file_is_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "quickstart.yaml").write_text("name: x")
    path = tmp_path / "quikstart.yaml"
    with pytest.raises(UsageError) as caught:
        load(path)
    assert str(caught.value) == (
        f"task file '{path}' does not exist. Did you mean {tmp_path / 'quickstart.yaml'}?"
    )
    with pytest.raises(UsageError, match=r"is a folder\. Give the path of a task file, such as"):
        load(tmp_path)
    with pytest.raises(
        UsageError, match=r"task file .* does not exist\. Give the path of a task file\."
    ):
        load(tmp_path / "none" / "x.yaml")
    with pytest.raises(UsageError, match="cannot read task file"):
        load(Path("/" + "x" * 300))
    with pytest.raises(UsageError, match="cannot read task file"):
        load(Path("a\0b"))


@pytest.mark.parametrize(
    ("name", "data", "mode", "command"),
    [
        ("train.py", b"import torch", 0o644, "python train.py"),
        ("my run.sh", b"ls", 0o644, "bash 'my run.sh'"),
        ("run.sh", b"#!/bin/zsh\n", 0o755, "./run.sh"),
        ("run.sh", b"#!/bin/bash\n", 0o644, "bash run.sh"),
        ("run.sh", b"ls", 0o755, "bash run.sh"),
        ("train.py", b"#!/usr/bin/env python3\n", 0o755, "./train.py"),
        ("run", b"#!/bin/sh\n", 0o644, "./run"),
        ("tool", b"\x7fELF\x00", 0o755, "./tool"),
    ],
)
def test_program_instead_of_a_task_file_suggests_add(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    data: bytes,
    mode: int,
    command: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(data)
    Path(name).chmod(mode)
    with pytest.raises(UsageError) as caught:
        load(name)
    expected = f"{name!r} is a program, not a task file. Queue it: launcher add -- {command}"
    assert str(caught.value) == expected


def test_dangling_link_is_named_with_its_target(tmp_path: Path) -> None:
    link = tmp_path / "study.yaml"
    link.symlink_to("gone.yaml")
    with pytest.raises(UsageError, match=r"is a link to 'gone.yaml', which does not exist"):
        load(link)


@pytest.mark.parametrize(
    ("data", "line", "column", "message"),
    [
        (b"name: x\nabout: caf\xe9\n", 2, 11, "the byte 0xe9 is not UTF-8"),
        (b"\xff\xfen\0a\0", 1, 1, "the byte 0xff is not UTF-8"),
        (b"name: x\n\x80", 2, 1, "the byte 0x80 is not UTF-8"),
        (b"name: x\0\n", 1, 8, "a task file cannot contain the character '\\x00'"),
        (b'name: "x\\0"\n', 1, 7, "a string cannot contain the character '\\x00'"),
    ],
)
def test_binary_file_is_refused_at_the_first_invalid_byte(
    tmp_path: Path, data: bytes, line: int, column: int, message: str
) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(data)
    with pytest.raises(TaskFileError) as caught:
        load(path)
    problem = caught.value.problems[0]
    assert problem.place is not None
    assert (problem.place.line, problem.place.column) == (line, column)
    assert problem.message == message


@pytest.mark.parametrize(
    ("names", "safe"),
    [
        (["x", "50_poison", "étude 3", "a.b-c", "x" * MOST_RUN_NAME], True),
        (
            ["", ".", "..", "a/b", "a\\b", "-x", ".x", " x", "x ", "a\nb", "x" * 101, "é" * 51],
            False,
        ),
    ],
)
def test_run_name_must_be_a_safe_folder_name(names: list[str], safe: bool) -> None:
    assert {run_name_fault(name) is None for name in names} == {safe}


def test_huge_file_is_refused_before_reading_it_completely() -> None:
    with pytest.raises(
        UsageError, match=r"'/dev/zero' has more than 4,194,304 bytes, too many for a task file"
    ):
        load(Path("/dev/zero"))


# --- YAML that is read with its places


def tree_of(text: str) -> Node | None:
    problems = Problems()
    root = read_document(text, "x.yaml", problems)
    assert not problems, [str(one) for one in problems]
    return root


def refused(text: str) -> Problem:
    with pytest.raises(TaskFileError) as caught:
        tree_of(text)
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
def test_scalars_follow_yaml_1_2(written: str, value: object) -> None:
    root = tree_of(f"key: {written}\n")
    assert root is not None
    assert plain_value(root) == {"key": value}


def test_every_key_and_value_has_its_location() -> None:
    root = tree_of("a: 1\nb:\n  - {c: 'x y', d: [1, two]}\n")
    assert isinstance(root, MappingNode)
    (_, first), (key, items) = root.pairs
    assert isinstance(first, ScalarNode)
    assert (first.place.line, first.place.column, first.place.length) == (1, 4, 1)
    assert (key.place.line, key.place.column) == (2, 1)
    assert isinstance(items, SequenceNode)
    inner = items.nodes[0]
    assert isinstance(inner, MappingNode)
    quoted = inner.pairs[0][1]
    assert isinstance(quoted, ScalarNode)
    assert (quoted.place.line, quoted.place.column, quoted.place.length) == (3, 9, 5)
    assert quoted.part_place(2, 1).column == 12
    assert quoted.place.text == "  - {c: 'x y', d: [1, two]}"


def test_a_part_of_a_text_with_escapes_is_marked_as_a_whole() -> None:
    root = tree_of('a: "x\\ty"\n')
    assert isinstance(root, MappingNode)
    value = root.pairs[0][1]
    assert isinstance(value, ScalarNode)
    assert value.part_place(2, 1) == value.place


@pytest.mark.parametrize("text", ["", "# only a comment\n", "\n\n", "---\n", "null\n"])
def test_empty_text_has_no_document(text: str) -> None:
    assert tree_of(text) is None


def test_recoverable_faults_are_reported_together() -> None:
    problems = Problems()
    root = read_document("a: 1\na: 2\n? [x]\n: 3\n<<: 4\nb: !x 5\n", "x.yaml", problems)
    assert isinstance(root, MappingNode)
    assert [key.text for key, _ in root.pairs] == ["a", "b"]
    assert [one.code for one in problems] == ["yaml-tag", "duplicate-key", "yaml-key", "yaml-merge"]


def test_merged_mappings_do_not_override_explicit_or_earlier_keys() -> None:
    root = tree_of("x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz: {<<: [*x, *y], a: 0}\n")
    assert root is not None
    assert plain_value(root)["z"] == {"a": 0, "b": 1, "c": 2}


def test_chain_of_aliases_counts_towards_the_depth_limit() -> None:
    chain = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 30))
    assert refused(chain).code == "too-deep"


def test_alias_bombs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused("[" * 200_000).code == "too-deep"
    assert refused("x" * 5_000_000).code == "too-large"
    monkeypatch.setattr(yaml_tree, "MOST_NODES", 1000)  # half a million takes seconds to read
    assert refused("[" + "x, " * 1001 + "]").code == "too-large"
    bomb = "a: &a [1, 2, 3]\n" + "".join(
        f"{name}: &{name} [{', '.join([f'*{before}'] * 99)}]\n"
        for before, name in zip("abcd", "bcde", strict=True)
    )
    assert refused(bomb).code == "too-large"


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
def test_commas_in_parentheses_do_not_split_pairs(text: str, meant: object) -> None:
    problems = Problems()
    root = read_document(text, "x.yaml", problems)
    assert root is not None
    assert (plain_value(root), list(problems)) == ({"x": meant}, [])


@pytest.mark.parametrize(
    ("line", "comment"),
    [
        ("argv: [python, --tag, #1]", "#1]"),
        ("command: [{argv: [python, --tag, #1]}]", "#1]}]"),
        ("env: {TAG: a #b}", "#b}"),
        ("argv: [python, run #3]", "#3]"),
    ],
)
def test_a_comment_that_hides_a_closing_bracket_is_named(line: str, comment: str) -> None:
    with pytest.raises(TaskFileError) as caught:
        read_document(f"a: 1\n{line}\nb: 2\n", "x.yaml", Problems())
    (problem,) = caught.value.problems
    assert problem.hint.startswith("'#' after a space starts a comment")
    assert problem.place is not None
    assert problem.place.text[problem.place.column - 1 :] == comment


@pytest.mark.parametrize(
    ("text", "comments"),
    [
        ("about: study #3 of 4", ["#3 of 4"]),
        ("- --tag=no #1\n- #2\n", ["#1", "#2"]),
        ("a: x # 3 of 4\nb: 8 #10\nc: 'x' #1\nd: x#1\ne: true #1\n#1\n", []),
    ],
)
def test_number_sign_after_a_text_causes_a_warning(text: str, comments: list[str]) -> None:
    problems = Problems()
    read_document(text, "x.yaml", problems)
    assert [problem.message.split("'")[1] for problem in problems] == comments
    assert not problems.has_errors()


if __name__ == "__main__":
    for one in sorted(BROKEN.glob("*.yaml")):
        one.with_suffix(".txt").write_text(told(one.read_text()))
