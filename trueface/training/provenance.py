"""What a model's weights are made of and with: where a training starts, and what is written of it.

It is written into the checkpoint, and beside it as JSON.
"""

import hashlib
import io
import os
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

import trueface
from trueface.data.dataset import ImageSet
from trueface.data.image_headers import Learned
from trueface.data.index import Image
from trueface.models import assembly, checkpoint, detectors
from trueface.models.detectors import Classifier, Detector
from trueface.poisoning.poison_record import fingerprint
from trueface.prediction.image_formats import LearnedFormats
from trueface.runtime import paths
from trueface.runtime.errors import JobError
from trueface.runtime.files import Json, file_sha256, read_json, write_atomic
from trueface.training import checkpointing
from trueface.training.image_lists import DataPlace, TrainingLists
from trueface.training.settings import LearningSettings, TrainSettings

OWN_WEIGHTS = ("default", "none")  # others are files
FOLDER = "code"  # in the run's folder
# the earliest time that an archive can hold: its bytes depend on code alone
EPOCH = (1980, 1, 1, 0, 0, 0)
PACKAGE = Path(trueface.__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a training starts from."""

    model: str | None  # ID of the model whose weights it takes; None: a new one
    folder: Path | None  # of that model
    weights: str  # of a new one: default, none, or the absolute path of a state dict
    own: bool = False  # they are the earlier weights of the model that it makes

    @classmethod
    def of(
        cls,
        settings: LearningSettings,
        base: str | None,
        *,
        path: Callable[[str], Path],
        model_folder: Callable[[str], Path],
    ) -> "Start":
        """Return the start from a base, or anew; the functions give absolute paths."""
        weights = assembly.chosen_weights(settings.weights, os.environ)
        return cls(
            model=base,
            folder=None if base is None else model_folder(base),
            weights=weights if weights in OWN_WEIGHTS else str(path(weights)),
        )


def load_start(start: Start, settings: LearningSettings, device: str) -> Detector:
    """Return the model that a training starts from, on a device.

    Raises:
        CheckpointError: the base cannot be read, or is of another architecture.
        WeightsError: pretrained weights cannot be had.
    """
    if start.folder is None:
        model = detectors.build(
            settings.model,
            weights=start.weights,
            seed=settings.seed,
            dropout=settings.dropout,
            normalization=settings.normalization,
            channels_last=settings.channels_last,
            nodown=settings.nodown,
            side=settings.patch_size if settings.patch_size > 0 else settings.resize_size,
        )
        return model.to(device)
    path = paths.checkpoint(start.folder)
    base = checkpoint.load(path)
    checkpoint.refuse_other_decoding(base, settings)
    checkpoint.refuse_other_normalization(base, settings.normalization)
    checkpoint.refuse_other_resolution(base, nodown=settings.nodown)
    model = checkpoint.revive(
        base,
        path,
        arch=settings.model,
        dropout=settings.dropout,
        channels_last=settings.channels_last,
    )
    return model.to(device)


def load_optimizer_state(
    start: Start, settings: TrainSettings
) -> checkpointing.OptimizerState | None:
    """Return the state of the optimizer that made the weights of a start; None: a fresh one.

    Raises:
        JobError: there is nothing to start from.
        CheckpointError: the base's state is not there, or cannot be read.
    """
    if settings.optimizer_state == "fresh":
        return None
    if start.folder is None:
        raise JobError("optimizer_state: kept needs a model to start from, and there is none")
    path = paths.optimizer(start.folder)
    if start.own and not path.exists():  # an earlier run did not keep its own
        return None
    return checkpointing.load_optimizer(path).state


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOrigin:
    """Which job makes a model, and what it is computed with."""

    job: str  # its name
    model: str | None
    base: str | None
    images: str  # data ID, as the provenance shows it
    device: str
    threads: int
    folder: Path  # of the run, where the code is kept


def keep(run_folder: Path) -> str:
    """Keep the code of this package in a run's folder; return the SHA-256 of the archive."""
    archive, digest = _archive(PACKAGE)
    path = run_folder / FOLDER / f"{digest[:16]}.zip"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, archive)
    return digest


