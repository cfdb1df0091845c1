"""A disk that is full, limited or does not take what it was given: the queue waits and goes on."""

import contextlib
import functools
import itertools
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.experiments.functions.call_results import read_exception, read_value
from launcher.frontends.screens.job_view import UNRECORDED_END
from launcher.frontends.screens.snapshots import QueueSnapshotReader
from launcher.queue.backends.local import make
from launcher.queue.backends.settings import BackendSettings
from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.home.paths import Attempt, Home
from launcher.queue.jobs.states import Failed
from launcher.queue.workers.exit_outcome import ExitContext, judge_exit
from launcher.system.files import LOG_RESERVE_BYTES, is_disk_full
from tests.build import gone, job_row, lane_reason_text, program_of, shell, until
from tests.e2e.conftest import Project, reading
from tests.e2e.test_reliability import (
    a_queue,
    add,
    add_waiting,
    all_states,
    check_error,
    command_line,
    endings,
    job_details,
    kill_all,
    listed,
    living,
    open_gate,
    stamps,
    state,
    wait,
)
from tests.forked import BIN
from tests.launcher.web.browser import Page, served
from tests.shortened import QUICK_WRITES, shorten

SIZE = "6m"
TOYS = """
name: toys
toyshapes: [{{data_root: toys}}]
toytrain: [{{model: null, data: "dot:pre"}}{more}]
toytest: [{{model: "dot:pre", data: "dot:pre"}}]
"""
MORE = ', {model: null, data: "line:pre"}'
QUICK_RETRIES = {
    "launcher.queue.scheduler.loop.RETRY_S": 0.2,
    "launcher.queue.scheduler.local_partition.RETRY_S": 0.2,
    "launcher.queue.scheduler.endings.MOVE_RETRY_S": 0.2,
    "launcher.queue.scheduler.requeue.FULL_DISK_PAUSE_S": 1.0,
}
WATCHED_S = 0.5  # time for which a queue is watched that must not do the wrong thing
FLOODING = """
import os, sys, time
while not os.path.exists(sys.argv[1]):
    try:
        os.write(1, b"flood" * 10000)
    except OSError:
        open(sys.argv[2], "w").close()
        time.sleep(0.01)
"""
FUNCTION = """
import sys, time
from pathlib import Path
from launcher.api import submit

def f(word):
    Path("up").touch()
    while not Path("gate").exists():
        time.sleep(0.01)
    Path("passed").touch()
    if word == "raise":
        raise ValueError("not this one")
    return word * 10_000

on = {"on": sys.argv[2]} if sys.argv[2:] else {}
print(submit(f, sys.argv[1], cpus=1, **on).job)
"""
PRINTING_FUNCTION = FUNCTION.replace(
    '    Path("passed")', "    print('x' * 100_000)\n    Path(\"passed\")"
)
PILOTS = """
[backends.box]
kind = "local"
pilots = 1
beat = "0.2s"
poll = "0.2s"
folder = "FOLDER"
"""
PILOT_PATIENCE_S = 120.0  # a pilot has to start
FAILING_SYNC = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static int fails(int fd) { /* the flag may name one path; empty, it means all */
    const char *flag = getenv("TRICK_FLAG");
    char wanted[4096] = "", link[64], path[4096] = "";
    int file = flag ? open(flag, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return 0;
    ssize_t size = read(file, wanted, sizeof wanted - 1);
    close(file);
    if (size <= 0) return 1;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return readlink(link, path, sizeof path - 1) > 0 && strcmp(path, wanted) == 0;
}
#define SYNC(name)                                                     \
    int name(int fd) {                                                 \
        int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, #name);      \
        if (fails(fd)) { errno = EIO; return -1; }                       \
        return real(fd);                                               \
    }
SYNC(fsync)
SYNC(fdatasync)
"""
NEEDS_CC = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


LIBRARIES = tempfile.TemporaryDirectory(prefix="launcher-tricks-")


@functools.cache
def compiled(source: str) -> str:
    """Compile a library that is loaded before all others, and return its path."""
    library = Path(LIBRARIES.name) / f"trick-{zlib.crc32(source.encode())}.so"
    words = ["cc", "-shared", "-fPIC", "-O1", "-x", "c", "-", "-o", str(library), "-ldl"]
    subprocess.run(words, input=source, text=True, check=True, capture_output=True)
    return str(library)


def fill(home: Home, room: int = 0) -> None:
    """Leave only `room` bytes on the home's disk."""
    filler = home.folder / "filler"
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    os.truncate(filler, filler.stat().st_size - room)


def make_room(home: Home) -> None:
    """Delete what fills the disk."""
    (home.folder / "filler").unlink()


def check_never(condition: Callable[[], object], what: str) -> None:
    """Watch for a while that something does not happen."""
    until_s = time.monotonic() + WATCHED_S
    while time.monotonic() < until_s:
        assert not condition(), what
        time.sleep(0.01)


def check_all_done_without_commands(queue: Project) -> None:
    """Check that every job ends without any command, and that then all of them are done."""
    until(lambda: set(all_states(queue).values()) == {"done"}, "all jobs are done")
    for job in range(1, len(all_states(queue)) + 1):
        *before, last = endings(queue, job)
        assert last == "done", job_details(queue, job)
        assert set(before) <= {"void"}, job_details(
            queue, job
        )  # one that never started costs nothing
    add(queue, "true")
    wait(queue)
    assert scheduler_pid(queue.home) is not None
    assert not list(queue.home.folder.rglob("*.tmp"))


@contextlib.contextmanager
def a_small_disk(place: Path) -> Iterator[Path]:
    """A folder on a disk of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    place.mkdir()
    words = [
        "mount",
        "-t",
        "tmpfs",
        "-o",
        f"size={SIZE},mode=0700,nr_inodes=2000",
        str(Path(os.environ["LAUNCHER_CLAIMS"]).parent),  # see tests/left_behind.py
        str(place),
    ]
    if subprocess.run(words, check=False, capture_output=True).returncode != 0:
        pytest.skip("no disk can be mounted here")
    try:
        yield place
    finally:
        # a killed process holds the disk until it is gone; the kernel alone knows when
        until(lambda: unmounted(place), "nothing holds the disk any more")


def unmounted(place: Path) -> bool:
    """Unmount a disk. Return whether it was released."""
    return (
        subprocess.run(["umount", str(place)], check=False, stderr=subprocess.DEVNULL).returncode
        == 0
    )


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Project]:
    """A project whose home is on a small disk of its own."""
    with a_small_disk(tmp_path / "home") as place, a_queue(tmp_path) as project:
        shorten(project.environment, QUICK_RETRIES | QUICK_WRITES)
        try:
            yield project
        finally:
            open_gate(project)
            (place / "filler").unlink(missing_ok=True)
            for log in place.glob("attempts/*/log"):
                os.truncate(log, 0)


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Project]:
    """A new project."""
    with a_queue(tmp_path) as project:
        yield project


@pytest.fixture
def flag(queue: Project) -> Iterator[Path]:
    """A file; while it is there, no process of the project can sync anything to disk."""
    with a_flag(queue) as flag:
        yield flag


@contextlib.contextmanager
def a_flag(queue: Project) -> Iterator[Path]:
    """A file that names what no process of the project can sync while it exists. An empty one means everything."""
    flag = queue.folder / "flag"
    shorten(queue.environment, QUICK_RETRIES | QUICK_WRITES)
    queue.environment["LD_PRELOAD"] = compiled(FAILING_SYNC)
    queue.environment["TRICK_FLAG"] = str(flag)
    yield flag
    flag.unlink(missing_ok=True)


def first_program(queue: Project) -> int:
    """Return the pid of job 1's program."""
    return program_of(Attempt(queue.home.attempts / "1-1"))


def test_program_with_a_disk_filling_log_ends_after_space_is_freed(
    small: Project,
) -> None:
    words = [str(small.folder / name) for name in ("gate", "full")]
    job = add(small, sys.executable, "-c", FLOODING, *words, hold=True)
    add(small, "true", after=str(job))
    assert small.call("launcher", "release", str(job)).returncode == 0
    until(lambda: (small.folder / "full").exists(), "the disk is full")
    program = first_program(small)
    open_gate(small)
    until(lambda: gone(program), "the program has ended")

    check_never(
        lambda: state(small, job) in {"failed", "queued"}, "the full disk is held against it"
    )
    os.truncate(small.home.attempt(job, 1).log, 0)

    check_all_done_without_commands(small)


@pytest.mark.parametrize("room", [0, 65536])
def test_outcome_and_database_are_written_after_space_is_freed(small: Project, room: int) -> None:
    job = add_waiting(small)
    for _ in range(4):
        add(small, *shell("echo 1 >>others"))
    until(lambda: stamps(small), "the first runs")
    program = first_program(small)
    fill(small.home, room)
    open_gate(small)
    until(lambda: gone(program), "the program has ended")

    check_never(
        lambda: state(small, job) in {"failed", "queued"}, "the full disk is held against it"
    )
    make_room(small.home)

    check_all_done_without_commands(small)
    assert len((small.folder / "others").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("use_up", "reason"), [("files", "no more files fit"), ("bytes", "no space is left")]
)
def test_job_that_cannot_start_for_lack_of_inodes_or_space_names_that(
    small: Project, use_up: str, reason: str
) -> None:
    first = add_waiting(small)
    second = add(small, "true", after=str(first))
    until(lambda: stamps(small), "the first runs")
    {"files": use_up_files, "bytes": fill}[use_up](small.home)
    try:
        open_gate(small)
        if use_up == "files":  # without space, the end of the first cannot be recorded
            until(lambda: reason in waiting_reason(small, second), "the reason names it")
        with contextlib.closing(QueueSnapshotReader(small.home)) as screen:
            assert reason in str(screen.read_snapshot().warnings)
    finally:
        for file in small.home.folder.glob("file-*" if use_up == "files" else "filler"):
            file.unlink()
    until(lambda: state(small, second) == "done", "the job is done")


def use_up_files(home: Home) -> None:
    """Leave no inode on the home's disk."""
    with contextlib.suppress(OSError):
        for number in itertools.count():
            (home.folder / f"file-{number}").touch()


def waiting_reason(queue: Project, job: int) -> str:
    """Return what `launcher status` says of a waiting job."""
    with reading(queue.home) as store:
        return lane_reason_text(job_row(store, job))


@pytest.mark.parametrize("whose", [b"launcher.scheduler", b"launcher.queue.workers.fork_server"])
def test_killed_processes_restart_after_space_is_freed(small: Project, whose: bytes) -> None:
    """All processes of the fork server are killed: it and the supervisors that it has forked."""
    job = add_waiting(small)
    other = add(small, "true", after=str(job))
    until(lambda: stamps(small), "the program runs")
    fill(small.home)
    for pid in living(small.home):
        if whose in command_line(pid):
            os.kill(pid, signal.SIGKILL)
    open_gate(small)
    check_never(lambda: state(small, job) in {"failed", "done"}, "the full disk takes an end")
    make_room(small.home)

    wait(small)

    assert endings(small, job) in (["done"], ["lost", "done"])
    assert endings(small, other)[-1] == "done"


def test_command_on_a_full_disk_names_the_path_it_cannot_write(small: Project) -> None:
    add_waiting(small)
    waiting = str(add(small, "true", after="1"))
    until(lambda: stamps(small), "the program runs")
    before = all_states(small)
    fill(small.home)
    for words in (
        ("add", "--", "true"),
        ("cancel", "--yes", "1"),
        ("hold", waiting),
        ("priority", "5", waiting),
        ("stop", "--now"),
    ):
        text = check_error(small.call("launcher", *words), 3)
        assert str(small.home.folder) in text, text
        assert listed(small) == before, words  # questions are answered

    make_room(small.home)
    open_gate(small)
    check_all_done_without_commands(small)


def test_queue_killed_on_a_full_disk_continues_with_the_next_command(
    small: Project,
) -> None:
    job = add_waiting(small)
    until(lambda: stamps(small), "the program runs")
    fill(small.home)
    open_gate(small)
    until(lambda: gone(int(stamps(small)[0])), "the program has ended")
    kill_all(small.home)
    with small.start("launcher", "wait", "--timeout", "60s") as waiting:
        until(lambda: scheduler_pid(small.home), "the command has brought a scheduler")
        check_never(lambda: state(small, job) in {"failed", "done"}, "the full disk takes an end")
        make_room(small.home)
        _, err = waiting.communicate(timeout=30)
    assert waiting.returncode == 0, err

    assert endings(small, job) in (["lost", "done"], ["done"])


def test_jobs_without_disk_space_are_refused_and_queued_jobs_run(
    small: Project,
) -> None:
    add(small, "true")
    wait(small)
    queued, refused = ["command/1"], 0
    for number, room in enumerate((262144, 131072, 65536, 40960, 16384, 8192, 4096, 0)):
        fill(small.home, room)
        name = f"n{number}"
        said = small.call("launcher", "add", "--name", name, "--", *shell("echo $1 >>others", name))
        if said.returncode == 0:
            queued.append(f"command/{name}")
        else:
            refused += 1
            text = check_error(said, 3)
            assert any(word in text for word in ("full", "space", "room")), text
    assert refused
    make_room(small.home)

    until(lambda: set(all_states(small).values()) == {"done"}, "all jobs are done")
    assert sorted(all_states(small)) == sorted(queued)
    check_all_done_without_commands(small)


def test_initially_full_disk_accepts_no_job_until_space_is_freed(
    small: Project,
) -> None:
    for room in (0, 4096, 32768, 131072):
        fill(small.home, room)
        said = small.call("launcher", "add", "--", "true")
        if said.returncode != 0:
            check_error(said, 3)
    make_room(small.home)

    number = add(small, "true")
    wait(small)
    assert len(all_states(small)) == number


def test_file_size_limit_is_reported_and_queues_nothing(
    queue: Project,
) -> None:
    add(queue, "true")
    wait(queue)
    before = all_states(queue)
    words = [str(BIN / "launcher"), "add", "--", "true"]
    for limit in (0, 40960):
        refused = subprocess.run(
            words,
            env=queue.environment,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda size=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),  # type: ignore[misc]  # a default binds the loop's value
        )
        check_error(refused, 3)
        assert all_states(queue) == before

    check_all_done_without_commands(queue)


