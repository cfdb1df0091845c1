"""How long it takes to work out and list a large task file, and to read many IDs.

python -m benchmarks.planning [--rounds 5]

If snakemake is installed, also `snakemake -n` over as many jobs with the same dependencies.
"""

import argparse
import itertools
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.table import Row, machine, publish
from launcher.ids import parse_data, parse_model

MODELS = 100
SETS = 100
IDS = 100_000
LAUNCHER = str(Path(sys.executable).parent / "launcher")
SUBSETS = [
    "gan1",
    "gan2",
    "gan3",
    "sd15",
    "sd2",
    "sd3",
    "sdXL",
    "flux",
    "extra",
    "realFFHQ",
    "gan",
    "sd",
    "real",
    "all",
]
MODIFIERS = ["pre", "fb", "tl", "tw", "shr", "all"]


def task_file() -> str:
    """Return a file of so many trainings and so many test sets for each."""
    pairs = [f"{a}:{m}&{b}:{m}" for a, b in itertools.combinations(SUBSETS, 2) for m in MODIFIERS]
    singles = [f"{a}:{m}" for a in SUBSETS for m in MODIFIERS]
    trainings = "".join(f'  - {{model: null, data: "{one}"}}\n' for one in pairs[:MODELS])
    tests = ", ".join(f'"{one}"' for one in [*singles, *pairs][:SETS])
    return (
        "name: large\ndefaults: {data_root: data, split_path: splits}\n"
        f"train:\n{trainings}autotest: [{tests}]\n"
    )


def snake_file() -> str:
    """Return the same work for snakemake: so many models, so many tests of each."""
    return (
        f"M, T = range({MODELS}), range({SETS})\n"
        "rule all:\n    input: expand('r/{m}/{t}', m=M, t=T)\n"
        "rule train:\n    output: 'm/{m}'\n    shell: 'touch {output}'\n"
        "rule test:\n    input: 'm/{m}'\n    output: 'r/{m}/{t}'\n    shell: 'touch {output}'\n"
    )


def model_ids(source: random.Random) -> list[str]:
    """Return random model IDs of the laboratory's vocabulary, one to three stages each."""

    def stage() -> str:
        parts = source.randint(1, 3)
        text = "&".join(
            f"{source.choice(SUBSETS)}:{source.choice(MODIFIERS)}" for _ in range(parts)
        )
        text += f"%{source.randint(1, 100)}" if source.random() < 0.3 else ""
        text += "~relabel" if source.random() < 0.2 else ""
        return text + (f"@seed={source.randint(1, 9)}" if source.random() < 0.2 else "")

    return ["#".join(stage() for _ in range(source.randint(1, 3))) for _ in range(IDS)]


def small_file() -> str:
    """Return a file of three trainings and three test sets for each: 12 jobs."""
    trainings = "".join(f'  - {{model: null, data: "{one}:pre"}}\n' for one in SUBSETS[:3])
    tests = ", ".join(f'"{one}:shr"' for one in SUBSETS[:3])
    return (
        "name: small\ndefaults: {data_root: data, split_path: splits}\n"
        f"train:\n{trainings}autotest: [{tests}]\n"
    )


def seconds(argv: Sequence[str], folder: Path) -> tuple[float, float]:
    """Return how long a command takes whose output nobody reads: of the wall, of the processor."""
    environment = {
        **os.environ,
        "LAUNCHER_HOME": str(folder / "home"),
        "LAUNCHER_CONFIG": os.devnull,
    }
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(argv, cwd=folder, env=environment, check=False, capture_output=True)
    if result.returncode not in {0, 2}:  # 2: `run` would refuse the plan, there are no images
        raise RuntimeError(f"{argv} failed: {result.stderr.decode()}")
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def reading_s(source: random.Random) -> tuple[float, float]:
    """Return how long so many model IDs, and so many data IDs, take that were never read before."""
    models = model_ids(source)
    data = [
        one.partition("#")[0].partition("%")[0].partition("~")[0].partition("@")[0]
        for one in models
    ]
    start = time.perf_counter()
    for one in models:
        parse_model(one)
    middle = time.perf_counter()
    for one in data:
        parse_data(one)
    return middle - start, time.perf_counter() - middle


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    source = random.Random(1)
    ours: list[tuple[float, float]] = []
    small: list[tuple[float, float]] = []
    theirs: list[float] = []
    reading: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "large.yaml").write_text(task_file())
        (folder / "small.yaml").write_text(small_file())
        (folder / "Snakefile").write_text(snake_file())
        snakemake = shutil.which("snakemake")
        for _ in range(rounds):
            ours.append(seconds([LAUNCHER, "run", "large.yaml", "--dry-run", "--all"], folder))
            small.append(seconds([LAUNCHER, "run", "small.yaml", "--dry-run"], folder))
            if snakemake is not None:
                theirs.append(seconds([snakemake, "-n", "--quiet", "rules", "all"], folder)[0])
            reading.append(reading_s(source))
    peers = {"snakemake -n": median(theirs)} if theirs else {}
    count = MODELS * SETS + MODELS
    rows = [
        Row(
            what=f"{count:,} jobs planned and listed, s",
            ours=median(wall for wall, _ in ours),
            peers=peers,
            beside="snakemake -n",
            target="≤ 2",
        ),
        Row(what="  of the processor, s", ours=median(cpu for _, cpu in ours)),
        Row(what="12 jobs planned and listed, s", ours=median(wall for wall, _ in small)),
        Row(what="  of the processor, s", ours=median(cpu for _, cpu in small)),
        Row(
            what=f"{IDS:,} model IDs read, s",
            ours=median(models for models, _ in reading),
            goal=1.0,
            target="≤ 1",
        ),
        Row(
            what=f"{IDS:,} data IDs read, s",
            ours=median(data for _, data in reading),
            goal=1.0,
            target="≤ 1",
        ),
    ]
    print(machine())  # a benchmark's answer
    publish(rows, "planning")


if __name__ == "__main__":
    main()
