"""The expansion of a task file's entries into steps: one for each job, in the order in which they run.

1. Data.
2. Trainings in the order of the file; each follows its poison record and is followed by its tests.
3. Unlearned models, each followed by its tests.
4. Tests of models from earlier runs.
5. Benchmarks.
6. Folders.

Jobs of other kinds run before or after all of these. A dependency always comes before its dependents, so a model may
be made earlier. If entries make folders or name predecessors, `dependencies` sorts the plan again.

An entry of the role FOLDER reads models and folders, which other entries make or which exist. It makes a folder from
each combination of them, in each of its own variants. If two of these share a swept setting, only those with equal
values are combined. Its settings name folders:

    source: disrupted                    every folder that the entries of this name make
    source: disrupted@attack=pgd,eps=8   those of them whose variants have these values
    source: data/faces                   a path; a word that is not the name of an entry is also a path
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from launcher.experiments.draft import tested
from launcher.experiments.kind_interface import Kind, Role
from launcher.experiments.planning.model_graph import (
    PlannedModel,
    PlannedModels,
    has_values,
    made_models_note,
    same_value,
)
from launcher.experiments.taskfile.entries import (
    NO_DEPENDENCIES,
    Entry,
    FolderEntry,
    FolderVariant,
    Located,
    NamedDependencies,
    PlainEntry,
    PlainVariant,
    ScoringEntry,
    TaskFile,
    TrainEntry,
    Variant,
    VariantName,
    variant_name,
)
from launcher.experiments.taskfile.nodes import plain_value
from launcher.experiments.taskfile.settings import ResolvedSettings, differences, replace_values
from launcher.ids import ModelId, canonical, model_folder_name, parse_data
from launcher.queue.job_options.registry import JobRequest
from launcher.queue.jobs.run_folders import MADE
from launcher.system.errors import Problems, SourceLocation, did_you_mean, nearest
from launcher.system.files import Json
from launcher.system.lazy_regex import compile_lazily

# these roles begin with a model, and make none
SCORING_ROLES = frozenset({Role.TEST, Role.BENCHMARK})
MODEL_MAKING_ROLES = frozenset({Role.TRAIN, Role.METHOD})  # these roles make a model
_NOT_A_SLUG = compile_lazily(r"[^A-Za-z0-9_.+]+")
_MOST_SLUG = 60
OWN_SWEEPS = "its matrix"  # name of the entry's own sweeps in errors


class PlannedStep(NamedTuple):
    """One job before its files are known."""

    kind: Kind
    name: str
    place: SourceLocation
    settings: ResolvedSettings
    request: JobRequest
    model: str | None = None
    base: str | None = None
    data: str | None = None
    images: str | None = None
    follows: NamedDependencies = NO_DEPENDENCIES
    condition: str = ""  # condition of a test, see `launcher.experiments.kind_interface`
    swept: VariantName = ()  # the values that distinguish the step from others of the same entry


def expand(
    task: TaskFile,
    on_disk: Callable[[str], bool],
    exists: Callable[[str], bool],
    problems: Problems,
) -> tuple[PlannedStep, ...]:
    """Return the steps of a task file.

    Args:
        task: the file.
        on_disk: returns whether an earlier run made the model of an ID.
        exists: returns whether a path of the settings exists.
        problems: errors and warnings are added to it.
    """
    models = PlannedModels(task, on_disk, problems)
    tests = _ModelTests(task, models)
    plain = [isinstance(entry, PlainEntry) for entry in task.entries]
    first = plain.index(False) if False in plain else 0
    steps = [
        *_plain_steps(task.entries, Role.DATA),
        *_plain_steps(task.entries[:first], Role.PLAIN),
    ]
    waiting: list[PlannedStep] = []  # tests that need a further model, which may come later
    for made in models.models_in_order:
        name = str(made.model)
        steps += _model_steps(made, name)
        for step in tests.tests_of_model(made, name):
            further = any(step.settings.values[name] for name in step.kind.settings.models)
            (waiting if further else steps).append(step)
    steps += waiting
    steps += tests.tests_of_earlier_models
    steps += _benchmarks(task, models, problems)
    steps += _folder_steps(task, models, exists, problems)
    steps += _plain_steps(task.entries[first:], Role.PLAIN)
    return tuple(_without_doubles(steps, problems))


def _without_doubles(steps: Iterable[PlannedStep], problems: Problems) -> Iterator[PlannedStep]:
    """Leave out jobs that are requested twice; two different jobs with one name are an error."""
    by_name: dict[str, PlannedStep] = {}
    by_test: dict[tuple[str, str | None, str, str], PlannedStep] = {}
    images: dict[tuple[str, str], str] = {}  # (kind, data ID) → its images, written in any way
    for step in steps:
        code, complain, asked_twice = (
            "duplicate-job",
            problems.add_error,
            f"{step.name} is listed twice",
        )
        same = by_name.setdefault(step.name, step)
        if same is step:
            if step.kind.role in SCORING_ROLES and step.images is not None:
                named = (step.kind.name, step.images)
                if named not in images:
                    meant = step.kind.elementary(parse_data(step.images))
                    images[named] = str(canonical(meant))
                key = (step.kind.name, step.model, images[named], step.settings.text)
                same = by_test.setdefault(key, step)
            if same is step:
                yield step
                continue
            code, complain = "same-data", problems.add_warning
            message = f"{step.name} is the same test as {same.name}; it runs once, under that name"
        elif same.follows.texts != step.follows.texts:
            message = f"{asked_twice}, with different values of after or after_any"
        elif dict(same.settings.values) != dict(step.settings.values):
            message = f"{asked_twice}, with different settings"
        elif same.place != step.place:
            code, complain, message = (
                "listed-twice",
                problems.add_warning,
                f"{asked_twice}; it runs once",
            )
        else:  # one entry, in combinations that do not concern it
            continue
        changed = differences(same.settings.values, step.settings.values)
        complain(step, code, message, "", f"first in line {same.place.line}", *changed)


def _model_steps(planned_model: PlannedModel, model: str) -> Iterator[PlannedStep]:
    """Give the job that makes a model, behind the one that poisons its labels."""
    request, entry = planned_model.request, planned_model.request.entry
    data = planned_model.model.last.data
    step = PlannedStep(
        kind=entry.kind,
        name=f"{entry.kind.name}/{model}",
        place=entry.place,
        settings=request.variant.settings,
        request=entry.request,
        model=model,
        base=None if planned_model.base is None else str(planned_model.base),
        data=str(data),
        images=str(request.reader.images(data)),
        follows=entry.follows,
        swept=_model_choice(planned_model.model).name,
    )
    choice, labeller = request.variant.labels_settings, request.labels_kind
    if isinstance(entry, TrainEntry) and labeller is not None and choice is not None:
        name = f"{labeller.name}/{model}"
        asked = entry.labels_request
        yield step._replace(kind=labeller, name=name, settings=choice, request=asked)
    yield step


def _scoring_steps(
    entry: ScoringEntry, resolved_settings: Iterable[ResolvedSettings]
) -> list[PlannedStep]:
    """Return what an entry scores of any model, each step named by its data and its condition."""
    kind = entry.kind
    data = [(at.node.place, str(at.value), str(kind.images(at.value))) for at in entry.data]
    conditions = [(each, kind.settings.condition(each.values)) for each in resolved_settings]
    return [
        PlannedStep(
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


def _steps_for_model(steps: Iterable[PlannedStep], model: str) -> Iterator[PlannedStep]:
    """Give the steps that score a model, of those that score any."""
    for step in steps:
        yield step._replace(name=f"{step.kind.name}/{model}/{step.name}", model=model)


class _ModelTests:
    """The tests of each model; tests that an entry gives for any model are expanded once."""

    def __init__(self, task: TaskFile, models: PlannedModels) -> None:
        made = {str(each.model) for each in models.models_in_order}
        # model, or (combination, kind) of models → (place in the file, tests of any model)
        self._steps_by_model: dict[str | tuple[int, str], list[tuple[int, list[PlannedStep]]]] = {}
        # those of models that an earlier run made
        self.tests_of_earlier_models: list[PlannedStep] = []
        for at, entry in enumerate(task.entries):
            if not isinstance(entry, ScoringEntry) or entry.kind.role is not Role.TEST:
                continue
            steps = _scoring_steps(entry, entry.settings)
            if entry.maker:
                key = (entry.combination, entry.maker)
                self._steps_by_model.setdefault(key, []).append((at, steps))
            for model in (
                str(model) for word in entry.models for model in models.models_of_word(word)
            ):
                if model in made:
                    self._steps_by_model.setdefault(model, []).append((at, steps))
                else:
                    self.tests_of_earlier_models += _steps_for_model(steps, model)

    def tests_of_model(self, planned_model: PlannedModel, model: str) -> Iterator[PlannedStep]:
        """Give the tests of a model that this file makes, in the order of the file."""
        maker = planned_model.request.entry
        own = [
            *self._steps_by_model.get((maker.combination, maker.kind.name), ()),
            *self._steps_by_model.get(model, ()),
        ]
        for _, steps in sorted(own, key=itemgetter(0)):
            yield from _steps_for_model(steps, model)


def _benchmarks(
    task: TaskFile, planned_models: PlannedModels, problems: Problems
) -> Iterator[PlannedStep]:
    """Give the benchmarks, each model on each data ID; all models that they name are made before."""
    for entry in task.entries:
        if not isinstance(entry, ScoringEntry) or entry.kind.role is not Role.BENCHMARK:
            continue
        named = dict.fromkeys(
            model for word in entry.models for model in planned_models.models_of_word(word)
        )
        own = [
            made.model
            for made in planned_models.models_in_order
            if made.request.entry.combination == entry.combination
        ]
        if not entry.models and not planned_models.models_in_order and task.whole:
            message = f"{entry.kind.name} scores the models of this file, but the file makes none"
            hint = "name models of an earlier run with the same name: {model: [...]}"
            problems.add_error(entry, "no-models", message, hint)
        steps = _scoring_steps(entry, _with_models(entry, planned_models, problems))
        for model in named if entry.models else own:
            yield from _steps_for_model(steps, str(model))


def _with_models(
    entry: ScoringEntry, planned_models: PlannedModels, problems: Problems
) -> Sequence[ResolvedSettings]:
    """Return the settings of a benchmark, models in them by the IDs under which they are made."""
    values: dict[str, Json] = {}
    for name, named in entry.others.items():
        models = planned_models.models_of_word(named)
        if len(models) > 1:
            message = f"{name}: {named.value} matches {len(models)} models"
            hint = f"name one of them: {', '.join(map(str, models))}"
            problems.add_error(named.node, "ambiguous", message, hint)
        if len(models) != 1:
            return ()
        values[name] = str(models[0])
    return [replace_values(entry.kind, each, values) for each in entry.settings]


def _plain_steps(entries: Iterable[Entry], role: Role) -> Iterator[PlannedStep]:
    taken: dict[str, int] = {}
    for entry in entries:
        if not isinstance(entry, PlainEntry) or entry.kind.role is not role:
            continue
        slug = ""
        if entry.variants[0].name is None:
            slug = _derived_name(entry.variants[0])
            count = taken[slug] = taken.get(slug, 0) + 1
            slug = slug if count == 1 else f"{slug}-{count}"
        for variant in entry.variants:
            request = entry.request
            if variant.terms:
                request = request._replace(terms=request.terms.with_files(variant.terms))
            yield PlannedStep(
                kind=entry.kind,
                name=f"{entry.kind.name}/{variant.name or variant_name(slug, variant.swept)}",
                place=entry.place,
                settings=variant.settings,
                request=request,
                follows=entry.follows,
                swept=variant.swept,
            )


def _derived_name(variant: PlainVariant) -> str:
    """Return a name for a job that was given none, from the first of its settings, without what is swept."""
    for said in variant.settings.given.values():
        value = plain_value(said.node)
        words = value if isinstance(value, list) else [value]  # a path gives its last name
        if variant.swept:
            words = [word for word in words if "{" not in str(word)]
        text = "-".join(str(word).rstrip("/").rpartition("/")[2] for word in words)
        slug = _NOT_A_SLUG.sub("-", text)[:_MOST_SLUG].strip("-_.+")
        if slug:
            return slug
    return "1"


class _Choice(NamedTuple):
    """One folder or model that a setting may mean."""

    value: str  # value that the job's setting then has: a path, or a model's ID
    name: VariantName = ()  # distinguishes the variant from others of the same entry


class _SettingChoices(NamedTuple):
    """The possible values of one setting of an entry."""

    setting: str
    description: str  # for messages
    choices: Sequence[_Choice]


def _folder_steps(
    task: TaskFile, models: PlannedModels, exists: Callable[[str], bool], problems: Problems
) -> Iterator[PlannedStep]:
    """Yield the steps that make folders, in the order of the file.

    Args:
        task: the file.
        models: the models that it makes or names.
        exists: returns whether a path of the settings exists.
        problems: errors and warnings are added to it.
    """
    every = (entry for entry in task.entries if isinstance(entry, FolderEntry))
    for _, group in groupby(every, key=lambda entry: entry.combination):
        entries = list(group)
        folders = _FolderEntries(task, models, exists, problems, {})
        for entry in entries:
            folders.entries.setdefault(entry.name, []).append(entry)
        folders.report_shared_names()
        steps = {
            id(entry): list(folders.steps(entry))
            for name in folders.names_in_order()
            for entry in folders.entries[name]
        }
        for entry in entries:
            yield from steps.get(id(entry), ())


@dataclass(slots=True)
class _FolderEntries:
    """The folders that the entries of one combination of the matrix make."""

    task: TaskFile
    models: PlannedModels
    exists: Callable[[str], bool]
    problems: Problems
    entries: dict[str, list[FolderEntry]]  # by name
    # by the name of their entries
    folders_by_entry: dict[str, list[_Choice]] = field(default_factory=dict)

    def names_in_order(self) -> tuple[str, ...]:
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
            self.problems.add_error(self.entries[circle[0]][0], "cycle", message, hint)
            return ()

    def report_shared_names(self) -> None:
        """Report entries of several kinds with the same name, which would be ambiguous."""
        for name, same in self.entries.items():
            first = same[0]
            other = next((entry for entry in same if entry.kind.name != first.kind.name), None)
            if other is not None:
                message = (
                    f"{other.kind.name}: the name {name!r} is already used by an entry of {first.kind.name} "
                    f"in line {first.place.line}"
                )
                hint = "give one of them another name"
                self.problems.add_error(other, "duplicate-job", message, hint)

    def steps(self, entry: FolderEntry) -> Iterator[PlannedStep]:
        """Give a step for each folder of an entry, and enter these folders among those made here."""
        made = self.folders_by_entry.setdefault(entry.name, [])
        whole: list[tuple[Variant, list[_SettingChoices]]] = []
        idle: list[Variant] = []
        for each in entry.variants:
            sides = self._setting_choices(each)
            if not all(side.choices for side in sides):  # the missing choice is reported
                continue
            variant = each.variant
            whole.append((variant, sides))
            meetings = list(_join_variants(sides, variant.name))
            idle += [] if meetings else [variant]
            for name, values in meetings:
                full = variant_name(entry.name, name)
                folder = f"runs/{self.task.name}/{MADE}/{model_folder_name(full)}"
                made.append(_Choice(folder, name))
                yield PlannedStep(
                    kind=entry.kind,
                    name=f"{entry.kind.name}/{full}",
                    place=entry.place,
                    settings=replace_values(entry.kind, variant.settings, values),
                    request=entry.request,
                    follows=entry.follows,
                    swept=name,
                )
        if idle:
            _report_unmatched(entry, whole, idle, self.problems)

    def _setting_choices(self, variant: FolderVariant) -> list[_SettingChoices]:
        """Return what each setting may mean that names folders or models, folders first."""
        sides = [
            _SettingChoices(setting, f"{setting} {at.value}", self._find_choices(setting, at))
            for setting, at in variant.folders.items()
        ]
        for setting, named in variant.models.items():
            choices = [_model_choice(model) for model in self.models.models_of_word(named)]
            sides.append(_SettingChoices(setting, f"{setting} {named.value}", choices))
        return sides

    def _find_choices(self, setting: str, located_text: Located[str]) -> Sequence[_Choice]:
        """Return the folders that a text refers to; report an error at its location if there are none."""
        name, selection = _parts(located_text.value)
        wanted = _pairs(selection)
        if name not in self.entries:
            return self._path_choice(setting, located_text, name, selection)
        if selection and wanted is None:
            message = f"{setting}: expected {name}@key=value, or several pairs separated by commas"
            self.problems.add_error(located_text.node, "id", message)
            return ()
        made = self.folders_by_entry.get(name, [])
        meant = [choice for choice in made if has_values(choice.name, wanted or ())]
        if made and not meant:
            names = [variant_name(name, choice.name) for choice in made]
            message = f"{setting}: no folder of {name} has {selection}"
            hint = did_you_mean(nearest(located_text.value, names))
            self.problems.add_error(
                located_text.node, "unknown-folder", message, hint, *made_models_note(names)
            )
        return meant

    def _path_choice(
        self, setting: str, located_text: Located[str], name: str, selection: str
    ) -> Sequence[_Choice]:
        """Return a path as the folder that it is; blame one that seems to be the name of an entry."""
        path = (_Choice(located_text.value),)
        if "/" in located_text.value or self.exists(located_text.value):
            return path
        of_kind = (own for own, same in self.entries.items() if same[0].kind.name == name)
        close = nearest(name, self.entries) or next(of_kind, None)
        hint = did_you_mean(close and "@".join(filter(None, (close, selection))))
        if _pairs(selection):  # no path is written like this
            if not self.task.errors:  # after an error the broken entry may be the one that is meant
                message = f"{setting}: no entry of this file makes a folder {name!r}"
                self.problems.add_error(
                    located_text.node,
                    "unknown-folder",
                    message,
                    hint,
                    *made_models_note(self.entries),
                )
            return ()
        if close:
            message = f"{setting}: {located_text.value!r} is read as a path, because no entry has this name"
            self.problems.add_warning(
                located_text.node, "unknown-folder", message, hint, *made_models_note(self.entries)
            )
        return path


def _model_choice(model: ModelId) -> _Choice:
    """Return a model with the swept settings of all its stages, those of the last one first."""
    pairs: dict[str, str] = {}
    for stage in reversed(model.stages):
        pairs = {**dict(stage.variant), **pairs}
    return _Choice(str(model), tuple(pairs.items()))


def _parts(text: str) -> tuple[str, str]:
    """Return the name in a reference and the values that it selects; a path has no name."""
    if "/" in text:
        return "", ""
    name, _, selection = text.partition("@")
    return name, selection


def _pairs(selection: str) -> VariantName | None:
    """Return the values that a reference selects, or None if it has another syntax."""
    pairs = [piece.partition("=") for piece in selection.split(",")]
    if not selection or not all(key and value for key, _, value in pairs):
        return None
    return tuple((key, value) for key, _, value in pairs)


def _join_variants(
    sides: Iterable[_SettingChoices], own_name: VariantName
) -> Iterator[tuple[VariantName, dict[str, str]]]:
    """Give what can be done together: its name, and the values of its settings."""
    chosen = dict(own_name)
    meetings: list[tuple[dict[str, str], dict[str, str]]] = [({}, {})]
    for side in sides:
        fitting = [choice for choice in side.choices if _have_equal_values(choice.name, chosen)]
        meetings = [
            ({**name, **dict(choice.name)}, {**values, side.setting: choice.value})
            for name, values in meetings
            for choice in fitting
            if _have_equal_values(choice.name, name)
        ]
    for name, values in meetings:
        yield tuple({**name, **chosen}.items()), values


def _have_equal_values(name: VariantName, other: Mapping[str, str]) -> bool:
    """Return whether two variants have equal values of their common keys."""
    return all(key not in other or same_value(other[key], value) for key, value in name)


def _report_unmatched(
    entry: FolderEntry,
    variants: Sequence[tuple[Variant, Sequence[_SettingChoices]]],
    unmatched_variants: Sequence[Variant],
    problems: Problems,
) -> None:
    """Note variants of an entry that meet nothing, or report the entry if no variant meets anything."""
    values: dict[str, dict[str, dict[str, None]]] = {}  # key → side → values of it
    for variant, sides in variants:
        named = [(OWN_SWEEPS, variant.name)]
        named += [(side.description, choice.name) for side in sides for choice in side.choices]
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
    if len(unmatched_variants) < len(variants):
        names = [variant_name(entry.name, variant.name) for variant in unmatched_variants]
        message = f"{job}: no input has the values of {', '.join(names[:3])}"
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        problems.add_warning(entry, "no-partner", f"{message}{more}; not made", "", *notes)
        return
    keys = " and ".join(lists)
    message = f"{job} makes nothing, because its inputs have no common values of {keys}"
    hint = "sweep the same values in both, or remove the sweep from one of them"
    problems.add_error(entry, "no-partner", message, hint, *notes)
