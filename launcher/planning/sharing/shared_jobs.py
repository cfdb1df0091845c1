"""The jobs that do shared work, put into a plan that was compared with the queue."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from launcher.errors import counted
from launcher.planning.plan import PlannedShare
from launcher.planning.queue_comparison import Action, ComparedJob, Comparison
from launcher.planning.sharing.shared_work import added
from launcher.states import OPEN, State
from launcher.store.rows import JobRow


def with_shared_jobs(comparison: Comparison, rows: Mapping[str, JobRow]) -> Comparison:
    """Return the comparison with a job before those that have to run and repeat the same work.

    These start after its end. A job that does shared work never counts as done: it is planned
    whenever two that use it have to run, and finds by itself what is still kept.

    Args:
        comparison: of a plan with the queue.
        rows: the run's jobs in the queue, by name.
    """
    to_do = {job.job.name for job in comparison.jobs if job.action is not Action.CACHED}
    to_run = {job.job.name for job in comparison.jobs if job.action is Action.RUN}
    if not to_run:
        return comparison
    shares = []
    for share in comparison.plan.shares(to_do):
        compared = _compared(share, rows.get(share.job.name))
        if compared is not None and not share.users.isdisjoint(to_run):
            shares.append((share, compared))
    if not shares:
        return comparison
    return replace(
        comparison,
        jobs=tuple(_in_place(comparison.jobs, shares)),
        savings=added(share.savings for share, _ in shares),
    )


def _compared(share: PlannedShare, row: JobRow | None) -> ComparedJob | None:
    """Compare a shared job with the row of its name; None: there is no use for it now."""
    reason = f"{counted(len(share.users), 'job')} repeat what it does"
    if row is None:
        return ComparedJob(job=share.job, action=Action.RUN, state="new", reason=reason)
    if row.state in OPEN and row.hash == share.job.hash:
        reason = f"{row.state} already"
        return ComparedJob(
            job=share.job, action=Action.JOIN, state=row.state, reason=reason, number=row.id
        )
    if row.state is State.RUNNING:  # it does other parts; what it lacks, its users do themselves
        return None
    return ComparedJob(job=share.job, action=Action.RUN, state="new", reason=reason, number=row.id)


def _in_place(
    jobs: Sequence[ComparedJob], shares: Sequence[tuple[PlannedShare, ComparedJob]]
) -> Iterator[ComparedJob]:
    """Give each shared job before its first user, and the users with its name among what they await."""
    shared = {share.job.name: compared for share, compared in shares}
    names: dict[str, tuple[str, ...]] = {}
    for share, _ in shares:
        for user in share.users:
            names[user] = (*names.get(user, ()), share.job.name)
    for job in jobs:
        awaited = names.get(job.job.name)
        if awaited is None:
            yield job
            continue
        for name in awaited:
            if name in shared:
                yield shared.pop(name)
        yield replace(job, shared=awaited)
