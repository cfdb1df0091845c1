"""A task file, once read: what it says of the whole run, and its entries: what to train, to unlearn, to test, to run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from launcher.errors import Problem, Severity, SourceLocation
from launcher.ids import DataId, ModelId, Poison, Words
from launcher.job_options.notifications import RunNotify
from launcher.job_options.registry import JobRequest
from launcher.kind_interface import Kind, Role
from launcher.taskfile.language import Reuse
from launcher.taskfile.legacy_names import LegacyAction
from launcher.taskfile.nodes import ScalarNode
from launcher.taskfile.settings import ResolvedSettings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Located(Generic[T]):
    """A value and the word in the file that says it."""

    value: T
    node: ScalarNode


VariantName = tuple[tuple[str, str], ...]  # swept settings and their values, as in an ID


def variant_name(name: str, variant: VariantName) -> str:
    """Return the name of what an entry makes: its own, and what tells its variants apart."""
    if not variant:
        return name
    return f"{name}@{','.join(f'{key}={value}' for key, value in variant)}"


class NamedDependencies(NamedTuple):
    """The jobs behind which those of an entry run, as the entry names them."""

    after: tuple[Located[str], ...] = ()  # they must be done
    after_any: tuple[Located[str], ...] = ()  # they must have ended, done or not

    @property
    def texts(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What is written, wherever it stands."""
        return tuple(at.value for at in self.after), tuple(at.value for at in self.after_any)


NO_DEPENDENCIES = NamedDependencies()  # behind nothing but what makes its files


class Variant(NamedTuple):
    """One way in which an entry is done."""

    name: VariantName
    file_swept_names: frozenset[
        str
    ]  # names of it that come from the file's matrix: stages have them in common
    settings: ResolvedSettings
    labels_settings: ResolvedSettings | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryBase:
    """What entries of every kind say."""

    kind: Kind
    place: SourceLocation
    combination: int  # which of the file's it belongs to
    request: JobRequest
    follows: NamedDependencies = NO_DEPENDENCIES


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainEntry(EntryBase):
    """One training for each poison and each variant."""

    base: Located[ModelId] | None
    data: Located[DataId]
    label_changes: tuple[Located[Poison | None], ...]  # empty: clean
    is_file_poison: (
        bool  # the one poison is that of the whole file, so its models go by their clean names too
    )
    variants: tuple[Variant, ...]
    labels_kind: Kind | None  # makes the poison records; None where nothing is poisoned
    labels_request: JobRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodEntry(EntryBase):
    """One unlearning for each method and each variant."""

    base: Located[ModelId] | None  # None: every poisoned model that is trained here
    methods: tuple[tuple[Located[str], tuple[Variant, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringEntry(EntryBase):
    """Tests or benchmarks of models with all their variants, one for each data ID."""

    models: tuple[Located[ModelId], ...]  # empty: every model of this combination
    maker: str = ""  # the kind of which those models are; empty: all
    data: tuple[Located[DataId], ...]
    settings: tuple[ResolvedSettings, ...]  # under each of which every data ID is scored
    others: Mapping[
        str, Located[ModelId]
    ]  # settings that hold the ID of a model, but those of a test


class PlainVariant(NamedTuple):
    """One way in which an entry that makes no model is done."""

    name: str | None  # of the job, behind its kind; None: its settings tell
    swept: VariantName
    settings: ResolvedSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainEntry(EntryBase):
    """A job of a kind that makes data, or of one that knows neither models nor data; of a program, one for each variant."""

    variants: tuple[PlainVariant, ...]

    @property
    def swept(self) -> tuple[str, ...]:
        """The names of its values."""
        return tuple(name for name, _ in self.variants[0].swept)


class FolderVariant(NamedTuple):
    """One way in which an entry of the role FOLDER is done, with what it reads as it is written."""

    variant: Variant
    models: Mapping[str, Located[ModelId]]  # settings that hold the ID of a model
    folders: Mapping[
        str, Located[str]
    ]  # settings that hold a path, or the name of another such entry


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderEntry(EntryBase):
    """Folders made from folders and models: one for each variant, of these and of its own."""

    name: str  # of the folder, without what tells its variants apart
    variants: tuple[FolderVariant, ...]


Entry = TrainEntry | MethodEntry | ScoringEntry | PlainEntry | FolderEntry


class TaskFile(NamedTuple):
    """The entries of a task file, in their order."""

    file: str  # as its reader named it
    files: tuple[str, ...]  # with those that it includes
    name: str  # of the run: one safe folder name
    about: str
    entries: tuple[Entry, ...]
    kinds: Mapping[str, Kind]  # every one that the file may ask for, with the words of the user
    shared_requests: Mapping[
        str, JobRequest
    ]  # what `resources` says of kinds that arise by themselves
    words: Words  # subsets and modifiers of the user
    phases: tuple[str, ...]  # kinds of jobs that are wanted; empty: all
    reuse: Reuse
    share: float | None  # of the machine, beside other runs that wait; None: as it was, 1 at first
    notify: RunNotify  # what its owner is told of it
    pass_env: tuple[str, ...]  # variables that its jobs remember though they look like secrets
    wanted: LegacyAction
    problems: tuple[Problem, ...]  # found while reading; `plan` raises the errors with its own
    whole: bool  # False when an entry that makes models could not be read

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems for which nothing may be queued."""
        return tuple(problem for problem in self.problems if problem.severity is Severity.ERROR)


def order_problems(problems: Iterable[Problem], files: Sequence[str]) -> tuple[Problem, ...]:
    """Return each problem once, in the order of these files and of the lines in them."""
    rank = {file: number for number, file in enumerate(files)}

    def sort_key(problem: Problem) -> tuple[int, int, int]:
        if problem.place is None:
            return (-1, 0, 0)
        return (rank.get(problem.place.file, -1), problem.place.line, problem.place.column)

    return tuple(sorted(dict.fromkeys(problems), key=sort_key))


def task_file_kinds(kinds: Mapping[str, Kind]) -> dict[str, Kind]:
    """Return the kinds of which a task file speaks: all but those whose jobs arise by themselves."""
    return {name: kind for name, kind in kinds.items() if kind.role is not Role.SHARED}


def kind_of_role(kinds: Mapping[str, Kind], kind: Kind, role: Role) -> Kind | None:
    """Return the kind of that role that works with `kind`: of its laboratory, or the only one.

    Kinds are of one laboratory whose work lies in one module, or else in one package.
    """
    candidates = [kind for kind in kinds.values() if kind.role is role]
    for laboratory in (_module_of_kind, _package_of_kind):
        ours = [
            candidate for candidate in candidates if laboratory(candidate) == laboratory(kind) != ""
        ]
        if ours:
            candidates = ours
            break
    return candidates[0] if len(candidates) == 1 else None


def _module_of_kind(kind: Kind) -> str:
    return kind.entry.partition(":")[0]


def _package_of_kind(kind: Kind) -> str:
    return _module_of_kind(kind).rpartition(".")[0]
