import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from launcher.queue.home.paths import Attempt, Home
from launcher.queue.jobs.context import WorkerEnvironment
from launcher.queue.jobs.job import Spec
from launcher.queue.jobs.states import Done, Failed, Lost, OomReport, Outcome, OutOfMemory, Stopped
from launcher.queue.workers.attempt_spec import read_attempt_spec
from launcher.queue.workers.fork_server_handles import ForkServer
from launcher.queue.workers.memory_share import read_report, write_share
from launcher.queue.workers.progress.steps import read_newest_report
from launcher.queue.workers.worker import make_job
from tests.build import (
    a_context,
    a_spec,
    an_attempt,
    ended,
    gone,
    lines_of,
    outcome_of,
    program_of,
    run_attempt,
    said_by,
    started,
    until,
)
from tests.shortened import QUICK_WRITES, shorten

GIB = 1 << 30
WATCHED_S = 0.5  # time for which a worker is watched that must not end
KIND = """
import atexit, os, threading, time
from launcher.api import Job, JobError

def report(job):
    print("words of", job.name)
    job.progress(step=1, total=4, loss=0.5)
    job.progress(step=4, total=4, loss=0.25)
    return {"attempt": job.attempt, "cpus": job.cpus, "device": job.device, "kind": job.kind,
            "folder": str(job.folder), "settings": dict(job.settings), "cwd": os.getcwd()}

def refuse(job):
    raise JobError("image 12 is none")

def explode(job):
    return {"ratio": 1 / 0}

def odd(job):
    return {"model": object()}

def bytes_(job):
    raise JobError("cannot read \\udcff.png")

def patient(job):
    print("ready")  # seen at once, though nobody flushes it
    job.stop.wait(60)
    return {"stopped": job.stop.is_set()}

def leaves(job):
    print("ready", flush=True)
    job.stop.wait(60)
    raise JobError("stopped in epoch 2")

def later(job):
    atexit.register(print, "words of its end")
    threading.Timer(0.2, print, ["words of a thread"]).start()
    return {}

def dies(job):
    os.kill(os.getpid(), 9)

def leaves_silently(job):
    import ctypes, signal, sys, threading
    print("epoch 3 of 30", flush=True)
    match job.settings["way"]:
        case "_exit":
            os._exit(0)
        case "exit of C":
            ctypes.CDLL(None).exit(0)
        case "_exit of a thread":
            threading.Thread(target=os._exit, args=(0,)).start()
        case "exec":
            os.execvp("true", ["true"])
        case "handler of SIGTERM":
            signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
            os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)

class OutOfMemoryError(RuntimeError):
    __module__ = "torch"

def starves(job):
    raise OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 24.00 GiB of"
        " which 1.00 GiB is free. Including non-PyTorch memory, this process has 9.00 GiB memory in"
        " use. 9.50 GiB allowed; Of the allocated memory 8.00 GiB is allocated by PyTorch, and"
        " 0.50 GiB is reserved by PyTorch but unallocated. If reserved but unallocated memory is large")

def hungry(job):
    raise MemoryError

def wraps(job):
    try:
        hungry(job)
    except MemoryError as error:
        raise JobError("cannot index the images") from error

def shares(job):
    job.share.report(reserved_bytes=7, peak=8, uuid="GPU-1")
    return {"cap": job.share.cap(), "room": job.share.vram_limit().allocator, "gpus": job.gpus}

def cramped(job):
    import resource, threading
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))  # nothing can be written for a while
    threading.Timer(0.5, resource.setrlimit, (resource.RLIMIT_FSIZE, before)).start()
    for step in range(1, 4):
        job.progress(step=step, total=3)
    return {"auc": 0.9}

def waits(job):
    from pathlib import Path
    print("ready", flush=True)
    while not Path("gate").exists():
        time.sleep(0.01)
    Path("passed").touch()
    return {"word": Path("gate").read_text()}

def reports_later(job):
    word = waits(job)
    job.progress(step=1, total=1)
    return word

def writes_later(job):
    word = waits(job)
    folder = job.model_folder(job.model)
    if word["word"] == "mkdir":
        folder.mkdir(parents=True)
    (folder / "best.pt").write_text("weights")
    return word

def fails_later(job):
    waits(job)
    raise JobError("image 12 is none")

def litters(job):
    import shutil
    shutil.rmtree(job.attempt_folder)
    return {"auc": 0.9}

def forks(job):
    pids = []
    for way in ("returns", "raises", "stays"):
        if pid := os.fork():
            pids.append(pid)
            continue
        if way == "stays":
            time.sleep(300)
        if way == "raises":
            raise JobError("of a fork")
        return {"way": way}
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids[:2]]
    return {"way": "parent", "codes": codes}

def broken_pipe(job):
    read, write = os.pipe()
    os.close(read)
    try:
        os.write(write, b"x")
    except BrokenPipeError:
        return {"caught": True}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lab")
    (folder / "lab_kind.py").write_text(KIND)
    return folder


@pytest.fixture(scope="module")
def lab_fork_server(lab: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    home = Home(tmp_path_factory.mktemp("fork-server"))
    quick: dict[str, str] = {}
    shorten(quick, QUICK_WRITES)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(*next(iter(quick.items())))
        fork_server = ForkServer(
            home, WorkerEnvironment(sys.executable, ("launcher.kinds", "no_such_module"), str(lab))
        )
    yield fork_server
    fork_server.close()


Run = Callable[..., tuple[Attempt, Outcome]]


@pytest.fixture
def run(lab_fork_server: ForkServer, home: Home) -> Run:
    """Run one attempt from its order to its recorded end."""
    return partial(run_attempt, lab_fork_server, home)


def a_job(function: str, **changes: Any) -> Spec:
    return a_spec(name=f"toy/{function}", kind="toy", entry=f"lab_kind:{function}", **changes)


def test_worker_reports_its_result_and_progress(run: Run) -> None:
    spec = a_job("report", settings={"lr": 0.1})
    attempt, outcome = run(spec, cpus=2, number=3)
    folder = str(attempt.folder)
    assert isinstance(outcome, Done)
    assert outcome.result == {
        "attempt": 3,
        "cpus": 2,
        "device": "cpu",
        "kind": "toy",
        "folder": folder,
        "settings": {"lr": 0.1},
        "cwd": folder,
    }
    assert said_by(attempt) == "words of toy/report\n"
    assert str(read_newest_report(attempt.progress)) == "4/4 loss=0.25"


@pytest.mark.parametrize(
    ("function", "result"),
    [
        ("cramped", {"auc": 0.9}),  # it waits for room for its result
        ("litters", {"auc": 0.9}),  # it deletes the place of its result
        ("broken_pipe", {"caught": True}),
        ("forks", {"way": "parent", "codes": [0, 1]}),  # its child reports no result
    ],
)
def test_worker_finishes_whatever_happens_to_its_folder_and_children(
    run: Run, function: str, result: Any
) -> None:
    attempt, outcome = run(a_job(function))
    assert isinstance(outcome, Done), outcome
    assert outcome.result == result
    assert function != "forks" or "JobError: of a fork" in said_by(attempt)


@pytest.mark.parametrize(
    ("function", "word", "end"),
    [
        ("waits", "auc", Done),
        ("reports_later", "", Done),
        ("fails_later", "", Failed),
        ("writes_later", "", Lost),
        ("writes_later", "mkdir", Lost),  # below an empty mount point
    ],
)
def test_worker_waits_while_the_folder_of_its_attempt_is_away(
    lab_fork_server: ForkServer, home: Home, tmp_path: Path, function: str, word: str, end: type
) -> None:
    outputs = (f"{tmp_path}/runs/r/a:pre/best.pt",) if function == "writes_later" else ()
    spec = a_job(function, root=str(tmp_path), run="r", model="a:pre", outputs=outputs)
    attempt = an_attempt(home, spec, context=a_context(tmp_path))
    supervised = started(lab_fork_server, attempt)
    until(lambda: lines_of(attempt.log), "the worker is ready")
    away = home.folder.rename(tmp_path / "away")
    (tmp_path / "gate").write_text(word)
    until(lambda: (tmp_path / "passed").exists(), "the job goes on")
    assert not ended(supervised.descriptor, WATCHED_S)
    shutil.rmtree(home.folder, ignore_errors=True)
    away.rename(home.folder)

    outcome = outcome_of(supervised)

    assert isinstance(outcome, end), outcome
    match outcome:
        case Done(result=result):
            assert result == {"word": word}
        case Failed(error=error):
            assert error == "image 12 is none"
        case Lost(why=why):
            assert "the folder of its attempt was missing" in why


def test_job_stopped_while_its_folder_is_away_counts_as_stopped(
    lab_fork_server: ForkServer, home: Home, tmp_path: Path
) -> None:
    attempt = an_attempt(home, a_job("waits"), context=a_context(tmp_path))
    supervised = started(lab_fork_server, attempt)
    until(lambda: lines_of(attempt.log), "the worker is ready")
    away = home.folder.rename(tmp_path / "away")
    (tmp_path / "gate").touch()
    until(lambda: (tmp_path / "passed").exists(), "the job goes on")
    supervised.stop()
    until(lambda: gone(program_of(Attempt(away / "attempts" / "1-1"))), "the worker leaves")
    away.rename(home.folder)
    assert isinstance(outcome_of(supervised), Stopped)


@pytest.mark.parametrize(
    ("function", "error", "said"),
    [
        ("refuse", "image 12 is none", "error: image 12 is none\n"),
        ("explode", "ZeroDivisionError: division by zero", 'return {"ratio": 1 / 0}'),
        ("odd", "Object of type object is not JSON serializable", ""),
        ("absent", "lab_kind:absent does not exist, and no job type 'toy' is installed", ""),
        ("bytes_", "cannot read \udcff.png", ""),
        ("dies", "killed by SIGKILL, not for lack of memory", ""),
    ],
)
def test_every_error_in_a_worker_is_recorded(
    run: Run, function: str, error: str, said: str
) -> None:
    attempt, outcome = run(a_job(function))
    assert isinstance(outcome, Failed)
    assert error in outcome.error
    assert said in said_by(attempt)
    if function == "refuse":  # without a traceback
        assert (outcome.error, outcome.exit_code, said_by(attempt)) == (error, 1, said)


def test_worker_writes_its_errors_into_a_file_of_its_own_if_the_job_wants_that(run: Run) -> None:
    attempt, outcome = run(a_job("refuse"), stderr="separate")
    assert isinstance(outcome, Failed)
    assert (said_by(attempt), attempt.stderr.read_text()) == ("", "error: image 12 is none\n")
    attempt, _ = run(a_job("report"), job=2, stderr="separate")
    assert (said_by(attempt), attempt.stderr.read_text()) == ("words of toy/report\n", "")


def test_worker_ends_when_its_threads_and_handlers_have_ended(run: Run) -> None:
    attempt, outcome = run(a_job("later"))
    assert isinstance(outcome, Done)
    assert attempt.log.read_text() == "words of a thread\nwords of its end\n"


@pytest.mark.parametrize("ready", ["", "import logging, multiprocessing.util, ctypes"])
def test_handlers_of_the_fork_server_are_not_called_in_its_workers(ready: str) -> None:
    script = f"""{ready}
