"""Class unlearning, measured: a class of a few CIFAR-10 images, by the laboratory's own jobs."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher.api import Job, Json
from trueface.jobs.classes import classification, forgetting
from trueface.predictions.npz_tables import read_npz
from trueface.runtime import paths
from trueface.unlearning.record import Record, read

DATA = "cifar10:all"
# of tasks/layer_attack_cpu.yaml
RECIPE: Mapping[str, Json] = {
    "model": "resnet18", "stem": "large", "images_per_class": 200, "num_epochs": 12, "lr": 0.02,
    "batch_size": 64,
}  # fmt: skip
METHODS: Mapping[str, Mapping[str, Any]] = {
    "retrain": {},
    "lau": {},
    "finetune": {"unlearn_epochs": 3, "unlearn_lr": 0.02},
    "salun": {},
    "ssd": {},
}
HEADER = (
    "class unlearning", "seed", "D_tr %", "D_tf %", "- retrain", "probe %", "relearn steps", "s",
    "retrain's time / its", "samples read",
)  # fmt: skip


def class_lines(folder: Path, images: Path, seeds: Sequence[int]) -> Iterator[Sequence[str]]:
    """Yield the table: methods by seed, each beside the retrained model of the same seed."""
    yield HEADER
    for seed in seeds:
        places = {**RECIPE, "data_root": str(images.resolve()), "seed": seed}
        base = f"{DATA}@seed={seed}"
        made = _job(folder, "classify", base, places)
        if not paths.checkpoint(made.model_folder(base)).exists():
            classification.classify(made)
        retrained: tuple[Record, float] | None = None
        for method, settings in METHODS.items():
            model = f"{DATA}~{method}@seed={seed}"
            job = _job(folder, "forget", model, {**places, "method": method, **settings}, base)
            forgetting.forget(job)
            told = read(job.model_folder(model))
            if told is None:
                raise FileNotFoundError(paths.unlearning(job.model_folder(model)))
            kept, gone = _tests(job.model_folder(model), told)
            retrained = retrained or (told, kept)
            steps = told.relearn.steps if told.relearn else None
            yield (
                method, f"{seed}", f"{kept:.1f}", f"{gone:.1f}", f"{kept - retrained[1]:+.1f}",
                "–" if told.probe is None else f"{100 * told.probe.after:.1f}",
                f"{steps}", f"{told.seconds:.2f}", f"{retrained[0].seconds / told.seconds:.0f}",
                f"{told.samples_read}",
            )  # fmt: skip


def _tests(folder: Path, told: Record) -> tuple[float, float]:
    """Return test accuracy on classes that stay, and on the one that goes, in points."""
    said = read_npz(paths.predictions_after(folder))["test"]
    gone = said.labels == told.forgotten[0]
    right = said.predicted_classes == said.labels
    return 100 * float(right[~gone].mean()), 100 * float(right[gone].mean())


def _job(
    folder: Path, kind: str, model: str, settings: Mapping[str, Any], base: str | None = None
) -> Job:
    return Job(
        name=f"{kind}/{model}", kind=kind, run="classes", run_folder=folder / "runs", folder=folder,
        attempt_folder=folder, attempt=1, device="cpu", cpus=2, model=model, base=base, data=DATA,
        settings=settings,
    )  # fmt: skip
