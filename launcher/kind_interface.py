"""What a laboratory tells the launcher of its kinds of jobs, and what it is told of a job.

`Kind` is the door: what a kind reads and makes, when it must not run, and which code does the work. A kind
is described without heavy imports; the work itself is a function named by `entry`, imported in the worker.
What a kind may say besides (`HasEpochs`, `RanksMetrics`, `RepeatsWork`, `SharesWork`) is a protocol of its own.

A kind may say what of a job's work other jobs repeat (`RepeatsWork`), and another kind, one of the
role `shared`, may do such work once and keep its result where those jobs find it (`SharesWork`).
Where two jobs that have to run repeat the same, the plan gets a job of that kind, and the two start
after its end, done or not: they must be able to do the work themselves. It is no part of what
determines their results. Kinds that say nothing of this are planned as ever.

The name of a test among those of its model is its data ID, and under which condition it is tested:

    test      = data ['@' condition]
    condition = key '=' value (',' key '=' value)*

A condition holds the settings of a test that have another value than by default, as a variant holds
those of a training in a model's ID. It is apart from `launcher.ids`, whose code is part of the hash of
every job: the name of a test decides no result.
"""

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict

from launcher.errors import UsageError
from launcher.ids import DataId, Words, model_folder_name

_NOT_A_VALUE = re.compile(r"[^A-Za-z0-9_.+\-]+")


def tested(data: str, condition: str) -> str:
    """Return the name of a test among those of its model: data ID, and under what it is tested."""
    return f"{data}@{condition}" if condition else data


def data_of_test(name: str) -> str:
    """Return the data ID in a name of `tested`."""
    return name.partition("@")[0]


def condition_of_test(name: str) -> str:
    """Return under what a test of a name of `tested` is done; '' under nothing particular."""
    return name.partition("@")[2]


def condition_name(settings: Iterable[tuple[str, object, object]]) -> str:
    """Return the condition of a test; '' where every setting has its default.

    Args:
        settings: name, value and default of each, in the order of the condition.
    """
    return ",".join(
        f"{name}={variant_value(value)}"
        for name, value, default in settings
        if value is not None and value != default
    )


def variant_value(value: object) -> str:
    """Return the value of a setting as it may stand in an ID: what cannot becomes a dash."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return _NOT_A_VALUE.sub("-", text).strip("-") or "none"


MADE = "made"  # in a run's folder: what jobs of the role FOLDER write

Value = TypeVar("Value")


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

    def made_folder(self) -> Path:
        """Return where a job of the role FOLDER writes: a folder of its name.

        Raises:
            ValueError: the job has no name.
        """
        if self.name is None:
            raise ValueError(f"a job of kind {self.kind!r} has no name")
        return model_folder(self.run_folder / MADE, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A path that a job reads; it must exist, or an earlier job of the plan must make it."""

    path: Path
    what: str  # for messages: "the training split"
    remedy: str = ""  # for messages: how a person makes it, where that is known


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


class Settings(BaseModel):
    """Base of a kind's settings: unknown names and numbers without end are refused.

    A subclass may name in `neutral` the settings that cannot change a result, such as a number of
    threads: they stay out of a job's hash, so that changing them runs nothing again. `added` names
    settings that came after jobs had been done: at their default, which is how those jobs were done,
    they stay out of the hash, too.
    `costs` names those on which time and memory depend: jobs that agree in them are expected to take
    the same.
    `aliases` names settings of older programs by today's names. `shared` tells how this kind reads
    a value that a task file gives for all kinds (under `defaults`), or that it does not give at all.
    `modules` names the settings whose value chooses modules that are imported by name, which no
    import statement tells, and gives those of a value.
    `for_many` says that one job of a poison serves every model for which the choice is the same:
    its kind hears of them in `Draft.further_models`, and writes all of `Job.outputs`.
    `conditions` names settings of a test that make another test of the same model and data: their
    values stand in its name (`condition`), and a list of values stands for one test of each.
    `models` names settings that hold the ID of a further model of the run, or nothing: such tests
    come behind all models. A benchmark may name it without its variant, as the model of a test.
    `folders` names settings that hold a folder: a path, or the name of an entry of the role FOLDER, which
    stands for the folders that it makes.
    `word_files` names settings that hold a folder, and the task file in it that may be included for its
    subsets and modifiers: where a data ID has a word that only such a file knows, that is said.
    `columns` names columns of results and the setting of a training that each shows, where its own name
    would mislead there, such as `architecture` for the setting `model`.
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
    folders: ClassVar[tuple[str, ...]] = ()
    word_files: ClassVar[Mapping[str, str]] = {}
    columns: ClassVar[Mapping[str, str]] = {}

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
        known = cls.model_fields
        return condition_name(
            (name, values.get(name), known[name].default) for name in cls.conditions
        )

    @classmethod
    def followed(cls, given: Mapping[str, Any]) -> Mapping[str, str]:  # noqa: ARG003  # for others
        """Return which settings of a poison take the value of a setting of the poisoned training.

        Asked for the settings that a task file does not give; their defaults are the same.

        Args:
            given: the values that it does give.
        """
        return {}


class Role(StrEnum):
    """The part a kind plays in the experiment language."""

    DATA = "data"  # makes files that other jobs read
    POISON = "poison"  # decides which training labels are flipped
    TRAIN = "train"  # makes a model from data, or from a model and data
    UNLEARN = "unlearn"  # makes a model from a model
    TEST = "test"  # scores a model on data
    BENCHMARK = "benchmark"  # scores every model on data, in many conditions
    FOLDER = "folder"  # makes a folder of files from folders, with the help of models
    SHARED = "shared"  # does once what other jobs repeat; see `SharesWork`
    PLAIN = "plain"  # anything else


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

        The code of the entry's module, of these, and of all that they need in their own packages
        is part of the job's hash. A package stands for all modules below it. Of these modules even
        what nothing uses counts, unless a decorator registers what is in one.
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
                to last; of a FOLDER those of the models that its settings name. Those of earlier
                plans are not among them.
        """

    def inputs(self, draft: Draft) -> tuple[Input, ...]:
        """Return every path that the job reads."""

    def outputs(self, draft: Draft) -> tuple[Path, ...]:
        """Return every path that proves the job done; a folder stands for all below it."""

    def argv(self, draft: Draft) -> tuple[str, ...]:
        """Return a command line that does the same without the launcher."""


