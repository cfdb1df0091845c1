"""The plan of a task file: every job with its files, dependencies and hash.

1. `expand` turns entries into steps.
2. `_prepare_steps` adds the files that each step reads and writes; `resolve_inputs` replaces patterns among them.
3. `_merge_label_jobs` merges steps that select the same labels.
4. `DependencyGraph` sorts and links the steps.
5. `_JobBuilder` computes the hashes.

The module is pure except for four callables among the arguments. They return whether a path exists, whether it is a
folder, the digests of a kind's code, and the digest of an input file that no job makes.

A sweep of the learning rate trains many models on the same flipped labels. One job, that of the first model, selects
the labels for all of them and writes the record of each. The key `phases` of a task file leaves out kinds of jobs.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from launcher.experiments.draft import Draft, tested
from launcher.experiments.kind_interface import InheritsSettings, Kind, Role, SharedJob, WarnsOfJobs
from launcher.experiments.kinds import roots_of, signature_of
from launcher.experiments.planning.dependencies import (
    NO_PREDECESSORS,
    UNKNOWN_JOB_CODE,
    DependencyGraph,
    JobLinks,
    PlanDisk,
    Predecessors,
    PreparedStep,
    find_predecessors,
    memoize_path_check,
)
from launcher.experiments.planning.expansion import (
    MODEL_MAKING_ROLES,
    SCORING_ROLES,
    PlannedStep,
    expand,
)
from launcher.experiments.planning.input_patterns import resolve_inputs
from launcher.experiments.planning.plan import (
    JobCode,
    JobIdentity,
    Plan,
    PlannedJob,
    SharedJobPlan,
    as_errors,
)
from launcher.experiments.planning.shared_work import shared_job_request, shares
from launcher.experiments.taskfile.entries import TaskFile, order_problems
from launcher.experiments.taskfile.scope import RESOURCES
from launcher.experiments.taskfile.settings import (
    ResolvedSettings,
    complete_settings,
    replace_values,
)
from launcher.ids import NO_WORDS, DataId, Words, model_folder_name, parse_data, parse_model
from launcher.queue.job_options.registry import JobRequest
from launcher.queue.jobs.job import Resources
from launcher.queue.jobs.signatures import program_cost
from launcher.system.errors import (
    MOST_LISTED,
    Error,
    Problem,
    Problems,
    Severity,
    TaskFileError,
    split_advice,
)
from launcher.system.files import Json
from launcher.system.real_paths import RealPaths

_PREPARING = frozenset({Role.DATA, Role.LABELS})
# codes of errors in spite of which every job is planned
_WHOLE = frozenset({RESOURCES, UNKNOWN_JOB_CODE})
_LEARNING = MODEL_MAKING_ROLES | SCORING_ROLES | {Role.FOLDER, Role.SHARED}


def build_plan(
    task: TaskFile,
    *,
    root: Path,
    exists: Callable[[Path], bool],
    code: Callable[[str, tuple[str, ...]], Mapping[str, str]],
    content: Callable[[Path], str],
    is_folder: Callable[[Path], bool] = Path.is_dir,
) -> Plan:
    """Build the plan of a task file.

    Args:
        task: the file.
        root: absolute folder of relative paths in settings; results are in <root>/runs/<name>.
        exists: returns whether a path exists.
        code: returns digests of the code of a kind, see `CodeIndex.code`.
        content: returns the digest of an existing input that no job makes.
        is_folder: returns whether an existing path is a folder.

    Raises:
        TaskFileError: all errors of the file; no job of it may be queued.
    """
    is_link = memoize_path_check(Path.is_symlink)
    disk = PlanDisk(
        root,
        memoize_path_check(exists),
        memoize_path_check(is_folder),
        cache(content),
        is_link,
        real=RealPaths(),
    )
    run_folder = root / "runs" / task.name
    made = Problems()
    steps = expand(
        task,
        lambda model: disk.exists(run_folder / model_folder_name(model)),
        disk.path_exists,
        made,
    )
    problems = Problems([*task.problems, *made])
    whole = all(error.code in _WHOLE for error in task.errors)
    before = find_predecessors(steps, whole=whole, problems=problems)
    models = frozenset(step.model for step in steps if step.model is not None)
    drafter = _Drafter(task, run_folder, root, models)
    prepared = list(_prepare_steps(steps, drafter, problems))
    _add_refusals(prepared, drafter, problems)
    inputs = resolve_inputs(prepared, disk, problems)
    prepared = [
        drafter.prepare_step(each.step._replace(settings=inputs[each.step.name]), each.makers)
        if each.step.name in inputs
        else each
        for each in prepared
    ]
    drawn = _merge_label_jobs(prepared, before, drafter)
    dependencies = DependencyGraph(drawn.steps, drawn.before, disk)
    problems += dependencies.problems
    if problems.has_errors():
        errors = (problem for problem in problems if problem.severity is Severity.ERROR)
        if not task.phases and all(error.code in _WHOLE for error in errors):
            problems += as_errors(dependencies.missing_inputs())
        raise TaskFileError(order_problems(problems, task.files))
    jobs = _JobBuilder(drafter, disk, code, dependencies, drawn.merged)
    wanted = _select_phases(task.phases, jobs.by_name, dependencies)
    if not wanted and not task.searches:
        raise TaskFileError([*order_problems(problems, task.files), _no_job(task)])
    kept = {job.name for job in wanted}
    missing = {need for name in kept for need in jobs.by_name[name].needs} - kept
    return Plan(
        file=task.file,
        name=task.name,
        about=task.about,
        run_folder=run_folder,
        jobs=wanted,
        left_out=tuple(job for name, job in jobs.by_name.items() if name in missing),
        reuse=task.reuse,
        share=task.share,
        notify=task.notify,
        pass_env=task.pass_env,
        searches=task.searches,
        wanted=task.wanted,
        kinds=task.kinds,
        warnings=order_problems([*problems, *dependencies.missing_inputs()], task.files),
        shares=partial(jobs.shares, kept),
    )


class _Drafter:
    """Prepares steps by calling their kinds."""

    def __init__(
        self, task: TaskFile, run_folder: Path, root: Path, models: frozenset[str]
    ) -> None:
        self.task, self.run_folder, self.root, self.models = task, run_folder, root, models
        self._lookups: dict[Any, Any] = {}  # lookups of the kinds, shared by all drafts
        # model → the jobs that make it; the same mapping for all drafts, filled in the order of the steps
        self.made_by: dict[str, tuple[Draft, ...]] = {}

    def prepare_step(
        self, step: PlannedStep, makers: tuple[Draft, ...], other_models: tuple[str, ...] = ()
    ) -> PreparedStep:
        """Return a step with its files and its command line.

        Args:
            step: the step.
            makers: drafts of the steps that make its model.
            other_models: further models for which it selects labels.

        Raises:
            Error: the plugin package refuses it.
        """
        draft = Draft(
            kind=step.kind.name,
            run=self.task.name,
            run_folder=self.run_folder,
            folder=self.root,
            model=step.model,
            base=step.base,
            data=step.data,
            images=step.images,
            name=step.name.partition("/")[2] if step.model is None else None,
            further_models=other_models,
            settings=step.settings.values,
            words=self._words(step),
            device=step.request.resources.device,
            gpus=step.request.resources.gpus,
            plan_models=self.models,
            plan_makers=self.made_by,
            lookups=self._lookups,
        )
        inputs, outputs = tuple(step.kind.inputs(draft)), tuple(step.kind.outputs(draft))
        return PreparedStep(step, draft, makers, inputs, outputs, tuple(step.kind.argv(draft)))

    def _words(self, step: PlannedStep) -> Words:
        """Return the user's words in a job's data, with unions expanded or not."""
        if not self.task.words or step.images is None:
            return NO_WORDS
        images = parse_data(step.images)
        return self.task.words.used_by(DataId((*images, *step.kind.elementary(images))))


def _prepare_steps(
    steps: Iterable[PlannedStep], drafter: _Drafter, problems: Problems
) -> Iterator[PreparedStep]:
    """Yield prepared steps; report those that are invalid."""
    made_by, steps = drafter.made_by, tuple(steps)
    names = {step.name for step in steps}
    for step in steps:
        starts = [step.model if step.kind.role in SCORING_ROLES else step.base]
        if step.kind.role is Role.FOLDER:
            starts = [str(step.settings.values.get(name)) for name in step.kind.settings.models]
        makers = tuple(maker for model in starts for maker in made_by.get(model or "", ()))
        try:
            prepared = drafter.prepare_step(step, makers)
            if inherited := _inherited_settings(step, prepared.draft, makers):
                settings = replace_values(step.kind, step.settings, inherited)
                renamed = _with_condition(step._replace(settings=settings))
                if renamed.name != step.name and renamed.name in names:
                    message = f"{step.name} takes settings from the training of its model and is the same test as "
                    problems.add_warning(
                        step, "same-data", f"{message}{renamed.name}; it runs once"
                    )
                    continue
                prepared = drafter.prepare_step(renamed, makers)
        except Error as error:  # a check of the plugin package
            problems.add_error(step, "setting", str(error))
            continue
        if step.model is not None and step.kind.role in MODEL_MAKING_ROLES:
            made_by[step.model] = (*makers, prepared.draft)
        yield prepared


def _add_refusals(steps: Iterable[PreparedStep], drafter: _Drafter, problems: Problems) -> None:
    """Report the steps that their kinds refuse or warn of.

    A step may depend on a model of a later one, so all steps are prepared before.
    """
    warned: set[str] = set()
    phases = drafter.task.phases
    for prepared in steps:
        step = prepared.step
        if phases and step.kind.name not in phases:
            continue
        for reason in step.kind.refusals(prepared.draft, prepared.makers):
            notes = _poisoned_models_note(step, drafter.made_by)
            problems.add_error(step, "refused", *split_advice(reason), *notes)
        _warn(step, prepared.draft, warned, problems)


def _inherited_settings(
    step: PlannedStep, draft: Draft, makers: Sequence[Draft]
) -> dict[str, Json]:
    """Return the settings that the task file does not give and that a step takes from its model's training."""
    if not isinstance(step.kind, InheritsSettings):
        return {}
    return {
        name: value
        for name, value in step.kind.inherited_settings(draft, makers).items()
        if name not in step.settings.given and value != step.settings.values[name]
    }


