"""Events that a queue must survive, with real processes: kills, reboots, load, damage, foreign processes."""

import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.home.paths import Home
from launcher.system.process_trees import send_signal
from launcher.system.processes import boot_id
from tests.build import endings as endings_in
from tests.build import gone, job_row, lines_of, shell, until
from tests.e2e.conftest import Project, a_project, reading
from tests.forked import BIN
from tests.terminal import in_a_terminal

OTHER_BOOT = "11111111-2222-3333-4444-555555555555"
NOBODY = 65534
STOP_S = 60.0
WAITING = 'echo "$$" >>"$1"; until [ -e "$2" ]; do sleep 0.05; done'
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of <linux/prctl.h>
EVIL = "\x1b]0;taken\x07\x1b[2J\x9b31m"
AS_ANOTHER = """
import importlib, os, pkgutil, sys
import launcher.frontends.cli
for module in pkgutil.walk_packages(launcher.frontends.cli.__path__, "launcher.frontends.cli."):
    importlib.import_module(module.name)
os.setgroups([]); os.setgid({user}); os.setuid({user})
"""
EACH_COMMAND = """# prose: ok, a program
from launcher.frontends.cli.main import main
for words in {commands}:
    if not os.fork():
        main(words)
    code = os.waitstatus_to_exitcode(os.wait()[1])
    print("code", code, file=sys.stderr, flush=True)
"""


def living(home: Home) -> list[int]:
    """Return every process that carries the home in its command line or its environment."""
    place, found = os.fsencode(home.folder), []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            job_details = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            if place in job_details and not gone(int(entry.name)):
                found.append(int(entry.name))
    return found


def kill_all(home: Home, *, but: int | None = None) -> None:
    """Kill all of a home again and again until nothing of it is left."""

    def none_left() -> bool:
        left = [pid for pid in living(home) if pid != but]
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    until(none_left, "all of the home is dead")


@contextmanager
def a_queue(place: Path) -> Iterator[Project]:
    """A project whose queue leaves no process behind after `launcher stop`."""
    with a_project(place) as project:
        try:
            yield project
            if project.home.database.exists():
                project.call("launcher", "stop", "--now", timeout_s=STOP_S)
            until(lambda: not living(project.home), "nothing of the home lives", STOP_S)
        finally:
            kill_all(project.home)


def add(project: Project, *argv: str, **options: object) -> int:
    """Queue a program and return its number."""
    words = ((f"--{key.replace('_', '-')}", value) for key, value in options.items())
    flags = [key if value is True else f"{key}={value}" for key, value in words]
    said = project.call("launcher", "add", *flags, "--", *argv)
    assert said.returncode == 0, said.stderr
    return int(said.stdout.split()[0])


def add_waiting(project: Project, **options: object) -> int:
    """Queue a program that leaves its pid in `stamps`, and ends when there is a file `gate`."""
    words = str(project.folder / "stamps"), str(project.folder / "gate")
    return add(project, *shell(WAITING, *words), **options)


def stamps(project: Project) -> list[str]:
    """Return what programs left in `stamps`."""
    return lines_of(project.folder / "stamps")


def job_details(project: Project, job: int) -> dict[str, Any]:
    """Return the JSON of `launcher show` for a job."""
    said = project.call("launcher", "show", str(job), "--json")
    assert said.returncode == 0, said.stderr
    record: dict[str, Any] = json.loads(said.stdout)
    return record


def state(project: Project, job: int) -> str:
    """Return the state of a job; quicker than to ask a command."""
    with reading(project.home) as store:
        return str(job_row(store, job).state)


def endings(project: Project, job: int) -> list[str | None]:
    """Return how each attempt of a job ended, None if it has not. Faster than a command."""
    with reading(project.home) as store:
        return endings_in(store, job)


def all_states(project: Project) -> dict[str, str]:
    """Return every job's state by its name; quicker than to ask a command."""
    with reading(project.home) as store:
        return {job.name: str(job.state) for job in store.read.jobs()}


def listed(project: Project) -> dict[str, str]:
    """Return every job's state by its name, as `launcher status` prints it."""
    said = project.call("launcher", "status", "*", "--json")
    assert said.returncode == 0, said.stderr
    return {job["name"]: job["state"] for job in json.loads(said.stdout)["jobs"]}


