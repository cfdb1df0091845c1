"""What a laboratory tells the launcher of its kinds of jobs.

`Kind` is the door: what a kind reads and makes, when it must not run, and which code does the work. A kind
is described without heavy imports; the work itself is a function named by `entry`, imported in the worker.
What a kind may say besides (`HasEpochs`, `RanksMetrics`, `NamesModels`, `RepeatsWork`, `SharesWork`, `WarnsOfJobs`) is a protocol of its own.

A kind may say what of a job's work other jobs repeat (`RepeatsWork`), and another kind, one of the
role `shared`, may do such work once and keep its result where those jobs find it (`SharesWork`).
Where two jobs that have to run repeat the same, the plan gets a job of that kind, and the two start
after its end, done or not: they must be able to do the work themselves. It is no part of what
determines their results. Kinds that say nothing of this are planned as ever.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from launcher.draft import Draft, Input, condition_name
from launcher.ids import DataId, Words


class Settings(BaseModel):
    """Base class of the settings of a job type. Unknown names and infinite numbers are refused.

    A subclass may name in `neutral` the settings that cannot change a result, such as a number of
    threads: they stay out of a job's hash, so that changing them runs nothing again. `sum_savings` names
    settings that came after jobs had been done: at their default, which is how those jobs were done,
    they stay out of the hash, too.
    `cost_settings` names those on which time and memory depend: jobs that agree in them are expected to take
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
    """The role of a job type in task files."""

    DATA = "data"  # makes files that other jobs read
    LABELS = "poison"  # decides which labels of a training are others
    TRAIN = "train"  # makes a model from data, or from a model and data
    METHOD = "unlearn"  # makes a model from a model
    TEST = "test"  # scores a model on data
    BENCHMARK = "benchmark"  # scores every model on data, in many conditions
    FOLDER = "folder"  # makes a folder of files from folders, with the help of models
    SHARED = "shared"  # does once what other jobs repeat; see `SharesWork`
    PLAIN = "plain"  # anything else


for _role in (Role.LABELS, Role.METHOD):  # laboratories of 0.2 know these by their values
    setattr(Role, _role.value.upper(), _role)


@runtime_checkable
class Kind(Protocol):
    """A job type, as a plugin package describes it.

    A class that inherits from it need not say what its data IDs mean, what it refuses, reads and writes: its
    data are what they say, and of all else there is nothing.
    """

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
        return data

    def elementary(self, data: DataId) -> DataId:
        """Return `data` with every union of the vocabulary (`gan`, `shr`) written out."""
        return data

    def with_words(self, words: Words) -> "Kind":  # noqa: ARG002  # for others
        """Return this kind with a person's own subsets and modifiers added.

        Raises:
            UsageError: a word that it knows already, or a folder that cannot be one.
        """
        return self

    def refusals(self, draft: Draft, makers: Sequence[Draft]) -> tuple[str, ...]:  # noqa: ARG002
        """Return why a job must not run, given the jobs that make its model; empty if it may.

        Args:
            draft: the job.
            makers: the trainings and unlearnings of this plan from which its model comes, first
                to last; of a FOLDER those of the models that its settings name. Those of earlier
                plans are not among them.
        """
        return ()

    def inputs(self, draft: Draft) -> tuple[Input, ...]:  # noqa: ARG002
        """Return every path that the job reads."""
        return ()

    def outputs(self, draft: Draft) -> tuple[Path, ...]:  # noqa: ARG002
        """Return every path that proves the job done; a folder stands for all below it."""
        return ()

    def argv(self, draft: Draft) -> tuple[str, ...]:
        """Return a command line that does the same without the launcher."""


@runtime_checkable
class HasEpochs(Protocol):
    """Optional interface of a `Kind` whose jobs train models in epochs and keep a history."""

    @property
    def epochs(self) -> str:
        """`module:function` that returns the epochs of models; '' where there are none.

        It is called with the folder of a run and the IDs of models, and returns a record for each
        epoch: `model`, `epoch` (from 1), and numbers by name, None where one is not known. What is
        not there yet, or cannot be read, is left out. Its module must be quick to import.
        """


@runtime_checkable
class RanksMetrics(Protocol):
    """Optional interface of a `Kind` with metrics of which lower values are better."""

    @property
    def lower_is_better(self) -> frozenset[str]:
        """The names of these metrics; all others of its results are better high."""


@runtime_checkable
class NamesModels(Protocol):
    """Optional interface of a `Kind` whose results have columns for the parts of model IDs."""

    @property
    def model_columns(self) -> Mapping[str, str]:
        """Column → the part of a model's ID that it shows, in the order of the columns.

        `#`: its data; `%`: the share of other labels, in per cent; `%kind`: which labels these are;
        `~`: its methods. '': no part; `Settings.columns` of a training names the setting.
        """


class SharedWork(NamedTuple):
    """A part of a job's work that other jobs may need as well."""

    kind: str  # of the job that can do it for all of them
    key: Hashable  # equal for the parts that one job can do together
    part: Hashable  # within the key: equal where two jobs do the same
    passes: int = 1  # how often the job goes over it; the first of two jobs' passes are alike


class SharedPart(NamedTuple):
    """A part of the work that at least two jobs need."""

    part: Hashable
    passes: int  # that at least two of them make
    draft: Draft  # of the first of them
    makers: Sequence[Draft]  # of its model, as `Kind.refusals` gets them


class Volume(NamedTuple):
    """The size of a part of shared work."""

    items: int | None = None  # that no earlier part goes over, such as images; None: not known yet
    pass_bytes: int | None = None  # that the result of one pass takes on disk; None: not known


class SharedJob(NamedTuple):
    """A job that computes shared parts once."""

    name: str  # behind its kind; the plan adds a number where another one has the name
    settings: Mapping[str, Any]  # validated by the settings of its kind when the plan is made
    volumes: Sequence[Volume]  # of the parts, in their order
    base: str | None = None  # ID of the model that it reads
    data: str | None = None  # data ID as written
    images: str | None = None  # data ID with real data added


@runtime_checkable
class WarnsOfJobs(Protocol):
    """Optional interface of a `Kind` that warns about jobs without refusing them."""

    def warnings(self, draft: Draft) -> Sequence[str]:
        """Return what the user should know before the job runs; a plan prints each text once."""


@runtime_checkable
class RepeatsWork(Protocol):
    """Optional interface of a `Kind` whose jobs repeat work of other jobs."""

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
    """Interface of a `Kind` of the role `shared`."""

    @property
    def unit(self) -> str:
        """What a pass goes over, in the plural: "images"."""

    @property
    def most_bytes(self) -> int | None:
        """How many bytes of results are kept at most; None: there is no limit."""

    def shared_job(self, parts: Sequence[SharedPart]) -> SharedJob:
        """Return the job that does these parts, all of one key."""


class Kept(NamedTuple):
    """The results of shared work that a job type keeps."""

    folder: str
    files: int
    size: int  # bytes


@runtime_checkable
class KeepsWork(Protocol):
    """Optional interface of a `Kind` of the role `shared` whose results are outside of the runs."""

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
