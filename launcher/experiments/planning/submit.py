"""Write the jobs of a plan that have to run into the queue, all of them or none."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from launcher.experiments.draft import tested
from launcher.experiments.planning.comparison import (
    ACCEPT_CODE,
    Action,
    Adoption,
    ComparedJob,
    Comparison,
)
from launcher.experiments.planning.plan import Plan, PlannedJob
from launcher.ids import model_folder_name
from launcher.queue.jobs.context import Context, with_programs
from launcher.queue.jobs.job import PROGRAM, Spec
from launcher.queue.jobs.params import PARAMS
from launcher.queue.jobs.states import Reason, ReasonCode
from launcher.queue.store.adoption import AdoptedJob, adopt_done_jobs
from launcher.queue.store.queue import NewJob, Store
from launcher.queue.store.queued_code import describe_code
from launcher.queue.store.rows import JobRow
from launcher.queue.store.tags import REMOVED_TAG

ACCEPTED = Reason(
    code=ReasonCode.ACCEPTED, text=f"accepted by {ACCEPT_CODE}: result made with other code"
)
LONGEST_NAME = 240  # bytes of a log's file name; a folder entry holds 255


class SubmittedRun(NamedTuple):
    """A run in the queue."""

    jobs: tuple[int, ...]  # every job of the plan, in its order
    queued: int
    joined: int
    cached: int


class RunPaths:
    """The paths of a run, as text because thousands of jobs use them."""

    def __init__(self, root: Path, run: str) -> None:
        self.run = run
        self.root, self.run_folder = str(root), str(root / "runs" / run)


def submit(
    store: Store,
    root: Path,
    comparison: Comparison,
    context: Context,
    now: float,
    *,
    is_whole: bool = True,
    record: Callable[[Mapping[str, int]], object] = lambda _: None,
) -> SubmittedRun:
    """Put the jobs that have to run into the queue, all of them or none.

    Args:
        store: the queue.
        root: the folder whose `runs` contains the run's folder.
        comparison: comparison of the plan with the queue. Results of other code that it accepts are recorded
            as done with the code of the plan.
        context: the folder and environment in which the jobs run.
        now: the time.
        is_whole: the plan has all jobs of its file, so that others were removed from it.
        record: is called with name → number of the jobs in the transaction that inserts them.

    Raises:
        UsageError: a result of another folder has changed meanwhile.
        StoreError: the queue cannot be written, or one of the jobs started meanwhile.
    """
    plan, adoption, actions = (
        comparison.plan,
        comparison.adoption,
        [compared.action for compared in comparison.jobs],
    )
    specs = [*starting_specs(comparison, root)]
    context = with_programs(context, specs)
    code = describe_code(specs, context, now)
    with store.database.writing():
        run = store.ensure_run(root, plan.name, share=plan.share)
        store.set_notify(run, plan.notify)
        folders = RunPaths(root, plan.name)
        if adoption is not None:
            _adopt_results(store, run, folders, plan, context, adoption, now)
        rows = store.read.jobs_of(root, plan.name)
        _accept_results(store, folders, comparison, rows, now)
        queued = [compared for compared in comparison.jobs if compared.action is Action.RUN]
        fresh = [compared for compared in queued if compared.job.name not in rows]
        again = [compared for compared in queued if compared.job.name in rows]
        # the dependencies of these jobs may be new jobs, so they are set below
        for compared in again:
            new = _build_new_job(compared, folders, [], [])
            store.insert_or_replace(run, context, new, now, code)
        # not earlier, as a job that is queued again may use a number up
        first = store.next_job_number()
        numbers = {name: row.id for name, row in rows.items()}
        numbers |= {compared.job.name: first + index for index, compared in enumerate(fresh)}
        new_jobs = [
            _build_new_job(compared, folders, *_predecessor_numbers(compared, numbers))
            for compared in fresh
        ]
        store.insert_new(run, context, new_jobs, now, code=code)
        joined = [rows[each.job.name] for each in comparison.jobs if each.action is Action.JOIN]
        store.job_control.release((row.id for row in joined if row.is_held_by_failures), now)
        for compared in again:
            needs, awaited = _predecessor_numbers(compared, numbers)
            store.set_dependencies(numbers[compared.job.name], needs, now, after_any=awaited)
        record(numbers)
        if is_whole:
            _tag_removed_programs(store, plan, rows)
    return SubmittedRun(
        jobs=tuple(numbers[compared.job.name] for compared in comparison.jobs),
        queued=actions.count(Action.RUN),
        joined=actions.count(Action.JOIN),
        cached=actions.count(Action.CACHED),
    )


def starting_specs(comparison: Comparison, root: Path) -> Iterator[Spec]:
    """Yield the specifications of the jobs of a plan that are queued."""
    folders = RunPaths(root, comparison.plan.name)
    for compared in comparison.jobs:
        if compared.action is Action.RUN:
            yield spec_of(compared.job, folders)


def _adopt_results(
    store: Store,
    run: int,
    folders: RunPaths,
    plan: Plan,
    context: Context,
    adoption: Adoption,
    now: float,
) -> None:
    """Take over the results of another folder: moved, or copied if that folder still exists."""
    there = store.read.jobs_of(Path(adoption.root), plan.name)
    found = [
        AdoptedJob(
            number=row.id,
            hash=there[job.name].hash if job.name in there else "",
            spec=spec_of(job, folders)._replace(hash=row.hash),
            outputs={path: version.to_json() for path, version in row.outputs.items()},
            printed_numbers=adoption.printed_numbers.get(job.name, {}),
        )
        for job in plan.jobs
        if (row := adoption.rows.get(job.name)) is not None
    ]
    reason = Reason(
        code=ReasonCode.ADOPTED, text=f"done in {adoption.root}", data={"root": adoption.root}
    )
    adopt_done_jobs(store, run, context, found, reason, now=now, copy_jobs=adoption.keeps_original)


def _tag_removed_programs(store: Store, plan: Plan, rows: Mapping[str, JobRow]) -> None:
    """Tag the programs of sweeps that its file has no more; those that it has again lose the tag."""
    planned = {job.name for job in plan.jobs}
    trials = store.searches.jobs_of_trials(row.id for row in rows.values())
    known = {
        name: row for name, row in rows.items() if row.kind == PROGRAM and row.id not in trials
    }
    removed = {
        row.id
        for name, row in known.items()
        if name not in planned and PARAMS in row.spec_without_sources.settings
    }
    tags = store.job_control.tags_of(row.id for row in known.values())
    tagged = {number for number, those in tags.items() if REMOVED_TAG in those}
    store.job_control.change_tags(removed - tagged, [REMOVED_TAG], [])
    store.job_control.change_tags(tagged - removed, [], [REMOVED_TAG])


def _accept_results(
    store: Store,
    folders: RunPaths,
    comparison: Comparison,
    rows: Mapping[str, JobRow],
    now: float,
) -> None:
    """Record results of other code as those of the plan, unless the queue changed meanwhile."""
    plan = comparison.plan
    for job in (*plan.jobs, *plan.left_out):
        if job.name in comparison.accepted and job.name in rows:
            row = rows[job.name]
            if row.hash == comparison.accepted[job.name]:
                spec = spec_of(job, folders)
                files = comparison.files.get(job.name, spec.sources)
                store.accept_result(row.id, spec._replace(sources=files), ACCEPTED, now)


def _predecessor_numbers(
    compared_job: ComparedJob, numbers: Mapping[str, int]
) -> tuple[list[int], list[int]]:
    """Return the jobs that must be done before one, and those that must have ended, by their numbers."""
    return [numbers[need] for need in compared_job.job.needs], [
        numbers[name] for name in compared_job.after_any
    ]


def _build_new_job(
    compared_job: ComparedJob, folders: RunPaths, needs: list[int], awaited_jobs: list[int]
) -> NewJob:
    code = ReasonCode.NEW if compared_job.number is None else ReasonCode.CHANGED
    reason = Reason(code=code, text=compared_job.reason)
    spec = spec_of(compared_job.job, folders, shared_settings=compared_job.shared)
    return NewJob(spec=spec, dependencies=needs, after_any=awaited_jobs, reason=reason)


def spec_of(job: PlannedJob, folders: RunPaths, *, shared_settings: tuple[str, ...] = ()) -> Spec:
    """Return a planned job as the queue keeps it; `shared_settings` names jobs that do work of it."""
    return Spec(
        name=job.name,
        kind=job.kind,
        role=job.role,
        run=folders.run,
        root=folders.root,
        entry=job.entry,
        preload=job.preload,
        argv=job.argv,
        model=job.model,
        base=job.base,
        data=job.data,
        images=job.images,
        settings=job.settings,
        words=job.words.to_json(),
        needs=job.needs,
        after_any=(*job.after_any, *shared_settings),
        outputs=tuple(map(str, job.outputs)),
        sources=job.sources,
        log_link=_log_link(job, folders.run_folder),
        resources=job.resources,
        terms=job.terms,
        priority=job.priority,
        hash=job.hash,
        signature=job.signature,
    )


def _log_link(job: PlannedJob, run_folder: str) -> str | None:
    """Return where a job's log appears, too: <id>/<kind>_<model>_<data>.log, without what it lacks."""
    if job.model is None:
        return None
    start = job.model if job.role == "test" else job.base
    data = tested(job.data or "", job.condition)
    name = "_".join(filter(None, [job.kind, start, data])) + ".log"
    if len(name.encode()) > LONGEST_NAME:
        name = f"{job.kind}_{job.hash[:12]}.log"
    return f"{run_folder}/{model_folder_name(job.model)}/{name}"
