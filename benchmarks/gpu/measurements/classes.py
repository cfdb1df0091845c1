"""Forgetting a class of CIFAR-10 by the layer attack, beside a training that never saw it.

The laboratory's own jobs, with every image that there is, the paper's batch of 128, in bf16.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from benchmarks.gpu.bench import Bench
from launcher.api import Job
from trueface.jobs.classes import classification, forgetting
from trueface.predictions.npz_tables import read_npz
from trueface.runtime import paths
from trueface.unlearning.record import Record, read

GOAL = 100  # times as fast as retraining
EPOCHS = {"resnet18": 15, "resnet50": 8}
LEAST_S = 40.0  # for another network
NAMES = ("airplane", "automobile", "bird")
DATA = "cifar10:all"


def measure(bench: Bench) -> None:
    """Train, retrain without the class, and unlearn the class, for each network."""
    images = bench.data("cifar10")
    if images is None or bench.rehearsal:
        images = _squares(bench.path)
    for model, epochs in EPOCHS.items():
        if bench.rehearsal and model != "resnet18":
            continue
        if bench.left_s < LEAST_S:
            bench.row(model, None, note="not measured: no time was left")
            continue
        _network(bench, model, images, bench.size(epochs, 1))


def _network(bench: Bench, model: str, images: Path, epochs: int) -> None:
    settings: dict[str, Any] = {
        "model": model, "data_root": str(images.resolve()), "num_epochs": epochs, "seed": 1,
        "precision": "fp32" if bench.rehearsal else "bf16",
    }  # fmt: skip
    if bench.rehearsal:
        settings |= {"stem": "large", "batch_size": 8}
    made: Mapping[str, Any] = classification.classify(_job(bench, "classify", DATA, settings))
    accuracy = f"test accuracy {100 * made['accuracy']:.1f} %"
    bench.row(
        f"{model}: training", made["images_per_s"], "images/s",
        note=f"{made['images']} images, {epochs} epochs, {accuracy}",
    )  # fmt: skip
    retrained = _forgotten(bench, "retrain", settings)
    first = _forgotten(bench, "lau", settings)  # libraries load their kernels in it
    bench.row(f"{model}: layer attack, first in its process", first.seconds, "s")
    attacked = _forgotten(bench, "lau", settings)
    bench.row(f"{model}: layer attack, second in its process", attacked.seconds, "s")
    ratio = retrained.seconds / attacked.seconds
    bench.row(
        f"{model}: retraining / layer attack", ratio, "times",
        goal=GOAL, retraining_s=retrained.seconds, attack_s=attacked.seconds,
        note=f"images read: {attacked.samples_read} against {retrained.samples_read}",
    )  # fmt: skip
    before, after = _tests(bench, "retrain", settings), _tests(bench, "lau", settings)
    bench.row(f"{model}: test accuracy on the nine classes", after[0], "%", retraining=before[0])
    bench.row(f"{model}: … on the forgotten one", after[1], "%", retraining=before[1])


def _forgotten(bench: Bench, method: str, settings: Mapping[str, Any]) -> Record:
    """Forget the first class by a method; return what it took."""
    model = f"{DATA}~{method}"
    # the time to learn it again does not depend on the card, and is longer than the method's
    job = _job(bench, "forget", model, {**settings, "method": method, "afterwards": False}, DATA)
    forgetting.forget(job)
    record = read(job.model_folder(model))
    if record is None:
        raise FileNotFoundError(paths.unlearning(job.model_folder(model)))
    return record


def _tests(bench: Bench, method: str, settings: Mapping[str, Any]) -> tuple[float, float]:
    """Return test accuracy on the classes that stay, and on the one that goes, in percent."""
    folder = _job(bench, "forget", DATA, settings).model_folder(f"{DATA}~{method}")
    answers = read_npz(paths.predictions_after(folder))["test"]
    correct = answers.predicted_classes == answers.labels
    gone = answers.labels == 0
    return 100 * float(correct[~gone].mean()), 100 * float(correct[gone].mean())


def _job(
    bench: Bench, kind: str, model: str, settings: Mapping[str, Any], base: str | None = None
) -> Job:
    return Job(
        name=f"{kind}/{model}", kind=kind, run="classes", run_folder=bench.path / settings["model"],
        folder=bench.path, attempt_folder=bench.path, attempt=1, device=bench.device,
        cpus=bench.cores, model=model, base=base, data=DATA, settings=settings,
    )  # fmt: skip


def _squares(folder: Path) -> Path:
    """Write a few small images of three classes, for a rehearsal."""
    place, rng = folder / "images", np.random.default_rng(1)
    for part in ("train", "test"):
        for number, name in enumerate(NAMES):
            (place / part / name).mkdir(parents=True)
            for image in range(8):
                pixels = rng.integers(0, 255, (32, 32, 3), np.uint8) // 2
                pixels[..., number] += 100
                file = place / part / name / f"{image}.png"
                PIL.Image.fromarray(pixels).save(file)
    return place
