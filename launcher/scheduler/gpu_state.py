"""The scheduler's side of the GPUs: it monitors them, and publishes reservations to other users and limits to workers."""

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from dataclasses import replace
from math import inf
from types import MappingProxyType
from typing import Any

from launcher.gpu.colleague import Use, Wish
from launcher.gpu.counted_use import Reservation
from launcher.gpu.monitor import Lookout, Sight
from launcher.gpu.mps import Mps, Service
from launcher.gpu.process_owner import Ours
from launcher.gpu.reservation_watch import NONE, ReservationWatch
from launcher.gpu.reservations import ReservationBoard
from launcher.gpu.resources import MEMORY, ForeignReservation, core_resource
from launcher.gpu.snapshot import GpuSnapshot
from launcher.scheduler.gpu_accounting import Ledger, reservations_of
from launcher.scheduler.gpus_file import GpusFile
from launcher.scheduler.policy.decide import decide, evacuate
from launcher.scheduler.policy.disciplines import OURS, Discipline
from launcher.scheduler.policy.model import Decision, Machine, Running, Start, Wait, Waiting
from launcher.scheduler.sent_limits import SentLimits
from launcher.scheduler.settlement import promised, settled_decision
from launcher.store.rows import Claim
from launcher.store.usage import NOT_MEASURED, Measured
from launcher.system.gpu_sharing import Rules
from launcher.system.paths import Home
from launcher.system.processes import Identity, pid_namespace, seconds_since_start
from launcher.workers.started_file import program_of

FRESH_S = 3.0  # what was seen before is too old to decide by
FOREIGN_S = 0.02  # likewise of what other homes tell, which is read again before anything starts
SELDOM = (
    20  # another user may have filled the folder: looks at it take a twentieth of the time at most
)
FLOOD_S = 0.02  # changes of others that follow each other so soon are taken in together
NOBODY: Mapping[int, int] = MappingProxyType({})
UNSEEN = "the GPUs are being looked at"

logger = logging.getLogger(__name__)


def no_use(_claims: Collection[Claim], _gpus: Sequence[GpuSnapshot]) -> Use:
    """Return that nothing was used, where nobody counts it."""
    return Use()


