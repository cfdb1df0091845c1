"""Unlearning of flipped labels, measured: synthetic images, a small detector, several seeds.

Every model is made by the laboratory's own job functions, so that what is timed is what a person
gets. Two protocols:

    full     slim18 learns all its weights
    frozen   its last layer alone learns, on a body that was trained on other synthetic images (of
             another seed) with sound labels
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.api import Job, Json
from trueface.data.made.sample import SampleSpec, make_sample
from trueface.evaluation.metrics.probability import ECE
from trueface.evaluation.weighted_scores import WeightedScores
from trueface.jobs import poisoning, unlearning
from trueface.jobs import training as training_job
from trueface.predictions.npz_tables import read_npz
from trueface.predictions.predictions import Predictions
from trueface.runtime import paths
from trueface.unlearning.record import Record, read

DATA = "all:pre"
# of tasks/poison_sample.yaml
RECIPE: Mapping[str, Json] = {
    "model": "slim18", "weights": "none", "batch_size": 32, "resize_size": 48, "num_epochs": 40,
    "lr": 0.003, "optimizer": "adamw", "weight_decay": 0.01, "schedule": "onecycle",
    "select": "last",
}  # fmt: skip
# the last layer's training as the original's: ten epochs, each image mirrored at random
FROZEN: Mapping[str, Json] = {"freeze": True, "num_epochs": 10}
OTHER_SEED = 77  # seed of the images on which the frozen body learned


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One unlearned model and its predictions."""

    record: Record
    before: Mapping[str, Predictions]
    after: Mapping[str, Predictions]

    @property
    def test(self) -> float:
        """Accuracy on the test list, in points."""
        return 100 * (self.after["test"].accuracy("true") or 0.0)

    @property
    def ece(self) -> float:
        """Calibration error on the test list, 0 to 1."""
        said = self.after["test"]
        return ECE.value(WeightedScores.from_logits(said.true_labels, said.margin))


