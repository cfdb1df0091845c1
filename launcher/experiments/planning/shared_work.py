"""Work that several jobs of a plan repeat: who repeats what, and the job that does it once.

Shared jobs are chosen when the plan is compared with the queue. Repeated work gets a job of its own if two jobs
that have to run repeat it. `launcher.experiments.kind_interface` defines how kinds declare such work.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, cast

from launcher.experiments.kind_interface import Kind, RepeatsWork, SharedJob, SharedPart, SharesWork
from launcher.experiments.planning.comparison import Action, ComparedJob, Comparison, open_jobs
from launcher.experiments.planning.dependencies import PreparedStep
from launcher.experiments.planning.expansion import PlannedStep
from launcher.experiments.planning.plan import PlannedJob, SharedJobPlan, SharedWorkSavings
from launcher.experiments.planning.queue_comparison import reuse_pending
from launcher.ids import Words
from launcher.queue.job_options.registry import JobRequest
from launcher.queue.jobs.job import Terms
from launcher.queue.jobs.states import OPEN_STATES, State
from launcher.queue.store.rows import JobRow
from launcher.system.errors import pluralize


class _WorkUser(NamedTuple):
    """A job that does a part of which others repeat some passes."""

    prepared: PreparedStep
    passes: int

    @property
    def name(self) -> str:
        return self.prepared.step.name


Complete = Callable[[Kind, str, PlannedStep, SharedJob], PlannedJob]
"""Makes a planned job, given its kind, its name, the step of its first user, and the shared work."""


def shares(
    jobs: Iterable[tuple[PreparedStep, Hashable]],
    to_do: Collection[str],
    kinds: Mapping[str, Kind],
    words: Words,
    build_job: Complete,
) -> tuple[SharedJobPlan, ...]:
    """Return the jobs that do once what two or more jobs repeat.

    Args:
        jobs: jobs of a plan, each with the properties that jobs with shared work must have in common.
        to_do: names of the jobs that are not done yet.
        kinds: kinds by name, those of the role `shared` among them.
        words: the user's own.
        build_job: makes the planned job.
    """
    # by kind and key, then by part
    works: dict[tuple[str, Hashable], dict[Hashable, list[_WorkUser]]] = {}
    repeating = {name: kind for name, kind in kinds.items() if isinstance(kind, RepeatsWork)}
    for prepared, common in jobs:
        if says := repeating.get(prepared.step.kind.name):
            for work in says.shared_work(prepared.draft, prepared.makers):
                parts = works.setdefault((work.kind, (work.key, common)), {})
                parts.setdefault(work.part, []).append(_WorkUser(prepared, work.passes))
    made: dict[str, SharedJobPlan] = {}
    for (name, _), parts in works.items():
        if not isinstance(kinds.get(name), SharesWork):  # not installed, or of another version
            continue
        repeated = {
            part: using
            for part, users in parts.items()
            if len(using := [user for user in users if user.name in to_do]) > 1
        }
        if repeated:
            share = _build_shared_job(kinds[name].with_words(words), repeated, made, build_job)
            made[share.job.name] = share
    return tuple(made.values())


def _build_shared_job(
    kind: Kind,
    users_by_work: Mapping[Hashable, Sequence[_WorkUser]],
    taken_names: Collection[str],
    build_job: Complete,
) -> SharedJobPlan:
    """Return the job that does some parts once.

    Args:
        kind: kind of the job.
        users_by_work: the parts, with those that do each of them.
        taken_names: names of other jobs.
        build_job: makes the planned job.
    """
    sharing = cast(SharesWork, kind)
    parts = [_part(part, users) for part, users in users_by_work.items()]
    shared = sharing.shared_job(parts)
    first = next(iter(users_by_work.values()))[0].prepared.step
    name = _free_name(f"{kind.name}/{shared.name}", taken_names)
    return SharedJobPlan(
        job=build_job(kind, name, first, shared),
        users=frozenset(user.name for users in users_by_work.values() for user in users),
        savings=_savings(kind, shared, [*zip(parts, users_by_work.values(), strict=True)]),
    )


def _part(part: Hashable, users: Sequence[_WorkUser]) -> SharedPart:
    passes = sorted(user.passes for user in users)[-2]  # the most that two of them make
    first = users[0].prepared
    return SharedPart(part=part, passes=passes, draft=first.draft, makers=first.makers)


def _free_name(name: str, taken_names: Collection[str]) -> str:
    number = 1
    free = name
    while free in taken_names:
        number += 1
        free = f"{name}@{number}"
    return free


def _savings(
    kind: Kind, shared_job: SharedJob, parts: Sequence[tuple[SharedPart, Sequence[_WorkUser]]]
) -> SharedWorkSavings:
    sharing = cast(SharesWork, kind)
    alike = sum(min(user.passes, part.passes) for part, users in parts for user in users)
    once = sum(part.passes for part, _ in parts)
    return SharedWorkSavings(
        kind=kind.name,
        unit=sharing.unit,
        items=_sum(volume.items for volume in shared_job.volumes),
        passes=alike,
        saved=alike - once,
        size=_sum(
            None if volume.pass_bytes is None else volume.pass_bytes * part.passes
            for volume, (part, _) in zip(shared_job.volumes, parts, strict=True)
        ),
        most_bytes=sharing.most_bytes,
    )


def sum_savings(savings: Iterable[SharedWorkSavings]) -> tuple[SharedWorkSavings, ...]:
    """Return what the jobs of each kind save together."""
    by_kind: dict[str, list[SharedWorkSavings]] = {}
    for each in savings:
        by_kind.setdefault(each.kind, []).append(each)
    return tuple(
        several[0]._replace(
            items=_sum(each.items for each in several),
            passes=sum(each.passes for each in several),
            saved=sum(each.saved for each in several),
            size=_sum(each.size for each in several),
        )
        for several in by_kind.values()
    )


def _sum(numbers: Iterable[int | None]) -> int | None:
    """Return the sum; None if a number is not known."""
    total = 0
    for number in numbers:
        if number is None:
            return None
        total += number
    return total


def shared_job_request(request: JobRequest) -> JobRequest:
    """Return the request of a shared job: that of its first user, on at most one GPU.

    Retries and time limits are not copied. If the shared job fails, its users do the work
    themselves.
    """
    terms, gpus = request.terms, request.gpus
    return request._replace(
        resources=request.resources._replace(gpus=min(request.resources.gpus, 1)),
        terms=Terms(group=terms.group, not_before=terms.not_before, on=terms.on),
        gpus=None if gpus is None else min(gpus, 1),
    )


def with_shared_jobs(comparison: Comparison, rows: Mapping[str, JobRow]) -> Comparison:
    """Return the comparison with a job before those that have to run and repeat the same work.

    These start after its end. A job that does shared work never counts as done. It is planned
    whenever two jobs that use it have to run, and it finds results that are still kept by itself.

    Args:
        comparison: comparison of a plan with the queue.
        rows: the run's jobs in the queue, by name.
    """
    to_do = {job.job.name for job in open_jobs(comparison.jobs)}
    to_run = {job.job.name for job in comparison.jobs if job.action is Action.RUN}
    if not to_run:
        return comparison
    shares = []
    for share in comparison.plan.shares(to_do):
        compared = _compare_shared_job(share, rows.get(share.job.name))
        if compared is not None and not share.users.isdisjoint(to_run):
            shares.append((share, compared))
    if not shares:
        return comparison
    return comparison._replace(
        jobs=tuple(_insert_shared_jobs(comparison.jobs, shares)),
        savings=sum_savings(share.savings for share, _ in shares),
    )


def _compare_shared_job(share: SharedJobPlan, row: JobRow | None) -> ComparedJob | None:
    """Compare a shared job with the row of its name, or return None if it is not useful now."""
    reason = f"does work that {pluralize(len(share.users), 'job')} share"
    if row is not None and row.state in OPEN_STATES and row.hash == share.job.hash:
        return reuse_pending(share.job, row)
    if row is not None and row.state is State.RUNNING:
        return None  # the running job does other parts; its users do the rest themselves
    number = None if row is None else row.id
    return ComparedJob(share.job, Action.RUN, "new", reason, number=number)


def _insert_shared_jobs(
    jobs: Sequence[ComparedJob], shares: Sequence[tuple[SharedJobPlan, ComparedJob]]
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
        yield job._replace(shared=awaited)
