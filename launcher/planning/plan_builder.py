"""A task file worked out: every job with its files, its needs and its hash.

Entries become steps (`expand`), steps are asked what they read and write (`_prepared`), those that make the same
choice are made one (`_drawn`), all are put in order and linked (`Dependencies`), and hashed (`_Jobs`). Pure but for
four callables among the arguments, which tell whether a path exists and is a folder, which code does a kind's work,
and what is in a file that no job makes.

A sweep of the learning rate trains many models on the same flipped labels: one job makes the choice for all of them,
that of the first of them, and writes the record of each. The word `phases` of a task file leaves kinds of jobs out.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from launcher.draft import Draft
from launcher.errors import (
    MOST_LISTED,
    Error,
    Problem,
    Problems,
    Severity,
    TaskFileError,
    split_advice,
)
from launcher.ids import NO_WORDS, DataId, Words, model_folder_name, parse_data, parse_model
from launcher.job import Resources
from launcher.job_options.registry import JobRequest
from launcher.kind_interface import Kind, Role, SharedJob, WarnsOfJobs
from launcher.kinds import program_cost, roots_of, signature_of
from launcher.planning.dependencies import (
    NOTHING,
    UNKNOWN_JOB,
    Before,
    Dependencies,
    Disk,
    Links,
    PreparedStep,
    asked_once,
    steps_before,
)
from launcher.planning.expansion import MAKING, SCORING, Step, expand
from launcher.planning.plan import Code, Identity, Plan, PlannedJob, PlannedShare, as_errors
from launcher.planning.shared_work import request_of, shares
from launcher.taskfile.entries import TaskFile, in_order
from launcher.taskfile.scope import RESOURCES
from launcher.taskfile.settings import Settled, completed

_PREPARING = frozenset({Role.DATA, Role.LABELS})
_WHOLE = frozenset({RESOURCES, UNKNOWN_JOB})  # codes of errors beside which every job is planned
_LEARNING = MAKING | SCORING | {Role.FOLDER, Role.SHARED}


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
    is_link = asked_once(Path.is_symlink)
    disk = Disk(root, asked_once(exists), asked_once(is_folder), cache(content), is_link)
    run_folder = root / "runs" / task.name
    made = Problems()
    steps = expand(
        task, lambda model: disk.exists(run_folder / model_folder_name(model)), disk.has, made
    )
    problems = Problems([*task.problems, *made])
    whole = all(error.code in _WHOLE for error in task.errors)
    before = steps_before(steps, whole=whole, problems=problems)
    drafter = _Drafter(task, run_folder, root)
    drawn = _drawn(list(_prepared(steps, drafter, problems)), before, drafter)
    dependencies = Dependencies(drawn.steps, drawn.before, disk)
    problems += dependencies.problems
    if problems.has_errors():
        errors = (problem for problem in problems if problem.severity is Severity.ERROR)
        if not task.phases and all(error.code in _WHOLE for error in errors):
            problems += as_errors(dependencies.missing_inputs())
        raise TaskFileError(in_order(problems, task.files))
    jobs = _Jobs(drafter, disk, code, dependencies, drawn.further)
    wanted = _of_phases(task.phases, jobs.by_name, dependencies)
    if not wanted:
        raise TaskFileError([*in_order(problems, task.files), _no_job(task)])
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
        wanted=task.wanted,
        kinds=task.kinds,
        warnings=in_order([*problems, *dependencies.missing_inputs()], task.files),
        shares=partial(jobs.shares, kept),
    )


class _Drafter:
    """Asks kinds what they say of steps."""

    def __init__(self, task: TaskFile, run_folder: Path, root: Path) -> None:
        self.task, self.run_folder, self.root = task, run_folder, root
        self._lookups: dict[Any, Any] = {}  # of the kinds, shared by all drafts

    def prepared(
        self, step: Step, makers: tuple[Draft, ...], further: tuple[str, ...] = ()
    ) -> PreparedStep:
        """Return a step with its files and its command line.

        Args:
            step: which.
            makers: the drafts of the steps from which its model comes.
            further: models for which it chooses, besides its own.

        Raises:
            Error: the laboratory refuses it.
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
            further_models=further,
            settings=step.settings.values,
            words=self._words(step),
            device=step.request.resources.device,
            gpus=step.request.resources.gpus,
            lookups=self._lookups,
        )
        inputs, outputs = tuple(step.kind.inputs(draft)), tuple(step.kind.outputs(draft))
        return PreparedStep(step, draft, makers, inputs, outputs, tuple(step.kind.argv(draft)))

    def _words(self, step: Step) -> Words:
        """Return those of the user's words that stand in a job's data, unions written out or not."""
        if not self.task.words or step.images is None:
            return NO_WORDS
        images = parse_data(step.images)
        return self.task.words.used_by(DataId((*images, *step.kind.elementary(images))))


