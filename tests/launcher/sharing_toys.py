"""A laboratory whose frozen trainings repeat work that one job can do before them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from launcher.api import (
    Draft,
    Input,
    Job,
    JobError,
    Json,
    Kind,
    Role,
    Settings,
    SharedJob,
    SharedPart,
    SharedWork,
    Volume,
)
from tests.launcher.toylab import Toy, TrainSettings, laboratory

WORD_BYTES = 10


class SharingTrainSettings(TrainSettings):
    """A toy training that looks at its words `epochs` times, as others do if it is frozen."""

    neutral = TrainSettings.neutral | {"shares", "share_fails", "share_sleeps_s"}

    shares: bool = True
    share_fails: str = ""
    share_sleeps_s: float = 0.0


class ShareSettings(Settings):
    """The settings of a shared toy job."""

    neutral = frozenset({"share_fails", "share_sleeps_s"})

    data_root: str = "toys"
    scale: Any = 1.0
    parts: list[dict[str, Any]] = Field(min_length=1)
    share_fails: str = ""
    share_sleeps_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SharingToy(Toy):
    """A training toy that says what others repeat."""

    shared: str

    def shared_work(self, draft: Draft, makers: Sequence[Draft]) -> tuple[SharedWork, ...]:
        """Return the words of a frozen training."""
        settings = draft.settings
        if not (settings["frozen"] and settings["shares"]):
            return ()
        key = (draft.data, str(settings["scale"]))
        return (SharedWork(self.shared, key, ("words", draft.images), settings["epochs"]),)


@dataclass(frozen=True, kw_only=True)
class SharedToy(Toy):
    """The toy that looks at words once for others."""

    unit: str = "words"
    most_bytes: int | None = None

    def shared_job(self, parts: Sequence[SharedPart]) -> SharedJob:
        """Return the job for some parts."""
        draft = parts[0].draft
        names = ("data_root", "scale", "share_fails", "share_sleeps_s")
        words = [{"images": part.part[1], "passes": part.passes} for part in parts]  # type: ignore[index]
        return SharedJob(
            name=str(draft.data),
            settings={**{name: draft.settings[name] for name in names}, "parts": words},
            volumes=[Volume(items=6, pass_bytes=6 * WORD_BYTES) for _ in parts],
            data=draft.data,
            images=draft.images,
        )

    def inputs(self, draft: Draft) -> tuple[Input, ...]:
        """Return the data files."""
        return super().inputs(draft)

    def outputs(self, draft: Draft) -> tuple[Path, ...]:
        """Return no outputs: they are outside of the run."""
        return ()

    def argv(self, draft: Draft) -> tuple[str, ...]:
        """Return nothing: who needs the words looks at them."""
        return ()


def sharing_laboratory(prefix: str = "") -> dict[str, Kind]:
    """Return the toy kinds, of which the trainings share work, and the kind that does it."""
    share, train = f"{prefix}share", f"{prefix}train"
    return {
        **laboratory(prefix),
        train: SharingToy(
            name=train,
            role=Role.TRAIN,
            entry=f"{__name__}:train",
            settings=SharingTrainSettings,
            shared=share,
        ),
        share: SharedToy(
            name=share, role=Role.SHARED, entry=f"{__name__}:share", settings=ShareSettings
        ),
    }


def train(job: Job) -> Mapping[str, Json]:
    """Write the list of all words seen."""
    from tests.launcher import toylab

    return toylab.train(job)


def share(job: Job) -> Mapping[str, Json]:
    """Look at the words, or fail, or take a while."""
    if job.settings["share_fails"]:
        raise JobError(str(job.settings["share_fails"]))
    job.progress(step=os.getpid())
    job.stop.wait(float(job.settings["share_sleeps_s"]))
    if job.stop.is_set():
        raise JobError("stopped")
    return {"parts": len(job.settings["parts"])}


SHAPES, POISON, TRAIN, UNLEARN, TEST, SHARE = (
    sharing_laboratory("toy")[f"toy{word}"]
    for word in ("shapes", "poison", "train", "unlearn", "test", "share")
)
