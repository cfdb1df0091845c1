"""What a model's weights were made of and with: written into the checkpoint, and beside it as JSON."""

import hashlib
import io
import os
import zipfile
from functools import lru_cache
from pathlib import Path

import torch

import trueface
from launcher.api import Job
from trueface.data.dataset import ImageSet
from trueface.data.image_sizes import Learned
from trueface.models import checkpoint, detectors, pretrained
from trueface.poisoning import label_flips as poisoning
from trueface.runtime import paths
from trueface.runtime.files import Json, write_atomic
from trueface.training import job_data as images_of
from trueface.training.job_data import Lists
from trueface.training.settings import LearningSettings

FOLDER = "code"  # in the run's folder
EPOCH = (
    1980,
    1,
    1,
    0,
    0,
    0,
)  # the earliest time that an archive can hold: its bytes depend on code alone


def keep(run_folder: Path) -> str:
    """Keep the code of this package in a run's folder; return the SHA-256 of the archive."""
    archive, digest = _archive(PACKAGE)
    path = run_folder / FOLDER / f"{digest[:16]}.zip"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, archive)
    return digest


@lru_cache(maxsize=1)  # what is imported does not change while a process runs
def _archive(package: Path) -> tuple[bytes, str]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(package.rglob("*.py")):
            name = f"{package.name}/{file.relative_to(package).as_posix()}"
            archive.writestr(zipfile.ZipInfo(name, EPOCH), file.read_bytes(), zipfile.ZIP_DEFLATED)
    content = buffer.getvalue()
    return content, hashlib.sha256(content).hexdigest()


PACKAGE = Path(trueface.__file__).parent


def of_learning(
    job: Job, settings: LearningSettings, lists: Lists, poisoned_by: Path | None
) -> dict[str, Json]:
    """Return all that determines the weights of a training or unlearning, and what makes them.

    Args:
        job: which model, from which base.
        settings: checked.
        lists: the images.
        poisoned_by: the poison record, if there is one.
    """
    return {
        "job": job.name,
        "model": job.model,
        "base": job.base,
        "images": str(images_of.images(job)),
        "settings": settings.model_dump(mode="json"),
        "seed": settings.seed,
        "device": job.device,
        "device_name": _device_name(job.device),
        "threads": job.cpus,
        "versions": checkpoint.versions(),
        "git": checkpoint.git_commit(PACKAGE),
        "code": keep(job.run_folder),
        "data_root": str(job.path(settings.data_root)),
        "split_path": str(job.path(settings.split_path)),
        "splits": {split.name: split.sha256 for split in lists.splits},
        "train_images": len(lists.train),
        "val_images": len(lists.val),
        "train_images_sha256": poisoning.fingerprint(lists.train),
        "val_images_sha256": poisoning.fingerprint(lists.val),
        "poison_record_sha256": None if poisoned_by is None else file_sha256(poisoned_by),
        "image_sizes": _sizes(lists),
    }


def of_labels(training: ImageSet, validation: ImageSet) -> dict[str, Json]:
    """Return how many labels of both sets differ from the truth."""
    return {"flipped_train": _flipped(training), "flipped_val": _flipped(validation)}


def of_start(
    job: Job, settings: LearningSettings, origin: str | None, *, optimizer: bool = False
) -> dict[str, Json]:
    """Return what a training starts from, with checksums.

    Args:
        job: the training.
        settings: of it.
        origin: the model whose weights it starts from; None: pretrained ones, or random ones.
        optimizer: it goes on with that model's moments of the gradient, too.
    """
    facts: dict[str, Json] = {"started_from": origin, "weights_sha256": None, "start_sha256": None}
    if origin is None:
        facts["weights_sha256"] = facts["start_sha256"] = _weights_sha256(job, settings)
    elif origin != job.model:  # its own weights are those that the training is about to replace
        folder = job.model_folder(origin)
        facts["start_sha256"] = file_sha256(paths.checkpoint(folder))
        if optimizer:
            facts["optimizer_sha256"] = file_sha256(paths.optimizer(folder))
    return facts


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _weights_sha256(job: Job, settings: LearningSettings) -> str | None:
    chosen = pretrained.chosen_weights(settings.weights, os.environ)
    if chosen not in {"default", "none"}:
        chosen = str(job.path(chosen))
    return detectors.weights_sha256(settings.model, chosen)


def _flipped(images: ImageSet) -> int:
    pairs = zip(images.images, images.labels, strict=True)
    return sum(image.label != label for image, label in pairs)


def _sizes(lists: Lists) -> Json:
    learned = Learned.of([image.file for image in lists.train])
    return None if learned is None else learned.as_json()


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(torch.device(device))
    return torch.backends.cpu.get_cpu_capability()
