"""A job of the queue as a future of concurrent.futures.

A thread follows the jobs of all futures of this process, and completes a future when its job has ended. The amount of
data that it reads grows only with the number of changes.
"""

import concurrent.futures
import os
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from math import inf
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from launcher.experiments.functions.call_results import read_exception, read_value
from launcher.experiments.functions.calls import KIND
from launcher.experiments.functions.pickling import CannotLoad
from launcher.queue.home.daemon_control import wake
from launcher.queue.home.paths import Home
from launcher.queue.jobs.job import PROGRAM
from launcher.queue.jobs.states import ENDED_STATES, State, strip_state_prefix
from launcher.queue.scheduler.job_wait import JobWait
from launcher.queue.store.client import (
    ensure_scheduler_alive,
    open_home,
    open_queue,
    open_queue_readonly,
    queue_stopped_error,
)
from launcher.queue.store.feed import JobTracker
from launcher.queue.store.job_selection import SHARED_RUN, words_for_jobs
from launcher.queue.store.rows import JobRow
from launcher.queue.workers.progress.attempt_progress import (
    READ_FROM,
    read_last_metrics,
    split_reserved_keys,
)
from launcher.system.errors import JobError, MachineError, UsageError, pluralize
from launcher.system.log_files import last_lines

Value = TypeVar("Value")

FOLLOWER = "launcher-futures"  # the thread that completes futures when their jobs have ended
LOOK_S = 0.5  # seconds between two checks of a waiting caller whether the queue was stopped


class ProgramResult(NamedTuple):
    """The result of a program."""

    # minus the signal that killed the program, as in subprocess; None: unknown
    exit_code: int | None
    numbers: Mapping[str, Any]  # numbers that the program reported last


class ProgramError(JobError):
    """A program has failed; `result` has its exit code and the numbers that it had reported."""

    def __init__(self, message: str, result: ProgramResult) -> None:
        super().__init__(message)
        self.result = result

    def __reduce__(self) -> tuple[Any, ...]:
        return ProgramError, (str(self), self.result)


