"""What our attempts have reserved on GPUs, and what they take there: as the driver reports it, else as workers do.

From it come the place of an attempt as the policy sees it, what schedulers of other homes read of a job, and how much
of its GPUs an attempt is told that it may take; that is sent again only where it has changed.
"""

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from launcher.gpu.monitor import NO_SIGHT, Ours, Sight
from launcher.gpu.reservations import Reservation
from launcher.gpu.snapshot import ALONE, JOBS, MEMORY, GpuSnapshot, core_resource, resource
from launcher.job import Resources
from launcher.scheduler.gpus.shared_time import SharedTime
from launcher.scheduler.policy.co_location import load_of
from launcher.scheduler.policy.model import UNKNOWN, Running, Start, forecast_of_running
from launcher.store.rows import Claim
from launcher.store.usage import NO_USAGE, Measured, Usage
from launcher.system.paths import Home
from launcher.workers.attempt_watch import UNCLEAR
from launcher.workers.memory_share import (
    CONTEXT,
    Report,
    VramLimit,
    read_report,
    read_share,
    write_share,
)
from launcher.workers.progress.attempt_progress import newest_step

LARGEST_CONTEXT = 2 << 30


@dataclass(slots=True)
class AttemptMemory:
    """What one attempt takes on each of its GPUs, in bytes."""

    by_driver: dict[str, int] = field(default_factory=dict)  # bytes by GPU, at the newest look
    reported: dict[str, int] = field(
        default_factory=dict
    )  # by its worker, where the driver does not
    context: int = CONTEXT  # what CUDA takes beside the worker's allocator
    peak: int | None = None
    others: dict[str, int] = field(default_factory=dict)  # what all others took, at the newest look
    before: dict[str, int] = field(default_factory=dict)  # likewise, at the look before

    @property
    def used(self) -> dict[str, int]:
        """What is known of it, by GPU."""
        return self.by_driver | self.reported


def _context(report: Report, used: int | None) -> int:
    """Return what CUDA takes beside the allocator: what the worker knows, else the difference."""
    if report.context is not None:
        return report.context
    if used is None or not report.reserved <= used <= report.reserved + LARGEST_CONTEXT:
        return CONTEXT
    return used - report.reserved


def _reserved_on(report: Report, uuid: str, claim: Claim) -> int | None:
    """Return what a worker reports of a GPU, if it is about that one: it names it, or its job has no other."""
    if uuid in report.cards:
        return report.cards[uuid]
    is_about = report.uuid == uuid or (report.uuid is None and len(claim.gpus) == 1)
    return report.reserved if is_about else None


def peak_of(report: Report | None, context: int) -> int | None:
    """Return the most that a worker's process took by its report, with CUDA's part; None: it does not tell."""
    return None if report is None or not report.peak else report.peak + context


def largest(*amounts: int | None) -> int | None:
    """Return the largest of those that are known; None: none is."""
    return max((amount for amount in amounts if amount is not None), default=None)


CONTEXT_STEP = 64 << 20


REPORT_S = (
    10.0  # a program is asked for its progress at most so often, and not before it has run so long
)


class ReportedEnds:
    """When programs say themselves that they will have ended, by their steps and the rate of these."""

    def __init__(self, home: Home, clock: Callable[[], float] = time.time) -> None:
        """Begin without having asked any.

        Args:
            home: where their progress lies.
            clock: seconds since 1970, as they have it.
        """
        self._home, self._clock = home, clock
        self._known: dict[tuple[int, int], tuple[float, float | None]] = {}  # when asked, answer

    def ask(self, claims: Iterable[Claim]) -> None:
        """Read what programs tell; to be called outside a transaction: a slow disk must not lock the queue.

        Args:
            claims: all attempts that run; others are forgotten.
        """
        now, at = self._clock(), time.monotonic()
        known, self._known = self._known, {}
        for claim in claims:
            answer = known.get(claim.key)
            if answer is None or answer[0] <= at - REPORT_S:
                due = now >= claim.claimed + REPORT_S
                answer = (at, self._reported(claim, now)) if due else None
            if answer is not None:
                self._known[claim.key] = answer

    def _reported(self, claim: Claim, now: float) -> float | None:
        try:
            step = newest_step(self._home.attempt(*claim.key))
        except UNCLEAR:  # whatever a program prints, it stops no queue
            return None
        return None if step is None else step.ends(now)

    def of(self, claim: Claim) -> float | None:
        """Return when an attempt will have ended, in seconds since 1970; None: it did not say."""
        _, ends = self._known.get(claim.key, (0.0, None))
        return None if ends is None or ends < self._clock() else ends


