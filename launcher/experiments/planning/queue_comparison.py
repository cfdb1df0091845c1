"""The comparison of a plan with the queue: which of its jobs are new, changed, done, or in progress.

A hash does not reveal its inputs. To find out whether only the code differs, the hash is computed again with the
code that the queue has stored for the job and its dependencies. It must equal the stored hash.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from launcher.experiments.kind_interface import REVISIONS, Kind, Role
from launcher.experiments.planning.comparison import ACCEPT_CODE, Action, ComparedJob, Comparison
from launcher.experiments.planning.dependencies import FOLDER_SETTING
from launcher.experiments.planning.hash_changes import (
    MOST_CHANGES,
    hash_changes,
    join_changes,
    other_definitions,
)
from launcher.experiments.planning.known_identity import (
    KnownIdentities,
    later_settings,
    without_settings,
)
from launcher.experiments.planning.plan import JobCode, JobIdentity, Plan, PlannedJob
from launcher.experiments.taskfile.header import WARM_START
from launcher.experiments.taskfile.language import Reuse
from launcher.provenance.file_digests import FileDigests, current_digests, file_changes
from launcher.queue.job_options.registry import changed_options
from launcher.queue.jobs.context import INPUTS, OUTPUTS, RUN_FOLDER, resolve_path
from launcher.queue.jobs.states import OPEN_STATES, ReasonCode, State, strip_state_prefix
from launcher.queue.jobs.stored_specs import has_options
from launcher.queue.store.connection import known_record
from launcher.queue.store.rows import JobRow
from launcher.system.errors import UsageError
from launcher.system.files import FileStamp, Json


class _ProgramFiles:
    """What is another in the files that programs had read when they were done; each file is read once."""

    def __init__(self, plan: Plan, digests: FileDigests) -> None:
        self._root, self._runs = str(plan.run_folder.parents[1]), str(plan.run_folder)
        self._found, self._known = cache(digests.digest_or_missing), cache(known_record)
        self._changes: dict[str, Mapping[str, str]] = {}

    def now(self, job: PlannedJob, row: JobRow) -> dict[str, str]:
        """Return name → present digest of each file."""
        before = {} if job.entry or not row.sources_text else self._known(row.sources_text)
        cwd = str(job.settings.get(FOLDER_SETTING) or "")
        return current_digests(
            before, _listed_in(job, INPUTS), partial(self._path, cwd), self._found
        )

    def _path(self, *names: str) -> str:
        path = self._root
        for name in names:
            path = resolve_path(path, name.replace(RUN_FOLDER, self._runs))
        return path

    def changes(self, job: PlannedJob, row: JobRow) -> Mapping[str, str]:
        """Return in a few words each what is another, by the names of the files."""
        if job.name not in self._changes:
            now = self.now(job, row)
            known = self._known(row.sources_text or "{}") if now else {}
            self._changes[job.name] = file_changes(known, now)
        return self._changes[job.name]

    def has_only_code_changes(self, job: PlannedJob, row: JobRow) -> bool:
        """Return whether something differs, but no input."""
        changes = self.changes(job, row)
        return bool(changes) and not any(name in changes for name in _listed_in(job, INPUTS))


def _listed_in(job: PlannedJob, setting: str) -> Sequence[Json]:
    names = job.settings.get(setting)
    return names if isinstance(names, list) and not job.entry else ()


class _EarlierHash(NamedTuple):
    """The hash that a job would have with the code that the queue remembers."""

    hash: str
    new_revisions: tuple[str, ...]  # the job's revisions that it does not contain


class _EarlierHashes:
    """The hashes that jobs would have with the code that the queue remembers."""

    def __init__(self, kinds: Mapping[str, Kind], rows: Mapping[str, JobRow]) -> None:
        self._kinds, self._rows = kinds, rows
        # name and present hash → earlier hash
        self._hashes: dict[tuple[str, str], _EarlierHash] = {}
        # entry and sources → one object for all jobs
        self._codes: dict[tuple[object, ...], JobCode] = {}

    def hash_with_queued_code(self, identity: JobIdentity) -> _EarlierHash:
        """Return the hash of a job; as it is now where the queue does not know the job.

        The queue does not store revisions. Those that the job had are those whose hash the row has.
        """
        key = (identity.job, identity.hash)
        if key not in self._hashes:
            code, settings = identity.code, identity.settings
            row = self._rows.get(identity.job)
            if row is not None:
                code = self._code(row)
                values = json.loads(settings)
                later = later_settings(self._kinds[identity.kind], values, row)
                settings = without_settings(settings, later)
            needs = [self.hash_with_queued_code(need).hash for need in identity.dependencies]
            hashes = (
                _EarlierHash(identity.digest(code, text, needs), new)
                for text, new in _with_fewer_revisions(settings)
            )
            first = next(hashes)
            known = () if row is None else (first, *hashes)
            self._hashes[key] = next((one for one in known if row and one.hash == row.hash), first)
        return self._hashes[key]

    def _code(self, row: JobRow) -> JobCode:
        """Return the code of a row; the jobs of a kind share it, and its text is made once."""
        key = (row.spec.entry, *row.spec.sources.items())
        if key not in self._codes:
            # files that a program has read are recorded when it is done, and enter no hash
            self._codes[key] = JobCode(row.spec.entry, row.spec.sources if row.spec.entry else {})
        return self._codes[key]


def _with_fewer_revisions(settings: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield settings, as JSON, with all of their revisions and then with fewer, each with those that are left out."""
    yield settings, ()
    values = json.loads(settings)
    revisions = values.pop(REVISIONS, ())
    for number in range(1, len(revisions) + 1):
        for new in combinations(revisions, number):
            kept = [each for each in revisions if each not in new]
            fewer = {**values, REVISIONS: kept} if kept else values
            yield json.dumps(fewer, sort_keys=True), new


