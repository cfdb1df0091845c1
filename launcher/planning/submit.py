"""From a plan to the queue: what is new, done already, under way; and putting the rest in."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from launcher.errors import UsageError
from launcher.ids import model_folder_name, read_words
from launcher.job import Context, Spec
from launcher.kinds import Role
from launcher.planning.code_changes import changed_in_code_alone
from launcher.planning.plan import Plan, PlannedJob
from launcher.states import OPEN, Reason, ReasonCode, State
from launcher.store.queue import NewJob, Store
from launcher.store.rows import JobRow
from launcher.system.files import Json, Stamp
from launcher.taskfile.header import WARM_START, Reuse

MOST_CHANGES = 3  # told in one line of a reason
LONGEST_VALUE = 40  # characters of a setting that was changed
ACCEPT_CODE = "--accept-code"
ACCEPTED = Reason(
    code=ReasonCode.ACCEPTED, text=f"result kept by {ACCEPT_CODE}: done with other code"
)
LONGEST_NAME = 240  # bytes of a log's file name; a folder entry holds 255


class Action(StrEnum):
    """What a submission does with a planned job."""

    RUN = "run"
    CACHED = "cached"  # done before, and its files are as it left them
    JOIN = "join"  # waits or runs already


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A planned job beside what the queue knows of it."""

    job: PlannedJob
    action: Action
    state: str  # for the listing: new, cached, changed, queued, running, failed …
    reason: str
    changes: tuple[str, ...] = ()  # since it was queued last: settings, modules, words, inputs
    other_code: bool = False  # it was done with other code, and nothing else is different
    modules: tuple[str, ...] = ()  # whose code is another than when it was queued last
    number: int | None = None  # its job in the queue, None where it is new


def judge(
    plan: Plan,
    rows: Mapping[str, JobRow],
    stamp: Callable[[str], Stamp | None],
    *,
    force: bool = False,
    accept_code: bool = False,
) -> list[Standing]:
    """Return what each job of the plan needs, in the plan's order.

    Args:
        plan: the jobs; each one's needs come before it.
        rows: the run's jobs in the queue, by name.
        stamp: tells size and time of a file, None where there is none.
        force: run what is done already, too, as a task file with `reuse: nothing` does.
        accept_code: keep what was done with other code, where nothing else is different.

    Raises:
        UsageError: a job that runs right now was changed, or `phases` leaves out what was made
            with other settings, or is not made yet; or what was done shall both be kept and run again.
    """
    forced = "--force" if force else ""
    if not forced and plan.reuse is not Reuse.RESULTS:
        forced = f"reuse: {plan.reuse}"
    if forced and accept_code:
        raise UsageError(
            f"{ACCEPT_CODE} keeps results, and {forced} runs all of them again; leave one of them out"
        )
    other_code = frozenset() if forced else done_with_other_code(plan, rows)
    accepted = _accepted(plan, rows, other_code) if accept_code else {}
    for job in plan.left_out:
        _refuse_other(job, accepted.get(job.name) or rows.get(job.name), other_code)
    standings: dict[str, Standing] = {}
    for job in plan.jobs:
        row = rows.get(job.name)
        again = [need for need in job.needs if _may_differ(standings[need], plan)]
        if row is None:
            standing = Standing(job=job, action=Action.RUN, state="new", reason="new")
        else:
            known = accepted.get(job.name, row)
            standing = _judge_known(job, known, stamp, again=again, forced=forced)
        if row is not None and row.hash != job.hash:
            standing = replace(standing, modules=_other_modules(job, row))
        standings[job.name] = replace(standing, other_code=job.name in other_code)
    return list(standings.values())


def done_with_other_code(plan: Plan, rows: Mapping[str, JobRow]) -> frozenset[str]:
    """Return the names of the jobs that were done with other code, and differ in nothing else."""
    changed = changed_in_code_alone(plan, rows)
    return frozenset(name for name in changed if rows[name].state is State.DONE)


def _accepted(plan: Plan, rows: Mapping[str, JobRow], names: Collection[str]) -> dict[str, JobRow]:
    """Return rows as if their jobs had been done with the code of the plan."""
    hashes = {job.name: job.hash for job in (*plan.jobs, *plan.left_out)}
    return {name: replace(rows[name], hash=hashes[name]) for name in names}


def _may_differ(need: Standing, plan: Plan) -> bool:
    """Tell whether a job leaves anything new to those that need it.

    A draw that serves many models runs again where one more wants it, and gives to all others what
    their hashes say already.
    """
    drawn = plan.kinds[need.job.kind].settings.for_many
    return need.action is Action.RUN and not drawn


