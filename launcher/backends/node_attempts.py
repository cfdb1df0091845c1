"""The attempts of a pilot: those that wait for a supervisor, those that run, how each ends.

Where a supervisor is dead, all that is left of its attempt is ended, and judged.
"""

import contextlib
import logging
import os
import time
import zipfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from math import inf

from launcher.backends.node_home import unpacked
from launcher.backends.pilot_folder import PilotFolder, name_of, numbers_of
from launcher.backends.pilot_messages import Began, Ended, News
from launcher.context import WorkerEnvironment, worker_environment_of
from launcher.states import Outcome, Void
from launcher.system.environment import SITE, with_site
from launcher.system.files import read_bytes
from launcher.system.paths import Attempt, Home
from launcher.system.processes import Identity
from launcher.workers.attempt_watch import (
    LOOK_AGAIN_S,
    NO_DESCRIPTOR,
    UNCLEAR,
    Adopted,
    Supervised,
    Watch,
    end_leftovers,
    kill,
)
from launcher.workers.fork_server_pool import ForkServerPool, Unusable
from launcher.workers.order import read_order

ORDER_PATIENCE_S = 60.0  # what an order names may be seen later, on a network file system
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 1.0  # between two looks for it
NOBODY = Identity(pid=0, start_ticks=0, boot="")
RETIRE_S = 60.0  # between two looks for fork servers that nobody uses

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class _Waiting:
    """An attempt without a supervisor."""

    attempt: Attempt
    since: float  # monotonic
    again_at: float = 0.0  # before that its order is not looked for again
    pause_s: float = FIRST_PAUSE_S
    environment: WorkerEnvironment | None = None  # of its worker; None: its order is not read yet
    on_gpu: bool = False


