"""A task file worked out: every job with its files, its needs and its hash.

Pure but for four callables among its arguments, which tell whether a path exists and is a folder, which
code does a kind's work, and what is in a file that no job makes.

A sweep of the learning rate trains many models on the same flipped labels: one job makes the choice for all of them
(`Draws`), that of the first of them, and writes the record of each. The word `phases` of a task file leaves kinds of
jobs out (`of_phases`).
"""

import json
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from launcher.draft import Draft, Input, absolute_path
from launcher.errors import Error, Problem, Severity, TaskFileError
from launcher.ids import Words, model_folder_name, parse_model
from launcher.kind_interface import Kind, Role, SharedJob
from launcher.planning.dependencies import Dependencies, ExistenceCache
from launcher.planning.expansion import expand
from launcher.planning.plan import (
    Code,
    Identity,
    JobFiles,
    Plan,
    PlannedJob,
    PlannedShare,
    Variant,
    files_of,
    planned_job,
    variant_of,
    words_of,
)
from launcher.planning.shared_work import SharedWorks, User, request_of
from launcher.planning.steps import (
    NOTHING,
    SCORING,
    Before,
    ProgramFolders,
    Step,
    StepFiles,
    in_order_of_files,
    steps_before,
)
from launcher.taskfile.entries import FREE
from launcher.taskfile.parser import TaskFile
from launcher.taskfile.settings import Settled

_PREPARING = frozenset({Role.DATA, Role.LABELS})


def of_phases(
    jobs: Mapping[str, PlannedJob], phases: Collection[str], dependencies: Dependencies
) -> tuple[PlannedJob, ...]:
    """Return the jobs of the kinds that are wanted, with the data, poison and programs that they need.

    Their hashes are those of the whole plan, so that a study done phase by phase is done once.
    What a job needs of another phase must be there already, else it is missing.

    Args:
        jobs: of the whole plan by name, each one's needs before it.
        phases: the kinds that are wanted; none: all of them.
        dependencies: of these jobs; what is missing is entered there.
    """
    if not phases:
        return tuple(jobs.values())
    kept = {name for name, job in jobs.items() if job.kind in phases}
    for name in reversed([*jobs]):  # those that need a job come after it
        if name in kept:
            needs = (jobs[need] for need in jobs[name].needs)
            kept |= {need.name for need in needs if _prepares(need, dependencies)}
    return tuple(_alone(job, jobs, kept, dependencies) for job in jobs.values() if job.name in kept)


def left_out(
    jobs: Mapping[str, PlannedJob], wanted: Iterable[PlannedJob]
) -> tuple[PlannedJob, ...]:
    """Return the jobs that `wanted` need in the whole plan and that are not among them."""
    kept = {job.name for job in wanted}
    missing = {need for name in kept for need in jobs[name].needs} - kept
    return tuple(job for name, job in jobs.items() if name in missing)


def _prepares(job: PlannedJob, dependencies: Dependencies) -> bool:
    """Tell whether a job is done for those that need it whatever kinds are wanted."""
    return job.role in _PREPARING or job.name in dependencies.programs


def _alone(
    job: PlannedJob,
    jobs: Mapping[str, PlannedJob],
    kept: Collection[str],
    dependencies: Dependencies,
) -> PlannedJob:
    """Return a job without needs that are left out; what these did not make yet is missing."""
    for need in job.needs:
        outputs = () if need in kept else jobs[need].outputs
        absent = next((path for path in outputs if not dependencies.there(path)), None)
        if absent is not None:
            what = f"what {need} makes (phases leaves it out)"
            dependencies.lack(job.name, absent, what)
    needs, after_any = ([name for name in of if name in kept] for of in (job.needs, job.after_any))
    return job._replace(needs=tuple(needs), after_any=tuple(after_any))


@dataclass(slots=True, kw_only=True)
class Draw:
    """A job that chooses for several models."""

    step: Step
    draft: Draft  # of the first of them
    # further ones → what would determine the choice of a job that chose for this one alone
    models: dict[str, Identity] = field(default_factory=dict)

    @property
    def whole(self) -> Draft:
        """The draft of the job for all its models."""
        return replace(self.draft, further_models=tuple(self.models))