import atexit, io, os, sys, threading, weakref
class Left: pass
parent, own = Left(), Left()
class Tee(io.StringIO):
    def close(self): print("closed")
tee = Tee()
atexit.register(print, "parent")
weakref.finalize(parent, print, "parent")
from launcher.queue.workers.process_end import begin_process, end_process
begin_process()
atexit.register(print, "handler")
atexit.register(sys.exit, 3)
weakref.finalize(own, print, "finalizer")
full = open("/dev/full", "w")
full.write("x")
end_process(threading.Event(), lambda text: print(text.rpartition(":")[2].strip()))
end_process(threading.Event(), print)
sys.stdout.flush()
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split("\n") == [
        "finalizer",
        "handler",
        "closed",
        "[Errno 28] No space left on device",
        "",
    ]


def test_worker_on_a_full_gpu_reports_the_numbers(run: Run) -> None:
    attempt, outcome = run(a_job("starves"))
    assert isinstance(outcome, OutOfMemory)
    assert outcome.error.startswith(
        "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"
    )
    assert "If reserved" not in outcome.error
    assert (outcome.report.where, outcome.exit_code) == ("gpu", 1)
    assert outcome.report == OomReport(
        where="gpu",
        wanted=2 * GIB,
        held=9 * GIB,
        cap=GIB * 19 // 2,
        free=GIB,
        total=24 * GIB,
    )
    assert "raise OutOfMemoryError(" in said_by(attempt)


