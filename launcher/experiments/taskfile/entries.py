"""The content of a task file: the header of the run, and entries for trainings, unlearnings, tests and programs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from launcher.experiments.kind_interface import Kind, Role
from launcher.experiments.taskfile.language import Reuse
from launcher.experiments.taskfile.legacy_names import LegacyAction
from launcher.experiments.taskfile.nodes import GivenSetting, ScalarNode
from launcher.experiments.taskfile.searches import SearchEntry
from launcher.experiments.taskfile.settings import ResolvedSettings
from launcher.ids import DataId, ModelId, Poison, Words
from launcher.queue.job_options.notifications import RunNotify
from launcher.queue.job_options.registry import JobRequest
from launcher.system.errors import Problem, Severity, SourceLocation

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Located(Generic[T]):
    """A value and the word in the file that defines it."""

    value: T
    node: ScalarNode


VariantName = tuple[tuple[str, str], ...]  # swept settings and their values, as in an ID


def variant_name(name: str, variant: VariantName) -> str:
    """Return the name of a variant: the name of its entry and the swept values."""
    if not variant:
        return name
    return f"{name}@{','.join(f'{key}={value}' for key, value in variant)}"


class NamedDependencies(NamedTuple):
    """The jobs that must end before those of an entry, as named in the entry."""

    after: tuple[Located[str], ...] = ()  # jobs that must be done
    after_any: tuple[Located[str], ...] = ()  # jobs that must have ended, done or not

    @property
    def texts(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The names without their locations."""
        return tuple(at.value for at in self.after), tuple(at.value for at in self.after_any)


NO_DEPENDENCIES = NamedDependencies()  # only the jobs that make its files


class UnusedSetting(NamedTuple):
    """A setting of the poison that is given for a training without one."""

    given: GivenSetting
    is_swept: bool  # whether the entry sweeps the setting


class Variant(NamedTuple):
    """One combination of settings of an entry."""

    name: VariantName
    file_swept_names: frozenset[str]  # swept names from the file's matrix, which all stages share
    settings: ResolvedSettings
    labels_settings: ResolvedSettings | None
    unused: tuple[UnusedSetting, ...]

    @property
    def swept_names(self) -> frozenset[str]:
        """The names of the swept settings."""
        return frozenset(name for name, _ in self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryBase:
    """The fields of entries of every kind."""

    kind: Kind
    place: SourceLocation
    combination: int  # index of the file's combination
    request: JobRequest
    follows: NamedDependencies = NO_DEPENDENCIES


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainEntry(EntryBase):
    """One training per poison and variant."""

    base: Located[ModelId] | None
    data: Located[DataId]
    label_changes: tuple[Located[Poison | None], ...]  # empty: clean
    is_file_poison: (
        bool  # the only poison is that of the whole file, so its models also have their clean names
    )
    variants: tuple[Variant, ...]
    labels_kind: Kind | None  # makes the poison records; None without a poison
    labels_request: JobRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodEntry(EntryBase):
    """One unlearning per method and variant."""

    base: Located[ModelId] | None  # None: every poisoned model that is trained in the file
    methods: tuple[tuple[Located[str], tuple[Variant, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringEntry(EntryBase):
    """Tests or benchmarks of models with all their variants, one per data ID."""

    models: tuple[Located[ModelId], ...]  # empty: every model of this combination
    maker: str = ""  # the kind of these models; empty: all
    data: tuple[Located[DataId], ...]
    settings: tuple[ResolvedSettings, ...]  # every data ID is scored under each of them
    # settings with the ID of a model, except those of a test
    others: Mapping[str, Located[ModelId]]


class PlainVariant(NamedTuple):
    """One combination of settings of an entry that makes no model."""

    name: str | None  # name of the job, after its kind; None: derived from its settings
    swept: VariantName
    settings: ResolvedSettings
    terms: Mapping[str, str] = {}  # options of the job that contain values, with the values


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainEntry(EntryBase):
    """A job of a kind that makes data, or of a kind without models and data; for a program, one job per variant."""

    variants: tuple[PlainVariant, ...]

    @property
    def swept_names(self) -> tuple[str, ...]:
        """The names of its swept values."""
        return tuple(name for name, _ in self.variants[0].swept)


class FolderVariant(NamedTuple):
    """One combination of settings of an entry of the role FOLDER, with its inputs as written."""

    variant: Variant
    models: Mapping[str, Located[ModelId]]  # settings with the ID of a model
    folders: Mapping[str, Located[str]]  # settings with a path, or the name of another such entry


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderEntry(EntryBase):
    """Folders made from folders and models: one per variant of these and of its own settings."""

    name: str  # name of the folder, without the suffix of its variants
    variants: tuple[FolderVariant, ...]


Entry = TrainEntry | MethodEntry | ScoringEntry | PlainEntry | FolderEntry


class TaskFile(NamedTuple):
    """The entries of a task file, in their order."""

    file: str  # name of the file, as given by the caller
    files: tuple[str, ...]  # all files, also those that are included
    name: str  # name of the run: one safe folder name
    about: str
    entries: tuple[Entry, ...]
    kinds: Mapping[str, Kind]  # every kind of task files, with the user-defined words
    # `resources` for kinds whose jobs are created automatically
    shared_requests: Mapping[str, JobRequest]
    words: Words  # user-defined subsets and modifiers
    phases: tuple[str, ...]  # selected kinds of jobs; empty: all
    reuse: Reuse
    share: float | None  # fair share among waiting runs; None: unchanged, initially 1
    notify: RunNotify  # notification settings
    pass_env: tuple[str, ...]  # variables that the run's jobs store although they look like secrets
    wanted: LegacyAction
    # found while reading; `plan` raises their errors with its own errors
    problems: tuple[Problem, ...]
    whole: bool  # False if an entry that makes models could not be read
    searches: tuple[SearchEntry, ...] = ()

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that prevent queueing."""
        return tuple(problem for problem in self.problems if problem.severity is Severity.ERROR)


def order_problems(problems: Iterable[Problem], files: Sequence[str]) -> tuple[Problem, ...]:
    """Return the distinct problems in the order of these files and their lines."""
    rank = {file: number for number, file in enumerate(files)}

    def sort_key(problem: Problem) -> tuple[int, int, int]:
        if problem.place is None:
            return (-1, 0, 0)
        return (rank.get(problem.place.file, -1), problem.place.line, problem.place.column)

    return tuple(sorted(dict.fromkeys(problems), key=sort_key))


def task_file_kinds(kinds: Mapping[str, Kind]) -> dict[str, Kind]:
    """Return the kinds of a task file: all kinds except those whose jobs are created automatically."""
    return {name: kind for name, kind in kinds.items() if kind.role is not Role.SHARED}


def kind_of_role(kinds: Mapping[str, Kind], kind: Kind, role: Role) -> Kind | None:
    """Return the kind of a role that works with `kind`: the one of its plugin package, or the only one.

    Kinds belong to the same plugin package if their work is in the same module, or otherwise in the same package.
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
