import itertools
import os
import subprocess
import threading
from pathlib import Path

import pytest

from launcher.cli.main import VERBS
from launcher.store.queue import Store
from launcher.system.paths import Home
from tests.build import a_context, a_spec, enqueue, job_row
from tests.launcher.conftest import Launcher
from tests.terminal import COMMAND

# --- every command


@pytest.mark.parametrize("words", [*VERBS, "service install", "service remove"])
def test_every_verb_has_a_help_page_with_two_examples(launcher: Launcher, words: str) -> None:
    answer = launcher(*words.split(), "--help")
    assert answer.code == 0
    below = answer.out.partition("\n  Examples:\n")[2].splitlines()
    examples = list(itertools.takewhile(lambda line: line.startswith("    "), below))
    assert examples[0].startswith(f"    launcher {words}"), "click has not wrapped the lines"
    assert len(examples) >= 2
    assert all(f"launcher {words}" in example for example in examples)
    assert max(map(len, examples)) <= 80


def test_a_wrong_verb_is_an_error_with_a_hint(launcher: Launcher) -> None:
    answer = launcher("simulat")
    assert answer.code == 2
    assert "No such command 'simulat'. Did you mean 'simulate'?" in answer.err


def test_an_error_has_a_traceback_only_when_that_is_asked_for(
    launcher: Launcher, home: Home
) -> None:
    home.database.write_bytes(b"no database at all, but long enough to look like one " * 100)
    answer = launcher("status")
    assert answer.code == 3
    assert answer.err.startswith("error: the queue's database")
    assert "Traceback" not in answer.err
    assert "Traceback" in launcher("--debug", "status").err


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["--help"], ["status"], ["status", "--json"]])
def test_output_that_finds_no_room_is_trouble_of_the_machine(
    home: Home,
    store: Store,
    words: list[str],
    unbuffered: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    enqueue(store, a_spec())
    with Path("/dev/full").open("w") as full:
        said = subprocess.run(
            [*COMMAND, *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert said.returncode == 3
    assert said.stderr == "error: [Errno 28] No space left on device\n"


def test_an_order_that_cannot_be_written_is_trouble_of_the_machine(
    launcher: Launcher, home: Home, store: Store
) -> None:
    home.stop.mkdir()  # root may write anywhere, but replaces no folder by a file
    answer = launcher("stop")
    home.stop.rmdir()
    assert answer.code == 3
    assert answer.err.startswith("error: cannot write ")


def test_a_run_without_results_says_so_beside_an_empty_table(
    launcher: Launcher, store: Store
) -> None:
    enqueue(store, a_spec())
    answer = launcher("results", job_row(store, 1).run)
    assert (answer.code, answer.out) == (0, "")
    assert answer.err.startswith("no results yet; a program prints them: `launcher: acc=0.91`")


def test_a_home_that_is_no_absolute_path_is_refused(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAUNCHER_HOME", "here")
    answer = launcher("status")
    assert answer.code == 2
    assert "must be an absolute path" in answer.err


def test_a_home_of_somebody_else_is_refused(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)
    monkeypatch.setenv("LAUNCHER_HOME", str(theirs))
    answer = launcher("add", "--", "true")
    assert answer.code == 3
    assert "belongs to user 12345" in answer.err


def test_many_readers_and_a_writer_do_not_disturb_each_other(home: Home, store: Store) -> None:
    troubles: list[Exception] = []
    finished = threading.Event()

    def read() -> None:
        mine = Store(home)
        try:
            while not finished.is_set():
                mine.read.counts()
                mine.read.jobs_open()
        except Exception as error:  # noqa: BLE001  # whatever it is, the test must see it
            troubles.append(error)
        mine.close()

    readers = [threading.Thread(target=read) for _ in range(8)]
    for reader in readers:
        reader.start()
    for number in range(30):
        enqueue(store, a_spec(name=f"command/{number}"), context=a_context())
    finished.set()
    for reader in readers:
        reader.join()
    assert troubles == []
    assert len(store.read.jobs()) == 30


def test_damage_that_a_look_finds_is_trouble_of_the_machine(
    launcher: Launcher, home: Home, store: Store
) -> None:
    enqueue(store, *(a_spec(name=f"command/{number}") for number in range(500)))
    store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with home.database.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(40 * 4096)
        file.write(b"\xa5" * (size - 40 * 4096))
    answer = launcher("status", "*")
    assert answer.code == 3
    assert "was found damaged" in answer.err
    assert "Traceback" not in answer.err
