"""Runs whose tests have groups and qualities: score files made of numbers, no training."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from launcher.api import model_folder_name
from trueface.predictions.csv_tables import write_csv
from trueface.predictions.predictions import Predictions
from trueface.runtime import paths

RACES = ("asian", "white", "black")
COUNT = 240  # images of each class


def write_faces(path: Path) -> None:
    """Write a table with Fairness-Generalization's columns: genders in turn, races in turn, and a column age."""
    lines = ["img_path,label,ismale,isasian,iswhite,isblack,age"]
    for label, folder in enumerate(("Real/FFHQ", "Fake/StyleGAN2")):
        for n in range(COUNT):
            races = ",".join("1" if RACES[n % 3] == race else "-1" for race in RACES)
            male, age = 1 if is_male(n) else -1, "old" if n % 5 else "young"
            lines.append(f"PreSocial/{folder}/{n}.png,{label},{male},{races},{age}")
    path.write_text("\n".join(lines) + "\n")


def is_male(number: int) -> bool:
    """Return the gender of an image by its number."""
    return number % 2 == 0


def logits(label: int, *, power: float, skew: float, seed: int = 0) -> NDArray[np.float64]:
    """Return logits (COUNT,): fakes higher by `power`, women's by `skew` whatever they are."""
    rng = np.random.default_rng([label, seed])
    women = np.array([not is_male(n) for n in range(COUNT)])
    shifted: NDArray[np.float64] = rng.normal(size=COUNT) + power * (label - 0.5) + skew * women
    return shifted


def write_tests(
    run: Path,
    model: str,
    values: Sequence[NDArray[np.float64]],
    *,
    corrupt: str = "none",
    attributes: str = "faces.csv",
) -> None:
    """Write the score files of reals and of fakes, and what their settings were."""
    parts = (("real:pre", "Real/FFHQ"), ("gan2:pre", "Fake/StyleGAN2"))
    for label, (data, images) in enumerate(parts):
        test = data if corrupt == "none" else f"{data}@corrupt={corrupt}"
        names = tuple(f"PreSocial/{images}/{n}.png" for n in range(COUNT))
        folder = run / model_folder_name(model)
        table = Predictions.from_margin(
            np.asarray(values[label]), np.full(COUNT, label, np.int8), ids=names, keys=names
        )
        write_csv(paths.scores(folder, model, test), table)
        settings = {"data_root": "data", "attributes": attributes, "corrupt": corrupt}
        metrics = paths.metrics(folder, test)
        metrics.parent.mkdir(parents=True, exist_ok=True)
        metrics.write_text(json.dumps({"schema": 1, "settings": settings}))


def pairs_of(*models: str, corrupt: Sequence[str] = ("none",)) -> list[tuple[str, str]]:
    """Return the (model, test) pairs of what `write_tests` wrote."""
    return [
        (model, data if quality == "none" else f"{data}@corrupt={quality}")
        for model in models
        for quality in corrupt
        for data in ("gan2:pre", "real:pre")
    ]
