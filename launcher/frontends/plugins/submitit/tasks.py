"""The work of a submitit job: start the processes of its tasks, copy their output, judge how they ended.

The worker of the job imports this module, and not submitit, which its tasks import.
"""

import contextlib
import os
import pickle
import selectors
import shlex
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, NamedTuple

from launcher.system.errors import JobError

NAME = "launcher"  # name of the cluster
EXECUTOR = "SUBMITIT_EXECUTOR"
WARN_SIGNAL = "SUBMITIT_PREEMPT_SIGNAL"
JOB = "SUBMITIT_LAUNCHER_JOB_ID"
TASKS = "SUBMITIT_LAUNCHER_NTASKS"
TASK = "SUBMITIT_LAUNCHER_TASKID"
REQUEUED = 75  # exit code of a process that wants to run again; EX_TEMPFAIL of sysexits.h
MODULE = "launcher.frontends.plugins.submitit.process"
BLOCK = 1 << 16  # bytes of output that are copied at once
# seconds between two checks for the end of processes, whose output may be inherited by others
LOOK_S = 0.2
END_S = 5.0  # seconds for the other tasks of a job that is over


class TaskPaths(NamedTuple):
    """The files of a task, as submitit's `JobPaths` names them."""

    submitted_pickle: Path
    result_pickle: Path
    stdout: Path
    stderr: Path

    def for_task(self, job: str, rank: int) -> "TaskPaths":
        """Return the paths with the number of the job and that of the task."""
        numbers = {"%j": job, "%A": job, "%t": str(rank)}
        return TaskPaths(*(_with_numbers(path, numbers) for path in self))


def _with_numbers(path: Path, numbers: Mapping[str, str]) -> Path:
    text = str(path)
    for tag, number in numbers.items():
        text = text.replace(tag, number)
    return Path(text)


class SubmittedCall(NamedTuple):
    """A submission, as its job gets it."""

    folder: str
    pickle: Path  # file of the call, until the number of the job is known
    paths: TaskPaths  # with %j and %t in place of numbers
    tasks: int
    python: str
    setup: tuple[str, ...]  # shell commands that run before each task
    joins_stderr: bool
    warn_signal: str
    runs_failed_again: bool  # whether a function that has raised an exception is called again


class Task(NamedTuple):
    """A process of a job."""

    rank: int
    paths: TaskPaths
    process: "subprocess.Popen[bytes]"


