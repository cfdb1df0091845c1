"""A job as its worker gets it: its work, its inputs, and the folders of its outputs."""

import errno
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.ids import Words, model_folder_name
from launcher.queue.home.paths import Attempt
from launcher.queue.jobs.run_folders import absolute_path, model_folder
from launcher.queue.workers.memory_share import Share
from launcher.system.errors import JobError
from launcher.system.files import ABSENT_ERRORS, Json, write_when_possible


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job, as its entry function receives it in the worker process."""

    name: str
    kind: str
    run: str
    run_folder: Path  # folder of accepted outputs, to be read; see `model_folder`
    folder: Path
    attempt_folder: Path  # scratch space and records of this attempt
    attempt: int  # 1, 2, …
    device: str  # "cpu" or "cuda:0"; the GPU was chosen by CUDA_VISIBLE_DEVICES
    cpus: int  # number of cores that are ours
    gpus: int = 1  # number of GPUs of the job, cuda:0 and on; used only if `device` is a GPU
    model: str | None = None
    base: str | None = None
    data: str | None = None
    images: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    words: Words = field(default_factory=Words)
    # absolute paths that the job must leave; none if it was not planned
    outputs: tuple[Path, ...] = ()
    progress: Callable[..., None] = lambda *_args, **_metrics: None
    stop: threading.Event = field(default_factory=threading.Event)
    # the job's part of a GPU; by default all of the GPU, unreported
    share: Share = field(default_factory=Share)
    own_folder: Path | None = None  # folder in which this attempt writes, not the run's
    own: tuple[str, ...] = ()  # names in the run's folder into which the job writes
    root: Path | None = None  # path of the run's folder for users; None: `run_folder` is that path

    def path(self, text: str) -> Path:
        """Return a path of the settings as an absolute one, without following links."""
        return absolute_path(self.folder, text)

    def model_folder(self, model: str) -> Path:
        """Return the folder of a model of this run.

        In the queue, the folder of the job's own model and `outputs` are those of its attempt. The files there
        are moved into the run's folder only when the job is done. So an abandoned attempt
        changes nothing there, even if one of its processes wakes later. Files are to
        be written under a temporary name and renamed (`write_atomic` does so), never in place.

        Files written below `run_folder` are visible at once. This is for files that many jobs share, with names made
        of their content. An abandoned attempt cannot write there any more.
        """
        if self.own_folder is not None and model_folder_name(model) in self.own:
            return model_folder(self.own_folder, model)
        return model_folder(self.root or self.run_folder, model)

    def check(self) -> None:
        """Refuse to continue if this attempt was abandoned; call it before changing files elsewhere.

        Files in the run's folder need no such check. `progress` makes it, too.

        Raises:
            JobError: the attempt was abandoned.
        """
        if self.own_folder is not None:
            refuse_abandoned(self.run_folder, Attempt(self.attempt_folder), self.stop)


def refuse_abandoned(view: Path, attempt: Attempt, stop: threading.Event) -> None:
    """Refuse to continue if an attempt's link to its run's folder is gone; see `Job.check`.

    While the file system of the attempt is away, this is unknown, and the job waits.

    Args:
        view: the link.
        attempt: its attempt.
        stop: ends the wait.

    Raises:
        JobError: the link is gone. If a disk does not answer, this is unknown, and the job continues.
    """

    def check_view() -> None:
        if attempt.is_away():  # a file at its path is not the link
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(view))
        view.stat()

    try:
        write_when_possible(
            check_view, is_away=attempt.is_away, is_over=stop.is_set, transient_errors=()
        )
    except OSError as error:
        if error.errno not in ABSENT_ERRORS:
            return
        raise JobError(
            f"{view} no longer exists: this attempt was abandoned, or the folder of its run was "
            "deleted. It writes nothing more, and another attempt may run instead."
        ) from error


Entry = Callable[[Job], Mapping[str, Json]]
