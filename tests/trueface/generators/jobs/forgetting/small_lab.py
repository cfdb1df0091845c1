"""A run's folder with tiny diffusers, a classifier that was never trained, and real images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch

from launcher.api import Draft, Job
from tests.trueface.generators.diffusion.closed_forms import small
from tests.trueface.jobs import build
from trueface.generators.diffusion.diffuser import save_diffuser
from trueface.jobs.job_kind import JobKind
from trueface.models import checkpoint
from trueface.models.detectors import build_classifier
from trueface.models.registry import ClassifierShape
from trueface.runtime import paths

SIDE = 8
NAMES = ("cross", "disc", "square")
TEACHER, EDITED, CLASSIFIER = "classes:all", "classes:all~abo", "folders:all"


def make_lab(root: Path) -> Path:
    """Write models and images below `root`; return it."""
    run = root / "runs" / "r"
    save_diffuser(paths.checkpoint(run / TEACHER), small(size=SIDE), {})
    edited = small(size=SIDE)
    with torch.no_grad():
        for weight in edited.network.parameters():
            weight.mul_(0.9)
    save_diffuser(paths.checkpoint(run / EDITED), edited, {})
    model = build_classifier(
        ClassifierShape(model="cnn", stem="small", size=SIDE, classes=3), seed=1
    )
    checkpoint.save_model(
        paths.checkpoint(run / CLASSIFIER),
        model,
        {"settings": {"stem": "small", "size": SIDE}, "class_names": list(NAMES)},
    )
    rng = np.random.default_rng(1)
    for part in ("train", "test"):
        for name in NAMES:
            folder = root / "data" / part / name
            folder.mkdir(parents=True)
            for number in range(4):
                pixels = rng.integers(0, 256, (SIDE, SIDE)).astype(np.uint8)
                PIL.Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def a_draft(kind: JobKind, root: Path, name: str, settings: dict[str, Any]) -> Draft:
    """Return a job as it is planned."""
    return build.a_draft(kind, root, settings, run="r", name=name)


def a_job(kind: JobKind, root: Path, name: str, settings: dict[str, Any], **facts: Any) -> Job:
    """Return a job as its worker gets it."""
    return build.job_of(a_draft(kind, root, name, settings), kind, **facts)


Ask = Callable[..., Job]


def job_maker(kind: JobKind, usual: dict[str, Any]) -> Ask:
    """Return a function that creates jobs of a kind with the usual settings and the given changes."""

    def job(root: Path, name: str, /, **changed: Any) -> Job:
        facts = {key: changed.pop(key) for key in list(changed) if key == "stop"}
        return a_job(kind, root, name, {**usual, **changed}, **facts)

    return job
