"""The loop: wake, take in what ended, decide, start. One lives per home.

It may die at any instant: what it promised is in the store, what happened is in the attempts'
folders, and the next scheduler goes on from there.
"""

import contextlib
import json
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher import __version__
from launcher.adoption import Watch, ending_of, watch
from launcher.gpu import GpuSnapshot, Nvml
from launcher.handover import start_scheduler
from launcher.nurseries import Nurseries
from launcher.orders import TERM_GRACE_S, Order
from launcher.paths import Home
from launcher.policy import Machine, Running, Start, Wait, Waiting, decide
from launcher.processes import boot_id, identity, lock
from launcher.records import read_json, stamp, write_json
from launcher.specs import Resources
from launcher.states import Done, Lost, Outcome, Void
from launcher.store.rows import Claim, QueuedJob
from launcher.store.store import Store

logger = logging.getLogger(__name__)

LOOK_AHEAD = 200  # queued jobs that one decision looks at
IDLE_S = 30.0  # longest sleep; only a vanished home and other users' GPU memory need it
GPU_POLL_S = 1.0  # while something waits for a GPU
REMIND_S = 1.0  # while a program without a supervisor is asked to stop
START_AGAIN_S = 0.2  # after a job could not be started
LOCK_PATIENCE_S = 1.0  # a predecessor may still be on its way out
LEAVE_AFTER_S = 600.0  # a scheduler without jobs leaves; every command that queues starts one


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outlook:
    """What is left after a decision."""

    waiting: bool  # something could start if there were room
    look_again_s: float  # at the latest, also when nothing wakes us


START_AGAIN = _Outlook(waiting=True, look_again_s=START_AGAIN_S)


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
    ) -> None:
        """Take over a home whose lock this process holds."""
        self._home, self._store, self._snapshot, self._clock = home, store, snapshot, clock
        self._cpus = cpus
        self._watches: dict[int, Watch] = {}
        self._nurseries = Nurseries(home)
        # (job, attempt, lone program) that was asked to stop -> when to insist, monotonic
        self._told: dict[tuple[int, int, int], float] = {}
        self._busy_at = clock()
        self.leaving = False
        self._wake = _open_wake(home)

    def leave(self, *_: object) -> None:
        """Go at the next turn; jobs run on, and another scheduler adopts them."""
        self.leaving = True
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake, b".")  # a sleeping poll goes on after a signal

    def run(self) -> None:
        """Serve until told to leave, stopped, idle for long, or robbed of the home."""
        for claim in self._store.claims():
            self._adopt(claim)
        while not self.leaving and self._home.exists():
            all_live = self._take_births()
            self._take_in()
            reminding = self._obey()
            outlook = self._decide() if all_live else START_AGAIN
            if self._finished(outlook.waiting):
                break
            self._sleep(REMIND_S if reminding else outlook.look_again_s)
        logger.info("scheduler pid=%d leaves", os.getpid())
        self._nurseries.close()

    # --- what ended

    def _adopt(self, claim: Claim, *, no_start: str = "") -> None:
        """Find out how far an attempt came that another scheduler claimed.

        Args:
            claim: the attempt.
            no_start: why nobody could be found to start it, where that is so.
        """
        found = watch(claim, self._home.attempt(claim.job, claim.number))
        if no_start and isinstance(found, Void):
            found = Lost(at=found.at, why=no_start)  # counted, so that it ends some time
        if isinstance(found, Watch):
            self._watches[claim.job] = found
            logger.info("job=%d attempt=%d adopted pid=%d", claim.job, claim.number, found.pid)
        else:
            self._finish(claim, found)

    def _take_in(self) -> None:
        for job, one in list(self._watches.items()):
            if not one.ended():
                continue
            del self._watches[job]
            outcome = ending_of(one)
            if outcome is None:  # the supervisor is gone, its program lives on
                self._adopt(one.claim)
            else:
                self._finish(one.claim, outcome)

    def _finish(self, claim: Claim, outcome: Outcome) -> None:
        paths = claim.spec.outputs if isinstance(outcome, Done) else ()
        outputs = {path: found for path in paths if (found := stamp(path)) is not None}
        state = self._store.finish(claim, outcome, outputs=outputs, now=self._clock())
        self._told = {
            key: at for key, at in self._told.items() if key[:2] != (claim.job, claim.number)
        }
        logger.info(
            "job=%d attempt=%d state=%s outcome=%r", claim.job, claim.number, state, outcome
        )

    # --- what people asked for

    def _obey(self) -> bool:
        """Ask attempts to stop where somebody wants that; tell whether one must be reminded."""
        if not self._watches:
            return False
        stop = read_json(self._home.stop)
        now = bool(stop and stop.get("now"))
        wishes = {claim.job: claim.wish for claim in self._store.claims()} if not now else {}
        for job, one in self._watches.items():
            key = (job, one.claim.number, one.pid)
            if key in self._told:
                if time.monotonic() >= self._told[key]:
                    one.insist()
            elif now or wishes.get(job):
                self._told[key] = time.monotonic() + TERM_GRACE_S
                one.ask_to_stop()
        return any(lone for _, _, lone in self._told)

    # --- what starts

    def _decide(self) -> _Outlook:
        """Start what fits; tell what still waits."""
        ready = [] if self._home.stop.exists() else self._store.ready(LOOK_AHEAD)
        if not ready:
            return _Outlook(waiting=False, look_again_s=IDLE_S)
        watch_gpus = any(_may_need_gpu(_resources(job)) for job in ready)
        decisions = decide(
            [Waiting(job=job.id, resources=_resources(job)) for job in ready],
            [Running(device=claim.device, cpus=claim.cpus) for claim in self._promised()],
            Machine(cpus=self._cpus, gpus=tuple(self._snapshot()) if watch_gpus else ()),
        )
        self._store.note({one.job: one.reason for one in decisions if isinstance(one, Wait)})
        starts = [one for one in decisions if isinstance(one, Start)]
        started = [self._start(one) for one in starts]
        if not all(started):
            return START_AGAIN
        waiting = len(starts) < len(ready)
        # room may come without a wake: memory that others give back
        return _Outlook(
            waiting=waiting, look_again_s=GPU_POLL_S if waiting and watch_gpus else IDLE_S
        )

    def _promised(self) -> Iterator[Claim]:
        yield from (one.claim for one in self._watches.values())
        yield from self._nurseries.promised()

    def _start(self, start: Start) -> bool:
        """Start a job; False when it went back into the queue."""
        claim = self._store.claim(
            start.job,
            boot=boot_id(),
            device=start.device,
            cpus=start.cpus,
            reason=start.reason,
            now=self._clock(),
        )
        if claim is None:
            return True  # its owner cancelled it meanwhile
        attempt = self._home.attempt(claim.job, claim.number)
        order = Order(
            spec=claim.spec,
            context=claim.context,
            number=claim.number,
            device=claim.device,
            cpus=claim.cpus,
        )
        try:
            attempt.folder.mkdir(mode=0o700, parents=True)
            attempt.spec.write_text(json.dumps(order.record()), encoding="utf-8")
        except OSError as error:
            self._finish(claim, Lost(at=self._clock(), why=f"no attempt folder: {error.strerror}"))
            return False
        logger.info("job=%d attempt=%d start reason=%r", claim.job, claim.number, start.reason)
        try:
            self._nurseries.order(claim, order)
        except OSError as error:
            why = f"cannot run {order.context.interpreter}: {error.strerror}"
            self._adopt(claim, no_start=why)
            return False
        return True

    def _take_births(self) -> bool:
        """Watch the supervisors that were forked since; False when a nursery was found dead."""
        all_live = True
        for answer in self._nurseries.answers():
            claim = answer.claim
            if answer.descriptor is None:  # voids it, or finds that it did start after all
                self._adopt(claim, no_start=answer.why)
                all_live = False
            else:
                attempt = self._home.attempt(claim.job, claim.number)
                self._watches[claim.job] = Watch(
                    claim=claim, attempt=attempt, descriptor=answer.descriptor
                )
        return all_live

    # --- when to sleep and when to go

    def _finished(self, waiting: bool) -> bool:
        now = self._clock()
        if waiting or any(self._promised()):
            self._busy_at = now
            return False
        return self._home.stop.exists() or now - self._busy_at > LEAVE_AFTER_S

    def _sleep(self, timeout_s: float) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        for one in self._watches.values():
            poll.register(one.descriptor, select.POLLIN)
        for descriptor in self._nurseries.descriptors():
            poll.register(descriptor, select.POLLIN)
        poll.poll(timeout_s * 1000)
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake, 4096)


