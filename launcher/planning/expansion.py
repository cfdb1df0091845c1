"""A task file's entries, expanded into steps: one for each job, in the order in which they run.

Data first; then, as in the file, each training with its poison record before it and its tests
right behind it; then the unlearned models with theirs; then tests of models from earlier runs; then
benchmarks; then folders. Jobs of other kinds keep their side of all that. A model that is needed early
is made early: a need always comes before its user. Where folders are made, or entries name jobs that they
follow, the plan is sorted once more (`dependencies`).

An entry of the role FOLDER reads folders, of other such entries or on the disk, and models. It makes a folder from
each of them with each other, in each of its own variants. A swept setting that two of these have in
common ties them: only those meet in which it has the same value. Its settings name folders:

source: disrupted                    every folder that the entries of this name make
source: disrupted@attack=pgd,eps=8   those of them whose variants have these values
source: data/faces                   a path; so is a word that no entry has as its name
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from launcher.draft import MADE, tested
from launcher.errors import Place, Problems, nearest, question
from launcher.ids import ModelId, canonical, model_folder_name, parse_data
from launcher.job_options.registry import JobRequest
from launcher.kind_interface import Kind, Role
from launcher.planning.model_graph import (
    PlannedModel,
    PlannedModels,
    has_values,
    made_here,
    same_value,
)
from launcher.system.files import Json
from launcher.taskfile.entries import (
    FREE,
    At,
    Entry,
    FolderEntry,
    FolderVariant,
    Follows,
    Name,
    PlainEntry,
    PlainVariant,
    ScoringEntry,
    TaskFile,
    TrainEntry,
    Variant,
    variant_name,
)
from launcher.taskfile.nodes import plain_value
from launcher.taskfile.settings import Settled, differences, with_values

SCORING = frozenset({Role.TEST, Role.BENCHMARK})  # they begin with a model, and make none
MAKING = frozenset({Role.TRAIN, Role.METHOD})  # they make a model
_NOT_A_SLUG = re.compile(r"[^A-Za-z0-9_.+]+")
_MOST_SLUG = 60
OWN = "its matrix"  # what errors call the entry's own sweeps


class Step(NamedTuple):
    """One job before its files are known."""

    kind: Kind
    name: str
    place: Place
    settings: Settled
    request: JobRequest
    model: str | None = None
    base: str | None = None
    data: str | None = None
    images: str | None = None
    follows: Follows = FREE
    condition: str = ""  # of a test, see `launcher.kind_interface`
    swept: Name = ()  # the values that tell it from others of its entry


def expand(
    task: TaskFile,
    on_disk: Callable[[str], bool],
    exists: Callable[[str], bool],
    problems: Problems,
) -> tuple[Step, ...]:
    """Return the steps that a task file asks for.

    Args:
        task: the file.
        on_disk: tells whether an earlier run made the model of that ID.
        exists: tells whether a path of the settings is there.
        problems: where errors and warnings are added.
    """
    models = PlannedModels(task, on_disk, problems)
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
            further = any(step.settings.values[name] for name in step.kind.settings.models)
            (waiting if further else steps).append(step)
    steps += waiting
    steps += tests.earlier
    steps += _benchmarks(task, models, problems)
    steps += _folder_steps(task, models, exists, problems)
    steps += _plain_steps(task.entries[first:], Role.PLAIN)
    return tuple(_without_doubles(steps, problems))


def _without_doubles(steps: Iterable[Step], problems: Problems) -> Iterator[Step]:
    """Leave out jobs that are asked for twice; two that differ under one name are an error."""
    by_name: dict[str, Step] = {}
    by_test: dict[tuple[str, str | None, str, str], Step] = {}
    images: dict[tuple[str, str], str] = {}  # (kind, data ID) → its images, in whatever words
    for step in steps:
        code, complain, asked_twice = (
            "duplicate-job",
            problems.blame,
            f"{step.name} is listed twice",
        )
        same = by_name.setdefault(step.name, step)
        if same is step:
            if step.kind.role in SCORING and step.images is not None:
                named = (step.kind.name, step.images)
                if named not in images:
                    meant = step.kind.elementary(parse_data(step.images))
                    images[named] = str(canonical(meant))
                key = (step.kind.name, step.model, images[named], step.settings.text)
                same = by_test.setdefault(key, step)
            if same is step:
                yield step
                continue
            code, complain = "same-data", problems.note
            message = f"{step.name} is the same test as {same.name}; it runs once, under that name"
        elif same.follows.texts != step.follows.texts:
            message = f"{asked_twice}, with different values of after or after_any"
        elif dict(same.settings.values) != dict(step.settings.values):
            message = f"{asked_twice}, with different settings"
        elif same.place != step.place:
            code, complain, message = "listed-twice", problems.note, f"{asked_twice}; it runs once"
        else:  # one entry, in combinations that do not concern it
            continue
        changed = differences(same.settings.values, step.settings.values)
        complain(step, code, message, "", f"first in line {same.place.line}", *changed)


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
        swept=_model_choice(planned.model).name,
    )
    choice, labeller = request.variant.labels_settings, request.labels_kind
    if isinstance(entry, TrainEntry) and labeller is not None and choice is not None:
        name = f"{labeller.name}/{model}"
        asked = entry.labels_request
        yield step._replace(kind=labeller, name=name, settings=choice, request=asked)
    yield step


def _scored(entry: ScoringEntry, settled: Iterable[Settled]) -> list[Step]:
    """Return what an entry scores of any model, each step named by its data and its condition."""
    kind = entry.kind
    data = [(at.node.place, str(at.value), str(kind.images(at.value))) for at in entry.data]
    conditions = [(each, kind.settings.condition(each.values)) for each in settled]
    return [
        Step(
            kind=kind,
            name=tested(name, condition),
            place=place,
            settings=settings,
            request=entry.request,
            data=name,
            images=images,
            follows=entry.follows,
            condition=condition,
        )
        for settings, condition in conditions
        for place, name, images in data
    ]


def _of_model(steps: Iterable[Step], model: str) -> Iterator[Step]:
    """Give the steps that score a model, of those that score any."""
    for step in steps:
        yield step._replace(name=f"{step.kind.name}/{model}/{step.name}", model=model)


class _Tests:
    """Which tests stand behind which model, those that an entry gives for any model worked out once."""

    def __init__(self, task: TaskFile, models: PlannedModels) -> None:
        made = {str(each.model) for each in models.made}
        # model, or (combination, kind) of models → (place in the file, tests of any model)
        self._behind: dict[str | tuple[int, str], list[tuple[int, list[Step]]]] = {}
        self.earlier: list[Step] = []  # those of models that an earlier run made
        for at, entry in enumerate(task.entries):
            if not isinstance(entry, ScoringEntry) or entry.kind.role is not Role.TEST:
                continue
            steps = _scored(entry, entry.settings)
            if entry.maker:
                key = (entry.combination, entry.maker)
                self._behind.setdefault(key, []).append((at, steps))
            for model in (str(model) for word in entry.models for model in models.meant(word)):
                if model in made:
                    self._behind.setdefault(model, []).append((at, steps))
                else:
                    self.earlier += _of_model(steps, model)

    def of(self, planned: PlannedModel, model: str) -> Iterator[Step]:
        """Give the tests of a model that this file makes, in the order of the file."""
        maker = planned.request.entry
        own = [
            *self._behind.get((maker.combination, maker.kind.name), ()),
            *self._behind.get(model, ()),
        ]
        for _, steps in sorted(own, key=itemgetter(0)):
            yield from _of_model(steps, model)


def _benchmarks(task: TaskFile, planned: PlannedModels, problems: Problems) -> Iterator[Step]:
    """Give the benchmarks, each model on each data ID; all models that they name are made before."""
    for entry in task.entries:
        if not isinstance(entry, ScoringEntry) or entry.kind.role is not Role.BENCHMARK:
            continue
        named = dict.fromkeys(model for word in entry.models for model in planned.meant(word))
        own = [
            made.model
            for made in planned.made
            if made.request.entry.combination == entry.combination
        ]
        if not entry.models and not planned.made and task.whole:
            message = f"{entry.kind.name} scores the models of this file, but the file makes none"
            hint = "name models of an earlier run with the same name: {model: [...]}"
            problems.blame(entry, "no-models", message, hint)
        steps = _scored(entry, _with_models(entry, planned, problems))
        for model in named if entry.models else own:
            yield from _of_model(steps, str(model))


def _with_models(
    entry: ScoringEntry, planned: PlannedModels, problems: Problems
) -> Sequence[Settled]:
    """Return the settings of a benchmark, models in them by the IDs under which they are made."""
    values: dict[str, Json] = {}
    for name, named in entry.others.items():
        models = planned.meant(named)
        if len(models) > 1:
            message = f"{name}: {named.value} matches {len(models)} models"
            hint = f"name one of them: {', '.join(map(str, models))}"
            problems.blame(named.node, "ambiguous", message, hint)
        if len(models) != 1:
            return ()
        values[name] = str(models[0])
    return [with_values(entry.kind, each, values) for each in entry.settings]


def _plain_steps(entries: Iterable[Entry], role: Role) -> Iterator[Step]:
    taken: dict[str, int] = {}
    for entry in entries:
        if not isinstance(entry, PlainEntry) or entry.kind.role is not role:
            continue
        slug = ""
        if entry.variants[0].name is None:
            slug = _slug(entry.variants[0])
            count = taken[slug] = taken.get(slug, 0) + 1
            slug = slug if count == 1 else f"{slug}-{count}"
        for variant in entry.variants:
            yield Step(
                kind=entry.kind,
                name=f"{entry.kind.name}/{variant.name or variant_name(slug, variant.swept)}",
                place=entry.place,
                settings=variant.settings,
                request=entry.request,
                follows=entry.follows,
                swept=variant.swept,
            )


def _slug(variant: PlainVariant) -> str:
    """Return a name for a job that was given none, from the first of its settings, without what is swept."""
    for said in variant.settings.given.values():
        value = plain_value(said.node)
        words = value if isinstance(value, list) else [value]  # of a path, its last name
        if variant.swept:
            words = [word for word in words if "{" not in str(word)]
        text = "-".join(str(word).rstrip("/").rpartition("/")[2] for word in words)
        slug = _NOT_A_SLUG.sub("-", text)[:_MOST_SLUG].strip("-_.+")
        if slug:
            return slug
    return "1"


class _Choice(NamedTuple):
    """One folder or model that a setting may mean."""

    value: str  # that the job's setting then has: a path, or a model's ID
    name: Name = ()  # what tells it from its sisters


class _Side(NamedTuple):
    """What one setting of an entry may mean."""

    setting: str
    what: str  # for messages
    choices: Sequence[_Choice]


def _folder_steps(
    task: TaskFile, models: PlannedModels, exists: Callable[[str], bool], problems: Problems
) -> Iterator[Step]:
    """Give the steps that make folders, in the order of the file.

    Args:
        task: the file.
        models: those that it makes, and those that are named.
        exists: tells whether a path of the settings is there.
        problems: where errors and warnings are added.
    """
    every = (entry for entry in task.entries if isinstance(entry, FolderEntry))
    for _, group in groupby(every, key=lambda entry: entry.combination):
        entries = list(group)
        folders = _Folders(task, models, exists, problems, {})
        for entry in entries:
            folders.entries.setdefault(entry.name, []).append(entry)
        folders.blame_shared_names()
        steps = {
            id(entry): list(folders.steps(entry))
            for name in folders.in_order()
            for entry in folders.entries[name]
        }
        for entry in entries:
            yield from steps.get(id(entry), ())


@dataclass(slots=True)
class _Folders:
    """The folders that the entries of one combination of the matrix make."""

    task: TaskFile
    models: PlannedModels
    exists: Callable[[str], bool]
    problems: Problems
    entries: dict[str, list[FolderEntry]]  # by name
    made: dict[str, list[_Choice]] = field(default_factory=dict)  # by the name of their entries

    def in_order(self) -> tuple[str, ...]:
        """Return the names of entries, each behind those from which it starts; none in a circle."""
        needs = {
            name: dict.fromkeys(
                source
                for entry in same
                for variant in entry.variants
                for at in variant.folders.values()
                if (source := _parts(at.value)[0]) in self.entries
            )
            for name, same in self.entries.items()
        }
        try:
            return tuple(TopologicalSorter(needs).static_order())
        except CycleError as error:
            circle: Sequence[str] = error.args[1]
            jobs = [f"{self.entries[name][0].kind.name}/{name}" for name in reversed(circle)]
            message = f"these jobs need each other, so none can start: {' → '.join(jobs)}"
            hint = "let one of them start from another folder"
            self.problems.blame(self.entries[circle[0]][0], "cycle", message, hint)
            return ()

    def blame_shared_names(self) -> None:
        """Blame entries of several kinds that have one name: it would not tell which is meant."""
        for name, same in self.entries.items():
            first = same[0]
            other = next((entry for entry in same if entry.kind.name != first.kind.name), None)
            if other is not None:
                message = (
                    f"{other.kind.name}: the name {name!r} is already used by an entry of {first.kind.name} "
                    f"in line {first.place.line}"
                )
                hint = "give one of them another name"
                self.problems.blame(other, "duplicate-job", message, hint)

    def steps(self, entry: FolderEntry) -> Iterator[Step]:
        """Give a step for each folder of an entry, and enter these folders among those made here."""
        made = self.made.setdefault(entry.name, [])
        whole: list[tuple[Variant, list[_Side]]] = []
        idle: list[Variant] = []
        for each in entry.variants:
            sides = self._sides(each)
            if not all(side.choices for side in sides):  # which is reported
                continue
            variant = each.variant
            whole.append((variant, sides))
            meetings = list(_meetings(sides, variant.name))
            idle += [] if meetings else [variant]
            for name, values in meetings:
                full = variant_name(entry.name, name)
                folder = f"runs/{self.task.name}/{MADE}/{model_folder_name(full)}"
                made.append(_Choice(folder, name))
                yield Step(
                    kind=entry.kind,
                    name=f"{entry.kind.name}/{full}",
                    place=entry.place,
                    settings=with_values(entry.kind, variant.settings, values),
                    request=entry.request,
                    follows=entry.follows,
                    swept=name,
                )
        if idle:
            _blame_untied(entry, whole, idle, self.problems)

    def _sides(self, variant: FolderVariant) -> list[_Side]:
        """Return what each setting may mean that names folders or models, folders first."""
        sides = [
            _Side(setting, f"{setting} {at.value}", self._find(setting, at))
            for setting, at in variant.folders.items()
        ]
        for setting, named in variant.models.items():
            choices = [_model_choice(model) for model in self.models.meant(named)]
            sides.append(_Side(setting, f"{setting} {named.value}", choices))
        return sides

    def _find(self, setting: str, at: At[str]) -> Sequence[_Choice]:
        """Return the folders that a text stands for; blame its place if there are none."""
        name, selection = _parts(at.value)
        wanted = _pairs(selection)
        if name not in self.entries:
            return self._path(setting, at, name, selection)
        if selection and wanted is None:
            message = f"{setting}: expected {name}@key=value, or several pairs separated by commas"
            self.problems.blame(at.node, "id", message)
            return ()
        made = self.made.get(name, [])
        meant = [choice for choice in made if has_values(choice.name, wanted or ())]
        if made and not meant:
            names = [variant_name(name, choice.name) for choice in made]
            message = f"{setting}: no folder of {name} has {selection}"
            hint = question(nearest(at.value, names))
            self.problems.blame(at.node, "unknown-folder", message, hint, *made_here(names))
        return meant

    def _path(self, setting: str, at: At[str], name: str, selection: str) -> Sequence[_Choice]:
        """Return a path as the folder that it is; blame one that seems to be the name of an entry."""
        path = (_Choice(at.value),)
        if "/" in at.value or self.exists(at.value):
            return path
        of_kind = (own for own, same in self.entries.items() if same[0].kind.name == name)
        close = nearest(name, self.entries) or next(of_kind, None)
        hint = question(close and "@".join(filter(None, (close, selection))))
        if _pairs(selection):  # no path is written like this
            if not self.task.errors:  # else the broken entry may be the one that is meant
                message = f"{setting}: no entry of this file makes a folder {name!r}"
                self.problems.blame(
                    at.node, "unknown-folder", message, hint, *made_here(self.entries)
                )
            return ()
        if close:
            message = f"{setting}: {at.value!r} is read as a path, because no entry has this name"
            self.problems.note(at.node, "unknown-folder", message, hint, *made_here(self.entries))
        return path


def _model_choice(model: ModelId) -> _Choice:
    """Return a model with the swept settings of all its stages, those of the last one first."""
    pairs: dict[str, str] = {}
    for stage in reversed(model.stages):
        pairs = {**dict(stage.variant), **pairs}
    return _Choice(str(model), tuple(pairs.items()))


def _parts(text: str) -> tuple[str, str]:
    """Return the name in a reference and the values that it asks for; no name in a path."""
    if "/" in text:
        return "", ""
    name, _, selection = text.partition("@")
    return name, selection


def _pairs(selection: str) -> Name | None:
    """Return the values that a reference asks for; None where it is not written as one does."""
    pairs = [piece.partition("=") for piece in selection.split(",")]
    if not selection or not all(key and value for key, _, value in pairs):
        return None
    return tuple((key, value) for key, _, value in pairs)


def _meetings(sides: Iterable[_Side], own: Name) -> Iterator[tuple[Name, dict[str, str]]]:
    """Give what can be done together: its name, and the values of its settings."""
    chosen = dict(own)
    meetings: list[tuple[dict[str, str], dict[str, str]]] = [({}, {})]
    for side in sides:
        fitting = [choice for choice in side.choices if _agree(choice.name, chosen)]
        meetings = [
            ({**name, **dict(choice.name)}, {**values, side.setting: choice.value})
            for name, values in meetings
            for choice in fitting
            if _agree(choice.name, name)
        ]
    for name, values in meetings:
        yield tuple({**name, **chosen}.items()), values


def _agree(name: Name, other: Mapping[str, str]) -> bool:
    """Tell whether two variants have equal values of what both have."""
    return all(key not in other or same_value(other[key], value) for key, value in name)


def _blame_untied(
    entry: FolderEntry,
    whole: Sequence[tuple[Variant, Sequence[_Side]]],
    idle: Sequence[Variant],
    problems: Problems,
) -> None:
    """Note variants of an entry that meet nothing, or blame it where all of them do."""
    values: dict[str, dict[str, dict[str, None]]] = {}  # key → side → values of it
    for variant, sides in whole:
        named = [(OWN, variant.name)]
        named += [(side.what, choice.name) for side in sides for choice in side.choices]
        for what, name in named:
            for key, value in name:
                values.setdefault(key, {}).setdefault(what, {})[value] = None
    shared = {key: sides for key, sides in values.items() if len(sides) > 1}
    apart = {
        key: sides
        for key, sides in shared.items()
        if not set.intersection(*map(set, sides.values()))
    }
    lists = {
        key: " and ".join(f"{what} has {', '.join(of)}" for what, of in sides.items())
        for key, sides in (apart or shared).items()
    }
    job = f"{entry.kind.name}/{entry.name}"
    notes = [f"{key}: {text}" for key, text in lists.items()]
    if len(idle) < len(whole):
        names = [variant_name(entry.name, variant.name) for variant in idle]
        message = f"{job}: no input has the values of {', '.join(names[:3])}"
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        problems.note(entry, "no-partner", f"{message}{more}; not made", "", *notes)
        return
    keys = " and ".join(lists)
    message = f"{job} makes nothing, because its inputs have no common values of {keys}"
    hint = "sweep the same values in both, or remove the sweep from one of them"
    problems.blame(entry, "no-partner", message, hint, *notes)