def _judge_known(
    job: PlannedJob,
    row: JobRow,
    stamp: Callable[[str], Stamp | None],
    *,
    again: Sequence[str],
    forced: str,
) -> Standing:
    """Judge a job that the queue knows.

    Raises:
        UsageError: it runs right now and was changed.
    """
    if row.hash == job.hash and (model := _further_model(job, row, stamp)):
        reason = f"{model} needs its choice, too"
        if row.state is State.RUNNING:
            wait = f"wait for it with `launcher wait {row.id}`, and run the file again"
            raise UsageError(f"{job.name} runs, and {reason}; {wait}")
        return _to_run(job, row, "changed", reason, (reason,))
    if row.state in OPEN and row.hash == job.hash:
        reason = f"{row.state} already"
        return Standing(job=job, action=Action.JOIN, state=row.state, reason=reason, number=row.id)
    if row.hash != job.hash:
        changes = _changes(job, row, again)
        reason = ", ".join(changes[:MOST_CHANGES]) + (", …" if len(changes) > MOST_CHANGES else "")
        if row.state is State.RUNNING:
            raise UsageError(
                f"{job.name} runs in another way ({reason}); wait for it, "
                f"cancel it with `launcher cancel {row.id}`, or give the task file another name"
            )
        return _to_run(job, row, "changed", reason, changes)
    if row.state is not State.DONE:
        return _to_run(
            job, row, row.state, f"{row.state} before: {row.reason.partition(chr(10))[0]}"
        )
    if forced:
        return _to_run(job, row, "forced", forced)
    if again:
        reason = f"{again[0]} runs again"
        return _to_run(job, row, "changed", reason, (reason,))
    for path, before in row.outputs.items():
        now = stamp(path)
        if now != before:
            reason = f"{path} {'is gone' if now is None else 'was changed'}"
            return _to_run(job, row, "changed", reason, (reason,))
    reason = "done before, with the same settings, code and inputs"
    return Standing(job=job, action=Action.CACHED, state="cached", reason=reason, number=row.id)


def _further_model(job: PlannedJob, row: JobRow, stamp: Callable[[str], Stamp | None]) -> str:
    """Return the folder of a model for which a draw was not asked before, and has to be; '' if none."""
    if job.role is not Role.POISON:
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
    changes = [] if row.hash == job.hash else _changes(job, row, (), but={WARM_START})
    if not changes and row.state is State.DONE:
        return
    if row.state in OPEN:
        remedy = f"wait for it with `launcher wait {row.id}`"
    if changes:
        what = f"was made in another way ({', '.join(changes[:MOST_CHANGES])})"
    if job.name in other_code:
        what, remedy = "was made with other code", f"{remedy}, or keep it with {ACCEPT_CODE}"
    raise UsageError(f"{job.name}, which phases leaves out, {what}: {remedy}")


def _to_run(
    job: PlannedJob, row: JobRow, state: str, reason: str, changes: Sequence[str] = ()
) -> Standing:
    return Standing(
        job=job,
        action=Action.RUN,
        state=state,
        reason=reason,
        changes=tuple(changes),
        number=row.id,
    )


def _changes(
    job: PlannedJob, row: JobRow, again: Sequence[str], *, but: Collection[str] = ()
) -> list[str]:
    """Say in a few words each why the hash is another; the settings in `but` are left out."""
    before = row.spec
    settings = [
        key
        for key in sorted({*job.settings, *before.settings})
        if job.settings.get(key) != before.settings.get(key)
    ]
    changes = [
        f"{key} {_shown(before.settings, key)} → {_shown(job.settings, key)}"
        for key in settings
        if key not in but
    ]
    modules = _other_modules(job, row)
    if len(modules) > MOST_CHANGES:
        changes.append(f"code of {len(modules)} modules")
    else:
        changes += [
            f"{module} {_digest(before.sources.get(module))} → {_digest(job.sources.get(module))}"
            for module in modules
        ]
    if job.images != before.images:
        changes.append(f"images {before.images} → {job.images}")
    words = read_words(before.words)
    if job.words != words:
        names = {*job.words.subsets, *job.words.modifiers, *words.subsets, *words.modifiers}
        changes.append(f"other folders of {', '.join(sorted(names))}")
    if again:
        changes.append(f"{again[0]} runs again")
    return changes or ([] if settings else ["its inputs changed"])


def _other_modules(job: PlannedJob, row: JobRow) -> tuple[str, ...]:
    """Return the modules whose code is another than the queue remembers, those that are gone last."""
    before = row.spec.sources
    names = dict.fromkeys((*job.sources, *before))
    return tuple(name for name in names if before.get(name) != job.sources.get(name))


def _shown(settings: Mapping[str, Json], key: str) -> str:
    """Return a setting's value as a task file says it, cut where it is long."""
    if key not in settings:
        return "unset"
    value = settings[key]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"