def _prepared(
    steps: Iterable[Step], drafter: _Drafter, problems: Problems
) -> Iterator[PreparedStep]:
    """Give steps with what their kinds say of them; blame those that cannot be, or must not."""
    made_by: dict[str, tuple[Draft, ...]] = {}  # model → the steps from which it comes
    warned: set[str] = set()
    phases = drafter.task.phases
    for step in steps:
        starts = [step.model if step.kind.role in SCORING else step.base]
        if step.kind.role is Role.FOLDER:
            starts = [str(step.settings.values.get(name)) for name in step.kind.settings.models]
        makers = tuple(maker for model in starts for maker in made_by.get(model or "", ()))
        try:
            prepared = drafter.prepared(step, makers)
        except Error as error:  # a laboratory's own check
            problems.blame(step, "setting", str(error))
            continue
        if step.model is not None and step.kind.role in MAKING:
            made_by[step.model] = (*makers, prepared.draft)
        if not phases or step.kind.name in phases:
            for reason in step.kind.refusals(prepared.draft, makers):
                notes = _poisoned_beside(step, made_by)
                problems.blame(step, "refused", *split_advice(reason), *notes)
            _warn(step, prepared.draft, warned, problems)
        yield prepared


def _warn(step: Step, draft: Draft, warned: set[str], problems: Problems) -> None:
    """Add the warnings of a step's kind that are not among those of earlier steps."""
    if isinstance(step.kind, WarnsOfJobs):
        for text in step.kind.warnings(draft):
            if text not in warned:
                problems.note(step, "kind-warning", text)
                warned.add(text)


def _poisoned_beside(step: Step, made: Iterable[str]) -> Iterator[str]:
    """Give a note of the poisoned models of a plan, where a method was to work on a clean one."""
    if step.kind.role is not Role.METHOD or not step.base:
        return
    if any(stage.poison for stage in parse_model(step.base).stages):
        return
    last = {model: parse_model(model).last for model in made}
    if poisoned := [model for model, stage in last.items() if stage.poison and not stage.methods]:
        yield f"poisoned models of this file: {', '.join(poisoned[:MOST_LISTED])}"


class _Drawn(NamedTuple):
    """Steps of which each makes a choice of its own."""

    steps: Sequence[PreparedStep]
    before: Mapping[str, Before]
    further: Mapping[str, Sequence[Step]]  # a step → those whose choice it makes, too


