"""A plan's jobs as a replay sees them: all of them submitted at once, as if none were done."""

from collections.abc import Iterable

from launcher.forecast import History, forecast, wants_gpu
from launcher.plan import Plan
from launcher.simulate.trace import TraceJob
from launcher.submission import resources_of


def planned_jobs(
    plans: Iterable[Plan], history: History, *, seconds: float, vram: int
) -> tuple[TraceJob, ...]:
    """Return the jobs of plans; what is needed comes before what needs it.

    Args:
        plans: worked out.
        history: what was done before, from which durations and memory are known.
        seconds: how long a job takes of which that tells nothing.
        vram: what it claims, likewise, unless its task file declares it.
    """
    jobs: list[TraceJob] = []
    for plan in plans:
        places: dict[str, int] = {}
        for job in plan.jobs:
            places[job.name] = len(jobs)
            expected = forecast(job, history)
            on_gpu = wants_gpu(job, gpus=True)
            asked = resources_of(job)
            jobs.append(
                TraceJob(
                    index=len(jobs),
                    submitted=0.0,
                    seconds=seconds if expected.seconds is None else expected.seconds,
                    gpus=asked.gpus if on_gpu else 0,
                    vram=(expected.vram or vram) if on_gpu else None,
                    group=job.kind,
                    exclusive=asked.exclusive,
                    priority=job.resources.priority,
                    needs=tuple(places[need] for need in job.needs if need in places),
                    forecast=expected.seconds,
                )
            )
    return tuple(jobs)
