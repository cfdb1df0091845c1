"""Two ways to run the same study: ours, and the original's. See `benchmarks.study`."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product, starmap
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from scipy.stats import binomtest

from trueface.data.index import Image
from trueface.data.splits.split_files import NAMES, load_split, split_images
from trueface.data.vocabulary import BUILT_IN
from trueface.poisoning.poison_record import flipped_labels, read_record
from trueface.runtime import paths
from trueface.runtime.ids import model_folder_name, parse_data
from trueface.runtime.rng import stream_seed

BIN = Path(sys.executable).parent
RUN, DATA = "study", "all:pre"
AT_ONCE = 2  # jobs, of a core each
DEADLINE_S = 3600.0
CONFIDENCE = 0.95
SEEDS = (1, 2)
RATES = (0, 20, 50)  # % of the labels flipped
EPOCHS, FURTHER_EPOCHS, FURTHER_LR = 10, 3, 0.003
SETTINGS: dict[str, Any] = {
    "augment_seed": 1, "model": "mobilenet", "normalization": "half", "freeze": True,
    "batch_size": 32, "num_epochs": EPOCHS, "lr": 0.003, "optimizer": "adamw", "weight_decay": 0.1,
    "schedule": "onecycle", "select": "last",
    # the original's augmentation
    "resize_size": 112, "resize_prob": 0.2, "resize_scale": [0.2, 1], "resize_ratio": [0.75, 1.33],
    "jpeg_prob": 0.2, "jpeg_qual": [30, 100], "blur_prob": 0.2, "blur_sigma": [0.1, 3],
    "flip_prob": 0, "patch_size": -1,
}  # fmt: skip
CPU = {"cpus": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """An unlearning that is a training."""

    name: str
    anew: bool  # from the weights that the training began with; else from the poisoned model
    corrected: bool  # on all images with their true labels; else on those that were not flipped


METHODS = (
    Method(name="retrain", anew=True, corrected=False),
    Method(name="corrected", anew=True, corrected=True),
    Method(name="finetune", anew=False, corrected=False),
    Method(name="relabel", anew=False, corrected=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """How much of a test list a model classified correctly."""

    value: float
    n: int  # images

    def interval(self) -> tuple[float, float]:
        """Return Wilson's interval."""
        result = binomtest(round(self.value * self.n), self.n)
        low, high = result.proportion_ci(CONFIDENCE, method="wilson")
        return float(low), float(high)

    def agrees(self, other: "Accuracy") -> bool:
        """Return whether each accuracy lies inside the other's interval."""
        pairs = ((self, other.interval()), (other, self.interval()))
        return all(low <= each.value <= high for each, (low, high) in pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A study that was run."""

    seconds: float
    accuracies: Mapping[str, Accuracy]  # by model


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Where the images of a study lie, and the weights that it starts from."""

    root: Path
    splits: Path
    weights: str

    def task(self) -> dict[str, Any]:
        """Return the task file of the study."""
        anew = [method.name for method in METHODS if method.anew]
        further = [method.name for method in METHODS if not method.anew]
        shorter = {"unlearn_epochs": FURTHER_EPOCHS, "unlearn_lr": FURTHER_LR}
        return {
            "name": RUN,
            "defaults": {
                "data_root": str(self.root), "split_path": str(self.splits), **SETTINGS,
                "weights": self.weights, "poison": {"poison_per": "subset"},
                "test": {"batch_size": SETTINGS["batch_size"]},
            },
            "matrix": {"seed": list(SEEDS)},
            "resources": {"train": CPU, "unlearn": CPU, "test": CPU, "features": {"cpus": AT_ONCE}},
            "train": [{"model": None, "data": DATA, "poison": list(RATES)}],
            "unlearn": [
                {"model": "poisoned", "method": anew},
                {"model": "poisoned", "method": further, **shorter},
            ],
            "autotest": [DATA],
        }  # fmt: skip


class Source(NamedTuple):
    """A training: its seed, and how many of its labels are flipped."""

    seed: int
    rate: int  # %

    def model(self, method: Method | None = None) -> str:
        """Return the ID of its model, or of the model that a method makes from it."""
        poison = f"%{self.rate}" if self.rate else ""
        unlearned = f"~{method.name}" if method else ""
        return f"{DATA}{poison}{unlearned}@seed={self.seed}"


Example = tuple[str, str, str, int, int]  # file, key, method, true label, learned label


def run_ours(folder: Path, material: Material, *options: str) -> Study:
    """Run the study as a person does, in an empty home and with an empty cache.

    The time is that of the command, the start of scheduler and fork server included.
    """
    (folder / "claims").mkdir(parents=True)
    task = folder / "study.yaml"
    task.write_text(yaml.safe_dump(material.task(), sort_keys=False), encoding="utf-8")
    environment = {
        **os.environ,
        "LAUNCHER_HOME": str(folder / "home"),
        "LAUNCHER_CLAIMS": str(folder / "claims"),
        "LAUNCHER_CONFIG": os.devnull,
        "TRUEFACE_CACHE": str(folder / "cache"),
    }

    def launcher(*words: str) -> bytes:
        return subprocess.run(
            [BIN / "launcher", *words],
            env=environment, cwd=folder, stdout=subprocess.PIPE, check=True, timeout=DEADLINE_S,
        ).stdout  # fmt: skip

    began = time.perf_counter()
    try:
        launcher("run", str(task), *options)
        seconds = time.perf_counter() - began
        table = json.loads(launcher("results", RUN, "--all", "--json"))
    finally:
        launcher("stop", "--now")
    accuracies = {
        row["model"]: Accuracy(value=row["accuracy"]["value"], n=row["n"]) for row in table["rows"]
    }
    return Study(seconds=seconds, accuracies=accuracies)


def run_original(folder: Path, material: Material, run_folder: Path) -> Study:
    """Run the study in the original's way.

    Args:
        folder: Output folder.
        material: the same images and weights.
        run_folder: of our run, whose flipped labels are taken.
    """
    folder.mkdir()
    original = _Original(folder, material, run_folder)
    began = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        models = dict(original.models(pool))
        tests = {name: pool.submit(original.test, name, model) for name, model in models.items()}
        accuracies = {name: test.result() for name, test in tests.items()}
    return Study(seconds=time.perf_counter() - began, accuracies=accuracies)


class _Original:
    """The jobs of the original's way; each is a process."""

    def __init__(self, folder: Path, material: Material, run_folder: Path) -> None:
        self._folder, self._run_folder = folder, run_folder
        self._settings = {**SETTINGS, "weights": material.weights}
        data = BUILT_IN.training_data_id(parse_data(DATA))
        self._images = {
            name: split_images(material.root, data, load_split(material.splits, name))
            for name in NAMES
        }

    def models(self, pool: ThreadPoolExecutor) -> Iterator[tuple[str, "Future[Path]"]]:
        """Start all trainings, those first that others wait for; yield them by model."""
        poisoned = {
            source: pool.submit(self.train, source, None, None)
            for source in starmap(Source, product(SEEDS, RATES))
        }
        yield from ((source.model(), weights) for source, weights in poisoned.items())
        for method in sorted(METHODS, key=lambda method: not method.anew):
            for source, weights in poisoned.items():
                if source.rate:
                    start = None if method.anew else weights
                    unlearned = pool.submit(self.train, source, method, start)
                    yield source.model(method), unlearned

    def train(self, source: Source, method: Method | None, start: "Future[Path] | None") -> Path:
        """Train a model, or what unlearns its labels; return the weights."""
        name = source.model(method)
        weights = self._folder / f"{name}.pt"
        self._process(
            name,
            source.seed,
            {
                "kind": "train", "train": self._learned(source, method),
                "val": _labelled(self._images["val"]), "order_seed": stream_seed("order", source.seed),
                "epochs": EPOCHS if start is None else FURTHER_EPOCHS,
                "lr": SETTINGS["lr"] if start is None else FURTHER_LR,
                "start": None if start is None else str(start.result()), "weights": str(weights),
            },
        )  # fmt: skip
        return weights

    def test(self, name: str, model: "Future[Path]") -> Accuracy:
        """Score a model on the test list."""
        test = _labelled(self._images["test"])
        job = {"kind": "test", "test": test, "start": str(model.result())}
        result = self._process(f"{name}.test", SEEDS[0], job)
        return Accuracy(value=result["accuracy"], n=result["n"])

    def _process(self, name: str, seed: int, job: Mapping[str, Any]) -> Any:
        file, settings = self._folder / f"{name}.json", {**self._settings, "seed": seed}
        file.write_text(json.dumps({**job, "settings": settings}), encoding="utf-8")
        made = subprocess.run(
            [sys.executable, "-m", "benchmarks.study_original", file],
            env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, check=True,
            timeout=DEADLINE_S, cwd=Path(__file__).parents[1],
        )  # fmt: skip
        return json.loads(made.stdout)

    def _learned(self, source: Source, method: Method | None) -> list[Example]:
        """Return the training images with flipped labels, true ones, or without those flipped.

        Their order is that of ours, which lists what is relabelled before what is kept.
        """
        images = self._images["train"]
        if not source.rate:
            return _labelled(images)
        record = paths.poison_record(self._run_folder / model_folder_name(source.model()))
        labels = flipped_labels(images, read_record(record))
        if method is None:
            return _labelled(images, labels)
        pairs = list(zip(images, labels, strict=True))
        kept = [image for image, label in pairs if label == image.label]
        relabelled = [image for image, label in pairs if label != image.label]
        return _labelled(relabelled + kept if method.corrected else kept)


def _labelled(images: Sequence[Image], labels: Sequence[int] | None = None) -> list[Example]:
    """Return images with the labels that are learned; by default the true ones."""
    learned = [image.label for image in images] if labels is None else labels
    return [
        (image.file, image.key, image.method, image.label, label)
        for image, label in zip(images, learned, strict=True)
    ]