@runtime_checkable
class HasEpochs(Protocol):
    """What a `Kind` says besides, if its jobs make models in epochs and leave a history of them."""

    @property
    def epochs(self) -> str:
        """`module:function` that returns the epochs of models; '' where there are none.

        It is called with the folder of a run and the IDs of models, and returns a record for each
        epoch: `model`, `epoch` (from 1), and numbers by name, None where one is not known. What is
        not there yet, or cannot be read, is left out. Its module must be quick to import.
        """


@runtime_checkable
class RanksMetrics(Protocol):
    """What a `Kind` says besides, if some of the metrics in its results are better low."""

    @property
    def lower_is_better(self) -> frozenset[str]:
        """The names of these metrics; all others of its results are better high."""


class SharedWork(NamedTuple):
    """A part of a job's work that other jobs may repeat; a plan may have tens of thousands."""

    kind: str  # of the job that can do it for all of them
    key: Hashable  # equal for the parts that one job can do together
    part: Hashable  # within the key: equal where two jobs do the same
    passes: int = 1  # how often the job goes over it; the first of two jobs' passes are alike


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPart:
    """A part that two jobs or more repeat."""

    part: Hashable
    passes: int  # that at least two of them make
    draft: Draft  # of the first of them
    makers: Sequence[Draft]  # of its model, as `Kind.refusals` gets them


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """The size of a part."""

    items: int | None = None  # that no earlier part goes over, such as images; None: not known yet
    pass_bytes: int | None = None  # that the result of one pass takes on disk; None: not known


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedJob:
    """A job that does some parts once."""

    name: str  # behind its kind; the plan adds a number where another one has the name
    settings: Mapping[str, Any]  # validated by the settings of its kind when the plan is made
    volumes: Sequence[Volume]  # of the parts, in their order
    base: str | None = None  # ID of the model that it reads
    data: str | None = None  # data ID as written
    images: str | None = None  # data ID with real data added


@runtime_checkable
class RepeatsWork(Protocol):
    """What a `Kind` says besides, if its jobs do work that others repeat."""

    def shared_work(self, draft: Draft, makers: Sequence[Draft]) -> Sequence[SharedWork]:
        """Return what of a job's work others may repeat.

        It is asked for each job of a plan: nothing is read here, and `Draft.once` helps.

        Args:
            draft: the job.
            makers: the trainings and unlearnings of this plan from which its model comes, first
                to last; those of earlier plans are not among them.
        """


@runtime_checkable
class SharesWork(Protocol):
    """What a `Kind` of the role `shared` says besides."""

    @property
    def unit(self) -> str:
        """What a pass goes over, in the plural: "images"."""

    @property
    def most_bytes(self) -> int | None:
        """How many bytes of results are kept at most; None: there is no limit."""

    def shared_job(self, parts: Sequence[SharedPart]) -> SharedJob:
        """Return the job that does these parts, all of one key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a kind keeps of shared work."""

    folder: str
    files: int
    size: int  # bytes


@runtime_checkable
class KeepsWork(Protocol):
    """What a `Kind` of the role `shared` says besides, if its results lie outside of the runs."""

    def kept(self, *, unused_s: float = 0.0) -> Kept:
        """Return what is kept that was not used for so many seconds.

        Raises:
            MachineError: the folder cannot be read.
        """

    def clear(self, *, unused_s: float = 0.0) -> Kept:
        """Delete what `kept` counts, and return what is gone; a job that reads it goes on.

        Raises:
            MachineError: a file cannot be deleted.
        """
