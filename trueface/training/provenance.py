"""The provenance of a model's weights, in the checkpoint and next to it: images, labels, code."""

import io
import json
import os
import zipfile
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch

import trueface
from trueface.data.image_formats import LearnedFormats
from trueface.data.image_headers import LearnedSizes
from trueface.data.index import Image
from trueface.data.loading.image_set import ImageSet
from trueface.poisoning.poison_record import fingerprint
from trueface.runtime.digests import sha256_hex
from trueface.runtime.files import Json, file_sha256, write_atomic
from trueface.training.image_lists import DataLocation, TrainingLists

MARK_DIGITS = 12  # digits of a digest in messages
FOLDER = "code"  # folder in the run folder
# the earliest time that a ZIP file can store, so that the bytes of the archive depend only on the code
EPOCH = (1980, 1, 1, 0, 0, 0)
PACKAGE = Path(trueface.__file__).parent


def archive_code(run_folder: Path) -> str:
    """Write an archive of this package's code to a run folder; return its SHA-256."""
    archive, digest = _archive_code(PACKAGE)
    path = run_folder / FOLDER / f"{digest[:16]}.zip"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, archive)
    return digest


def images_provenance(location: DataLocation, lists: TrainingLists) -> dict[str, Json]:
    """Return the provenance of training and validation images, and of their files."""
    return {
        "data_root": str(location.data_root),
        "split_path": str(location.split_path),
        "splits": {split.name: split.sha256 for split in lists.splits},
        "train_images": len(lists.train),
        "val_images": len(lists.val),
        "train_images_sha256": fingerprint(lists.train),
        "val_images_sha256": fingerprint(lists.val),
        **_files_provenance(lists),
        "image_sizes": _sizes(lists),
        "image_formats": _formats(lists),
        "train_sources": _sources(lists.train),
        "val_sources": _sources(lists.val),
    }


def _files_provenance(lists: TrainingLists) -> dict[str, Json]:
    """Return digests of the sizes of all image files, and of their times of modification.

    Other sizes are other images. Other times are either other images, or the same ones copied again.
    """
    sizes, times = list[tuple[str, int]](), list[tuple[str, int]]()
    for image in (*lists.train, *lists.val):
        for file in image.frames or (image.file,):
            try:
                status = os.stat(file)  # noqa: PTH116  # of 200,000 files, without a path of each
            except OSError:  # it cannot be read, so that it is left out
                continue
            name = f"{image.name}/{os.path.basename(file)}"  # noqa: PTH119  # as above
            sizes.append((name, status.st_size))
            times.append((name, status.st_mtime_ns))
    return {
        "image_bytes_sha256": sha256_hex(json.dumps(sorted(sizes))),
        "image_files": sha256_hex(json.dumps(sorted(times)))[:MARK_DIGITS],
    }


def attributes_provenance(files: Sequence[Path]) -> dict[str, Json]:
    """Return the digests of the tables of attributes in the order of the setting, or {} without tables."""
    return {"attributes_sha256": [file_sha256(file) for file in files]} if files else {}


def labels_provenance(training: ImageSet, validation: ImageSet) -> dict[str, Json]:
    """Return the number of labels in both sets that differ from the true labels."""
    return {"flipped_train": _count_flipped(training), "flipped_val": _count_flipped(validation)}


@lru_cache(maxsize=1)  # imported code does not change while a process runs
def _archive_code(package: Path) -> tuple[bytes, str]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(package.rglob("*.py")):
            name = f"{package.name}/{file.relative_to(package).as_posix()}"
            archive.writestr(zipfile.ZipInfo(name, EPOCH), file.read_bytes(), zipfile.ZIP_DEFLATED)
    content = buffer.getvalue()
    return content, sha256_hex(content)


def _count_flipped(images: ImageSet) -> int:
    pairs = zip(images.images, images.labels, strict=True)
    return sum(image.label != label for image, label in pairs)


def _sizes(lists: TrainingLists) -> Json:
    sizes = LearnedSizes.from_files([image.file for image in lists.train])
    return None if sizes is None else sizes.as_json()


def _formats(lists: TrainingLists) -> Json:
    formats = LearnedFormats.from_files([image.file for image in lists.train])
    return None if formats is None else formats.as_json()


def _sources(images: Sequence[Image]) -> dict[str, Json]:
    """Return the number of images from each folder, by names such as "fake StyleGAN2/psi-1 pre"."""
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


def device_name(device: str) -> str:
    """Return the product name of a device."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(torch.device(device))
    return torch.backends.cpu.get_cpu_capability()
