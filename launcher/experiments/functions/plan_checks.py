"""Comparison of a plan with the queue and the engines, and checks of it and of changed jobs before any is queued."""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.experiments.functions.options import absent_groups, check_groups, check_places
from launcher.experiments.planning.adoption import (
    find_adoptable_roots,
    find_adoption,
    with_adoption,
    with_printed_numbers,
)
from launcher.experiments.planning.backend_preview import EstimateResult
from launcher.experiments.planning.comparison import (
    ADOPT,
    Action,
    Adoption,
    ComparedJob,
    Comparison,
    open_jobs,
)
from launcher.experiments.planning.first_wave import (
    MachineState,
    read_machine_state,
    unsatisfiable_jobs,
    unsatisfiable_on_pilots,
)
from launcher.experiments.planning.missing_packages import missing_packages
from launcher.experiments.planning.plan import Plan
from launcher.experiments.planning.preview import kinds_to_run, refusals
from launcher.experiments.planning.queue_comparison import compare_with_queue
from launcher.experiments.planning.shared_work import with_shared_jobs
from launcher.provenance.file_digests import FileDigests, HashProgress
from launcher.provenance.folder_contents import FOLDER_END
from launcher.queue.backends.eligibility import runs_only_here, with_default_backends
from launcher.queue.backends.pilot_records import make_pilot_spec, new_token
from launcher.queue.backends.protocol import EngineError, load_backend
from launcher.queue.backends.settings import Backends, BackendSettings, read_configured_backends
from launcher.queue.home.paths import Home, find_home
from launcher.queue.jobs.context import OUTPUTS, output_folders, resolve_path
from launcher.queue.jobs.states import OPEN_STATES
from launcher.queue.scheduler.policy.model import Machine
from launcher.queue.store.client import cores_for_jobs
from launcher.queue.store.output_index import OutputIndex
from launcher.queue.store.queue import Store
from launcher.queue.store.replaced_folders import find_replaced_folder, named_output_folders
from launcher.queue.store.rows import JobRow
from launcher.system import memory
from launcher.system.errors import MachineError, UsageError, pluralize
from launcher.system.files import file_stamp
from launcher.system.parallel_calls import run_questions_with_timeout
from launcher.system.real_paths import RealPaths
from launcher.system.remembered_variables import find_unset_variables
from launcher.system.text import sanitize_terminal

if TYPE_CHECKING:  # only commands that change jobs import these modules
    from launcher.experiments.planning.revision import Revision


def compare(
    store: Store | None,
    plan: Plan,
    root: Path,
    *,
    force: bool,
    accept_code: bool,
    adopt: Path | None = None,
    watch: HashProgress | None = None,
) -> Comparison:
    """Return each job of a plan, the queue's job of the same name, and the action for it.

    Args:
        store: the queue, None if it does not exist.
        plan: the plan.
        root: the folder of the plan's run.
        force: run what is done already, too.
        accept_code: keep what was done with other code.
        adopt: another folder, whose results are adopted. None for no other folder.
        watch: is called with the progress of the digest of a large file.

    Raises:
        UsageError: the plan cannot be queued, or no job of it is known in the other folder.
    """
    own = store.read.jobs_of(root, plan.name) if store else {}
    adoption = None if adopt is None else _adoption(store, plan, adopt, own)
    rows = own if adoption is None else {**own, **adoption.rows}
    digests = FileDigests(find_home(os.environ).digests, watch)
    comparison = compare_with_queue(
        plan, rows, file_stamp, digests=digests, force=force, accept_code=accept_code
    )
    digests.save()
    if plan.index is not None:
        plan.index.save()
    if adoption is not None:
        comparison = with_printed_numbers(
            with_adoption(comparison, adoption, own), find_home(os.environ)
        )
    elif store is not None and any(job.name not in own for job in plan.jobs):
        there = store.read.done_in_other_roots(root, plan.name)
        comparison = comparison._replace(
            adoptable_roots=find_adoptable_roots(plan, comparison.jobs, there)
        )
    return with_shared_jobs(comparison, own)