class Draws:
    """Which jobs of a plan make the same choice."""

    def __init__(self) -> None:
        self._by_choice: dict[Hashable, Draw] = {}
        self._by_job: dict[str, Draw] = {}

    def first(
        self, step: Step, draft: Draft, inputs: Iterable[Input], behind: Hashable = ()
    ) -> Draw | None:
        """Return the earlier job that makes the choice of this step; None, and note it, if none does.

        Args:
            step: which.
            draft: of it.
            inputs: what it reads.
            behind: the jobs that its entry names; those that share a choice have them in common.
        """
        if not step.kind.settings.for_many or step.model is None:
            return None
        poison = parse_model(step.model).last.poison
        choice = (
            step.kind.name,
            step.images,
            str(poison),
            step.settings.text,
            tuple(inputs),
            behind,
        )
        draw = self._by_choice.get(choice)
        if draw is None:
            self._by_choice[choice] = self._by_job[step.name] = Draw(step=step, draft=draft)
        return draw

    def identity_for(self, job: str, step: Step) -> Identity | None:
        """Return what stands for a shared job in the hash of a step that needs it; None: its own.

        It is the identity of a job that chooses for the step's model alone, so that which models share a
        choice, and which of them is the first, changes the hash of none.
        """
        draw = self._by_job.get(job)
        if draw is None:
            return None
        named = (draw.models.get(model) for model in (step.model, step.base) if model is not None)
        return next((job for job in named if job is not None), None)

    def shared(self) -> Iterator[Draw]:
        """Give the jobs that choose for more models than one."""
        return (draw for draw in self._by_job.values() if draw.models)


_MAKERS = frozenset({Role.TRAIN, Role.METHOD})


def build_plan(
    task: TaskFile,
    *,
    root: Path,
    exists: Callable[[Path], bool],
    code: Callable[[str, tuple[str, ...]], Mapping[str, str]],
    content: Callable[[Path], str],
    is_folder: Callable[[Path], bool] = Path.is_dir,
) -> Plan:
    """Work out every job of a task file.

    Args:
        task: the file.
        root: absolute; relative paths in settings start here, results lie in <root>/runs/<name>.
        exists: tells whether a path is there.
        code: gives digests of the code that does some work, see `CodeIndex.code`.
        content: gives a digest of an input that is there and that no job makes.
        is_folder: tells whether a path that is there is a folder.

    Raises:
        TaskFileError: all that is wrong with the file; nothing of it may be queued.
    """
    folders = ProgramFolders(root, there := ExistenceCache(exists), ExistenceCache(is_folder))
    builder = _PlanBuilder(
        task,
        root,
        there,
        cache(content),
        lambda entry, roots: Code(entry, code(entry, roots)),
        folders,
    )
    for step in builder.ordered(expand(task, builder.on_disk, builder.is_there, builder.problems)):
        builder.enter(step)
    builder.complete_draws()
    if any(problem.severity is Severity.ERROR for problem in builder.problems):
        raise TaskFileError(task.in_order(builder.problems))
    jobs = builder.jobs
    wanted = of_phases(jobs, task.phases, builder.dependencies)
    if not wanted:
        raise TaskFileError([*task.in_order(builder.problems), _no_job(task)])
    return Plan(
        file=task.file,
        name=task.name,
        about=task.about,
        run_folder=builder.run_folder,
        jobs=wanted,
        left_out=left_out(jobs, wanted),
        reuse=task.reuse,
        share=task.share,
        notify=task.notify,
        pass_env=task.pass_env,
        wanted=task.wanted,
        kinds=task.kinds,
        warnings=task.in_order([*builder.problems, *builder.dependencies.missing_inputs()]),
        shares=partial(builder.shares, frozenset(job.name for job in wanted)),
    )