def place_of(
    claim: Claim, usage: Usage, used: Mapping[str, int], ends: float | None = None
) -> Running:
    """Return the place of an attempt that runs: what it takes, and when it may end.

    Args:
        claim: the attempt.
        usage: what was learned of its like.
        used: UUID → bytes that it takes there.
        ends: when its program says that it will have ended.
    """
    spec = claim.spec
    forecast = forecast_of_running(claim, usage, ends)
    return Running(
        job=claim.job,
        cpus=claim.cpus,
        devices=claim.gpus,
        ram=spec.resources.ram or 0,
        group=spec.terms.group,
        reservation=claim.reservation,
        exclusive=claim.exclusive or (bool(claim.gpus) and claim.reservation is None),
        used=used,
        ends=forecast.end(claim.claimed, claim.claimed),
        since=claim.claimed,
        forecast=forecast,
        demand=load_of(usage.sm, usage.slowdown),
        run=str(claim.run),
    )


def paused(run: Running) -> Running:
    """Return the place of an attempt whose program stands still: nobody knows when it will end."""
    return run._replace(ends=None, forecast=UNKNOWN)


def evacuated(claims: Iterable[Claim], gpus: Iterable[GpuSnapshot]) -> dict[int, str]:
    """Return the jobs of which a GPU has failed, and why: they are ended, and run again elsewhere."""
    faults = {gpu.uuid: f"{gpu.label} {gpu.fault}" for gpu in gpus if gpu.fault}
    failed = ((claim.job, [uuid for uuid in claim.gpus if uuid in faults]) for claim in claims)
    return {job: faults[uuids[0]] for job, uuids in failed if uuids}


