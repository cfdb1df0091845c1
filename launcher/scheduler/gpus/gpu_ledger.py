"""What our attempts have reserved on GPUs, and what they take there: as the driver reports it, else as workers do.

From it come the place of an attempt as the policy sees it, what schedulers of other homes read of a job, and how much
of its GPUs an attempt is told that it may take; that is sent again only where it has changed.
"""

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import fsum
from types import MappingProxyType
from typing import NamedTuple

from launcher.gpu.monitor import NO_SIGHT, Ours, Sight
from launcher.gpu.reservations import Reservation
from launcher.gpu.snapshot import ALONE, JOBS, MEMORY, GpuSnapshot, core_resource, resource
from launcher.job import Resources
from launcher.scheduler.gpus.memory_growth import MemoryGrowth, read_growth
from launcher.scheduler.gpus.shared_time import SharedTime
from launcher.scheduler.policy.co_location import UNKNOWN_LOAD, Load, load_of
from launcher.scheduler.policy.model import UNKNOWN, Running, Start, forecast_of_running
from launcher.scheduler.policy.vram_request import settled_request, vram_request_of
from launcher.signatures import is_exact, numbers_of
from launcher.states import EndCause
from launcher.store.rows import Claim
from launcher.store.usage import (
    MOST_PEAK,
    NO_USAGE,
    Measured,
    Numbers,
    Similar,
    Usage,
    UsageOf,
    program_by,
    similar_key,
)
from launcher.system.files import Json
from launcher.system.gpu_sharing import UNKNOWN_PART, Rules
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
    growth: MemoryGrowth | None = None  # of the GPU where it uses most; None: no look yet
    estimate: int | None = None  # bytes that are reserved for it, where that follows its use
    settled: int | None = None  # bytes that count for similar jobs; None: its use may still grow
    others: dict[str, int] = field(default_factory=dict)  # what all others took, at the newest look
    before: dict[str, int] = field(default_factory=dict)  # likewise, at the look before

    @property
    def used(self) -> dict[str, int]:
        """What is known of it, by GPU."""
        return self.by_driver | self.reported


def _context(report: Report, used: int | None) -> int | None:
    """Return what CUDA takes beside the allocator: what the worker knows, else the difference; None: unknown."""
    if report.context is not None:
        return report.context
    if used is None or not report.reserved <= used <= report.reserved + LARGEST_CONTEXT:
        return None
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
HIDDEN_S = 10.0  # so long a program may load its libraries before the driver lists it
LONGEST_MEASURING_S = (
    60.0  # an attempt is looked at more often for so long, until it has been measured
)


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


class SimilarProgram(NamedTuple):
    """By what the jobs are known that are similar to an attempt's."""

    program: str  # '': it is no program
    numbers: Numbers | None
    similar: str


def command_line_of(claim: Claim) -> SimilarProgram:
    """Return by what jobs are similar to an attempt's."""
    signature = claim.spec.signature
    if is_exact(signature):
        return SimilarProgram("", None, similar_key(signature, ""))
    program = program_by(signature, claim.spec.argv)
    return SimilarProgram(program, numbers_of(claim.spec.argv), similar_key(signature, program))


def is_estimated(claim: Claim) -> bool:
    """Return whether what is reserved for an attempt on GPUs follows what it uses."""
    return bool(claim.gpus) and claim.reservation is None and not claim.exclusive


def place_of(
    claim: Claim,
    usage: Usage,
    taken: AttemptMemory | None = None,
    ends: float | None = None,
    *,
    load: Load = UNKNOWN_LOAD,
    line: SimilarProgram | None = None,
) -> Running:
    """Return the place of an attempt that runs: what it takes, and when it may end.

    Args:
        claim: the attempt.
        usage: what was learned of its like.
        taken: what it takes of its GPUs.
        ends: when its program says that it will have ended.
        load: what it does to its GPUs, as far as it was measured.
        line: of its command; None: it is read from its spec.
    """
    spec, taken = claim.spec, taken or AttemptMemory()
    forecast = forecast_of_running(claim, usage, ends)
    reservation, similar, young_s = claim.reservation, "", None
    if estimated := is_estimated(claim):
        line = line or command_line_of(claim)
        exact = is_exact(spec.signature)
        similar = line.similar
        reservation = vram_request_of(None, 0, usage, exact=exact, numbers=line.numbers).amount
        growth = taken.growth
        if growth is not None and growth.is_settled(load.sm):
            reservation = settled_request(growth.steady_used, usage.similar.peaks, reservation)
        elif reservation is None:
            young_s = 0.0 if growth is None else growth.age_s
    return Running(
        job=claim.job,
        cpus=claim.cpus,
        devices=claim.gpus,
        ram=spec.resources.ram or 0,
        group=spec.terms.group,
        reservation=reservation,
        estimated=estimated,
        similar=similar,
        young_s=young_s,
        exclusive=claim.exclusive,
        used=taken.used,
        ends=forecast.end(claim.claimed, claim.claimed),
        since=claim.claimed,
        forecast=forecast,
        demand=load_of(
            usage.expected_sm if load.sm is None else load.sm,
            usage.slowdown if load.slowdown is None else load.slowdown,
            measured=load.measured,
            steps=load.steps,
        ),
        run=str(claim.run),
    )