def _drawn(
    steps: Sequence[PreparedStep], before: Mapping[str, Before], drafter: _Drafter
) -> _Drawn:
    """Let the first of the steps that make the same choice make it for all of them."""
    first: dict[Hashable, str] = {}
    further: dict[str, list[Step]] = {}
    for step, *_, inputs, _, _ in steps:
        if step.kind.settings.for_many and step.model is not None:
            labels, named = str(parse_model(step.model).last.poison), before.get(step.name, NOTHING)
            choice = (step.kind.name, step.images, labels, step.settings.text, inputs)
            name = first.setdefault((*choice, tuple(named.done), tuple(named.ended)), step.name)
            if name != step.name:
                further.setdefault(name, []).append(step)
    if not further:
        return _Drawn(steps, before, further)
    merged = {step.name: name for name, others in further.items() for step in others}
    kept: list[PreparedStep] = []
    for prepared in steps:
        name = prepared.step.name
        if name in further:
            models = tuple(str(step.model) for step in further[name])
            whole = drafter.prepared(prepared.step, prepared.makers, models)
            kept.append(whole._replace(inputs=prepared.inputs))
        elif name not in merged:
            kept.append(prepared)
    named_jobs = {
        name: Before(*({merged.get(other, other): at for other, at in of.items()} for of in named))
        for name, named in before.items()
    }
    return _Drawn(kept, named_jobs, further)


class _Work(NamedTuple):
    """What the jobs of one entry have in common, where they have the same settings."""

    settings: Settled
    request: JobRequest
    code: Code
    resources: Resources
    signature: str  # '' of a program: its own words tell what it costs


class _Jobs:
    """The jobs of linked steps, and those that do once what several of them repeat."""

    def __init__(
        self,
        drafter: _Drafter,
        disk: Disk,
        code: Callable[[str, tuple[str, ...]], Mapping[str, str]],
        dependencies: Dependencies,
        further: Mapping[str, Sequence[Step]],
    ) -> None:
        self._drafter, self._disk, self._dependencies = drafter, disk, dependencies
        self._code = cache(lambda entry, roots: Code(entry, code(entry, roots)))
        self._works: dict[tuple[str, int, int], _Work] = {}
        # (job that chooses, further model) → what would determine the choice of a job for this one alone
        self._alone: dict[tuple[str, str], Identity] = {}
        self.by_name: dict[str, PlannedJob] = {}
        for prepared in dependencies.steps:
            name = prepared.step.name
            self.by_name[name] = self._job(prepared, dependencies.links[name])
            for step in further.get(name, ()):
                other = prepared._replace(step=step)
                identity = self._identity(other, dependencies.links[name], name)
                self._alone[name, str(step.model)] = identity

    def _job(self, prepared: PreparedStep, links: Links) -> PlannedJob:
        step, work = prepared.step, self._work(prepared.step)
        identity = self._identity(prepared, links, step.name)
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
            needs=links.needs,
            after_any=links.ended,
            resources=work.resources,
            terms=step.request.terms,
            priority=step.request.priority,
            gpus=step.request.gpus,
            inputs=tuple([file.path for file in prepared.inputs]),
            outputs=prepared.outputs,
            argv=prepared.argv,
            preload=step.kind.preload,
            identity=identity,
            signature=work.signature or program_cost(step.settings.values, prepared.argv),
        )

    def _identity(self, prepared: PreparedStep, links: Links, job: str) -> Identity:
        """Return everything that determines the result of a step; `job` does it."""
        step = prepared.step
        return Identity(
            job=job,
            kind=step.kind.name,
            model=step.model,
            base=step.base,
            images=step.images,
            settings=step.settings.text,
            needs=tuple([self._needed(name, step) for name in links.needs]),
            code=self._work(step).code,
            # what a program reads is looked at when it starts: it may wait for days until then
            given=tuple([self._disk.content(path) for path in links.given if step.kind.entry]),
            words=prepared.draft.words,
        )

    def _needed(self, name: str, step: Step) -> Identity:
        """Return what stands for a job in the hash of a step that needs it.

        Of a job that chooses for several models it is the identity of one that chooses for the step's model
        alone, so that which models share a choice, and which of them is the first, changes the hash of none.
        """
        for model in (step.model, step.base) if self._alone else ():
            if model is not None and (name, model) in self._alone:
                return self._alone[name, model]
        return self.by_name[name].identity

    def _work(self, step: Step) -> _Work:
        """Return what a step has in common with others, worked out once for all of them."""
        # it holds settings and request, so that their id() stays theirs
        key = (step.kind.name, id(step.settings), id(step.request))
        work = self._works.get(key)
        if work is None:
            kind, values, request = step.kind, step.settings.values, step.request
            work = self._works[key] = _Work(
                settings=step.settings,
                request=request,
                code=self._code(kind.entry, roots_of(kind, values)),
                resources=resources_of(request, kind.role, has_entry=bool(kind.entry)),
                signature=signature_of(kind, values, request.resources.gpus) if kind.entry else "",
            )
        return work

    def shares(self, kept: Collection[str], to_do: Collection[str]) -> tuple[PlannedShare, ...]:
        """Return the jobs that do once what two or more jobs repeat.

        Args:
            kept: names of the jobs of the plan.
            to_do: those of them that are not done yet.
        """
        task, links = self._drafter.task, self._dependencies.links
        # what programs make of what jobs read is theirs: those behind others share no work
        users = ((each, links[each.step.name].programs) for each in self._dependencies.steps)
        return shares(users, to_do, task.kinds, task.words, partial(self._shared_job, kept))

    def _shared_job(
        self, kept: Collection[str], kind: Kind, name: str, first: Step, shared: SharedJob
    ) -> PlannedJob:
        """Return the job that does some work for others; `first` is one of these."""
        values = kind.settings.model_validate(dict(shared.settings)).model_dump(mode="json")
        step = Step(
            kind=kind,
            name=name,
            place=first.place,
            settings=completed(kind, values, {}),
            request=self._drafter.task.shared_requests.get(kind.name) or request_of(first.request),
            base=shared.base,
            data=shared.data,
            images=shared.images,
        )
        prepared = self._drafter.prepared(step, ())
        job = self._job(prepared, self._dependencies.behind(prepared.inputs, first.name))
        return job._replace(needs=tuple(need for need in job.needs if need in kept))


