"""A task file's entries, expanded into steps: one for each job, in the order in which they run.

Data first; then, as in the file, each training with its poison record before it and its tests
right behind it; then the unlearned models with theirs; then tests of models from earlier runs; then
benchmarks; then folders. Jobs of other kinds keep their side of all that. A model that is needed early
is made early: a need always comes before its user. Where folders are made, or entries name jobs that they
follow, the plan is sorted once more (`steps`).
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from launcher.draft import tested
from launcher.errors import Place, Problem
from launcher.job_options.registry import JobRequest
from launcher.kind_interface import Kind, Role
from launcher.planning.folders import folder_steps
from launcher.planning.model_graph import PlannedModel, PlannedModels, planned_models
from launcher.planning.steps import Step, with_values, without_doubles
from launcher.system.files import Json
from launcher.taskfile.entries import (
    FREE,
    AutoTest,
    BenchmarkEntry,
    Entry,
    PlainEntry,
    TaskFile,
    TestEntry,
    TrainEntry,
)
from launcher.taskfile.settings import Settled
from launcher.taskfile.yaml_tree import plain_value

_NOT_A_SLUG = re.compile(r"[^A-Za-z0-9_.+]+")
_MOST_SLUG = 60


class Expansion(NamedTuple):
    """The steps that a task file asks for, and what cannot be."""

    steps: tuple[Step, ...]
    problems: tuple[Problem, ...]


def expand(
    task: TaskFile, on_disk: Callable[[str], bool], exists: Callable[[str], bool]
) -> Expansion:
    """Return the steps that a task file asks for.

    Args:
        task: the file.
        on_disk: tells whether an earlier run made the model of that ID.
        exists: tells whether a path of the settings is there.
    """
    models = planned_models(task, on_disk)
    problems = list(models.problems)
    tests = _Tests(task, models)
    plain = [isinstance(entry, PlainEntry) for entry in task.entries]
    first = plain.index(False) if False in plain else 0
    steps = [
        *_plain_steps(task.entries, Role.DATA),
        *_plain_steps(task.entries[:first], Role.PLAIN),
    ]
    waiting: list[Step] = []  # tests that need a further model, which may come later
    for made in models.made:
        name = str(made.model)
        steps += _making_steps(made, name)
        for step in tests.of(made, name):
            (waiting if _needs_further_model(step) else steps).append(step)
    steps += waiting
    for model, entry in tests.earlier:
        steps += tests.steps(model, entry, entry.kind, entry.settings, entry.request)
    steps += _benchmarks(task, models, problems)
    steps += folder_steps(task, models, exists, problems)
    steps += _plain_steps(task.entries[first:], Role.PLAIN)
    return Expansion(tuple(without_doubles(steps, problems)), tuple(problems))


def _needs_further_model(step: Step) -> bool:
    return any(step.settings.values[name] for name in step.kind.settings.models)


def _making_steps(planned: PlannedModel, model: str) -> Iterator[Step]:
    """Give the job that makes a model, behind the one that poisons its labels."""
    request, entry = planned.request, planned.request.entry
    data = planned.model.last.data
    step = Step(
        kind=entry.kind,
        name=f"{entry.kind.name}/{model}",
        place=entry.place,
        settings=request.variant.settings,
        request=entry.request,
        model=model,
        base=None if planned.base is None else str(planned.base),
        data=str(data),
        images=str(request.reader.images(data)),
        follows=entry.follows,
    )
    choice, labeller = request.variant.labels_settings, request.labels_kind
    if isinstance(entry, TrainEntry) and labeller is not None and choice is not None:
        name = f"{labeller.name}/{model}"
        asked = entry.labels_request
        yield step._replace(kind=labeller, name=name, settings=choice, request=asked)
    yield step


class _Tests:
    """Which tests stand behind which model."""

    def __init__(self, task: TaskFile, models: PlannedModels) -> None:
        made = {str(each.model) for each in models.made}
        self._automatic: dict[int, list[tuple[int, AutoTest]]] = {}  # by combination
        self._by_model: dict[str, list[tuple[int, TestEntry]]] = {}
        self.earlier: list[tuple[str, TestEntry]] = []  # those of models that an earlier run made
        # (id of entry, kind) → data as written, with real data added where that is implied
        self._tested: dict[tuple[int, str], list[tuple[Place, str, str]]] = {}
        for at, entry in enumerate(task.entries):
            if isinstance(entry, AutoTest):
                self._automatic.setdefault(entry.combination, []).append((at, entry))
            elif isinstance(entry, TestEntry):
                for model in map(str, models.meant(entry.model)):
                    if model in made:
                        self._by_model.setdefault(model, []).append((at, entry))
                    else:
                        self.earlier.append((model, entry))

    def of(self, planned: PlannedModel, model: str) -> Iterator[Step]:
        """Give the tests of a model that this file makes, in the order of the file."""
        maker = planned.request.entry
        own: list[tuple[int, AutoTest | TestEntry]] = [
            *self._automatic.get(maker.combination, ()),
            *self._by_model.get(model, ()),
        ]
        for _, entry in sorted(own, key=lambda pair: pair[0]):
            if isinstance(entry, TestEntry):
                yield from self.steps(model, entry, entry.kind, entry.settings, entry.request)
            elif maker.kind.name in entry.kinds:
                yield from self.steps(model, entry, *entry.kinds[maker.kind.name])

    def steps(
        self,
        model: str,
        entry: AutoTest | TestEntry,
        kind: Kind,
        conditions: tuple[Settled, ...],
        request: JobRequest,
    ) -> Iterator[Step]:
        """Give the tests of a model that an entry asks for, by one kind under some conditions."""
        key = (id(entry), kind.name)  # the task file holds its entries
        follows = entry.follows if isinstance(entry, TestEntry) else FREE
        if key not in self._tested:
            self._tested[key] = [
                (at.node.place, str(at.value), str(kind.images(at.value))) for at in entry.data
            ]
        start = f"{kind.name}/{model}/"
        for settings in conditions:
            condition = kind.settings.condition(settings.values)
            for place, data, images in self._tested[key]:
                yield Step(
                    kind=kind,
                    name=start + tested(data, condition),
                    place=place,
                    settings=settings,
                    request=request,
                    model=model,
                    data=data,
                    images=images,
                    follows=follows,
                    condition=condition,
                )


def _benchmarks(task: TaskFile, planned: PlannedModels, problems: list[Problem]) -> Iterator[Step]:
    """Give the benchmarks, each model on each data ID; all models that they name are made before."""
    for entry in (each for each in task.entries if isinstance(each, BenchmarkEntry)):
        named = dict.fromkeys(model for word in entry.models for model in planned.meant(word))
        own = [
            made.model
            for made in planned.made
            if made.request.entry.combination == entry.combination
        ]
        if not entry.models and not planned.made and task.whole:
            problems.append(_nothing_made(entry))
        settings = _with_models(entry, planned, problems)
        for model in (named if entry.models else own) if settings is not None else ():
            for at in entry.data:
                yield Step(
                    kind=entry.kind,
                    name=f"{entry.kind.name}/{model}/{at.value}",
                    place=at.node.place,
                    settings=settings or entry.settings,
                    request=entry.request,
                    model=str(model),
                    data=str(at.value),
                    images=str(entry.kind.images(at.value)),
                    follows=entry.follows,
                )


def _nothing_made(entry: BenchmarkEntry) -> Problem:
    name = entry.kind.name
    return Problem(
        code="no-models",
        message=f"{name} scores the models that this file makes, and it makes none",
        place=entry.place,
        hint="name models of an earlier run of this name: model: [...]",
    )


def _with_models(
    entry: BenchmarkEntry, planned: PlannedModels, problems: list[Problem]
) -> Settled | None:
    """Return the settings of a benchmark, models in them by the IDs under which they are made."""
    values: dict[str, Json] = {}
    for name, named in entry.others.items():
        models = planned.meant(named)
        if len(models) > 1:
            message = f"{name}: {named.value} stands for {len(models)} models"
            hint = f"name one of them: {', '.join(map(str, models))}"
            place = named.node.place
            problems.append(Problem(code="ambiguous", message=message, place=place, hint=hint))
        if len(models) != 1:
            return None
        values[name] = str(models[0])
    return with_values(entry.kind, entry.settings, values)


def _plain_steps(entries: Iterable[Entry], role: Role) -> Iterator[Step]:
    taken: dict[str, int] = {}
    for entry in entries:
        if isinstance(entry, PlainEntry) and entry.kind.role is role:
            name = entry.name
            if name is None:
                slug = _slug(entry)
                count = taken[slug] = taken.get(slug, 0) + 1
                name = slug if count == 1 else f"{slug}-{count}"
            yield Step(
                kind=entry.kind,
                name=f"{entry.kind.name}/{name}",
                place=entry.place,
                settings=entry.settings,
                request=entry.request,
                follows=entry.follows,
            )


def _slug(entry: PlainEntry) -> str:
    """Return a name for a job that was given none, from the first of its settings."""
    for said in entry.settings.given.values():
        value = plain_value(said.node)
        words = value if isinstance(value, list) else [value]  # of a path, its last name
        text = "-".join(str(word).rstrip("/").rpartition("/")[2] for word in words)
        slug = _NOT_A_SLUG.sub("-", text)[:_MOST_SLUG].strip("-_.+")
        if slug:
            return slug
    return "1"