def paused(run: Running) -> Running:
    """Return the place of an attempt whose program stands still: nobody knows when it will end."""
    return run._replace(ends=None, forecast=UNKNOWN)


class Eviction(NamedTuple):
    """Why a running job has to leave its GPU."""

    why: str
    cause: EndCause = EndCause.GPU_FAULT
    vram_request: int | None = None  # bytes of each GPU that its next attempt gets


def evacuated(claims: Iterable[Claim], gpus: Iterable[GpuSnapshot]) -> dict[int, Eviction]:
    """Return the jobs of which a GPU has failed, and why: they are ended, and run again elsewhere."""
    faults = {gpu.uuid: f"{gpu.label} {gpu.fault}" for gpu in gpus if gpu.fault}
    failed = ((claim.job, [uuid for uuid in claim.gpus if uuid in faults]) for claim in claims)
    return {job: Eviction(faults[uuids[0]]) for job, uuids in failed if uuids}


class Taken:
    """What the attempts of one machine take of its GPUs, this one or a pilot's, as the newest look saw it."""

    def __init__(
        self,
        report: Callable[[Claim], Report | None],
        ends: ReportedEnds,
        load: Callable[[Claim], Load] = lambda _: UNKNOWN_LOAD,
    ) -> None:
        """Begin with nothing measured.

        Args:
            report: returns what an attempt's worker reports.
            ends: tells when an attempt will have ended by its own word.
            load: returns what an attempt does to its GPUs, as far as it was measured.
        """
        self._report, self._ends, self._load = report, ends, load
        self._lines: dict[tuple[int, int], SimilarProgram] = {}  # of those that run
        self._context = CONTEXT  # what CUDA took most recently beside an allocator
        self._similar: dict[str, Similar] = {}  # what those that run use, by what is similar
        # by job and number, of those on GPUs; also of those that have ended since
        self._of: dict[tuple[int, int], AttemptMemory] = {}

    def enter(
        self,
        claims: Iterable[Claim],
        gpus: Sequence[GpuSnapshot],
        seen: Callable[[Claim], tuple[dict[str, int], Collection[str]]],
        at: float,
    ) -> None:
        """Record what the running attempts take now.

        Args:
            claims: the attempts that run.
            gpus: as the newest look saw them.
            seen: returns what the driver reports of an attempt, in bytes by GPU, and of which of its GPUs it does not.
            at: when they were seen, monotonic seconds.
        """
        before, self._of = self._of, {}
        lines, self._lines = self._lines, {}
        totals = {gpu.uuid: gpu.total for gpu in gpus}
        peaks, loads = defaultdict[str, list[int]](list), defaultdict[str, list[float]](list)
        for claim in claims:
            if not claim.gpus:
                continue
            key, report = claim.key, self._report(claim)
            earlier = before.get(key) or AttemptMemory()
            by_driver, unmeasured = seen(claim)
            taken = AttemptMemory(by_driver, context=self._context, before=earlier.others)
            if report is not None:  # of its worker
                measured = _context(report, max(by_driver.values(), default=None))
                if measured is not None:  # others will need as much
                    taken.context = self._context = measured
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
            taken.estimate = earlier.estimate
            taken.growth = earlier.growth or MemoryGrowth(began=at, steady_since=at)
            taken.growth.look(at, max(taken.used.values(), default=0))
            self._of[key] = taken
            line = self._lines[key] = lines.get(key) or command_line_of(claim)
            load = self._load(claim)
            if load.sm is not None:
                loads[line.similar].append(load.sm)
            unknown = UNKNOWN_PART * max((totals.get(uuid, 0) for uuid in claim.gpus), default=0)
            if taken.growth.is_settled(load.sm) or taken.growth.used > unknown:
                taken.settled = taken.growth.steady_used
                peaks[line.similar].append(taken.settled)
        self._similar = {
            similar: Similar(
                live=tuple(peaks[similar]), sm=fsum(shares) / len(shares) if shares else None
            )
            for similar in {*peaks, *loads}
            for shares in [loads[similar]]
        }

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

    def running(self, claims: Iterable[Claim], usage: UsageOf) -> list[Running]:
        """Return the places of the attempts that run, the oldest first: what they take, when they may end.

        Args:
            claims: the attempts.
            usage: tells what is known of jobs, with what runs now.
        """
        places = []
        for claim in sorted(claims, key=lambda claim: (claim.claimed, claim.job)):
            if not claim.gpus:
                places.append(place_of(claim, NO_USAGE, ends=self._ends.of(claim)))
                continue
            line = self._lines.get(claim.key) or command_line_of(claim)
            known = usage(claim.spec.signature, line.program)
            taken, load = self.of(claim), self._load(claim)
            place = place_of(claim, known, taken, self._ends.of(claim), load=load, line=line)
            taken.estimate = place.reservation if place.estimated else None
            places.append(place)
        return places

    def with_live(self, usage: Usage, signature: str, program: str) -> Usage:
        """Return what is known of jobs, with what similar ones use that run now.

        Args:
            usage: what is on record of them.
            signature: theirs.
            program: that they run.
        """
        live = self._similar.get(similar_key(signature, program)) if signature else None
        if live is None:
            return usage
        stored = usage.similar
        sm = stored.sm if live.sm is None else live.sm
        return usage._replace(similar=stored._replace(live=live.live, sm=sm))

    def measuring(self, claims: Iterable[Claim]) -> bool:
        """Return whether the memory or the load of an attempt is about to become known."""
        for claim in claims:
            if not claim.gpus:
                continue
            growth = self.of(claim).growth
            if growth is None:
                return True
            load = self._load(claim).sm
            if growth.age_s < LONGEST_MEASURING_S and (load is None or not growth.is_settled(load)):
                return True
        return False

    def records(self) -> dict[tuple[int, int], dict[str, Json]]:
        """Return what is known of the attempts that run, by job and number: for the next scheduler, and for screens."""
        return {
            key: {
                "peak": taken.peak,
                "estimate": taken.estimate,
                "settled": taken.settled,
                **taken.growth.record(),
            }
            for key, taken in self._of.items()
            if taken.growth is not None
        }

    def adopt(self, key: tuple[int, int], record: Mapping[str, Json], now: float) -> None:
        """Take over what the scheduler before us knew of an attempt.

        Args:
            key: job and number.
            record: one of `records`; if it cannot be understood, nothing is known.
            now: monotonic seconds.
        """
        growth = read_growth(record, now)
        if growth is not None:
            self._of[key] = AttemptMemory(
                peak=_read_bytes(record.get("peak")),
                growth=growth,
                settled=_read_bytes(record.get("settled")),
            )

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

        The allocator of one with declared memory is limited to its reservation, or to what it takes already where
        that is more: so its growth never ends its neighbour. An estimate limits none, nor does anything where an
        attempt has its GPUs alone.

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
            declared = claim.reservation is not None and claim.spec.resources.min_vram is not None
            if declared and any(beside[uuid] > 1 for uuid in claim.gpus):
                cap = max([claim.reservation or 0, *taken.used.values()])
            limits[claim.key] = (
                VramLimit() if cap is None else VramLimit(cap=cap, context=_steps(taken.context))
            )
        return limits


