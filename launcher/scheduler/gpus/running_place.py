"""The place of an attempt that runs, as the policy sees it: what it takes of its GPUs, and when it may end."""

from dataclasses import dataclass, field
from typing import NamedTuple

from launcher.scheduler.gpus.memory_growth import MemoryGrowth
from launcher.scheduler.policy.co_location import UNKNOWN_LOAD, Load, load_of
from launcher.scheduler.policy.model import UNKNOWN, Running, forecast_of_running
from launcher.scheduler.policy.vram_request import settled_request, vram_request_of
from launcher.signatures import is_exact, numbers_of
from launcher.store.rows import Claim
from launcher.store.usage import Numbers, Usage
from launcher.store.usage_records import program_by, similar_key
from launcher.workers.memory_share import (
    CONTEXT,
)


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
