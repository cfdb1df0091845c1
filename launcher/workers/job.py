"""A job as its worker gets it: what to do, with what, and where to leave it."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.errors import JobError
from launcher.ids import Words, model_folder_name
from launcher.kind_interface.draft import absolute_path, model_folder
from launcher.system.files import Json
from launcher.workers.memory_share import Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as its entry function gets it, inside the worker."""

    name: str
    kind: str
    run: str
    run_folder: Path  # in the queue, this attempt's own view of it: see `model_folder`
    folder: Path
    attempt_folder: Path  # scratch space and records of this attempt
    attempt: int  # 1, 2, …
    device: str  # "cpu" or "cuda:0"; the card was chosen by CUDA_VISIBLE_DEVICES
    cpus: int  # how many cores are ours
    gpus: int = 1  # how many cards are ours, cuda:0 and on; only meant where `device` is one
    model: str | None = None
    base: str | None = None
    data: str | None = None
    images: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    words: Words = field(default_factory=Words)
    outputs: tuple[Path, ...] = ()  # what it must leave, absolute; empty where it was not planned
    progress: Callable[..., None] = lambda *_args, **_metrics: None
    stop: threading.Event = field(default_factory=threading.Event)
    share: Share = field(default_factory=Share)  # of its card; by default all of it, unreported
    accepted: Path | None = None  # the run's folder itself; None: `run_folder` is no view of it
    own: tuple[str, ...] = ()  # names in the run's folder into which this job writes

    def path(self, text: str) -> Path:
        """Return a path of the settings as an absolute one, without following links."""
        return absolute_path(self.folder, text)

    def model_folder(self, model: str) -> Path:
        """Return where a model of this run lives.

        What a job writes below `run_folder`, its own model's folder and `outputs` stays in a folder of
        its attempt. It is moved into the run's folder when the job is done, and only then: an attempt
        that was given up changes nothing there, also where a process of it wakes later. Files are to
        be written under a temporary name and renamed (`write_atomic` does so), never in place.
        """
        if self.accepted is None or model_folder_name(model) in self.own:
            return model_folder(self.run_folder, model)
        return model_folder(self.accepted, model)

    def check(self) -> None:
        """Refuse to go on where this attempt was given up: before a job changes what lies elsewhere.

        Raises:
            JobError: it was.
        """
        if self.accepted is not None and not self.run_folder.is_dir():
            raise JobError(
                "this attempt was given up, and another one may run in its place: nothing more is "
                "written by it"
            )


Entry = Callable[[Job], Mapping[str, Json]]