def compare_with_queue(
    plan: Plan,
    rows: Mapping[str, JobRow],
    stamp: Callable[[str], FileStamp | None],
    *,
    digests: FileDigests | None = None,
    force: bool = False,
    accept_code: bool = False,
) -> Comparison:
    """Compare each job of the plan with the queue, and decide whether it has to run.

    Args:
        plan: the jobs, dependencies first.
        rows: name → job of the run in the queue.
        stamp: returns size and time of a file, or None if it does not exist.
        digests: digests of the files that programs have read.
        force: also run jobs that are done, as a task file with `reuse: nothing` does.
        accept_code: keep results that differ only in code.

    Raises:
        UsageError: The run was queued by `launcher add`. A running job was changed.
            `phases` leaves out a job that has other settings or is not done.
            Results shall both be kept and made again.
    """
    if any(not row.hash for row in rows.values()):  # no plan has made them
        raise UsageError(
            f"run {plan.name!r} contains programs of `launcher add --run`. Give the task file another "
            f"name, or delete these jobs with `launcher clean run:{plan.name}`."
        )
    forced = "--force" if force else ""
    if not forced and plan.reuse is not Reuse.RESULTS:
        forced = f"reuse: {plan.reuse}"
    if forced and accept_code:
        raise UsageError(
            f"{ACCEPT_CODE} keeps results, but {forced} runs all jobs again. Remove one of them."
        )
    comparer = _Comparer(
        plan, rows, _DiskState(stamp, digests or FileDigests()), force_reason=forced
    )
    left_out = [comparer.compare_left_out(job, accept_code=accept_code) for job in plan.left_out]
    jobs = tuple(comparer.compare_job(job, accept_code=accept_code) for job in plan.jobs)
    plan = replace(plan, jobs=tuple(each.job for each in jobs), left_out=tuple(left_out))
    kept = {compared.job.name for compared in jobs if compared.action is Action.CACHED}
    kept |= {job.name for job in left_out}
    accepted = comparer.accepted
    return Comparison(
        plan=plan,
        jobs=jobs,
        accepted={name: rows[name].hash for name in accepted if name in kept},
        files={
            job.name: read
            for job in plan.jobs
            if job.name in accepted and (read := comparer.files.now(job, rows[job.name]))
        },
    )


