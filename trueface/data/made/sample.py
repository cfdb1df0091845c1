"""A synthetic image set in the layout of TrueFace, with its splits: the built-in default.

Nothing is downloaded. Real images are procedural scenes with sensor noise. Each fake method leaves
a distinct fingerprint. All images are re-shared on three social networks. Results on these images
do not transfer to real photographs. The same seed gives the same files, for any number of
processes.

<root>/PreSocial/Real/FFHQ/00000.png                         as made, without loss
<root>/Telegram/Fake/StyleGAN2/conf-f-psi-1/00000.jpg        as shared
<root>/splits/train.json, val.json, test.json                keys of the images
<root>/sample.json                                           the marker file, written last

Scenes are in `scenes`, the camera and its noise in `camera`, the fingerprints of fake methods in
`fingerprints`, and the social networks in `data.social_networks`.

Real and fake images pass through the same steps from scene to pixels. Only the residual differs.

It is sensor noise in a real image, and the patterns of a fingerprint in a fake one.
"""

import contextlib
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from trueface.data.made.camera import develop
from trueface.data.made.fingerprints import FINGERPRINTS
from trueface.data.made.scenes import paint_scene
from trueface.data.social_networks import NETWORKS, share_on_network
from trueface.data.splits.split_files import write_splits
from trueface.runtime import paths
from trueface.runtime.artifact import Artifact
from trueface.runtime.errors import DataError
from trueface.runtime.files import Json, write_json
from trueface.runtime.process_pool import process_in_chunks
from trueface.runtime.rng import numpy_rng

