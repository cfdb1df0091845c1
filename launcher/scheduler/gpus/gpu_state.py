"""The scheduler's view of the GPUs: samples of the driver, running attempts, and what other schedulers publish.

Other schedulers publish reservations, waiting jobs and the usage of each user. If they have reserved something in the
meantime, the decisions of the cycle are made again.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any

from launcher.accounts import NO_USE, Use, Wish
from launcher.gpu.gpus_file import GpusFile, attempts_seen
from launcher.gpu.monitor import NO_SIGHT, Lookout, Ours
from launcher.gpu.own_reservations import Reservation, whole
from launcher.gpu.reservation_files import reservations_folder
from launcher.gpu.reservation_watch import NONE, ReservationWatch
from launcher.gpu.reservations import ReservationBoard
from launcher.gpu.resources import MEMORY, ForeignReservation, core_resource
from launcher.gpu.snapshot import GpuSnapshot
from launcher.scheduler.gpus.eviction import Eviction, evacuated
from launcher.scheduler.gpus.gpu_ledger import Ledger, reservations_of
from launcher.scheduler.gpus.memory_shortage import LastingReservations, evictions
from launcher.scheduler.gpus.running_place import is_estimated
from launcher.scheduler.gpus.sent_limits import SentLimits
from launcher.scheduler.policy.decide import decide
from launcher.scheduler.policy.disciplines import OURS, Discipline
from launcher.scheduler.policy.model import Decision, Machine, Running, Start, Wait, Waiting
from launcher.states import ReasonCode
from launcher.store.rows import Claim
from launcher.store.usage import NOT_MEASURED, Measured
from launcher.system.gpu_sharing import Rules
from launcher.system.memory import of_this_process
from launcher.system.paths import Home
from launcher.system.processes import pid_namespace, seconds_since_start
from launcher.workers.started_file import program_of

FOREIGN_S = 0.02  # what others tell is too old to start jobs by then, and is read again
SELDOM = (
    20  # another user may have filled the folder: looks at it take a twentieth of the time at most
)
FLOOD_S = 0.02  # changes of others that follow each other so soon are taken in together

Meter = Callable[[Collection[Claim], Sequence[GpuSnapshot]], Use]
FRESH_S = 3.0  # what was seen before is too old to decide by
UNSEEN = "waiting for the state of the GPUs"
logger = logging.getLogger(__name__)


def _settled(before: Decision, after: Decision) -> Decision:
    """Return a start that still holds now that others have reserved more, else why it waits."""
    if not isinstance(before, Start) or isinstance(after, Wait) or before == after:
        return after if isinstance(before, Start) else before
    if after.devices == before.devices:
        return before
    return Wait(
        job=before.job,
        reason="waiting for a new decision: another scheduler took the place first",
        code=ReasonCode.OUTPACED,
    )


class Accelerators:
    """All that one scheduler knows of GPUs, and its side of the board of reservations; nothing of it need survive it.

    Attributes:
        ledger: what attempts have reserved and take.
        news: another scheduler has told of a change, and only a new look at the GPUs can show it.
        moved: job that has to leave its GPU → why.
    """

    def __init__(
        self,
        home: Home,
        look: Callable[[], Sequence[GpuSnapshot]],
        wake: Callable[[], None],
        *,
        board: ReservationBoard | None = None,
        rules: Callable[[], Rules] = Rules,
        absent: Callable[[], str] = str,
        cores: int = -1,
        meter: Meter = lambda _claims, _gpus: NO_USE,
    ) -> None:
        """Begin without having looked.

        Args:
            home: of the queue.
            look: returns every GPU as it is now; it may hang.
            wake: called in another thread when there is news.
            board: where other users' schedulers tell what they promise; None: where all do.
            rules: how GPUs are shared with them.
            absent: tells why no GPU can be seen, where none can.
            cores: the mask of those that jobs may be given.
            meter: returns what this home has used, and counts the attempts that run now.
        """
        ours, folder = Ours(), reservations_folder(os.environ)
        self._home, self._rules, self._absent = home, rules, absent
        self._lookout = Lookout(look, wake, ours=lambda: ours)
        self.ledger = Ledger(home, ours)
        self._sight = NO_SIGHT
        self._limits = SentLimits(home)
        self._board = board or ReservationBoard(folder, home.folder, quotas=of_this_process())
        self._watch, self._meter, self._cores = ReservationWatch(folder), meter, cores
        self._woken_at, self._deaf_until = -inf, -inf
        self._published: list[Reservation] = []
        self._foreign: tuple[ForeignReservation, ...] = ()
        self._foreign_at, self._foreign_took_s = -inf, 0.0
        self._waits: tuple[int, Wish] | None = None  # the job for which others know that we wait
        self.news = False
        self._file = GpusFile(home)
        self._faults: dict[str, str] = {}
        self._unmeasured: set[str] = set()  # GPUs of which that was logged
        self.moved: dict[int, Eviction] = {}
        self._lasting = LastingReservations()
        self._looked: list[Claim] = []  # attempts that ran at the newest look

    @property
    def gpus(self) -> tuple[GpuSnapshot, ...]:
        """The GPUs of this machine at the newest look."""
        return tuple(self._sight.gpus)

    @property
    def seen(self) -> bool:
        """Whether the GPUs were looked at lately; while the driver hangs, that is known, too."""
        age_s = time.monotonic() - self._sight.at - self._sight.took_s
        return age_s < FRESH_S or (age_s < inf and self._lookout.overdue())

    @property
    def unseen(self) -> str:
        """Why nothing is known of the GPUs yet."""
        trouble = self._lookout.trouble
        return f"{UNSEEN} ({trouble})" if trouble else UNSEEN

    def seen_since(self, at: float) -> bool:
        """Tell whether they were looked at after a time (monotonic)."""
        return self._sight.at > at

    def look(
        self,
        claims: Collection[Claim],
        alone: Mapping[int, int],
        *,
        wanted: bool,
        measuring: bool = False,
    ) -> None:
        """Have the GPUs looked at where that is wanted, and take in what the newest look saw.

        Args:
            claims: the attempts that run.
            alone: pid → job of programs whose supervisors are dead.
            wanted: something runs on a GPU, or waits for one.
            measuring: a job waits until one that has just started is measured.
        """
        self.ledger.know(claims, alone)
        if not wanted or self._lookout.ask(news=self.news, measuring=measuring):
            self.news = False
        self._sight = self._lookout.sight() or NO_SIGHT
        if not self.ledger.enter(self._sight, claims):
            return
        self._note_faults(self._sight.gpus)
        self._note_unmeasured(claims)
        self.read()
        leaving = evacuated(claims, self._sight.gpus)
        keys = {claim.key for claim in claims}
        ended = {uuid for claim in self._looked if claim.key not in keys for uuid in claim.gpus}
        self._looked = [*claims]  # what has ended since the look is still seen as in use
        leaving |= evictions(
            [
                gpu
                for gpu in self._sight.gpus
                if gpu.uuid not in ended and self.ledger.memory_is_known(gpu)
            ],
            [*claims],
            self.ledger.taken,
            self._lasting.look(self._sight.at, self._foreign),
            self.moved,
            now=time.time(),
        )
        for job, eviction in leaving.items():
            if job not in self.moved:
                logger.warning("job=%d stop reason=%r", job, eviction.why)
            self.moved[job] = eviction
        self._show()

    def machine(self, claims: Collection[Claim]) -> dict[str, Any]:
        """Return what a `Machine` tells of GPUs, beside the attempts that run."""
        return {
            "gpus": tuple(
                replace(gpu, reports_load=gpu.uuid not in self.ledger.unmeasured)
                for gpu in self.ledger.taken.gpus(claims, self._sight.gpus)
            ),
            "rules": self._rules(),
            "absent": self._absent(),
            **self.others(claims),
            "idle": self._sight.idle,
            "foreign_load": self.ledger.foreign_load,
        }

    def measured(self, claim: Claim) -> Measured:
        """Return what was seen of an attempt that has ended."""
        if not claim.gpus:
            return NOT_MEASURED
        seen = self.ledger.taken.measured(claim, self._sight.gpus)
        return self.ledger.shared.of(claim)._replace(
            peak=seen.peak, machine=seen.machine, elapsed_s=self._elapsed_s(claim)
        )

    def others_usage(self, claim: Claim) -> dict[str, int]:
        """Return by UUID the most that all others had on an attempt's GPUs lately, if it was seen."""
        return self.ledger.taken.others_usage(claim)

    def _elapsed_s(self, claim: Claim) -> float | None:
        """Return how long ago an attempt's program began, whatever was done to the clock; None: unknown."""
        with contextlib.suppress(OSError, ValueError, RecursionError):
            program = program_of(self._home.attempt(*claim.key))
            return None if program is None else seconds_since_start(program)
        return None

    def machines(self) -> list[str]:
        """Return the fingerprints of this machine's cards, as far as they are known."""
        return [gpu.fingerprint for gpu in self._sight.gpus if gpu.total]

    def tell(self, claims: Collection[Claim]) -> None:
        """Publish our reservations to other users, and send workers their VRAM limits."""
        self.publish(claims)
        if self._board.trouble or self._file.trouble:
            self._show()
        self.ledger.know(claims)  # those about to start are ours, too
        self._limits.send(claims, self.ledger.taken.vram_limits(claims))

    def _note_faults(self, gpus: Sequence[GpuSnapshot]) -> None:
        faults = {gpu.uuid: gpu.fault for gpu in gpus if gpu.fault}
        for gpu in gpus:
            before, now = self._faults.get(gpu.uuid, ""), gpu.fault
            if before != now:
                logger.warning("%s uuid=%s fault=%r before=%r", gpu.label, gpu.uuid, now, before)
                self._file.write_soon()
        self._faults = faults

    def _note_unmeasured(self, claims: Iterable[Claim]) -> None:
        """Log once which GPUs do not report the load of our jobs."""
        used = {uuid for claim in claims for uuid in claim.gpus}
        for gpu in self._sight.gpus:
            if gpu.uuid in used & self.ledger.unmeasured - self._unmeasured:
                logger.info(
                    "%s does not report the load of each job: a fixed number shares it", gpu.label
                )
        self._unmeasured |= used & self.ledger.unmeasured

    def _show(self) -> None:
        self._file.write(self._sight.gpus, self._board.trouble, self.ledger.records())

    # --- what others tell

    @property
    def foreign(self) -> tuple[ForeignReservation, ...]:
        """What other homes have reserved, as read lately: what is new is seen before anything starts."""
        pause_s = max(FOREIGN_S, SELDOM * self._foreign_took_s)
        if time.monotonic() > self._foreign_at + pause_s:
            self.read()
        return self._foreign

    def read(self) -> None:
        """Read what other homes have reserved."""
        began = time.thread_time()  # while others have the core nothing is taken from our jobs
        self._foreign = self._board.others(self._sight.at)
        self._foreign_took_s = time.thread_time() - began
        self._foreign_at = time.monotonic()

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
        return {
            "foreign": foreign,
            "colleagues": self._board.colleagues(),
            "use": self._board.whole_use(),
        }

    @property
    def anybody_waits(self) -> bool:
        """Whether the schedulers of others wait, as read lately."""
        return bool(self._board.colleagues())

    # --- what others are told

    def _count_use(self, claims: Collection[Claim]) -> None:
        counted = [self._with_estimate(claim) for claim in claims]
        self._board.use_is(self._meter(counted, self._sight.gpus))

    def _with_estimate(self, claim: Claim) -> Claim:
        """Return an attempt with what it uses, or is estimated to use, as its reservation."""
        if not is_estimated(claim):
            return claim
        taken = self.ledger.taken.of(claim)
        known = [*taken.used.values(), *filter(None, (taken.estimate,))]
        return replace(claim, reservation=max(known)) if known else claim

    def waits_for(
        self, wish: Wish | None, job: int = 0, present: Container[int] = frozenset()
    ) -> None:
        """Tell others what we wait for; they know it when our reservations are published next.

        Args:
            wish: what; None: nothing, or we leave it to them now.
            job: that waits for it.
            present: the jobs that wait: who leaves his place to others has waited all the same.
        """
        told = self._waits
        if wish is not None:
            since = told[1].since if told is not None and told[0] == job else time.monotonic()
            wish = wish._replace(since=since)
            self._waits = job, wish
        elif told is not None and told[0] not in present:
            self._waits = None
        self._board.wish = wish

    @property
    def wish(self) -> Wish | None:
        """What we wait for, whether others are told so now or not."""
        return None if self._waits is None else self._waits[1]

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
        self.ledger.started |= {start.job: start.estimate for start in starts}
        waiting, running, machine, now = asked
        totals = {gpu.uuid: gpu.total for gpu in machine.gpus}
        resources = {job.job: job.resources for job in waiting}
        reservations = self.ledger.reservations(claims, self._cores, machine.rules)
        for start in starts:
            reservations += reservations_of(
                start,
                resources[start.job],
                totals=totals,
                estimate=start.estimate,
                mask=self._cores,
                rules=machine.rules,
            )
        if not any(decision.devices for decision in starts) and self._board.covers(reservations):
            return decisions
        published = self._board.publish(reservations, {decision.job for decision in starts})
        self._published = []  # once this is settled, something else is published
        earlier = (
            self._board.earlier(self._sight.at) if published else self._board.others(self._sight.at)
        )
        if whole(earlier) <= whole(machine.foreign):
            return decisions
        self._foreign, self._foreign_at = earlier, time.monotonic()
        again = decide(waiting, running, machine._replace(foreign=earlier), now, discipline)
        settled = [
            _settled(decision, other) for decision, other in zip(decisions, again, strict=True)
        ]
        self._board.withdraw({decision.job for decision in settled if isinstance(decision, Wait)})
        return settled

    def publish(self, claims: Collection[Claim]) -> None:
        """Publish the reservations of what runs, where others must read something else."""
        self._count_use(claims)
        reservations = self.ledger.reservations(claims, self._cores, self._rules())
        here = pid_namespace()
        self._board.heads = tuple(replace(claim.supervisor, namespace=here) for claim in claims)
        changed = self._board.measured_change(reservations)
        if changed or self._untold(reservations) or self._board.due():
            self._board.publish(reservations)
            self._published = reservations

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
        self.ledger.adopt(attempts_seen(self._home), time.monotonic())

    def leave(self, claims: Collection[Claim]) -> None:
        """Leave; the reservations of what still runs stay for a successor to take over."""
        if not claims:  # what this home has used lately stays told
            self._board.wish = None
            self._board.publish(())
