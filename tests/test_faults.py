"""The measurement of what tests find, with a project of two modules."""

import random
import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults import measure
from tests.faults.changes import draw, find_changes, plant, with_harmless_changes
from tests.faults.choice import Function, find_needless, functions_of
from tests.faults.copies import Checkout
from tests.faults.fault_table import Fault, read_faults
from tests.faults.lines import LinesOfTests, record_lines
from tests.faults.measure import add_faults, draw_faults, measure_faults
from tests.source_tree import ROOT

SUMS = '''
def larger(a, b):
    """Return the larger one."""
    if a > b:
        return a
    return b


def never(a):
    return a + 1 == 2


def count_down(n):
    while n > 0:
        n = n - 1
    return n
'''  # prose: ok, a program
CHILD = """
import os, pathlib, socket, time

def work(file):
    os.closerange(3, 20)
    ends = [end for _ in range(4) for end in socket.socketpair()]
    if not os.fork():
        for end in ends:
            end.close()
        return
    _, status = os.wait()
    assert not status
    time.sleep(1)
    pathlib.Path(file).touch()
    time.sleep(60)
"""  # prose: ok, a program
TEST_SUMS = """
import pathlib
from toy.sums import count_down, larger

def test_larger():
    assert larger(2, 1) == 2

def test_count_down():
    assert count_down(3) == 0

def test_text_is_unchanged():
    assert larger(2, 1) and "pass" not in pathlib.Path("toy/sums.py").read_text()
"""
TEST_IMPORT = """
from toy.sums import larger

LARGER = larger(4, 3) + 1

def test_sum():
    assert larger(6, LARGER) == 6
"""
TEST_CHILD = """
import subprocess, sys, time

def test_child(tmp_path):
    file = tmp_path / "began"
    command = "import sys, toy.child; toy.child.work(sys.argv[1])"
    child = subprocess.Popen([sys.executable, "-c", command, file], cwd="/", env={})
    while not file.exists():
        assert child.poll() is None
        time.sleep(0.05)
    child.kill()
    child.wait()
"""
FILES = {
    "setup.cfg": "[coverage:run]\nsource = toy\n[tool:pytest]\naddopts = --import-mode=importlib\n",
    "toy/__init__.py": "",
    "toy/sums.py": SUMS,
    "toy/child.py": CHILD,
    "tests/test_sums.py": TEST_SUMS,
    "tests/test_import.py": TEST_IMPORT,
    "tests/test_child.py": TEST_CHILD,
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A small project whose tests have run."""
    root = tmp_path_factory.mktemp("project")
    for name, text in FILES.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    leave_out = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tests" / "faults", root / "tests" / "faults", ignore=leave_out)
    subprocess.run(["git", "init", "--quiet", root], check=True)
    (root / ".git/info/exclude").write_text("build/\n")
    found = Checkout(root)
    lines = list(record_lines(found, ["tests"], copies=2))
    assert len(lines) == 3
    assert list(record_lines(found, ["tests"], copies=2)) == []
    return found


def draw_change(checkout: Checkout, table: Path, *changes: str) -> None:
    """Draw these changes."""
    drawn = [fault for fault in draw_faults(checkout, "toy", 100, 1) if fault.change in changes]
    assert add_faults(table, drawn) == len(changes)


def test_fault_is_drawn_only_in_an_executed_line(checkout: Checkout) -> None:
    drawn = draw_faults(checkout, "toy", 100, 1)
    assert {fault.function for fault in drawn} == {"larger", "count_down", "work"}
    assert drawn[:3] == draw_faults(checkout, "toy", 3, 1)


def test_lines_of_a_killed_child_have_the_name_of_the_test(checkout: Checkout) -> None:
    with closing(LinesOfTests(checkout)) as recorded:
        lines = recorded.by_line("toy/child.py")
    assert lines[5] == ["tests/test_child.py::test_child"]


def test_test_that_fails_on_any_change_is_left_out(checkout: Checkout) -> None:
    with closing(LinesOfTests(checkout)) as lines:
        assert lines.seconds["tests/test_sums.py::test_text_is_unchanged"] is None
        assert lines.by_line("toy/sums.py")[4] == [
            "tests/test_import.py::test_sum",
            "tests/test_sums.py::test_larger",
        ]


def test_hanging_test_ends_and_counts_as_found(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "LEAST_LIMIT_S", 1.0)
    draw_change(checkout, tmp_path / "table", "sum: n - 1 -> n + 1")
    (fault,) = measure_faults(checkout, tmp_path / "table")
    assert fault.failed == ("tests/test_sums.py::test_count_down",)
    assert fault.is_found


def test_module_that_cannot_be_collected_leaves_the_others_their_results(
    checkout: Checkout, tmp_path: Path
) -> None:
    draw_change(checkout, tmp_path / "table", "returned: a -> None")
    (fault,) = measure_faults(checkout, tmp_path / "table")
    assert fault.broken == ("tests/test_import.py",)
    assert fault.failed == ("tests/test_sums.py::test_larger",)


def test_interrupted_measurement_continues(checkout: Checkout, tmp_path: Path) -> None:
    table = tmp_path / "table"
    draw_change(checkout, table, "turned: a > b -> a >= b", "moved: 0 -> 1")
    running = measure_faults(checkout, table)
    first = next(running)
    running.close()
    assert [fault for fault in read_faults(table) if fault.seconds is not None] == [first]
    others = list(measure_faults(checkout, table))
    assert sorted(fault.key for fault in [first, *others]) == [
        fault.key for fault in read_faults(table)
    ]
    assert {fault.change: fault.is_found for fault in [first, *others]} == {
        "turned: a > b -> a >= b": False,
        "moved: 0 -> 1": True,
    }
    before = table.read_bytes()
    assert list(measure_faults(checkout, table)) == []
    assert table.read_bytes() == before


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("if a < b and c: pass", {"if (a <= b) and c: pass", "if (a < b or c): pass"}),
        ("f(x, y=3)", {"(None)", "f(x, y=(4))"}),
        ("g = h(1 / k, True)", {"g = (h(True, 1 / k))", "g = h(1 / k, (False))"}),
        ("return p * q", {"return (None)", "return (p + q)"}),
    ],
)
def test_change_replaces_one_expression(line: str, changed: set[str]) -> None:
    text = f"def function():\n    'ä'\n    {line}\n"
    planted = {plant(text, change) for changes in find_changes(text) for change in changes}
    assert {f"def function():\n    'ä'\n    {line}\n" for line in changed} <= planted


def test_harmless_changes_keep_line_numbers_and_docstrings() -> None:
    text = 'def f():\n    """Add\n    one."""\n    return 1\n\ndef g(): return 2\n'  # prose: ok, a program
    changed = with_harmless_changes(text).splitlines()
    assert changed[2] == '    one."""; pass'
    assert changed[5] == "def g(): pass; return 2"
    assert len(changed) == 6


def test_functions_are_drawn_in_turn() -> None:
    functions = find_changes("def f(): return 1 < 2 < 3\ndef g(): return [4, 5, 6]\n")
    drawn = [change.function for change in draw(functions, random.Random(1))]
    assert {*drawn[:2]} == {"f", "g"}
    assert len(drawn) == 9


def test_same_fault_is_added_once(checkout: Checkout, tmp_path: Path) -> None:
    drawn = draw_faults(checkout, "toy", 3, 1)
    assert add_faults(tmp_path / "table", drawn) == 3
    assert add_faults(tmp_path / "table", drawn) == 0
    changed = [Fault(*fault[:3], "another code") for fault in drawn]
    assert add_faults(tmp_path / "table", changed) == 3
    assert list(measure_faults(checkout, tmp_path / "table", folders=["tests"])) == []


def test_function_is_needless_if_others_run_each_of_its_steps_twice() -> None:
    def function(name: str, seconds: float, *steps: int) -> Function:
        return Function(name, seconds, frozenset(steps))

    functions = [
        function("dear", 9.0, 1, 2),
        function("dear_alone", 8.0, 1, 3),
        function("cheap", 1.0, 1, 2),
        function("other", 2.0, 1, 2),
        function("nothing", 5.0),
    ]
    assert find_needless(functions, functions) == [functions[0]]
    assert find_needless(functions[1:], functions[1:]) == []


def test_steps_of_the_import_of_a_module_do_not_count(checkout: Checkout) -> None:
    with closing(LinesOfTests(checkout)) as lines:
        known = lines.steps_in_functions()
        functions = {
            each.name.partition("::")[2]: each.steps
            for each in functions_of(lines.steps(), lines.seconds, known)
        }
    assert functions["test_larger"] == functions["test_sum"] > set()
    assert functions["test_count_down"].isdisjoint(functions["test_sum"])
