"""A synthetic image set in the layout of TrueFace, with its splits: the embedded default.

Nothing is downloaded. Real images are procedural scenes with sensor noise; each fake method leaves
a trace of its own; three networks share all of them. Figures on these images say nothing about
real photographs. The same seed gives the same files, whatever the number of processes.
"""

import io
import json
import multiprocessing
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from launcher.api import Json, read_json, write_json
from trueface import layout
from trueface.errors import DataError
from trueface.scenes import paint_scene
from trueface.sharing import NETWORKS, share
from trueface.traces import TRACES, develop

SCHEMA = 1
REAL = ("FFHQ", "FORLAB")
FAKE = (  # folders below Fake/, two of each method
    "StyleGAN2/conf-f-psi-0.5",
    "StyleGAN2/conf-f-psi-1",
    "StyleGAN3/conf-t-psi-0.5",
    "StyleGAN3/conf-t-psi-0.7",
    "StableDiffusionXL/animals",
    "StableDiffusionXL/faces",
)
UNFINISHED = ".sample-unfinished.json"
CHUNK = 16  # images that a process makes before it reports


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSpec:
    """What decides every byte of a sample; in each list are as many fakes as real images."""

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
    """One image to make."""

    folder: str  # below a modifier: "Real/FFHQ", "Fake/StyleGAN2/conf-f-psi-1"
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


def make_sample(
    root: Path,
    spec: SampleSpec,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Json]:
    """Make a sample, unless it is there already; return what its mark says.

    Args:
        root: folder to fill; absent, empty, or begun by the same spec.
        spec: what to make.
        workers: processes; None: one for each core that we may use.
        progress: called with the number of images made and their total.

    Raises:
        DataError: the folder holds something else.
    """
    mark: dict[str, Json] = {"schema": SCHEMA, "synthetic": True, "spec": asdict(spec)}
    pictures = list_pictures(spec)
    done: dict[str, Json] = {**mark, "images": len(pictures) * (1 + len(NETWORKS))}
    if _is_made(root, spec):
        return done
    root.mkdir(parents=True, exist_ok=True)
    write_json(root / UNFINISHED, mark)
    for folder in {picture.folder for picture in pictures}:
        for modifier in ("PreSocial", *NETWORKS):
            (root / modifier / folder).mkdir(parents=True, exist_ok=True)
    made = 0
    for count in _make_all(root, spec, pictures, workers or len(os.sched_getaffinity(0))):
        made += count
        if progress is not None:
            progress(made, len(pictures))
    _write_splits(root, pictures)
    write_json(root / layout.SAMPLE_MARK, done)
    (root / UNFINISHED).unlink()
    return done


def list_pictures(spec: SampleSpec) -> list[Picture]:
    """Return every image of a sample: the lists share the folders evenly."""
    counts = dict.fromkeys((*(f"Real/{name}" for name in REAL), *(f"Fake/{f}" for f in FAKE)), 0)
    pictures = []
    for split, number in spec.lists.items():
        for kind, names in (("Real", REAL), ("Fake", FAKE)):
            for index in range(number):
                folder = f"{kind}/{names[index % len(names)]}"
                stem = f"{counts[folder]:05d}"
                counts[folder] += 1
                pictures.append(Picture(folder=folder, stem=stem, split=split))
    return pictures


def _is_made(root: Path, spec: SampleSpec) -> bool:
    for name in (layout.SAMPLE_MARK, UNFINISHED):
        found = read_json(root / name)
        if found is not None:
            if found.get("spec") != asdict(spec) or found.get("schema") != SCHEMA:
                raise DataError(
                    f"{root} holds a sample of other settings ({json.dumps(found.get('spec'))}); "
                    "remove it, or choose another folder"
                )
            return name == layout.SAMPLE_MARK
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(f"{root} is not an empty folder; choose another one for the sample")
    return False


def _make_all(
    root: Path, spec: SampleSpec, pictures: Sequence[Picture], workers: int
) -> Iterator[int]:
    chunks = [pictures[start : start + CHUNK] for start in range(0, len(pictures), CHUNK)]
    make = partial(_make_chunk, root, spec)
    if workers == 1:
        yield from map(make, chunks)
        return
    # spawned, not forked: our own process may have started threads
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(chunks)), mp_context=context) as pool:
        yield from pool.map(make, chunks)


def _make_chunk(root: Path, spec: SampleSpec, pictures: Sequence[Picture]) -> int:
    for picture in pictures:
        # the stream depends on seed and key alone, so the order of work does not matter
        rng = np.random.default_rng([spec.seed, zlib.crc32(picture.key.encode())])
        scene = paint_scene(rng, spec.size_px)
        trace = None if picture.method is None else TRACES[picture.method]
        pixels = develop(scene, rng, trace)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG", compress_level=3)
        _write(root / "PreSocial" / picture.folder / f"{picture.stem}.png", file.getvalue())
        for name, network in NETWORKS.items():
            content = share(pixels, network, rng)
            _write(root / name / picture.folder / f"{picture.stem}.jpg", content)
    return len(pictures)


def _write(path: Path, content: bytes) -> None:
    # whole or absent; not synced one by one: the mark, which is synced, comes after all of them
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def _write_splits(root: Path, pictures: Sequence[Picture]) -> None:
    folder = root / "splits"
    folder.mkdir(exist_ok=True)
    for split in ("train", "val", "test"):
        keys = sorted(picture.key for picture in pictures if picture.split == split)
        text = json.dumps(keys, indent=1) + "\n"
        _write(folder / f"{split}.json", text.encode())
