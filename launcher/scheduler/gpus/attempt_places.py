"""The place of an attempt as the policy sees it, and how much of a shared GPU it may take."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from launcher.scheduler.gpus.attempt_memory import AttemptMemory
from launcher.scheduler.policy.co_location import load_of
from launcher.scheduler.policy.model import UNKNOWN, Running, forecast_of
from launcher.store.rows import Claim
from launcher.store.usage import Usage
from launcher.workers.job import VramLimit

CONTEXT_STEP = 64 << 20


def place_of(claim: Claim, usage: Usage, used: Mapping[str, int]) -> Running:
    """Return the place of an attempt that runs: what it takes, and when it may end.

    Args:
        claim: the attempt.
        usage: what was learned of its like.
        used: UUID → bytes that it takes there.
    """
    spec = claim.spec
    forecast = forecast_of(usage.seconds, spec.terms.time_limit_s)
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
    return replace(run, ends=None, forecast=UNKNOWN)


def vram_limits(
    claims: Collection[Claim], memory: Callable[[Claim], AttemptMemory]
) -> dict[tuple[int, int], VramLimit]:
    """Return by job and number how much of its GPUs an attempt may take while it shares one of them.

    Its allocator is limited to its reservation, or to what it takes already where that is more: so
    the growth of one never ends its neighbour. Alone on its GPUs it may take what is there.

    Args:
        claims: the attempts of one machine.
        memory: returns what is known of an attempt.
    """
    beside = Counter(uuid for claim in claims for uuid in claim.gpus)
    limits = {}
    for claim in claims:
        if not claim.gpus:
            continue
        taken = memory(claim)
        cap = None
        if claim.reservation is not None and any(beside[uuid] > 1 for uuid in claim.gpus):
            cap = max(claim.reservation, *taken.used.values(), 0)
        limits[claim.job, claim.number] = (
            VramLimit() if cap is None else VramLimit(cap=cap, context=_steps(taken.context))
        )
    return limits


def _steps(context: int) -> int:
    """Round a context up, so that a worker's limit does not change with each byte."""
    return -(-context // CONTEXT_STEP) * CONTEXT_STEP
