"""Folders as outputs and inputs of programs: order, changes, conflicts and killed processes, with real programs."""

import os
import signal
from pathlib import Path

import pytest

from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import Store
from tests.build import endings, in_state, job_row, program_of, supervisor_of, until
from tests.launcher.conftest import Launcher
from tests.launcher.queued import serve, until_in

TRAIN = (
    "  - {name: train, argv: [sh, -c, 'mkdir -p ckpt/in && cp data/x ckpt/in/last.pt && date >ckpt/log; exit $0',"
    " '%s'], inputs: [data/], outputs: [ckpt/]}\n"
)
EVAL = "  - {name: eval%d, argv: [sh, -c, 'cat ckpt/in/last.pt >$0', %s], inputs: [%s], outputs: [%s]}\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "x").write_text("one")
    monkeypatch.chdir(folder)
    return folder


def write(*entries: str) -> None:
    Path("r.yaml").write_text("name: r\ncommand:\n" + "".join(entries))


def fill(*names: str) -> None:
    for path in map(Path, names):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("precious")


def attempts(store: Store) -> dict[str, int]:
    return {row.name.removeprefix("command/"): row.attempts for row in store.read.jobs()}


def test_reader_of_a_folder_waits_for_it_and_runs_again_if_its_content_changes(
    launcher: Launcher, store: Store
) -> None:
    forms = ("'ckpt/'", "ckpt/in/last.pt", "'outputs:train'", "'c*/'")
    files = [f"eval{number}.txt" for number in range(len(forms))]
    readers = [
        EVAL % (number, file, form, file)
        for number, (form, file) in enumerate(zip(forms, files, strict=True))
    ]
    write(*readers, TRAIN % 0)
    names = ["train", *(f"eval{number}" for number in range(len(forms)))]
    for _ in range(2):
        launcher.well("run", "r.yaml")
        assert attempts(store) == dict.fromkeys(names, 1)
    assert {Path(file).read_text() for file in files} == {"one"}
    Path("data/x").write_text("two")
    launcher.well("run", "r.yaml")
    assert attempts(store) == dict.fromkeys(names, 2)
    assert {Path(file).read_text() for file in files} == {"two"}
    Path("ckpt/log").write_text("by hand")
    assert "ckpt/ was changed" in launcher("run", "r.yaml", "--dry-run").out
    assert not [*Path.cwd().glob(".*")]


def test_existing_result_without_the_content_of_folders_stays_done(
    launcher: Launcher, store: Store
) -> None:
    """A job folder was recorded without its content by every version."""
    script = "mkdir -p {job_folder}/a; echo x >{job_folder}/a/b"
    write(f"  - {{name: own, argv: [sh, -c, '{script}']}}\n")
    launcher.well("run", "r.yaml")
    Path("runs/r/jobs/own/a/b").write_text("changed")
    launcher.well("run", "r.yaml")
    assert attempts(store) == {"own": 1}


@pytest.mark.parametrize("restarts", [False, True])
def test_folder_is_restored_after_a_kill_of_all_processes(
    launcher: Launcher, home: Home, store: Store, here: Path, restarts: bool
) -> None:
    script = "mkdir -p out/in && touch out/in/part begun\nwhile ! [ -e go ]\ndo sleep 0.01\ndone\nexit $0"
    code = "0" if restarts else "3"
    rerun = ("--rerun", "again" if restarts else "never")
    launcher.well("add", "--hold", "--output", "out/", *rerun, "--", "sh", "-c", script, code)
    fill("out/old")  # while the job waits
    launcher.well("release", "1")
    until((here / "begun").exists, "the program runs")
    aside = here / ".out.launcher-1-1"
    assert [path.name for path in aside.iterdir()] == ["old"]
    first = home.attempt(1, 1)
    for pid in (scheduler_pid(home) or 0, supervisor_of(first), program_of(first)):
        os.kill(pid, signal.SIGKILL)
    (here / "go").touch()
    serve(home)
    until_in(store, State.DONE if restarts else State.FAILED, 1)
    assert endings(store, 1) == (["lost", "done"] if restarts else ["lost"])
    left = sorted(str(path.relative_to(here)) for path in (here / "out").rglob("*"))
    assert left == (["out/in", "out/in/part"] if restarts else ["out/old"])
    assert not aside.exists()


@pytest.mark.parametrize(
    ("first", "second"),
    [("out/", "out/a.txt"), ("out/a.txt", "out/"), ("out/", "out/in/"), ("out/", "./x/../out/")],
)
def test_added_program_that_writes_in_the_folder_of_another_is_refused(
    launcher: Launcher, first: str, second: str
) -> None:
    launcher.well("add", "--hold", "--output", first, "--", "true")
    message = f"--output {second} is made by job 1 command/1 (held)"
    assert message in launcher.refused("add", "--output", second, "--", "true")
    launcher.well("add", "--hold", "--output", "outer/", "--output", "out.txt", "--", "true")
    write(f"  - {{name: t, argv: ['true'], outputs: ['{second}']}}\n")
    message = "which command/1 of"
    assert message in launcher.refused("run", "r.yaml")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--output", "data"), "is a folder. Add / to its name if the program makes all of it"),
        (("--input", "data"), "is a folder. Add / to its name if the program reads all of it"),
        (("--output", "r.yaml/"), "is a file, not a folder. Remove the / at the end"),
        (("--output", "./"), "is the folder of the project. Name a folder in it"),
        (("--input", "/"), "--input / is the whole file system. Name a folder or file in it"),
        (("--input", "/tmp/..//"), "--input /tmp/..// is the whole file system"),
        (("--input", "absent/"), "--input absent/ does not exist"),
        (("--output", "o/", "--output", "o/x"), "--output o/x overlaps with --output o/ of the same"),
        (("--output", "data/", "--input", "data/x"), "overlaps with --input data/x of the same program"),
        (("--output", "data/y", "--input", "data/"), "overlaps with --input data/ of the same program"),
        (("--sweep", "n=1,2", "--output", "o/"), "two of these programs would make it"),
        (("--input", "held"), "--input held is a folder that job 1 makes. Add / to its name"),
        (("--input", "file/"), "--input file/ is a file that job 1 makes. Remove the /"),
        (("--input", "held/*"), "--input held/* matches files in"),
    ],
)  # fmt: skip
def test_impossible_folder_of_an_added_program_is_refused(
    launcher: Launcher, words: tuple[str, ...], message: str
) -> None:
    Path("r.yaml").touch()
    launcher.well("add", "--hold", "--output", "held/", "--output", "file", "--", "true")
    assert message in launcher.refused("add", *words, "--", "true")


