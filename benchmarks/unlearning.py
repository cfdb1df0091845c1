"""Accuracy and cost of unlearning, compared with poisoned and retrained models.

python -m benchmarks.unlearning [frozen|full|finding|classes|projection]… --seeds 1,2,3

    frozen: Half of the labels are flipped, and only the last layer learns. Exact unlearning is compared with
        a retraining.
    full: A half and a fifth of the labels are flipped, and all weights learn.
    finding: A fifth of the labels is flipped, and half of the wrong labels are known. The result is the
        fraction of the others that is found.
    classes: A class is forgotten. Layer attack is compared with a retraining (CIFAR10 names the folder).
    projection: The error of projected gradients in the protected directions.

Times are those of one process. On a noisy machine fractions of samples give the same information.
"""

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.measured import record
from benchmarks.table import machine
from benchmarks.unlearning_classes import class_lines
from benchmarks.unlearning_flips import HEADER, Bench, lines, searched
from benchmarks.unlearning_projection import projection_lines

Cells = Sequence[str]
WITH_RETRAIN = ("test %", "s")  # columns whose values are shown with those of the retraining

SHORT: Mapping[str, Any] = {"unlearn_epochs": 3, "unlearn_lr": 0.01, "batch_size": 16}
FULL: Mapping[str, Mapping[str, Any]] = {"finetune": SHORT, "relabel": SHORT, "restart": SHORT}
FROZEN: Mapping[str, Mapping[str, Any]] = {"exact": {}, "relabel": {"unlearn_epochs": 2}}


def frozen(bench: Bench, seeds: Sequence[int]) -> Iterator[Cells]:
    """Yield the table of trainings of the last layer."""
    yield HEADER
    for line in lines(bench, "frozen", 50, seeds, FROZEN):
        yield line.cells()


def full(bench: Bench, seeds: Sequence[int]) -> Iterator[Cells]:
    """Yield the table of trainings of all weights."""
    yield HEADER
    for rate in (20, 50):
        for line in lines(bench, "full", rate, seeds, FULL):
            yield line.cells()


def finding(bench: Bench, seeds: Sequence[int]) -> Iterator[Cells]:
    """Yield how many hidden wrong labels are found, by protocol and seed."""
    yield ("flips", "seed", "hidden", "flagged", "recall %", "precision %", "test % then")
    for protocol in ("full", "frozen"):
        for seed in seeds:
            made = searched(bench, protocol, seed, SHORT)
            found = made.record.found
            if found is None or found.recall is None or found.precision is None:
                raise ValueError("nothing was looked for, or nothing found")
            yield (
                f"{protocol} 20 %", f"{seed}", f"{found.hidden}", f"{found.flagged}",
                f"{100 * found.recall:.1f}", f"{100 * found.precision:.1f}", f"{made.test:.1f}",
            )  # fmt: skip


def classes(bench: Bench, seeds: Sequence[int]) -> Iterator[Cells]:
    """Yield the table of class unlearning, where there are images."""
    folder = os.environ.get("CIFAR10")
    if folder is None:
        yield ("classes: not measured, as CIFAR10 names no folder of images",)
        return
    yield from class_lines(bench.folder, Path(folder), seeds)


def projection(bench: Bench, seeds: Sequence[int]) -> Iterator[Cells]:
    """Yield how exact projected gradients are."""
    del bench
    yield from projection_lines(seeds)


PARTS: Mapping[str, Callable[[Bench, Sequence[int]], Iterator[Cells]]] = {
    "projection": projection,
    "frozen": frozen,
    "finding": finding,
    "full": full,
    "classes": classes,
}


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--seeds", default="1", show_default=True, help="As 1,2,3.")
@click.option("--folder", type=click.Path(path_type=Path), help="Keep all that is made there.")
def main(parts: Sequence[str], seeds: str, folder: Path | None) -> None:
    """Print what unlearning gives back and takes; all PARTS when none is named."""
    logging.disable(logging.INFO)
    print(f"{machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        bench = Bench(place.resolve(), torch.get_num_threads())
        for part in parts or PARTS:
            table = []
            for cells in PARTS[part](bench, [int(seed) for seed in seeds.split(",")]):
                print("\t".join(cells), flush=True)
                table.append(cells)
            print()
            record("unlearning", _values(table))


def _values(table: Sequence[Cells]) -> dict[str, tuple[str, str]]:
    """Return the values of a table and those of its row `retrain`, if it has one."""
    heads, *rows = table
    retrained = next((cells for cells in rows if "retrain" in cells[:2]), None)
    return {
        f"{cells[0]}, {cells[1]}: {heads[place]}": (
            cells[place],
            f"retraining {retrained[place]}" if retrained and heads[place] in WITH_RETRAIN else "",
        )
        for cells in rows
        for place in range(2, len(cells))
    }


if __name__ == "__main__":
    main()
