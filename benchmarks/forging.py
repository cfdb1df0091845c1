"""CPU time of forging, per pair of a real face and its fake, on one core and with files.

python -m benchmarks.forging [--faces FACES.csv] [--pairs 400] [--side 128]

Without a table, faces are made up: smooth colours with noise, of the same size in files.
"""

import argparse
import csv
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import PIL.Image

from benchmarks.table import Row, machine, publish
from trueface.data.forging.forged_set import make_forged
from trueface.data.forging.registry import SPECS
from trueface.data.forging.settings import ForgeSettings

TARGET_MS = 8.0
LISTS = ("train", "val", "test")


def make_faces(folder: Path, count: int, side: int) -> Path:
    """Write so many made-up faces of eight groups as JPEG files, and their table."""
    (folder / "images").mkdir()
    rng = np.random.default_rng(1)
    table = folder / "faces.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("img_path", "group", "split"))
        for number in range(count):
            small = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            face = PIL.Image.fromarray(small).resize((side, side), PIL.Image.Resampling.BICUBIC)
            noisy = np.asarray(face, np.int16) + rng.integers(-9, 10, (side, side, 3))
            name = f"images/{number:05d}.jpg"
            image = PIL.Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
            image.save(folder / name, quality=95, subsampling=0)
            writer.writerow((name, number % 8, LISTS[number // 8 % len(LISTS)]))
    return table


def pair_ms(faces: Path, types: str, root: Path) -> float:
    """Return the CPU milliseconds of a pair in this process, files included."""
    settings = ForgeSettings(data_root=str(root), faces=str(faces), types=types)
    started = time.process_time()
    made = make_forged(root, faces, settings, workers=1)
    seconds = time.process_time() - started
    images = made["images"]
    pairs = images // 2 if isinstance(images, int) else 0
    return 1000 * seconds / pairs


def main() -> None:
    """Measure each type and all in turn; print a row each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=Path, help="a table of real faces")
    parser.add_argument("--pairs", type=int, default=400, help="made-up faces")
    parser.add_argument("--side", type=int, default=128, help="of made-up faces, in pixels")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        faces = given.faces or make_faces(folder, given.pairs, given.side)
        rows = []
        for types in ("1-5", *SPECS):
            each = pair_ms(faces, types, folder / f"of-{types}")
            what = f"types {types}, {given.side} pixels, CPU ms a pair"
            rows.append(Row(what=what, ours=each, goal=TARGET_MS, target=f"≤ {TARGET_MS:g}"))
    print(machine())
    publish(rows, "lab")


if __name__ == "__main__":
    main()
