"""Cost of training in several qualities: a step's collaboration, and an epoch of M qualities.

    collab     a step with the dependence of features added, compared with the same step without
    epoch      an epoch in M qualities, compared with M epochs in one

Both alternate with their reference, and the medians are compared.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import PIL.Image
import torch

from benchmarks.table import Row, machine, publish
from trueface.data.batch import Batch
from trueface.data.index import Image
from trueface.data.loading.image_loaders import eval_loader, train_loader
from trueface.data.quality_feed import COLUMN
from trueface.models.detectors import Detector, build_detector
from trueface.runtime.progress import RunContext
from trueface.training.collaboration import CollaborationObjective
from trueface.training.layer_weights import read_layers
from trueface.training.objectives.protocol import Objective
from trueface.training.objectives.registry import make_objective
from trueface.training.parts.qualities import rows_of, with_qualities_of
from trueface.training.quality_settings import LAYERS, CollaborationOptions
from trueface.training.settings import TrainSettings
from trueface.training.trainer import fit

QUALITIES = ("raw", "jpeg75", "half+jpeg30")
MOST_SHARE, MOST_EPOCH = 1.05, 1.05
IMAGE_SIDE = 128  # side of the files of an epoch


def steps(model: Detector, objective: Objective, batch: Batch) -> Iterator[None]:
    """Take a step each time that it is asked for one."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    while True:
        optimizer.zero_grad()
        loss, _ = objective.training_step(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        optimizer.step()
        yield


def collab(rounds: int, items: int, side: int) -> Row:
    """Measure what the collaboration of three qualities adds to a step of a ResNet-50."""
    rng = torch.Generator().manual_seed(0)
    count = len(QUALITIES)
    pixels = torch.randint(0, 256, (count * items, 3, side, side), generator=rng)
    batch = Batch(
        pixels.to(torch.uint8),
        (torch.arange(items) % 2).float().repeat(count)[:, None],
        torch.arange(items).repeat(count),
        {COLUMN: torch.arange(count).repeat_interleave(items)},
    )
    options = CollaborationOptions(
        weight=0.05, form="normalised", width="median", layers=read_layers(LAYERS), qualities=count
    )
    bce = make_objective("bce")
    ways = [bce, CollaborationObjective(bce, options)]
    running = [
        steps(build_detector("baseline", weights="none", seed=1).train(), way, batch)
        for way in ways
    ]
    plain, added = _alternating([partial(next, each) for each in running], rounds)
    what = (
        f"a step of ResNet-50 with collab, {items} images of {side} pixels in {count} qualities, ms"
    )
    return _row(what, added, plain, "without", MOST_SHARE)


def epoch(rounds: int, images: int) -> Row:
    """Measure an epoch of slim18 in three qualities beside three epochs in one."""
    with tempfile.TemporaryDirectory() as folder:
        listed = _written(Path(folder), images)
        ways = [_training(listed, names) for names in (QUALITIES[:1], QUALITIES)]
        single, several = _alternating(ways, rounds)
    times = len(QUALITIES)
    what = f"an epoch of slim18 in {times} qualities, {images} images of {IMAGE_SIDE} pixels, ms"
    return _row(what, several, times * single, f"{times} × one quality", MOST_EPOCH)


def _training(images: Sequence[Image], names: Sequence[str]) -> Callable[[], object]:
    given: dict[str, Any] = {
        "data_root": "", "split_path": "", "model": "slim18", "weights": "none", "num_epochs": 1,
        "resize_size": 112, "batch_size": 32, "qualities": ",".join(names),
    }  # fmt: skip
    settings = TrainSettings.model_validate(given)
    model = build_detector("slim18", weights="none", seed=1)
    few = images[: len(images) // 16]

    def train() -> object:
        training = with_qualities_of(train_loader(images, settings), settings, Path)
        feed = rows_of(training, settings)
        return fit(model, feed, eval_loader(few, settings), settings.trainer, watch=RunContext())

    return train


def _written(folder: Path, count: int) -> list[Image]:
    rng = np.random.default_rng(0)
    listed = []
    for number in range(count):
        small = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        path = folder / f"{number:05}.jpg"
        PIL.Image.fromarray(small).resize((IMAGE_SIDE, IMAGE_SIDE)).save(path, quality=95)
        listed.append(Image(str(path), f"A/{number:05}", number % 2, "A", "pre"))
    return listed


def _alternating(ways: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Return the median seconds of each way; the first round of all does not count."""
    seconds: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds + 1):
        for way, known in zip(ways, seconds, strict=True):
            began = time.perf_counter()
            way()
            known.append(time.perf_counter() - began)
    return [median(each[1:]) for each in seconds]


def _row(what: str, ours: float, peer: float, name: str, most: float) -> Row:
    return Row(
        what=what, ours=1000 * ours, peers={name: 1000 * peer}, beside=name, target=f"≤ {most:g} ×",
        as_ratio=True,
    )  # fmt: skip


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(["collab", "epoch"]))
@click.option("--rounds", type=click.IntRange(min=1), default=9, show_default=True)
@click.option("--items", type=click.IntRange(min=4), default=32, show_default=True)
@click.option("--side", type=click.IntRange(min=32), default=112, show_default=True)
@click.option("--images", type=click.IntRange(min=32), default=512, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
def main(
    parts: Sequence[str], rounds: int, items: int, side: int, images: int, threads: int
) -> None:
    """Print what qualities cost; all PARTS when none is named."""
    torch.set_num_threads(threads)
    rows = []
    if not parts or "collab" in parts:
        rows.append(collab(rounds, items, side))
    if not parts or "epoch" in parts:
        rows.append(epoch(rounds, images))
    print(f"{machine()}, torch {torch.__version__}", file=sys.stderr)
    publish(rows, "lab")


if __name__ == "__main__":
    main()