@NEEDS_CC
def test_failed_disk_sync_is_reported_and_retried(queue: Project, flag: Path) -> None:
    job = add_waiting(queue)
    add(queue, *shell("echo 1 >>others"), after=str(job))
    until(lambda: stamps(queue), "the program runs")
    program = first_program(queue)
    before = all_states(queue)
    flag.touch()

    text = check_error(queue.call("launcher", "add", "--", "true"), 3)
    assert any(word in text for word in ("I/O", "disk", "Input/output")), text
    assert all_states(queue) == before
    open_gate(queue)
    until(lambda: gone(program), "the program has ended")
    check_never(
        lambda: state(queue, job) in {"failed", "queued", "done"}, "an unsynced end is taken in"
    )
    flag.unlink()

    check_all_done_without_commands(queue)
    assert (queue.folder / "others").read_text() == "1\n"


@NEEDS_CC
def test_job_with_rerun_never_starts_only_after_its_claim_is_synced(tmp_path: Path) -> None:
    due_s = 3  # long enough for `add` to return on a busy machine
    cases = ("all", "database_log", "attempts", "folder")
    with contextlib.ExitStack() as opened:
        queues = {case: opened.enter_context(a_queue_of_its_own(tmp_path / case)) for case in cases}
        flags = {case: opened.enter_context(a_flag(queue)) for case, queue in queues.items()}
        jobs = {}
        for case, queue in queues.items():
            words = shell("echo 1 >>others")
            jobs[case] = add(queue, *words, not_before=f"+{due_s}s", rerun="never")
            unsynced = "" if case == "all" else str(getattr(queue.home, case).resolve())
            flags[case].write_text(unsynced)
        begun = time.monotonic()

        until(lambda: time.monotonic() > begun + due_s + 1, "their time has come")
        assert [case for case in cases if (queues[case].folder / "others").exists()] == []
        for flag in flags.values():
            flag.unlink()

        for case, queue in queues.items():
            check_done(queue, jobs[case])
            assert (queue.folder / "others").read_text() == "1\n", case