def wait(project: Project, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Wait for all jobs with `launcher wait`."""
    said = project.call("launcher", "wait", "*", "--timeout", "60s")
    assert said.returncode == code, said
    return said


def check_error(said: subprocess.CompletedProcess[str], code: int) -> str:
    """Check that a command ended with `code` and a clear message, and return the message."""
    assert said.returncode == code, said
    assert "Traceback" not in said.stderr
    assert re.search("^error", said.stderr, re.MULTILINE), said.stderr
    return said.stderr


def open_gate(project: Project) -> None:
    """Let all programs of `add_waiting` end."""
    project.write("gate", "")


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Project]:
    """A new project."""
    with a_queue(tmp_path) as project:
        yield project


def test_next_command_continues_after_all_processes_were_killed(queue: Project) -> None:
    jobs = [add_waiting(queue) for _ in range(3)]
    until(lambda: stamps(queue), "a program runs")
    kill_all(queue.home)
    open_gate(queue)

    add(queue, "true")

    until(lambda: set(all_states(queue).values()) == {"done"}, "all jobs are done")
    for job in jobs:
        assert endings(queue, job)[-1] == "done"
        assert set(endings(queue, job)[:-1]) <= {"lost", "void"}


def of_another_boot(home: Home) -> None:
    """Make all attempts of a dead home belong to an earlier boot of the machine."""
    with contextlib.closing(sqlite3.connect(home.database)) as database, database:
        database.execute("UPDATE attempts SET boot = ?", (OTHER_BOOT,))
    for started in home.attempts.glob("*/started"):
        started.write_text(started.read_text().replace(boot_id(), OTHER_BOOT))


@pytest.mark.parametrize(
    ("left", "rerun", "ends"),
    [("whole", "never", "failed"), ("empty", "never", "failed"), ("empty", "again", "done")],
)
def test_claim_undone_by_a_power_cut_neither_blocks_nor_repeats_its_job(
    queue: Project, left: str, rerun: str, ends: str
) -> None:
    """The disk has the attempt's folder, but not yet the claim nor, perhaps, who started it."""
    words = str(queue.folder / "stamps"), str(queue.folder / "gate")
    job = add(queue, *shell(WAITING, *words), not_before="+1s", rerun=rerun)
    copy = queue.folder / "copy"
    with (
        contextlib.closing(sqlite3.connect(queue.home.database)) as database,
        contextlib.closing(sqlite3.connect(copy)) as before,
    ):
        database.backup(before)
    until(lambda: stamps(queue), "the program runs")
    kill_all(queue.home)
    for file in queue.home.folder.glob("queue.sqlite*"):
        file.unlink()
    shutil.copyfile(copy, queue.home.database)
    of_another_boot(queue.home)
    if left == "empty":
        queue.home.attempt(job, 1).started.write_text("")
    open_gate(queue)

    queue.call("launcher", "wait", "--timeout", "6s")

    assert state(queue, job) == ends
    assert len(stamps(queue)) == (1 if rerun == "never" else 2)


@pytest.mark.parametrize(
    "name",
    [
        *("attempts/1-1/started", "attempts/1-1/spec.json"),
        *("scheduler.json", "restarts.json", "home.json", "wake"),
    ],
)
def test_record_emptied_by_a_power_cut_blocks_nothing(queue: Project, name: str) -> None:
    job = add_waiting(queue)
    until(lambda: stamps(queue), "the program runs")
    kill_all(queue.home)
    of_another_boot(queue.home)
    (queue.home.folder / name).unlink(missing_ok=True)
    (queue.home.folder / name).touch()
    open_gate(queue)

    wait(queue)

    assert endings(queue, job) == ["lost", "done"]


@pytest.mark.parametrize("verb", ["cancel", "stop"])
def test_foreign_process_with_a_reused_pid_is_ignored(queue: Project, verb: str) -> None:
    job = add_waiting(queue)
    until(lambda: stamps(queue), "the program runs")
    kill_all(queue.home)
    open_gate(queue)
    words = {"cancel": ["cancel", "--yes", "*"], "stop": ["stop", "--now"]}[verb]
    with subprocess.Popen(["sleep", "100"]) as stranger:
        try:
            give_pid(queue.home, stranger.pid)
            assert queue.call("launcher", *words, timeout_s=20).returncode == 0
            until(lambda: endings(queue, job)[0] is not None, "the first attempt has an end")
            assert stranger.poll() is None
        finally:
            stranger.kill()
    assert endings(queue, job)[0] in {"lost", "stopped"}


def give_pid(home: Home, pid: int) -> None:
    """Let all that a dead home has on record carry this pid."""
    with contextlib.closing(sqlite3.connect(home.database)) as database, database:
        database.execute("UPDATE attempts SET pid = ?", (pid,))
    for started in [*home.attempts.glob("*/started"), home.scheduler_record]:
        text = re.sub(r'"pid": *\d+', f'"pid": {pid}', started.read_text())
        assert str(pid) in text
        started.write_text(text)


def test_zombie_program_counts_as_ended(queue: Project) -> None:
    prctl = ctypes.CDLL(None).prctl
    prctl(SUBREAPER, 1, 0, 0, 0)  # orphans become our children, and we do not look after them
    try:
        job = add(queue, *shell("[ -e gate ] && exit; echo $$ >>stamps; exec sleep 300"))
        until(lambda: stamps(queue), "the program runs")
        program = int(stamps(queue)[0])
        kill_all(queue.home, but=program)
        os.kill(program, signal.SIGKILL)
        until(lambda: gone(program), "the program is dead")
        assert Path(f"/proc/{program}/status").exists()
        open_gate(queue)

        wait(queue)

        assert endings(queue, job) == ["lost", "done"]
        assert Path(f"/proc/{program}/status").exists()
    finally:
        prctl(SUBREAPER, 0, 0, 0, 0)
        kill_all(queue.home)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


@pytest.mark.parametrize(("adds", "looks"), [(12, 3), (6, 0)], ids=["in use", "in a new home"])
def test_concurrent_commands_succeed_and_each_job_runs_once(
    queue: Project, adds: int, looks: int
) -> None:
    names = [f"n{number}" for number in range(adds)]
    words = [["add", f"--name={name}", "--", *shell("echo $1 >>stamps", name)] for name in names]
    if looks:
        add(queue, *shell("echo $1 >>stamps", "first"), name="first")
        names.append("first")
        words += [["status"], ["show", "command/first"], ["status", "--json"]] * (looks // 3)
    commands = [queue.start("launcher", *some) for some in words]
    for command in commands:
        with command:
            _, err = command.communicate(timeout=60)
        assert command.returncode == 0, err

    wait(queue)

    assert sorted(stamps(queue)) == sorted(names)
    assert set(all_states(queue).values()) == {"done"}
    assert len(list(queue.home.attempts.iterdir())) == len(names)
    until(lambda: schedulers(queue.home) == [scheduler_pid(queue.home)], "one scheduler is left")


def schedulers(home: Home) -> list[int]:
    """Return the schedulers of a home."""
    return [pid for pid in living(home) if b"launcher.scheduler" in command_line(pid)]


def command_line(pid: int) -> bytes:
    """Return a process's command line, nothing when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def test_queue_continues_after_its_attempt_folders_were_deleted(queue: Project) -> None:
    add(queue, "true")
    wait(queue)
    held = add(queue, "true", hold=True)
    shutil.rmtree(queue.home.attempts)

    assert queue.call("launcher", "release", str(held)).returncode == 0

    until(lambda: state(queue, held) == "done", "the next job runs", 8)


@pytest.mark.parametrize(
    ("how", "verb"),
    [
        ("cut", "status"),
        ("emptied", "add"),
        ("middle", "status"),
        ("text", "wait"),
    ],
)
def test_damaged_database_is_reported_and_set_aside(queue: Project, how: str, verb: str) -> None:
    add(queue, "true")
    wait(queue)
    queue.call("launcher", "stop")
    until(lambda: not living(queue.home), "the queue is stopped")
    damaged = damage(queue.home.database, how)

    said = queue.call("launcher", verb, *(["--", "true"] if verb == "add" else []))

    text = check_error(said, 3)
    named = [Path(word.strip("'\",.;:")) for word in text.split() if word.startswith("/")]
    files = [file for one in named for file in [one, *one.rglob("*")] if file.is_file()]
    kept = [file for file in files if file.read_bytes() == damaged]
    assert kept, text
    assert check_error(queue.call("launcher", "status"), 3)

    (advice,) = re.findall(r"rm (/\S+)", text)
    Path(advice).unlink()
    number = add(queue, "true")
    assert queue.call("launcher", "start").returncode == 0
    assert number > 1, "logs of the old queue's jobs could be taken for its own"
    wait(queue)
    assert kept[0].read_bytes() == damaged


@pytest.mark.parametrize("how", ["cut", "emptied", "text"])
def test_database_damaged_during_scheduling_is_set_aside(queue: Project, how: str) -> None:
    add_waiting(queue)
    add(queue, *shell("echo x >>others"), after="1")
    until(lambda: stamps(queue), "the program runs")
    damaged = damage(queue.home.database, how)

    text = check_error(queue.call("launcher", "status"), 3)
    open_gate(queue)

    kept = [path for path in queue.home.damaged.rglob("*") if path.is_file()]
    assert str(kept[0].parent) in text
    assert damaged in [path.read_bytes() for path in kept]
    until(lambda: not living(queue.home), "the program ends, and nobody else works on")
    assert not (queue.folder / "others").exists()


def damage(database: Path, how: str) -> bytes:
    """Damage a file; return what is left of it."""
    whole = database.read_bytes()
    size, half = len(whole), len(whole) // 2
    left = {
        "cut": whole[: half + 100],
        "emptied": b"",
        "middle": whole[:4096] + os.urandom(size - 8192) + whole[-4096:],
        "text": b"this is no database\n" * 1000,
    }[how]
    database.write_bytes(left)
    return left


def test_removed_database_log_is_reported_and_no_job_is_lost(
    queue: Project,
) -> None:
    job = add_waiting(queue)
    until(lambda: stamps(queue), "the program runs")
    scheduler = scheduler_pid(queue.home)
    queue.home.database_log.unlink()
    said = queue.call("launcher", "status")
    assert said.returncode == 3
    assert "its log queue.sqlite-wal was removed while the scheduler had it open" in said.stderr
    assert f"`kill {scheduler}`" in said.stderr
    send_signal(scheduler or 0, signal.SIGTERM)
    until(lambda: scheduler_pid(queue.home) != scheduler, "it has left")
    open_gate(queue)
    wait(queue)
    assert endings(queue, job) == ["done"]


def test_command_in_a_deleted_folder_names_it(queue: Project) -> None:
    here = queue.folder / "gone"
    here.mkdir()
    said = subprocess.run(
        ["sh", "-c", f'rmdir "$PWD"; exec {BIN}/launcher add -- true'],
        cwd=here,
        env=os.environ | queue.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 3
    assert f"the current folder {here} was deleted" in said.stderr


def test_escapes_in_names_and_logs_never_reach_a_terminal(
    queue: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = add(queue, "true", name=f"evil{EVIL}\u202e")
    failing = add(queue, *shell('printf "%s\\n" "$1"; exit 3', EVIL))
    queue.call("launcher", "wait")
    monkeypatch.setenv("LAUNCHER_HOME", str(queue.home.folder))
    monkeypatch.setenv("NO_COLOR", "1")

    for words in (["status"], ["show", str(named)], ["show", str(failing)], ["logs", str(failing)]):
        drawn = in_a_terminal(*words)
        assert "\x1b]0" not in drawn, words
        assert "\x1b[2J" not in drawn, words
        assert not set(drawn) & set("\x07\x9b\u202e"), words
    for words in (["status", "*"], ["show", str(failing)], ["wait", "*"], ["retry", "-n", "*"]):
        piped = queue.call("launcher", *words)
        assert "evil" in piped.stdout + piped.stderr or words[0] != "status", words
        assert not set(piped.stdout + piped.stderr) & set("\x1b\x07\x9b\u202e"), words
    assert job_details(queue, named)["name"] in listed(queue)
    assert EVIL in queue.call("launcher", "logs", "--raw", str(failing)).stdout


def test_commands_work_with_standard_streams_that_are_closed(queue: Project) -> None:
    launcher = str(BIN / "launcher")
    for number, closed in enumerate(("<&-", "2>&-", ">&-", "<&- >&- 2>&-"), start=1):
        prints = (["status"],) if ">&-" in closed else ()
        for words in (["add", "--", *shell("echo out; echo err >&2")], *prints):
            said = queue.call("/bin/sh", "-c", f'exec "$0" "$@" {closed}', launcher, *words)
            assert "Traceback" not in said.stderr, (closed, words)
            assert said.returncode == 0, (closed, words, said)
        wait(queue)
        assert queue.call("launcher", "logs", str(number)).stdout == "out\nerr\n"


def test_queue_folder_is_private_at_any_umask(queue: Project) -> None:
    words = shell('umask 0; exec "$@"', str(BIN / "launcher"), "add", "--", "true")
    subprocess.run(words, env=queue.environment, check=True, capture_output=True)
    wait(queue)
    queue.call("launcher", "stop")

    for path in [queue.home.folder, *queue.home.folder.rglob("*")]:
        with contextlib.suppress(FileNotFoundError):  # the scheduler may still be on its way out
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_peer_user_can_neither_read_the_queue_folder_nor_queue_jobs() -> None:
    with tempfile.TemporaryDirectory() as name, a_queue(Path(name)) as queue:
        Path(name).chmod(0o777)
        job = add(queue, *shell("echo secret"))
        wait(queue)
        before = all_states(queue)

        files = [queue.home.folder, *queue.home.folder.rglob("*")]
        assert len(files) > 8
        probe = f"for path in {[str(path) for path in files]!r}:\n    print(os.access(path, 4))\n"
        seen = as_another(queue, probe)
        assert set(seen.stdout.split()) == {"False"}, seen
        commands = [["add", "--", "true"], ["status"], ["logs", str(job)], ["stop", "--now"]]
        said = as_another(queue, EACH_COMMAND.format(commands=commands))
        *texts, rest = said.stderr.split("code 3\n")
        assert (len(texts), rest) == (len(commands), ""), said
        for text in texts:
            assert "Traceback" not in text
            assert text.startswith("error")
            assert str(queue.home.folder) in text
        assert all_states(queue) == before


def as_another(queue: Project, program: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program as another user."""
    return subprocess.run(
        [sys.executable, "-c", AS_ANOTHER.format(user=NOBODY) + program],
        cwd="/",
        env=queue.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_exit_codes_are_as_documented(queue: Project) -> None:
    good = add(queue, "true")
    bad = add(queue, *shell("yes | head -c 300000; exit 4"))
    long = add_waiting(queue)

    def code(*words: str) -> int:
        return queue.call("launcher", *words).returncode

    assert code("wait", str(good)) == 0
    assert code("wait", str(bad)) == 1
    assert (code("status"), code("status", "--exit-status")) == (0, 1)
    assert code("wait", "--timeout", "0.2s", str(long)) == 3
    for words in (["stats"], ["add", "--cpus", "none", "--", "true"], ["show", "999"], ["add"]):
        assert code(*words) == 2, words
    queue.environment["LAUNCHER_HOME"] = "relative"
    assert code("status") == 2
    queue.environment["LAUNCHER_HOME"] = queue.write("file", "")
    queue.environment["LAUNCHER_HOME"] = str(queue.folder / "file")
    assert code("add", "--", "true") == 3
    queue.environment["LAUNCHER_HOME"] = str(queue.home.folder)
    until(lambda: stamps(queue), "the long job runs")
    with queue.start("launcher", "wait") as waiting:
        until(lambda: interpreted(waiting.pid), "the command waits")
        waiting.send_signal(signal.SIGINT)
        waiting.communicate(timeout=20)
    assert waiting.returncode == 130
    with subprocess.Popen(
        [BIN / "launcher", "logs", str(bad)], env=queue.environment, stdout=subprocess.PIPE
    ) as reading:
        assert reading.stdout is not None
        reading.stdout.close()
        assert reading.wait(timeout=20) == 141


def interpreted(pid: int) -> bool:
    """Return whether a command sleeps with the database open, after its imports."""
    with contextlib.suppress(OSError):
        names = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]
        return any(name.endswith("queue.sqlite") for name in names)
    return False