@pytest.mark.parametrize(
    ("function", "error"), [("hungry", "MemoryError: "), ("wraps", "cannot index the images")]
)
def test_worker_out_of_main_memory_reports_it_whatever_was_raised_from_it(
    run: Run, function: str, error: str
) -> None:
    _, outcome = run(a_job(function))
    assert isinstance(outcome, OutOfMemory)
    assert outcome.error.startswith(error)
    assert "of main memory)" in outcome.error
    assert outcome.report.where == "ram"
    assert outcome.report.held
    assert outcome.report.held > 1 << 20


def test_worker_receives_its_share_and_reports_its_usage(
    lab_fork_server: ForkServer, home: Home
) -> None:
    attempt = an_attempt(home, a_job("shares"))
    write_share(attempt, cap=8 * GIB, context=GIB)
    outcome = outcome_of(started(lab_fork_server, attempt))
    assert isinstance(outcome, Done)
    assert outcome.result == {"cap": 8 * GIB, "room": 7 * GIB, "gpus": 0}
    report = read_report(attempt)
    assert report is not None
    assert (report.reserved, report.peak, report.uuid) == (7, 8, "GPU-1")


@pytest.mark.parametrize(("function", "state"), [("patient", Done), ("leaves", Stopped)])
def test_worker_asked_to_stop_finishes_or_exits(
    lab_fork_server: ForkServer, home: Home, function: str, state: type
) -> None:
    attempt = an_attempt(home, a_job(function))
    supervised = started(lab_fork_server, attempt)
    until(lambda: lines_of(attempt.log), "the worker is ready")
    supervised.stop()
    assert isinstance(outcome_of(supervised), state)