def check_done(queue: Project, job: int) -> None:
    """Wait until a job is done."""
    until(lambda: state(queue, job) == "done", f"it has run in {queue.home.folder}")


@contextlib.contextmanager
def a_queue_of_its_own(place: Path) -> Iterator[Project]:
    """A new project in a new folder, whose scheduler waits for no core that another one has promised."""
    claims = place / "claims"
    claims.mkdir(parents=True)
    with a_queue(place) as queue:
        queue.environment["LAUNCHER_CLAIMS"] = str(claims)
        yield queue


@NEEDS_CC
def test_queue_does_not_start_on_a_disk_without_sync(queue: Project, flag: Path) -> None:
    flag.touch()
    for _ in range(2):
        check_error(queue.call("launcher", "add", "--", "true"), 3)
    flag.unlink()

    add(queue, "true")
    wait(queue)
    assert set(all_states(queue).values()) == {"done"}


def test_web_page_on_a_full_disk_reports_failed_changes(small: Project) -> None:
    add_waiting(small)
    waiting = add(small, "true", after="1")
    until(lambda: stamps(small), "the program runs")
    fill(small.home)
    with served(small.folder, environment=small.environment) as page:
        for place in ("", "jobs", "jobs/1", "jobs/1/log", "curves?job=1"):
            assert page.get(place).status == 200, place
        for verb, text in (("hold", ""), ("tag", "paper"), ("note", "a note")):
            body = {"question": confirmed(page, f"jobs/{waiting}/{verb}"), "text": text}
            answer = page.post(f"jobs/{waiting}/{verb}", body)
            assert answer.status == 503, verb
            assert "full" in answer.text
            assert str(small.home.folder) in answer.text
        assert page.get(f"jobs/{waiting}").status == 200
        assert state(small, waiting) == "queued"
        make_room(small.home)
        question = confirmed(page, f"jobs/{waiting}/tag")
        assert page.post(f"jobs/{waiting}/tag", {"question": question, "text": "x"}).status == 303
    open_gate(small)
    check_all_done_without_commands(small)


