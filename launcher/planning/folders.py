"""The steps of entries of the role FOLDER: one for each folder that they make.

Such an entry reads folders, of other such entries or on the disk, and models. It makes a folder from
each of them with each other, in each of its own variants. A swept setting that two of these have in
common ties them: only those meet in which it has the same value. Its settings name folders:

source: disrupted                    every folder that the entries of this name make
source: disrupted@attack=pgd,eps=8   those of them whose variants have these values
source: data/faces                   a path; so is a word that no entry has as its name
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

from launcher.draft import MADE
from launcher.errors import Problem, Severity, nearest
from launcher.ids import ModelId, model_folder_name
from launcher.planning.model_graph import ModelGraph, has_values, same_value
from launcher.planning.steps import Step, with_values
from launcher.taskfile.entries import FolderEntry, FolderVariant, Name
from launcher.taskfile.parser import TaskFile
from launcher.taskfile.values import At

MOST_LISTED = 8  # names in a message


class Choice(NamedTuple):
    """One folder or model that a setting may mean."""

    value: str  # that the job's setting then has: a path, or a model's ID
    name: Name = ()  # what tells it from its sisters


@dataclass(slots=True)
class FolderNames:
    """The folders that the entries of one combination of the matrix make, by the entries' names."""

    task: TaskFile
    exists: Callable[[str], bool]  # whether a path of the settings is there
    problems: list[Problem]
    entries: Mapping[str, Sequence[FolderEntry]]
    made: dict[str, list[Choice]] = field(default_factory=dict)  # by the name of their entries

    def named(self, entry: FolderEntry) -> Iterator[str]:
        """Give the names of the entries from whose folders an entry starts."""
        for variant in entry.variants:
            for at in variant.folders.values():
                name, _ = _parts(at.value)
                if name in self.entries:
                    yield name

    def find(self, setting: str, at: At[str]) -> Sequence[Choice]:
        """Return the folders that a text stands for; blame its place if there are none."""
        name, selection = _parts(at.value)
        if name not in self.entries:
            return self._path(setting, at, name, selection)
        made = self.made.get(name, [])
        wanted = _pairs(selection)
        if selection and wanted is None:
            message = f"{setting}: expected {name}@key=value, with commas between several"
            self._blame(at, "id", message)
            return ()
        meant = [choice for choice in made if has_values(choice.name, wanted or ())]
        if made and not meant:
            self._no_variant(setting, at, made)
        return meant

    def _path(self, setting: str, at: At[str], name: str, selection: str) -> Sequence[Choice]:
        if "/" in at.value or self.exists(at.value):
            return (Choice(at.value),)
        close = nearest(name, self.entries) or self._of_kind(name)
        hint = f"did you mean '{'@'.join(filter(None, (close, selection)))}'?" if close else ""
        notes = (f"made here: {_listed(self.entries)}",)
        if _pairs(selection):  # no path is written like this
            if not self.task.errors:  # else the broken entry may be the one that is meant
                message = f"{setting}: no entry here makes a folder {name!r}"
                self._blame(at, "unknown-folder", message, hint, notes)
            return ()
        if close:
            message = f"{setting}: {at.value!r} is read as a path; no entry has that name"
            self._blame(at, "unknown-folder", message, hint, notes, Severity.WARNING)
        return (Choice(at.value),)

    def _of_kind(self, kind: str) -> str | None:
        """Return the name of an entry of a kind; None where there is none."""
        of_kind = (name for name, same in self.entries.items() if same[0].kind.name == kind)
        return next(of_kind, None)

    def _no_variant(self, setting: str, at: At[str], made: Iterable[Choice]) -> None:
        name, selection = _parts(at.value)
        names = [written(name, choice.name) for choice in made]
        close = nearest(at.value, names)
        self._blame(
            at,
            "unknown-folder",
            f"{setting}: no folder of {name} has {selection}",
            f"did you mean '{close}'?" if close else "",
            (f"made here: {_listed(names)}",),
        )

    def _blame(
        self,
        at: At[str],
        code: str,
        message: str,
        hint: str = "",
        notes: tuple[str, ...] = (),
        severity: Severity = Severity.ERROR,
    ) -> None:
        problem = Problem(
            code=code,
            message=message,
            severity=severity,
            place=at.node.place,
            hint=hint,
            notes=notes,
        )
        self.problems.append(problem)


def model_choice(model: ModelId) -> Choice:
    """Return a model with the swept settings of all its stages, those of the last one first."""
    pairs: dict[str, str] = {}
    for stage in reversed(model.stages):
        pairs = {**dict(stage.variant), **pairs}
    return Choice(str(model), tuple(pairs.items()))


def written(name: str, variant: Name) -> str:
    """Return the name of a folder: that of its entry, and what tells its variants apart."""
    if not variant:
        return name
    return f"{name}@{','.join(f'{key}={value}' for key, value in variant)}"


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


def _listed(names: Iterable[str]) -> str:
    every = list(dict.fromkeys(names))
    more = f" and {len(every) - MOST_LISTED} more" if len(every) > MOST_LISTED else ""
    return ", ".join(every[:MOST_LISTED]) + more


OWN = "its matrix"  # what errors call the entry's own sweeps


class _Side(NamedTuple):
    """What one setting of an entry may mean."""

    setting: str
    what: str  # for messages
    choices: Sequence[Choice]