class _PlanBuilder:
    """A plan while it is made."""

    def __init__(
        self,
        task: TaskFile,
        root: Path,
        there: Callable[[Path], bool],
        content: Callable[[Path], str],
        code: Callable[[str, tuple[str, ...]], Code],
        folders: ProgramFolders,
    ) -> None:
        self.task, self.root, self.folders = task, root, folders
        self.run_folder = root / "runs" / task.name
        self.problems = list(task.problems)
        self.dependencies = Dependencies(root, there)
        self._there, self._content = there, content
        self._code = cache(code)
        self._variants: dict[tuple[str, int, int], Variant] = {}
        self.jobs: dict[str, PlannedJob] = {}
        self._made_by: dict[str, tuple[Draft, ...]] = {}  # model → the jobs from which it comes
        self._draws = Draws()
        self._shared = SharedWorks(task.kinds, task.words)
        self._ready: dict[str, tuple[Draft, JobFiles]] = {}  # what kinds have said, by step
        self._lookups: dict[Any, Any] = {}  # of the kinds, shared by all drafts
        self._before: dict[str, Before] = {}  # step → what its entry names
        self._merged: dict[str, str] = {}  # a step that has no job of its own → the one that has it

    def on_disk(self, model: str) -> bool:
        """Tell whether an earlier run made a model."""
        return self._there(self.run_folder / model_folder_name(model))

    def is_there(self, path: str) -> bool:
        """Tell whether a path of the settings is there."""
        try:
            return self._there(absolute_path(self.root, path))
        except Error:  # the home folder of a user that does not exist
            return False

    def ordered(self, steps: Iterable[Step]) -> Iterable[Step]:
        """Return the steps in order, where some make folders that others read, or name those before them."""
        listed = list(steps)
        self._before = steps_before(listed, self.task, self.problems)
        if not self._before and not any(step.kind.role is Role.FOLDER for step in listed):
            return listed
        for step in listed:
            ready = self._prepare(step)
            if ready is not None:
                self._ready[step.name] = ready
        reads_and_writes = [
            StepFiles(step, files.inputs, files.outputs)
            for step in listed
            if step.name in self._ready
            for _, files in (self._ready[step.name],)
        ]
        named = {name: {**each.done, **each.ended} for name, each in self._before.items()}
        return in_order_of_files(reads_and_writes, self.problems, named)

    def _prepare(self, step: Step) -> tuple[Draft, JobFiles] | None:
        """Return what a step's kind says of it; None, and the problem, where it cannot be planned."""
        try:
            draft = self._draft(step)
            return draft, files_of(step, draft)
        except Error as error:  # a laboratory's own check
            self.problems.append(Problem(code="setting", message=str(error), place=step.place))
            return None

    def enter(self, step: Step) -> None:
        """Add the job of a step, or the problem for which it cannot be planned."""
        ready = self._ready.pop(step.name, None) or self._prepare(step)
        if ready is None:
            return
        draft, files = ready
        makers, before = self._refuse(step, draft), self._before.get(step.name, NOTHING)
        draw = self._draws.first(step, draft, files.inputs, before.names)
        if draw is not None:
            self._share(draw, step, files)
            return
        after, ended = map(self._entered, before.names)
        needs = self.dependencies.connect(step, files.inputs, files.outputs, self.problems, after)
        if problem := self.folders.problem(step, follows=bool(needs or step.follows != FREE)):
            self.problems.append(problem)
        job = self._planned(step, files, draft.words, needs, step.name)
        ended = tuple(name for name in ended if name not in needs)
        self.jobs[step.name] = job._replace(after_any=ended) if ended else job
        self._shared.enter(step, draft, makers, self.dependencies.behind_programs[step.name])

    def _entered(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the jobs of some steps, each once; of a circle, which is reported, some have none yet."""
        jobs = {self._merged.get(name, name) for name in names}
        return tuple(sorted(jobs & self.jobs.keys(), key=self.dependencies.order.__getitem__))

    def _planned(
        self, step: Step, files: JobFiles, words: Words, needs: Iterable[str], reader: str
    ) -> PlannedJob:
        """Return a job; `reader` is the one that is known to read the same."""
        names, variant = tuple(needs), self._variant(step)
        identity = Identity(
            job=step.name,
            kind=step.kind.name,
            model=step.model,
            base=step.base,
            images=step.images,
            settings=step.settings.text,
            needs=tuple([self._needed(name, step) for name in names]),
            code=variant.code,
            given=tuple([self._content(path) for path in self.dependencies.given[reader]]),
            words=words,
        )
        return planned_job(step, variant, files, names, identity)

    def _variant(self, step: Step) -> Variant:
        """Return what a step has in common with others, worked out once for all of them."""
        # a variant holds settings and request, so that their id() stays theirs
        key = (step.kind.name, id(step.settings), id(step.request))
        variant = self._variants.get(key)
        if variant is None:
            variant = self._variants[key] = variant_of(step, self._code)
        return variant

    def _needed(self, name: str, step: Step) -> Identity:
        return self._draws.identity_for(name, step) or self.jobs[name].identity

    def _share(self, draw: Draw, step: Step, files: JobFiles) -> None:
        """Let an earlier job make the choice of this step, too."""
        first = self._merged[step.name] = draw.step.name
        self.dependencies.make(draw.step, files.outputs, self.problems)
        alone = self._planned(step, files, draw.draft.words, self.jobs[first].needs, first)
        draw.models[str(step.model)] = replace(alone.identity, job=first)

    def complete_draws(self) -> None:
        """Set the outputs of jobs that choose for several models, now that all are known."""
        for draw in self._draws.shared():
            files = files_of(draw.step, draw.whole)
            job = self.jobs[draw.step.name]
            self.jobs[job.name] = job._replace(outputs=files.outputs, argv=files.argv)

    def _draft(self, step: Step) -> Draft:
        return Draft(
            kind=step.kind.name,
            run=self.task.name,
            run_folder=self.run_folder,
            folder=self.root,
            model=step.model,
            base=step.base,
            data=step.data,
            images=step.images,
            name=step.name.partition("/")[2] if step.model is None else None,
            settings=step.settings.values,
            words=words_of(step, self.task.words),
            device=step.request.resources.device,
            gpus=step.request.resources.gpus,
            lookups=self._lookups,
        )

    def _refuse(self, step: Step, draft: Draft) -> tuple[Draft, ...]:
        """Report why a kind refuses a job; return the jobs that make what it starts from."""
        start = step.model if step.kind.role in SCORING else step.base
        makers = self._made_by.get(start or "", ())
        if step.kind.role is Role.FOLDER:
            models = [str(step.settings.values.get(name)) for name in step.kind.settings.models]
            makers = tuple(maker for model in models for maker in self._made_by.get(model, ()))
        if step.model is not None and step.kind.role in _MAKERS:
            self._made_by[step.model] = (*makers, draft)
        if self.task.phases and step.kind.name not in self.task.phases:
            return makers
        for reason in step.kind.refusals(draft, makers):
            self.problems.append(Problem(code="refused", message=reason, place=step.place))
        return makers

    def shares(self, kept: Collection[str], to_do: Collection[str]) -> tuple[PlannedShare, ...]:
        """Return the jobs that do once what two or more jobs repeat.

        Args:
            kept: names of the jobs of the plan.
            to_do: those of them that are not done yet.
        """
        return self._shared.shares(to_do, partial(self._shared_job, kept))

    def _shared_job(
        self, kept: Collection[str], kind: Kind, name: str, first: User, shared: SharedJob
    ) -> PlannedJob:
        """Return the job that does some work for others; `first` is one of these."""
        values = kind.settings.model_validate(dict(shared.settings)).model_dump(mode="json")
        text = json.dumps(kind.settings.decisive(values), sort_keys=True)
        step = Step(
            kind=kind,
            name=name,
            place=first.step.place,
            settings=Settled(values=values, given={}, text=text),
            request=self.task.shared_requests.get(kind.name) or request_of(first.step.request),
            base=shared.base,
            data=shared.data,
            images=shared.images,
        )
        draft, variant = self._draft(step), variant_of(step, self._code)
        files = files_of(step, draft)
        needs, given = self.dependencies.behind(files.inputs, first.name)
        identity = Identity(
            job=name,
            kind=kind.name,
            model=None,
            base=shared.base,
            images=shared.images,
            settings=text,
            needs=tuple(self.jobs[need].identity for need in needs),
            code=variant.code,
            given=tuple(self._content(path) for path in given),
            words=draft.words,
        )
        kept_needs = tuple(need for need in needs if need in kept)
        return planned_job(step, variant, files, kept_needs, identity)


def _no_job(task: TaskFile) -> Problem:
    """Return the problem of a file that is all right, but from which nothing follows."""
    why = "the file asks for no job"
    if task.phases:
        why = f"no job is of the kind {' or '.join(task.phases)}, and phases wants no other"
    hint = "change phases" if task.phases else "add a section such as train"
    return Problem(code="no-jobs", message=f"{task.file}: {why}", hint=hint)
