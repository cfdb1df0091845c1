"""The jobs that are planned where the word `phases` of a task file leaves kinds of jobs out."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from launcher.kind_interface import Role
from launcher.planning.dependencies import Dependencies
from launcher.planning.plan import PlannedJob

_PREPARING = frozenset({Role.DATA, Role.POISON})


def of_phases(
    jobs: Mapping[str, PlannedJob], phases: Collection[str], dependencies: Dependencies
) -> tuple[PlannedJob, ...]:
    """Return the jobs of the kinds that are wanted, with the data, poison and programs that they need.

    Their hashes are those of the whole plan, so that a study done phase by phase is done once.
    What a job needs of another phase must be there already, else it is missing.

    Args:
        jobs: of the whole plan by name, each one's needs before it.
        phases: the kinds that are wanted; none: all of them.
        dependencies: of these jobs; what is missing is entered there.
    """
    if not phases:
        return tuple(jobs.values())
    kept = {name for name, job in jobs.items() if job.kind in phases}
    for name in reversed([*jobs]):  # those that need a job come after it
        if name in kept:
            needs = (jobs[need] for need in jobs[name].needs)
            kept |= {need.name for need in needs if _prepares(need, dependencies)}
    return tuple(_alone(job, jobs, kept, dependencies) for job in jobs.values() if job.name in kept)


def left_out(
    jobs: Mapping[str, PlannedJob], wanted: Iterable[PlannedJob]
) -> tuple[PlannedJob, ...]:
    """Return the jobs that `wanted` need in the whole plan and that are not among them."""
    kept = {job.name for job in wanted}
    missing = {need for name in kept for need in jobs[name].needs} - kept
    return tuple(job for name, job in jobs.items() if name in missing)


def _prepares(job: PlannedJob, dependencies: Dependencies) -> bool:
    """Tell whether a job is done for those that need it whatever kinds are wanted."""
    return job.role in _PREPARING or job.name in dependencies.programs


def _alone(
    job: PlannedJob,
    jobs: Mapping[str, PlannedJob],
    kept: Collection[str],
    dependencies: Dependencies,
) -> PlannedJob:
    """Return a job without needs that are left out; what these did not make yet is missing."""
    for need in job.needs:
        outputs = () if need in kept else jobs[need].outputs
        absent = next((path for path in outputs if not dependencies.there(path)), None)
        if absent is not None:
            what = f"what {need} makes (phases leaves it out)"
            dependencies.lack(job.name, absent, what)
    needs, after_any = ([name for name in of if name in kept] for of in (job.needs, job.after_any))
    return replace(job, needs=tuple(needs), after_any=tuple(after_any))
