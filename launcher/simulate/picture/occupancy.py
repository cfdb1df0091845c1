"""How a replay filled the cluster: places on GPUs, jobs per GPU over time, length of the queue."""

from collections.abc import Sequence
from itertools import accumulate

from launcher.simulate.replay import Span


def slots(spans: Sequence[Span]) -> list[tuple[Span, int, int]]:
    """Return (span, card, place): of jobs that share a card at a time each has another place."""
    until: dict[int, list[float]] = {}  # card → when each of its places is free again
    bars = []
    for span in sorted(spans, key=lambda span: (span.start, span.job)):
        for card in span.cards:
            places = until.setdefault(card, [])
            free = next((at for at, end in enumerate(places) if end <= span.start), len(places))
            places[free : free + 1] = [span.end]
            bars.append((span, card, free))
    return bars


def jobs_per_gpu(
    spans: Sequence[Span], *, cards: int, per_row: int, columns: int, end: float
) -> list[list[float]]:
    """Return how many jobs a card ran on average, by rows of cards and stretches of time.

    Args:
        spans: the replay.
        cards: how many there were.
        per_row: cards of a row; the last row may have fewer.
        columns: into so many stretches the time is divided.
        end: of the last one.
    """
    rows = -(-cards // per_row)
    stretch = end / columns
    whole = [[0.0] * (columns + 1) for _ in range(rows)]  # changes from one stretch to the next
    part = [[0.0] * columns for _ in range(rows)]
    for span in spans:
        first = min(columns - 1, int(span.start / stretch))
        last = min(columns - 1, int(span.end / stretch))
        for card in span.cards:
            row = card // per_row
            if first == last:
                part[row][first] += (span.end - span.start) / stretch
                continue
            part[row][first] += first + 1 - span.start / stretch
            part[row][last] += span.end / stretch - last
            whole[row][first + 1] += 1
            whole[row][last] -= 1
    return [
        [
            (full + partly) / min(per_row, cards - row * per_row)
            for full, partly in zip(accumulate(whole[row][:columns]), part[row], strict=True)
        ]
        for row in range(rows)
    ]


def queue_lengths(spans: Sequence[Span], samples: int, end: float) -> list[int]:
    """Return the most jobs that waited at once in each of so many equal stretches of time."""
    changes = sorted(
        change
        for span in spans
        if span.start > span.ready
        for change in ((span.ready, 1), (span.start, -1))
    )
    most = [0] * samples
    waiting, before = 0, 0
    for at, change in changes:  # at one instant starts come first
        stretch = min(samples - 1, int(at / end * samples))
        for sample in range(before, stretch + 1):
            most[sample] = max(most[sample], waiting)
        waiting += change
        most[stretch] = max(most[stretch], waiting)
        before = stretch
    return most
