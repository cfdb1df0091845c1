"""Photographs for the parts that load images: files of the size of faces, with a camera's noise."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu.bench import Bench
from benchmarks.lab_loading import picture
from trueface.data.index import Image

FILES = 96  # each is read under many keys: decoding is what costs, and the disk's cache serves it
QUALITY = 90


def files(folder: Path, side: int, count: int) -> list[Path]:
    """Write JPEG files of this side, and return them."""
    place = folder / f"jpeg-{side}"
    place.mkdir()
    paths = [place / f"{number}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        picture(side, number, ()).save(path, "JPEG", quality=QUALITY)
    return paths


def images(bench: Bench, count: int, side: int = 256) -> list[Image]:
    """Return so many images of both classes; those of the shared data, where there are any."""
    faces = bench.data("faces")
    faces_files = sorted(faces.glob("PreSocial/*/*/*.jpg")) if faces and not bench.rehearsal else []
    paths = faces_files or files(bench.path, side, bench.size(FILES, 4))
    return images_of_files(paths, count)


def images_of_files(paths: Sequence[Path], count: int) -> list[Image]:
    """Return so many images of both classes, several of the same file."""
    return [
        Image(
            file=str(paths[number % len(paths)]),
            key=f"FFHQ/{number}",
            label=number % 2,
            method="FFHQ",
            modifier="pre",
        )
        for number in range(count)
    ]
