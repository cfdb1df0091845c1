"""Work that several jobs of a plan repeat: who repeats what, and the job that does it once.

While a plan is made, `SharedWorks` notes what each job does that others may repeat. Which of that is
worth a job of its own is known when the plan is compared with the queue: where two jobs that have to
run repeat the same. What kinds say is in `launcher.kind_interface`.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, cast

from launcher.draft import Draft
from launcher.errors import counted
from launcher.ids import Words
from launcher.job import Terms
from launcher.job_options.registry import JobRequest
from launcher.kind_interface import Kind, RepeatsWork, SharedJob, SharedPart, SharedWork, SharesWork
from launcher.planning.plan import PlannedJob, PlannedShare, Savings
from launcher.planning.queue_comparison import Action, ComparedJob, Comparison
from launcher.planning.steps import Step
from launcher.states import OPEN, State
from launcher.store.rows import JobRow


class User(NamedTuple):
    """A job that does a part of which others repeat some passes."""

    name: str
    step: Step
    draft: Draft
    makers: Sequence[Draft]
    passes: int


Complete = Callable[[Kind, str, User, SharedJob], PlannedJob]
"""Makes a planned job, given its kind, its name, its first user, and what it does."""


Says = Callable[[Draft, Sequence[Draft]], Sequence[SharedWork]]


@dataclass(slots=True)
class SharedWorks:
    """What the jobs of a plan do that others may repeat."""

    kinds: Mapping[str, Kind]  # by name, those of the role `shared` among them
    words: Words  # the user's own
    _says: dict[str, Says | None] = field(default_factory=dict)  # by kind: what its jobs repeat
    # by kind and key, then by part
    _users: dict[tuple[str, Hashable], dict[Hashable, list[User]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    def enter(
        self, step: Step, draft: Draft, makers: Sequence[Draft], behind: Hashable = ()
    ) -> None:
        """Note what a job does that others may repeat, if its kind says so.

        Args:
            step: of the job.
            draft: of it.
            makers: the jobs that make its model.
            behind: the programs before it, which may make what it reads: jobs behind others share no work
                with it, as that runs behind all programs of its users.
        """
        kind = step.kind
        if kind.name not in self._says:
            self._says[kind.name] = kind.shared_work if isinstance(kind, RepeatsWork) else None
        says = self._says[kind.name]
        for work in says(draft, makers) if says else ():
            parts = self._users[work.kind, (work.key, behind)]
            parts[work.part].append(User(step.name, step, draft, makers, work.passes))

    def shares(self, to_do: Collection[str], complete: Complete) -> tuple[PlannedShare, ...]:
        """Return the jobs that do once what two or more jobs repeat.

        Args:
            to_do: names of the jobs that are not done yet.
            complete: makes the planned job.
        """
        shares: list[PlannedShare] = []
        for (name, _), parts in self._users.items():
            if not isinstance(
                self.kinds.get(name), SharesWork
            ):  # not installed, or of another version
                continue
            repeated = {
                part: using
                for part, users in parts.items()
                if len(using := [user for user in users if user.name in to_do]) > 1
            }
            if repeated:
                taken = {share.job.name for share in shares}
                kind = self.kinds[name].with_words(self.words)
                shares.append(_share(kind, repeated, taken, complete))
        return tuple(shares)


def _share(
    kind: Kind,
    repeated: Mapping[Hashable, Sequence[User]],
    taken: Collection[str],
    complete: Complete,
) -> PlannedShare:
    """Return the job that does some parts once.

    Args:
        kind: of the job.
        repeated: the parts, with those that do each of them.
        taken: names of other jobs.
        complete: makes the planned job.
    """
    sharing = cast(SharesWork, kind)
    parts = [_part(part, users) for part, users in repeated.items()]
    shared = sharing.shared_job(parts)
    first = next(iter(repeated.values()))[0]
    name = _free(f"{kind.name}/{shared.name}", taken)
    using = [*zip(parts, repeated.values(), strict=True)]
    return PlannedShare(
        job=complete(kind, name, first, shared),
        users=frozenset(user.name for users in repeated.values() for user in users),
        savings=_savings(kind, sharing, shared, using),
    )


def _part(part: Hashable, users: Sequence[User]) -> SharedPart:
    passes = sorted(user.passes for user in users)[-2]  # the most that two of them make
    return SharedPart(part=part, passes=passes, draft=users[0].draft, makers=users[0].makers)


def _free(name: str, taken: Collection[str]) -> str:
    number = 1
    free = name
    while free in taken:
        number += 1
        free = f"{name}@{number}"
    return free


def _savings(
    kind: Kind,
    sharing: SharesWork,
    shared: SharedJob,
    parts: Sequence[tuple[SharedPart, Sequence[User]]],
) -> Savings:
    alike = sum(min(user.passes, part.passes) for part, users in parts for user in users)
    once = sum(part.passes for part, _ in parts)
    return Savings(
        kind=kind.name,
        unit=sharing.unit,
        items=_sum(volume.items for volume in shared.volumes),
        passes=alike,
        saved=alike - once,
        size=_sum(
            None if volume.pass_bytes is None else volume.pass_bytes * part.passes
            for volume, (part, _) in zip(shared.volumes, parts, strict=True)
        ),
        most_bytes=sharing.most_bytes,
    )


def added(savings: Iterable[Savings]) -> tuple[Savings, ...]:
    """Return what the jobs of each kind save together."""
    by_kind: dict[str, list[Savings]] = {}
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
    """Return the sum; None where a number is not known."""
    total = 0
    for number in numbers:
        if number is None:
            return None
        total += number
    return total


def request_of(request: JobRequest) -> JobRequest:
    """Return what a shared job asks for, given what its first user does: as much, on one GPU.

    Retries and limits of time are the user's own: where the shared job fails, its users do the work
    themselves.
    """
    terms, gpus = request.terms, request.gpus
    return replace(
        request,
        resources=replace(request.resources, gpus=min(request.resources.gpus, 1)),
        terms=Terms(group=terms.group, not_before=terms.not_before, on=terms.on),
        gpus=None if gpus is None else min(gpus, 1),
    )


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
    return comparison._replace(
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
        yield job._replace(shared=awaited)
