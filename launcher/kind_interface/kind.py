"""A kind of job: what it reads and makes, when it must not run, and which code does the work.

A kind is described without heavy imports; the work itself is a function named by `entry`, imported
in the worker.
"""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Protocol, runtime_checkable

from launcher.ids import DataId, Words
from launcher.kind_interface.draft import Draft, Input
from launcher.kind_interface.settings import Settings


class Role(StrEnum):
    """The part a kind plays in the experiment language."""

    DATA = "data"  # makes files that other jobs read
    POISON = "poison"  # decides which training labels are flipped
    TRAIN = "train"  # makes a model from data, or from a model and data
    UNLEARN = "unlearn"  # makes a model from a model
    TEST = "test"  # scores a model on data
    BENCHMARK = "benchmark"  # scores every model on data, in many conditions
    FOLDER = "folder"  # makes a folder of files from folders, with the help of models
    SHARED = "shared"  # does once what other jobs repeat; see `shared_work`
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
