"""Patterns in `inputs`, and the outputs of a named entry: waiting for their producers, and running again after changes."""

from pathlib import Path

import pytest

from launcher.provenance.file_patterns import existing_files, matches
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import Store
from tests.build import job_row
from tests.launcher.conftest import Launcher

GRID = (
    '  - {name: grid, argv: [sh, -c, "echo $0 >m-$0.txt", "{n}"], matrix: {n: [1, 2]},'
    ' outputs: ["m-{n}.txt"]}\n'
)
SUM = "  - {name: sum, argv: [sh, -c, 'cat m-*.txt >all.txt'], outputs: [all.txt], inputs: [%s]}\n"

LATER = ("--set", "resources.not_before=+1h")  # nothing starts


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def write(*entries: str) -> None:
    Path("r.yaml").write_text("name: r\ncommand:\n" + "".join(entries))


def attempts(store: Store) -> dict[str, int]:
    return {row.name.removeprefix("command/"): row.attempts for row in store.read.jobs()}


def test_program_waits_for_all_producers(launcher: Launcher, store: Store) -> None:
    texts = (
        *("m-*.txt", "outputs:grid", "m-[0-9].txt", "./m-?.txt"),
        "{run_folder}/../../m-*.txt",
    )
    entry = "  - {name: sum%s, argv: ['true'], inputs: [\"%s\"]}\n"
    write(*(entry % numbered for numbered in enumerate(texts)), GRID)
    launcher.well("run", "--detach", "r.yaml", *LATER)
    names = ["command/grid@n=1", "command/grid@n=2"]
    for number, text in enumerate(texts):
        (reader,) = store.read.select_by_pattern(f"sum{number}")
        assert sorted(store.read.dependency_names(reader.id)) == names, text
        assert sorted(reader.spec.settings["inputs"]) == ["m-1.txt", "m-2.txt"], text


def test_existing_file_counts_and_its_changes_run_the_program_again(
    launcher: Launcher, store: Store
) -> None:
    write(SUM % "'m-*.txt'", GRID)
    for text, runs in (("a", 1), ("a", 1), ("b", 2)):
        Path("m-9.txt").write_text(text)
        launcher.well("run", "r.yaml")
        assert attempts(store)["sum"] == runs
    Path("m-8.txt").write_text("new")
    launcher.well("run", "r.yaml")
    Path("m-9.txt").unlink()
    launcher.well("run", "r.yaml")
    assert attempts(store) == {"grid@n=1": 1, "grid@n=2": 1, "sum": 4}
    Path("m-2.txt").write_text("changed")  # a changed output: its program makes it again
    launcher.well("run", "r.yaml")
    assert attempts(store) == {"grid@n=1": 1, "grid@n=2": 2, "sum": 5}
    assert Path("all.txt").read_text() == "1\n2\nnew"


def test_plan_names_the_files_that_the_pattern_matches_now(launcher: Launcher) -> None:
    write(SUM % "'m-*.txt'", GRID)
    launcher.well("run", "r.yaml")
    for number in (3, 4):
        Path(f"m-{number}.txt").touch()
    plan = launcher.well("run", "r.yaml", "--dry-run").out
    assert "│ inputs: m-3.txt and 1 more added\n" in plan
    launcher.well("run", "r.yaml")
    Path("m-3.txt").unlink()
    Path("m-5.txt").touch()
    plan = launcher.well("run", "r.yaml", "--dry-run").out
    assert "│ inputs: m-5.txt added, m-3.txt removed\n" in plan


def test_swept_entry_reads_the_outputs_of_equal_values(launcher: Launcher, store: Store) -> None:
    write(
        GRID,
        "  - {name: each, argv: [cp, 'm-{n}.txt', 'e-{n}.txt'], inputs: ['outputs:grid'],"
        " matrix: {n: [1, 2]}, outputs: ['e-{n}.txt']}\n",
    )
    launcher.well("run", "--detach", "r.yaml", *LATER)
    names = {row.name: row.spec.settings["inputs"] for row in store.read.jobs()}
    assert names["command/each@n=1"] == ["m-1.txt"]
    assert names["command/each@n=2"] == ["m-2.txt"]