OWN = "has content that no job of this queue made. Move it away, or name another folder"


@pytest.mark.parametrize(
    ("files", "output", "program", "message"),
    [
        (["o/x"], "o/", "true", OWN),
        (["o/in/.hidden"], "./x/../o/", "true", OWN),
        (["src/train.py"], "src/", "cat src/train.py", "contains src/train.py, which its command"),
        (["o/tool"], "o/", "./o/tool", "contains ./o/tool, which its command names"),
        ([".git/HEAD"], ".git/", "true", "belongs to Git"),
        ([], ".git/new/", "true", "belongs to Git"),
        ([], "sub/.git/", "true", "belongs to Git"),
        ([], "runs/other/x/", "true", "is in the folder of another run. Name another folder"),
    ],
)
def test_folder_that_no_job_made_is_refused_as_output(
    launcher: Launcher, files: list[str], output: str, program: str, message: str
) -> None:
    fill(*files)
    write(f"  - {{name: t, argv: [{', '.join(program.split())}], outputs: ['{output}']}}\n")
    for verb, *words in (("run", "r.yaml"), ("add", "--output", output, "--", *program.split())):
        assert message in launcher.refused(verb, *words)
        tried = launcher(verb, "--dry-run", *words)
        assert message in " ".join(f"{tried.out} {tried.err}".split())
        assert tried.code == 2
    assert all(Path(name).read_text() == "precious" for name in files)


def test_folder_that_a_failed_or_accepted_job_names_can_be_an_output_again(
    launcher: Launcher, store: Store
) -> None:
    script = ("sh", "-c", "mkdir -p o; touch o/x; exit $0")
    for code in ("3", "0"):
        launcher("add", "--wait", "--output", "o/", "--", *script, code)
    launcher.well("add", "--hold", "--output", "p/", "--", "true")
    launcher.well("cancel", "3")
    fill("p/x")  # the result of another machine
    assert OWN in launcher.refused("add", "--output", "p/", "--", "false")
    launcher.well("touch", "3")
    launcher.well("add", "--hold", "--output", "p/", "--", "false")
    assert [in_state(store, job, State.DONE) for job in (1, 2, 3)] == [False, True, True]


def test_output_folder_with_the_result_of_another_job_or_with_its_script_is_refused(
    launcher: Launcher,
) -> None:
    launcher.well("add", "--wait", "--output", "o/", "--", "mkdir", "o")
    launcher.well("add", "--wait", "--output", "o/a", "--", "touch", "o/a")
    message = "o/a, which job 2 made. Name another folder"
    assert message in launcher.refused("add", "--output", "o/", "--", "mkdir", "-p", "o")
    Path("o/a").rename("o/t.py")
    assert "contains o/t.py" in launcher.refused("add", "--output", "o/", "--", "cat", "o/t.py")
    Path("o/t.py").rename("o/last.pt")
    launcher.well("add", "--hold", "--output", "o/", "--", "cat", "o/last.pt")


def test_added_program_waits_for_the_folder_that_it_reads(launcher: Launcher, store: Store) -> None:
    launcher.well("add", "--hold", "--output", "m/a/", "--", "true")
    launcher.well("add", "--hold", "--output", "m/b", "--", "true")
    for name in ("m/a/", "m/a/last.pt", "m/", "m/*/"):
        launcher.well("add", "--hold", "--input", name, "--", "true")
    needs = [[row.id for row in store.read.dependencies_of(job)] for job in (3, 4, 5, 6)]
    assert needs == [[1], [1], [1, 2], [1]]
    assert job_row(store, 6).spec.settings["inputs"] == ["m/a/"]


def test_same_added_program_is_not_queued_again_unless_a_folder_changes(
    launcher: Launcher, store: Store
) -> None:
    words = ("add", "--wait", "--input", "data/", "--output", "o/", "--", "cp", "-r", "data", "o")
    launcher.well(*words)
    assert "not queued" in launcher.well(*words).err
    Path("data/y").touch()
    assert "not queued" not in launcher.well(*words).err
    Path("o/y").unlink()
    assert "not queued" not in launcher.well(*words).err
    assert Path("o/y").exists()


def test_program_with_many_files_in_its_folder_is_done(launcher: Launcher, store: Store) -> None:
    script = "mkdir o && cd o && mkfifo pipe && ln -s /etc away && touch $(seq 3000) && mkdir empty"
    launcher.well("add", "--wait", "--output", "o/", "--", "sh", "-c", script)
    assert in_state(store, 1, State.DONE)
    (version,) = job_row(store, 1).outputs.values()
    assert version.digest
