"""The job as one of its ranks gets it: its own device and cores, and its own process as its only reader."""

import importlib
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from launcher.api import Job, Share, VramLimit, Words
from trueface.jobs.ranks.messages import LIMIT, LOG, MEMORY, PROGRESS, STOP, Channel, Message
from trueface.jobs.ranks.world import Place

OWN = frozenset({"progress", "stop", "share", "device", "cpus"})  # of each process
# fields that are no JSON, and how they are made of it again
_READ: Mapping[str, Callable[[Any], Any]] = {
    "run_folder": Path,
    "folder": Path,
    "attempt_folder": Path,
    "own_folder": lambda path: None if path is None else Path(path),
    "root": lambda path: None if path is None else Path(path),
    "own": tuple,
    "outputs": lambda outputs: tuple(map(Path, outputs)),
    "words": lambda words: Words(
        **{
            name: {word: tuple(folders) for word, folders in own.items()}
            for name, own in words.items()
        }
    ),
}


def facts_of(job: Job) -> dict[str, Any]:
    """Return, as JSON, the fields of a job that are the same in all processes, and its class."""
    kind = type(job)
    names = [field.name for field in fields(job) if field.name not in OWN]
    return {
        "class": f"{kind.__module__}:{kind.__qualname__}",
        **{name: _plain(getattr(job, name)) for name in names},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Words):
        return {"subsets": dict(value.subsets), "modifiers": dict(value.modifiers)}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return dict(value) if isinstance(value, Mapping) else value


def rank_job(facts: Mapping[str, Any], place: Place, channel: Channel) -> Job:
    """Return the job of a rank; the first one's progress is the job's.

    Args:
        facts: as `facts_of` gave them.
        place: of the rank.
        channel: to the job's own process.
    """
    module, _, name = facts["class"].partition(":")
    kind: type[Job] = getattr(importlib.import_module(module), name)
    same = {key: value for key, value in facts.items() if key != "class"}
    return kind(
        **{key: _READ[key](value) if key in _READ else value for key, value in same.items()},
        device=place.device,
        cpus=place.cpus,
        progress=_progress(channel) if place.rank == 0 else _silent,
        stop=threading.Event(),
        share=RankShare(channel),
    )


def _progress(channel: Channel) -> Callable[..., None]:
    def progress(*, step: int, total: int | None = None, **metrics: float | str) -> None:
        channel.send(PROGRESS, {"step": step, "total": total, **metrics})

    return progress


def _silent(**_: object) -> None:
    """Report nothing: the first rank does."""


class RankShare(Share):
    """What a rank may take of its card, as the job's own process hears it; and what it takes."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel
        self.limit = VramLimit()

    def vram_limit(self) -> VramLimit:
        """Return what the rank may take of its card now."""
        return self.limit

    def report(
        self,
        *,
        reserved: int,
        peak: int,
        context: int | None = None,
        uuid: str | None = None,
        cards: Mapping[str, int] | None = None,  # noqa: ARG002  # a rank has one
        last: bool = False,
    ) -> None:
        """Report what the rank takes; the job's own process reports for all of them."""
        amounts = {"reserved": reserved, "peak": peak, "context": context}
        self._channel.send(MEMORY, {**amounts, "uuid": uuid, "last": last})


class Forwarding(logging.Handler):
    """Sends the log of a rank to the job's own process, where it is shown and kept."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(logging.INFO)
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        """Send a line."""
        self._channel.send(LOG, [record.name, record.levelno, record.getMessage()])


def obey(job: Job, message: Message) -> None:
    """Do what the job's own process asks of a rank."""
    if message.name == STOP:
        job.stop.set()
    elif message.name == LIMIT and isinstance(job.share, RankShare):
        job.share.limit = VramLimit(**message.content)
