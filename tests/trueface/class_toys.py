"""Tiny data sets of classes, and jobs about them."""

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch

from launcher.api import Draft, Job
from trueface.data.class_images import ClassImageList, ClassPixels
from trueface.jobs.classes.kinds import CLASSIFY, FORGET
from trueface.jobs.job_kind import JobKind
from trueface.training.class_settings import ClassifySettings

torch.set_num_threads(1)

SIDE = 16
NAMES = ("blue", "green", "red")
DATA = "folders:all"
SMALL: dict[str, Any] = {
    "data_root": "data", "model": "cnn", "stem": "small", "size": SIDE, "num_epochs": 3,
    "lr": 0.005, "batch_size": 8, "seed": 1, "crop": False, "channels_last": False,
}  # fmt: skip


def write_class(folder: Path, name: str, count: int, *, colour: int = 0, side: int = SIDE) -> None:
    """Write images of noise in which the channel of the class is brighter."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([colour, count, len(folder.name)])
    for number in range(count):
        pixels = rng.integers(0, 100, (side, side, 3))
        pixels[:, :, colour % 3] += 120
        PIL.Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number:03}.png")


def write_data(root: Path, *, train: int = 20, test: int = 6) -> Path:
    """Write three classes as train/<class>/ and test/<class>/ below `root`/data; return `root`."""
    for part, count in (("train", train), ("test", test)):
        for colour, name in enumerate(NAMES):
            write_class(root / "data" / part, name, count, colour=colour)
    return root


def a_draft(kind: JobKind, root: Path, **facts: Any) -> Draft:
    """Return a job of a kind as it is planned; facts that are settings are taken for these."""
    known = kind.settings.model_fields
    given = {key: facts.pop(key) for key in list(facts) if key in known and key != "model"}
    complete = kind.settings.model_validate({**SMALL, **given}).model_dump(mode="json")
    return Draft(
        kind=kind.name, run="r", run_folder=root / "runs" / "r", folder=root, settings=complete,
        **{"data": DATA, "images": DATA, **facts},
    )  # fmt: skip


def a_job(root: Path, model: str, **facts: Any) -> Job:
    """Return a job that trains `model`, or makes it from `base` where one is given."""
    kind = FORGET if "base" in facts else CLASSIFY
    more = {
        key: facts.pop(key)
        for key in list(facts)
        if key not in {"base", "data", "stop", "progress"}
    }
    return Job(
        name=f"{kind.name}/{model}", kind=kind.name, run="r", run_folder=root / "runs" / "r",
        folder=root, attempt_folder=root, attempt=1, device="cpu", cpus=1, model=model,
        settings={**SMALL, **more}, **{"data": DATA, **facts},
    )  # fmt: skip


def folder_of(root: Path, model: str) -> Path:
    """Return the folder of a model's files."""
    return root / "runs" / "r" / model


def settings(**changed: Any) -> ClassifySettings:
    """Return the settings of a small training."""
    return ClassifySettings.model_validate({**SMALL, "num_epochs": 2, **changed})


def colours(per_class: int, **changed: Any) -> ClassPixels:
    """Return images in memory of three classes, each of which has a brighter channel."""
    labels = torch.arange(3).repeat(per_class)
    rng = torch.Generator().manual_seed(per_class)
    pixels = torch.randint(0, 90, (len(labels), 3, 16, 16), dtype=torch.uint8, generator=rng)
    pixels[torch.arange(len(labels)), labels] += 150
    names = tuple(f"{at}.png" for at in range(len(labels)))
    return ClassPixels(ClassImageList(pixels, tuple(labels.tolist()), names), settings(**changed))