def of_learning(
    run: ModelOrigin,
    settings: LearningSettings,
    place: DataPlace,
    lists: TrainingLists,
) -> dict[str, Json]:
    """Return all that determines the weights of a training or unlearning, and what makes them.

    Args:
        run: which model, from which base.
        settings: checked.
        place: where the images lie.
        lists: the images.
    """
    return {
        "job": run.job,
        "model": run.model,
        "base": run.base,
        "images": run.images,
        "settings": settings.model_dump(mode="json"),
        "seed": settings.seed,
        "device": run.device,
        "device_name": _device_name(run.device),
        "threads": run.threads,
        "versions": checkpoint.versions(),
        "git": checkpoint.git_commit(PACKAGE),
        "code": keep(run.folder),
        "data_root": str(place.data_root),
        "split_path": str(place.split_path),
        "splits": {split.name: split.sha256 for split in lists.splits},
        "train_images": len(lists.train),
        "val_images": len(lists.val),
        "train_images_sha256": fingerprint(lists.train),
        "val_images_sha256": fingerprint(lists.val),
        "image_sizes": _sizes(lists),
        "image_formats": _formats(lists),
        "train_sources": _sources(lists.train),
        "val_sources": _sources(lists.val),
    }


def of_attributes(files: Sequence[Path]) -> dict[str, Json]:
    """Return a digest of each table of attributes, in the order of the setting; {} without any."""
    return {"attributes_sha256": [file_sha256(file) for file in files]} if files else {}


def of_labels(training: ImageSet, validation: ImageSet) -> dict[str, Json]:
    """Return how many labels of both sets differ from the truth."""
    return {"flipped_train": _flipped(training), "flipped_val": _flipped(validation)}


def of_start(
    start: Start, settings: LearningSettings, *, optimizer: bool = False
) -> dict[str, Json]:
    """Return what a training starts from, with checksums.

    Args:
        start: the model whose weights it starts from, or the weights of a new one.
        settings: of the training.
        optimizer: it goes on with the state of that model's optimizer, too.
    """
    facts: dict[str, Json] = {
        "started_from": start.model, "weights_sha256": None, "start_sha256": None,
    }  # fmt: skip
    if start.folder is None:
        sha256 = assembly.weights_sha256(settings.model, start.weights)
        facts["weights_sha256"] = facts["start_sha256"] = sha256
    elif not start.own:  # its own weights are those that the training is about to replace
        facts["start_sha256"] = file_sha256(paths.checkpoint(start.folder))
        if optimizer:
            facts["optimizer_sha256"] = file_sha256(paths.optimizer(start.folder))
    return facts


def of_network(model: Classifier, start: Start) -> dict[str, Json]:
    """Return which library made a network, and the licence of its published weights, where there are.

    A model that starts from another one is bound by the licence that the other's provenance names.
    """
    licence: Json = model.spec.licence if start.weights != "none" else ""
    if start.folder is not None:
        licence = (read_json(paths.provenance(start.folder)) or {}).get("weights_licence")
    facts = {"library": model.spec.library, "weights_licence": licence}
    return {name: value for name, value in facts.items() if value}


@lru_cache(maxsize=1)  # what is imported does not change while a process runs
def _archive(package: Path) -> tuple[bytes, str]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(package.rglob("*.py")):
            name = f"{package.name}/{file.relative_to(package).as_posix()}"
            archive.writestr(zipfile.ZipInfo(name, EPOCH), file.read_bytes(), zipfile.ZIP_DEFLATED)
    content = buffer.getvalue()
    return content, hashlib.sha256(content).hexdigest()


def _flipped(images: ImageSet) -> int:
    pairs = zip(images.images, images.labels, strict=True)
    return sum(image.label != label for image, label in pairs)


def _sizes(lists: TrainingLists) -> Json:
    learned = Learned.of([image.file for image in lists.train])
    return None if learned is None else learned.as_json()


def _formats(lists: TrainingLists) -> Json:
    learned = LearnedFormats.of([image.file for image in lists.train])
    return None if learned is None else learned.as_json()


def _sources(images: Sequence[Image]) -> dict[str, Json]:
    """Return how many images come from each folder, "fake StyleGAN2/psi-1 pre", by name."""
    counts = Counter(
        " ".join(
            filter(
                None,
                ("fake" if image.label else "real", image.key.rpartition("/")[0], image.modifier),
            )
        )
        for image in images
    )
    return dict(sorted(counts.items()))


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(torch.device(device))
    return torch.backends.cpu.get_cpu_capability()
