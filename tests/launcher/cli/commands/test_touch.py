"""`launcher touch`: ended programs count as done, with their files as they are, and what reads them follows."""

from pathlib import Path

import pytest

from launcher.frontends.cli.touched_files import read_accepted_files
from launcher.provenance.file_digests import FileDigests
from launcher.queue.jobs.states import ReasonCode, State
from launcher.queue.store.queue import Store
from launcher.queue.store.steering import ConcurrentChange
from launcher.system.errors import UsageError
from tests.build import job_row
from tests.launcher.conftest import Launcher
from tests.launcher.queued import FAILED, end, one, seated
from tests.terminal import in_a_terminal

CHAIN = """
name: r
command:
  - {name: fit, argv: [sh, -c, 'cat in.txt >model.txt && exit $(cat code)'], inputs: [in.txt], outputs: [model.txt]}
  - {name: pack, argv: [sh, -c, 'mkdir out && cp model.txt out'], inputs: [model.txt], outputs: [out/]}
  - {name: table, argv: [sh, -c, 'cat out/* >table.txt'], inputs: [out/], outputs: [table.txt]}
  - {name: plain, argv: ['true']}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    Path("r.yaml").write_text(CHAIN)
    Path("in.txt").write_text("one\n")
    Path("code").write_text("0")
    return folder


def attempts(store: Store) -> dict[str, int]:
    return {row.name.removeprefix("command/"): row.attempts for row in store.read.jobs()}


def fail_again(launcher: Launcher) -> None:
    """Run the chain, and once more with another input and a failure of its first program."""
    launcher.well("run", "r.yaml")
    Path("in.txt").write_text("two\n")
    Path("code").write_text("3")
    assert launcher("run", "r.yaml").code == 1


def test_failed_program_counts_as_done_and_is_not_run_again(
    launcher: Launcher, store: Store
) -> None:
    fail_again(launcher)
    Path("model.txt").write_text("by hand\n")
    answer = launcher.well("touch", "fit")
    assert answer.out == "1\tcommand/fit\taccepted, not run (failed before)\n"
    assert answer.err == "note: 1 job was skipped before. To run: launcher retry 2\n"
    row = job_row(store, 1)
    assert (row.state, row.state_reason.code) == (State.DONE, ReasonCode.TOUCHED)
    assert row.state_reason.data == {"was": "failed"}
    assert "not run" in launcher.well("show", "fit").out
    assert "not run" in launcher.well("status", "fit").out
    launcher.well("run", "r.yaml")
    assert attempts(store) == {"fit": 2, "pack": 2, "table": 2, "plain": 1}
    assert Path("table.txt").read_text() == "by hand\n"
    launcher.well("run", "r.yaml")
    assert attempts(store) == {"fit": 2, "pack": 2, "table": 2, "plain": 1}


def test_changed_inputs_of_done_programs_are_accepted(launcher: Launcher, store: Store) -> None:
    launcher.well("run", "r.yaml")
    once = {"fit": 1, "pack": 1, "table": 1, "plain": 1}
    Path("in.txt").write_text("two\n")
    Path("out/new").touch()
    assert launcher.well("touch", "fit", "pack", "--yes").out == (
        "1\tcommand/fit\taccepted\n2\tcommand/pack\taccepted\n"
    )
    dry = launcher("run", "r.yaml", "--dry-run").out
    assert "out/ changed" in dry
    assert "in.txt changed" not in dry
    launcher.well("touch", "table")
    launcher.well("run", "r.yaml")
    assert attempts(store) == once
    Path("in.txt").write_text("three\n")
    launcher.well("run", "r.yaml")
    assert attempts(store) == {"fit": 2, "pack": 2, "table": 2, "plain": 1}


def test_reader_runs_only_if_the_accepted_content_differs(launcher: Launcher, store: Store) -> None:
    launcher.well("run", "r.yaml")
    for text, runs in (("one\n", 1), ("two\n", 2)):
        Path("model.txt").write_text(text)
        launcher.well("touch", "fit")
        launcher.well("run", "r.yaml")
        assert attempts(store) == {"fit": 1, "pack": runs, "table": runs, "plain": 1}
    Path("model.txt").unlink()  # the output of a job that was done
    assert launcher.refused("touch", "fit").endswith(": launcher retry --force 1\n")


def test_skipped_and_cancelled_programs_are_accepted(launcher: Launcher, store: Store) -> None:
    fail_again(launcher)
    said = launcher.well("touch", "pack", "table", "--yes").out
    assert said.count("accepted, not run (skipped before)") == 2
    add = ("add", "--name", "x", "--output", "x")
    launcher.well(*add, "--hold", "--", "touch", "x")
    launcher.well("cancel", "x")
    Path("x").touch()
    assert launcher.well("touch", "x").out.endswith("accepted, not run (cancelled before)\n")
    (row,) = store.read.select_by_pattern("x")
    assert (row.state, row.attempts) == (State.DONE, 0)
    assert launcher.well("show", "x").code == 0
    assert "not queued" in launcher.well(*add, "--", "touch", "x").err
    assert launcher.well("touch", "x").out.endswith("\taccepted\n")  # once more
    assert job_row(store, row.id).is_accepted_unrun


def test_folder_of_a_job_is_found(launcher: Launcher, store: Store) -> None:
    entry = (
        "{name: own, argv: [sh, -c, 'echo x >{job_folder}/a'], outputs: ['{job_folder}/a'], "
        "inputs: ['{run_folder}/in', data/]}"
    )
    Path("r.yaml").write_text(f"name: r\ncommand:\n  - {entry}\n")
    for folder in (Path("data"), Path("runs/r")):
        folder.mkdir(parents=True)
    (Path("runs/r") / "in").write_text("one")
    launcher.well("run", "r.yaml")
    (Path("runs/r") / "in").write_text("two")
    Path("data/new").touch()
    assert "{run_folder}/in changed" in launcher("run", "r.yaml", "--dry-run").out
    launcher.well("touch", "own")
    launcher.well("run", "r.yaml")
    assert attempts(store) == {"own": 1}
    assert set(job_row(store, 1).outputs) == {
        f"{Path.cwd()}/runs/r/jobs/own/a",
        f"{Path.cwd()}/runs/r/jobs/own",
    }


def test_refused_selection_changes_nothing(launcher: Launcher, store: Store) -> None:
    fail_again(launcher)
    launcher.well("add", "--hold", "--name", "held", "--output", "x", "--", "true")
    before = [(row.state, row.reason, row.outputs) for row in store.read.jobs()]
    refused = {
        ("nothing",): "no job matches 'nothing'",
        ("held",): "command/held is held. Jobs must be done, failed, cancelled or skipped",
        ("plain",): "Only programs with outputs can be accepted, not command/plain",
        ("run:r",): "accept the files of 3 jobs? Without a terminal, add --yes",
        (): "Missing argument",
    }
    for words, message in refused.items():
        assert message.lower() in launcher.refused("touch", *words).lower()
    assert "unchanged, held: command/held" in launcher.well("touch", "fit", "held", "-n").err
    answer = launcher.well("touch", "run:r", "--dry-run")
    assert answer.out.splitlines() == [
        "1\tcommand/fit\twould be accepted (failed)",
        "2\tcommand/pack\twould be accepted (skipped)",
        "3\tcommand/table\twould be accepted (skipped)",
    ]
    assert "unchanged, not programs with outputs: command/plain" in answer.err
    Path("model.txt").unlink()
    message = f"1 output missing: {Path.cwd()}/model.txt (job 1)"
    for words in (("fit",), ("run:r", "--yes"), ("fit", "pack", "--dry-run")):
        refusal = launcher.refused("touch", *words)
        assert message in refusal
        assert refusal.endswith("run the job again: launcher retry 1\n")
    Path("model.txt").mkdir()
    assert message in launcher.refused("touch", "fit")
    Path("out/model.txt").unlink()
    Path("out").rmdir()
    Path("out").touch()
    assert f"{Path.cwd()}/out/ (job 2, a folder)" in launcher.refused("touch", "pack")
    assert [(row.state, row.reason, row.outputs) for row in store.read.jobs()] == before


def test_job_that_changed_meanwhile_is_not_accepted(store: Store, here: Path) -> None:
    settings = {"outputs": ["model.txt"]}
    outputs = (f"{here}/model.txt",)
    Path("model.txt").touch()
    jobs = [one(store, name, settings=settings, outputs=outputs) for name in "ab"]
    for job in jobs:
        end(store, job, FAILED)
    accepted = [read_accepted_files(store, job_row(store, job), FileDigests()) for job in jobs]
    store.job_control.retry(jobs[1:], 5.0)
    with pytest.raises(ConcurrentChange, match="job 2 has just changed, nothing was changed"):
        store.job_control.accept_files(accepted, 6.0)
    assert [job_row(store, job).state for job in jobs] == [State.FAILED, State.QUEUED]


@pytest.mark.parametrize("written", ["out/model.txt", "out"])
def test_file_that_a_running_job_writes_is_not_accepted(
    launcher: Launcher, store: Store, here: Path, written: str
) -> None:
    Path("out").mkdir()
    Path("out/model.txt").touch()
    ended, other = (
        one(store, name, settings={"outputs": ["out/"]}, outputs=(f"{here}/out",))
        for name in ("ended", "other")
    )
    end(store, ended, FAILED)
    end(store, other, FAILED)
    writer = one(store, "writer", settings={"outputs": [written]}, outputs=(f"{here}/{written}",))
    claim = seated(store, writer)
    message = f"job {writer} (command/writer) is running and writes {here}/{written}."
    for words in ((str(ended), "--dry-run"), (str(ended), str(other), "--yes")):
        assert message in launcher.refused("touch", *words)
    accepted = read_accepted_files(store, job_row(store, ended), FileDigests())
    with pytest.raises(UsageError, match="Nothing was changed"):  # it has just started
        store.job_control.accept_files([accepted], 6.0)
    assert job_row(store, ended).state is State.FAILED
    end(store, claim, FAILED)
    assert launcher.well("touch", str(ended)).out.endswith("accepted, not run (failed before)\n")


def test_numbers_of_an_earlier_attempt_are_no_results(launcher: Launcher, store: Store) -> None:
    script = "echo launcher: acc=0.$1; touch x; exit $2"
    Path("x").touch()
    for acc, code in (("1", "0"), ("2", "3")):
        text = f"  - {{name: t, argv: [sh, -c, '{script}', sh, '{acc}', '{code}'], outputs: [x]}}\n"
        Path("r.yaml").write_text(f"name: r\ncommand:\n{text}")
        launcher("run", "r.yaml")
    assert store.read.result_of(1) is not None
    launcher.well("touch", "t")
    assert store.read.result_of(1) is None
    assert "acc" not in launcher("results", "r").out


def test_results_say_which_jobs_were_accepted_and_not_run(launcher: Launcher) -> None:
    script = "echo launcher: acc=0.$0; touch x-$0-$1; exit $1"
    sweep = "matrix: {n: [1, 2], c: [0, 3]}, outputs: ['x-{n}-{c}']"
    entry = f"{{name: t, argv: [sh, -c, '{script}', '{{n}}', '{{c}}'], {sweep}}}"
    Path("r.yaml").write_text(f"name: r\ncommand:\n  - {entry}\n")
    assert launcher("run", "r.yaml").code == 1
    assert "accepted, not run" not in launcher.well("results", "r", "--over", "c").out
    launcher.well("touch", "t@*c=3", "--yes")
    table = launcher.well("results", "r", "--over", "c")
    assert "accepted, not run" in table.out + table.err


def test_terminal_asks_before_several_jobs_are_accepted(launcher: Launcher, store: Store) -> None:
    launcher.well("run", "r.yaml")
    drawn = in_a_terminal("touch", "fit", "pack", typed="n\n", code=130)
    assert drawn.endswith("accept the files of 2 jobs? [y/N]: nothing was changed\n")
    assert job_row(store, 1).state_reason.code is ReasonCode.DONE
    in_a_terminal("touch", "fit", "pack", typed="y\n")
    assert job_row(store, 1).state_reason.code is ReasonCode.TOUCHED
