"""A plan compared with the queue: which of its jobs are new, changed, done already, under way.

A hash does not tell what went into it. Whether only the code differs is found by trying: with the
code that the queue remembers of a job, and of each job that it needs, its hash must come out as the
queue has it.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from launcher.context import INPUTS, OUTPUTS, RUN_FOLDER, path_from
from launcher.errors import UsageError
from launcher.ids import read_words
from launcher.job import asks_for
from launcher.job_options.registry import changed_options
from launcher.kind_interface import Kind, Role
from launcher.planning.dependencies import FOLDER_SETTING
from launcher.planning.plan import Code, Identity, Plan, PlannedJob, Savings
from launcher.states import OPEN, State
from launcher.store.connection import known_record
from launcher.store.rows import JobRow
from launcher.system.code_digests import WHOLE
from launcher.system.file_digests import FileDigests, file_changes, found_now
from launcher.system.files import Json, Stamp
from launcher.taskfile.header import WARM_START
from launcher.taskfile.language import Reuse


class _ProgramFiles:
    """What is another in the files that programs had read when they were done; each file is read once."""

    def __init__(self, plan: Plan, digests: FileDigests) -> None:
        self._root, self._runs = str(plan.run_folder.parents[1]), str(plan.run_folder)
        self._found, self._known = cache(digests.found), cache(known_record)
        self._changes: dict[str, Mapping[str, str]] = {}

    def now(self, job: PlannedJob, row: JobRow) -> dict[str, str]:
        """Return what is in them now, by the names of the files."""
        before = {} if job.entry or not row.sources_text else self._known(row.sources_text)
        cwd = str(job.settings.get(FOLDER_SETTING) or "")
        return found_now(before, _listed_in(job, INPUTS), partial(self._path, cwd), self._found)

    def _path(self, *names: str) -> str:
        path = self._root
        for name in names:
            path = path_from(path, name.replace(RUN_FOLDER, self._runs))
        return path

    def changes(self, job: PlannedJob, row: JobRow) -> Mapping[str, str]:
        """Return in a few words each what is another, by the names of the files."""
        if job.name not in self._changes:
            now = self.now(job, row)
            known = self._known(row.sources_text or "{}") if now else {}
            self._changes[job.name] = file_changes(known, now)
        return self._changes[job.name]

    def is_code(self, job: PlannedJob, row: JobRow) -> bool:
        """Tell whether something is another, and no input is."""
        changes = self.changes(job, row)
        return bool(changes) and not any(name in changes for name in _listed_in(job, INPUTS))


def _listed_in(job: PlannedJob, setting: str) -> Sequence[Json]:
    names = job.settings.get(setting)
    return names if isinstance(names, list) and not job.entry else ()


def _done_with_other_code(
    plan: Plan, rows: Mapping[str, JobRow], files: _ProgramFiles
) -> frozenset[str]:
    """Return the names of the jobs that were done with other code, and differ in nothing else.

    A setting that the queue knows nothing of and that has its default counts as code: the version
    that queued the job had no such setting. Of a program's files those are code that it does not call inputs.

    Args:
        plan: the jobs as they would be queued now, those that `phases` leaves out among them.
        rows: the run's jobs in the queue, by name.
        files: of programs.
    """
    earlier = _EarlierHashes(plan.kinds, rows)
    return frozenset(
        job.name
        for job in (*plan.jobs, *plan.left_out)
        if (row := rows.get(job.name)) is not None
        and row.state is State.DONE
        and (
            row.hash == earlier.of(job.identity)
            if row.hash != job.hash
            else files.is_code(job, row)
        )
    )


class _EarlierHashes:
    """The hashes that jobs would have with the code that the queue remembers."""

    def __init__(self, kinds: Mapping[str, Kind], rows: Mapping[str, JobRow]) -> None:
        self._kinds, self._rows = kinds, rows
        self._hashes: dict[tuple[str, str], str] = {}  # (name, hash now) → hash then
        self._codes: dict[tuple[object, ...], Code] = {}  # entry and sources → the same, once

    def of(self, identity: Identity) -> str:
        """Return the hash of a job; as it is now where the queue does not know the job."""
        key = (identity.job, identity.hash)
        if key not in self._hashes:
            code, settings = identity.code, identity.settings
            if (row := self._rows.get(identity.job)) is not None:
                code = self._code(row)
                settings = _known_settings(self._kinds[identity.kind], settings, row)
            needs = [self.of(need) for need in identity.needs]
            self._hashes[key] = identity.digest(code, settings, needs)
        return self._hashes[key]

    def _code(self, row: JobRow) -> Code:
        """Return the code of a row; the jobs of a kind share it, and its text is made once."""
        key = (row.spec.entry, *row.spec.sources.items())
        if key not in self._codes:
            # what a program has read is recorded when it is done, and enters no hash
            self._codes[key] = Code(row.spec.entry, row.spec.sources if row.spec.entry else {})
        return self._codes[key]


def _known_settings(kind: Kind, settings: str, row: JobRow) -> str:
    """Return settings, as JSON, without those that are new since the job was queued."""
    values = json.loads(settings)
    new = {key for key in values if key not in row.spec.settings and _is_default(kind, key, values)}
    if not new:
        return settings
    return json.dumps({key: values[key] for key in values if key not in new}, sort_keys=True)


def _is_default(kind: Kind, key: str, values: Mapping[str, object]) -> bool:
    field = kind.settings.model_fields[key]
    default = field.get_default(call_default_factory=True)
    return (
        not field.is_required()
        # as JSON gives it back
        and json.loads(json.dumps(default, default=str)) == values[key]
    )


MOST_CHANGES = 3  # listed in a reason, which is one line
LONGEST_VALUE = 40  # characters of a setting that was changed
ACCEPT_CODE = "--accept-code"
BY_FILES = "code that an earlier version identified by its files"


class Action(StrEnum):
    """What a submission does with a planned job."""

    RUN = "run"
    CACHED = "cached"  # done before, and its files are as it left them
    JOIN = "join"  # waits or runs already


class ComparedJob(NamedTuple):
    """A planned job compared with the job of its name in the queue."""

    job: PlannedJob
    action: Action
    state: str  # for the listing: new, cached, changed, queued, running, failed …
    reason: str
    changes: tuple[str, ...] = ()  # since it was queued last: settings, modules, words, inputs
    other_code: bool = False  # it was done with other code, and nothing else is different
    options: tuple[str, ...] = ()  # that it waits with as they were, and not as the plan has them
    modules: tuple[str, ...] = ()  # whose code is another than when it was queued last
    is_by_files: bool = False  # its code was identified by an earlier version, in another way
    number: int | None = None  # its job in the queue, None where it is new
    shared: tuple[str, ...] = ()  # names of jobs that do work of it for others, too

    @property
    def after_any(self) -> tuple[str, ...]:
        """Names of jobs that must have ended before it, done or not."""
        return (*self.job.after_any, *self.shared)


def open_jobs(compared_jobs: Iterable[ComparedJob]) -> list[ComparedJob]:
    """Return the jobs that are not done yet."""
    return [compared for compared in compared_jobs if compared.action is not Action.CACHED]


class Comparison(NamedTuple):
    """A plan compared with the queue."""

    plan: Plan
    jobs: tuple[ComparedJob, ...]  # in the plan's order
    accepted: Mapping[str, str]  # jobs whose result of other code is kept, and their queued hashes
    savings: tuple[Savings, ...] = ()  # by jobs that do shared work
    files: Mapping[str, Mapping[str, str]] = {}  # of the accepted programs, what they read


def compare_with_queue(
    plan: Plan,
    rows: Mapping[str, JobRow],
    stamp: Callable[[str], Stamp | None],
    *,
    digests: FileDigests | None = None,
    force: bool = False,
    accept_code: bool = False,
) -> Comparison:
    """Compare each job of the plan with the queue, and decide whether it has to run.

    Args:
        plan: the jobs; each one's needs come before it.
        rows: the run's jobs in the queue, by name.
        stamp: tells size and time of a file, None where there is none.
        digests: of the files that programs have read.
        force: run what is done already, too, as a task file with `reuse: nothing` does.
        accept_code: keep what was done with other code, where nothing else is different.

    Raises:
        UsageError: the run is one of added programs; a job that runs right now was changed, or `phases` leaves out what was made
            with other settings, or is not made yet; or what was done shall both be kept and run again.
    """
    if any(not row.hash for row in rows.values()):  # no plan has made them
        raise UsageError(
            f"{plan.name!r} is a run of programs that `launcher add --run` queued: give the task file "
            f"another name, or forget them with `launcher clean run:{plan.name}`"
        )
    forced = "--force" if force else ""
    if not forced and plan.reuse is not Reuse.RESULTS:
        forced = f"reuse: {plan.reuse}"
    if forced and accept_code:
        raise UsageError(
            f"{ACCEPT_CODE} keeps results, and {forced} runs all of them again; leave one of them out"
        )
    digests = digests or FileDigests()
    files = _ProgramFiles(plan, digests)
    other_code = frozenset() if forced else _done_with_other_code(plan, rows, files)
    accepted = _accepted(plan, rows, other_code) if accept_code else {}
    for job in plan.left_out:
        _refuse_other(job, accepted.get(job.name) or rows.get(job.name), other_code)
    compared_jobs: dict[str, ComparedJob] = {}
    for job in plan.jobs:
        row = rows.get(job.name)
        again = [need for need in job.needs if _may_differ(compared_jobs[need], plan)]
        if row is None:
            compared_jobs[job.name] = ComparedJob(job, Action.RUN, "new", "new")
            continue
        is_other = row.hash != job.hash
        modules = _other_modules(job, row) if is_other else ()
        compared = _compare_known(
            job,
            accepted.get(job.name, row),
            _Disk(stamp, digests),
            again=again,
            forced=forced,
            modules=modules,
        )
        if compared.action is Action.CACHED and (changes := files.changes(job, row)):
            if job.name not in accepted:
                words = tuple(changes.values())
                compared = compared._replace(
                    action=Action.RUN, state="changed", reason=_listed(words), changes=words
                )
            modules = tuple(changes)
        compared_jobs[job.name] = compared._replace(
            other_code=job.name in other_code,
            modules=modules,
            is_by_files=is_other and bool(job.entry) and _is_by_files(row.spec.sources),
        )
    jobs = tuple(compared_jobs.values())
    kept = {compared.job.name for compared in jobs if compared.action is Action.CACHED}
    kept |= {job.name for job in plan.left_out}
    return Comparison(
        plan=plan,
        jobs=jobs,
        accepted={name: rows[name].hash for name in accepted if name in kept},
        files={
            job.name: read
            for job in plan.jobs
            if job.name in accepted and (read := files.now(job, rows[job.name]))
        },
    )


def _accepted(plan: Plan, rows: Mapping[str, JobRow], names: Collection[str]) -> dict[str, JobRow]:
    """Return rows as if their jobs had been done with the code of the plan."""
    return {
        job.name: replace(rows[job.name], hash=job.hash)
        for job in (*plan.jobs, *plan.left_out)
        if job.name in names
    }


def _may_differ(need: ComparedJob, plan: Plan) -> bool:
    """Tell whether a job leaves anything new to those that need it.

    A draw that serves many models runs again where one more wants it, and gives to all others what
    their hashes say already.
    """
    drawn = plan.kinds[need.job.kind].settings.for_many
    return need.action is Action.RUN and not drawn


class _Disk(NamedTuple):
    """How files are looked at."""

    stamp: Callable[[str], Stamp | None]  # size and time; None where there is none
    digests: FileDigests


def _compare_known(
    job: PlannedJob,
    row: JobRow,
    disk: "_Disk",
    *,
    again: Sequence[str],
    forced: str,
    modules: Sequence[str],
) -> ComparedJob:
    """Compare a job with the row of its name, of which the code of `modules` differs.

    Raises:
        UsageError: it runs right now and was changed.
    """
    run = partial(ComparedJob, job, Action.RUN, number=row.id)
    if row.hash == job.hash and (model := _further_model(job, row, disk.stamp)):
        reason = f"{model} needs its choice, too"
        if row.state is State.RUNNING:
            wait = f"wait for it with `launcher wait {row.id}`, and run the file again"
            raise UsageError(f"{job.name} runs, and {reason}; {wait}")
        return run("changed", reason, (reason,))
    if row.state in OPEN and row.hash == job.hash:
        options = () if row.state is State.RUNNING else _other_options(job, row)
        return joined(job, row)._replace(options=options)
    if row.hash != job.hash:
        changes = _changes(job, row, again, modules)
        if row.state is State.RUNNING:
            raise UsageError(
                f"{job.name} runs in another way ({_listed(changes)}); wait for it, "
                f"cancel it with `launcher cancel {row.id}`, or give the task file another name"
            )
        return run("changed", _listed(changes), changes)
    if row.state is not State.DONE:
        return run(row.state, f"{row.state} before: {row.reason.partition(chr(10))[0]}")
    if forced:
        return run("forced", forced)
    if again:
        reason = f"{again[0]} runs again"
        return run("changed", reason, (reason,))
    # as its entry names them, where it is a program's
    names = dict(zip(map(str, job.outputs), _listed_in(job, OUTPUTS), strict=False))
    for path, before in row.outputs.items():
        now = disk.stamp(path)
        if not disk.digests.is_same(path, before, now):
            reason = f"{names.get(path, path)} {'is gone' if now is None else 'was changed'}"
            return run("changed", reason, (reason,))
    reason = "done before, with the same settings, code and inputs"
    return ComparedJob(job, Action.CACHED, "cached", reason, number=row.id)


def _listed(changes: Sequence[str]) -> str:
    return ", ".join(changes[:MOST_CHANGES]) + (", …" if len(changes) > MOST_CHANGES else "")


def joined(job: PlannedJob, row: JobRow) -> ComparedJob:
    """Return a job that waits or runs already."""
    return ComparedJob(job, Action.JOIN, row.state, f"{row.state} already", number=row.id)


def _other_options(job: PlannedJob, row: JobRow) -> tuple[str, ...]:
    """Return the names of the options that a waiting job does not share with the plan's."""
    record = known_record(row.spec_text)
    more = {*job.after_any}.difference(record.get("after_any", ()))
    names = ("after_any",) if more else ()
    if asks_for(record, job.resources, job.terms, job.priority):
        return names
    return (*names, *changed_options(row.spec, job))