def _read_bytes(value: Json) -> int | None:
    """Return a number of bytes that another scheduler has written; None if it cannot be one."""
    return value if isinstance(value, int) and 0 < value <= MOST_PEAK else None


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
    estimate: int | None = None,
    mask: int = -1,
    rules: Rules = Rules(),  # noqa: B008  # a frozen value
) -> list[Reservation]:
    """Return what is reserved for a job, as others read it.

    An exclusive reservation is the whole GPU, which keeps away those launchers, too, that know nothing of such jobs.

    Args:
        place: what the job has, or is to have.
        asked: what it asks of the machine.
        totals: the memory of each GPU.
        used: what the job is seen to use of it.
        estimate: bytes that are reserved for it where that follows its use; None: a fixed part of the GPU.
        mask: of the cores that it may be given.
        rules: how large that part is.
    """
    told: list[tuple[str, int, int | None]] = [(core_resource(mask), place.cpus, None)]
    if asked.ram:
        told.append((MEMORY, asked.ram, None))
    for uuid in place.devices if isinstance(place, Start) else place.gpus:
        total = totals.get(uuid, 0)
        size = place.reservation
        if size is None and place.exclusive:
            size = total
        elif size is None:
            size = rules.unknown_bytes(total) if estimate is None else estimate
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
        self._seen = NO_SIGHT
        self._alone: dict[int, int] = {}
        self.shared = SharedTime(home)
        self.taken = Taken(
            lambda claim: read_report(home.attempt(*claim.key)),
            ReportedEnds(home),
            self.shared.load,
        )
        self._named = False  # the driver knows our processes: what it does not list is not there
        self.started: dict[int, int | None] = {}  # job → what was estimated when it started
        self._hidden: set[str] = (
            set()
        )  # GPUs whose driver lists no process although ours work there
        self._pids: dict[int, int] = {}  # our processes at the newest look, and their jobs
        self.foreign_load: dict[str, tuple[float, int]] = {}
        # GPUs that do not report the load of our jobs
        self.unmeasured: frozenset[str] = frozenset()

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

        self.taken.enter(running.values(), sight.gpus, seen, sight.at)
        self.started = {job: size for job, size in self.started.items() if job not in running}
        self._hidden |= {gpu.uuid for gpu in sight.gpus if self._hides_processes(gpu, running)}
        if self._named:
            self._hidden.clear()
        self.unmeasured = frozenset(
            gpu.uuid for gpu in sight.gpus if not gpu.reports_load or gpu.uuid in self._hidden
        )
        self._count_foreign(sight.gpus)
        return True

    def _count_foreign(self, gpus: Iterable[GpuSnapshot]) -> None:
        """Work out how busy processes of others keep each GPU, 0 to 1, and how many of them there are.

        A process of ours that has ended since the look is none of theirs.
        """
        before, self._pids, self.foreign_load = self._pids, {}, {}
        for gpu in gpus:
            load, number = 0.0, 0
            for process in gpu.processes or ():
                job = self._ours.owner(process.pid)
                if job is not None:
                    self._pids[process.pid] = job
                elif process.pid not in before:
                    load, number = load + (process.sm or 0.0), number + 1
            self.foreign_load[gpu.uuid] = load, number

    def memory_is_known(self, gpu: GpuSnapshot) -> bool:
        """Return whether the driver tells of each process on a GPU how much memory it uses."""
        if gpu.processes is None or gpu.uuid in self._hidden:
            return False
        return all(process.used is not None for process in gpu.processes)

    def _hides_processes(self, gpu: GpuSnapshot, running: Mapping[int, Claim]) -> bool:
        """Return whether a driver lists no process on a GPU although a job of ours works there, as in containers."""
        if gpu.processes or not gpu.utilisation:
            return False
        there = (claim for claim in running.values() if gpu.uuid in claim.gpus)
        ages = (growth.age_s for each in there if (growth := self.taken.of(each).growth))
        return max(ages, default=0.0) >= HIDDEN_S

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

    def records(self) -> list[Json]:
        """Return what is known of the attempts that run, for a scheduler that takes over."""
        return [
            {"job": job, "number": number, **record, **self.shared.record((job, number))}
            for (job, number), record in self.taken.records().items()
        ]

    def adopt(self, records: Iterable[Json], now: float) -> None:
        """Take over what the scheduler before us knew of attempts; what cannot be understood is left out.

        Args:
            records: those that it wrote.
            now: monotonic seconds.
        """
        for record in records:
            if not isinstance(record, dict):
                continue
            match record:
                case {"job": int() as job, "number": int() as number}:
                    self.taken.adopt((job, number), record, now)
                    self.shared.adopt((job, number), record, now)

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

    def reservations(
        self,
        claims: Iterable[Claim],
        mask: int = -1,
        rules: Rules = Rules(),  # noqa: B008  # frozen
    ) -> list[Reservation]:
        """Return what others must know of: the running attempts' reservations, with what is in use of them.

        Args:
            claims: the attempts.
            mask: of the cores that they may be given.
            rules: how much is reserved for one of which nothing is known.
        """
        totals = {gpu.uuid: gpu.total for gpu in self._seen.gpus}
        reservations = []
        for claim in claims:
            reservations += reservations_of(
                claim,
                claim.spec.resources,
                totals=totals,
                used=self.taken.of(claim).used,
                estimate=self._published_estimate(claim, rules),
                mask=mask,
                rules=rules,
            )
        return reservations

    def _published_estimate(self, claim: Claim, rules: Rules) -> int | None:
        """Return what others are told to leave to an attempt whose reservation follows its use, in bytes.

        Beyond the part with which every such attempt starts it grows only into half of what is free: the estimates
        of two queues would else be in each other's way on a GPU that has enough for both.
        """
        taken = self.taken.of(claim)
        if taken.growth is None:  # no look has seen it yet
            return self.started.get(claim.job)
        if taken.estimate is None:
            return None
        most = taken.estimate
        for gpu in self._seen.gpus:
            if gpu.uuid in claim.gpus and gpu.used is not None:
                room = taken.used.get(gpu.uuid, 0) + max(0, gpu.total - gpu.used) // 2
                most = min(most, max(room, rules.unknown_bytes(gpu.total)))
        return most


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
