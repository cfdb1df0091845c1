"""The record of an unlearning in its model's folder: `unlearning.json`, from which all tables are made."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from trueface.runtime import paths
from trueface.runtime.errors import DataError
from trueface.runtime.files import read_json, write_json
from trueface.unlearning.registry import Goal

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseSearchResult:
    """The outcome of a search for hidden flipped labels."""

    flagged: int  # called flipped
    hidden: int  # flipped, and not given to the method
    right: int  # flipped ones among the flagged
    expected_precision: float | None = None  # by the known flips, in 0 … 1. None if unknown

    @property
    def precision(self) -> float | None:
        """The fraction of the flagged labels that is flipped. None if none was flagged."""
        return self.right / self.flagged if self.flagged else None

    @property
    def recall(self) -> float | None:
        """The fraction of the hidden flips that was flagged. None if none was hidden."""
        return self.right / self.hidden if self.hidden else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Relearn:
    """The number of steps until a model relearns its forget set."""

    steps: int | None  # None: not within `most`
    most: int
    loss: float  # on the forgotten, that was to be reached


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Accuracies in [0, 1] of a linear classifier of features: forget set or not."""

    before: float
    after: float
    chance: float  # accuracy of one answer to all


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingCost:
    """The cost of the training of the base model. None if unknown."""

    seconds: float | None
    samples: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One unlearning: settings, times in seconds, and results except the predictions."""

    method: str
    model: str  # ID
    base: str  # ID
    goal: Goal
    classes: int
    class_names: tuple[str, ...]
    forgotten: tuple[int, ...]  # classes; () for flips and instances
    seed: int
    fraction: float | None = None  # share of the training images to be forgotten, for instances
    rate: float | None  # fraction of the training labels that was flipped
    known: float  # fraction of these that the method was given
    found: NoiseSearchResult | None  # None: no search
    forced: bool  # the method was known not to work here
    options: Mapping[str, Any]  # JSON; its recursive type is too deep for pydantic
    notes: tuple[str, ...]
    seconds: float  # without what the cache holds
    samples_read: int
    cached_seconds: float
    cached_samples: int
    peak_bytes: int | None
    training_seconds: float | None  # time for training the base
    training_samples: int | None
    relearn: Relearn | None
    probe: Probe | None
    attack: float | None  # success of a patch afterwards, in 0 … 1
    attack_before: float | None
    log: tuple[Mapping[str, float | None], ...]  # {"step": n, name: value}

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{field.name} of an unlearning is {value}")


def write(folder: Path, record: Record) -> None:
    """Write a record into its model's folder, atomically; non-finite numbers become null."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(paths.unlearning(folder), {"schema": SCHEMA, **_to_json(asdict(record))})


def read(folder: Path) -> Record | None:
    """Return the record of a model, or None where its folder has none.

    Raises:
        DataError: there is one that cannot be understood.
    """
    path = paths.unlearning(folder)
    raw = read_json(path)
    if raw is None:
        if path.is_file():
            raise DataError(
                f"{path} is damaged, as it is not a JSON object. Unlearn again to write it."
            )
        return None
    if raw.get("schema") != SCHEMA:
        raise DataError(
            f"{path} has schema {raw.get('schema')}, but this version reads schema {SCHEMA}"
        )
    try:
        return _adapter().validate_python(raw)
    except ValidationError as error:
        reasons = "; ".join(
            f"{'.'.join(map(str, reason['loc']))}: {reason['msg']}"
            for reason in error.errors(include_url=False)[:3]
        )
        raise DataError(f"{path} is not a valid record of an unlearning: {reasons}") from error


def training(folder: Path) -> TrainingCost:
    """Return the cost of training a model; for an unlearned one that of its base, recursively.

    Time that the feature store saved is added, as if the store had been empty.

    Raises:
        DataError: its record cannot be understood.
    """
    entry = read(folder)
    if entry is not None:
        return TrainingCost(seconds=entry.training_seconds, samples=entry.training_samples)
    summary = read_json(paths.summary(folder)) or {}
    seconds, samples = summary.get("seconds"), summary.get("samples_read")
    features = (read_json(paths.provenance(folder)) or {}).get("features")
    # as if no other job had computed its features before: all trainings are measured alike
    saved = features.get("seconds_saved") if isinstance(features, dict) else None
    spared = float(saved) if isinstance(saved, int | float) else 0.0
    return TrainingCost(
        seconds=float(seconds) + spared if isinstance(seconds, int | float) else None,
        samples=int(samples) if isinstance(samples, int | float) else None,
    )


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[Record]:
    return TypeAdapter(Record)


def _to_json(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    return value