class _Comparer:
    """Compares jobs with the rows of their names; those that a job needs come before it."""

    def __init__(
        self, plan: Plan, rows: Mapping[str, JobRow], disk: "_DiskState", *, force_reason: str
    ) -> None:
        self._plan, self._rows, self._disk, self._forced = plan, rows, disk, force_reason
        self._identities = KnownIdentities(plan, rows)
        self._earlier = _EarlierHashes(plan.kinds, rows)
        self._jobs: dict[str, ComparedJob] = {}
        self.files = _ProgramFiles(plan, disk.digests)
        self.accepted: set[str] = set()  # jobs whose result of other code is kept

    def compare_left_out(self, planned_job: PlannedJob, *, accept_code: bool) -> PlannedJob:
        """Return a job that `phases` leaves out.

        Raises:
            UsageError: it was done with other settings, or is not done yet.
        """
        job, row = (
            self._identities.identify_as_queued(planned_job),
            self._rows.get(planned_job.name),
        )
        is_other_code = row is not None and self._is_other_code(planned_job, job, row)
        if row is not None and is_other_code and accept_code:
            self.accepted.add(job.name)
            row = replace(row, hash=job.hash)
        _refuse_other(job, row, is_other_code=is_other_code)
        self._identities.decide(planned_job, job)
        return job

    def compare_job(self, planned_job: PlannedJob, *, accept_code: bool) -> ComparedJob:
        """Return the comparison of a job with the queue.

        Raises:
            UsageError: it is running and was changed.
        """
        compared = self._compare_job(planned_job, accept_code=accept_code)
        if compared.action is Action.RUN:
            compared = compared._replace(job=self._identities.identify_as_new(planned_job))
        self._identities.decide(planned_job, compared.job)
        self._jobs[planned_job.name] = compared
        return compared

    def _compare_job(self, planned_job: PlannedJob, *, accept_code: bool) -> ComparedJob:
        job, row = (
            self._identities.identify_as_queued(planned_job),
            self._rows.get(planned_job.name),
        )
        if row is None:
            return ComparedJob(job, Action.RUN, "new", "new")
        if row.state_reason.code is ReasonCode.PRUNED:
            return ComparedJob(job, Action.RUN, "changed", "pruned by its search", number=row.id)
        again = [need for need in job.needs if _may_change_dependents(self._jobs[need], self._plan)]
        is_other, is_other_code = row.hash != job.hash, self._is_other_code(planned_job, job, row)
        definitions = other_definitions(job, row, self._plan.index) if is_other else ()
        known = row
        if is_other_code and accept_code:
            self.accepted.add(job.name)
            known = replace(row, hash=job.hash)
        compared = _compare_known(
            job,
            known,
            self._disk,
            repeated_jobs=again,
            force_reason=self._forced,
            definitions=definitions,
            revisions=self._earlier.hash_with_queued_code(planned_job.identity).new_revisions
            if is_other_code
            else (),
        )
        if compared.action is Action.CACHED and (changes := self.files.changes(job, row)):
            if job.name not in self.accepted:
                words = tuple(changes.values())
                compared = compared._replace(
                    action=Action.RUN, state="changed", reason=join_changes(words), changes=words
                )
            definitions = tuple(changes)
        return compared._replace(
            is_other_code=is_other_code,
            other_definitions=definitions,
        )

    def _is_other_code(self, planned_job: PlannedJob, job: PlannedJob, row: JobRow) -> bool:
        """Return whether a job was done with other code, and differs in nothing else.

        A setting that the queue has not stored and that has its default counts as code: the version that
        queued the job did not have the setting. Files of a program that are not declared as inputs count as code.

        Args:
            planned_job: the job as it would be queued now.
            job: the same job with the stored code.
            row: the job of this name in the queue.
        """
        if self._forced or row.state is not State.DONE:
            return False
        if row.hash == job.hash:
            return self.files.has_only_code_changes(job, row)
        return row.hash == self._earlier.hash_with_queued_code(planned_job.identity).hash


def _may_change_dependents(need: ComparedJob, plan: Plan) -> bool:
    """Return whether a job may change the results of its dependents.

    A selection for many models runs again if one more model needs it; for all others its result is unchanged.
    """
    drawn = plan.kinds[need.job.kind].settings.for_many
    return need.action is Action.RUN and not drawn


class _DiskState(NamedTuple):
    """How files are looked at."""

    stamp: Callable[[str], FileStamp | None]  # size and time; None if there is none
    digests: FileDigests