def resources_of(request: JobRequest, role: Role, *, has_entry: bool) -> Resources:
    """Return what a job asks of the machine; a program that asks for a GPU gets one or waits.

    A laboratory's kind knows what to do where there is none; a program got its arguments for the
    GPU that its entry asks for, as that of `launcher add` does.
    """
    resources = request.resources
    if not has_entry and resources.device == "auto" and request.wants_gpu:
        resources = resources._replace(device="cuda")
    return resources._replace(accelerated=role in _LEARNING or request.gpus is not None)


def _of_phases(
    phases: Collection[str], jobs: Mapping[str, PlannedJob], dependencies: Dependencies
) -> tuple[PlannedJob, ...]:
    """Return the jobs of the kinds that are wanted, with the data, poison and programs that they need.

    Their hashes are those of the whole plan, so that a study done phase by phase is done once.
    What a job needs of another phase must be there already, else it is missing.

    Args:
        phases: the kinds that are wanted; none: all of them.
        jobs: of the whole plan by name, each one's needs before it.
        dependencies: of these jobs; what is missing is entered there.
    """
    if not phases:
        return tuple(jobs.values())
    kept = {name for name, job in jobs.items() if job.kind in phases}
    for name in reversed([*jobs]):  # those that need a job come after it
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
                dependencies.lacks_of(step, need, jobs[need].outputs)
        needs, after_any = (
            tuple(name for name in of if name in kept) for of in (job.needs, job.after_any)
        )
        wanted.append(job._replace(needs=needs, after_any=after_any))
    return tuple(wanted)


def _no_job(task: TaskFile) -> Problem:
    """Return the problem of a file that is all right, but from which nothing follows."""
    why = "the file defines no jobs"
    if task.phases:
        why = f"phases selects only {' and '.join(task.phases)}, and the file has no such jobs"
    hint = "change phases" if task.phases else "add a section such as train"
    return Problem(code="no-jobs", message=f"{task.file}: {why}", hint=hint)
