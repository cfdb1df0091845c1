"""What follows when a job of the queue is changed; refused where others count on it as it is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.draft import Draft
from launcher.errors import UsageError
from launcher.ids import parse_model
from launcher.job import Spec
from launcher.job_options.registry import JobRequest, job_options
from launcher.kind_interface import Role
from launcher.kinds import program_cost, roots_of, signature_of
from launcher.planning.load import content_digest
from launcher.planning.plan import Code
from launcher.planning.revising.form_values import option_text
from launcher.planning.revising.hashes import Rehash
from launcher.planning.revising.queued_job import QueuedJob, queued_job
from launcher.planning.revising.read_form import JobValues
from launcher.states import OPEN, Reason, ReasonCode, State
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.store.steering import ChangedJob
from launcher.system.code_digests import CodeIndex, user_cache
from launcher.taskfile.settings import spelt

_MAKERS = frozenset({Role.TRAIN, Role.UNLEARN})
_SCORING = frozenset({Role.TEST, Role.BENCHMARK})
_BUILT_ON = frozenset({State.DONE, State.RUNNING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A job of the queue as its owner wants it."""

    row: JobRow  # as it was when this was worked out
    spec: Spec
    changes: tuple[str, ...]  # in words: "lr 0.1 → 0.01"
    hashes: tuple[tuple[JobRow, str], ...] = ()  # the new ones of jobs that read what it makes

    @property
    def summary(self) -> str:
        """What is another, in words."""
        return ", ".join(self.changes)

    def stored(self) -> ChangedJob:
        """Return the change as the queue takes it; its reason goes into the job's events."""
        if self.row.state in OPEN:
            code, text = ReasonCode.EDITED, f"changed by its owner: {self.summary}"
        else:
            code, text = ReasonCode.RETRIED, f"asked to run again, changed: {self.summary}"
        reason = Reason(code=code, text=text, data={"changes": list(self.changes)})
        return ChangedJob(row=self.row, spec=self.spec, reason=reason, hashes=self.hashes)


def revise(
    store: Store, job: QueuedJob, before: JobValues, after: JobValues, rehash: Rehash | None = None
) -> Revision | None:
    """Return a job as its owner wants it; None where nothing is another.

    Args:
        store: the queue.
        job: which; it does not run.
        before: its values as its own form is read.
        after: those that are wanted.
        rehash: takes in the new hashes, where more jobs are changed with this one.

    Raises:
        UsageError: it would be another job for those that need it, or cannot be one.
    """
    spec, row = job.row.spec, job.row
    changed = [name for name in after.settings if after.settings[name] != before.settings.get(name)]
    options = [*_changed_options(before.request, after.request)]
    if not (changed or options):
        return None
    changes = [
        f"{name} {spelt(before.settings.get(name))} → {spelt(after.settings[name])}"
        for name in changed
    ]
    # `launcher priority` writes the row's own, and not that of its spec
    spec = replace(spec, priority=after.request.priority)
    if options:
        spec = replace(spec, resources=job.resources(after.request), terms=after.request.terms)
    hashes: tuple[tuple[JobRow, str], ...] = ()
    if changed:
        rehash = rehash or rehash_of(store)
        spec, hashes = _with_settings(store, job, spec, before, after, rehash)
    if spec.entry:
        gpus = spec.resources.gpus
        spec = replace(spec, signature=signature_of(job.kind, after.settings, gpus))
    return Revision(row=row, spec=spec, changes=(*changes, *options), hashes=hashes)


def rehash_of(store: Store) -> Rehash:
    """Return what works out the hashes of jobs of a queue."""
    return Rehash(needed_by=store.read.needed_by, content=content_digest)


def _changed_options(before: JobRequest, after: JobRequest) -> Iterator[str]:
    for option in job_options().values():
        unset = option.default or "unset"
        texts = [option_text(option, request) or unset for request in (before, after)]
        if texts[0] != texts[1]:
            yield f"{option.name} {texts[0]} → {texts[1]}"


def _with_settings(
    store: Store,
    job: QueuedJob,
    spec: Spec,
    before: JobValues,
    after: JobValues,
    rehash: Rehash,
) -> tuple[Spec, tuple[tuple[JobRow, str], ...]]:
    """Return the spec with other settings, and the hashes of the jobs that need it.

    Raises:
        UsageError: they would not find what they need, or have worked with it already.
    """
    _refuse_named(job, before, after)
    old, new = (job.draft(values.settings, values.request) for values in (before, after))
    outputs = _outputs(store, job, old, new)
    _refuse_inputs(job, old, new)
    _refuse_by_kind(store, job, old, new)
    argv = tuple(job.kind.argv(new))
    if job.is_program:
        spec = replace(spec, argv=argv, signature=program_cost(after.settings, argv))
        if job.is_added and not (after.settings["cwd"] or after.settings["env"]):
            return replace(spec, settings={}), ()
    code = _code_now(job, after)
    rehash.enter(job, before.settings, after.settings, code)
    dependants = store.steering.dependants(job.row.id)
    if job.row.id in rehash.hashes:
        _refuse_built_on(job, dependants)
        rehash.follow(dependants)
    own_hash = rehash.hashes.get(job.row.id, spec.hash)
    hashes = tuple((row, rehash.hashes[row.id]) for row in dependants if row.id in rehash.hashes)
    spec = replace(
        spec,
        settings=after.settings,
        argv=argv,
        outputs=outputs,
        sources=code.sources,
        hash=own_hash,
    )
    return spec, hashes


