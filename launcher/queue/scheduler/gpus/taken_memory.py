"""GPU usage of running attempts, as reported by the driver or otherwise by their workers."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from math import fsum

from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.queue.scheduler.gpus.memory_growth import MemoryGrowth, read_growth
from launcher.queue.scheduler.gpus.reported_ends import ReportedEnds
from launcher.queue.scheduler.gpus.running_place import (
    AttemptMemory,
    SimilarityKey,
    running_of_claim,
    similarity_key_of,
)
from launcher.queue.scheduler.policy.co_location import UNKNOWN_LOAD, GpuLoad
from launcher.queue.scheduler.policy.model import Running
from launcher.queue.store.rows import Claim
from launcher.queue.store.usage import (
    MOST_PEAK,
    NO_USAGE,
    MeasuredUsage,
    SimilarUsage,
    Usage,
    UsageLookup,
)
from launcher.queue.store.usage_records import similar_key
from launcher.queue.workers.memory_share import (
    DEFAULT_CONTEXT_BYTES,
    MemoryReport,
    VramLimit,
)
from launcher.system.files import Json
from launcher.system.gpu_sharing import UNKNOWN_FRACTION

LARGEST_CONTEXT = 2 << 30
CONTEXT_STEP = 64 << 20
LONGEST_MEASURING_S = (
    60.0  # seconds for which readings are more frequent until a new attempt has been measured
)


def _cuda_context(report: MemoryReport, used_bytes: int | None) -> int | None:
    """Return the memory of CUDA outside the allocator, as reported by the worker or as the difference. None if unknown."""
    if report.context is not None:
        return report.context
    if used_bytes is None or not report.reserved <= used_bytes <= report.reserved + LARGEST_CONTEXT:
        return None
    return used_bytes - report.reserved


def _reported_bytes(report: MemoryReport, uuid: str, claim: Claim) -> int | None:
    """Return what a worker reports of a GPU, if it is about that one: it names it, or its job has no other."""
    if uuid in report.cards:
        return report.cards[uuid]
    is_about = report.uuid == uuid or (report.uuid is None and len(claim.gpus) == 1)
    return report.reserved if is_about else None


def reported_peak(report: MemoryReport | None, context: int) -> int | None:
    """Return the peak of a worker's process by its report, with CUDA's part. None if not reported."""
    return None if report is None or not report.peak else report.peak + context


def largest_known(*amounts: int | None) -> int | None:
    """Return the largest known value, None if there is none."""
    return max((amount for amount in amounts if amount is not None), default=None)


class GpuUsageTracker:
    """GPU usage of the attempts on this machine or on one pilot, at the newest reading."""

    def __init__(
        self,
        report: Callable[[Claim], MemoryReport | None],
        ends: ReportedEnds,
        load: Callable[[Claim], GpuLoad] = lambda _: UNKNOWN_LOAD,
    ) -> None:
        """Start without measurements.

        Args:
            report: Returns the report of an attempt's worker.
            ends: Returns the reported end of an attempt.
            load: Returns the measured load of an attempt, as far as known.
        """
        self._report, self._ends, self._load = report, ends, load
        self._similarity_keys: dict[tuple[int, int], SimilarityKey] = {}  # keys of running attempts
        self._context = (
            DEFAULT_CONTEXT_BYTES  # the newest known memory of CUDA outside an allocator
        )
        self._similar: dict[str, SimilarUsage] = {}  # usage of running attempts, by similar key
        # by job and number, of those on GPUs; also of those that have ended since
        self._memory: dict[tuple[int, int], AttemptMemory] = {}

    def record_sample(
        self,
        claims: Iterable[Claim],
        gpus: Sequence[GpuSnapshot],
        driver_usage: Callable[[Claim], tuple[dict[str, int], Collection[str]]],
        timestamp: float,
    ) -> None:
        """Record the usage of the running attempts.

        Args:
            claims: The running attempts.
            gpus: GPUs of the newest reading.
            driver_usage: Returns the driver's values of an attempt, in bytes by GPU, and its GPUs
                without a value.
            timestamp: Time of the reading, monotonic seconds.
        """
        before, self._memory = self._memory, {}
        lines, self._similarity_keys = self._similarity_keys, {}
        totals = {gpu.uuid: gpu.total for gpu in gpus}
        peaks, loads = defaultdict[str, list[int]](list), defaultdict[str, list[float]](list)
        for claim in claims:
            if not claim.gpus:
                continue
            key, report = claim.key, self._report(claim)
            earlier = before.get(key) or AttemptMemory()
            by_driver, unmeasured = driver_usage(claim)
            taken = AttemptMemory(
                by_driver, context=self._context, used_by_others_before=earlier.used_by_others
            )
            if report is not None:  # the worker has written a report
                measured = _cuda_context(report, max(by_driver.values(), default=None))
                if measured is not None:  # others will need as much
                    taken.context = self._context = measured
                taken.reported = {
                    uuid: reserved + taken.context
                    for uuid in unmeasured
                    if (reserved := _reported_bytes(report, uuid, claim)) is not None
                }
            taken.used_by_others = {
                gpu.uuid: max(0, gpu.used - taken.used.get(gpu.uuid, 0))
                for gpu in gpus
                if gpu.uuid in claim.gpus and gpu.used is not None
            }
            told = reported_peak(report, taken.context)
            taken.peak = largest_known(earlier.peak, *taken.used.values(), told)
            taken.estimate = earlier.estimate
            taken.growth = earlier.growth or MemoryGrowth(began=timestamp, steady_since=timestamp)
            taken.growth.add_sample(timestamp, max(taken.used.values(), default=0))
            self._memory[key] = taken
            line = self._similarity_keys[key] = lines.get(key) or similarity_key_of(claim)
            load = self._load(claim)
            if load.sm is not None:
                loads[line.similar].append(load.sm)
            unknown = UNKNOWN_FRACTION * max(
                (totals.get(uuid, 0) for uuid in claim.gpus), default=0
            )
            if taken.growth.is_steady(load.sm) or taken.growth.used > unknown:
                taken.settled = taken.growth.steady_used
                peaks[line.similar].append(taken.settled)
        self._similar = {
            similar: SimilarUsage(
                running_bytes=tuple(peaks[similar]),
                sm=fsum(shares) / len(shares) if shares else None,
            )
            for similar in {*peaks, *loads}
            for shares in [loads[similar]]
        }

    def memory_of(self, claim: Claim) -> AttemptMemory:
        """Return what is known of an attempt."""
        return self._memory.get(claim.key) or AttemptMemory()

    def gpus_without_ended(
        self, running_claims: Iterable[Claim], sampled_gpus: Iterable[GpuSnapshot]
    ) -> tuple[GpuSnapshot, ...]:
        """Return the GPUs without what attempts took that have ended since they were seen."""
        attempts = {claim.key for claim in running_claims}
        gone: Counter[str] = Counter()
        for key, taken in self._memory.items():
            if key not in attempts:
                gone.update(taken.by_driver)
        return tuple(
            replace(gpu, used=max(0, gpu.used - gone[gpu.uuid]))
            if gpu.uuid in gone and gpu.used is not None
            else gpu
            for gpu in sampled_gpus
        )

    def read_reported_ends(self, claims: Iterable[Claim]) -> None:
        """Read when the attempts that run will have ended by their own word; outside a transaction."""
        self._ends.read_ends(claims)

    def running_jobs(self, claims: Iterable[Claim], usage: UsageLookup) -> list[Running]:
        """Return the places of the running attempts, the oldest first: their usage and expected end.

        Args:
            claims: The attempts.
            usage: Returns the recorded usage of jobs, including running ones.
        """
        places = []
        for claim in sorted(claims, key=lambda claim: (claim.claimed, claim.job)):
            if not claim.gpus:
                places.append(running_of_claim(claim, NO_USAGE, ends=self._ends.end_of(claim)))
                continue
            line = self._similarity_keys.get(claim.key) or similarity_key_of(claim)
            known = usage(claim.spec.signature, line.program)
            taken, load = self.memory_of(claim), self._load(claim)
            place = running_of_claim(
                claim, known, taken, self._ends.end_of(claim), load=load, similarity=line
            )
            taken.estimate = place.vram if place.estimated else None
            places.append(place)
        return places

    def add_running_usage(self, usage: Usage, signature: str, program: str) -> Usage:
        """Return the recorded usage of jobs, extended by that of similar running ones.

        Args:
            usage: Their recorded usage.
            signature: Their signature.
            program: Their program.
        """
        live = self._similar.get(similar_key(signature, program)) if signature else None
        if live is None:
            return usage
        stored = usage.similar
        sm = stored.sm if live.sm is None else live.sm
        return usage._replace(similar=stored._replace(running_bytes=live.running_bytes, sm=sm))

    def is_measuring(self, claims: Iterable[Claim]) -> bool:
        """Return whether the memory or the load of an attempt is about to become known."""
        for claim in claims:
            if not claim.gpus:
                continue
            growth = self.memory_of(claim).growth
            if growth is None:
                return True
            load = self._load(claim).sm
            if growth.age_s < LONGEST_MEASURING_S and (load is None or not growth.is_steady(load)):
                return True
        return False

    def records(self) -> dict[tuple[int, int], dict[str, Json]]:
        """Return what is known of the attempts that run, by job and number: for the next scheduler, and for screens."""
        return {
            key: {
                "peak": taken.peak,
                "estimate": taken.estimate,
                "settled": taken.settled,
                **taken.growth.to_json(),
            }
            for key, taken in self._memory.items()
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
            self._memory[key] = AttemptMemory(
                peak=_read_bytes(record.get("peak")),
                growth=growth,
                settled=_read_bytes(record.get("settled")),
            )

    def peak(self, claim: Claim) -> int | None:
        """Return the peak of an attempt on one GPU in bytes, None if not measured.

        A short attempt may start and end between two readings. The last report of its worker counts
        then.
        """
        if not claim.gpus:
            return None
        taken = self.memory_of(claim)
        return largest_known(taken.peak, reported_peak(self._report(claim), taken.context))

    def measured_usage(self, claim: Claim, gpus: Iterable[GpuSnapshot]) -> MeasuredUsage:
        """Return the measurements of an ended attempt, and the type of its GPU.

        Args:
            claim: The attempt.
            gpus: GPUs of the newest reading.
        """
        cards = {gpu.uuid: gpu.fingerprint for gpu in gpus if claim.gpus}
        machine = next((cards[uuid] for uuid in claim.gpus if uuid in cards), "")
        return MeasuredUsage(peak=self.peak(claim), machine=machine)

    def others_usage(self, claim: Claim) -> dict[str, int]:
        """Return by UUID the highest usage of all others on an attempt's GPUs at the last two readings, if known."""
        taken = self.memory_of(claim)
        return {
            uuid: max(taken.used_by_others[uuid], taken.used_by_others_before.get(uuid, 0))
            for uuid in claim.gpus
            if uuid in taken.used_by_others
        }

    def vram_limits(self, claims: Collection[Claim]) -> dict[tuple[int, int], VramLimit]:
        """Return by job and attempt number the VRAM limit of each attempt on GPUs, in bytes per GPU.

        While an attempt with declared memory shares one of its GPUs, its allocator is limited to
        its reservation, or to its current usage if that is more. Its growth then never ends other jobs. An estimate limits no
        attempt, and neither does a declaration if the attempt has its GPUs alone.

        Args:
            claims: The attempts.
        """
        beside = Counter(uuid for claim in claims for uuid in claim.gpus)
        limits = {}
        for claim in claims:
            if not claim.gpus:
                continue
            taken = self.memory_of(claim)
            cap = None
            declared = claim.vram is not None and claim.spec.resources.vram is not None
            if declared and any(beside[uuid] > 1 for uuid in claim.gpus):
                cap = max([claim.vram or 0, *taken.used.values()])
            limits[claim.key] = (
                VramLimit()
                if cap is None
                else VramLimit(cap=cap, context=_round_up_context(taken.context))
            )
        return limits


def _read_bytes(value: Json) -> int | None:
    """Return a number of bytes that another scheduler has written; None if it cannot be one."""
    return value if isinstance(value, int) and 0 < value <= MOST_PEAK else None


def _round_up_context(context: int) -> int:
    """Round a context up, so that a worker's limit does not change with each byte."""
    return -(-context // CONTEXT_STEP) * CONTEXT_STEP
