"""`launcher add --input --output`: what follows from the files of programs, and which are queued at all."""

from pathlib import Path

import pytest

from launcher.states import State
from launcher.store.queue import Store
from tests.build import job_row
from tests.launcher.conftest import Launcher

COPY = ("add", "--name", "copy", "--input", "in.txt", "--output", "out.txt")
CP = ("--", "cp", "in.txt", "out.txt")
LAST = ("add", "--name", "last", "--input", "out.txt", "--output", "last.txt")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "in.txt").write_text("one")
    (folder / "sub").mkdir()
    (folder / "link").symlink_to("in.txt")
    return folder


def test_a_program_starts_behind_those_that_make_what_it_reads(
    launcher: Launcher, store: Store, here: Path
) -> None:
    launcher(*COPY, "--hold", *CP)
    launcher(*LAST, "--", "cp", "./out.txt", "last.txt")
    assert store.read.needs_of(2) == ["command/copy"]
    assert job_row(store, 2).spec.outputs == (str(here / "last.txt"),)
    launcher("release", "copy")
    assert launcher("wait").code == 0
    assert (here / "last.txt").read_text() == "one"


@pytest.mark.parametrize(
    ("change", "words", "is_queued"),
    [
        ("", (*COPY, *CP), False),
        ("", ("add", "--output", "out.txt", "--input", "in.txt", *CP), False),  # whatever its name
        ("echo two >in.txt", (*COPY, *CP), True),
        ("rm out.txt", (*COPY, *CP), True),
        ("echo by hand >out.txt", (*COPY, *CP), True),
        ("", (*COPY, "--", "cp", "-v", "in.txt", "out.txt"), True),
        ("", ("add", "--output", "out.txt", *CP), True),  # its inputs were others
        ("", ("add", *CP), True),
    ],
)
def test_what_is_done_with_the_same_files_is_said_and_not_queued(
    launcher: Launcher,
    store: Store,
    here: Path,
    change: str,
    words: tuple[str, ...],
    *,
    is_queued: bool,
) -> None:
    launcher(*COPY, *CP)
    assert launcher("wait").code == 0
    launcher("add", "--name", "change", "--", "sh", "-c", change)
    assert launcher("wait").code == 0
    answer = launcher(*words)
    assert answer.code == 0
    assert len(store.read.jobs()) == 2 + is_queued
    if not is_queued:
        assert answer.out == "1\tcommand/copy\n"
        assert answer.err == (
            "not queued: job 1 made the same outputs, with the same command and files; "
            "`launcher retry 1 --force` runs it again\n"
        )


def test_of_a_sweep_only_what_is_not_done_is_queued(
    launcher: Launcher, store: Store, here: Path
) -> None:
    sweep = ("add", "--name", "s", "--output", "o{x}", "--sweep")
    launcher(*sweep, "x=1,2", "--", "touch", "o{x}")
    assert launcher("wait").code == 0
    answer = launcher(*sweep, "x=1..3", "--", "touch", "o{x}")
    names = [f"{number}\tcommand/s@x={number}\n" for number in (1, 2, 3)]
    assert answer.out == "".join(names)
    assert "not queued: job 1 and 1 more made the same outputs" in answer.err
    assert launcher("wait").code == 0
    assert {row.state for row in store.read.jobs()} == {State.DONE}
    assert (here / "o3").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--output", "../out", "--", "x"), "--output ../out lies outside of the project"),
        (("--output", "sub", "--", "x"), "--output sub is a folder; name files in it"),
        (("--output", "link", "--", "x"), "--output link is a link; name the file to which it"),
        (("--input", "sub", "--", "x"), "--input sub is a folder"),
        (("--input", "no", "--", "x"), "--input no is not there, and no job that waits or runs"),
        (("--output", "held", "--", "x"), "--output held: command/held (job 1, held) makes it"),
        (("--output", "o", "--sweep", "x=1,2", "--", "x", "{x}"), "two of these programs would"),
        (("--output", "o{y}", "--sweep", "x=1,2", "--", "x", "{x}"), "{y}"),
        (("--output", "o", "--from", "in.txt"), "--output is a file that one program makes"),
    ],
)
def test_files_that_no_program_can_have_are_refused_and_nothing_is_queued(
    launcher: Launcher, store: Store, words: tuple[str, ...], message: str
) -> None:
    launcher("add", "--hold", "--name", "held", "--output", "held", "--", "x")
    answer = launcher("add", *words)
    assert answer.code == 2
    assert message in answer.err
    assert len(store.read.jobs()) == 1


def test_a_waiting_program_is_replaced_by_one_with_the_same_output(
    launcher: Launcher, store: Store, here: Path
) -> None:
    launcher(*COPY, "--hold", *CP)
    launcher(*LAST, "--hold", "--", "cp", "out.txt", "last.txt")
    assert launcher(*COPY, "--hold", "--replace", "--", "cp", "-v", "in.txt", "out.txt").code == 0
    row = job_row(store, 1)
    assert (row.spec.argv[1], row.spec.outputs) == ("-v", (str(here / "out.txt"),))
    assert store.read.needs_of(2) == ["command/copy"]


def test_an_output_may_lie_in_the_folder_of_its_attempt(
    launcher: Launcher, store: Store, here: Path
) -> None:
    file = "{job_folder}/made"
    launcher("add", "--run", "mine", "--name", "a", "--output", file, "--", "touch", file)
    assert launcher("wait").code == 0
    assert job_row(store, 1).spec.outputs == (str(here / "runs/mine/jobs/a@1/made"),)
    assert (here / "runs/mine/jobs/a@1/made").exists()


def test_the_outputs_of_a_program_are_changed_with_its_words(
    launcher: Launcher, store: Store, here: Path
) -> None:
    launcher("add", "--name", "a", "--output", "one", "--", "touch", "one")
    assert launcher("wait").code == 0
    words = ("--set", "argv=[touch, two]", "--set", "outputs=[two]")
    assert launcher("retry", "1", "--force", *words).code == 0
    assert launcher("wait").code == 0
    row = job_row(store, 1)
    assert (row.state, row.spec.outputs) == (State.DONE, (str(here / "two"),))
    assert [*row.outputs] == [str(here / "two")]


@pytest.mark.parametrize(
    ("files", "refused"),
    [
        (("a",), ""),  # it joins its own jobs
        (("b",), "command/b would make {}/out.txt, as does command/a of {}/runs/a"),
        (("c", "d"), "command/d would make {}/other.txt, as does command/c of {}/runs/c"),
    ],
)
def test_task_files_whose_programs_have_one_output_are_refused(
    launcher: Launcher, store: Store, here: Path, files: tuple[str, ...], refused: str
) -> None:
    for name, output in (("a", "out"), ("b", "out"), ("c", "other"), ("d", "other")):
        entry = f"{{name: {name}, argv: [sleep, '60'], outputs: [{output}.txt]}}"
        (here / f"{name}.yaml").write_text(f"name: {name}\ncommand: [{entry}]\n")
    assert launcher("run", "--detach", "a.yaml").code == 0
    answer = launcher("run", "--detach", *(f"{name}.yaml" for name in files))
    assert answer.code == (2 if refused else 0)
    assert refused.format(here, here) in answer.err
    assert len(store.read.jobs()) == 1