class Future(concurrent.futures.Future[Value], Generic[Value]):
    """The future result of a job. The job runs without it; `launcher.api.future(number)` makes another one.

    `concurrent.futures.wait`, `as_completed` and `asyncio.wrap_future` take it. `terminate` also ends a
    running job. A future is done once its job has ended. For a job that is retried later, ask for a new future.
    """

    def __init__(self, home: Home, row: JobRow) -> None:
        super().__init__()
        self.job, self.name = row.id, row.name
        self._home, self._row, self._process = home, row, os.getpid()
        self._taking, self._ended = threading.Lock(), False  # the watcher, and who cancels
        self._loading = threading.Lock()
        self._loaded: tuple[Any, BaseException | None] | None = None

    @property
    def state(self) -> str:
        """The state of the job: queued, held, running, done, failed, cancelled or skipped."""
        return str(self._now().state)

    def running(self) -> bool:
        """Return whether the job runs."""
        return self._row.state is State.RUNNING

    def result(self, timeout: float | None = None) -> Value:
        """Return what the function returned; wait for it.

        Args:
            timeout: seconds, None for no limit.

        Raises:
            Exception: the exception of the function, caused by the traceback of its process.
            ProgramError: the program of the job failed; `error.result` has its exit code.
            JobError: it was killed, called `sys.exit`, ran out of memory or time, or was skipped. The message
                contains the command that prints its log. Also raised if its return value cannot be loaded here.
            CancelledError: it was cancelled.
            TimeoutError: it has not ended in time. It continues.
            MachineError: the queue is stopped, or gone. Inside a job, also if the awaited job can never start,
                because jobs that wait for such jobs hold its resources.
        """
        value, error = self._outcome(timeout)
        if error is not None:
            raise error
        returned: Value = value
        return returned

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the function raised, None where it has returned; as `result` otherwise."""
        return self._outcome(timeout)[1]

    def cancel(self) -> bool:
        """Cancel the job if it waits. Return False, and change nothing, if it runs or has ended otherwise."""
        return self._cancel(cancel_running=False)

    def terminate(self) -> bool:
        """Cancel the job, also if it runs. Return False if it has ended otherwise already.

        A running job gets KeyboardInterrupt, and SIGKILL after its `grace`. The future is cancelled when it
        has ended.
        """
        return self._cancel(cancel_running=True)

    def _cancel(self, *, cancel_running: bool) -> bool:
        touched = self._row.state not in ENDED_STATES and cancel_jobs(
            [self], cancel_running=cancel_running
        )
        return bool(touched) or self._row.state is State.CANCELLED

    def log(self, lines: int | None = None) -> str:
        """Return what the job has printed, in its newest attempt.

        Args:
            lines: number of last lines. None for all, but at most the last 16 MiB.
        """
        log = self.log_file()
        return (
            "" if log is None else "\n".join(last_lines(log, lines or 1 << 30, most_bytes=16 << 20))
        )

    def log_file(self) -> Path | None:
        """Return the log of the newest attempt; None if the job has not started."""
        row = self._now()
        return row.attempt_in(self._home).log if row.attempts else None

    def take(self, row: JobRow) -> None:
        """Record the state of the job. If it has ended, complete the future and call its callbacks."""
        with self._taking:
            if self._ended:
                return
            self._row, self._ended = row, row.state in ENDED_STATES
        if row.state is State.CANCELLED:
            super().cancel()
            self.set_running_or_notify_cancel()
        elif row.state is State.DONE:
            self.set_result(None)  # type: ignore[arg-type]  # loaded when it is asked for
        elif row.state in ENDED_STATES:
            self.set_exception(JobError(self._why()))  # likewise

    def give_up(self, error: BaseException) -> None:
        """Fail the future with an error, as no thread follows the job any more."""
        with self._taking:
            if self._ended:
                return
            self._ended, self._loaded = True, (None, error)
        self.set_exception(error)

    def _now(self) -> JobRow:
        """Return the state of the job, or the last known one if it was deleted from the queue."""
        with open_queue_readonly(self._home) as (_, store):
            (row,) = store.read.jobs_by_id([self.job]) or [self._row]
        return row

    def _outcome(self, timeout: float | None) -> tuple[Any, BaseException | None]:
        """Wait for the end of the job; return its value or exception."""
        self._await(timeout)
        if self.cancelled():
            raise concurrent.futures.CancelledError(self._why())
        return self._load()

    def _await(self, timeout: float | None) -> None:
        """Wait for the end of the job."""
        deadline = inf if timeout is None else time.monotonic() + timeout
        with JobWait(self._home, [self.job], is_limited=timeout is not None) as wait:
            self._await_until(deadline, timeout, wait)

    def _await_until(self, deadline: float, timeout: float | None, wait: JobWait) -> None:
        while not self.done():
            # in a callback of the watcher, and in a fork, where it does not exist, nobody else looks
            if threading.current_thread().name == FOLLOWER or os.getpid() != self._process:
                self.take(self._now())
            left = min(LOOK_S, deadline - time.monotonic())
            concurrent.futures.wait([self], timeout=max(0.0, left))
            if self.done():
                return
            if time.monotonic() >= deadline:
                raise TimeoutError(
                    f"{self.name} has not ended after {timeout:g} s. {self._prospect()}"
                )
            if self._is_stopped():
                raise queue_stopped_error()
            wait.check()

    def _is_stopped(self) -> bool:
        """Whether the queue is: the watcher looks every few seconds, and it may have been started since."""
        watcher = _watchers.get(self._home)
        if watcher is None or not watcher.queue_stopped:
            return False
        with open_queue_readonly(self._home) as (home, store):
            return not ensure_scheduler_alive(home, store)

    def _prospect(self) -> str:
        """Describe whether the job continues by itself, and otherwise the command for it."""
        row = self._row
        if row.state is State.HELD:
            return f"It is held. To release it: launcher release {row.id}"
        if row.wish:
            return "It is being ended."
        if row.paused is not None:
            return f"It is paused. To resume it: launcher resume {row.id}"
        return "The job continues."

    def _why(self) -> str:
        row = self._row
        way = f"; `launcher logs {row.id}` shows what it printed" if row.attempts else ""
        return f"{row.name} {row.state}: {strip_state_prefix(row.reason)}{way}"

    def _load(self) -> tuple[Any, BaseException | None]:
        """Return the value or the exception of the attempt that ended the job; each is read once."""
        with self._loading:
            if self._loaded is None:
                try:
                    self._loaded = self._read()
                except CannotLoad as error:  # the module of the result may be found the next time
                    return None, error
            return self._loaded

    def _read(self) -> tuple[Any, BaseException | None]:
        row = self._row
        folder = row.attempt_in(self._home).folder
        if row.kind == PROGRAM:
            return self._read_program()
        if row.state is State.DONE and row.kind != KIND:  # the result of the program
            with open_queue_readonly(self._home) as (_, store):
                return store.read.result_of(row.id), None
        if row.state is State.DONE:
            try:
                return read_value(folder, row.name), None
            except FileNotFoundError:
                return None, MachineError(_no_value(row.name, folder))
        error = read_exception(folder) if row.state is State.FAILED and row.attempts else None
        if isinstance(error, Exception):
            return None, error
        ended = JobError(self._why())  # SystemExit or KeyboardInterrupt would end this program, too
        ended.__cause__ = error
        return None, ended

    def _read_program(self) -> tuple[Any, BaseException | None]:
        row = self._row
        if row.state is State.DONE:
            with open_queue_readonly(self._home) as (_, store):
                numbers = store.read.result_of(row.id) or {}
            return ProgramResult(0, _without_source(numbers)), None
        if row.state is not State.FAILED or not row.attempts:
            return None, JobError(self._why())
        with open_queue_readonly(self._home) as (_, store):
            attempt = store.read.newest_attempts([row.id]).get(row.id)
        outcome = (None if attempt is None else attempt.outcome) or {}
        code, signal = outcome.get("exit_code"), outcome.get("signal")
        if code is None and isinstance(signal, int):
            code = -signal
        reported = read_last_metrics(row.attempt_in(self._home), may_be_cut=True)
        numbers = _without_source(reported)
        return None, ProgramError(self._why(), ProgramResult(code, numbers))

    def __repr__(self) -> str:
        return f"<Future {self.name} {self._row.state}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return future, (self.job,)


def _without_source(numbers: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in split_reserved_keys(numbers)[0].items() if name != READ_FROM
    }


def _no_value(name: str, folder: Path) -> str:
    """Return why there is no value of a function that is done."""
    if not folder.exists():
        why = f"its folder {folder} was deleted, for example by `launcher clean`"
    else:
        why = f"its file in {folder} was deleted"
    return f"the return value of {name} is missing: {why}. Submit it again."


def cancel_jobs(futures: Iterable[Future[Any]], *, cancel_running: bool) -> list[int]:
    """Cancel the jobs of futures; return the numbers of those that were cancelled or get a signal to end.

    Args:
        futures: futures of one queue, one for each job.
        cancel_running: also cancel jobs that run.
    """
    by_job = {future.job: future for future in futures}
    with open_queue() as (home, store):
        touched = store.job_control.cancel([*by_job], time.time(), running=cancel_running)
        rows = store.read.jobs_by_id([*by_job])
        wake(home)
    for row in rows:
        by_job[row.id].take(row)
    return [*touched]


def continue_note(futures: Iterable[Future[Any]]) -> str:
    """Return a note on jobs that continue although their program ends, with the command that cancels them."""
    names = {future.job: future.name for future in futures}
    verb = "continues" if len(names) == 1 else "continue"
    words = words_for_jobs(SHARED_RUN, names)  # numbers of the jobs
    return f"note: {pluralize(len(names), 'job')} {verb}. To cancel: launcher cancel {words}"


def future(job: int) -> Future[Any]:
    """Return the future of a job by its number, also if another process submitted the job.

    The result of a program is a `ProgramResult`, that of another job the return value of its job type's
    entry, a dict or None.

    Raises:
        UsageError: there is no such job.
    """
    with open_queue() as (home, store):
        rows = store.read.jobs_by_id([job])
    if not rows:
        raise UsageError(f"job {job} does not exist. List all jobs: launcher status --all")
    made: Future[Any] = Future(home, rows[0])
    follow(home, [made])
    return made


class Watcher(threading.Thread):
    """Follows the jobs of a queue folder until all of them have ended."""

    def __init__(self, home: Home) -> None:
        super().__init__(name=FOLLOWER, daemon=True)  # daemon: jobs go on without this process
        self._home = home
        self._lock, self._came = threading.Lock(), threading.Event()
        self._new: list[Future[Any]] = []
        self._futures: dict[int, list[Future[Any]]] = {}
        self._over = False
        self.queue_stopped = False  # as the queue was seen last

    def add(self, futures: Iterable[Future[Any]]) -> bool:
        """Follow further futures. Return False if the thread is about to end."""
        with self._lock:
            if self._over:
                return False
            self._new += futures
        self._came.set()
        return True

    def run(self) -> None:
        """Follow the added jobs; if that fails, all futures get the error."""
        try:
            with ExitStack() as opened:
                with _asking:
                    store = opened.enter_context(open_home(self._home))
                    followed = JobTracker(self._home, store)
                self._follow(followed)
        except BaseException as error:  # noqa: BLE001  # whoever waits must not wait for ever
            with self._lock:
                self._over = True
                left = [*self._new, *(each for some in self._futures.values() for each in some)]
            for future in left:
                future.give_up(error)

    def _follow(self, tracker: JobTracker) -> None:
        while self._poll_jobs(
            tracker
        ):  # variables of a finished loop are gone while this thread waits: results must not be kept
            self._came.wait(tracker.poll_interval_s)
            self._came.clear()

    def _poll_jobs(self, tracker: JobTracker) -> bool:
        """Pass the new states of jobs to their futures; return False if there is no job left to follow."""
        new = self._take_added_futures()
        if self._over:
            return False
        with _asking:
            rows = tracker.add({future.job for future in new}) if new else []
            tracker.check_scheduler()
            rows += [tracker.rows[job] for job in {c.job for c in tracker.read_events()}]
        while new:
            future = new.pop()
            if future.job not in tracker.rows:
                future.give_up(UsageError(f"{future.name} was deleted from the queue"))
                self._futures.pop(future.job, None)
            del future
        for row in rows:
            if row.state in ENDED_STATES:
                tracker.drop(row.id)
                ended = self._futures.pop(row.id, [])
                while ended:
                    ended.pop().take(row)
            else:
                for future in self._futures.get(row.id, ()):
                    future.take(row)
        self.queue_stopped = tracker.is_queue_stopped
        return True

    def _take_added_futures(self) -> list[Future[Any]]:
        """Return the added futures. The thread ends if there is no job left to follow."""
        with self._lock:
            new, self._new = self._new, []
            for future in new:
                self._futures.setdefault(future.job, []).append(future)
            self._over = not self._futures
        return new


# Held while a watcher reads the queue. A fork waits for it: a fork copies SQLite's own locks as they are. They would
# stay locked in the new process, which does not have the thread that holds them.
_asking = threading.RLock()
_watchers: dict[Home, Watcher] = {}
_choosing = threading.Lock()


def follow(home: Home, futures: Iterable[Future[Any]]) -> None:
    """Complete futures when their jobs end."""
    listed = [*futures]
    with _choosing:
        watcher = _watchers.get(home)
        if watcher is not None and watcher.add(listed):
            return
        watcher = _watchers[home] = Watcher(home)
        watcher.add(listed)
        watcher.start()


def _forget() -> None:
    """Reset the state in a forked process, as threads do not survive a fork."""
    global _choosing  # another thread may have held the lock at the fork
    _asking.release()
    _choosing = threading.Lock()
    _watchers.clear()


os.register_at_fork(before=_asking.acquire, after_in_parent=_asking.release, after_in_child=_forget)
