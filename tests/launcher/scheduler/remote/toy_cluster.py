"""An engine that does what a test has it do, pilots that say what it has them say, and a clock that it sets."""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import cast

import pytest

from launcher import __version__
from launcher.queue.backends.channel import MessageReader, MessageWriter
from launcher.queue.backends.pilot_folder import PilotFolder, PilotSpec, make_pilot_folder
from launcher.queue.backends.pilot_link import PilotLink
from launcher.queue.backends.pilot_messages import (
    Drain,
    Heartbeat,
    PilotCommand,
    PilotMessage,
    Registered,
    StartAttempt,
    decode_command,
    encode_message,
)
from launcher.queue.backends.pilot_pool import PilotPool
from launcher.queue.backends.pilot_rules import Demand
from launcher.queue.backends.protocol import (
    NO_NODES,
    AllocationEndCause,
    AllocationState,
    Backend,
    EngineError,
    Estimate,
    Observation,
    SubmissionRefused,
)
from launcher.queue.backends.settings import Backends, BackendSettings
from launcher.queue.home.paths import Home
from launcher.system.errors import UsageError

PATIENCE_S = 60.0  # patience of a test for a thread


class ToyClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class ToyLink(PilotLink):
    """A link whose pilot is in the test's hand."""

    def __init__(self, folder: PilotFolder, spec: PilotSpec) -> None:
        super().__init__(folder, spec)
        self.orders: list[PilotCommand] = []

    def send(self, *orders: PilotCommand) -> bool:
        self.orders += orders
        self.is_draining = self.is_draining or any(isinstance(order, Drain) for order in orders)
        return True

    def speak(self, now: float, *troubles: str, version: str = __version__) -> None:
        self.last_message_at = now
        if self.registration is None:
            self.registration = Registered(
                version=version,
                python="python",
                host="host",
                node="n1",
                pid=1,
                boot="boot",
                cpus=1,
                ram=1 << 30,
                troubles=troubles,
            )
        self.heartbeat = Heartbeat(
            number=1 if self.heartbeat is None else self.heartbeat.number + 1
        )


@dataclass
class ToyCluster:
    """An engine. Its queue outlives the schedulers that use it."""

    jobs: dict[str, Observation] = field(default_factory=dict)
    submitted: list[str] = field(default_factory=list)  # every token, whenever it was taken
    cancelled: list[str] = field(default_factory=list)
    questions: int = 0
    nodes: dict[str, str] = field(default_factory=dict)  # token → where it was seen last
    most_alive: int = 0
    refuses: str = ""  # its answer to submissions
    for_good: bool = False  # it says so until a configuration changes
    takes_all_the_same: bool = False  # it takes what it refuses
    mute: str = ""  # its answer to everything except a submission
    keeps: str = ""  # its answer when it is asked to end pilots
    cancels: bool = True  # it ends what it is asked to end
    logs: str = ""
    hidden: set[str] = field(default_factory=set)  # tokens that it forgot
    hangs: threading.Event | None = None  # calls wait for it
    lock: threading.Lock = field(default_factory=threading.Lock)
    entered: list[threading.Event] = field(default_factory=list)  # for which one does or did

    def alive(self) -> list[str]:
        over = {AllocationState.ENDED, AllocationState.UNKNOWN}
        return [token for token, job in self.jobs.items() if job.stage not in over]

    def check(self) -> None:
        """Fail where a pilot was submitted twice."""
        assert len(set(self.submitted)) == len(self.submitted)

    def run(self, *tokens: str, node: str = "n1") -> None:
        for token in tokens:
            self.jobs[token] = Observation(stage=AllocationState.RUNNING, node=node)

    def end(
        self,
        *tokens: str,
        cause: AllocationEndCause = AllocationEndCause.FAILED,
        node_answers: bool = True,
    ) -> None:
        for token in tokens:
            job = self.jobs[token]._replace(stage=AllocationState.ENDED, cause=cause, reason="")
            self.jobs[token] = job._replace(node_answers=node_answers)