def folder_steps(
    task: TaskFile,
    graph: ModelGraph,
    exists: Callable[[str], bool],
    problems: list[Problem],
) -> Iterator[Step]:
    """Give the steps that make folders, in the order of the file.

    Args:
        task: the file.
        graph: finds the models that are named.
        exists: tells whether a path of the settings is there.
        problems: where errors and warnings are added.
    """
    by_combination: dict[int, list[FolderEntry]] = {}
    for entry in task.entries:
        if isinstance(entry, FolderEntry):
            by_combination.setdefault(entry.combination, []).append(entry)
    for entries in by_combination.values():
        by_name: dict[str, list[FolderEntry]] = {}
        for entry in entries:
            by_name.setdefault(entry.name, []).append(entry)
        names = FolderNames(task, exists, problems, by_name)
        _blame_shared_names(by_name, problems)
        steps: dict[int, list[Step]] = {}
        for entry in (entry for name in _order(names) for entry in by_name[name]):
            steps[id(entry)] = list(_steps(entry, names, graph))
        for entry in entries:
            yield from steps.get(id(entry), ())


def _order(names: FolderNames) -> tuple[str, ...]:
    """Return the names of entries, each behind those from which it starts; none in a circle."""
    needs = {
        name: list(dict.fromkeys(source for entry in same for source in names.named(entry)))
        for name, same in names.entries.items()
    }
    try:
        return tuple(TopologicalSorter(needs).static_order())
    except CycleError as error:
        circle: Sequence[str] = error.args[1]
        jobs = [f"{names.entries[name][0].kind.name}/{name}" for name in reversed(circle)]
        names.problems.append(
            Problem(
                code="cycle",
                message=f"these need one another, so none can begin: {' → '.join(jobs)}",
                place=names.entries[circle[0]][0].place,
                hint="let one of them start from another folder",
            )
        )
        return ()


def _blame_shared_names(
    entries: Mapping[str, Sequence[FolderEntry]], problems: list[Problem]
) -> None:
    """Blame entries of several kinds that have one name: it would not tell which is meant."""
    for name, same in entries.items():
        other = next((entry for entry in same if entry.kind.name != same[0].kind.name), None)
        if other is not None:
            message = f"{other.kind.name}: the name {name!r} is that of an entry of"
            problems.append(
                Problem(
                    code="duplicate-job",
                    message=f"{message} {same[0].kind.name} in line {same[0].place.line}",
                    place=other.place,
                    hint="give one of them another name",
                )
            )


def _steps(entry: FolderEntry, names: FolderNames, graph: ModelGraph) -> Iterator[Step]:
    """Give a step for each folder of an entry, and enter these folders among those made here."""
    made = names.made.setdefault(entry.name, [])
    whole: list[tuple[FolderVariant, list[_Side]]] = []
    idle: list[FolderVariant] = []
    for variant in entry.variants:
        sides = _sides(entry, variant, names, graph)
        if not all(side.choices for side in sides):  # which is reported
            continue
        whole.append((variant, sides))
        meetings = list(_meetings(sides, variant.variant.name))
        if not meetings:
            idle.append(variant)
        for name, values in meetings:
            full = written(entry.name, name)
            folder = f"runs/{names.task.name}/{MADE}/{model_folder_name(full)}"
            made.append(Choice(folder, name))
            yield Step(
                kind=entry.kind,
                name=f"{entry.kind.name}/{full}",
                place=entry.place,
                settings=with_values(entry.kind, variant.variant.settings, values),
                request=entry.request,
                follows=entry.follows,
            )
    if idle:
        names.problems.append(_untied(entry, whole, idle))


def _sides(
    entry: FolderEntry, variant: FolderVariant, names: FolderNames, graph: ModelGraph
) -> list[_Side]:
    """Return what each setting may mean that names folders or models, folders first."""
    sides = [
        _Side(setting, f"{setting} {at.value}", names.find(setting, at))
        for setting, at in variant.folders.items()
    ]
    for setting, named in variant.models.items():
        models = graph.having(named, entry.combination)
        choices = [model_choice(model) for model in models]
        sides.append(_Side(setting, f"{setting} {named.value}", choices))
    return sides


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


def _untied(
    entry: FolderEntry,
    whole: Sequence[tuple[FolderVariant, Sequence[_Side]]],
    idle: Sequence[FolderVariant],
) -> Problem:
    """Return the problem of variants of an entry that meet nothing: an error where all of them do."""
    values: dict[str, dict[str, dict[str, None]]] = {}  # key → side → values of it
    for variant, sides in whole:
        named = [(OWN, variant.variant.name)]
        named += [(side.what, choice.name) for side in sides for choice in side.choices]
        for what, name in named:
            for key, value in name:
                values.setdefault(key, {}).setdefault(what, {})[value] = None
    shared = {key: sides for key, sides in values.items() if len(sides) > 1}
    apart = [key for key, sides in shared.items() if not _common(sides.values())]
    lists = {
        key: " and ".join(f"{what} has {', '.join(of)}" for what, of in shared[key].items())
        for key in apart or shared
    }
    job = f"{entry.kind.name}/{entry.name}"
    if len(idle) < len(whole):
        names = [written(entry.name, variant.variant.name) for variant in idle]
        message = f"{job}: nothing to start from has the values of {', '.join(names[:3])}"
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return Problem(
            code="no-partner",
            message=f"{message}{more}: not made",
            severity=Severity.WARNING,
            place=entry.place,
            notes=tuple(f"{key}: {text}" for key, text in lists.items()),
        )
    keys = " and ".join(lists)
    return Problem(
        code="no-partner",
        message=f"{job} makes nothing: what it reads must agree in {keys}, and does not",
        place=entry.place,
        hint="sweep the same values in both, or take the sweep out of one of them",
        notes=tuple(f"{key}: {text}" for key, text in lists.items()),
    )


def _common(sides: Iterable[Iterable[str]]) -> set[str]:
    first, *others = (set(values) for values in sides)
    return first.intersection(*others)