def _further_model(job: PlannedJob, row: JobRow, stamp: Callable[[str], Stamp | None]) -> str:
    """Return the folder of a model for which a draw was not asked before, and has to be; '' if none."""
    if job.role is not Role.LABELS:
        return ""
    asked = {*row.outputs, *row.spec.outputs}
    more = (path for path in map(str, job.outputs) if path not in asked and stamp(path) is None)
    return next((Path(path).parent.name for path in more), "")


def _refuse_other(job: PlannedJob, row: JobRow | None, other_code: Collection[str]) -> None:
    """Refuse to work on what a job of another phase did not make, or made otherwise.

    Of what the queue does not know there are only the files, and they are there.
    """
    if row is None or (row.state is State.DONE and row.hash == job.hash):
        return
    what, remedy = f"is {row.state}", f"run phases: [{job.kind}] first"
    # whether a training started from its own earlier weights says nothing about these weights
    changes = (
        ()
        if row.hash == job.hash
        else _changes(job, row, (), _other_modules(job, row), but={WARM_START})
    )
    if not changes and row.state is State.DONE:
        return
    if row.state in OPEN:
        remedy = f"wait for it with `launcher wait {row.id}`"
    if changes:
        what = f"was made in another way ({', '.join(changes[:MOST_CHANGES])})"
    if job.name in other_code:
        what, remedy = "was made with other code", f"{remedy}, or keep it with {ACCEPT_CODE}"
    raise UsageError(f"{job.name}, which phases leaves out, {what}: {remedy}")