class Taken:
    """What the attempts of one machine take of its GPUs, this one or a pilot's, as the newest look saw it."""

    def __init__(self, report: Callable[[Claim], Report | None], ends: ReportedEnds) -> None:
        """Begin with nothing measured.

        Args:
            report: returns what an attempt's worker reports.
            ends: tells when an attempt will have ended by its own word.
        """
        self._report, self._ends = report, ends
        # by job and number, of those on GPUs; also of those that have ended since
        self._of: dict[tuple[int, int], AttemptMemory] = {}

    def enter(
        self,
        claims: Iterable[Claim],
        gpus: Sequence[GpuSnapshot],
        seen: Callable[[Claim], tuple[dict[str, int], Collection[str]]],
    ) -> None:
        """Record what the running attempts take now.

        Args:
            claims: the attempts that run.
            gpus: as the newest look saw them.
            seen: returns what the driver reports of an attempt, in bytes by GPU, and of which of its GPUs it does not.
        """
        before, self._of = self._of, {}
        for claim in claims:
            if not claim.gpus:
                continue
            key, report = claim.key, self._report(claim)
            earlier = before.get(key) or AttemptMemory()
            by_driver, unmeasured = seen(claim)
            taken = AttemptMemory(by_driver=by_driver, before=earlier.others)
            if report is not None:  # of its worker
                taken.context = _context(report, max(by_driver.values(), default=None))
                taken.reported = {
                    uuid: reserved + taken.context
                    for uuid in unmeasured
                    if (reserved := _reserved_on(report, uuid, claim)) is not None
                }
            taken.others = {
                gpu.uuid: max(0, gpu.used - taken.used.get(gpu.uuid, 0))
                for gpu in gpus
                if gpu.uuid in claim.gpus and gpu.used is not None
            }
            told = peak_of(report, taken.context)
            taken.peak = largest(earlier.peak, *taken.used.values(), told)
            self._of[key] = taken

    def of(self, claim: Claim) -> AttemptMemory:
        """Return what is known of an attempt."""
        return self._of.get(claim.key) or AttemptMemory()

    def gpus(
        self, running: Iterable[Claim], seen: Iterable[GpuSnapshot]
    ) -> tuple[GpuSnapshot, ...]:
        """Return the GPUs without what attempts took that have ended since they were seen."""
        attempts = {claim.key for claim in running}
        gone: Counter[str] = Counter()
        for key, taken in self._of.items():
            if key not in attempts:
                gone.update(taken.by_driver)
        return tuple(
            replace(gpu, used=max(0, gpu.used - gone[gpu.uuid]))
            if gpu.uuid in gone and gpu.used is not None
            else gpu
            for gpu in seen
        )

    def ask_ends(self, claims: Iterable[Claim]) -> None:
        """Read when the attempts that run will have ended by their own word; outside a transaction."""
        self._ends.ask(claims)

    def running(self, claims: Iterable[Claim], usage: Callable[[str], Usage]) -> list[Running]:
        """Return the places of the attempts that run, the oldest first: what they take, when they may end."""
        return [
            place_of(
                claim,
                usage(claim.spec.signature) if claim.gpus else NO_USAGE,
                self.of(claim).used,
                self._ends.of(claim),
            )
            for claim in sorted(claims, key=lambda claim: (claim.claimed, claim.job))
        ]

    def peak(self, claim: Claim) -> int | None:
        """Return the most that an attempt took on one GPU, in bytes; None: not measured.

        A short one may have come and gone between two looks: then its worker's last word counts.
        """
        if not claim.gpus:
            return None
        taken = self.of(claim)
        return largest(taken.peak, peak_of(self._report(claim), taken.context))

    def measured(self, claim: Claim, gpus: Iterable[GpuSnapshot]) -> Measured:
        """Return what is known of an attempt that has ended, and on what card it ran.

        Args:
            claim: the attempt.
            gpus: as the newest look saw them.
        """
        cards = {gpu.uuid: gpu.fingerprint for gpu in gpus if claim.gpus}
        machine = next((cards[uuid] for uuid in claim.gpus if uuid in cards), "")
        return Measured(peak=self.peak(claim), machine=machine)

    def others_usage(self, claim: Claim) -> dict[str, int]:
        """Return by UUID the most that all others had on an attempt's GPUs at the last two looks, if any saw it."""
        taken = self.of(claim)
        return {
            uuid: max(taken.others[uuid], taken.before.get(uuid, 0))
            for uuid in claim.gpus
            if uuid in taken.others
        }

    def vram_limits(self, claims: Collection[Claim]) -> dict[tuple[int, int], VramLimit]:
        """Return by job and number how much of its GPUs an attempt may take while it shares one of them.

        Its allocator is limited to its reservation, or to what it takes already where that is more: so
        the growth of one never ends its neighbour. Alone on its GPUs it may take what is there.

        Args:
            claims: the attempts.
        """
        beside = Counter(uuid for claim in claims for uuid in claim.gpus)
        limits = {}
        for claim in claims:
            if not claim.gpus:
                continue
            taken = self.of(claim)
            cap = None
            if claim.reservation is not None and any(beside[uuid] > 1 for uuid in claim.gpus):
                cap = max(claim.reservation, *taken.used.values(), 0)
            limits[claim.key] = (
                VramLimit() if cap is None else VramLimit(cap=cap, context=_steps(taken.context))
            )
        return limits


