"""The attempts of a pilot: those that wait for a supervisor, those that run, how each ends.

If a supervisor is dead, the remaining processes of its attempt are killed, and its outcome is determined.
"""

import contextlib
import logging
import os
import time
import zipfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from math import inf

from launcher.queue.backends.node_home import unpack_code
from launcher.queue.backends.pilot_folder import PilotFolder, attempt_name, parse_attempt_name
from launcher.queue.backends.pilot_messages import AttemptFinished, AttemptStarted, PilotMessage
from launcher.queue.home.paths import Attempt, Home
from launcher.queue.jobs.context import WorkerEnvironment, worker_environment_of
from launcher.queue.jobs.states import NeverStarted, Outcome
from launcher.queue.workers.attempt_handles import (
    NO_DESCRIPTOR,
    POLL_S,
    TRANSIENT_ERRORS,
    AdoptedAttempt,
    AttemptHandle,
    SupervisedAttempt,
    end_leftovers,
    kill_process,
)
from launcher.queue.workers.attempt_spec import read_attempt_spec
from launcher.queue.workers.fork_server_pool import CannotStartWorker, ForkServerPool
from launcher.system.environment import SITE_VARIABLE, with_site_changes
from launcher.system.files import read_bytes
from launcher.system.processes import Identity
from launcher.system.units import exponential_backoff_s

ATTEMPT_SPEC_TIMEOUT_S = 60.0  # a network file system may show the paths of a specification later
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 1.0  # seconds between two checks for the specification
NO_SUPERVISOR = Identity(pid=0, start_ticks=0, boot="")
RETIRE_EVERY_S = 60.0  # seconds between two checks for unused fork servers

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class _WaitingAttempt:
    """An attempt without a supervisor."""

    attempt: Attempt
    since: float  # monotonic
    retry_at: float = 0.0  # the attempt's specification is not read again before this time
    failed_reads: int = 0
    environment: WorkerEnvironment | None = (
        None  # environment of the attempt's worker; None: its specification is not read yet
    )
    on_gpu: bool = False


