"""Measures of groups at scale: a table of a million rows, and the floor of a hundred thousand.

    python -m benchmarks.fairness [--rows 1000000] [--shuffled 100000]

The table has eight groups. It contains every rate with its interval, all gaps, and the AUC of each group. The
noise floor uses 200 shuffles. It is compared with shuffling rows.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from benchmarks.table import Row, machine, publish
from trueface.evaluation.group_rates import (
    SHUFFLES,
    GroupTable,
    count_by_group,
    group_gaps,
    permutation_baselines,
)

GROUPS = 8
REPEATS = 3


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--shuffled", type=int, default=100_000)
    arguments = parser.parse_args()
    labels, logits, groups = _answers(arguments.rows)
    names = [f"group {number}" for number in range(GROUPS)]
    table_s = _seconds(lambda: GroupTable.from_logits(labels, logits, groups, names, shuffles=0))
    labels, logits, groups = _answers(arguments.shuffled)
    fake, called = labels == 1, logits > 0
    floor_s = _seconds(lambda: permutation_baselines(count_by_group(fake, called, groups, GROUPS)))
    by_rows_s = _seconds(lambda: _shuffle_rows(fake, called, groups), repeats=1)
    print(machine())
    rows = [
        Row(
            what=f"table of {arguments.rows:,} rows, {GROUPS} groups, AUC, s",
            ours=table_s,
            goal=1.0,
            target="≤ 1 s",
        ),
        Row(
            what=f"{SHUFFLES} shuffles of {arguments.shuffled:,} rows, ms",
            ours=1000 * floor_s,
            peers={"by shuffling rows": 1000 * by_rows_s},
            goal=3000.0,
            target="≤ 3,000 ms",
        ),
    ]
    publish(rows, "lab")


def _answers(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, logits and groups, the last one of uneven sizes."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, rows).astype(np.int8)
    logits = rng.normal(size=rows) + labels
    sizes = np.arange(1, GROUPS + 1) / np.arange(1, GROUPS + 1).sum()
    return labels, logits, rng.choice(GROUPS, rows, p=sizes)


def _shuffle_rows(fake: np.ndarray, called: np.ndarray, groups: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    for _ in range(SHUFFLES):
        dealt = groups.copy()
        for kind in (fake, ~fake):
            dealt[kind] = rng.permutation(groups[kind])
        group_gaps(count_by_group(fake, called, dealt, GROUPS))


def _seconds(work: Callable[[], object], *, repeats: int = REPEATS) -> float:
    """Return the median time of some repetitions."""
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))


if __name__ == "__main__":
    main()