def _with_condition(step: PlannedStep) -> PlannedStep:
    """Return a test under the name of its condition, after its settings have changed."""
    if step.kind.role is not Role.TEST or step.data is None:
        return step
    condition = step.kind.settings.condition(step.settings.values)
    head = step.name.removesuffix(tested(step.data, step.condition))
    return step._replace(name=f"{head}{tested(step.data, condition)}", condition=condition)


def _warn(step: PlannedStep, draft: Draft, warned_names: set[str], problems: Problems) -> None:
    """Add the warnings of a step's kind that earlier steps have not given."""
    if isinstance(step.kind, WarnsOfJobs):
        for text in step.kind.warnings(draft):
            if text not in warned_names:
                problems.add_warning(step, "kind-warning", text)
                warned_names.add(text)


def _poisoned_models_note(step: PlannedStep, made_names: Iterable[str]) -> Iterator[str]:
    """Yield a note on the poisoned models of a plan if a method is applied to a clean one."""
    if step.kind.role is not Role.METHOD or not step.base:
        return
    if any(stage.poison for stage in parse_model(step.base).stages):
        return
    last = {model: parse_model(model).last for model in made_names}
    if poisoned := [model for model, stage in last.items() if stage.poison and not stage.methods]:
        yield f"poisoned models of this file: {', '.join(poisoned[:MOST_LISTED])}"