class ToyBackend:
    """A scheduler's end of the engine."""

    def __init__(self, cluster: ToyCluster, settings: BackendSettings) -> None:
        self.cluster, self.settings = cluster, settings

    def submit(self, pilots: Sequence[tuple[PilotFolder, PilotSpec]]) -> None:
        self._wait()
        cluster = self.cluster
        if cluster.refuses and not cluster.takes_all_the_same:
            raise (SubmissionRefused if cluster.for_good else EngineError)(cluster.refuses)
        with cluster.lock:
            for folder, _ in pilots:
                cluster.submitted.append(folder.token)
                if folder.spec.exists():  # else it would end at once
                    cluster.jobs[folder.token] = Observation(
                        stage=AllocationState.WAITING, reason="Resources", starts_at=1.7e9
                    )
            cluster.most_alive = max(cluster.most_alive, len(cluster.alive()))
        if cluster.refuses:
            raise EngineError(cluster.refuses)

    def observe(
        self, tokens: Collection[str], nodes: Mapping[str, str] = NO_NODES
    ) -> Mapping[str, Observation]:
        self.cluster.questions += 1
        self.cluster.nodes = dict(nodes)
        self._answer()
        unknown = Observation(stage=AllocationState.UNKNOWN)
        jobs, hidden = self.cluster.jobs, self.cluster.hidden
        return {token: unknown if token in hidden else jobs.get(token, unknown) for token in tokens}

    def cancel(self, tokens: Collection[str]) -> None:
        self._answer()
        if self.cluster.keeps:
            raise EngineError(self.cluster.keeps)
        with self.cluster.lock:
            self.cluster.cancelled += tokens
            for token in tokens:
                if self.cluster.cancels and token in self.cluster.alive():
                    self.cluster.end(token, cause=AllocationEndCause.CANCELLED)

    def collect(self, pilot: PilotFolder) -> str:
        return self.cluster.logs

    def estimate(self, spec: PilotSpec) -> Estimate:
        return Estimate(possible=True)

    def _answer(self) -> None:
        self._wait()
        if self.cluster.mute:
            raise EngineError(self.cluster.mute)

    def _wait(self) -> None:
        if (event := self.cluster.hangs) is not None:
            self.cluster.entered.append(event)
            event.wait(PATIENCE_S)


