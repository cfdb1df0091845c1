"""A laboratory whose tests have scores and whose trainings have epochs, kept in small files."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from launcher.api import Json, Role, model_folder_name
from tests.launcher.toylab import TestSettings, Toy, TrainSettings, UnlearnSettings

SCORES, EPOCHS = "scores.json", "epochs.json"  # in a model's folder


class ScoredTrainSettings(TrainSettings):
    """A toy training with a seed."""

    columns: ClassVar[Mapping[str, str]] = {"architecture": "model"}

    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class ScoredToy(Toy):
    """A toy kind that reports epochs, and which metrics are better low."""

    epochs: str = ""
    lower_is_better: frozenset[str] = frozenset()


TRAIN = ScoredToy(
    name="scoredtrain",
    role=Role.TRAIN,
    entry="",
    settings=ScoredTrainSettings,
    epochs=f"{__name__}:epochs",
)
UNLEARN = ScoredToy(name="scoredunlearn", role=Role.METHOD, entry="", settings=UnlearnSettings)
TEST = ScoredToy(
    name="scoredtest",
    role=Role.TEST,
    entry="",
    settings=TestSettings,
    results=f"{__name__}:table",
    lower_is_better=frozenset({"badness"}),
)
KINDS = {"scoredtrain": "TRAIN", "scoredunlearn": "UNLEARN", "scoredtest": "TEST"}


def table(run_folder: Path, tests: Sequence[tuple[str, str]]) -> Iterator[dict[str, Json]]:
    """Return a row for each test, and one for each model that pools its tests."""
    for model in dict.fromkeys(model for model, _ in tests):
        kept = json.loads((run_folder / model_folder_name(model) / SCORES).read_text())
        datas = [data for other, data in tests if other == model]
        for data in datas:
            yield a_row(model, data, kept[data], pooled=False)
        mean = sum(kept[data] for data in datas) / len(datas)
        yield a_row(model, "&".join(datas), mean, pooled=True)


def a_row(model: str, data: str, value: float, *, pooled: bool) -> dict[str, Json]:
    """Return a row with one measure that is better high and one that is better low."""
    return {
        "model": model,
        "data": data,
        "modifier": "pre",
        "condition": data.partition("@")[2],
        "pooled": pooled,
        "n": 10,
        "goodness": {"value": value, "low": value - 0.1, "high": value + 0.1},
        "badness": {"value": 1 - value, "low": None, "high": None},
        "counts": [1, 2],
        "lr": "a word that is no setting",
    }


def epochs(run_folder: Path, models: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    """Return the epochs of models."""
    for model in models:
        path = run_folder / model_folder_name(model) / EPOCHS
        losses = json.loads(path.read_text()) if path.exists() else []
        for number, loss in enumerate(losses, start=1):
            yield {"model": model, "epoch": number, "loss": loss, "job": "of the laboratory"}