class _MergedSteps(NamedTuple):
    """Steps after merging: each selects labels of its own."""

    steps: Sequence[PreparedStep]
    before: Mapping[str, Predecessors]
    # step → further steps for which it selects the labels
    merged: Mapping[str, Sequence[PlannedStep]]


def _merge_label_jobs(
    steps: Sequence[PreparedStep], predecessors: Mapping[str, Predecessors], drafter: _Drafter
) -> _MergedSteps:
    """Merge steps that select the same labels into the first of them."""
    first: dict[Hashable, str] = {}
    further: dict[str, list[PlannedStep]] = {}
    for step, *_, inputs, _, _ in steps:
        if step.kind.settings.for_many and step.model is not None:
            labels, named = (
                str(parse_model(step.model).last.poison),
                predecessors.get(step.name, NO_PREDECESSORS),
            )
            choice = (step.kind.name, step.images, labels, step.settings.text, inputs)
            name = first.setdefault((*choice, tuple(named.done), tuple(named.ended)), step.name)
            if name != step.name:
                further.setdefault(name, []).append(step)
    if not further:
        return _MergedSteps(steps, predecessors, further)
    merged = {step.name: name for name, others in further.items() for step in others}
    kept: list[PreparedStep] = []
    for prepared in steps:
        name = prepared.step.name
        if name in further:
            models = tuple(str(step.model) for step in further[name])
            whole = drafter.prepare_step(prepared.step, prepared.makers, models)
            kept.append(whole._replace(inputs=prepared.inputs))
        elif name not in merged:
            kept.append(prepared)
    named_jobs = {
        name: Predecessors(
            *({merged.get(other, other): at for other, at in of.items()} for of in named)
        )
        for name, named in predecessors.items()
    }
    return _MergedSteps(kept, named_jobs, further)


