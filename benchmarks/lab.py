"""The laboratory beside loops like the original's, side by side in one run; medians, no assertion.

python -m benchmarks.lab [loading|training]…
"""

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

import click
import torch

from benchmarks.lab_loading import FACES, loading_rows
from benchmarks.lab_training import measured
from benchmarks.table import Row, machine, publish

# for a training: enough to be timed, and few enough for two cores
IMAGES: Mapping[str, int] = {"nodown18": 48, "nodown": 32}
MOST_ROUNDS = 3  # rounds of trainings, which take minutes


def training_rows(rounds: int) -> Iterator[Row]:
    """Return the rows of trainings, where there are photographs."""
    if not FACES.is_dir():
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's, of the coder that the original used
        for model, count in IMAGES.items():
            yield from measured(FACES, model, count, min(rounds, MOST_ROUNDS))


PARTS: Mapping[str, Callable[[int], Iterator[Row]]] = {
    "loading": loading_rows,
    "training": training_rows,
}


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
def main(parts: Sequence[str], rounds: int) -> None:
    """Print how the laboratory does beside the original's way; all PARTS when none is named."""
    rows: list[Row] = []
    for name in parts or PARTS:
        for row in PARTS[name](rounds):
            print(f"{row.what}: {row.ratio()}", file=sys.stderr, flush=True)
            rows.append(row)
    print(f"{machine()}, torch {torch.__version__}")
    publish(rows, "lab")


if __name__ == "__main__":
    main()
