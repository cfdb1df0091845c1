"""Work that several jobs of a plan repeat, and the job that does it once, before them.

A kind may say what of a job's work other jobs repeat (`RepeatsWork`), and another kind, one of the
role `shared`, may do such work once and keep its result where those jobs find it (`SharesWork`).
Where two jobs that have to run repeat the same, the plan gets a job of that kind, and the two start
after its end, done or not: they must be able to do the work themselves. It is no part of what
determines their results. Kinds that say nothing of this are planned as ever.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from launcher.kind_interface.draft import Draft


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