def confirmed(page: Page, place: str) -> str:
    """Return what the form of a change confirms."""
    text = page.get(place).text
    return text.partition('name="question" value="')[2].partition('"')[0]


def test_results_file_is_unchanged_if_the_disk_is_full(toys: Project, tmp_path: Path) -> None:
    toys.write("toys.yaml", TOYS.format(more=""))
    assert toys.call("launcher", "run", "toys.yaml").returncode == 0
    count = ("select count(*) as jobs from jobs", "--json")
    with a_small_disk(tmp_path / "small") as disk:
        file = disk / "results.sqlite"
        written = toys.call("launcher", "results", "toys", "--db", str(file))
        assert written.returncode == 0, written.stderr
        before = file.read_bytes()
        answer = toys.call("launcher", "query", "--db", str(file), *count)
        toys.write("toys.yaml", TOYS.format(more=MORE))
        assert toys.call("launcher", "run", "toys.yaml").returncode == 0
        fill(Home(disk))
        text = check_error(toys.call("launcher", "results", "toys", "--db", str(file)), 3)
        assert str(file) in text
        assert "full" in text
        assert file.read_bytes() == before
        assert {path.name for path in disk.iterdir()} == {"results.sqlite", "filler"}
        again = toys.call("launcher", "query", "--db", str(file), *count)
        assert (again.returncode, again.stdout) == (0, answer.stdout), again.stderr
        new = disk / "new.sqlite"
        assert "full" in check_error(toys.call("launcher", "results", "toys", "--db", str(new)), 3)
        make_room(Home(disk))
        for each in (file, new):
            written = toys.call("launcher", "results", "toys", "--db", str(each))
            assert written.returncode == 0, written.stderr