class NodeAttempts:
    """All that a pilot was ordered to run; each attempt once."""

    def __init__(self, home: Home, folder: PilotFolder, cpus: int) -> None:
        """Begin with none.

        Args:
            home: the node's, for fork servers.
            folder: the pilot's.
            cpus: number of idle supervisors that are kept.
        """
        self._home, self._folder = home, folder
        self._pool = ForkServerPool(home, most_idle=cpus, on_start_failure=_log_start_failure)
        self._waiting: dict[str, _WaitingAttempt] = {}  # attempts in the order of their commands
        self._running: dict[str, AttemptHandle] = {}
        self._on_gpu: set[str] = set()  # names of attempts
        self._known: set[str] = set()
        self._retired_at = time.monotonic()

    def __bool__(self) -> bool:
        return bool(self._waiting or self._running)

    def __contains__(self, name: str) -> bool:
        return name in self._known

    @property
    def gpu_supervisors(self) -> Mapping[int, str]:
        """Pid of a supervisor → its attempt, of those that run on a GPU."""
        return {
            watch.supervisor.who.pid: name
            for name, watch in self._running.items()
            if name in self._on_gpu and isinstance(watch, SupervisedAttempt)
        }

    def run(self, name: str) -> None:
        """Accept an attempt, unless it is known already, or its name is invalid."""
        with contextlib.suppress(ValueError):
            if name in self._known or attempt_name(*parse_attempt_name(name)) != name:
                return
            self._known.add(name)
            attempt = self._folder.attempt(name)
            self._waiting[name] = _WaitingAttempt(attempt=attempt, since=time.monotonic())

    def refuse(self, name: str, why: str) -> Iterator[PilotMessage]:
        """Never start an attempt; one that is known already is not affected."""
        if name not in self._known:
            self._known.add(name)
            yield AttemptFinished(
                attempt=name, outcome=NeverStarted(at=time.time(), why=why, blamed_on="job")
            )

    def stop(self, name: str) -> Iterator[PilotMessage]:
        """End an attempt; one that has not begun never does."""
        if self._waiting.pop(name, None) is not None:
            yield AttemptFinished(attempt=name, outcome=NeverStarted(at=time.time()))
        if name in self._running:
            self._running[name].stop()

    def kill_one(self, name: str) -> Iterator[PilotMessage]:
        """End an attempt without a grace period."""
        if name in self._running:
            self._running[name].kill()
        yield from self.stop(name)

    def stop_all(self) -> Iterator[PilotMessage]:
        """End all attempts."""
        for name in [*self._waiting, *self._running]:
            yield from self.stop(name)

    def advance(self, readable: Collection[int]) -> Iterator[PilotMessage]:
        """Collect finished attempts, and start supervisors for waiting ones.

        Args:
            readable: the file descriptors that can be read now.
        """
        yield from self._collect_finished(readable)
        self._pool.collect_spawned(readable)
        yield from self._start_waiting()
        now = time.monotonic()
        if now > self._retired_at + RETIRE_EVERY_S:
            self._retired_at = now
            self._pool.retire()

    def descriptors(self) -> Iterator[int]:
        """Return the file descriptors that become readable when an attempt changes."""
        yield from self._pool.descriptors()
        yield from (watch.descriptor for watch in self._running.values() if watch.descriptor >= 0)

    def next_check_s(self, now: float) -> float:
        """Return the seconds until the next check that no event triggers."""
        times = [
            waiting.retry_at if waiting.environment is None else now + LONGEST_PAUSE_S
            for waiting in self._waiting.values()
        ]
        if any(watch.descriptor == NO_DESCRIPTOR for watch in self._running.values()):
            times.append(now + POLL_S)
        return max(0.0, min(times, default=inf) - now)

    def kill(self) -> None:
        """End all that runs, at once and without outcomes: supervisors before their programs."""
        for name, watch in self._running.items():
            self._kill_attempt(name, watch)
        self._waiting.clear()
        self._running.clear()

    def close(self) -> None:
        """Let fork servers and idle supervisors go."""
        self._pool.close()

    def _collect_finished(self, readable: Collection[int]) -> Iterator[PilotMessage]:
        for name, watch in [*self._running.items()]:
            if watch.descriptor >= 0 and watch.descriptor not in readable:
                continue
            news = watch.poll_outcome()
            if news is None:
                continue
            del self._running[name]
            if isinstance(watch, SupervisedAttempt):
                self._pool.give_back(watch.environment, watch.supervisor)
            if isinstance(news, AttemptHandle):
                self._kill_attempt(
                    name, watch
                )  # without its supervisor nobody else would end the program, were we killed
                self._running[name] = news
            else:
                yield AttemptFinished(attempt=name, outcome=news)

    def _kill_attempt(self, name: str, watch: AttemptHandle) -> None:
        """Kill the supervisor of an attempt, so that it records nothing, and then the remaining processes."""
        supervisor = NO_SUPERVISOR
        match watch:
            case SupervisedAttempt(supervisor=handle):
                supervisor = handle.who
                kill_process(supervisor)
            case AdoptedAttempt(claimed=supervisor):
                pass
        with contextlib.suppress(*TRANSIENT_ERRORS):
            end_leftovers(supervisor, self._folder.attempt(name))

    def _start_waiting(self) -> Iterator[PilotMessage]:
        none_left: set[WorkerEnvironment] = set()  # environments without a ready supervisor
        for name, waiting in [*self._waiting.items()]:
            if waiting.environment is None:
                outcome = self._read_spec(waiting)
                if outcome is not None:
                    yield self._record_never_started(name, outcome)
            environment = waiting.environment
            if environment is None or environment in none_left:
                continue
            try:
                supervisor = self._pool.take_supervisor(environment)
            except CannotStartWorker as error:
                yield self._record_never_started(name, error.outcome(time.time()))
                continue
            if supervisor is None:
                none_left.add(environment)
                continue
            del self._waiting[name]
            supervisor.run(waiting.attempt)
            self._running[name] = SupervisedAttempt(
                attempt=waiting.attempt, supervisor=supervisor, environment=environment
            )
            if waiting.on_gpu:
                self._on_gpu.add(name)
            yield AttemptStarted(attempt=name)

    def _record_never_started(self, name: str, outcome: Outcome) -> PilotMessage:
        del self._waiting[name]
        logger.warning("attempt=%s never started: %s", name, outcome)
        return AttemptFinished(attempt=name, outcome=outcome)

    def _read_spec(self, waiting_attempt: _WaitingAttempt) -> Outcome | None:
        """Read a specification. Return the outcome of its attempt if it can never be read."""
        now = time.monotonic()
        if now < waiting_attempt.retry_at:
            return None
        try:
            order = read_attempt_spec(read_bytes(waiting_attempt.attempt.spec))
            environment = worker_environment_of(order.spec, order.context)
            if environment.interpreter:
                owner = order.context.environment
                own_path = with_site_changes(owner, os.environ.get(SITE_VARIABLE, "")).get(
                    "PYTHONPATH", ""
                )
                path = unpack_code(own_path, self._home)
                environment = environment._replace(python_path=path)
        except (OSError, ValueError, RecursionError, zipfile.BadZipFile) as error:
            if now < waiting_attempt.since + ATTEMPT_SPEC_TIMEOUT_S:
                pause_s = exponential_backoff_s(
                    FIRST_PAUSE_S, waiting_attempt.failed_reads, LONGEST_PAUSE_S
                )
                waiting_attempt.retry_at, waiting_attempt.failed_reads = (
                    now + pause_s,
                    waiting_attempt.failed_reads + 1,
                )
                return None
            return NeverStarted(
                at=time.time(), why=f"its node cannot read its files: {error}", blamed_on="job"
            )
        waiting_attempt.environment, waiting_attempt.on_gpu = environment, bool(order.gpus)
        return None


def _log_start_failure(why: str) -> None:
    logger.warning("the node cannot start programs: %s", why)
