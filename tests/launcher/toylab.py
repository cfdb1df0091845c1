"""Another laboratory: kinds of jobs over tiny text files, built only on `launcher.api`.

Its images are lines of text: `shapes` writes a folder with one file per subset and modifier. A model
is the list of the words it has seen. It learns in microseconds, so that the queue can be tested with
real jobs, and it is installed beside other laboratories under names of its own.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from launcher.api import (
    DataId,
    Draft,
    Input,
    Job,
    JobError,
    Json,
    Kind,
    Part,
    Role,
    Settings,
    UnknownName,
    parse_data,
    parse_model,
    tested,
    write_atomic,
)

SUBSETS: Mapping[str, tuple[str, ...]] = {
    "dot": ("dot",),
    "line": ("line",),
    "ring": ("ring",),
    "real": ("real",),
    "any": ("dot", "line", "ring"),
}
MODIFIERS: Mapping[str, tuple[str, ...]] = {
    "pre": ("pre",),
    "fb": ("fb",),
    "tw": ("tw",),
    "shr": ("fb", "tw"),
}


class ReadingSettings(Settings):
    """What every toy that reads data needs."""

    data_root: str = Field("toys", description="folder with the toys")
    sleep_s: float = Field(0.0, ge=0, description="how long a job pretends to work")


class TrainSettings(ReadingSettings):
    """A toy training."""

    neutral = frozenset({"sleep_s", "threads"})

    lr: float = Field(0.1, gt=0)
    epochs: int = Field(1, ge=1, le=1000)
    optimizer: Literal["adam", "sgd"] = "sgd"
    scale: float | tuple[float, float] = 1.0
    frozen: bool = False
    model: str = "tiny"
    threads: int = 1
    fail: str = Field("", description="fail with this message")


class TestSettings(ReadingSettings):
    """A toy test."""

    __test__ = False  # not a test case, whatever its name

    added = frozenset({"haze", "tilt"})
    conditions = ("haze", "tilt")

    crops: int = Field(1, ge=1)
    haze: str = Field("none", pattern="[a-z0-9+.]+")
    tilt: int = Field(0, ge=0)


class PoisonSettings(ReadingSettings):
    """A toy poison."""

    for_many = True

    poison_seed: int = 42


class UnlearnSettings(ReadingSettings):
    """A toy unlearning."""

    method: Literal["retrain", "relabel", "pgu"]
    strength: float = Field(1.0, ge=0, le=1)


class ShapesSettings(Settings):
    """A toy data set."""

    data_root: str
    size: int = Field(3, ge=1)


def as_named(data: DataId) -> DataId:
    """Return `data`, its words checked."""
    for part in data:
        if part.subset not in SUBSETS:
            raise UnknownName("subset", part.subset, SUBSETS)
        if part.modifier not in MODIFIERS:
            raise UnknownName("modifier", part.modifier, MODIFIERS)
    return data


def with_real(data: DataId) -> DataId:
    """Return `data` with real toys added under each modifier where it names none."""
    if any(part.subset == "real" for part in as_named(data)):
        return data
    parts: dict[Part, None] = {}
    for part in data:
        parts |= {part: None, Part("real", part.modifier): None}
    return DataId(tuple(parts))


def elementary(data: DataId) -> DataId:
    """Return `data` with `any` and `shr` written out."""
    return DataId(
        tuple(
            Part(subset, modifier)
            for part in as_named(data)
            for modifier in MODIFIERS[part.modifier]
            for subset in SUBSETS[part.subset]
        )
    )


@dataclass(
    frozen=True, kw_only=True, slots=True
)  # as fields, because properties of `Kind` cannot be set
class Toy(Kind):
    """The common part of all toy kinds. It accepts everything, and has no user-defined words."""

    name: str
    role: Role
    entry: str
    settings: type[Settings]
    summary: str = "a toy"
    results: str = ""
    preload: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    model_columns: ClassVar[Mapping[str, str]] = {
        "architecture": "",
        "training_data": "#",
        "poison": "%",
        "poison_kind": "%kind",
        "method": "~",
    }

    def images(self, data: DataId) -> DataId:
        """Return what a toy job reads for `data`."""
        return as_named(data) if self.role is Role.TEST else with_real(data)

    def elementary(self, data: DataId) -> DataId:
        """Return `data` with unions written out."""
        return elementary(data)

    def inputs(self, draft: Draft) -> tuple[Input, ...]:
        """Return the data files, the model to start from or to test, and the poison record."""
        if self.role is Role.DATA:
            return ()
        root = draft.path(str(draft.settings["data_root"]))
        found = [
            Input(path=root / f"{part.modifier}-{part.subset}.txt", what=f"the toys {part}")
            for part in elementary(parse_data(draft.images or ""))
        ]
        start = draft.model if self.role is Role.TEST else draft.base
        if start is not None and self.role is not Role.LABELS:
            found.append(Input(path=draft.model_folder(start) / "model.json", what="the model"))
        poisoned = draft.model if self.role is Role.TRAIN else draft.base
        if self.role in (Role.TRAIN, Role.METHOD) and parse_model(str(poisoned)).last.poison:
            path = draft.model_folder(str(poisoned)) / "poison.json"
            found.append(Input(path=path, what="the poison record"))
        return tuple(found)

    def outputs(self, draft: Draft) -> tuple[Path, ...]:
        """Return the file that the job writes last; a data job, also the folder that it fills."""
        match self.role:
            case Role.DATA:
                root = draft.path(str(draft.settings["data_root"]))
                return (root, root / ".finished")
            case Role.LABELS:
                models = (str(draft.model), *draft.further_models)
                return tuple(draft.model_folder(model) / "poison.json" for model in models)
            case Role.TEST:
                name = tested(str(draft.data), self.settings.condition(draft.settings))
                return (draft.model_folder(str(draft.model)) / "scores" / f"{name}.json",)
            case _:
                return (draft.model_folder(str(draft.model)) / "model.json",)

    def argv(self, draft: Draft) -> tuple[str, ...]:
        """Return a command line that names the job."""
        return ("python", "-m", "toylab", self.name, str(draft.model or draft.name))


def laboratory(prefix: str = "") -> dict[str, Kind]:
    """Return the toy kinds by their names, each with `prefix` before it."""
    kinds: list[Kind] = [
        Toy(
            name=f"{prefix}{word}",
            role=role,
            entry=f"{__name__}:{entry}",
            settings=settings,
            sources=(__name__,),
        )
        for word, role, entry, settings in (
            ("shapes", Role.DATA, "shapes", ShapesSettings),
            ("poison", Role.LABELS, "poison", PoisonSettings),
            ("train", Role.TRAIN, "train", TrainSettings),
            ("unlearn", Role.METHOD, "unlearn", UnlearnSettings),
            ("test", Role.TEST, "test", TestSettings),
        )
    ]
    return {kind.name: kind for kind in kinds}


def shapes(job: Job) -> Mapping[str, Json]:
    """Write one file of words for each subset and modifier."""
    root = job.path(str(job.settings["data_root"]))
    root.mkdir(parents=True, exist_ok=True)
    for modifier in ("pre", "fb", "tw"):
        for subset in ("dot", "line", "ring", "real"):
            words = [f"{subset}-{modifier}-{i}" for i in range(int(job.settings["size"]))]
            write_atomic(root / f"{modifier}-{subset}.txt", "\n".join(words))
    write_atomic(root / ".finished", "")
    return {"files": 12}


def poison(job: Job) -> Mapping[str, Json]:
    """Record which words are turned round."""
    stage = parse_model(str(job.model)).last
    words = _words(job)
    count = int(len(words) * stage.poison.rate) if stage.poison else 0
    for path in job.outputs:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps({"words": words[:count]}))
    return {"poisoned": count}


def train(job: Job) -> Mapping[str, Json]:
    """Write the list of all words seen."""
    if job.settings["fail"]:
        raise JobError(str(job.settings["fail"]))
    epochs = int(job.settings["epochs"])
    for epoch in range(epochs):
        job.progress(step=epoch + 1, total=epochs, loss=1 / (epoch + 1))
        job.stop.wait(float(job.settings["sleep_s"]) / epochs)
    seen = [] if job.base is None else _seen(job, job.base)
    return _write_model(job, [*seen, *_words(job)])


def unlearn(job: Job) -> Mapping[str, Json]:
    """Write the list of words without those that were poisoned."""
    record = job.model_folder(str(job.base)) / "poison.json"
    wrong = json.loads(record.read_text())["words"] if record.exists() else []
    return _write_model(job, [word for word in _seen(job, str(job.base)) if word not in wrong])


def test(job: Job) -> Mapping[str, Json]:
    """Write which share of the words the model has seen."""
    time.sleep(float(job.settings["sleep_s"]))
    seen, words = _seen(job, str(job.model)), _words(job)
    known = sum(word in seen for word in words) / len(words)
    folder = job.model_folder(str(job.model)) / "scores"
    folder.mkdir(parents=True, exist_ok=True)
    name = tested(str(job.data), TestSettings.condition(job.settings))
    write_atomic(folder / f"{name}.json", json.dumps({"known": known}))
    return {"known": known}


test.__test__ = False  # type: ignore[attr-defined]  # pytest must not take the job for a test case


def _words(job: Job) -> list[str]:
    root = job.path(str(job.settings["data_root"]))
    parts = elementary(parse_data(str(job.images)))
    return [
        word
        for part in parts
        for word in (root / f"{part.modifier}-{part.subset}.txt").read_text().split()
    ]


def _seen(job: Job, model: str) -> list[str]:
    record = json.loads((job.model_folder(model) / "model.json").read_text())
    return list(record["seen"])


def _write_model(job: Job, seen: list[str]) -> dict[str, Json]:
    folder = job.model_folder(str(job.model))
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "model.json", json.dumps({"seen": seen}))
    return {"seen": len(seen)}


# The kinds of an installed toy laboratory in the entry-point group `launcher.kinds`.
TOYS = laboratory("toy")
SHAPES, POISON, TRAIN, UNLEARN, TEST = TOYS.values()
