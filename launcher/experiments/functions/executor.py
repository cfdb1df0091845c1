"""`launcher.api.Executor`: the queue as an executor of concurrent.futures."""

import concurrent.futures
import contextlib
import itertools
import operator
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Literal, SupportsIndex, TypeVar, Unpack

from launcher.experiments.functions.api import queue_calls
from launcher.experiments.functions.calls import refuse_unpicklable_calls
from launcher.experiments.functions.future import LOOK_S, Future, cancel_jobs, continue_note
from launcher.experiments.functions.options import JobOptions, read_request
from launcher.experiments.functions.pickling import CannotPickle, name_of
from launcher.queue.home.paths import Home, find_home, make_home
from launcher.queue.job_options.registry import job_options
from launcher.queue.jobs.job import FUNCTION_RUN, run_name_fault
from launcher.queue.scheduler.job_wait import JobWait
from launcher.queue.store.client import open_queue
from launcher.queue.store.executor_groups import new_group_name
from launcher.queue.store.executors import executor_file, hold_executor, release_executor
from launcher.queue.store.rows import GroupLimit
from launcher.system.errors import Error, UnknownName, UsageError
from launcher.system.terminal import print_stderr

Value = TypeVar("Value")

CONTINUE, CANCEL = "continue", "cancel"
NO_LIMIT = 2**31 - 1
OWN_OPTIONS = ("max_workers", "at_exit", "name", "run")  # options besides those of each job


class ExecutorOptions(JobOptions, total=False):
    """Options of the jobs of an executor."""

    name: str
    run: str


class Executor(concurrent.futures.Executor):
    """Calls functions as jobs of the queue, each in a process of its own.

    An ended call stays in the history like any other job. `shutdown`, and the end of a `with` block, wait for
    all calls. A call that has not started is cancelled by `shutdown(cancel_futures=True)`, by Ctrl-C in a `with`
    block, and by `map` when a call fails or the loop is left. A call that runs is ended only by
    `Future.terminate`, or by `at_exit`.

    Args:
        max_workers: how many calls run at once; None for as many as the machine has room for. It is the limit of a
            group that the queue has as long as the executor has calls that have not ended.
        at_exit: what becomes of the calls if this process ends before `shutdown`. "continue": they go on, and
            `launcher.api.future(number)` has their results. "cancel": they are cancelled, those that run, too,
            as by Ctrl-C in a `with` block. The default is "continue".
        options: options of each job, as of `launcher.api.submit`: gpus=1, vram="10GiB", run="NAME", …

    Raises:
        ValueError: max_workers or at_exit is invalid.
        UsageError: an option is wrong.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        at_exit: Literal["continue", "cancel"] = "continue",
        **options: Unpack[ExecutorOptions],
    ) -> None:
        if max_workers is not None and _whole_number("max_workers", max_workers) <= 0:
            raise ValueError("max_workers must be greater than 0")
        if at_exit not in (CONTINUE, CANCEL):
            raise ValueError(f"at_exit: expected 'continue' or 'cancel', got {at_exit!r}")
        self._options: dict[str, Any] = {**options}
        asked = {key: value for key, value in options.items() if key not in OWN_OPTIONS}
        known = (*OWN_OPTIONS, *job_options())
        for option in asked:
            if option not in known:
                advice = "Pass arguments of a function to submit or map."
                raise UnknownName("option", option, known, advice=advice)
        request = read_request(asked)
        run = options.get("run", FUNCTION_RUN)
        if fault := run_name_fault(run):
            raise UsageError(f"run: {run!r} {fault}")
        cancels = at_exit == CANCEL
        self._limit: GroupLimit | None = None
        if max_workers is not None or cancels:
            if request.terms.group:
                what = "max_workers" if max_workers is not None else "at_exit"
                raise UsageError(f"{what} cannot be combined with group. Leave one of them out.")
            self._limit = GroupLimit(new_group_name(), max_workers or NO_LIMIT)
        self._cancels, self._process = cancels, os.getpid()
        self._lock = threading.Lock()
        self._home: Home | None = None  # the queue; None before the first call
        self._held: int | None = None  # descriptor of the file that is locked while we live
        self._over = False
        self._open: set[Future[Any]] = set()

    def submit(
        self, fn: Callable[..., Value], /, *args: Any, **kwargs: Any
    ) -> concurrent.futures.Future[Value]:
        """Queue a call; return its future, a `launcher.api.Future`.

        Raises:
            RuntimeError: the executor was shut down.
            UsageError: the function or an argument cannot be pickled, or no machine could ever run it.
            MachineError: the queue cannot be used.
        """
        (future,) = self.queue(fn, [args], kwargs)
        return future

    def map(
        self,
        fn: Callable[..., Value],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[Value]:
        """Call a function with elements of iterables, as `map` does; all jobs are queued at once.

        Calls that have not started are cancelled when a result raises an exception or the loop is left. Calls
        that run continue.

        Args:
            fn: which is called.
            iterables: one for each argument; the shortest counts.
            timeout: seconds from this call after which a result raises TimeoutError; None for no limit.
            chunksize: calls of a job.

        Raises:
            ValueError: chunksize is below 1.
            Exception: as `submit`; and when the result is taken, the exception of the call.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        end = None if timeout is None else time.monotonic() + timeout
        calls: Iterable[tuple[Any, ...]] = zip(*iterables, strict=False)
        if chunksize == 1:
            return _results(self.queue(fn, calls, {}), end)
        chunks = [(chunk,) for chunk in _chunks(calls, chunksize)]
        name = self._options.get("name") or name_of(fn)
        try:
            futures = self.queue(partial(_call_chunk, fn), chunks, {}, name=name)
        except CannotPickle:
            refuse_unpicklable_calls((fn, call, {}) for (chunk,) in chunks for call in chunk)
            raise
        return itertools.chain.from_iterable(_results(futures, end))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no further calls.

        Args:
            wait: return when all calls have ended.
            cancel_futures: cancel the calls that have not started.
        """
        with self._lock:
            self._over = True
            left = [*self._open]
        if cancel_futures and left and self._process == os.getpid():
            cancel_jobs(left, cancel_running=False)
        if wait:
            _wait_for_all(left)
        self._leave(has_ended=wait)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for all calls. Ctrl-C, before or while it waits, cancels those that have not started."""
        try:
            if not isinstance(error, KeyboardInterrupt):
                self.shutdown(wait=True)
                return
        except KeyboardInterrupt:
            self._leave_running()
            raise
        self._leave_running()

    def queue(
        self,
        function: Callable[..., Any],
        calls: Iterable[tuple[Any, ...]],
        kwargs: Mapping[str, Any],
        *,
        batch: str = "",
        **options: Any,
    ) -> list[Future[Any]]:
        """Queue calls of a function, all of them or none, with further options of `queue_calls`.

        Raises:
            Exception: as `submit`.
        """
        with self._lock:
            if self._over:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._enter()
            futures = queue_calls(
                function,
                calls,
                batch,
                kwargs=kwargs,
                limit=self._limit,
                **{**self._options, **options},
            )
            self._open.update(futures)
        for future in futures:
            future.add_done_callback(self._open.discard)
        return futures

    def _enter(self) -> None:
        """Create the file that shows the scheduler that this process lives, if there is a limit."""
        if self._home is not None:
            return
        home = find_home(os.environ)
        make_home(home)
        if self._limit is not None:
            self._held = hold_executor(home, self._limit.name, cancel=self._cancels)
        self._home = home

    def _leave_running(self) -> None:
        """After Ctrl-C, cancel the calls that wait. Calls that run continue, unless `at_exit` is "cancel"."""
        self.shutdown(wait=False, cancel_futures=True)
        running = [future for future in [*self._open] if not future.done()]
        if not running:
            return
        if self._cancels:
            cancel_jobs(running, cancel_running=True)
        else:
            print_stderr(continue_note(running))

    def _leave(self, *, has_ended: bool) -> None:
        """Give the limit back; the scheduler also gives it back when the last call has ended."""
        with self._lock:
            held, self._held = self._held, None
        if held is None or self._limit is None or self._home is None:
            return
        if self._process == os.getpid():
            if has_ended:
                with contextlib.suppress(Exception), open_queue() as (home, store):
                    over = store.job_control.end_executor(
                        self._limit.name, time.time(), cancel=False
                    )
                    if over:
                        executor_file(home, self._limit.name).unlink(missing_ok=True)
            release_executor(held)
            return
        os.close(held)


