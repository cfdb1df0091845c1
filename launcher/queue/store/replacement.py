"""A new job in the place of an older one: of one of its name that waits, or of equal ones of an earlier batch."""

import json
from collections.abc import Collection, Mapping, Sequence
from json.encoder import encode_basestring_ascii
from typing import Any, NamedTuple

from launcher.queue.jobs.context import INPUTS, Context
from launcher.queue.jobs.job import FUNCTION, PROGRAM, Spec
from launcher.queue.jobs.params import params_of
from launcher.queue.jobs.states import OPEN_STATES, Reason, ReasonCode, State
from launcher.queue.store.job_names import newest_by_superseded, queued_name, superseded_name
from launcher.queue.store.lanes import rank_of
from launcher.queue.store.queue import NewJob, Store
from launcher.queue.store.queued_code import QueuedCode
from launcher.queue.store.rows import JobRow
from launcher.system.errors import UsageError
from launcher.system.lazy_regex import compile_lazily

IDENTITY = "identity"  # the setting of a function that equal calls share; '' if no call is equal
REPLACED_REASON = Reason(code=ReasonCode.EDITED, text="replaced by `launcher add --replace`")
_NUMBERED = compile_lazily(rf"{PROGRAM}/\d+'*")  # the name of a program without --name
WAITING_STATES = frozenset({State.QUEUED, State.HELD})


def replace_waiting(
    store: Store,
    row: JobRow,
    context: Context,
    new: NewJob,
    now: float,
    *,
    code: QueuedCode | None = None,
) -> int:
    """Put a job in the place of one of its name that waits; return its number. Inside `writing`.

    It keeps number, place in the queue, tags and note, and the jobs that wait for it; one that was held stays held.

    Raises:
        UsageError: it would wait for a job that waits for it.
    """
    _refuse_cycle(store, row, {*new.dependencies, *new.after_any})
    state = State.HELD if State.HELD in {row.state, new.state} else new.state
    spec, reason = new.spec, REPLACED_REASON
    replacing = NewJob(
        spec=spec,
        dependencies=new.dependencies,
        after_any=new.after_any,
        state=state,
        reason=reason,
    )
    job = store.insert_or_replace(row.run_id, context, replacing, now, code)
    # its place is that of when it was submitted first
    store.database.execute(
        "UPDATE jobs SET submitted = ?, rank = ? WHERE id = ?",
        (row.submitted, rank_of(row.submitted, spec.priority), job),
    )
    return job


class _OlderJob(NamedTuple):
    """An older job of a batch."""

    id: int
    run_id: int
    name: str
    state: str
    argv: Sequence[str]
    key: str  # '' if the job is equal to none


class EqualJobs(NamedTuple):
    """Older jobs that are equal to those of a new batch."""

    replaced: Sequence[int]
    waiting: Sequence[int]  # waiting jobs that keep their names and rows


def replace_equal_jobs(
    store: Store, run: int, context: Context, new: Mapping[int, Spec]
) -> EqualJobs:
    """Let the jobs of a new batch replace equal ones of earlier batches that have started. Inside `writing`.

    A replaced job gets the name of its successor with its own number. It keeps its own name if a user chose it.

    Args:
        store: Queue.
        run: Number of their run.
        context: Context in which the new jobs run.
        new: Specifications of the new jobs by their numbers.
    """
    equal = _older_jobs(store, run, new)
    lines = {tuple(job.argv) for job in equal}
    where = context.folder, context.interpreter
    successors: dict[str, list[int]] = {}
    for number, spec in new.items():
        if spec.argv in lines:
            key = _job_key(spec.name, spec._asdict(), where)
            successors.setdefault(key, []).append(number)
    equal = [job for job in equal if job.key and job.key in successors]
    waiting = [job.id for job in equal if job.state in WAITING_STATES]
    older = [job for job in equal if job.state not in WAITING_STATES]
    newest = newest_by_superseded(store.database.execute, older)
    ranks: dict[str, dict[int, int]] = {}  # equal jobs of one batch have a successor each
    for head, key in sorted((newest.get(job.id, job.id), job.key) for job in older):
        ranks.setdefault(key, {}).setdefault(head, len(ranks[key]))
    for job in older:
        of_key = successors[job.key]
        at = min(ranks[job.key][newest.get(job.id, job.id)], len(of_key) - 1)
        store.job_control.rename(job.id, superseded_name(new[of_key[at]].name, job.id))
    return EqualJobs([job.id for job in older], waiting)


def _older_jobs(store: Store, run: int, new: Mapping[int, Spec]) -> list[_OlderJob]:
    """Return the older jobs of batches whose names were not chosen, with the command lines of new jobs."""
    first = min(new)
    has_older = "SELECT 1 FROM jobs WHERE run = ? AND id < ? LIMIT 1"
    if not store.database.execute(has_older, (run, first)).fetchone():
        return []
    lines = {f"[{','.join(map(encode_basestring_ascii, spec.argv))}]" for spec in new.values()}
    rows = store.database.execute(
        "SELECT jobs.id, run, name, state, kind, spec, json_extract(body, '$.folder') AS folder,"
        " json_extract(body, '$.interpreter') AS interpreter"
        " FROM jobs JOIN contexts ON contexts.id = jobs.context"
        " WHERE run = ?1 AND jobs.id < ?2 AND CASE WHEN json_valid(spec)"
        " THEN json_extract(spec, '$.batch') IS NOT NULL AND"
        " json_extract(spec, '$.argv') IN (SELECT value FROM json_each(?3)) END ORDER BY jobs.id",
        (run, first, json.dumps([*lines])),
    )
    older = []
    for number, of_run, name, state, kind, text, folder, interpreter in rows:
        before = queued_name(name, number)
        if kind != PROGRAM or _NUMBERED.fullmatch(before):
            spec = json.loads(text)
            key = _job_key(before, spec, (folder, interpreter))
            older.append(_OlderJob(number, of_run, name, state, spec["argv"], key))
    return older


def _job_key(name: str, spec: Mapping[str, Any], job_key: tuple[str, str]) -> str:
    """Return a text that equal jobs share; '' if a job is equal to none.

    Args:
        name: The name under which it was queued.
        spec: Its stored specification.
        job_key: Its working folder and interpreter.
    """
    settings = spec.get("settings", {})
    if spec["kind"] == FUNCTION:
        identity = settings.get(IDENTITY)
        return json.dumps([name.rpartition("#")[0], identity, job_key]) if identity else ""
    files = [settings.get(key) for key in ("cwd", "env", INPUTS)]
    params = sorted(params_of(settings, spec["argv"]).items())
    return json.dumps([spec["argv"], params, files, job_key], sort_keys=True)


def _refuse_cycle(store: Store, row: JobRow, needed_jobs: Collection[int]) -> None:
    behind = {
        row.id: row,
        **{other.id: other for other in store.job_control.transitive_waiters(row.id)},
    }
    for number in sorted(needed_jobs & behind.keys()):
        other = behind[number]
        if other.id == row.id:
            raise UsageError(f"{row.name} cannot wait for itself")
        if other.state in OPEN_STATES:
            raise UsageError(
                f"{row.name} cannot start after {other.name} (job {number}), which waits for it"
            )