def test_query_over_all_runs_fails_on_a_full_disk_and_works_after_space_is_freed(
    small: Project,
) -> None:
    add(small, "true")
    wait(small)
    ask = ("launcher", "query", "select name, state from jobs", "--json")
    fill(small.home)
    text = check_error(small.call(*ask), 3)
    assert str(small.home.folder) in text
    assert "full" in text
    make_room(small.home)
    answer = small.call(*ask)
    assert answer.returncode == 0, answer.stderr
    assert '"state": "done"' in answer.stdout
    for _ in range(2):
        add(small, "true")
    wait(small)
    fill(small.home)
    older = small.call(*ask)
    assert (older.returncode, older.stdout) == (0, answer.stdout), older.stderr
    assert older.stderr.count("the results may be outdated") == 1
    make_room(small.home)
    assert small.call(*ask).stdout.count('"done"') == 3


def submitted(queue: Project, word: str, *on: str, source: str = FUNCTION) -> int:
    """Submit a function that leaves `up`, waits for `gate` and leaves `passed`; return its job when it runs."""
    script = queue.write("script.py", source)
    said = subprocess.run(
        [sys.executable, script, word, *on],
        cwd=queue.folder,
        env=queue.environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    until((queue.folder / "up").exists, "the function runs", PILOT_PATIENCE_S)
    return int(said.stdout)


def check_function_end(queue: Project, job: int, word: str) -> None:
    """Check that a function ended as it did: with its value, or with its own exception."""
    until(lambda: state(queue, job) not in {"running", "queued"}, "it has ended")
    folder = queue.home.attempt(job, 1).folder
    if word == "raise":
        assert job_details(queue, job)["reason"] == "failed: ValueError: not this one"
        assert isinstance(read_exception(folder), ValueError)
        return
    assert endings(queue, job) == ["done"], job_details(queue, job)
    assert read_value(folder, "f") == word * 10_000


@pytest.mark.parametrize("word", ["x", "raise"])
def test_function_result_is_written_after_space_is_freed(small: Project, word: str) -> None:
    job = submitted(small, word)
    fill(small.home)
    open_gate(small)
    until((small.folder / "passed").exists, "the function has ended")

    check_never(lambda: state(small, job) != "running", "the full disk is held against it")
    make_room(small.home)

    check_function_end(small, job, word)


@contextlib.contextmanager
def pilots_in(queue: Project, folder: Path) -> Iterator[None]:
    """Have a queue start pilots, which have their folders there; in the end none of them lives."""
    config = queue.folder / "config.toml"
    config.write_text(PILOTS.replace("FOLDER", str(folder)), encoding="utf-8")
    queue.environment["LAUNCHER_CONFIG"] = str(config)
    shorten(queue.environment, QUICK_WRITES)
    try:
        yield
    finally:
        open_gate(queue)
        queue.call("launcher", "stop", "--now")
        engine = make(BackendSettings(name="box", kind="local", folder=folder), queue.home)
        engine.cancel([path.name for path in folder.glob("launcher-*")])
        until(lambda: not pilots_of(folder), "no pilot is left")


def pilots_of(folder: Path) -> list[int]:
    """Return the processes that have opened something in a folder, or live in one of its pilots."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(
                str(link.readlink()).startswith(str(folder)) for link in (entry / "fd").iterdir()
            ):
                found.append(int(entry.name))
    return found


def test_function_on_a_pilot_waits_for_space_in_the_pilot_folder(
    queue: Project, tmp_path: Path
) -> None:
    with a_small_disk(tmp_path / "disk") as disk, pilots_in(queue, disk / "pilots"):
        job = submitted(queue, "x", "box")
        fill(Home(disk))
        open_gate(queue)
        until((queue.folder / "passed").exists, "the function has ended")

        check_never(lambda: state(queue, job) != "running", "the full disk is held against it")
        make_room(Home(disk))

        check_function_end(queue, job, "x")


def test_function_on_a_pilot_waits_while_the_pilot_folder_is_unavailable(
    queue: Project, tmp_path: Path
) -> None:
    folder = tmp_path / "disk" / "pilots"
    with pilots_in(queue, folder):
        job = submitted(queue, "raise", "box")
        away = folder.parent.rename(tmp_path / "away")
        open_gate(queue)
        until((queue.folder / "passed").exists, "the function has ended")

        check_never(lambda: state(queue, job) != "running", "it fails")
        shutil.rmtree(folder.parent, ignore_errors=True)
        away.rename(folder.parent)

        check_function_end(queue, job, "raise")


def test_failure_without_output_on_a_full_disk_names_the_disk(
    tmp_path: Path,
) -> None:
    with a_small_disk(tmp_path / "disk") as disk:
        attempt = Attempt(disk)
        attempt.log.touch()
        fill(Home(disk))
        how = ExitContext(is_log_disk_full=is_disk_full(attempt.log))
        outcome = judge_exit(3 << 8, attempt, how, 5.0)
    assert isinstance(outcome, Failed)
    assert outcome.error == "ended with exit code 3; the disk of its log is full"
    assert outcome.disk_full


PRINTS = """
import sys, time
from pathlib import Path
if not Path("again").exists():
    Path("up").touch()
    while not Path("gate").exists(): time.sleep(0.01)
    Path("again").touch()
    for number in range(LINES):
        print("x" * 100, flush=True)
"""  # prose: ok, a program
FEW_LINES = 1000
MANY_LINES = 2 * LOG_RESERVE_BYTES // 100  # more than the reserve of a log


def write_printing_program(queue: Project, lines: int) -> None:
    (queue.folder / "prints.py").write_text(PRINTS.replace("LINES", str(lines)))


def test_program_prints_into_the_reserve_of_its_log_on_a_full_disk(small: Project) -> None:
    write_printing_program(small, FEW_LINES)
    job = add(small, sys.executable, "prints.py")
    log = small.home.attempt(job, 1).log
    until((small.folder / "up").exists, "the program runs")
    until(lambda: log.stat().st_blocks * 512 >= LOG_RESERVE_BYTES, "the log has its reserve")
    fill(small.home)
    open_gate(small)
    until(lambda: state(small, job) == "done", "the job is done")
    assert endings(small, job) == ["done"]
    assert log.read_text() == ("x" * 100 + "\n") * FEW_LINES
    assert log.stat().st_blocks * 512 < LOG_RESERVE_BYTES


def test_program_whose_print_fails_on_a_full_disk_runs_again_without_a_retry(
    small: Project,
) -> None:
    write_printing_program(small, MANY_LINES)
    job = add(small, sys.executable, "prints.py")
    until((small.folder / "up").exists, "the program runs")
    fill(small.home)
    open_gate(small)
    until((small.folder / "again").exists, "the program has gone on")
    check_never(lambda: state(small, job) == "failed", "the job fails")
    until(
        lambda: UNRECORDED_END in small.call("launcher", "status").stdout, "its end is on the list"
    )
    make_room(small.home)
    until(lambda: state(small, job) == "done", "the job is done")
    assert [each for each in endings(small, job) if each != "void"] == ["failed", "done"]
    events = [event["reason"] for event in job_details(small, job)["events"]]
    assert any(
        "stopped: ended with exit code 1; the disk of its log is full" in each for each in events
    ), events


def test_program_that_fails_on_a_full_disk_and_must_not_run_twice_has_failed(
    small: Project,
) -> None:
    write_printing_program(small, MANY_LINES)
    job = add(small, sys.executable, "prints.py", rerun="never")
    until((small.folder / "up").exists, "the program runs")
    fill(small.home)
    open_gate(small)
    until((small.folder / "again").exists, "the program has gone on")
    make_room_after_end(small, job)
    until(lambda: state(small, job) == "failed", "the job has failed")


def make_room_after_end(queue: Project, job: int) -> None:
    """Free the disk when the program has ended."""
    program = first_program(queue)
    until(lambda: gone(program), "the program has ended")
    check_never(lambda: state(queue, job) == "queued", "it runs again")
    make_room(queue.home)


def test_print_of_a_function_on_a_full_disk_is_dropped(small: Project) -> None:
    job = submitted(small, "x", source=PRINTING_FUNCTION)
    fill(small.home)
    open_gate(small)
    until((small.folder / "passed").exists, "the function has gone on")
    make_room(small.home)
    check_function_end(small, job, "x")
