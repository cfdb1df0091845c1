"""A job while it is planned, the paths that it reads, and the name of a test among those of its model.

The name of a test is its data ID and the condition of the test:

    test      = data ['@' condition]
    condition = key '=' value (',' key '=' value)*

A condition contains the settings of a test that differ from their defaults, as a variant contains
those of a training in a model's ID. This module is separate from `launcher.ids`, whose code is part of the hash
of every job: the name of a test does not affect results.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from launcher.ids import Words
from launcher.queue.jobs.run_folders import MADE, absolute_path, model_folder
from launcher.system.lazy_regex import compile_lazily

_NOT_A_VALUE = compile_lazily(r"[^A-Za-z0-9_.+\-]+")


def tested(data: str, condition: str) -> str:
    """Return the name of a test of a model: data ID and condition."""
    return f"{data}@{condition}" if condition else data


def data_of_test(name: str) -> str:
    """Return the data ID in the name of a test. See `tested`."""
    return name.partition("@")[0]


def condition_of_test(name: str) -> str:
    """Return the condition in the name of a test, such as a corruption. Empty for none."""
    return name.partition("@")[2]


def condition_name(settings: Iterable[tuple[str, object, object]]) -> str:
    """Return the condition of a test; '' if every setting has its default.

    Args:
        settings: Name, value and default of each setting, in the order of the condition.
    """
    return ",".join(
        f"{name}={variant_value(value)}"
        for name, value, default in settings
        if value is not None and value != default
    )


def variant_value(value: object) -> str:
    """Return the value of a setting for an ID: invalid characters become a dash, and are removed at both ends."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    # a dash of the value itself is kept: it is the sign of a number
    return _NOT_A_VALUE.sub(" ", text).strip().replace(" ", "-") or "none"


Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A job while it is planned, with the settings of the task file."""

    kind: str
    run: str
    run_folder: Path  # absolute: <root>/runs/<run>
    folder: Path  # absolute; relative paths in settings start here
    model: str | None = None  # ID of the model made or tested
    base: str | None = None  # ID of the model it starts from
    data: str | None = None  # data ID as written
    images: str | None = None  # data ID with real data added
    name: str | None = None  # name of a plain job, if given
    further_models: tuple[str, ...] = ()  # models that share the selection of a poison with `model`
    settings: Mapping[str, Any] = field(default_factory=dict)  # validated and complete
    words: Words = field(default_factory=Words)  # user-defined words of the model's data
    device: str = "auto"  # requested in the task file: "auto", "cpu", "cuda" or "cuda:N"
    gpus: int = 1  # requested number
    # IDs of all models that the plan makes or tests
    plan_models: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    # model of the plan → drafts of the jobs that make it, first to last; complete for refusals and warnings
    plan_makers: Mapping[str, "tuple[Draft, ...]"] = field(
        default_factory=dict, compare=False, repr=False
    )
    lookups: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    def once(self, key: Hashable, find: Callable[[], Value]) -> Value:
        """Return the result of `find`, which is called once per plan.

        Thousands of jobs read the same data. The drafts of a plan share `lookups`, so a kind reads the
        disk only once.
        """
        if key not in self.lookups:
            self.lookups[key] = find()
        value: Value = self.lookups[key]
        return value

    def path(self, text: str) -> Path:
        """Return a path of the settings as an absolute one, without following links."""
        return absolute_path(self.folder, text)

    def model_folder(self, model: str) -> Path:
        """Return the folder of a model of this run."""
        return model_folder(self.run_folder, model)

    def made_folder(self) -> Path:
        """Return the output folder of a job of the role FOLDER, which has the name of the job.

        Raises:
            ValueError: the job has no name.
        """
        if self.name is None:
            raise ValueError(f"a job of kind {self.kind!r} has no name")
        return model_folder(self.run_folder / MADE, self.name)


class Input(NamedTuple):
    """A path that a job reads. It must exist, or an earlier job of the plan must write it."""

    path: Path
    what: str  # for messages: "the training split"
    remedy: str = ""  # for messages: how to create the file, if known
