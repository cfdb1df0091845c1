"""The loop: wake, take in what ended, decide, start. One lives per home.

It may die at any instant: what it promised is in the store, what happened is in the attempts'
folders, and the next scheduler goes on from there.
"""

import contextlib
import logging
import os
import select
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from launcher import ram
from launcher.adoption import (
    LOOK_AGAIN_S,
    NO_DESCRIPTOR,
    Adopted,
    Supervised,
    Watch,
    find_out,
    watch,
)
from launcher.errors import StoreError
from launcher.gpu import GpuSnapshot
from launcher.launches import BEING_BORN, Launches
from launcher.nurseries import AHEAD, Nurseries
from launcher.paths import Home
from launcher.policy import Decision, Machine, Running, Start, Waiting, decide
from launcher.records import Stamp, read_json, stamp
from launcher.specs import Breed, Resources
from launcher.states import Done, Lost, Outcome, Void, ending
from launcher.store.rows import Claim, ReadyJob
from launcher.store.store import Store

logger = logging.getLogger(__name__)

IDLE_S = 30.0  # longest sleep; only a vanished home and a set clock need it
POLL_S = 1.0  # while something waits for memory that is not ours to give
LOOK_S = 0.2  # at most so long a wish waits that came without a wake
EXPLAIN_S = 0.5  # at most so often it is put down why jobs wait
REMIND_S = 1.0  # while a program without a supervisor is asked to stop
TROUBLE_S = 1.0  # after a job could not be started or taken in: the disk is full
LEAVE_AFTER_S = 600.0  # a scheduler without jobs leaves; every command that queues starts one


