"""A job while it is planned, the paths that it reads, and the name of a test among those of its model.

That name is the test's data ID, and under which condition it is tested:

    test      = data ['@' condition]
    condition = key '=' value (',' key '=' value)*

A condition holds the settings of a test that have another value than by default, as a variant holds
those of a training in a model's ID. It is apart from `launcher.ids`, whose code is part of the hash of
every job: the name of a test decides no result.
"""

import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from launcher.errors import UsageError
from launcher.ids import Words, model_folder_name

_NOT_A_VALUE = re.compile(r"[^A-Za-z0-9_.+\-]+")


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
    """Return the value of a setting as it may stand in an ID: what cannot becomes a dash, and nothing at its ends."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    # a dash of the value itself stays: it is the sign of a number
    return _NOT_A_VALUE.sub(" ", text).strip().replace(" ", "-") or "none"


MADE = "made"  # in a run's folder: what jobs of the role FOLDER write


Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A job while it is planned, with the settings of the task file."""

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


class Input(NamedTuple):
    """A path that a job reads. It must exist, or an earlier job of the plan must write it."""

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