def _code_now(job: QueuedJob, after: JobValues) -> Code:
    """Return the code that does a job's work: other settings may choose other modules."""
    index = CodeIndex(user_cache())
    entry = job.row.spec.entry
    code = Code(entry, index.code(entry, roots_of(job.kind, after.settings)))
    index.save()
    return code


def _refuse_named(job: QueuedJob, before: JobValues, after: JobValues) -> None:
    """Refuse to change what a job's name says.

    Raises:
        UsageError: a swept setting, or the condition of a test, is another.
    """
    spec = job.row.spec
    remedy = "the name would be wrong; add that value to the task file, and run it"
    if spec.model is not None and job.kind.role in _MAKERS:
        for key, value in parse_model(spec.model).last.variant:
            name = key if key in after.settings else ""
            if name and after.settings[name] != before.settings[name]:
                raise UsageError(f"{spec.name} is named after {key}={value}: {remedy}")
    condition = job.kind.settings.condition
    if condition(before.settings) != condition(after.settings):
        raise UsageError(f"{spec.name} is named after its condition: {remedy}")


def _outputs(store: Store, job: QueuedJob, old: Draft, new: Draft) -> tuple[str, ...]:
    """Return what a job writes with its new settings.

    Raises:
        UsageError: that lacks what it was to write, or another job of the run writes it.
    """
    spec = job.row.spec
    before, after = (tuple(map(str, job.kind.outputs(draft))) for draft in (old, new))
    if before == after:
        return spec.outputs
    if missing := [path for path in spec.outputs if path not in after]:
        raise UsageError(
            f"{spec.name} would not write {missing[0]} any more, which others may read: "
            "change the task file, and run it"
        )
    others = store.read.jobs_of(Path(spec.root), spec.run).values()
    for other in others:
        if other.id != job.row.id and (shared := {*other.spec.outputs} & {*after}):
            raise UsageError(f"{spec.name} would write {min(shared)}, as {other.name} does")
    return after


def _refuse_inputs(job: QueuedJob, old: Draft, new: Draft) -> None:
    """Refuse to read what is not there, and what no job before this one is known to make.

    Raises:
        UsageError: names the path.
    """
    before = {file.path for file in job.kind.inputs(old)}
    for file in job.kind.inputs(new):
        if file.path not in before and not file.path.exists():
            remedy = f"; {file.remedy}" if file.remedy else ""
            raise UsageError(f"{file.what} is not there: {file.path}{remedy}")


def _refuse_by_kind(store: Store, job: QueuedJob, old: Draft, new: Draft) -> None:
    """Ask the kind whether it refuses the job as it is wanted.

    Raises:
        UsageError: the kind's reason.
    """
    makers = _makers(store, job, old)
    reasons = set(job.kind.refusals(old, makers))
    for reason in job.kind.refusals(new, makers):
        if reason not in reasons:
            raise UsageError(f"{job.row.name}: {reason}")


def _makers(store: Store, job: QueuedJob, draft: Draft) -> Sequence[Draft]:
    """Return the trainings and unlearnings from which a job's model comes, first to last."""
    models = [draft.model if job.kind.role in _SCORING else draft.base]
    if job.kind.role is Role.FOLDER:
        models = [draft.settings.get(name) for name in job.kind.settings.models]
    makers: list[Draft] = []
    for model in filter(None, models):
        makers += _made_by(store, job.row.id, str(model))
    return makers


def _made_by(store: Store, job: int, model: str) -> list[Draft]:
    """Return the jobs before another one that make a model, and what that was made from."""
    for need in store.read.needed_by(job):
        spec = need.spec
        if spec.model == model and spec.role in _MAKERS:
            before = [] if spec.base is None else _made_by(store, need.id, spec.base)
            own = queued_job(need)
            return [*before, own.draft(own.values, own.request)]
    return []


def _refuse_built_on(job: QueuedJob, dependants: Sequence[JobRow]) -> None:
    """Refuse to change what others have worked with.

    Raises:
        UsageError: names the first of them.
    """
    built = [row for row in dependants if row.state in _BUILT_ON]
    if built:
        first, more = built[0], len(built) - 1
        others = f" and {more} more" if more else ""
        raise UsageError(
            f"{first.name} (job {first.id}, {first.state}){others} worked with what {job.row.name} "
            "makes: with other settings that would not be true any more. Change the task file and run it, "
            "or give the file another name and keep both"
        )