def _wait_for_all(futures: list[Future[Any]]) -> None:
    """Wait until calls have ended.

    Raises:
        MachineError: inside a job, the calls can never start (see `JobWait`).
    """
    if not futures:
        return
    home = find_home(os.environ)
    with JobWait(home, [future.job for future in futures]) as wait:
        look_s = LOOK_S if wait.is_checked else None
        while concurrent.futures.wait(futures, look_s).not_done:
            wait.check()


def _whole_number(option: str, value: SupportsIndex) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{option}: expected a whole number, got {value!r:.80}") from None


def _results(futures: list[Future[Any]], end: float | None) -> Iterator[Any]:
    """Yield results in order, and keep no future whose result was taken; at the end, cancel calls that wait."""
    futures.reverse()

    def take() -> Iterator[Any]:
        try:
            while futures:
                left = None if end is None else end - time.monotonic()
                yield _take_last(futures, left)
        finally:
            _cancel_waiting(futures)

    return take()


def _take_last(futures: list[Future[Any]], timeout: float | None) -> Any:
    value = futures[-1].result(timeout)
    del futures[-1]  # a future without a result stays: its call is cancelled, too, if it waits
    return value


def _cancel_waiting(futures: list[Future[Any]]) -> None:
    """Cancel calls that have not started. The list is empty afterwards, as tracebacks would keep it."""
    left = [future for future in futures if not future.done()]
    futures.clear()
    if left:
        # the queue is gone, which reading the results reports
        with contextlib.suppress(Error, OSError):
            cancel_jobs(left, cancel_running=False)


def _chunks(calls: Iterable[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    left = iter(calls)
    while chunk := [*itertools.islice(left, size)]:
        yield chunk


def _call_chunk(function: Callable[..., Any], calls: list[tuple[Any, ...]]) -> list[Any]:
    """Call a function several times, in a job."""
    return [function(*arguments) for arguments in calls]