def _open_wake(home: Home) -> int:
    with contextlib.suppress(FileExistsError):
        os.mkfifo(home.wake, 0o600)
    # read-write: without a writer of our own the pipe would be at its end all the time
    return os.open(home.wake, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def _resources(job: QueuedJob) -> Resources:
    return Resources(**job.spec["resources"])


def _may_need_gpu(resources: Resources) -> bool:
    return resources.device != "cpu" and (
        resources.accelerated or resources.min_vram is not None or resources.device != "auto"
    )


def main(argv: Sequence[str]) -> int:
    """Take the home's lock and serve; leave at once when another scheduler has it."""
    os.chdir("/")
    os.umask(0o077)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    home = Home(Path(argv[0]))
    deadline = time.monotonic() + LOCK_PATIENCE_S
    held = lock(home.scheduler_lock)
    while held is None and time.monotonic() < deadline:
        time.sleep(0.02)
        held = lock(home.scheduler_lock)
    if held is None:
        return 0
    store = Store(home, durable=False)
    me = identity(os.getpid())
    record = {**(me.record() if me else {}), "version": __version__, "since": time.time()}
    scheduler = Scheduler(home, store, snapshot=Nvml().snapshot, cpus=len(os.sched_getaffinity(0)))
    signal.signal(signal.SIGTERM, scheduler.leave)
    signal.signal(signal.SIGINT, scheduler.leave)
    write_json(home.scheduler_record, record, mode=0o600)
    logger.info("scheduler pid=%d version=%s", os.getpid(), __version__)
    scheduler.run()
    os.close(held)
    # who queued something while we still held the lock took us for a scheduler that stays
    if not scheduler.leaving and home.exists() and not home.stop.exists() and store.ready(1):
        start_scheduler(home)
    store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
