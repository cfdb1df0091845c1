"""What the settings of an entry of the role FOLDER name: folders of other such entries, paths, models.

source: disrupted                    every folder that the entries of this name make
source: disrupted@attack=pgd,eps=8   those of them whose variants have these values
source: data/faces                   a path; so is a word that no entry has as its name
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from launcher.errors import Problem, Severity, nearest
from launcher.ids import ModelId
from launcher.planning.model_requests import has_values
from launcher.taskfile.entries import FolderEntry, Name
from launcher.taskfile.parser import TaskFile
from launcher.taskfile.values import At

MOST_LISTED = 8  # names in a message


@dataclass(frozen=True, slots=True)
class Choice:
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