def _steps(context: int) -> int:
    """Round a context up, so that a worker's limit does not change with each byte."""
    return -(-context // CONTEXT_STEP) * CONTEXT_STEP


NOTHING: Mapping[str, int] = MappingProxyType({})


def reservations_of(
    place: Start | Claim,
    asked: Resources,
    *,
    totals: Mapping[str, int],
    used: Mapping[str, int] = NOTHING,
    mask: int = -1,
) -> list[Reservation]:
    """Return what is reserved for a job, as others read it.

    A reservation of unknown size is a quarter of the card: all of it would keep others away for days from one of
    which the job takes little, and what it has taken is seen by every home anyhow. An exclusive one
    is the whole card, which keeps away those launchers, too, that know nothing of such jobs.

    Args:
        place: what the job has, or is to have.
        asked: what it asks of the machine.
        totals: the memory of each GPU.
        used: what the job is seen to use of it.
        mask: of the cores that it may be given.
    """
    told: list[tuple[str, int, int | None]] = [(core_resource(mask), place.cpus, None)]
    if asked.ram:
        told.append((MEMORY, asked.ram, None))
    for uuid in place.devices if isinstance(place, Start) else place.gpus:
        total = totals.get(uuid, 0)
        size = total // 4 if place.reservation is None else place.reservation
        if asked.exclusive:
            size = max(total, size)
            told.append((resource(ALONE, uuid), 1, None))
        told += [(uuid, size, used.get(uuid)), (resource(JOBS, uuid), 1, None)]
    return [Reservation(*each, job=place.job) for each in told]


class Ledger:
    """Reservations on the one side, measurements on the other; one per scheduler."""

    def __init__(self, home: Home, ours: Ours) -> None:
        """Begin with nothing measured.

        Args:
            home: where attempts lie, with the reports of their workers.
            ours: gets the supervisors' pids.
        """
        self._ours = ours
        self.taken = Taken(lambda claim: read_report(home.attempt(*claim.key)), ReportedEnds(home))
        self._seen = NO_SIGHT
        self._alone: dict[int, int] = {}
        self.shared = SharedTime(home)
        self._named = False  # the driver knows our processes: what it does not list is not there

    def enter(self, sight: Sight, claims: Iterable[Claim]) -> bool:
        """Record what the running attempts take now; return whether there was a new look.

        Args:
            sight: what was seen of the GPUs.
            claims: the attempts that run.
        """
        if sight.at == self._seen.at:
            return False
        running = {claim.job: claim for claim in claims if claim.gpus}
        self.know(claims)
        self.shared.enter(sight, [*claims], self._ours.owner)
        by_driver = self._driver_usage(sight.gpus, running)
        self._seen = sight

        def seen(claim: Claim) -> tuple[dict[str, int], set[str]]:
            told = by_driver[claim.job]
            used = {uuid: amount for uuid, amount in told.items() if amount is not None}
            return used, {u for u in claim.gpus if u in told or not self._named} - used.keys()

        self.taken.enter(running.values(), sight.gpus, seen)
        return True

    def know(self, claims: Iterable[Claim], alone: Mapping[int, int] | None = None) -> None:
        """Know whose processes are ours, before the next look asks for that.

        Args:
            claims: the attempts that run, and those about to start.
            alone: pid → job of programs whose supervisors are dead; None: as it was.
        """
        if alone is not None:
            self._alone = dict(alone)
        jobs = {claim.job for claim in claims if claim.gpus}
        lone = {pid: job for pid, job in self._alone.items() if job in jobs}
        supervised = jobs - set(lone.values())
        heads = {claim.pid: claim.job for claim in claims if claim.job in supervised}
        self._ours.heads = heads | lone

    def _driver_usage(
        self, gpus: Iterable[GpuSnapshot], running: Mapping[int, Claim]
    ) -> defaultdict[int, dict[str, int | None]]:
        """Return what the driver says of our processes, by job and GPU; None: it knows them, not their memory."""
        used = defaultdict[int, dict[str, int | None]](dict)
        for gpu in gpus:
            for process in gpu.processes or ():
                job = self._ours.owner(process.pid)
                if job is None or job not in running or gpu.uuid not in running[job].gpus:
                    continue
                self._named = True
                there = used[job].get(gpu.uuid, 0)
                if there is None or not process.used:  # in a container some say zero
                    used[job][gpu.uuid] = None
                else:
                    used[job][gpu.uuid] = there + process.used
        return used

    def reservations(self, claims: Iterable[Claim], mask: int = -1) -> list[Reservation]:
        """Return what others must know of: the running attempts' reservations, with what is in use of them.

        Args:
            claims: the attempts.
            mask: of the cores that they may be given.
        """
        totals = {gpu.uuid: gpu.total for gpu in self._seen.gpus}
        reservations = []
        for claim in claims:
            reservations += reservations_of(
                claim,
                claim.spec.resources,
                totals=totals,
                used=self.taken.of(claim).used,
                mask=mask,
            )
        return reservations


logger = logging.getLogger(__name__)


class SentLimits:
    """The VRAM limits that workers know."""

    def __init__(self, home: Home) -> None:
        """Begin without having sent any; a scheduler before us may have."""
        self._home = home
        self._sent: dict[tuple[int, int], VramLimit] = {}  # by job and number of the attempt

    def send(self, claims: Iterable[Claim], limits: Mapping[tuple[int, int], VramLimit]) -> None:
        """Send workers the limits that they do not know yet; what cannot be written is tried again.

        Args:
            claims: the attempts that run.
            limits: of those on GPUs.
        """
        sent = dict(limits)
        for claim in claims:
            key = claim.key
            if key not in limits:
                continue
            attempt, limit = self._home.attempt(*key), limits[key]
            before = self._sent.get(key) or read_share(attempt) or VramLimit()
            if limit != before:
                try:
                    write_share(attempt, cap=limit.cap, context=limit.context)
                except OSError as error:
                    logger.warning("job=%d share trouble=%r", claim.job, str(error))
                    sent[key] = before
        self._sent = sent
