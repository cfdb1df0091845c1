"""Jobs and drafts of any kind, plans of task files, and images of two methods to learn from."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from launcher.api import Draft, Job, Kind, Plan
from launcher.experiments.planning.plan_builder import build_plan
from launcher.experiments.taskfile.parser import ParseContext, parse
from trueface.data.made.sample import SampleSpec, make_sample

FOLDERS = {"Fake/StyleGAN2/conf-f-psi-1": 40, "Real/FFHQ": 0}  # and how strong a trace each has
SIDE = 16


def a_draft(
    kind: Kind, folder: Path, settings: Mapping[str, Any], /, *, run: str = "study", **facts: Any
) -> Draft:
    """Return a job as it is planned."""
    return Draft(
        kind=kind.name, run=run, run_folder=folder / "runs" / run, folder=folder,
        settings=kind.settings.model_validate(settings).model_dump(mode="json"), **facts,
    )  # fmt: skip


def a_job(
    folder: Path, kind: str, model: str | None = None, *, run: str = "study", **facts: Any
) -> Job:
    """Return a job as its worker gets it."""
    return Job(
        kind=kind, run=run, run_folder=folder / "runs" / run, folder=folder, model=model,
        **{"name": kind, "attempt_folder": folder, "attempt": 1, "device": "cpu", "cpus": 1, **facts},
    )  # fmt: skip


def job_of(draft: Draft, kind: Kind, **more: Any) -> Job:
    """Return the job of a draft."""
    return a_job(
        draft.folder, draft.kind, draft.model, run=draft.run, base=draft.base, data=draft.data,
        settings=draft.settings, **{"outputs": kind.outputs(draft), **more},
    )  # fmt: skip


def plan_text(text: str, kinds: Iterable[Kind], root: Path = Path("/lab")) -> Plan:
    """Return the plan of a task file."""
    task = parse(
        text,
        file="study.yaml",
        context=ParseContext(kinds={kind.name: kind for kind in kinds}, environment={}),
        include=lambda path: Path(path).read_text(),
    )
    return build_plan(
        task, root=root, exists=Path.exists, code=lambda *_: {"": ""}, content=lambda _: ""
    )


def write_images(root: Path, count: int) -> list[str]:
    """Write a number of images of each method below `root`/data; return their keys."""
    rng, keys = np.random.default_rng(0), []
    for folder, trace in FOLDERS.items():
        for number in range(count):
            pixels = rng.integers(100, 140, (SIDE, SIDE, 3))
            pixels[::2, ::2] += trace
            path = root / "data/PreSocial" / folder / f"{number:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(pixels.astype(np.uint8)).save(path)
            keys.append(f"{folder.split('/', 1)[1]}/{number:05}")
    return keys


def write_sample(folder: Path, *, train: int, val: int, test: int) -> None:
    """Make the synthetic images of a `sample` job of 32 pixels in `folder`/data, without other processes."""
    make_sample(folder / "data", SampleSpec(size_px=32, train=train, val=val, test=test), workers=1)


def write_lists(folder: Path, **lists: Sequence[str]) -> None:
    """Write the lists of a split."""
    folder.mkdir(exist_ok=True)
    for name, keys in lists.items():
        (folder / f"{name}.json").write_text(json.dumps(keys))
