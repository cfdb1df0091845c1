"""The place of a running attempt for the policy: its usage of GPUs and its expected end."""

from dataclasses import dataclass, field
from typing import NamedTuple

from launcher.queue.jobs.signatures import ignored_numbers, is_exact_signature
from launcher.queue.scheduler.gpus.memory_growth import MemoryGrowth
from launcher.queue.scheduler.policy.co_location import UNKNOWN_LOAD, GpuLoad, make_load
from launcher.queue.scheduler.policy.model import UNKNOWN, Running, running_forecast
from launcher.queue.scheduler.policy.vram_request import choose_vram_request, steady_request
from launcher.queue.store.rows import Claim
from launcher.queue.store.usage import Numbers, Usage
from launcher.queue.store.usage_records import program_of_signature, similar_key
from launcher.queue.workers.memory_share import (
    DEFAULT_CONTEXT_BYTES,
)


@dataclass(slots=True)
class AttemptMemory:
    """Usage of each GPU by one attempt, in bytes."""

    by_driver: dict[str, int] = field(default_factory=dict)  # bytes by GPU, at the newest reading
    # by its worker, where the driver does not
    reported: dict[str, int] = field(default_factory=dict)
    context: int = DEFAULT_CONTEXT_BYTES  # memory of CUDA outside the worker's allocator
    peak: int | None = None
    growth: MemoryGrowth | None = None  # growth where usage is highest; None: no reading yet
    # bytes that are reserved for the attempt, where that follows its use
    estimate: int | None = None
    # bytes that count for similar jobs; None: the attempt's use may still grow
    settled: int | None = None
    # usage by all others at the newest reading
    used_by_others: dict[str, int] = field(default_factory=dict)
    # usage by all others at the reading before
    used_by_others_before: dict[str, int] = field(default_factory=dict)

    @property
    def used(self) -> dict[str, int]:
        """Known usage, by GPU."""
        return self.by_driver | self.reported


class SimilarityKey(NamedTuple):
    """By what the jobs are known that are similar to an attempt's."""

    program: str  # '' if it is not a program
    numbers: Numbers | None
    similar: str


def similarity_key_of(claim: Claim) -> SimilarityKey:
    """Return by what jobs are similar to an attempt's."""
    signature = claim.spec.signature
    if is_exact_signature(signature):
        return SimilarityKey("", None, similar_key(signature, ""))
    program = program_of_signature(signature, claim.spec.argv)
    return SimilarityKey(program, ignored_numbers(claim.spec.argv), similar_key(signature, program))


def is_estimated(claim: Claim) -> bool:
    """Return whether what is reserved for an attempt on GPUs follows what it uses."""
    return bool(claim.gpus) and claim.vram is None and not claim.exclusive


def running_of_claim(
    claim: Claim,
    usage: Usage,
    memory: AttemptMemory | None = None,
    ends: float | None = None,
    *,
    load: GpuLoad = UNKNOWN_LOAD,
    similarity: SimilarityKey | None = None,
) -> Running:
    """Return the place of a running attempt: its usage and its expected end.

    Args:
        claim: The attempt.
        usage: Recorded usage of similar jobs.
        memory: Its usage of GPUs.
        ends: End that its program reported.
        load: Its measured load on GPUs, as far as known.
        similarity: Similarity of its command, None to read it from its spec.
    """
    spec, memory = claim.spec, memory or AttemptMemory()
    forecast = running_forecast(claim, usage, ends)
    vram, similar, young_s = claim.vram, "", None
    if estimated := is_estimated(claim):
        similarity = similarity or similarity_key_of(claim)
        exact = is_exact_signature(spec.signature)
        similar = similarity.similar
        vram = choose_vram_request(None, 0, usage, exact=exact, numbers=similarity.numbers).vram
        growth = memory.growth
        if growth is not None and growth.is_steady(load.sm):
            vram = steady_request(growth.steady_used, usage.similar.peaks, vram)
        elif vram is None:
            young_s = 0.0 if growth is None else growth.age_s
    return Running(
        job=claim.job,
        cpus=claim.cpus,
        devices=claim.gpus,
        ram=spec.resources.ram or 0,
        group=spec.terms.group,
        vram=vram,
        estimated=estimated,
        similar=similar,
        unmeasured_s=young_s,
        exclusive=claim.exclusive,
        used=memory.used,
        ends=forecast.end(claim.claimed, claim.claimed),
        since=claim.claimed,
        forecast=forecast,
        load=make_load(
            usage.expected_sm if load.sm is None else load.sm,
            usage.slowdown if load.slowdown is None else load.slowdown,
            is_measured=load.measured,
            steps=load.steps,
        ),
        run=str(claim.run),
    )


def without_expected_end(run: Running) -> Running:
    """Return the place of an attempt whose program is stopped. Its end is unknown."""
    return run._replace(ends=None, forecast=UNKNOWN)