class Bench:
    """A folder with images, and the jobs that make models in it."""

    def __init__(self, folder: Path, cpus: int) -> None:
        self.folder, self._cpus = folder, cpus

    def images(self, seed: int) -> str:
        """Return the data root of a synthetic set, which is made where it is not there."""
        root = self.folder / f"images-{seed}"
        if not (root / paths.SAMPLE_MARK).exists():
            make_sample(root, SampleSpec(seed=seed, size_px=128, train=600, val=120, test=300))
        return root.name

    def job(
        self, kind: str, model: str, root: str, settings: Mapping[str, Any], base: str | None = None
    ) -> Job:
        """Return a job of the run."""
        places = {"data_root": root, "split_path": f"{root}/splits"}
        return Job(
            name=f"{kind}/{model}", kind=kind, run="bench", run_folder=self.folder / "runs",
            folder=self.folder, attempt_folder=self.folder, attempt=1, device="cpu",
            cpus=self._cpus, model=model, base=base, data=DATA,
            settings={**places, **settings},
        )  # fmt: skip

    def trained(self, model: str, root: str, settings: Mapping[str, Any]) -> Path:
        """Train a model, with its poison where its name has one; return its folder."""
        if "%" in model:
            poisoning.poison(self.job("poison", model, root, {"poison_per": "subset"}))
        made = self.job("train", model, root, {**RECIPE, **settings})
        training_job.train(made)
        return made.model_folder(model)

    def unlearned(self, model: str, base: str, root: str, settings: Mapping[str, Any]) -> Made:
        """Make a model from its base. Return its record."""
        method = model.rpartition("~")[2].partition("@")[0]
        made = self.job("unlearn", model, root, {**RECIPE, "method": method, **settings}, base)
        unlearning.unlearn(made)
        folder = made.model_folder(model)
        record = read(folder)
        if record is None:
            raise FileNotFoundError(paths.unlearning(folder))
        return Made(
            record=record,
            before=read_npz(paths.predictions_before(folder)),
            after=read_npz(paths.predictions_after(folder)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One method at one rate, over seeds."""

    protocol: str
    rate: int
    method: str
    made: tuple[Made, ...]
    clean: tuple[Made, ...]  # models of the same seeds, trained with the right labels
    retrain: tuple[Made, ...]  # models of the same seeds, trained without the forgotten images

    def cells(self) -> tuple[str, ...]:
        """Return the line as a table shows it."""
        pairs = list(zip(self.made, self.clean, self.retrain, strict=True))
        to_clean = [one.test - clean.test for one, clean, _ in pairs]
        to_retrain = [one.test - again.test for one, _, again in pairs]
        seconds = [100 * one.record.seconds / again.record.seconds for one, _, again in pairs]
        whole = [
            100 * (one.record.seconds + one.record.cached_seconds) / again.record.seconds
            for one, _, again in pairs
        ]
        read_too = [
            100 * one.record.samples_read / max(again.record.samples_read, 1)
            for one, _, again in pairs
        ]
        return (
            f"{self.protocol} {self.rate} %", self.method,
            _spread([one.test for one in self.made]), _spread(to_clean), _spread(to_retrain),
            _spread([100 * one.ece for one in self.made]),
            f"{statistics.median(one.record.seconds for one in self.made):.2f}",
            f"{statistics.median(seconds):.1f}", f"{statistics.median(whole):.1f}",
            f"{statistics.median(read_too):.0f}",
        )  # fmt: skip


HEADER = (
    "flips", "method", "test %", "- clean", "- retrain", "ECE %", "s", "% of retrain's time",
    "with what is cached", "% of its samples",
)  # fmt: skip


def lines(
    bench: Bench,
    protocol: str,
    rate: int,
    seeds: Sequence[int],
    methods: Mapping[str, Mapping[str, Any]],
) -> Iterator[Line]:
    """Yield a line for the poisoned model's references and for each method.

    Args:
        bench: where it is done.
        protocol: full or frozen.
        rate: of the flips, in percent.
        seeds: of trainings and unlearnings.
        methods: and their settings.
    """
    by_method: dict[str, list[Made]] = {}
    for seed in seeds:
        for method, settings in {"retrain": {}, "corrected": {}, **methods}.items():
            made = _made(bench, protocol, rate, seed, method, settings)
            by_method.setdefault(method, []).append(made)
    for method, found in by_method.items():
        yield Line(
            protocol=protocol,
            rate=rate,
            method=method,
            made=tuple(found),
            clean=tuple(by_method["corrected"]),
            retrain=tuple(by_method["retrain"]),
        )


def searched(bench: Bench, protocol: str, seed: int, settings: Mapping[str, Any]) -> Made:
    """Return a model of which half of the wrong labels were known, and the rest looked for."""
    return _made(bench, protocol, 20, seed, "relabel", {"known": 0.5, "find": True, **settings})


def _made(
    bench: Bench, protocol: str, rate: int, seed: int, method: str, settings: Mapping[str, Any]
) -> Made:
    """Return what a method makes of a poisoned model, which is trained where it is not there."""
    root = bench.images(1)
    own = {**_protocol(bench, protocol), "seed": seed, "augment_seed": 1}
    variant = f"seed={seed},protocol={protocol}"
    poisoned = f"{DATA}%{rate}@{variant}"
    if not paths.checkpoint(bench.folder / "runs" / poisoned).exists():
        bench.trained(poisoned, root, own)
    swept = "".join(f",{key}={value}" for key, value in settings.items())
    name = f"{DATA}%{rate}~{method}@{variant}{swept}"
    return bench.unlearned(name, poisoned, root, {**own, "afterwards": False, **settings})


def _protocol(bench: Bench, protocol: str) -> dict[str, Any]:
    if protocol == "full":
        return {}
    root = bench.images(OTHER_SEED)
    model = f"{DATA}@body=1"
    folder = bench.folder / "runs" / model
    if not paths.checkpoint(folder).exists():
        bench.trained(model, root, {"seed": OTHER_SEED})
    return {**FROZEN, "weights": str(paths.checkpoint(folder))}


def _spread(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.1f}"
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"