def _digest(digest: str | None) -> str:
    return "absent" if digest is None else f"{digest[:4]}…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A run in the queue."""

    jobs: tuple[int, ...]  # every job of the plan, in its order
    queued: int
    joined: int
    cached: int
    accepted: int = 0  # of the cached ones: done with other code


def submit(
    store: Store,
    root: Path,
    plan: Plan,
    standings: Sequence[Standing],
    context: Context,
    now: float,
    *,
    accept_code: bool = False,
) -> Submitted:
    """Put what has to run into the queue, all of it or nothing.

    Args:
        store: the queue.
        root: where the run's folder lies, in `runs`.
        plan: the jobs.
        standings: what each of them needs, from `judge`.
        context: the surroundings in which they run.
        now: the time.
        accept_code: as `judge` was told; what is kept is recorded as done with the code of the plan.

    Raises:
        StoreError: the queue cannot be written, or one of the jobs started meanwhile.
    """
    with store.writing():
        run = store.run(root, plan.name)
        rows = store.read.jobs_of(root, plan.name)
        queued = [standing for standing in standings if standing.action is Action.RUN]
        fresh = [standing for standing in queued if standing.job.name not in rows]
        again = [standing for standing in queued if standing.job.name in rows]
        if accept_code:
            _accept_code(store, root, plan, standings, now)
        for standing in again:  # what they need may be new itself: it is said below
            store.put(run, context, _new(standing, root, plan.name), now)
        first = store.next_number()  # not before: a job that is put again may use a number up
        numbers = {name: row.id for name, row in rows.items()}
        numbers |= {standing.job.name: first + index for index, standing in enumerate(fresh)}
        store.put_new(
            run, context, [_new(standing, root, plan.name, numbers) for standing in fresh], now
        )
        for standing in again:
            store.set_needs(
                numbers[standing.job.name], [numbers[need] for need in standing.job.needs], now
            )
    actions = [standing.action for standing in standings]
    return Submitted(
        jobs=tuple(numbers[standing.job.name] for standing in standings),
        queued=actions.count(Action.RUN),
        joined=actions.count(Action.JOIN),
        cached=actions.count(Action.CACHED),
        accepted=sum(
            standing.action is Action.CACHED and standing.other_code for standing in standings
        ),
    )


def _accept_code(
    store: Store, root: Path, plan: Plan, standings: Sequence[Standing], now: float
) -> None:
    """Record what was done with other code, and is kept, as done with the code of the plan."""
    rows = store.read.jobs_of(root, plan.name)
    kept = {standing.job.name for standing in standings if standing.action is Action.CACHED}
    kept |= {job.name for job in plan.left_out}
    kept &= done_with_other_code(plan, rows)
    for job in (*plan.jobs, *plan.left_out):
        if job.name in kept:
            store.accept(rows[job.name].id, spec_of(job, root, plan.name), ACCEPTED, now)


def _new(
    standing: Standing, root: Path, run: str, numbers: Mapping[str, int] | None = None
) -> NewJob:
    needs = [] if numbers is None else [numbers[need] for need in standing.job.needs]
    code = ReasonCode.NEW if standing.number is None else ReasonCode.CHANGED
    reason = Reason(code=code, text=standing.reason)
    return NewJob(spec=spec_of(standing.job, root, run), needs=needs, reason=reason)


def spec_of(job: PlannedJob, root: Path, run: str) -> Spec:
    """Return a planned job as the queue keeps it."""
    return Spec(
        name=job.name,
        kind=job.kind,
        role=job.role,
        run=run,
        root=str(root),
        entry=job.entry,
        preload=job.preload,
        argv=job.argv,
        model=job.model,
        base=job.base,
        data=job.data,
        images=job.images,
        settings=job.settings,
        words=job.words.record(),
        needs=job.needs,
        outputs=tuple(map(str, job.outputs)),
        sources=job.sources,
        log_link=_log_link(job, root / "runs" / run),
        resources=job.resources,
        terms=job.terms,
        priority=job.priority,
        hash=job.hash,
        signature=job.signature,
    )


def _log_link(job: PlannedJob, run_folder: Path) -> str | None:
    """Return where a job's log appears, too: <id>/<kind>_<model>_<data>.log, without what it lacks."""
    if job.model is None:
        return None
    start = job.model if job.role == "test" else job.base
    name = "_".join(filter(None, [job.kind, start, job.data])) + ".log"
    if len(name.encode()) > LONGEST_NAME:
        name = f"{job.kind}_{job.hash[:12]}.log"
    return f"{run_folder}/{model_folder_name(job.model)}/{name}"