class Attempts:
    """All that a pilot was ordered to run; each attempt once."""

    def __init__(self, home: Home, folder: PilotFolder, cpus: int) -> None:
        """Begin with none.

        Args:
            home: the node's, for fork servers.
            folder: the pilot's.
            cpus: so many supervisors are kept while they are idle.
        """
        self._home, self._folder = home, folder
        self._pool = ForkServerPool(home, most_idle=cpus, lacks=_lacks)
        self._waiting: dict[str, _Waiting] = {}  # in the order of their orders
        self._running: dict[str, Watch] = {}
        self._on_gpu: set[str] = set()  # names of attempts
        self._known: set[str] = set()
        self._retired_at = time.monotonic()

    def __bool__(self) -> bool:
        return bool(self._waiting or self._running)

    def __contains__(self, name: str) -> bool:
        return name in self._known

    @property
    def heads(self) -> Mapping[int, str]:
        """Pid of a supervisor → its attempt, of those that run on a GPU."""
        return {
            watch.supervisor.who.pid: name
            for name, watch in self._running.items()
            if name in self._on_gpu and isinstance(watch, Supervised)
        }

    def run(self, name: str) -> None:
        """Take an attempt, unless it is known, or no attempt has such a name."""
        with contextlib.suppress(ValueError):
            if name in self._known or name_of(*numbers_of(name)) != name:
                return
            self._known.add(name)
            attempt = self._folder.attempt(name)
            self._waiting[name] = _Waiting(attempt=attempt, since=time.monotonic())

    def refuse(self, name: str, why: str) -> Iterator[News]:
        """Never start an attempt; one that is known already is not affected."""
        if name not in self._known:
            self._known.add(name)
            yield Ended(attempt=name, outcome=Void(at=time.time(), why=why, whose="job"))

    def stop(self, name: str) -> Iterator[News]:
        """End an attempt; one that has not begun never does."""
        if self._waiting.pop(name, None) is not None:
            yield Ended(attempt=name, outcome=Void(at=time.time()))
        if name in self._running:
            self._running[name].stop()

    def kill_one(self, name: str) -> Iterator[News]:
        """End an attempt without a grace period."""
        if name in self._running:
            self._running[name].kill()
        yield from self.stop(name)

    def stop_all(self) -> Iterator[News]:
        """End all of them."""
        for name in [*self._waiting, *self._running]:
            yield from self.stop(name)

    def advance(self, readable: Collection[int]) -> Iterator[News]:
        """Take in what ended, and give what waits to supervisors.

        Args:
            readable: the descriptors that have news.
        """
        yield from self._ends(readable)
        self._pool.collect_spawned(readable)
        yield from self._begin()
        now = time.monotonic()
        if now > self._retired_at + RETIRE_S:
            self._retired_at = now
            self._pool.retire()

    def descriptors(self) -> Iterator[int]:
        """Return what becomes readable when there is news."""
        yield from self._pool.descriptors()
        yield from (watch.descriptor for watch in self._running.values() if watch.descriptor >= 0)

    def due_s(self, now: float) -> float:
        """Return how long until something is looked at again that nothing wakes us for."""
        times = [
            waiting.again_at if waiting.environment is None else now + LONGEST_PAUSE_S
            for waiting in self._waiting.values()
        ]
        if any(watch.descriptor == NO_DESCRIPTOR for watch in self._running.values()):
            times.append(now + LOOK_AGAIN_S)
        return max(0.0, min(times, default=inf) - now)

    def kill(self) -> None:
        """End all that runs, at once and without outcomes: supervisors before their programs."""
        for name, watch in self._running.items():
            self._end_now(name, watch)
        self._waiting.clear()
        self._running.clear()

    def close(self) -> None:
        """Let fork servers and idle supervisors go."""
        self._pool.close()

    def _ends(self, readable: Collection[int]) -> Iterator[News]:
        for name, watch in [*self._running.items()]:
            if watch.descriptor >= 0 and watch.descriptor not in readable:
                continue
            news = watch.ending()
            if news is None:
                continue
            del self._running[name]
            if isinstance(watch, Supervised):
                self._pool.give_back(watch.environment, watch.supervisor)
            if isinstance(news, Watch):
                self._end_now(
                    name, watch
                )  # without its supervisor nobody else would, were we killed
                self._running[name] = news
            else:
                yield Ended(attempt=name, outcome=news)

    def _end_now(self, name: str, watch: Watch) -> None:
        """Kill who watches over an attempt, so that it records nothing, and then all that is left of it."""
        supervisor = NOBODY
        match watch:
            case Supervised(supervisor=handle):
                supervisor = handle.who
                kill(supervisor)
            case Adopted(claimed=supervisor):
                pass
        with contextlib.suppress(*UNCLEAR):
            end_leftovers(supervisor, self._folder.attempt(name))

    def _begin(self) -> Iterator[News]:
        none_left: set[WorkerEnvironment] = set()  # of which no supervisor is ready
        for name, waiting in [*self._waiting.items()]:
            if waiting.environment is None:
                outcome = self._read(waiting)
                if outcome is not None:
                    yield self._never(name, outcome)
            environment = waiting.environment
            if environment is None or environment in none_left:
                continue
            try:
                supervisor = self._pool.take(environment)
            except Unusable as error:
                yield self._never(name, error.outcome(time.time()))
                continue
            if supervisor is None:
                none_left.add(environment)
                continue
            del self._waiting[name]
            supervisor.run(waiting.attempt)
            self._running[name] = Supervised(
                attempt=waiting.attempt, supervisor=supervisor, environment=environment
            )
            if waiting.on_gpu:
                self._on_gpu.add(name)
            yield Began(attempt=name)

    def _never(self, name: str, outcome: Outcome) -> News:
        del self._waiting[name]
        logger.warning("attempt=%s never started: %s", name, outcome)
        return Ended(attempt=name, outcome=outcome)

    def _read(self, waiting: _Waiting) -> Outcome | None:
        """Read an order; return how its attempt ends where it can never be read."""
        now = time.monotonic()
        if now < waiting.again_at:
            return None
        try:
            order = read_order(read_bytes(waiting.attempt.spec))
            environment = worker_environment_of(order.spec, order.context)
            if environment.interpreter:
                owner = order.context.environment
                own_path = with_site(owner, os.environ.get(SITE, "")).get("PYTHONPATH", "")
                path = unpacked(own_path, self._home)
                environment = environment._replace(python_path=path)
        except (OSError, ValueError, RecursionError, zipfile.BadZipFile) as error:
            if now < waiting.since + ORDER_PATIENCE_S:
                waiting.again_at = now + waiting.pause_s
                waiting.pause_s = min(2 * waiting.pause_s, LONGEST_PAUSE_S)
                return None
            return Void(at=time.time(), why=f"its node cannot read its files: {error}", whose="job")
        waiting.environment, waiting.on_gpu = environment, bool(order.gpus)
        return None


def _lacks(why: str) -> None:
    logger.warning("the node cannot start programs: %s", why)
