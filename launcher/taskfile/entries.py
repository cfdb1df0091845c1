"""The entries of a task file's sections, once read: what to train, to unlearn, to test, to run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from launcher.errors import Place
from launcher.ids import DataId, ModelId, Poison
from launcher.job_options.registry import JobRequest
from launcher.kind_interface import Kind, Role
from launcher.taskfile.settings import Settled
from launcher.taskfile.values import At

Name = tuple[tuple[str, str], ...]  # swept settings and their values, as in an ID


class Follows(NamedTuple):
    """The jobs behind which those of an entry run, as the entry names them."""

    after: tuple[At[str], ...] = ()  # they must be done
    after_any: tuple[At[str], ...] = ()  # they must have ended, done or not

    @property
    def texts(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What is written, wherever it stands."""
        return tuple(at.value for at in self.after), tuple(at.value for at in self.after_any)


FREE = Follows()  # behind nothing but what makes its files


class Variant(NamedTuple):
    """One way in which an entry is done."""

    name: Name
    paired: frozenset[
        str
    ]  # names of it that come from the file's matrix: stages have them in common
    settings: Settled
    labels_settings: Settled | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainEntry:
    """One training for each poison and each variant."""

    kind: Kind
    place: Place
    combination: int  # which of the file's it belongs to
    base: At[ModelId] | None
    data: At[DataId]
    label_changes: tuple[At[Poison | None], ...]  # empty: clean
    wide: (
        bool  # the one poison is that of the whole file, so its models go by their clean names too
    )
    variants: tuple[Variant, ...]
    labels_kind: Kind | None  # makes the poison records; None where nothing is poisoned
    request: JobRequest
    labels_request: JobRequest
    follows: Follows = FREE


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodEntry:
    """One unlearning for each method and each variant."""

    kind: Kind
    place: Place
    combination: int
    base: At[ModelId] | None  # None: every poisoned model that is trained here
    methods: tuple[tuple[At[str], tuple[Variant, ...]], ...]
    request: JobRequest
    follows: Follows = FREE


@dataclass(frozen=True, slots=True, kw_only=True)
class TestEntry:
    """Tests of one model, or of all its variants, one for each data ID."""

    __test__ = False  # not a test case, whatever its name

    kind: Kind
    place: Place
    combination: int
    model: At[ModelId]
    data: tuple[At[DataId], ...]
    settings: tuple[Settled, ...]  # under each of which every data ID is tested
    request: JobRequest
    follows: Follows = FREE


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoTest:
    """Tests of every model that the file makes, one for each data ID."""

    place: Place
    combination: int
    data: tuple[At[DataId], ...]
    # by the kind that makes the model; the settings as in a `TestEntry`
    kinds: Mapping[str, tuple[Kind, tuple[Settled, ...], JobRequest]]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkEntry:
    """Benchmarks of some models, or of all that the file makes, one for each data ID."""

    kind: Kind
    place: Place
    combination: int
    models: tuple[At[ModelId], ...]  # empty: every model of this combination
    data: tuple[At[DataId], ...]
    others: Mapping[str, At[ModelId]]  # settings that hold the ID of a model
    settings: Settled
    request: JobRequest
    follows: Follows = FREE


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainEntry:
    """A job of a kind that makes data, or of one that knows neither models nor data."""

    kind: Kind
    place: Place
    name: str | None
    settings: Settled
    request: JobRequest
    follows: Follows = FREE


class FolderVariant(NamedTuple):
    """One way in which an entry of the role FOLDER is done, with what it reads as it is written."""

    variant: Variant
    models: Mapping[str, At[ModelId]]  # settings that hold the ID of a model
    folders: Mapping[str, At[str]]  # settings that hold a path, or the name of another such entry


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderEntry:
    """Folders made from folders and models: one for each variant, of these and of its own."""

    kind: Kind
    place: Place
    combination: int
    name: str  # of the folder, without what tells its variants apart
    variants: tuple[FolderVariant, ...]
    request: JobRequest
    follows: Follows = FREE


Entry = TrainEntry | MethodEntry | TestEntry | AutoTest | BenchmarkEntry | PlainEntry | FolderEntry


def written(kinds: Mapping[str, Kind]) -> dict[str, Kind]:
    """Return the kinds of which a task file speaks: all but those whose jobs arise by themselves."""
    return {name: kind for name, kind in kinds.items() if kind.role is not Role.SHARED}


def companion(kinds: Mapping[str, Kind], kind: Kind, role: Role) -> Kind | None:
    """Return the kind of that role that works with `kind`: of its laboratory, or the only one.

    Kinds are of one laboratory whose work lies in one module, or else in one package.
    """
    candidates = [kind for kind in kinds.values() if kind.role is role]
    for laboratory in (_module, _package):
        ours = [
            candidate for candidate in candidates if laboratory(candidate) == laboratory(kind) != ""
        ]
        if ours:
            candidates = ours
            break
    return candidates[0] if len(candidates) == 1 else None


def _module(kind: Kind) -> str:
    return kind.entry.partition(":")[0]


def _package(kind: Kind) -> str:
    return _module(kind).rpartition(".")[0]