def _adoption(
    store: Store | None, plan: Plan, folder: Path, rows_here: Mapping[str, JobRow]
) -> Adoption:
    """Return the results of another folder that can be adopted.

    Raises:
        UsageError: the queue does not have a job of the run there, or one of them runs.
    """
    known = store.read.roots_of(plan.name) if store else []
    here, there = str(plan.run_folder.parents[1]), os.path.normpath(Path.cwd() / folder)
    there = there if there in known else os.path.realpath(there)
    if store is None or there not in known or there == here:
        others = [root for root in known if root != here]
        hint = f"Name one of: {', '.join(others)}" if others else "Leave the option out"
        raise UsageError(f"{ADOPT} {folder}: no job of run {plan.name!r} was queued there. {hint}")
    rows_there = store.read.jobs_of(Path(there), plan.name)
    return find_adoption(plan, rows_there, rows_here, there)


def check_plans(
    home: Home,
    store: Store,
    comparisons: Sequence[Comparison],
    backends: Backends,
    root: Path,
) -> None:
    """Refuse jobs that can never run on their machines, before any is queued.

    Raises:
        MachineError: packages that some jobs import are not installed.
        UsageError: some jobs could never start, or their group is not there.
    """
    kinds = (kind for each in comparisons for kind in kinds_to_run(each.plan, each.jobs))
    if uninstalled := missing_packages(kinds):
        raise MachineError(f"{'; '.join(uninstalled)}. Nothing was queued.")
    jobs = [job for each in comparisons for job in open_jobs(each.jobs)]
    state = _state(home, store, jobs, root)
    refused = [
        f"{pluralize(number, 'job')} can never start here: {sanitize_terminal(why)}"
        for why, number in unsatisfiable_jobs(jobs, state).items()
    ]
    refused += [
        f"{pluralize(number, 'job')} can never start: {sanitize_terminal(why)}"
        for why, number in unsatisfiable_on_pilots(jobs, backends).items()
    ]
    if refused:
        raise UsageError("; ".join(refused).rstrip(".") + ". Nothing was queued.")
    check_groups(store, groups_to_run(comparisons))
    _check_outputs(store, comparisons)
    for comparison in comparisons:
        if replaced := _replaced_folders(store, comparison):
            raise UsageError(f"{replaced[0]}. Nothing was queued.")


def _check_outputs(store: Store, comparisons: Sequence[Comparison]) -> None:
    """Refuse programs that would make what a job of another file makes that waits or runs.

    Raises:
        UsageError: names both.
    """
    programs = [
        (str(each.plan.run_folder), compared.job)
        for each in comparisons
        for compared in each.jobs
        if compared.action is Action.RUN and compared.job.outputs and not compared.job.entry
    ]
    if not programs:
        return
    real, made = RealPaths(), OutputIndex[tuple[str, str]]()
    for path, rows in store.read.programs_by_output(OPEN_STATES).items():
        for row in rows:
            spec = row.spec_without_sources
            owner = str(spec.run_folder), row.name
            made.add(real.locate(path), owner, is_folder=path in output_folders(spec))
    for run_folder, job in programs:
        names = job.settings.get(OUTPUTS)
        for name, path in zip(
            names if isinstance(names, list) else (), map(str, job.outputs), strict=True
        ):
            is_folder = str(name).endswith(FOLDER_END)
            for other in made.find(real.locate(path), is_folder=is_folder):
                if other == (run_folder, job.name):
                    continue
                raise UsageError(
                    f"{job.name} would make {path}, which {other[1]} of {other[0]} also makes. "
                    "Name another file, or wait until that job has ended. Nothing was queued."
                )
            made.add(path, (run_folder, job.name), is_folder=is_folder)


def _replaced_folders(store: Store | None, comparison: Comparison) -> list[str]:
    """Return why a program of a plan must not replace an existing folder. Empty if all may."""
    root = str(comparison.plan.run_folder.parents[1])
    folders = (
        folder
        for job in (each.job for each in comparison.jobs if each.action is Action.RUN)
        if job.outputs and not job.entry
        for folder in named_output_folders(
            job.settings,
            map(str, job.outputs),
            job.argv,
            resolve_path(root, str(job.settings.get("cwd") or "")),
            comparison.plan.run_folder,
            job.name,
        )
    )
    found = find_replaced_folder(folders, root, store)
    if found is None:
        return []
    folder, fault, hint = found
    return [f"the output {folder.name} of {folder.job} {fault}. {hint}"]


