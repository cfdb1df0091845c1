"""What a job does: the interface between the launcher and a laboratory, and the kind `command`.

A laboratory installs its kinds under the entry-point group `launcher.kinds`. A kind is described
without heavy imports; the work itself is a function named by `entry`, imported in the worker.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from launcher.errors import UsageError
from launcher.ids import DataId, Words, model_folder_name, variant_value
from launcher.job import digest_of

GROUP = "launcher.kinds"

Value = TypeVar("Value")


class Role(StrEnum):
    """The part a kind plays in the experiment language."""

    DATA = "data"  # makes files that other jobs read
    POISON = "poison"  # decides which training labels are flipped
    TRAIN = "train"  # makes a model from data, or from a model and data
    UNLEARN = "unlearn"  # makes a model from a model
    TEST = "test"  # scores a model on data
    SHARED = "shared"  # does once what other jobs repeat; see launcher/shared_work.py
    PLAIN = "plain"  # anything else


class Settings(BaseModel):
    """Base of a kind's settings: unknown names and numbers without end are refused.

    A subclass may name in `neutral` the settings that cannot change a result, such as a number of
    threads: they stay out of a job's hash, so that changing them runs nothing again. `added` names
    settings that came after jobs had been done: at their default, which is how those jobs were done,
    they stay out of the hash, too. `costs` names
    those on which time and memory depend: jobs that agree in them are expected to take the same.
    `aliases` names settings of older programs by today's names. `shared` tells how this kind reads
    a value that a task file gives for all kinds (under `defaults`), or that it does not give at all.
    `modules` names the settings whose value chooses modules that are imported by name, which no
    import statement tells, and gives those of a value.
    `for_many` says that one job of a poison serves every model for which the choice is the same:
    its kind hears of them in `Draft.further_models`, and writes all of `Job.outputs`.
    `conditions` names settings of a test that make another test of the same model and data: their
    values stand in its name (`condition`), and a list of values stands for one test of each.
    `models` names settings that hold the ID of a further model of the run, or nothing: such tests
    come behind all models.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)
    neutral: ClassVar[frozenset[str]] = frozenset()
    added: ClassVar[frozenset[str]] = frozenset()
    costs: ClassVar[frozenset[str]] = frozenset()
    aliases: ClassVar[Mapping[str, str]] = {}
    shared: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}
    modules: ClassVar[Mapping[str, Callable[[Any], tuple[str, ...]]]] = {}
    for_many: ClassVar[bool] = False
    conditions: ClassVar[tuple[str, ...]] = ()
    models: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def decisive(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of a job's settings that are part of its hash."""
        defaults = {name: cls.model_fields[name].default for name in cls.added}
        return {
            name: value
            for name, value in values.items()
            if name not in cls.neutral and (name not in defaults or value != defaults[name])
        }

    @classmethod
    def without_effect(cls, values: Mapping[str, Any]) -> Mapping[str, str]:  # noqa: ARG003  # for others
        """Return settings that change nothing beside the other values, each with the reason."""
        return {}

    @classmethod
    def condition(cls, values: Mapping[str, Any]) -> str:
        """Return what tells a test from that under the defaults, as in an ID; '' if nothing does."""
        pairs = (
            (name, values.get(name), cls.model_fields[name].default) for name in cls.conditions
        )
        return ",".join(
            f"{name}={variant_value(value)}"
            for name, value, default in pairs
            if value is not None and value != default
        )

    @classmethod
    def followed(cls, given: Mapping[str, Any]) -> Mapping[str, str]:  # noqa: ARG003  # for others
        """Return which settings of a poison take the value of a setting of the poisoned training.

        Asked for the settings that a task file does not give; their defaults are the same.

        Args:
            given: the values that it does give.
        """
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A job while it is planned: what the task file says of it."""

    kind: str
    run: str
    run_folder: Path  # absolute: <root>/runs/<run>
    folder: Path  # absolute: relative paths in settings start here
    model: str | None = None  # ID of the model made or tested
    base: str | None = None  # ID of the model it starts from
    data: str | None = None  # data ID as written
    images: str | None = None  # data ID with real data added
    name: str | None = None  # given name of a plain job
    further_models: tuple[str, ...] = ()  # that a poison chooses for, besides `model`
    settings: Mapping[str, Any] = field(default_factory=dict)  # validated and complete
    words: Words = field(default_factory=Words)  # the user's own among those of its data
    device: str = "auto"  # that the task file asks for: "auto", "cpu", "cuda" or "cuda:N"
    gpus: int = 1  # how many it asks for
    lookups: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    def once(self, key: Hashable, find: Callable[[], Value]) -> Value:
        """Return what `find` returned when the first draft of this plan asked.

        Thousands of jobs read the same data, and a plan is made in an instant: its drafts share
        `lookups`, so that a kind may look at the disk once.
        """
        if key not in self.lookups:
            self.lookups[key] = find()
        value: Value = self.lookups[key]
        return value

    def path(self, text: str) -> Path:
        """Return a path of the settings as an absolute one, without following links."""
        return absolute_path(self.folder, text)

    def model_folder(self, model: str) -> Path:
        """Return where a model of this run lives."""
        return model_folder(self.run_folder, model)


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A path that a job reads; it must exist, or an earlier job of the plan must make it."""

    path: Path
    what: str  # for messages: "the training split"
    remedy: str = ""  # for messages: how a person makes it, where that is known


@runtime_checkable
class Kind(Protocol):
    """What a laboratory tells the launcher about one kind of job."""

    @property
    def name(self) -> str:
        """The section of the task file, and the first word of a job's name."""

    @property
    def role(self) -> Role:
        """The part it plays."""

    @property
    def summary(self) -> str:
        """One line for lists of kinds."""

    @property
    def entry(self) -> str:
        """`module:function`, called in the worker with a `Job`, returns its result."""

    @property
    def preload(self) -> tuple[str, ...]:
        """Third-party modules that the fork server imports once for all workers."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Modules that decide the result and that neither `entry` nor what it imports does import.

        The code of the entry's module, of these, and of all that they import in their own packages
        is part of the job's hash. A package stands for all modules below it.
        """

    @property
    def settings(self) -> type[Settings]:
        """The model of the kind's settings."""

    @property
    def results(self) -> str:
        """`module:function` that makes the table of a run, called by `launcher results`; or ''."""

    def images(self, data: DataId) -> DataId:
        """Return which images `data` means to this kind, real data added where it is implied.

        Raises:
            UnknownName: a subset or modifier that the laboratory does not know.
        """

    def elementary(self, data: DataId) -> DataId:
        """Return `data` with every union of the vocabulary (`gan`, `shr`) written out."""

    def with_words(self, words: Words) -> "Kind":
        """Return this kind with a person's own subsets and modifiers added.

        Raises:
            UsageError: a word that it knows already, or a folder that cannot be one.
        """

    def refusals(self, draft: Draft, makers: Sequence[Draft]) -> tuple[str, ...]:
        """Return why a job must not run, given the jobs that make its model; empty if it may.

        Args:
            draft: the job.
            makers: the trainings and unlearnings of this plan from which its model comes, first
                to last; those of earlier plans are not among them.
        """

    def inputs(self, draft: Draft) -> tuple[Input, ...]:
        """Return every path that the job reads."""

    def outputs(self, draft: Draft) -> tuple[Path, ...]:
        """Return every path that proves the job done; a folder stands for all below it."""

    def argv(self, draft: Draft) -> tuple[str, ...]:
        """Return a command line that does the same without the launcher."""


class CommandSettings(Settings):
    """What a command needs to be run again: its words."""

    argv: tuple[str, ...] = Field(min_length=1, description="the program and its arguments")


class Command:
    """Any program, started as it is typed: no shell, no Python."""

    name = "command"
    role = Role.PLAIN
    summary = "run any program"
    entry = ""
    preload: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    settings: type[Settings] = CommandSettings
    results = ""

    def images(self, data: DataId) -> DataId:
        """Return the data ID as it is: a program knows what it means."""
        return data

    def elementary(self, data: DataId) -> DataId:
        """Return the data ID as it is."""
        return data

    def with_words(self, words: Words) -> Kind:  # noqa: ARG002  # the protocol's shape
        """Return the kind as it is: a program knows its words."""
        return self

    def refusals(self, draft: Draft, makers: Sequence[Draft]) -> tuple[str, ...]:  # noqa: ARG002
        """Return nothing: any program may run."""
        return ()

    def inputs(self, draft: Draft) -> tuple[Input, ...]:  # noqa: ARG002  # the protocol's shape
        """Return nothing: what a program reads is not known."""
        return ()

    def outputs(self, draft: Draft) -> tuple[Path, ...]:  # noqa: ARG002  # the protocol's shape
        """Return nothing: what a program writes is not known."""
        return ()

    def argv(self, draft: Draft) -> tuple[str, ...]:
        """Return the program and its arguments."""
        return tuple(draft.settings["argv"])


COMMAND = Command()


def roots_of(kind: Kind, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the modules from which the work of a kind begins: with their imports, its code.

    Args:
        kind: of the job; a kind of commands has none.
        settings: of the job, validated and complete.
    """
    entry = kind.entry.partition(":")[0]
    chosen = (
        module
        for key, modules_of in kind.settings.modules.items()
        if key in settings
        for module in modules_of(settings[key])
    )
    return tuple(dict.fromkeys((*([entry] if entry else []), *kind.sources, *chosen)))


@dataclass(frozen=True, slots=True)
class Installed:
    """The kinds that installed packages offer."""

    kinds: dict[str, Kind]  # by name
    unusable: dict[str, str]  # name → why the kind cannot be had, and what to do about it


def find_kinds(names: Sequence[str] | None = None) -> Installed:
    """Return every installed kind, or those named; one that cannot be had harms no other.

    Args:
        names: of the kinds to look for; None: all.
    """
    kinds: dict[str, Kind] = {}
    unusable: dict[str, str] = {}
    offered: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        if names is not None and point.name not in names:
            continue
        if (other := offered.get(point.name)) is not None:
            kinds.pop(point.name, None)
            unusable[point.name] = (
                f"kind {point.name!r} is offered twice, by {_package(other)} and by {_package(point)}; "
                "uninstall one of them, or give one kind another name"
            )
            continue
        offered[point.name] = (
            point  # its package is named in an error only: that reads its metadata
        )
        try:
            kinds[point.name] = _load(point)
        except UsageError as error:
            unusable[point.name] = str(error)
    return Installed(kinds, unusable)


def installed(names: Sequence[str] | None = None) -> dict[str, Kind]:
    """Return every installed kind by its name.

    Raises:
        UsageError: two packages offer the same kind, or one of them cannot be imported.
    """
    available = find_kinds(names)
    if available.unusable:
        raise UsageError("; ".join(available.unusable.values()))
    return available.kinds


def _load(point: EntryPoint) -> Kind:
    """Import what an entry point names.

    Raises:
        UsageError: it cannot be imported, or is not a kind of this name.
    """
    try:
        kind: object = point.load()
    except Exception as error:
        raise UsageError(
            f"kind {point.name!r} of {_package(point)} cannot be loaded: {error}; "
            "mend its package, or uninstall it"
        ) from error
    if not isinstance(kind, Kind) or kind.name != point.name:
        raise UsageError(
            f"{point.value} is not a kind named {point.name!r}; mend the entry point of its package"
        )
    return kind


def _package(point: EntryPoint) -> str:
    return point.value if point.dist is None else f"{point.dist.name} ({point.value})"


def costs(kind: "Kind") -> tuple[str, ...]:
    """Return the settings on which a kind's time and memory depend."""
    settings = kind.settings
    return tuple(sorted(settings.costs or set(settings.model_fields) - settings.neutral))


def signature_of(kind: "Kind", settings: Mapping[str, Any], gpus: int = 1) -> str:
    """Return the signature of a job of a kind: the settings that cost, not which images it reads.

    Args:
        kind: of the job.
        settings: of the job.
        gpus: that share its work; each then takes less memory and time.
    """
    values = [settings.get(name) for name in costs(kind) if name not in kind.settings.added]
    # what was added later is left out at its default, so that what was learned before still counts
    later = [
        (name, settings[name])
        for name in costs(kind)
        if name in kind.settings.added
        and settings.get(name, kind.settings.model_fields[name].default)
        != kind.settings.model_fields[name].default
    ]
    shared = [gpus] if gpus > 1 else []
    return digest_of(kind.name, repr([*values, *later, *shared]))


@lru_cache(maxsize=4096)  # a plan asks for the same ones thousands of times
def model_folder(run_folder: Path, model: str) -> Path:
    """Return the folder of a model of a run."""
    return run_folder / model_folder_name(model)


@lru_cache(maxsize=4096)
def absolute_path(folder: Path, text: str) -> Path:
    """Return a path of the settings as an absolute one, without following links.

    Raises:
        UsageError: it begins with the home folder of a user that does not exist.
    """
    try:
        return folder / Path(text).expanduser()
    except (RuntimeError, ValueError) as error:  # "~nobody/data", "~a\0b"
        raise UsageError(f"{text!r} begins with a home folder that does not exist") from error
