"""What no schedule can beat: a time before which all jobs cannot have ended.

Valid in a world where jobs share cards, for any order and any placing. It is the largest of:

- The longest chain: no job ends sooner than when it was submitted, and all that it needs ended,
  plus its own duration, as no job runs faster than alone.
- The work: whatever becomes ready at a time t or later has to be done by the cards after t. Of n
  jobs on a card each advances by 1 / slowdown ** (n - 1) seconds in a second, so a card does at most
  n / slowdown ** (n - 1) seconds of work in one, for the best n. A job whose memory leaves
  no room for so many neighbours, were they the smallest of all, counts at the rate of its own
  best company. Where at most two share a card, it is worked out exactly how much of the work
  can be done in pairs: two that take more than half of a card never meet, and each of these
  needs a smaller one that fits beside it.
- The same for the larger cards of a mixed machine alone, and what fits on no smaller one.
- The work when all ends at a time T: a job that becomes ready at r and takes p seconds alone has T - r
  for it, of which it can spend so little in company that it does at most (T - r - p) / (slowdown - 1)
  seconds of its work there. The rest occupies whole cards. T is no bound for long where that leaves
  enough of them: the bound is the T at which it just does.

Left out, so that the bound is lower than need be: a job on several cards needs them at once, and a
job cannot be its own neighbour.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from launcher.simulate.trace import TraceJob

_LOOKS = 400  # times t that are tried; each gives a valid bound
_HALVINGS = 30
_ROUNDING = 1e-9  # of sums


def lower_bound(
    jobs: Sequence[TraceJob], totals: Sequence[int], *, slowdown: float, most: int
) -> float:
    """Return the seconds from the first submission that any schedule takes at least.

    Args:
        jobs: what is replayed; what is needed comes before what needs it.
        totals: the bytes of each card.
        slowdown: how much longer each of two jobs on a card takes.
        most: how many jobs share a card at most.
    """
    ready = _earliest(jobs)
    bounds = [ready[job.index] + job.seconds for job in jobs]
    smaller = -1
    for size in sorted(set(totals)):
        cards = [total for total in totals if total >= size]
        only_here = [job for job in jobs if job.gpus and (job.vram or 0) > smaller]
        for at, work in _from_then_on(only_here, ready):
            busy = _card_seconds(work, work, largest=max(cards), slowdown=slowdown, most=most)
            bounds.append(at + busy / len(cards))
        smaller = size
    bound = max(bounds, default=0.0)
    return _with_haste(jobs, ready, totals, bound, slowdown=slowdown, most=most)


def _with_haste(
    jobs: Sequence[TraceJob],
    ready: Mapping[int, float],
    totals: Sequence[int],
    bound: float,
    *,
    slowdown: float,
    most: int,
) -> float:
    """Return a bound that also counts how little time long jobs have for company."""
    on_cards = [job for job in jobs if job.gpus]
    work = _work(on_cards)

    def too_soon(end: float) -> bool:
        company: dict[int, float] = {}
        for job in on_cards:
            spare = max(0.0, end - ready[job.index] - job.seconds)
            free = spare / (slowdown - 1) if slowdown > 1 else job.seconds
            vram = job.vram or 0
            company[vram] = company.get(vram, 0.0) + job.gpus * min(job.seconds, free)
        largest = max(totals)
        busy = _card_seconds(work, company, largest=largest, slowdown=slowdown, most=most)
        return busy > end * len(totals) * (1 + _ROUNDING)

    if not on_cards or not too_soon(bound):
        return bound
    late = 2 * bound
    while too_soon(late):
        late *= 2
    for _ in range(_HALVINGS):
        middle = (bound + late) / 2
        bound, late = (middle, late) if too_soon(middle) else (bound, middle)
    return bound


def _work(jobs: Iterable[TraceJob]) -> dict[int, float]:
    work: dict[int, float] = {}
    for job in jobs:
        vram = job.vram or 0
        work[vram] = work.get(vram, 0.0) + job.gpus * job.seconds
    return work


def _earliest(jobs: Sequence[TraceJob]) -> dict[int, float]:
    """Return when each job can start at the earliest."""
    ready: dict[int, float] = {}
    ends: dict[int, float] = {}
    for job in jobs:
        ready[job.index] = max([job.submitted, *(ends[need] for need in job.needs)])
        ends[job.index] = ready[job.index] + job.seconds
    return ready


def _from_then_on(
    jobs: Sequence[TraceJob], ready: Mapping[int, float]
) -> Iterator[tuple[float, Mapping[int, float]]]:
    """Give times, and the work of all that cannot start before: seconds by bytes of memory."""
    late_first = sorted(jobs, key=lambda job: ready[job.index], reverse=True)
    stride = max(1, len(late_first) // _LOOKS)
    work: dict[int, float] = {}
    for place, job in enumerate(late_first, 1):
        vram = job.vram or 0
        work[vram] = work.get(vram, 0.0) + job.gpus * job.seconds
        if place % stride == 0 or place == len(late_first):
            yield ready[job.index], work


def _card_seconds(
    work: Mapping[int, float],
    company: Mapping[int, float],
    *,
    largest: int,
    slowdown: float,
    most: int,
) -> float:
    """Return for how long cards are busy at least, added up, until work is done.

    Args:
        work: seconds by bytes of memory.
        company: how much of it can be done beside other jobs, likewise.
        largest: bytes of the largest card.
        slowdown: how much longer each of two jobs on a card takes.
        most: how many jobs share a card at most.
    """
    busy = sum(work.values())
    if most == 2:
        return busy - max(0.0, 1 - slowdown / 2) * _paired(company, largest)
    smallest = min(work)
    for vram, seconds in company.items():
        sharing = most if not smallest else max(1, min(most, 1 + (largest - vram) // smallest))
        best = max(n / slowdown ** (n - 1) for n in range(1, sharing + 1))
        busy -= seconds * (1 - 1 / best)
    return busy


def _paired(work: Mapping[int, float], largest: int) -> float:
    """Return how much of the work can be done two by two.

    What takes at most half of the card fits beside anything like it. Of the rest, the larger one
    has fewer to choose from, and all of these are there for the next one, too: so the largest
    choose first.
    """
    small = {vram: seconds for vram, seconds in work.items() if 2 * vram <= largest}
    taken = 0.0
    for vram in sorted(work.keys() - small.keys(), reverse=True):
        fitting = sum(seconds for other, seconds in small.items() if other + vram <= largest)
        taken += min(work[vram], fitting - taken)
    return taken + sum(small.values())