def place_pickle(path: Path, target: Path) -> None:
    """Give the file of a submission its final name; its job or its submitter may have done it already."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        path.rename(target)


def run_tasks(call: SubmittedCall) -> None:
    """Run the tasks of a submission in this job.

    Raises:
        JobError: a task failed, or wants to run again.
        KeyboardInterrupt: the job was asked to end; then its tasks have ended.
    """
    job = os.environ["LAUNCHER_JOB"]
    places = [call.paths.for_task(job, rank) for rank in range(call.tasks)]
    place_pickle(call.pickle, places[0].submitted_pickle)
    for paths in places:
        if not call.runs_failed_again and (error := read_error(paths)):
            raise JobError(error)  # the queue retries for a checkpoint, not for an exception
        paths.result_pickle.unlink(missing_ok=True)
    tasks: list[Task] = []
    with forwarded_signal(call.warn_signal, tasks):
        try:
            for rank, paths in enumerate(places):
                tasks.append(Task(rank, paths, start_task(call, job, rank)))
            copy_output(tasks, joins_stderr=call.joins_stderr)
        except KeyboardInterrupt:
            # the first task saves the checkpoint
            copy_output(tasks[:1], joins_stderr=call.joins_stderr)
            raise
        finally:
            end_tasks(tasks)
    if failure := find_failure(tasks):
        raise JobError(failure)


@contextlib.contextmanager
def forwarded_signal(name: str, tasks: Sequence[Task]) -> Iterator[None]:
    """Pass the warning before the time limit on to the tasks."""
    number = signal.Signals[name]
    if number in {signal.SIGTERM, signal.SIGHUP}:  # signals that end a job
        yield
        return

    def forward(signal_number: int, _: FrameType | None) -> None:
        for task in tasks:
            with contextlib.suppress(ProcessLookupError):
                task.process.send_signal(signal_number)

    before = signal.signal(number, forward)
    try:
        yield
    finally:
        signal.signal(number, before)


def start_task(call: SubmittedCall, job: str, rank: int) -> "subprocess.Popen[bytes]":
    """Start the process of a task."""
    words = [call.python, "-u", "-m", MODULE, call.folder]
    if call.setup:
        words = ["bash", "-c", " && ".join([*call.setup, f"exec {shlex.join(words)}"])]
    variables: Mapping[str, str] = {
        EXECUTOR: NAME,
        WARN_SIGNAL: call.warn_signal.removeprefix("SIG"),
        JOB: job,
        TASKS: str(call.tasks),
        TASK: str(rank),
    }
    # the process inherits the mask: a warning waits until it can save a checkpoint
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.Signals[call.warn_signal]})
    try:
        return subprocess.Popen(
            words,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if call.joins_stderr else subprocess.PIPE,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def copy_output(tasks: Sequence[Task], *, joins_stderr: bool) -> None:
    """Copy the output of tasks into their files and into the log of the job, until they have ended.

    It is over, too, if a task wants to run again.
    """
    with contextlib.ExitStack() as opened, selectors.DefaultSelector() as selector:
        for task in tasks:
            streams = [(task.process.stdout, task.paths.stdout, 1)]
            if not joins_stderr:
                streams.append((task.process.stderr, task.paths.stderr, 2))
            for pipe, path, log in streams:
                if pipe is not None and not pipe.closed:
                    os.set_blocking(pipe.fileno(), False)
                    file = opened.enter_context(path.open("ab", buffering=0))
                    selector.register(pipe, selectors.EVENT_READ, (pipe, file, log))
        while selector.get_map():
            codes = [task.process.poll() for task in tasks]
            over = None not in codes or REQUEUED in codes
            ready = selector.select(0 if over else LOOK_S)
            for key, _ in ready:
                pipe, file, log = key.data
                if not _copy_block(pipe, file, log):
                    selector.unregister(pipe)
                    pipe.close()
            if over and not ready:
                return
    for task in tasks:
        task.process.wait()


def _copy_block(pipe: IO[bytes], file: IO[bytes], log: int) -> bool:
    """Copy what a pipe has; return whether it may get more."""
    try:
        data = os.read(pipe.fileno(), BLOCK)
    except BlockingIOError:
        return True
    file.write(data)
    os.write(log, data)
    return bool(data)


def end_tasks(tasks: Sequence[Task]) -> None:
    """Kill what still runs, such as the other tasks of a job that wants to run again."""
    for task in tasks:
        if task.process.poll() is None:
            task.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            task.process.wait(END_S)


def find_failure(tasks: Sequence[Task]) -> str:
    """Return how the first task failed, '' if all have returned."""
    codes = [task.process.returncode for task in tasks]
    if REQUEUED in codes:
        return "saved a checkpoint and runs again"
    for task, code in zip(tasks, codes, strict=True):
        if code:
            return read_error(task.paths) or _end_text(task, code)
    return ""


def _end_text(task: Task, code: int) -> str:
    if code == -signal.SIGKILL:
        # as torch says it; the queue then asks the kernel whether memory was the reason
        return f"task {task.rank} (pid {task.process.pid}) is killed by signal: Killed"
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"task {task.rank} ended with {how}"


def read_error(paths: TaskPaths) -> str:
    """Return the last line of the traceback of a task that has failed; '' if it has not."""
    try:
        with paths.result_pickle.open("rb") as file:
            outcome, error = pickle.load(file)
    except Exception:  # noqa: BLE001  # it does not exist, or its value cannot be loaded here
        return ""
    lines = str(error).strip().splitlines()
    return lines[-1] if outcome == "error" and lines else ""
