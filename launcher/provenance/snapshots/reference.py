"""A snapshot as the context of jobs names it. Most processes need no more of this package."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple


class SnapshotReference(NamedTuple):
    """A snapshot as the context of jobs names it."""

    copy: str  # path of the copy, relative to the queue folder
    top: str  # folder of the working tree
    commit: str | None = None  # commit of the working tree at the queueing; None if unknown
    queued_at: int = (
        0  # nanoseconds of the clock that stamps files; 0 if the copy was made for the job
    )
    uncommitted: tuple[str, ...] | None = (
        None  # copied files that were not as git's index had them; None if unknown
    )

    @property
    def key(self) -> str:
        """The name by which users see it."""
        return os.path.basename(os.path.dirname(self.copy))  # noqa: PTH119, PTH120  # texts

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON; `read_reference` reads it."""
        uncommitted = None if self.uncommitted is None else [*self.uncommitted]
        return {**self._asdict(), "uncommitted": uncommitted}


def read_reference(record: Mapping[str, Any]) -> SnapshotReference | None:
    """Return the snapshot that a context names; None if it names none."""
    match record:
        case {"copy": str(copy), "top": str(top)}:
            commit, queued_at = record.get("commit"), record.get("queued_at")
            uncommitted = record.get("uncommitted")
            return SnapshotReference(
                copy,
                top,
                commit if isinstance(commit, str) else None,
                queued_at if isinstance(queued_at, int) else 0,
                tuple(map(str, uncommitted)) if isinstance(uncommitted, list) else None,
            )
    return None
