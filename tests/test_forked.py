"""The basis of the tests: a forked command equals an installed one, and a killed run leaves nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.queue.home.daemon_control import exit_code
from launcher.queue.home.paths import Home, make_home
from launcher.queue.home.scheduler_start import ensure_scheduler
from launcher.system.errors import MachineError
from launcher.system.process_start import spawn_daemon
from tests.build import until
from tests.forked import BIN, Fork, call_launcher, start
from tests.left_behind import started_with

SLEEPS = "import time\ndef main():\n    open('began', 'w').close()\n    time.sleep(60)\n"


def surroundings(home: Path) -> dict[str, str]:
    return {**os.environ, "LAUNCHER_HOME": str(home)}


@pytest.mark.parametrize(
    "words", [("--version",), ("kinds", "--json"), ("status",), ("wait", "9"), ("nosuch",)]
)
def test_forked_program_has_the_output_and_exit_code_of_a_process(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    environment = surroundings(tmp_path / "home")
    forked = call_launcher(*words, folder=tmp_path, environment=environment)
    started = subprocess.run(
        [BIN / "launcher", *words],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert forked.stdout or forked.stderr
    assert (forked.returncode, forked.stdout, forked.stderr) == (
        started.returncode,
        started.stdout,
        started.stderr,
    )


def a_sleeper(place: Path, monkeypatch: pytest.MonkeyPatch, starts: str) -> object:
    """Start a module that sleeps, and return how it ended after it was killed."""
    monkeypatch.setenv("LAUNCHER_TESTS_STARTS", starts)
    (place / "sleeper.py").write_text(f"{SLEEPS}if __name__ == '__main__':\n    main()\n")
    environment = surroundings(place / "home") | {"PYTHONPATH": str(place)}
    with Path(os.devnull).open("r+") as nothing:
        streams = (nothing.fileno(), nothing.fileno(), nothing.fileno())
        process = start("sleeper", (), folder=place, environment=environment, streams=streams)
    assert isinstance(process, Fork) is (starts == "")
    until((place / "began").exists, "it works in its folder")
    assert process.poll() is None
    assert os.getsid(process.pid) == process.pid
    process.send_signal(signal.SIGKILL)
    return process.wait(20)


@pytest.mark.parametrize("starts", ["", "anew"])
def test_return_code_of_a_killed_program_is_its_signal(
    starts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert a_sleeper(tmp_path, monkeypatch, starts) == -signal.SIGKILL


def test_program_is_killed_after_its_timeout(tmp_path: Path) -> None:
    environment = surroundings(tmp_path / "home")
    call_launcher("add", "--hold", "--", "true", folder=tmp_path, environment=environment)
    with pytest.raises(subprocess.TimeoutExpired):
        call_launcher("wait", folder=tmp_path, environment=environment, timeout_s=0.5)
    call_launcher("stop", "--now", folder=tmp_path, environment=environment)


@pytest.mark.parametrize("starts", ["", "anew"])
def test_background_process_looks_the_same_if_it_is_a_fork(
    starts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAUNCHER_TESTS_STARTS", starts)
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    home = Home(tmp_path / "home")
    make_home(home)
    pid = ensure_scheduler(home)
    place = Path("/proc", str(pid))
    try:
        assert (place / "cmdline").read_bytes().split(b"\0") == [
            *(os.fsencode(sys.executable), b"-P", b"-m", b"launcher.scheduler"),
            *(os.fsencode(home.folder), b""),
        ]
        assert os.fsencode(f"LAUNCHER_HOME={home.folder}") in (place / "environ").read_bytes()
        assert (place / "fd/2").readlink() == home.scheduler_log
        assert os.getsid(pid) == pid
        assert "Umask:\t0077" in (place / "status").read_text()
    finally:
        os.kill(pid, signal.SIGKILL)
    until(lambda: exit_code(pid) is not None, "it has ended")


@pytest.mark.parametrize("starts", ["", "anew"])
def test_exit_code_of_a_background_process_is_known_once(
    starts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAUNCHER_TESTS_STARTS", starts)
    (tmp_path / "file").touch()
    argv = [sys.executable, "-P", "-m", "launcher.scheduler", str(tmp_path / "file")]
    pid = spawn_daemon(argv, tmp_path / "log")
    ended, status = os.waitpid(pid, 0)
    assert (ended, os.waitstatus_to_exitcode(status)) == (pid, MachineError.exit_code)
    assert "is not a folder" in (tmp_path / "log").read_text()
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)


RUN = """
import os, subprocess, time
import tests.conftest
subprocess.Popen(["sh", "-c", "while :; do sleep 600; done"], start_new_session=True)
print(os.path.dirname(os.environ["LAUNCHER_CLAIMS"]), os.environ["TRUEFACE_CACHE"], flush=True)
time.sleep(600)
"""


def test_killed_test_run_leaves_no_processes_and_no_folders() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RUN], cwd=BIN.parents[1], stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        folders = run.stdout.readline().split()
        until(lambda: len([*started_with(folders[0])]) > 1, "both processes run")
        run.kill()
    until(
        lambda: (
            not [*started_with(folders[0])] and not any(Path(folder).exists() for folder in folders)
        ),
        "nothing of it is left",
    )
