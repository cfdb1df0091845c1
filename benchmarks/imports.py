"""CPU time of `trueface import` on a made-up GenImage: the first time, and again with nothing new.

python -m benchmarks.imports [--images 20000]
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

GENERATORS = ("ADM", "Midjourney", "glide", "wukong")


def make_set(top: Path, images: int) -> None:
    """Write about so many image files of one byte, as GenImage names them."""
    for generator in GENERATORS:
        for name, count in (("train", images * 4 // 5), ("val", images // 5)):
            for kind in ("ai", "nature"):
                folder = top / generator / f"imagenet_{generator}" / name / kind
                folder.mkdir(parents=True)
                for number in range(count // (2 * len(GENERATORS))):
                    fake = f"{number % 1000:03d}_{generator.lower()}_{number}.png"
                    photograph = f"n{number}_{generator}_{name}.JPEG"
                    (folder / (fake if kind == "ai" else photograph)).write_bytes(b"x")


def cpu_s(words: list[str]) -> float:
    """Return the user and system time of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure, and print one line per run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    images = parser.parse_args().images
    with tempfile.TemporaryDirectory() as folder:
        make_set(Path(folder) / "set", images)
        words = [
            *(str(Path(sys.executable).with_name("trueface")), "import", "genimage"),
            *(f"{folder}/set", "--out", f"{folder}/root"),
        ]
        for what in ("first", "nothing new"):
            sys.stdout.write(f"{images:,} images, {what}: {cpu_s(words):.2f} CPU s\n")


if __name__ == "__main__":
    main()