def _changes(
    job: PlannedJob,
    row: JobRow,
    again: Sequence[str],
    modules: Sequence[str],
    *,
    but: Collection[str] = (),
) -> tuple[str, ...]:
    """Return in a few words each why the hash differs; the settings in `but` are left out."""
    before, decisive = row.spec, json.loads(job.identity.settings or "{}")
    settings = [
        key
        for key in sorted({*job.settings, *before.settings})
        if job.settings.get(key) != before.settings.get(key)
        # one that came later, as earlier versions worked without knowing it, is none that was changed
        and (key in before.settings or key in decisive)
    ]
    changes = [
        f"{key} {_shown(before.settings, key)} → {_shown(job.settings, key)}"
        for key in settings
        if key not in but
    ]
    changes += _code_changes(job, row, modules)
    if job.images != before.images:
        changes.append(f"images {before.images} → {job.images}")
    words = read_words(before.words)
    if job.words != words:
        names = {*job.words.subsets, *job.words.modifiers, *words.subsets, *words.modifiers}
        changes.append(f"other folders of {', '.join(sorted(names))}")
    if again:
        changes.append(f"{again[0]} runs again")
    return tuple(changes) or (() if settings else ("its inputs changed",))


def _code_changes(job: PlannedJob, row: JobRow, modules: Sequence[str]) -> list[str]:
    """Return in a few words each what of the code differs: `modules`, or what none of them shows."""
    before = row.spec.sources
    if before.get(WHOLE) == job.sources.get(WHOLE):
        return []
    if len(modules) > MOST_CHANGES:
        return [f"code of {len(modules)} modules"]
    if not modules:
        return [BY_FILES if _is_by_files(before) else "other code"]
    return [
        f"{module} {_digest(before.get(module))} → {_digest(job.sources.get(module))}"
        for module in modules
    ]


def _other_modules(job: PlannedJob, row: JobRow) -> tuple[str, ...]:
    """Return the modules whose code differs from what the queue has, removed ones last.

    What was only moved is no change; and what an earlier version said of modules cannot be compared.
    """
    before, now = row.spec.sources, job.sources
    if before.get(WHOLE) == now.get(WHOLE) or _is_by_files(before):
        return ()
    known, present = set(before.values()), set(now.values())
    changed = [name for name in now if name != WHOLE and now[name] not in known]
    removed = [name for name in before if name not in now and before[name] not in present]
    return (*changed, *removed)


def _is_by_files(sources: Mapping[str, str]) -> bool:
    """Tell whether an earlier version identified a job's code: by the files in which it lay."""
    return bool(sources) and WHOLE not in sources


def _shown(settings: Mapping[str, Json], key: str) -> str:
    """Return a setting's value as a task file says it, cut where it is long."""
    if key not in settings:
        return "unset"
    value = settings[key]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"


def _digest(digest: str | None) -> str:
    return "absent" if digest is None else f"{digest[:4]}…"