@dataclass(slots=True)
class _Outlook:
    """What is left after a decision."""

    waiting: bool = False  # something could start if there were room
    look_again_s: float = IDLE_S  # at the latest, also when nothing wakes us

    def soon(self, span_s: float) -> None:
        """Look again after `span_s` at the latest."""
        self.look_again_s = min(self.look_again_s, max(0.0, span_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What people ask of the scheduler."""

    gone: bool = False  # the home was deleted, or its database is damaged
    stop: bool = False  # start nothing more
    stop_now: bool = False  # and end what runs
    wishes: Mapping[int, str] = field(default_factory=dict)  # job → what its owner wants of it
    limits: Mapping[str, int] = field(default_factory=dict)  # group → jobs at once


class Scheduler:
    """Everything that one scheduler process knows; all of it can be found again."""

    def __init__(
        self,
        home: Home,
        store: Store,
        *,
        snapshot: Callable[[], Sequence[GpuSnapshot]],
        cpus: int,
        clock: Callable[[], float] = time.time,
        housekeeping: Callable[[], None] = lambda: None,
    ) -> None:
        """Take over a home whose lock this process holds."""
        self._housekeeping = housekeeping
        self._home, self._store, self._snapshot, self._clock = home, store, snapshot, clock
        self._queue = store.scheduling
        self._cpus = cpus
        self._ram = ram.total()
        self._watches: dict[int, Watch] = {}
        self._ended: list[tuple[Claim, Outcome]] = []  # not taken in yet: the disk is full
        self._nurseries = Nurseries(home, most_idle=cpus + AHEAD)
        self._launches = Launches(home, self._queue, self._nurseries, clock)
        self._told: dict[int, float] = {}  # job that was asked to stop → when to insist, monotonic
        self._busy_at = self._explained = time.monotonic()
        self._asked = _Asked()
        self._look_at = 0.0  # when to look at the latest what people ask for, monotonic
        self._next_time: float | None = 0.0  # when a job's time comes that waits for one
        self._poll, self._polled = select.poll(), set[int]()
        self._news: set[int] | None = None  # descriptors that have some; None: look at all
        self.leaving = False
        self._wake = _open_wake(home)

    def leave(self, *_: object) -> None:
        """Go at the next turn; jobs run on, and another scheduler adopts them."""
        self.leaving = True
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake, b".")  # a sleeping poll goes on after a signal

    def is_home(self) -> bool:
        """Tell whether the queue is still here: not deleted, not moved away as damaged."""
        return self._home.database.exists() and not self._home.damage_record.exists()

    def run(self) -> None:
        """Serve until told to leave, stopped, idle for long, or robbed of the home."""
        for claim in self._queue.claims():
            self._adopt(claim)
        self._nurseries.prepare(Breed())
        while not self.leaving:
            try:
                self._look_around()
                if self._asked.gone:
                    break
                outlook = self._turn()
            except (OSError, StoreError, sqlite3.Error) as error:  # a full disk, most of all
                logger.warning("trouble=%r", str(error))
                outlook = _Outlook(waiting=True, look_again_s=TROUBLE_S)
            if self._finished(outlook):
                break
            self._sleep(outlook.look_again_s)
        logger.info("scheduler pid=%d leaves", os.getpid())
        self._nurseries.close()

    def _look_around(self) -> None:
        """Learn what people ask for: they wake us, so that no turn in a flood of jobs is slower."""
        if time.monotonic() < self._look_at:
            return
        stop = read_json(self._home.stop)
        self._asked = _Asked(
            gone=not self.is_home(),
            stop=stop is not None or self._home.stop.exists(),
            stop_now=bool(stop and stop.get("now")),
            wishes=self._queue.wishes(),
            limits=self._queue.limits(),
        )
        self._nurseries.retire()
        self._housekeeping()
        self._next_time = 0.0
        self._look_at = time.monotonic() + LOOK_S

    def _turn(self) -> _Outlook:
        self._nurseries.births(self._news)
        self._take_in()
        outlook = _Outlook()
        ended = list(self._ended)
        stamps = [_outputs(*one) for one in ended]  # before: a slow disk must not lock the queue
        try:
            with self._one_transaction(bool(ended)):
                states = [
                    self._queue.finish(claim, outcome, outputs=outputs, now=self._clock())
                    for (claim, outcome), outputs in zip(ended, stamps, strict=True)
                ]
                reasons = self._decide(outlook)
        except BaseException:
            self._launches.undo()
            raise
        del self._ended[: len(ended)]
        self._launches.commit()
        for (claim, outcome), state in zip(ended, states, strict=True):
            told = (claim.job, claim.number, state, ending(outcome))
            logger.info("job=%d attempt=%d state=%s ending=%s", *told)
        try:
            for one in self._launches.go():
                self._watches[one.claim.job] = one
        except OSError as error:  # what must never run twice waits until its claim is on the disk
            logger.warning("trouble=%r", str(error))
            outlook.soon(TROUBLE_S)
        for claim, why in self._launches.hopeless():
            self._follow(claim, find_out(claim, partial(self._unstarted, claim, why)))
        if self._ended:
            outlook.soon(0)
        self._obey(outlook)
        self._explain(reasons, outlook)
        return outlook

    def _one_transaction(self, needed: bool) -> contextlib.AbstractContextManager[None]:
        """Return a transaction for all that ends and starts, none where nothing does.

        Were each claim one of its own, an error after the first would leave that without a launch.
        """
        return self._store.writing() if needed else contextlib.nullcontext()

    # --- what ended

    def _adopt(self, claim: Claim) -> None:
        """Find out how far an attempt came that another scheduler claimed."""
        attempt = self._home.attempt(claim.job, claim.number)
        self._follow(claim, find_out(claim, partial(watch, claim, attempt)))

    def _unstarted(self, claim: Claim, why: str) -> Outcome | Watch:
        """Void an attempt that nobody can be found to start; it is lost, then."""
        found = watch(claim, self._home.attempt(claim.job, claim.number))
        return Lost(at=self._clock(), why=why) if isinstance(found, Void) else found

    def _follow(self, claim: Claim, found: Outcome | Watch) -> None:
        if isinstance(found, Outcome):
            self._ended.append((claim, found))
            return
        self._watches[claim.job] = found
        if isinstance(found, Adopted):
            logger.info("job=%d attempt=%d adopted", claim.job, claim.number)

    def _take_in(self) -> None:
        for job, one in list(self._watches.items()):
            if self._news is not None and one.descriptor not in {NO_DESCRIPTOR, *self._news}:
                continue
            news = one.ending()
            if news is None:
                continue
            self._next_time = 0.0  # a failure may have begun a pause
            del self._watches[job]
            self._told.pop(job, None)
            if isinstance(one, Supervised):
                self._nurseries.give_back(one.breed, one.supervisor)
            self._follow(one.claim, news)

    # --- what people asked for

    def _obey(self, outlook: _Outlook) -> None:
        """Ask attempts to stop where somebody wants that, and insist where nobody else does."""
        for job, one in self._watches.items():
            if job in self._told:
                if time.monotonic() >= self._told[job]:
                    one.insist()
            elif self._asked.stop_now or job in self._asked.wishes:
                self._told[job] = time.monotonic() + one.claim.spec.terms.grace_s
                one.stop()
        if any(isinstance(self._watches[job], Adopted) for job in self._told):
            outlook.soon(REMIND_S)
        if any(one.descriptor == NO_DESCRIPTOR for one in self._watches.values()):
            outlook.soon(LOOK_AGAIN_S)

    # --- what starts

    def _decide(self, outlook: _Outlook) -> dict[int, str]:
        """Claim what fits, to be launched once that is committed.

        Returns why the first job of each lane does not start, '' where it does.
        """
        now = self._clock()
        if self._next_time is not None and now >= self._next_time:
            self._next_time = self._queue.let_go(now)
        if self._next_time is not None:
            outlook.waiting = True
            outlook.soon(self._next_time - now)
        ready = [] if self._asked.stop else self._queue.ready(self._cpus)
        if not ready:
            return {}
        watch_gpus = any(_may_need_gpu(one.lane.resources) for one in ready)
        watch_ram = any(one.lane.resources.ram is not None for one in ready)
        decisions = decide(
            [
                Waiting(job=one.id, resources=one.lane.resources, group=one.lane.group)
                for one in ready
            ],
            self._promised(),
            Machine(
                cpus=self._cpus,
                ram=self._ram,
                ram_free=ram.available() if watch_ram else 0,
                gpus=tuple(self._snapshot()) if watch_gpus else (),
                limits=self._asked.limits,
            ),
        )
        with self._one_transaction(any(isinstance(one, Start) for one in decisions)):
            reasons = self._act(ready, decisions)
        outlook.waiting = outlook.waiting or any(reasons.values())
        if BEING_BORN in reasons.values():
            outlook.soon(TROUBLE_S)  # a birth wakes us, one that is put off does not
        if outlook.waiting and (watch_gpus or watch_ram):
            outlook.soon(POLL_S)  # room may come without a wake: memory that others give back
        return reasons

    def _act(self, ready: Sequence[ReadyJob], decisions: Sequence[Decision]) -> dict[int, str]:
        """Claim what starts; return why the first job of each lane does not, '' where it does."""
        reasons = {one.lane_id: "" for one in ready}
        for job, decision in zip(ready, decisions, strict=True):
            if isinstance(decision, Start):
                why = self._launches.claim(job, decision)
            else:
                why = decision.reason
            reasons[job.lane_id] = reasons[job.lane_id] or why
        return reasons

    def _explain(self, reasons: dict[int, str], outlook: _Outlook) -> None:
        """Put down why lanes wait; not at every turn, as in a flood of short jobs it never holds."""
        wait_s = self._explained + EXPLAIN_S - time.monotonic()
        if wait_s > 0:
            if any(reasons.values()):
                outlook.soon(wait_s)
            return
        self._explained = time.monotonic()
        self._queue.explain(reasons)

    def _promised(self) -> Iterator[Running]:
        for claim in [*(one.claim for one in self._watches.values()), *self._launches.promised()]:
            spec = claim.spec
            yield Running(
                device=claim.device,
                cpus=claim.cpus,
                ram=spec.resources.ram or 0,
                group=spec.terms.group,
            )

    # --- when to sleep and when to go

    def _finished(self, outlook: _Outlook) -> bool:
        now = time.monotonic()
        if self._asked.stop:
            return not (self._watches or self._ended or any(self._launches.promised()))
        if outlook.waiting or self._watches or self._ended or any(self._launches.promised()):
            self._busy_at = now
        return now - self._busy_at > LEAVE_AFTER_S

    def _sleep(self, timeout_s: float) -> None:
        here = {self._wake, *self._nurseries.descriptors()}
        here.update(one.descriptor for one in self._watches.values())
        here.discard(NO_DESCRIPTOR)
        for gone in self._polled - here:
            self._poll.unregister(gone)
        for new in here - self._polled:
            self._poll.register(new, select.POLLIN)
        self._polled = here
        self._news = {descriptor for descriptor, _ in self._poll.poll(timeout_s * 1000)}
        if self._wake in self._news:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, 4096)
        if not self._news or self._wake in self._news:
            self._look_at = 0.0


def _outputs(claim: Claim, outcome: Outcome) -> dict[str, Stamp]:
    """Return size and time of what a done job has written."""
    paths = claim.spec.outputs if isinstance(outcome, Done) else ()
    return {path: found for path in paths if (found := stamp(path)) is not None}


def _open_wake(home: Home) -> int:
    with contextlib.suppress(FileExistsError):
        os.mkfifo(home.wake, 0o600)
    # read-write: without a writer of our own the pipe would be at its end all the time
    return os.open(home.wake, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def _may_need_gpu(resources: Resources) -> bool:
    return resources.device != "cpu" and (
        resources.accelerated or resources.min_vram is not None or resources.device != "auto"
    )