class _StepWork(NamedTuple):
    """Values that jobs of one entry with equal settings share."""

    settings: ResolvedSettings
    request: JobRequest
    code: JobCode
    resources: Resources
    signature: str  # '' for a program, whose signature depends on its own command line


class _JobBuilder:
    """Builds the jobs of linked steps, and the jobs that do shared work once."""

    def __init__(
        self,
        drafter: _Drafter,
        disk: PlanDisk,
        code: Callable[[str, tuple[str, ...]], Mapping[str, str]],
        dependencies: DependencyGraph,
        merged_steps: Mapping[str, Sequence[PlannedStep]],
    ) -> None:
        self._drafter, self._disk, self._dependencies = drafter, disk, dependencies
        self._code = cache(lambda entry, roots: JobCode(entry, code(entry, roots)))
        self._works: dict[tuple[str, int, int], _StepWork] = {}
        # (selecting job, further model) → identity of a job that selects for this model alone
        self._identity_for_model: dict[tuple[str, str], JobIdentity] = {}
        self.by_name: dict[str, PlannedJob] = {}
        for prepared in dependencies.steps:
            name = prepared.step.name
            self.by_name[name] = self._build_job(prepared, dependencies.links[name])
            for step in merged_steps.get(name, ()):
                other = prepared._replace(step=step)
                identity = self._build_identity(other, dependencies.links[name], name)
                self._identity_for_model[name, str(step.model)] = identity

    def _build_job(self, prepared_step: PreparedStep, links: JobLinks) -> PlannedJob:
        step, work = prepared_step.step, self._work(prepared_step.step)
        identity = self._build_identity(prepared_step, links, step.name)
        return PlannedJob(
            name=step.name,
            kind=step.kind.name,
            role=step.kind.role,
            model=step.model,
            base=step.base,
            data=step.data,
            images=step.images,
            condition=step.condition,
            settings=step.settings.values,
            words=identity.words,
            needs=links.dependencies,
            after_any=links.awaited,
            resources=work.resources,
            terms=step.request.terms,
            priority=step.request.priority,
            gpus=step.request.gpus,
            inputs=tuple([file.path for file in prepared_step.inputs]),
            outputs=prepared_step.outputs,
            argv=prepared_step.argv,
            preload=step.kind.preload,
            identity=identity,
            signature=work.signature or program_cost(step.settings.values, prepared_step.argv),
        )

    def _build_identity(
        self, prepared_step: PreparedStep, links: JobLinks, job: str
    ) -> JobIdentity:
        """Return the identity of a step: everything that determines its result."""
        step = prepared_step.step
        return JobIdentity(
            job=job,
            kind=step.kind.name,
            model=step.model,
            base=step.base,
            images=step.images,
            settings=step.settings.text,
            dependencies=tuple([self._identity_of_need(name, step) for name in links.dependencies]),
            code=self._work(step).code,
            # inputs of a program are read when it starts, which may be days later
            input_digests=tuple(
                [
                    self._disk.content_digest(path)
                    for path in links.external_inputs
                    if step.kind.entry
                ]
            ),
            words=prepared_step.draft.words,
        )

    def _identity_of_need(self, name: str, step: PlannedStep) -> JobIdentity:
        """Return the identity of a dependency for the hash of a step.

        If the dependency selects labels for several models, this is the identity of a job that selects for
        the step's model alone. So hashes do not depend on which models share a selection, or in which order.
        """
        for model in (step.model, step.base) if self._identity_for_model else ():
            if model is not None and (name, model) in self._identity_for_model:
                return self._identity_for_model[name, model]
        return self.by_name[name].identity

    def _work(self, step: PlannedStep) -> _StepWork:
        """Return the values that a step shares with others, computed once."""
        # it keeps settings and request alive, so that their id() stays unique
        key = (step.kind.name, id(step.settings), id(step.request))
        work = self._works.get(key)
        if work is None:
            kind, values, request = step.kind, step.settings.values, step.request
            work = self._works[key] = _StepWork(
                settings=step.settings,
                request=request,
                code=self._code(kind.entry, roots_of(kind, values)),
                resources=resources_of(request, kind.role, has_entry=bool(kind.entry)),
                signature=signature_of(kind, values, request.resources.gpus) if kind.entry else "",
            )
        return work

    def shares(self, names: Collection[str], to_do: Collection[str]) -> tuple[SharedJobPlan, ...]:
        """Return the jobs that do the common work of two or more jobs once.

        Args:
            names: names of the jobs of the plan.
            to_do: names of those that are not done yet.
        """
        task, links = self._drafter.task, self._dependencies.links
        # programs may change the inputs of jobs, so jobs behind different programs share no work
        users = ((each, links[each.step.name].programs) for each in self._dependencies.steps)
        return shares(users, to_do, task.kinds, task.words, partial(self._shared_job, names))

    def _shared_job(
        self,
        names: Collection[str],
        kind: Kind,
        name: str,
        first: PlannedStep,
        shared_job: SharedJob,
    ) -> PlannedJob:
        """Return the job that does shared work; `first` is one of its users."""
        values = kind.settings.model_validate(dict(shared_job.settings)).model_dump(mode="json")
        step = PlannedStep(
            kind=kind,
            name=name,
            place=first.place,
            settings=complete_settings(kind, values, {}),
            request=self._drafter.task.shared_requests.get(kind.name)
            or shared_job_request(first.request),
            base=shared_job.base,
            data=shared_job.data,
            images=shared_job.images,
        )
        prepared = self._drafter.prepare_step(step, ())
        job = self._build_job(prepared, self._dependencies.link_inputs(prepared.inputs, first.name))
        return job._replace(needs=tuple(need for need in job.needs if need in names))