SCHEMA = 1
RECIPE = 1  # to be raised whenever the same spec would give other images
UNSHARED = "PreSocial"
REAL = ("Real/FFHQ", "Real/FORLAB")
FAKE = (  # two folders of each method
    "Fake/StyleGAN2/conf-f-psi-0.5",
    "Fake/StyleGAN2/conf-f-psi-1",
    "Fake/StyleGAN3/conf-t-psi-0.5",
    "Fake/StyleGAN3/conf-t-psi-0.7",
    "Fake/StableDiffusionXL/animals",
    "Fake/StableDiffusionXL/faces",
)
UNFINISHED = ".sample-unfinished.json"
CHUNK = 16  # images that a process makes before it reports: a fifth of a second
PNG_LEVEL = 1  # level of at most 9: noise hardly gets smaller at a higher one, only slower


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSpec:
    """The parameters of a sample. Each split has the same number of fakes and real images."""

    seed: int = 42
    size_px: int = 128
    train: int = 600  # real images of the training list
    val: int = 120
    test: int = 300

    @property
    def lists(self) -> dict[str, int]:
        """How many real images each list has."""
        return {"train": self.train, "val": self.val, "test": self.test}


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One image to make, and its shared copies."""

    folder: str  # below a modifier's folder: "Real/FFHQ", "Fake/StyleGAN2/conf-f-psi-1"
    stem: str  # five digits
    split: str

    @property
    def key(self) -> str:
        """Its name in a split."""
        return f"{self.folder.partition('/')[2]}/{self.stem}"

    @property
    def method(self) -> str | None:
        """The fake method that makes it; None for a real image."""
        kind, method, *_ = self.folder.split("/")
        return None if kind == "Real" else method

    @property
    def files(self) -> tuple[str, ...]:
        """Its files below the root, the unshared one first, then one for each network."""
        shared = (f"{network}/{self.folder}/{self.stem}.jpg" for network in NETWORKS)
        return (f"{UNSHARED}/{self.folder}/{self.stem}.png", *shared)


def make_sample(
    root: Path,
    spec: SampleSpec,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Json]:
    """Make a sample, or its missing files, and return the content of its marker file.

    Args:
        root: missing, empty, or with a complete or partial sample of the same spec.
        spec: parameters of the sample.
        workers: processes. None uses one for each available core.
        progress: called with the number of images made and their total. While another process
            writes the folder, both are 0. An exception from it ends the work, and the next call
            continues.

    Raises:
        DataError: the folder holds something else, or cannot be written.
        MachineError: a process was killed.
    """
    pictures = list_pictures(spec)
    mark: dict[str, Json] = {"schema": SCHEMA, "recipe": RECIPE, "spec": asdict(spec)}
    done = {**mark, **_counts(spec, pictures)}
    artifact = Artifact("sample", root, paths.SAMPLE_MARK, mark)
    with artifact.lock_place(progress):
        finished = _is_finished(artifact)
        missing = _missing_pictures(root, pictures)
        if finished and not missing:
            return done
        try:
            _begin(root, mark)
            make, doing = partial(_make_chunk, root, spec), f"made images in {root}"
            process_in_chunks(
                make, missing, CHUNK, workers, doing=doing, total=len(pictures), progress=progress
            )
            write_splits(root / "splits", _lists(pictures))
            write_json(root / paths.SAMPLE_MARK, done)
            (root / UNFINISHED).unlink()
        except OSError as error:
            raise DataError(f"cannot write the sample to {root}: {error}") from error
    return done


def list_pictures(spec: SampleSpec) -> list[Picture]:
    """Return every image of a sample: the lists share the folders evenly."""
    counts = dict.fromkeys((*REAL, *FAKE), 0)
    pictures = []
    for split, number in spec.lists.items():
        for folders in (REAL, FAKE):
            for index in range(number):
                folder = folders[index % len(folders)]
                stem = f"{counts[folder]:05d}"
                counts[folder] += 1
                pictures.append(Picture(folder=folder, stem=stem, split=split))
    return pictures


def _counts(spec: SampleSpec, pictures: Sequence[Picture]) -> dict[str, Json]:
    return {
        "synthetic": True,
        "about": "procedural scenes; figures on them say nothing about real photographs",
        "images": len(pictures) * (1 + len(NETWORKS)),
        "keys": {name: 2 * count for name, count in spec.lists.items()},
    }


def _lists(pictures: Sequence[Picture]) -> dict[str, list[str]]:
    return {
        name: sorted(picture.key for picture in pictures if picture.split == name)
        for name in ("train", "val", "test")
    }


def _is_finished(artifact: Artifact) -> bool:
    """Return whether a folder holds a finished sample of this mark; refuse a foreign folder."""
    for name in (paths.SAMPLE_MARK, UNFINISHED):
        if (stored := artifact.read_mark(name)) is not None:
            artifact.refuse_other(stored, _describe_other)
            return name == paths.SAMPLE_MARK
    artifact.refuse_foreign()
    return False


def _describe_other(_key: str, stored_identity: Mapping[str, Json]) -> str:
    spec = json.dumps(stored_identity.get("spec"))
    return f"a sample with other settings ({spec}, recipe {stored_identity.get('recipe')})"


def _missing_pictures(root: Path, pictures: Sequence[Picture]) -> list[Picture]:
    """Return the pictures of which a file is not there, or is empty after a power cut."""
    there: set[str] = set()
    for folder in {f"{file.rpartition('/')[0]}" for picture in pictures for file in picture.files}:
        with contextlib.suppress(OSError), os.scandir(root / folder) as entries:
            there.update(f"{folder}/{entry.name}" for entry in entries if entry.stat().st_size > 0)
    return [picture for picture in pictures if not there.issuperset(picture.files)]


def _begin(root: Path, mark: dict[str, Json]) -> None:
    for folder in (*REAL, *FAKE):
        for modifier in (UNSHARED, *NETWORKS):
            (root / modifier / folder).mkdir(parents=True, exist_ok=True)
    write_json(root / UNFINISHED, mark)
    (root / paths.SAMPLE_MARK).unlink(missing_ok=True)


def _make_chunk(root: Path, spec: SampleSpec, pictures: Sequence[Picture]) -> None:
    for picture in pictures:
        scene = paint_scene(_stream(spec, picture, "scene"), spec.size_px)
        fingerprint = None if picture.method is None else FINGERPRINTS[picture.method]
        pixels = develop(scene, _stream(spec, picture, "camera"), fingerprint)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG", compress_level=PNG_LEVEL)
        copies = (
            share_on_network(pixels, network, _stream(spec, picture, name))
            for name, network in NETWORKS.items()
        )
        for path, content in zip(picture.files, (file.getvalue(), *copies), strict=True):
            _write(root / path, content)


def _stream(spec: SampleSpec, picture: Picture, purpose: str) -> np.random.Generator:
    """Return dice that depend on the seed, the key and the purpose, not on the order of work."""
    return numpy_rng(f"sample/{spec.seed}/{picture.key}/{purpose}")


def _write(path: Path, content: bytes) -> None:
    # whole or absent; not synced one by one, which would take minutes
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