def reasons_against(
    store: Store | None,
    comparison: Comparison,
    unsatisfiable: Mapping[str, int],
    pass_env: Sequence[str],
) -> list[str]:
    """Return why `run` would refuse a plan. Empty if it would not.

    Args:
        store: the queue, None if it does not exist.
        comparison: comparison of the plan with the queue.
        unsatisfiable: why jobs of the plan can never start here, and how many those are.
        pass_env: variables to pass to the jobs, in addition to those of the plan.
    """
    plan, compared_jobs = comparison.plan, comparison.jobs
    unset_variables = find_unset_variables(os.environ, (*plan.pass_env, *pass_env))
    uninstalled = missing_packages(kinds_to_run(plan, compared_jobs))
    return [
        *refusals(plan, unsatisfiable, unset_variables, uninstalled),
        *absent_groups(store, groups_to_run([comparison])),
        *_replaced_folders(store, comparison),
    ]


def groups_to_run(comparisons: Iterable[Comparison]) -> list[str]:
    """Return the groups of the jobs that have to run, each once."""
    compared_jobs = (compared for comparison in comparisons for compared in comparison.jobs)
    to_run = (compared.job for compared in compared_jobs if compared.action is Action.RUN)
    return [*dict.fromkeys(job.terms.group for job in to_run)]


def _state(home: Home, store: Store, jobs: Sequence[ComparedJob], root: Path) -> MachineState:
    """Return the machine; the driver is asked only where a job may work on a GPU here."""
    here = [compared for compared in jobs if runs_only_here(compared.job.terms)]
    if any(compared.job.resources.may_need_gpu for compared in here):
        return read_machine_state(home, store, root / "runs", time.time())
    return MachineState(
        now=time.time(), machine=Machine(cpus=cores_for_jobs(home), ram=memory.usable_bytes())
    )


def check_revisions(home: Home, store: Store, revisions: "Iterable[Revision]") -> None:
    """Refuse changes after which jobs could never start. Unchanged values were checked before.

    Raises:
        UsageError: a group or backend does not exist, or a request exceeds the existing resources.
    """
    backends = read_configured_backends(os.environ)
    for revision in revisions:
        before, after = revision.row.spec, revision.spec
        moved = after.terms.on != before.terms.on
        try:
            if after.terms.group != before.terms.group:
                check_groups(store, [after.terms.group])
            if moved:
                with_default_backends(after.terms, backends)
            if moved or after.resources != before.resources:
                check_places(home, after.resources, after.terms, backends)
        except UsageError as error:
            raise UsageError(
                f"nothing was changed, because of job {revision.row.id}: {error}"
            ) from error


# --- estimates of engines for pilots: all are queried at once with a short timeout, and nothing is submitted

ENGINE_TIMEOUT_S = 10.0
EngineQuery = Callable[[Sequence[BackendSettings]], Mapping[str, EstimateResult]]


def make_engine_query(home: Home) -> EngineQuery:
    """Return a function that queries engines for pilots, each of them once, also for several plans."""
    answers: dict[str, EstimateResult] = {}

    def query_new_engines(backends: Sequence[BackendSettings]) -> Mapping[str, EstimateResult]:
        new = [settings for settings in backends if settings.name not in answers]
        answers.update(query_engines(new, home))
        return answers

    return query_new_engines


def query_engines(
    backends: Sequence[BackendSettings], home: Home, patience_s: float = ENGINE_TIMEOUT_S
) -> Mapping[str, EstimateResult]:
    """Return the estimate of each engine by name, or a note if one does not respond in time."""
    late = EstimateResult(error=f"no answer in {patience_s:g} s")
    found = run_questions_with_timeout(
        {each.name: partial(_query_engine, each, home) for each in backends}, patience_s
    )
    return {settings.name: found.get(settings.name, late) for settings in backends}


def engine_refusals(
    backends: Sequence[BackendSettings], home: Home, patience_s: float
) -> list[str]:
    """Return the messages of engines that refuse such pilots, as for a partition that does not exist."""
    answers = query_engines(backends, home, patience_s).values()
    estimates = [answer.estimate for answer in answers if answer.estimate is not None]
    return [estimate.why for estimate in estimates if not estimate.possible]


def _query_engine(settings: BackendSettings, home: Home) -> EstimateResult:
    try:
        backend = load_backend(settings, home)
        return EstimateResult(estimate=backend.estimate(make_pilot_spec(settings, new_token(), ())))
    except EngineError as error:
        return EstimateResult(error=" ".join(str(error).split()))