def resources_of(request: JobRequest, role: Role, *, has_entry: bool) -> Resources:
    """Return the requested resources of a job; a program that requests a GPU waits for one.

    A kind of a plugin package can fall back to the CPU. A program, as one of `launcher add`, got its
    arguments for the GPU that its entry requests.
    """
    resources = request.resources
    if not has_entry and resources.device == "auto" and request.wants_gpu:
        resources = resources._replace(device="cuda")
    return resources._replace(accelerated=role in _LEARNING or request.gpus is not None)


def _select_phases(
    phases: Collection[str], jobs: Mapping[str, PlannedJob], dependencies: DependencyGraph
) -> tuple[PlannedJob, ...]:
    """Return the jobs of the selected kinds, with the data, poison and programs on which they depend.

    Their hashes are those of the whole plan, so a study done phase by phase does no job twice.
    An input from another phase must already exist; otherwise it is missing.

    Args:
        phases: the selected kinds; empty for all.
        jobs: name → job of the whole plan, dependencies first.
        dependencies: dependencies of these jobs; missing inputs are added to the dependencies.
    """
    if not phases:
        return tuple(jobs.values())
    kept = {name for name, job in jobs.items() if job.kind in phases}
    for name in reversed([*jobs]):  # dependents come after their dependencies
        if name in kept:
            kept |= {
                need
                for need in jobs[name].needs
                if jobs[need].role in _PREPARING or need in dependencies.programs
            }
    wanted = []
    for step in (prepared.step for prepared in dependencies.steps if prepared.step.name in kept):
        job = jobs[step.name]
        for need in job.needs:
            if need not in kept:
                dependencies.add_left_out_outputs(step, need, jobs[need].outputs)
        needs, after_any = (
            tuple(name for name in of if name in kept) for of in (job.needs, job.after_any)
        )
        wanted.append(job._replace(needs=needs, after_any=after_any))
    return tuple(wanted)


def _no_job(task: TaskFile) -> Problem:
    """Return the problem of a valid file that has no jobs."""
    why = "the file defines no jobs"
    if task.phases:
        why = f"phases selects only {' and '.join(task.phases)}, and the file has no such jobs"
    hint = "change phases" if task.phases else "add a section such as train"
    return Problem(code="no-jobs", message=f"{task.file}: {why}", hint=hint)
