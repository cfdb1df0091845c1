"""How far a search is, as its process records it for the screens."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from launcher.experiments.search.definition import Objective
from launcher.experiments.search.trials import EndedTrial, TrialOutcome
from launcher.system.files import Json

MOST_BEST = 20  # trials of a front that are recorded; of one metric, one of equal trials is


class Standing(NamedTuple):
    """How far a search is."""

    total: int  # trials that the search may have
    ended: int
    pruned: int
    failed: int
    incomplete: int  # a seed failed, or was cancelled or lost
    best: tuple[EndedTrial, ...]  # one, or those of which none is better in each metric
    more_best: int  # trials that are as good, but not recorded
    left_s: float | None = None  # seconds until the search's end; None: unknown


def best_trials(
    ended_trials: Sequence[EndedTrial], objectives: Sequence[Objective]
) -> tuple[EndedTrial, ...]:
    """Return the best complete trials, the first one first; of several metrics the Pareto front."""
    complete = [each for each in ended_trials if each.outcome is TrialOutcome.COMPLETE]
    signs = [1.0 if each.lower else -1.0 for each in objectives]
    costs = {
        each.number: tuple(sign * value for sign, value in zip(signs, each.results, strict=True))
        for each in complete
    }
    if len(objectives) == 1:
        least = min(costs.values(), default=())
        equal = (each for each in complete if costs[each.number] == least)
        return tuple(sorted(equal, key=lambda each: each.number))
    front = [
        each
        for each in complete
        if not any(
            costs[other.number] != costs[each.number]
            and all(a <= b for a, b in zip(costs[other.number], costs[each.number], strict=True))
            for other in complete
        )
    ]
    return tuple(front)


def standing_of(
    ended_trials: Sequence[EndedTrial],
    objectives: Sequence[Objective],
    total: int,
    *,
    running_count: int,
    mean_s: float | None,
) -> Standing:
    """Return how far a search is.

    Args:
        ended_trials: Its ended trials.
        objectives: Its metrics.
        total: Trials that it may have.
        running_count: Jobs that run at once.
        mean_s: Mean time of a trial, None if unknown.
    """
    left = total - len(ended_trials)
    outcomes = Counter(each.outcome for each in ended_trials)
    best = best_trials(ended_trials, objectives)
    recorded = best[: MOST_BEST if len(objectives) > 1 else 1]
    return Standing(
        total,
        len(ended_trials),
        outcomes[TrialOutcome.PRUNED],
        outcomes[TrialOutcome.FAILED],
        outcomes[TrialOutcome.UNSTABLE] + outcomes[TrialOutcome.UNKNOWN],
        recorded,
        len(best) - len(recorded),
        None if mean_s is None else left * mean_s / max(1, running_count),
    )


def standing_record(
    standing: Standing,
    objectives: Sequence[Objective],
    jobs: Mapping[int, int],
    importance: Mapping[str, Json],
) -> dict[str, Json]:
    """Return it as JSON.

    Args:
        standing: How far the search is.
        objectives: Its metrics.
        jobs: Trial → its first job.
        importance: Parameter → importance, 0 to 1.
    """
    best: list[Json] = [
        {
            "trial": each.number,
            "job": jobs.get(each.number),
            "values": {
                objective.metric: value
                for objective, value in zip(objectives, each.results, strict=True)
            },
        }
        for each in standing.best
    ]
    return {
        **{name: value for name, value in standing._asdict().items() if name != "best"},
        "best": best,
        "importance": {**importance},
    }
