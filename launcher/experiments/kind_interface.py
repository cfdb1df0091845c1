"""The interface by which a plugin package describes its kinds of jobs.

`Kind` is the main protocol: inputs, outputs, refusals, and the code of the work. A kind
is described without heavy imports; the work itself is a function named by `entry`, imported in the worker.
Optional properties are separate protocols: `HasEpochs`, `RanksMetrics`, `NamesModels`, `NamesConstants`,
`RecordsLabels`, `RepeatsWork`, `SharesWork`, `InheritsSettings`, `ReadsImages`, `ReportsValidation` and `WarnsOfJobs`.

A kind may declare the part of a job's work that other jobs repeat (`RepeatsWork`). A kind of the
role `shared` may do such work once and keep its result for those jobs (`SharesWork`).
If two jobs of a plan repeat the same work, the plan gets a job of that kind. Both jobs start
after its end, whether it is done or not, so they must be able to do the work themselves. The shared job
does not affect their results. Kinds without these protocols are planned as usual.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from enum import StrEnum
from inspect import get_annotations
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from launcher.experiments.draft import Draft, Input, condition_name
from launcher.ids import DataId, Words
from launcher.system.files import Json


class FieldFacts(NamedTuple):
    """Facts of one setting, named as the class variables that collect them. See `setting`."""

    neutral: bool = False
    added: bool = False
    costs: bool = False
    conditions: bool = False
    models: bool = False
    folders: bool = False
    aliases: tuple[str, ...] = ()
    shared: Callable[[Any], Any] | None = None
    modules: Callable[[Any], tuple[str, ...]] | None = None
    word_files: str = ""
    columns: str = ""


def setting(
    default: Any = ...,
    *,
    neutral: bool = False,
    added: bool = False,
    cost: bool = False,
    condition: bool = False,
    model: bool = False,
    folder: bool = False,
    aliases: tuple[str, ...] = (),
    shared: Callable[[Any], Any] | None = None,
    modules: Callable[[Any], tuple[str, ...]] | None = None,
    word_file: str = "",
    column: str = "",
    **constraints: Any,
) -> Any:
    """Return the field of a setting, as `pydantic.Field` does, with its facts for the launcher.

    Args:
        default: Its default. Without one, the setting is required.
        neutral: It cannot change a result, such as a number of threads. It is not part of a job's hash, so
            changing it runs no job again.
        added: It was introduced after jobs had been done. At its default, which is how those jobs were done,
            it is not part of the hash.
        cost: Time and memory depend on it. Jobs that agree in all such settings are expected to need the same
            time and memory.
        condition: Another value defines another test of the same model and data. It is part of the test's name
            (`Settings.condition`), in the order of the fields. A list of values means one test per value.
        model: It contains the ID of a further model of the run, or nothing. Such tests run after all models. A
            benchmark may name the model without its variant, as the model of a test.
        folder: It contains a folder: a path, or the name of an entry of the role FOLDER, which stands for its
            output folders.
        aliases: Its names in older programs.
        shared: Reads a value which a task file gives for all kinds (under `defaults`) or does not give.
        modules: Returns the modules that are imported by name because of its value.
        word_file: The task file in its folder that can be included for the folder's subsets and modifiers. If
            only such a file defines a word of a data ID, the error names the file.
        column: The column of results that shows it, if the column has a misleading name, such as `architecture`
            for the setting `model`.
        constraints: Arguments of `pydantic.Field`, such as `description` and `ge`.
    """
    facts = FieldFacts(
        neutral, added, cost, condition, model, folder, aliases, shared, modules, word_file, column
    )
    field: FieldInfo = Field(default, **constraints)
    field.metadata.append(facts)
    return field


REVISIONS = "revisions"  # key of `Settings.decisive`; no setting has this name


class Settings(BaseModel):
    """Base class of the settings of a job type. Unknown names and infinite numbers are refused.

    The class variables collect what the fields declare, see `setting`: sets and tuples of names, and mappings
    from names. A class that sets one of them replaces what is collected.

    `for_many` is set by the class: one job of a poison serves every model with the same selection. Its kind
    gets them in `Draft.further_models` and writes all of `Job.outputs`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)
    neutral: ClassVar[frozenset[str]] = frozenset()
    added: ClassVar[frozenset[str]] = frozenset()
    costs: ClassVar[frozenset[str]] = frozenset()
    conditions: ClassVar[tuple[str, ...]] = ()
    models: ClassVar[tuple[str, ...]] = ()
    folders: ClassVar[tuple[str, ...]] = ()
    aliases: ClassVar[Mapping[str, str]] = {}  # former name → name
    shared: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}
    modules: ClassVar[Mapping[str, Callable[[Any], tuple[str, ...]]]] = {}
    word_files: ClassVar[Mapping[str, str]] = {}
    columns: ClassVar[Mapping[str, str]] = {}  # column → setting
    for_many: ClassVar[bool] = False

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Add what the class's own fields declare to what its bases have, except what the class sets itself."""
        super().__pydantic_init_subclass__(**kwargs)
        if REVISIONS in cls.model_fields:
            raise TypeError(
                f"setting {REVISIONS!r} of {cls.__name__}: a job's hash uses this name for the revisions of its code. "
                "Rename the setting"
            )
        bases = [base for base in cls.__bases__ if issubclass(base, Settings)]
        own = {name: cls.model_fields.get(name) for name in get_annotations(cls)}
        declared = _declared_facts(
            {name: field for name, field in own.items() if field is not None}
        )
        for fact in FieldFacts._fields:
            if fact not in cls.__dict__ and (fact in declared or len(bases) > 1):
                inherited = [getattr(base, fact) for base in bases]
                setattr(cls, fact, _join_facts(inherited, declared.get(fact, {})))

    @classmethod
    def decisive(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of a job's settings that are part of its hash, and its revisions."""
        defaults = {name: cls.model_fields[name].default for name in cls.added}
        decisive = {
            name: value
            for name, value in values.items()
            if name not in cls.neutral and (name not in defaults or value != defaults[name])
        }
        revisions = cls.revisions(values)
        return {**decisive, REVISIONS: sorted(revisions)} if revisions else decisive

    @classmethod
    def revisions(cls, values: Mapping[str, Any]) -> Sequence[str]:  # noqa: ARG003  # for others
        """Return the changes that changed results with these settings and that no code shows, each in a few words.

        They are part of the hash.
        """
        return ()

    @classmethod
    def without_effect(cls, values: Mapping[str, Any]) -> Mapping[str, str]:  # noqa: ARG003  # for others
        """Return settings that have no effect with the other values, each with the reason."""
        return {}

    @classmethod
    def condition(cls, values: Mapping[str, Any]) -> str:
        """Return the settings of a test that differ from their defaults, as in an ID; '' if none differs."""
        known = cls.model_fields
        return condition_name(
            (name, values.get(name), known[name].default) for name in cls.conditions
        )

    @classmethod
    def followed(cls, given: Mapping[str, Any]) -> Mapping[str, str]:  # noqa: ARG003  # for others
        """Return the settings of a poison that take the value of a setting of the poisoned training.

        It applies to settings that a task file does not give; their defaults are equal.

        Args:
            given: Values in the task file.
        """
        return {}


def _declared_facts(fields: Mapping[str, FieldInfo]) -> Mapping[str, Mapping[str, Any]]:
    """Return what fields declare: by class variable, the entries that are added to it."""
    found: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    declared = (
        (name, fact, value)
        for name, field in fields.items()
        for facts in field.metadata
        if isinstance(facts, FieldFacts)
        for fact, value in facts._asdict().items()
        if value
    )
    for name, fact, value in declared:
        if fact == "aliases":
            found[fact] |= dict.fromkeys(value, name)
        elif fact == "columns":
            found[fact][value] = name
        else:
            found[fact][name] = value
    return found


def _join_facts(inherited_facts: Sequence[Any], declared_facts: Mapping[str, Any]) -> Any:
    """Return a class variable of several bases, sets, tuples or mappings, with further entries."""
    if isinstance(inherited_facts[0], frozenset):
        return frozenset().union(*inherited_facts, declared_facts)
    if isinstance(inherited_facts[0], tuple):
        return tuple(dict.fromkeys(chain(*inherited_facts, declared_facts)))
    return {
        name: value
        for entries in (*reversed(inherited_facts), declared_facts)
        for name, value in entries.items()
    }


class Role(StrEnum):
    """The role of a job type in task files."""

    DATA = "data"  # makes files that other jobs read
    LABELS = "poison"  # selects the changed labels of a training
    TRAIN = "train"  # makes a model from data, or from a model and data
    METHOD = "unlearn"  # makes a model from a model
    TEST = "test"  # scores a model on data
    BENCHMARK = "benchmark"  # scores every model on data, under many conditions
    FOLDER = "folder"  # makes a folder of files from folders, with the help of models
    SHARED = "shared"  # does repeated work of other jobs once; see `SharesWork`
    PLAIN = "plain"  # anything else


@runtime_checkable
class Kind(Protocol):
    """A job type, as a plugin package describes it.

    A subclass inherits defaults: a data ID means itself, and there are no refusals, inputs or outputs.
    """

    @property
    def name(self) -> str:
        """The section of the task file and the first word of a job's name."""

    @property
    def role(self) -> Role:
        """The role of its jobs in task files."""

    @property
    def summary(self) -> str:
        """Description of the kind in one line, for lists."""

    @property
    def entry(self) -> str:
        """`module:function`, called in the worker with a `Job`, returns its result."""

    @property
    def preload(self) -> tuple[str, ...]:
        """Modules that the fork server imports once for all workers.

        They are third-party modules, or modules of the package itself. The import must not compute anything,
        start threads or use a GPU. If a file of the package has changed since, a worker imports them again.
        """

    @property
    def sources(self) -> tuple[str, ...]:
        """Modules that affect the result and that neither `entry` nor its imports import.

        The job's hash contains the code of the entry's module, of these modules, and of all that they need
        in their own packages. A package stands for all modules below it. Unused code of these modules also
        counts, unless a decorator registers the content of a module.
        """

    @property
    def settings(self) -> type[Settings]:
        """The model of the kind's settings."""

    @property
    def results(self) -> str:
        """`module:function` that returns the table of a run for `launcher results`; '' for none."""

    def images(self, data: DataId) -> DataId:
        """Return the images that `data` means for this kind, with real data added if it is implied.

        Raises:
            UnknownName: the plugin package does not know a subset or modifier.
        """
        return data

    def elementary(self, data: DataId) -> DataId:
        """Return `data` with every union of the vocabulary (`gan`, `shr`) expanded."""
        return data

    def with_words(self, words: Words) -> "Kind":  # noqa: ARG002  # for others
        """Return this kind with user-defined subsets and modifiers added.

        Raises:
            UsageError: a word exists already, or a folder is invalid.
        """
        return self

    def refusals(self, draft: Draft, makers: Sequence[Draft]) -> tuple[str, ...]:  # noqa: ARG002
        """Return why a job must not run, given the jobs that make its model; empty if it may run.

        Args:
            draft: Job to check.
            makers: Trainings and unlearnings of this plan that make its model, first to last.
                For a FOLDER: those of the models in its settings. Jobs of earlier plans are not included.
        """
        return ()

    def inputs(self, draft: Draft) -> tuple[Input, ...]:  # noqa: ARG002
        """Return every path that the job reads."""
        return ()

    def outputs(self, draft: Draft) -> tuple[Path, ...]:  # noqa: ARG002
        """Return every path that must exist if the job is done; a folder stands for its content."""
        return ()

    def argv(self, draft: Draft) -> tuple[str, ...]:
        """Return an equivalent command line without the launcher."""


@runtime_checkable
class HasEpochs(Protocol):
    """Optional interface of a `Kind` whose jobs train models in epochs and keep a history."""

    @property
    def epochs(self) -> str:
        """`module:function` that returns the epochs of models; '' if there are none.

        It is called with the folder of a run and the IDs of models. It returns one record per
        epoch: `model`, `epoch` (from 1), and numbers by name, None if unknown. Missing or unreadable
        epochs are omitted. The import of its module must be fast.
        """


@runtime_checkable
class RanksMetrics(Protocol):
    """Optional interface of a `Kind` with metrics for which lower values are better."""

    @property
    def lower_is_better(self) -> frozenset[str]:
        """The names of these metrics.

        The words of a name decide for other metrics of its table of results. If they have no direction, higher
        values are better.
        """


@runtime_checkable
class NamesModels(Protocol):
    """Optional interface of a `Kind` whose results have columns for the parts of model IDs."""

    @property
    def model_columns(self) -> Mapping[str, str]:
        """Column → the part of a model's ID that it shows, in the order of the columns.

        `#` stands for the data and `~` for the methods. `%` stands for the percentage of changed labels and
        `%kind` for the kind of these labels. `NAME%` stands for the percentage of changed labels of the model in
        the setting NAME. Results have its column only if a job has this setting. '' means no part:
        `Settings.columns` of a training names the setting.
        """


@runtime_checkable
class NamesConstants(Protocol):
    """Optional interface of a `Kind` that has constants in place of former settings."""

    @property
    def constants(self) -> Mapping[str, str]:
        """Former setting → its constant and value, such as `package.module.NAME = 0.5`."""


@runtime_checkable
class RecordsLabels(Protocol):
    """Optional interface of a `Kind` whose jobs record the changed labels of other models that they use."""

    def recorded_labels(self, folder: Path, settings: Mapping[str, Any], name: str) -> float | None:
        """Return the percentage of changed labels of the model in a setting, as the job recorded it.

        None if the job was not done with these settings, or if the percentage was not known.

        Args:
            folder: folder of the model that the job makes.
            settings: settings of the job.
            name: name of the setting.
        """


class SharedWork(NamedTuple):
    """A part of a job's work that other jobs may need as well."""

    kind: str  # kind of the job that can do it for all jobs
    key: Hashable  # equal for parts that one job can do together
    part: Hashable  # within the key: equal if two jobs do the same work
    passes: int = 1  # number of passes of the job; the first passes of two jobs are equal


class SharedPart(NamedTuple):
    """A part of the work that at least two jobs need."""

    part: Hashable
    passes: int  # made by at least two jobs
    draft: Draft  # draft of the first of these jobs
    makers: Sequence[Draft]  # drafts that make the part's model, as passed to `Kind.refusals`


class Volume(NamedTuple):
    """The size of a part of shared work."""

    # number of items, such as images, that no earlier part contains; None: not known yet
    items: int | None = None
    pass_bytes: int | None = None  # size on disk of the result of one pass; None: not known


class SharedJob(NamedTuple):
    """A job that computes shared parts once."""

    name: str  # follows the job's kind; the plan adds a number if the name is used
    settings: Mapping[str, Any]  # settings, validated by the job's kind when the plan is made
    volumes: Sequence[Volume]  # sizes of the parts, in their order
    base: str | None = None  # ID of the model that the job reads
    data: str | None = None  # data ID as written
    images: str | None = None  # data ID with real data added


@runtime_checkable
class InheritsSettings(Protocol):
    """Optional interface of a `Kind` whose jobs take settings from the training of their model."""

    def inherited_settings(self, draft: Draft, makers: Sequence[Draft]) -> Mapping[str, Json]:
        """Return values for settings that a task file does not give; the hash contains them like given ones.

        Args:
            draft: Job with the given settings and the defaults of all others.
            makers: See `Kind.refusals`.
        """


@runtime_checkable
class ReadsImages(Protocol):
    """Optional interface of a `Kind` with settings that have no effect on some images."""

    def without_effect(self, values: Mapping[str, Any], images: DataId) -> Mapping[str, str]:
        """Return all settings that have no effect on a job with these images, each with the reason.

        Args:
            values: Settings, complete.
            images: As `Kind.images` returns them.
        """


@runtime_checkable
class ReportsValidation(Protocol):
    """Optional interface of a `Kind` whose jobs report known numbers on validation images."""

    def validation_metrics(self, values: Mapping[str, Any]) -> Collection[str] | None:
        """Return the names of these numbers, None if unknown. A search of a task file chooses by one of these numbers.

        Args:
            values: Settings, complete.
        """


@runtime_checkable
class WarnsOfJobs(Protocol):
    """Optional interface of a `Kind` that warns about jobs without refusing them."""

    def warnings(self, draft: Draft) -> Sequence[str]:
        """Return warnings about the job before it runs; a plan prints each text once."""


@runtime_checkable
class RepeatsWork(Protocol):
    """Optional interface of a `Kind` whose jobs repeat work of other jobs."""

    def shared_work(self, draft: Draft, makers: Sequence[Draft]) -> Sequence[SharedWork]:
        """Return the parts of a job's work that other jobs may repeat.

        It is called for each job of a plan and must not read files; `Draft.once` can be used for that.

        Args:
            draft: Job to describe.
            makers: Trainings and unlearnings of this plan that make its model, first
                to last. Jobs of earlier plans are not included.
        """


@runtime_checkable
class SharesWork(Protocol):
    """Interface of a `Kind` of the role `shared`."""

    @property
    def unit(self) -> str:
        """The unit of the items of a pass, in the plural, such as "images"."""

    @property
    def most_bytes(self) -> int | None:
        """The maximum size of stored results in bytes, None for no limit."""

    def shared_job(self, parts: Sequence[SharedPart]) -> SharedJob:
        """Return the job that does these parts, which have the same key."""


class Kept(NamedTuple):
    """The results of shared work that a job type keeps."""

    folder: str
    files: int
    size: int  # bytes


@runtime_checkable
class KeepsWork(Protocol):
    """Optional interface of a `Kind` of the role `shared` that stores its results outside of the runs."""

    def kept(self, *, unused_s: float = 0.0) -> Kept:
        """Return the stored results that were not used for some seconds.

        Raises:
            MachineError: the folder cannot be read.
        """

    def clear(self, *, unused_s: float = 0.0) -> Kept:
        """Delete the results that `kept` counts and return them; a job that reads them continues.

        Raises:
            MachineError: a file cannot be deleted.
        """
