"""What is replayed of a trace or plan: how many of its jobs, when they come, what can never fit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from launcher.simulate.fleet import Fleet
from launcher.simulate.trace import TraceJob


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The jobs of a replay, and how many had to be left out."""

    jobs: tuple[TraceJob, ...]
    too_many_gpus: int = 0  # jobs that ask for more than a machine has
    too_much_vram: int = 0  # for more memory than enough of its GPUs have
    orphaned: int = 0  # that need one of these

    @property
    def dropped(self) -> int:
        """How many jobs no policy is given."""
        return self.too_many_gpus + self.too_much_vram + self.orphaned


def choose(
    jobs: Sequence[TraceJob], *, first: int | None, all_at_once: bool, load: float
) -> tuple[TraceJob, ...]:
    """Return the first jobs, with the times at which they come.

    Args:
        jobs: in the order of their submission.
        first: how many; None: all.
        all_at_once: they come at the beginning, in their order.
        load: they come so many times as fast.
    """
    return tuple(
        replace(job, submitted=0.0 if all_at_once else job.submitted / load) for job in jobs[:first]
    )


def fit(jobs: Sequence[TraceJob], fleet: Fleet) -> Workload:
    """Leave out what no machine can ever hold, and what needs that; the same for all policies.

    Args:
        jobs: what is needed comes before what needs it.
        fleet: the GPUs; a job has all of its own on one machine.
    """
    kept: list[TraceJob] = []
    out: set[int] = set()
    many = much = orphaned = 0
    enough: dict[tuple[int, int], bool] = {}
    for job in jobs:
        key = (job.gpus, job.vram or 0)
        if key not in enough:
            enough[key] = fleet.holding(key[1]) >= job.gpus
        if job.gpus > fleet.widest:
            many += 1
        elif not enough[key]:
            much += 1
        elif not out.isdisjoint(job.needs):
            orphaned += 1
        else:
            kept.append(job)
            continue
        out.add(job.index)
    return Workload(jobs=tuple(kept), too_many_gpus=many, too_much_vram=much, orphaned=orphaned)
