"""Write the jobs of a plan that have to run into the queue, all of them or none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.ids import model_folder_name
from launcher.job import Context, Spec
from launcher.planning.plan import Plan, PlannedJob
from launcher.planning.queue_comparison import (
    ACCEPT_CODE,
    Action,
    ComparedJob,
    done_with_other_code,
)
from launcher.states import Reason, ReasonCode
from launcher.store.queue import NewJob, Store

ACCEPTED = Reason(
    code=ReasonCode.ACCEPTED, text=f"result kept by {ACCEPT_CODE}: done with other code"
)
LONGEST_NAME = 240  # bytes of a log's file name; a folder entry holds 255


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
    compared_jobs: Sequence[ComparedJob],
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
        compared_jobs: the jobs, from `compare_with_queue`.
        context: the folder and environment in which they run.
        now: the time.
        accept_code: record what is kept as done with the code of the plan.

    Raises:
        StoreError: the queue cannot be written, or one of the jobs started meanwhile.
    """
    with store.writing():
        run = store.run(root, plan.name)
        rows = store.read.jobs_of(root, plan.name)
        queued = [compared for compared in compared_jobs if compared.action is Action.RUN]
        fresh = [compared for compared in queued if compared.job.name not in rows]
        again = [compared for compared in queued if compared.job.name in rows]
        if accept_code:
            _accept_code(store, root, plan, compared_jobs, now)
        for compared in again:  # their needs may be new jobs, so they are set below
            store.put(run, context, _new(compared, root, plan.name), now)
        first = store.next_number()  # not before: a job that is put again may use a number up
        numbers = {name: row.id for name, row in rows.items()}
        numbers |= {compared.job.name: first + index for index, compared in enumerate(fresh)}
        store.put_new(
            run, context, [_new(compared, root, plan.name, numbers) for compared in fresh], now
        )
        for compared in again:
            store.set_needs(
                numbers[compared.job.name], [numbers[need] for need in compared.job.needs], now
            )
    actions = [compared.action for compared in compared_jobs]
    return Submitted(
        jobs=tuple(numbers[compared.job.name] for compared in compared_jobs),
        queued=actions.count(Action.RUN),
        joined=actions.count(Action.JOIN),
        cached=actions.count(Action.CACHED),
        accepted=sum(
            compared.action is Action.CACHED and compared.other_code for compared in compared_jobs
        ),
    )


def _accept_code(
    store: Store, root: Path, plan: Plan, compared_jobs: Sequence[ComparedJob], now: float
) -> None:
    """Record what was done with other code, and is kept, as done with the code of the plan."""
    rows = store.read.jobs_of(root, plan.name)
    kept = {compared.job.name for compared in compared_jobs if compared.action is Action.CACHED}
    kept |= {job.name for job in plan.left_out}
    kept &= done_with_other_code(plan, rows)
    for job in (*plan.jobs, *plan.left_out):
        if job.name in kept:
            store.accept(rows[job.name].id, spec_of(job, root, plan.name), ACCEPTED, now)


def _new(
    compared: ComparedJob, root: Path, run: str, numbers: Mapping[str, int] | None = None
) -> NewJob:
    needs = [] if numbers is None else [numbers[need] for need in compared.job.needs]
    code = ReasonCode.NEW if compared.number is None else ReasonCode.CHANGED
    reason = Reason(code=code, text=compared.reason)
    return NewJob(spec=spec_of(compared.job, root, run), needs=needs, reason=reason)


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