def _compare_known(
    job: PlannedJob,
    row: JobRow,
    disk: "_DiskState",
    *,
    repeated_jobs: Sequence[str],
    force_reason: str,
    definitions: Sequence[str],
    revisions: Sequence[str],
) -> ComparedJob:
    """Compare a job with the row of its name; the code of `definitions` differs, and `revisions` are new.

    Raises:
        UsageError: it is running and was changed.
    """
    run = partial(ComparedJob, job, Action.RUN, number=row.id)
    if row.hash == job.hash and (model := _unchosen_model(job, row, disk.stamp)):
        reason = f"the flipped labels of {model} are not chosen yet"
        if row.state is State.RUNNING:
            wait = f"Wait for it with `launcher wait {row.id}`, then run the file again."
            raise UsageError(f"{job.name} is running, but {reason}. {wait}")
        return run("changed", reason, (reason,))
    if row.state in OPEN_STATES and row.hash == job.hash:
        options = () if row.state is State.RUNNING else _other_options(job, row)
        return reuse_pending(job, row)._replace(options=options)
    if row.hash != job.hash:
        changes = hash_changes(job, row, repeated_jobs, definitions, revisions=revisions)
        if row.state is State.RUNNING:
            raise UsageError(
                f"{job.name} is running, but the task file has changed ({join_changes(changes)}). Wait for "
                f"it, cancel it with `launcher cancel {row.id}`, or give the task file another name."
            )
        return run("changed", join_changes(changes), changes)
    if row.state is not State.DONE:
        return run(
            row.state, f"{row.state} before: {strip_state_prefix(row.reason.partition(chr(10))[0])}"
        )
    if force_reason:
        return run("forced", force_reason)
    if repeated_jobs:
        reason = f"{repeated_jobs[0]} runs again"
        return run("changed", reason, (reason,))
    # as its entry names them, where it is a program's
    names = dict(zip(map(str, job.outputs), _listed_in(job, OUTPUTS), strict=False))
    for path, before in row.outputs.items():
        now = disk.stamp(path)
        if not disk.digests.is_unchanged(path, before, now):
            reason = f"{names.get(path, path)} {'is gone' if now is None else 'was changed'}"
            return run("changed", reason, (reason,))
    reason = "done before, with the same settings, code and inputs"
    return ComparedJob(job, Action.CACHED, "cached", reason, number=row.id)


def reuse_pending(job: PlannedJob, row: JobRow) -> ComparedJob:
    """Return a job that waits or runs already."""
    return ComparedJob(job, Action.JOIN, row.state, f"already {row.state}", number=row.id)


def _other_options(job: PlannedJob, row: JobRow) -> tuple[str, ...]:
    """Return the names of the options that a waiting job does not share with the plan's."""
    record = known_record(row.spec_text)
    more = {*job.after_any}.difference(record.get("after_any", ()))
    names = ("after_any",) if more else ()
    if has_options(record, job.resources, job.terms, job.priority):
        return names
    return (*names, *changed_options(row.spec, job))


def _unchosen_model(job: PlannedJob, row: JobRow, stamp: Callable[[str], FileStamp | None]) -> str:
    """Return the folder of a model for which a draw was not asked before, and has to be; '' if none."""
    if job.role is not Role.LABELS:
        return ""
    asked = {*row.outputs, *row.spec.outputs}
    more = (path for path in map(str, job.outputs) if path not in asked and stamp(path) is None)
    return next((Path(path).parent.name for path in more), "")


def _refuse_other(job: PlannedJob, row: JobRow | None, *, is_other_code: bool) -> None:
    """Refuse results of another phase that do not exist or that have other settings.

    A job that is not in the queue is known only by its files, which exist.
    """
    if row is None or (row.state is State.DONE and row.hash == job.hash):
        return
    what, remedy = f"its state is {row.state}", f"Run phases: [{job.kind}] first"
    # whether a training started from its own earlier weights says nothing about these weights
    changes = (
        ()
        if row.hash == job.hash
        else hash_changes(job, row, (), other_definitions(job, row, None), left_out={WARM_START})
    )
    if not changes and row.state is State.DONE:
        return
    if row.state in OPEN_STATES:
        remedy = f"Wait for it with `launcher wait {row.id}`"
    if changes:
        what = f"it was made differently ({', '.join(changes[:MOST_CHANGES])})"
    if is_other_code:
        what, remedy = "it was made with other code", f"{remedy}, or keep it with {ACCEPT_CODE}"
    raise UsageError(f"phases leaves out {job.name}, but {what}. {remedy}.")
