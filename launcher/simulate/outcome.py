"""What a replay came to, in a few numbers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

from launcher.simulate.replay import Span
from launcher.simulate.trace import TraceJob
from launcher.system.files import Json

BOUND_S = 10.0  # shorter jobs count as so long in a slowdown
WIDE = 8  # GPUs; on a small machine fewer are many


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one policy made of the jobs; times in seconds."""

    policy: str
    utilisation: float | None  # share of the cards' time in which at least one job ran on them
    wait_mean: float
    wait_p95: float  # 95 % of the jobs waited at most so long
    wait_longest: float
    wait_longest_wide: float | None  # of the jobs that ask for many GPUs; None: there is none
    slowdown: float  # mean bounded slowdown
    turnaround: float  # mean from a job's submission, or the end of what it needs, to its end
    makespan: float  # from the first submission to the last end

    def record(self) -> dict[str, Json]:
        """Return the numbers as JSON."""
        return {
            "policy": self.policy,
            "utilisation": self.utilisation,
            "wait_mean_s": self.wait_mean,
            "wait_p95_s": self.wait_p95,
            "wait_longest_s": self.wait_longest,
            "wait_max_wide_s": self.wait_longest_wide,
            "slowdown_mean": self.slowdown,
            "turnaround_mean_s": self.turnaround,
            "makespan_s": self.makespan,
        }


def wide(cards: int) -> int:
    """Return how many GPUs a wide job asks for at least: a quarter of the machine, 2 to 8."""
    return min(WIDE, max(2, cards // 4))


def measure(policy: str, spans: Sequence[Span], jobs: Sequence[TraceJob], cards: int) -> Outcome:
    """Return what a replay came to; jobs that need no GPU never wait and are left out of waiting.

    The bounded slowdown of a job is (waited + ran) / max(its duration alone, 10 s), at least 1 (Feitelson, "Metrics
    for parallel job scheduling and their convergence", 2001).

    Args:
        policy: its name.
        spans: at least one.
        jobs: that were replayed.
        cards: how many GPUs there were.
    """
    alone = {job.index: job.seconds for job in jobs}
    slowdowns = [
        max(1.0, (span.waited + span.end - span.start) / max(alone[span.job], BOUND_S))
        for span in spans
        if span.cards
    ] or [1.0]
    of_wide = [span.waited for span in spans if len(span.cards) >= wide(cards)]
    waits = sorted(span.waited for span in spans if span.cards) or [0.0]
    makespan = max(span.end for span in spans)
    return Outcome(
        policy=policy,
        utilisation=_busy(spans) / (cards * makespan) if makespan else None,
        wait_mean=sum(waits) / len(waits),
        wait_p95=waits[ceil(0.95 * len(waits)) - 1],
        wait_longest=waits[-1],
        wait_longest_wide=max(of_wide, default=None),
        slowdown=sum(slowdowns) / len(slowdowns),
        turnaround=sum(span.waited + span.end - span.start for span in spans) / len(spans),
        makespan=makespan,
    )


def _busy(spans: Iterable[Span]) -> float:
    """Return for how many seconds cards had at least one job, added up over the cards."""
    until: dict[int, float] = {}
    busy = 0.0
    for span in sorted(spans, key=lambda span: span.start):
        for card in span.cards:
            since = max(span.start, until.get(card, 0.0))
            if span.end > since:
                busy += span.end - since
                until[card] = span.end
    return busy