@pytest.mark.parametrize(
    "way", ["_exit", "exit of C", "_exit of a thread", "exec", "handler of SIGTERM"]
)
def test_worker_that_exits_with_code_0_without_a_report_has_failed(run: Run, way: str) -> None:
    _, outcome = run(a_job("leaves_silently", settings={"way": way}))
    assert isinstance(outcome, Failed)
    error = "its process ended with exit code 0 before it reported a result: epoch 3 of 30"
    assert (outcome.error, outcome.exit_code, outcome.over_limit) == (error, 0, False)


def test_edit_of_a_job_type_applies_at_once(run: Run, lab: Path) -> None:
    for job, word in enumerate(["first", "second"], 1):
        (lab / "edited.py").write_text(f"def say(job):\n    return {{'word': {word!r}}}\n")
        spec = a_spec(name="toy/edited", entry="edited:say")
        _, outcome = run(spec, job=job)
        assert isinstance(outcome, Done)
        assert outcome.result == {"word": word}


def test_attempt_without_a_staging_folder_does_not_write_into_its_run(
    home: Home, tmp_path: Path
) -> None:
    """Its folder is gone: it was given up and cleaned while it was frozen."""
    attempt = an_attempt(home, a_spec(argv=(), entry="m:f", root=str(tmp_path), model="a:pre"))
    order = read_attempt_spec(attempt.spec.read_bytes())
    shutil.rmtree(attempt.folder)
    with pytest.raises(FileNotFoundError):
        make_job(order, attempt, device="cpu", gpus=0, stop=threading.Event())