def test_name_with_a_wildcard_that_exists_is_one_file(launcher: Launcher, store: Store) -> None:
    Path("a[1].txt").touch()
    Path("a1.txt").touch()
    write("  - {argv: ['true'], inputs: ['a[1].txt']}\n")
    launcher.well("run", "r.yaml")
    assert job_row(store, 1).spec.settings["inputs"] == ["a[1].txt"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x-*", "no file and no output of a job matches 'x-*'"),
        ("*.txt", "'*.txt' matches 'all.txt', which command/sum makes itself"),
        ("**/x", "write * once for each folder"),
        ("outputs:grd", "did you mean 'grid'?"),
        ("outputs:sum", "no job of 'sum' has outputs for command/sum"),
        ("outputs:", "no job of this file is named ''"),
    ],
)
def test_input_that_stands_for_no_file_is_refused(
    launcher: Launcher, text: str, message: str
) -> None:
    write(GRID, SUM % f"'{text}'")
    assert message in launcher.refused("run", "r.yaml", "--dry-run")


def test_cycle_of_patterns_is_refused(launcher: Launcher) -> None:
    write(
        "  - {name: a, argv: ['true'], inputs: ['b-*'], outputs: [a-1]}\n",
        "  - {name: b, argv: ['true'], inputs: ['a-*'], outputs: [b-1]}\n",
    )
    assert "these jobs read each other's output" in launcher.refused("run", "r.yaml", "--dry-run")


def test_added_program_waits_for_the_producers_of_its_pattern(
    launcher: Launcher, store: Store, here: Path
) -> None:
    (here / "m-0.txt").write_text("0\n")
    sweep = ("--sweep", "n=1,2", "--output", "m-{n}.txt", "--", "sh", "-c", "echo $0 >m-$0.txt")
    launcher.well("add", *sweep, "{n}")
    add = ("add", "--name", "sum", "--input", "m-*.txt", "--output", "all.txt")
    launcher.well(*add, "--", "sh", "-c", "cat m-*.txt >all.txt")
    launcher.well("wait")
    assert Path("all.txt").read_text() == "0\n1\n2\n"
    assert "not queued" in launcher(*add, "--", "sh", "-c", "cat m-*.txt >all.txt").err
    (here / "m-0.txt").write_text("changed\n")
    launcher.well(*add, "--", "sh", "-c", "cat m-*.txt >all.txt")
    launcher.well("wait")
    assert Path("all.txt").read_text() == "changed\n1\n2\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--input", "x-*"), "--input x-* matches no file, and no output of a waiting or running"),
        (("--input", "*.txt", "--output", "a.txt"), "a.txt, which this program makes"),
        (("--input", "**/x"), "Write * once for each folder"),
        (("--input", "outputs:grid"), "outputs:ENTRY has a meaning in task files only."),
        (("--input", ""), "--input '' is a folder. Name files in it."),
    ],
)
def test_pattern_of_an_added_program_that_stands_for_no_file_is_refused(
    launcher: Launcher, words: tuple[str, ...], message: str
) -> None:
    Path("a.txt").touch()
    assert message in launcher.refused("add", *words, "--", "true")


def test_swept_value_in_a_pattern_is_not_changed(launcher: Launcher, store: Store) -> None:
    for name in ("d-1-a", "d-2-a"):
        Path(name).touch()
    words = ("add", "--hold", "--name", "s", "--sweep", "n=1", "--sweep", "lr=1")
    launcher.well(*words, "--input", "d-{n}-*", "--", "true", "{lr}", "{n}")
    assert "n is part of a pattern in inputs" in launcher.refused("edit", "1", "--set", "n=2")
    launcher.well("edit", "1", "--set", "lr=2")
    assert job_row(store, 1).spec.settings["inputs"] == ["d-1-a"]
    assert job_row(store, 1).state is State.HELD


def test_pattern_matches_as_in_a_shell(here: Path) -> None:
    (here / "folder").mkdir()
    for name in (".hidden", "a", "folder/a"):
        (here / name).touch()
    assert existing_files(f"{here}/*") == [f"{here}/a"]
    assert not matches("/p/.hidden", "/p/*")
    assert not matches("/p/folder/a", "/p/*")
    assert matches("/p/folder/a", "/p/*/?")