class World:
    """A home, an engine, a clock, and one scheduler's fleet after another."""

    def __init__(self, place: Path, /, **settings: object) -> None:
        self.home = Home(place / "home")
        self.home.folder.mkdir(exist_ok=True)
        self.clock, self.cluster = ToyClock(), ToyCluster()
        self.wall = 1.7e9
        table = {"name": "toy", "kind": "slurm", "pilots": 3, **settings}
        self.backends = Backends(by_name={"toy": BackendSettings(**table)})  # type: ignore[arg-type]  # of a test's keywords
        self.mistake = ""  # in config.toml
        self.lacks = ""  # why no engine can be made
        self.made: list[BackendSettings] = []
        self.demand: dict[str, Demand] = {}
        self.busy: dict[str, int] = {}
        self.by_token: dict[str, ToyLink] = {}
        self.rung = threading.Event()
        self.fleet = self.new_fleet()

    def new_fleet(self) -> PilotPool:
        """Begin as a scheduler that follows another: whatever that knew is lost."""

        def make(settings: BackendSettings, _: Home) -> Backend:
            self.made.append(settings)
            if self.lacks:
                raise ModuleNotFoundError(self.lacks)
            return ToyBackend(self.cluster, settings)

        def link(folder: PilotFolder, spec: PilotSpec) -> ToyLink:
            old = self.by_token.get(spec.token)
            new = self.by_token[spec.token] = ToyLink(folder, spec)
            if old is not None:  # state in the files
                new.registration, new.heartbeat, new.exit_reason = (
                    old.registration,
                    old.heartbeat,
                    old.exit_reason,
                )
                new.last_message_at, new.orders, new.is_draining = (
                    self.clock.now,
                    old.orders,
                    old.is_draining,
                )
            return new

        self.fleet = PilotPool(
            self.home,
            self.configured,
            self.rung.set,
            self.clock,
            make,
            link=link,
            wall=lambda: self.wall + self.clock.now,
        )
        self.fleet.adopt_recorded_pilots()
        return self.fleet

    def configured(self) -> Backends:
        if self.mistake:
            raise UsageError(self.mistake)
        return self.backends

    def need(self, jobs: int, slots: int = 1) -> None:
        self.demand = {"toy": Demand(jobs=jobs, slots=slots)}

    def turn(self) -> None:
        """Have one turn, and as many as the answers of the engine take."""
        self.clock.now += 0.1
        self.fleet.run_cycle(self.demand, self.busy)
        while self.waits():
            assert self.rung.wait(PATIENCE_S)
            self.rung.clear()
            self.clock.now += 0.1
            self.fleet.run_cycle(self.demand, self.busy)
        self.cluster.check()

    def waits(self) -> bool:
        """Return whether a call to the engine is in progress."""
        return any(group.calls.is_busy for group in self.fleet._groups.values())

    def pass_time(
        self, seconds: float, *, speaking: Collection[str] = (), step_s: float = 0.9
    ) -> None:
        """Let time pass with one cycle per step. The pilots in `speaking` send messages in each step."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now += step_s - 0.1
            self.speak(*speaking)
            self.turn()

    def submitted(self, jobs: int = 1) -> list[str]:
        """Have a pilot submitted for each of so many jobs; return what was, whenever that was."""
        self.need(jobs)
        self.turn()
        return list(self.cluster.submitted)

    def running(self, jobs: int = 1) -> list[str]:
        """Likewise, and have their pilots run, without a word."""
        tokens = self.submitted(jobs)
        self.cluster.run(*tokens)
        return tokens

    def serves(self, jobs: int = 3, *, busy: int = 0) -> list[str]:
        """Have pilots that run and send messages. The first of them has `busy` attempts."""
        tokens = self.running(jobs)
        self.speak(*tokens)
        self.need(0)
        self.turn()
        self.busy = {tokens[0]: busy} if busy else {}
        return tokens

    def speak(self, *tokens: str, **words: str) -> None:
        """Have pilots send a message."""
        for token in tokens:
            self.by_token[token].speak(self.clock.now, **words)

    @property
    def serving(self) -> list[str]:
        """The pilots that get work."""
        return [link.token for link in self.fleet.links]

    @property
    def heard(self) -> list[str]:
        """The pilots to which it listens."""
        return [link.token for link in self.fleet.all_links]

    def ending_s(self, token: str) -> float:
        """For how long all that lives of a pilot that was given up has been ending."""
        return self.fleet.terminating_s(token)

    @property
    def lost(self) -> list[str]:
        """The pilots that were given up."""
        return list(self.fleet.abandoned_pilots())

    def records(self) -> list[str]:
        return sorted(path.stem for path in (self.home.folder / "pilots").glob("launcher-*.json"))

    @property
    def reason(self) -> str:
        return self.fleet.reasons_by_backend().get("toy", "")


def waited_for(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    pause = threading.Event()
    for _ in range(6000):
        if condition():
            return
        pause.wait(0.01)
    pytest.fail("it did not happen within a minute")


# --- the other end of a pilot's two files, in a test's hand


HELLO = Registered(version=__version__, python="", host="n1", pid=1, boot="b", cpus=2, ram=1 << 30)


class Pilot:
    """A pilot that says what a test has it say."""

    def __init__(
        self,
        folder: Path,
        token: str = "lp-1",
        *,
        backend: str = "box",
        lease_s: float | None = None,
        single: bool = False,
    ) -> None:
        self.folder = PilotFolder(folder / token)
        self.spec = PilotSpec(
            token=token,
            backend=backend,
            version=__version__,
            cpus=2,
            lease_s=lease_s,
            single=single,
        )
        make_pilot_folder(self.folder, self.spec)
        self._reader = MessageReader(self.folder.commands_file)

    def link(self) -> PilotLink:
        """The end of a scheduler that has just begun."""
        return PilotLink(self.folder, self.spec)

    def tell(self, *news: PilotMessage) -> None:
        MessageWriter(self.folder.messages_file).append(*map(encode_message, news))

    def runs(self) -> list[int]:
        """The jobs whose first attempts it was sent since the last call, and nothing else."""
        attempts = [order.attempt for order in self.orders() if isinstance(order, StartAttempt)]
        assert all(attempt.endswith("-1") for attempt in attempts)
        return [int(attempt.removesuffix("-1")) for attempt in attempts]

    def orders(self) -> list[PilotCommand | None]:
        """Return the commands sent to it since the last call."""
        return [decode_command(line) for line in self._reader.lines()]


@dataclass
class ToyFleet:
    """Pilots that a test lets live and die."""

    pilots: list[PilotLink] = field(default_factory=list)
    lost: dict[str, str] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    ending: float = inf  # for how long all that lives of lost pilots has been ending
    unreadable: set[str] = field(default_factory=set)
    done: list[str] = field(default_factory=list)  # tokens whose attempts are ended
    # the report of each turn: how much work waits, and where attempts are
    turns: list[tuple[Mapping[str, Demand], Mapping[str, int]]] = field(default_factory=list)

    @property
    def fleet(self) -> PilotPool:
        return cast("PilotPool", self)

    @property
    def links(self) -> Sequence[PilotLink]:
        # as a real one that has not polled since their drain commands
        heard = [link for link in self.all_links if link.token not in self.lost]
        return [link for link in heard if link.registration and not link.registration.troubles]

    @property
    def all_links(self) -> Sequence[PilotLink]:
        return [link for link in self.pilots if link.token not in self.done]

    def abandoned_pilots(self) -> Mapping[str, str]:
        return {token: why for token, why in self.lost.items() if token not in self.done}

    def terminating_s(self, token: str) -> float:
        return self.ending

    def mark_reaped(self, token: str) -> None:
        self.done.append(token)

    def is_unreadable(self, token: str) -> bool:
        return token in self.unreadable

    def reasons_by_backend(self) -> Mapping[str, str]:
        return self.why

    def next_cycle_s(self) -> float:
        return 60.0

    def run_cycle(self, demand: Mapping[str, Demand], busy: Mapping[str, int]) -> None:
        self.turns.append((demand, busy))