class Accelerators:
    """All that one scheduler knows of GPUs; nothing of it needs to survive the scheduler."""

    def __init__(
        self,
        home: Home,
        look: Callable[[], Sequence[GpuSnapshot]],
        wake: Callable[[], None],
        *,
        board: ReservationBoard,
        rules: Callable[[], Rules] = Rules,
        absent: Callable[[], str] = str,
        cores: int = -1,
        meter: Callable[[Collection[Claim], Sequence[GpuSnapshot]], Use] = no_use,
        watch: ReservationWatch | None = None,
    ) -> None:
        """Begin without having looked.

        Args:
            home: of the queue.
            look: returns every GPU as it is now; it may hang.
            wake: called in another thread when there is news.
            board: where other users' schedulers tell what they promise.
            rules: how GPUs are shared with them.
            absent: tells why no GPU can be seen, where none can.
            cores: the mask of those that jobs may be given.
            meter: returns what this home has used, and counts the attempts that run now.
            watch: of the folder in which they tell it.
        """
        self._meter = meter
        self._watch = watch or ReservationWatch(None)
        self._woken_at, self._deaf_until = -inf, -inf
        ours = Ours()
        self._cores = cores
        self._home, self._board, self._rules, self._absent = home, board, rules, absent
        self._lookout = Lookout(look, wake, ours=lambda: ours)
        self._ledger = Ledger(home, ours)
        self._mps = Mps(home.mps)
        self._sight: Sight | None = None
        self._limits = SentLimits(home)
        self._published: list[Reservation] = []
        self._foreign: tuple[ForeignReservation, ...] = ()
        self._foreign_at, self._foreign_took_s = -inf, 0.0
        self._file = GpusFile(home)
        self._faults: dict[str, str] = {}
        self.news = False  # another scheduler has told of a change, and only a new look can show it
        self._waits: tuple[int, Wish] | None = None  # the job for which others know that we wait
        self.moved: dict[int, str] = {}  # job that has to leave its GPU → why

    @property
    def seen(self) -> bool:
        """Whether the GPUs were looked at lately; while the driver hangs, that is known, too."""
        if self._sight is None:
            return False
        age_s = time.monotonic() - self._sight.at - self._sight.took_s
        return self._lookout.overdue() or age_s < FRESH_S

    @property
    def unseen(self) -> str:
        """Why nothing is known of the GPUs yet."""
        trouble = self._lookout.trouble
        return f"{UNSEEN} ({trouble})" if trouble else UNSEEN

    def seen_since(self, at: float) -> bool:
        """Tell whether they were looked at after a time (monotonic)."""
        return self._sight is not None and self._sight.at > at

    def look(
        self, claims: Collection[Claim], alone: Mapping[int, int] = NOBODY, *, wanted: bool
    ) -> None:
        """Have the GPUs looked at where that is wanted, and take in what the newest look saw.

        Args:
            claims: the attempts that run.
            alone: pid → job of programs whose supervisors are dead.
            wanted: something runs on a GPU, or waits for one.
        """
        self._ledger.services = self._mps.pids
        self._ledger.know(claims, alone)
        if not wanted or self._lookout.ask(news=self.news):
            self.news = False
        self._sight = self._lookout.sight()
        if not self._ledger.enter(self._sight, claims, alone) or self._sight is None:
            return
        self._note_faults(self._sight.gpus)
        machine = Machine(cpus=0, gpus=self._sight.gpus)
        places = [Running(job=claim.job, cpus=0, devices=claim.gpus) for claim in claims]
        for stop in evacuate(places, machine):
            if stop.job not in self.moved:
                logger.warning("job=%d stop reason=%r", stop.job, stop.reason)
            self.moved[stop.job] = stop.reason
        self._read_others()
        self._show()

    @property
    def foreign(self) -> tuple[ForeignReservation, ...]:
        """What other homes have reserved, as read lately: what is new is seen before anything starts."""
        pause_s = max(FOREIGN_S, SELDOM * self._foreign_took_s)
        if time.monotonic() > self._foreign_at + pause_s:
            self._read_others()
        return self._foreign

    def _read_others(self) -> None:
        began = time.thread_time()  # while others have the core nothing is taken from our jobs
        self._foreign = self._board.others(self._looked_at)
        self._foreign_took_s = time.thread_time() - began
        self._foreign_at = time.monotonic()

    @property
    def _looked_at(self) -> float | None:
        return self._sight.at if self._sight else None

    @property
    def watched(self) -> int:
        """A descriptor that has news when another scheduler tells something else; NONE: not now."""
        return self._watch.descriptor if self.deaf_s <= 0 else NONE

    @property
    def deaf_s(self) -> float:
        """For how many seconds no change of others wakes us: somebody has changed a file again and again."""
        return self._deaf_until - time.monotonic()

    def take_news(self) -> None:
        """Look at once at what other schedulers tell now, if one of them has changed that."""
        now = time.monotonic()
        if now < self._woken_at + FLOOD_S:
            self._deaf_until = now + max(FLOOD_S / 2, SELDOM * self._foreign_took_s)
        self._woken_at = now
        if self._watch.changed(self._board.names):
            self._foreign_at, self.news = -inf, True

    def others(self, claims: Collection[Claim]) -> dict[str, Any]:
        """Return what a `Machine` tells of other users."""
        foreign = self.foreign
        self._count_use(claims)
        use = self._board.whole_use()
        return {
            "foreign": foreign,
            "colleagues": self._board.colleagues(),
            "usage": use.cards,
            "core_usage": use.cores,
            "ram_usage": use.memory,
        }

    def _count_use(self, claims: Collection[Claim]) -> None:
        self._board.use_is(self._meter(claims, self._sight.gpus if self._sight else ()))

    @property
    def anybody_waits(self) -> bool:
        """Whether the schedulers of others wait, as read lately."""
        return bool(self._board.colleagues())

    def waits_for(
        self, wish: Wish | None, job: int = 0, present: Container[int] = frozenset()
    ) -> None:
        """Tell others what we wait for; they know it when our reservations are published next.

        Args:
            wish: what; None: nothing, or we leave it to them now.
            job: that waits for it.
            present: the jobs that wait: who leaves his place to others has waited all the same.
        """
        if wish is None:
            self._board.wish = None
            if self._waits is not None and self._waits[0] not in present:
                self._waits = None
            return
        if self._waits is None or self._waits[0] != job:
            self._waits = (job, replace(wish, since=time.monotonic()))
        since = self._waits[1].since
        self._waits = (job, replace(wish, since=since))
        self._board.wish = self._waits[1]

    @property
    def wish(self) -> Wish | None:
        """What we wait for, whether others are told so now or not."""
        return None if self._waits is None else self._waits[1]

    def machine(self, claims: Collection[Claim]) -> dict[str, Any]:
        """Return what a `Machine` tells of GPUs, beside the attempts that run."""
        return {
            "gpus": self._ledger.gpus(claims, self._sight.gpus) if self._sight else (),
            "rules": self._rules(),
            "absent": self._absent(),
            **self.others(claims),
            "idle": self._sight.idle if self._sight else {},
        }

    def measured(self, claim: Claim) -> Measured:
        """Return what was seen of an attempt that has ended."""
        if not claim.gpus:
            return NOT_MEASURED
        cards = {gpu.uuid: gpu.fingerprint for gpu in (self._sight.gpus if self._sight else ())}
        machine = next((cards[uuid] for uuid in claim.gpus if uuid in cards), "")
        shared_s, slowdown, sm = self._ledger.sharing(claim)
        return Measured(
            peak=self._ledger.peak(claim),
            shared_s=shared_s,
            slowdown=slowdown,
            sm=sm,
            machine=machine,
            elapsed_s=self._elapsed_s(claim),
        )

    def _elapsed_s(self, claim: Claim) -> float | None:
        """Return how long ago an attempt's program began, whatever was done to the clock; None: unknown."""
        with contextlib.suppress(OSError, ValueError, RecursionError):
            program = program_of(self._home.attempt(claim.job, claim.number))
            return None if program is None else seconds_since_start(program)
        return None

    def mps(self, start: Start) -> Service:
        """Return how MPS serves the GPU of a job that is about to start; a daemon is started where that can be.

        A job on several GPUs has none: a daemon serves one, and a program is the client of one.
        """
        if not self._rules().mps or not _may_share(start) or self._sight is None:
            return Service()
        gpu = next((gpu for gpu in self._sight.gpus if gpu.uuid == start.devices[0]), None)
        return Service() if gpu is None else self._mps.serve(gpu)

    @property
    def settling(self) -> bool:
        """Whether a daemon of MPS is to quit, which nothing will wake us for."""
        return self._mps.settling

    def mps_folders(self, claim: Claim) -> tuple[str, str] | None:
        """Return the folders through which an attempt is a client of MPS; None: it is none."""
        lone = len(claim.gpus) != 1 or claim.exclusive or claim.reservation is None
        if lone or not self._rules().mps:
            return None
        return self._mps.folders(claim.gpus[0])

    def machines(self) -> list[str]:
        """Return the fingerprints of this machine's cards, as far as they are known."""
        return [gpu.fingerprint for gpu in (self._sight.gpus if self._sight else ()) if gpu.total]

    @property
    def ledger(self) -> Ledger:
        """What attempts have reserved and take."""
        return self._ledger

    def announce(
        self,
        decisions: list[Decision],
        claims: Collection[Claim],
        asked: tuple[Sequence[Waiting], Sequence[Running], Machine, float],
        discipline: Discipline = OURS,
    ) -> list[Decision]:
        """Publish what is about to start; what other users' schedulers reserved meanwhile stays theirs.

        Args:
            decisions: what was decided.
            claims: the attempts that run.
            asked: of what it was decided, as `decide` takes it.
            discipline: likewise.
        """
        starts = [decision for decision in decisions if isinstance(decision, Start)]
        if not starts:
            return decisions
        if self._waits is not None and any(start.job == self._waits[0] for start in starts):
            self._waits = None
        waiting, running, machine, now = asked
        reservations = [
            *self._ledger.reservations(claims, self._cores),
            *self._fresh(starts, asked),
        ]
        if not any(decision.devices for decision in starts) and self._board.covers(reservations):
            return decisions
        published = self._board.publish(reservations, {decision.job for decision in starts})
        self._published = []  # once this is settled, something else is published
        earlier = (
            self._board.earlier(self._looked_at)
            if published
            else self._board.others(self._looked_at)
        )
        if promised(earlier) <= promised(machine.foreign):
            return decisions
        self._foreign, self._foreign_at = earlier, time.monotonic()
        again = decide(waiting, running, replace(machine, foreign=earlier), now, discipline)
        settled = [
            settled_decision(decision, other)
            for decision, other in zip(decisions, again, strict=True)
        ]
        self._board.withdraw({decision.job for decision in settled if isinstance(decision, Wait)})
        return settled

    def _fresh(
        self,
        starts: Sequence[Start],
        asked: tuple[Sequence[Waiting], Sequence[Running], Machine, float],
    ) -> Iterator[Reservation]:
        """Yield the reservations of jobs that are about to start."""
        totals = {gpu.uuid: gpu.total for gpu in asked[2].gpus}
        resources = {job.job: job.resources for job in asked[0]}
        for start in starts:
            yield from reservations_of(start, resources[start.job], totals=totals, mask=self._cores)

    def tell(self, claims: Collection[Claim]) -> None:
        """Publish our reservations to other users, and send workers their VRAM limits."""
        self._count_use(claims)
        reservations = self._ledger.reservations(claims, self._cores)
        self._board.heads = tuple(map(_head, claims))
        changed = self._board.measured_change(reservations)
        if changed or self._untold(reservations) or self._board.due():
            self._board.publish(reservations)
            self._published = reservations
        if self._board.trouble or self._file.trouble:
            self._show()
        self._ledger.know(claims)  # those about to start are ours, too
        self._mps.keep({uuid for claim in claims for uuid in claim.gpus})
        self._limits.send(claims, self._ledger.vram_limits(claims))

    def _untold(self, reservations: Sequence[Reservation]) -> bool:
        """Tell whether others must read something else: they need not know which job has the cores."""
        counted = {core_resource(self._cores), MEMORY}
        if counted.issuperset(
            reservation.device for reservation in (*reservations, *self._published)
        ):
            return not self._board.tells(reservations)
        return [(reservation.job, reservation.device) for reservation in reservations] != [
            (reservation.job, reservation.device) for reservation in self._published
        ]

    def begin(self) -> None:
        """Clear away what schedulers of our user left that were killed."""
        self._board.remove_abandoned()
        self._mps.adopt()

    def leave(self, claims: Collection[Claim]) -> None:
        """Leave; the reservations of what still runs stay for a successor to take over."""
        if not claims:  # what this home has used lately stays told
            self._board.wish = None
            self._board.publish(())
        self._mps.leave({uuid for claim in claims for uuid in claim.gpus})

    def _note_faults(self, gpus: Sequence[GpuSnapshot]) -> None:
        faults = {gpu.uuid: gpu.fault for gpu in gpus if gpu.fault}
        for gpu in gpus:
            before, now = self._faults.get(gpu.uuid, ""), gpu.fault
            if before != now:
                logger.warning("%s uuid=%s fault=%r before=%r", gpu.label, gpu.uuid, now, before)
                self._file.write_soon()
        self._faults = faults

    def _show(self) -> None:
        self._file.write(self._sight.gpus if self._sight else (), self._board.trouble)


def _may_share(start: Start) -> bool:
    return len(start.devices) == 1 and not start.exclusive and start.reservation is not None


def _head(claim: Claim) -> Identity:
    """Return the supervisor of an attempt."""
    namespace = pid_namespace()
    return Identity(
        pid=claim.pid, start_ticks=claim.start_ticks, boot=claim.boot, namespace=namespace
    )
