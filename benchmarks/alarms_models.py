"""The models of the alarm bench: detectors of the demo with wrong labels, networks that forget a class.

Every model is made by ordinary jobs of trueface, in an ordinary run folder. A folder of an earlier call is
used again.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.unlearning_flips import DATA as FACES
from benchmarks.unlearning_flips import OTHER_SEED, Bench
from launcher.api import Job, JobError, Json
from trueface.jobs.classes import classification as class_jobs
from trueface.jobs.classes import forgetting
from trueface.runtime import paths

OBJECTS = "cifar10:all"
# of tasks/quickstart.yaml
DEMO: Mapping[str, Json] = {"num_epochs": 12}
BUDGET: Mapping[str, Json] = {"unlearn_epochs": 3, "unlearn_lr": 0.01, "batch_size": 16}
MENDING: Mapping[str, Mapping[str, Json]] = {
    "retrain": {},
    "restart": BUDGET,
    "relabel": {"unlearn_epochs": 6},
    "finetune": BUDGET,
}
METHODS: Mapping[str, Mapping[str, Mapping[str, Json]]] = {
    "frozen": {**MENDING, "corrected": {}, "exact": {}, "salun": {"unlearn_epochs": 3}},
    "full": MENDING,
}
# the study of tasks/layer_attack_cpu.yaml, half as many images
STUDY: Mapping[str, Json] = {
    "model": "resnet18", "stem": "large", "images_per_class": 100, "num_epochs": 12, "lr": 0.02,
    "batch_size": 32,
}  # fmt: skip
QUICK: Mapping[str, Json] = {"afterwards": False}  # no probe, no relearning: no alarm looks at them
FORGETTING: Mapping[str, Mapping[str, Json]] = {
    "retrain": {},
    "lau": {},
    "finetune": {"unlearn_epochs": 3, "unlearn_lr": 0.02},
    "restart": {"unlearn_epochs": 9},
    "salun": {"unlearn_epochs": 3},
}
DESTROYING: Mapping[str, Mapping[str, Json]] = {"fisher": {}}


def detectors(
    folder: Path, cpus: int, seeds: Sequence[int], *, protocol: str = "frozen"
) -> Iterator[Path]:
    """Make the demo's detectors, poisoned and unlearned. Yield the run folder after each.

    Args:
        folder: where all is made.
        cpus: threads.
        seeds: of trainings and unlearnings.
        protocol: "frozen" trains only the last layer, on a backbone trained on other images; "full" trains all.
    """
    bench = Bench(folder, cpus)
    root = bench.images(1)
    body = _body(bench) if protocol == "frozen" else {}
    for seed in seeds:
        own = {**DEMO, **body, "seed": seed, "augment_seed": 1}
        variant = f"protocol={protocol},seed={seed}"
        for rate in (20, 50):
            base = f"{FACES}%{rate}@{variant}"
            if not paths.checkpoint(folder / "runs" / base).exists():
                bench.trained(base, root, own)
            for method, settings in METHODS[protocol].items():
                model = f"{FACES}%{rate}~{method}@{variant}"
                if not paths.predictions_after(folder / "runs" / model).exists():
                    _tried(bench, model, base, root, {**own, **QUICK, **settings})
                yield folder / "runs"


def _body(bench: Bench) -> Mapping[str, Json]:
    """Return the settings of a training of the last layer, whose body is trained where need be."""
    root, model = bench.images(OTHER_SEED), f"{FACES}@body=1"
    folder = bench.folder / "runs" / model
    if not paths.checkpoint(folder).exists():
        bench.trained(model, root, {**DEMO, "seed": OTHER_SEED})
    return {"freeze": True, "flip_prob": 0, "weights": str(paths.checkpoint(folder))}


def networks(folder: Path, images: Path, seeds: Sequence[int]) -> Iterator[Path]:
    """Make networks that forget a class of CIFAR-10; yield the run's folder after each."""
    for seed in seeds:
        places = {**STUDY, "data_root": str(images.resolve()), "seed": seed}
        base = f"{OBJECTS}@seed={seed}"
        made = _job(folder, "classify", base, places)
        if not paths.checkpoint(made.model_folder(base)).exists():
            class_jobs.classify(made)
        for method, settings in {**FORGETTING, **DESTROYING}.items():
            model = f"{OBJECTS}~{method}@seed={seed}"
            job = _job(
                folder, "forget", model, {**places, "method": method, **QUICK, **settings}, base
            )
            if not paths.predictions_after(job.model_folder(model)).exists():
                forgetting.forget(job)
            yield folder / "classes"


def _tried(bench: Bench, model: str, base: str, root: str, settings: Mapping[str, Any]) -> None:
    try:
        bench.unlearned(model, base, root, settings)
    except JobError as error:  # training stops at a loss that is not finite
        print(f"{model}: refused by the job: {error}", flush=True)


def _job(
    folder: Path, kind: str, model: str, settings: Mapping[str, Any], base: str | None = None
) -> Job:
    return Job(
        name=f"{kind}/{model}", kind=kind, run="classes", run_folder=folder / "classes",
        folder=folder, attempt_folder=folder, attempt=1, device="cpu", cpus=1, model=model,
        base=base, data=OBJECTS, settings=settings,
    )  # fmt: skip
