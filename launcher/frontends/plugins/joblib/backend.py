"""The queue as a backend of joblib: each batch of calls is a job."""

import concurrent.futures
import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from joblib._parallel_backends import (
    AutoBatchingMixin,
    ParallelBackendBase,
    SequentialBackend,
    ThreadingBackend,
)

from launcher.experiments.functions.calls import refuse_unpicklable_calls
from launcher.experiments.functions.executor import Executor
from launcher.experiments.functions.future import LOOK_S, Future, cancel_jobs
from launcher.experiments.functions.options import JobOptions, read_request
from launcher.experiments.functions.pickling import CannotPickle, name_of
from launcher.frontends.plugins.joblib.batches import BatchResult, run_batch
from launcher.queue.home.paths import find_home
from launcher.queue.job_options.registry import JobRequest
from launcher.queue.store.client import cores_for_jobs
from launcher.system.errors import Error, MachineError, UnknownName, UsageError

OWN = ("name", "run")  # options of an executor's jobs, besides those of all jobs
# options that joblib passes to every backend
JOBLIB = ("max_nbytes", "temp_folder", "mmap_mode", "prefer", "require", "verbose", "context")
WATCHER = "launcher-joblib"  # the thread that looks whether the queue was stopped

Callback = Callable[[Any], object]


class LauncherBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # joblib is optional
    """Batches of calls are jobs of the queue.

    Args:
        nesting_level: how many backends of joblib are around this one.
        inner_max_num_threads: not supported: the threads of a job are its `cpus`.
        options: options of the jobs, as of `launcher.api.submit`.

    Raises:
        UsageError: an option is wrong.
    """

    supports_retrieve_callback = True
    default_n_jobs = -1
    # half as many processes import the packages of the calls; the first calls are twice as many as jobs
    _DEFAULT_EFFECTIVE_BATCH_SIZE = 2
    MIN_IDEAL_BATCH_DURATION = 1.0  # seconds of work of a job, which needs about 0.1 s of its own
    MAX_IDEAL_BATCH_DURATION = 20.0

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._options = check_options(options)
        self._chosen = self._options  # our options and those of `Parallel`
        self._limit: int | None = None
        self._executor: Executor | None = None
        self._open: set[Future[Any]] = set()
        self._batch_s: float | None = None  # work of the batch that was retrieved last

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many jobs may run at once. -1 means as many as the machine has room for, -2 one less.

        Raises:
            ValueError: it is 0.
        """
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        if n_jobs > 0:
            return n_jobs
        cpus = read_job_options(self._chosen).resources.cpus
        room = cores_for_jobs(find_home(os.environ)) // cpus
        return max(2, room + 1 + n_jobs)  # with 1 joblib would call the functions in this process

    def configure(self, n_jobs: int = 1, parallel: Any = None, **backend_kwargs: Any) -> int:
        """Begin a call of `Parallel`, whose further parameters are options of jobs, too.

        Raises:
            UsageError: an option is wrong.
        """
        given = {name: value for name, value in backend_kwargs.items() if name not in JOBLIB}
        self._chosen = check_options({**self._options, **given})
        self._limit = n_jobs if n_jobs > 0 else None
        self.parallel = parallel
        return self.effective_n_jobs(n_jobs)

    def submit(self, func: Any, callback: Callback | None = None) -> concurrent.futures.Future[Any]:
        """Queue a batch. An error is the result of the future, as joblib calls this in other threads, too."""
        future: concurrent.futures.Future[Any]
        try:
            queued = self._queue(func)
            self._open.add(queued)
            queued.add_done_callback(self._open.discard)
            future = queued
        except Exception as error:  # noqa: BLE001  # nobody would see it in the thread of a callback
            future = concurrent.futures.Future()
            future.set_exception(error)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def _queue(self, batch: Any) -> Future[Any]:
        try:
            queued = self._find_executor(batch).submit(run_batch, batch)
        except CannotPickle:
            # the error names the functions as the user wrote them
            refuse_unpicklable_calls(batch.items)
            raise
        assert isinstance(queued, Future)
        return queued

    def retrieve_result_callback(self, out: concurrent.futures.Future[BatchResult]) -> list[Any]:
        """Return the values of a batch, or raise the exception of a function."""
        result = out.result()
        self._batch_s = result.seconds
        return result.values

    def batch_completed(self, batch_size: int, duration: float) -> None:
        """Learn the size of batches from their work. Their time in the queue does not count."""
        super().batch_completed(batch_size, duration if self._batch_s is None else self._batch_s)

    def get_nested_backend(self) -> tuple[Any, None]:
        """Return the backend of calls of `Parallel` inside a job: threads if it has several cores."""
        level = (self.nesting_level or 0) + 1
        several = read_job_options(self._chosen).resources.cpus > 1
        backend = ThreadingBackend if several and level == 1 else SequentialBackend
        return backend(nesting_level=level), None

    @contextlib.contextmanager
    def retrieval_context(self) -> Iterator[None]:
        """Fail if the queue is stopped, while joblib waits for results."""
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(over,), name=WATCHER, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()

    def abort_everything(self, ensure_ready: bool = True) -> None:  # noqa: ARG002  # joblib's own
        """Cancel the jobs, also those that run. Later calls queue new ones."""
        executor, self._executor = self._executor, None
        left = [*self._open]
        self._open.clear()
        if executor is not None:
            with contextlib.suppress(Error):
                executor.shutdown(wait=False, cancel_futures=True)
        if left:
            with contextlib.suppress(Error, OSError):  # the queue may be gone, too
                cancel_jobs(left, cancel_running=True)

    def terminate(self) -> None:
        """End a call of `Parallel`."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=not self._open)
        self.reset_batch_stats()

    def _find_executor(self, batch: Any) -> Executor:
        if self._executor is None:
            options = {"name": name_of(batch.items[0][0]), **self._chosen}
            self._executor = Executor(self._limit, at_exit="cancel", **options)
        return self._executor

    def _watch(self, stop_event: threading.Event) -> None:
        while not stop_event.wait(LOOK_S):
            waiting = next(iter([*self._open]), None)
            if waiting is None:
                continue
            try:
                waiting.exception(2 * LOOK_S)
            except MachineError as error:  # the queue is stopped
                for future in [*self._open]:
                    future.give_up(error)
            except Exception:  # noqa: BLE001  # its own end, which joblib sees
                continue


def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of jobs.

    Raises:
        UsageError: one is unknown, or has a wrong value.
    """
    known = (*JobOptions.__annotations__, *OWN)
    for name in options:
        if name not in known:
            raise UnknownName("option", name, known)
    if options.get("group"):
        raise UsageError("group cannot be combined with n_jobs, which is a limit of its own.")
    read_job_options(options)
    return {**options}


def read_job_options(options: Mapping[str, Any]) -> JobRequest:
    """Return the request that options make.

    Raises:
        UsageError: a value is wrong, or options contradict each other.
    """
    return read_request({name: value for name, value in options.items() if name not in OWN})
