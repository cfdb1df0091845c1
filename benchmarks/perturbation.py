"""How long a step with a second pass takes beside a plain one: SAM and AWP.

    python -m benchmarks.perturbation [BATCH [SIDE [STEPS]]]

Steps of the three take turns, and their medians are compared, so that a load that comes and goes bears on
all of them. Slim ResNet-18, float32, noise for images.
"""

import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from benchmarks.table import Row, machine, publish
from trueface.data.batch import Batch
from trueface.models.detectors import build_detector
from trueface.runtime.progress import RunContext
from trueface.training.config import TrainerConfig
from trueface.training.loop import Loop
from trueface.training.objectives.registry import make_objective

WANTED = 2.1  # times a plain step
NETWORK = "slim18"
PLAIN = TrainerConfig(
    objective="bce", num_epochs=1, batch_size=32, seed=1, lr=1e-4, optimizer="adam",
    weight_decay=0.0, schedule="plateau", fused=True,
)  # fmt: skip
CONFIGS = {"plain": PLAIN, "sam": replace(PLAIN, sam=0.05), "awp": replace(PLAIN, awp=0.006)}


@dataclass(frozen=True)
class OneBatch:
    """An epoch of a single batch."""

    batch: Batch

    def __len__(self) -> int:
        return len(self.batch.labels)

    def __call__(self, epoch: int) -> Iterator[Batch]:  # noqa: ARG002  # always the same
        """Start a pass."""
        yield self.batch


def measured(batch_size: int, side: int, steps: int) -> list[Row]:
    """Return a row for each kind of step, in milliseconds."""
    rng = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (batch_size, 3, side, side), generator=rng).to(torch.uint8)
    labels = (torch.arange(batch_size) % 2)[:, None].float()
    feed = OneBatch(Batch(images, labels, torch.arange(batch_size)))
    loops = {
        name: Loop(
            build_detector(NETWORK, weights="none", seed=1), feed, make_objective("bce"),
            config=config, watch=RunContext(), state={},
        )
        for name, config in CONFIGS.items()
    }  # fmt: skip
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for step in range(steps + 1):
        for name, loop in loops.items():
            began = time.perf_counter()
            loop.run(0, None, every=0, pause=lambda _: None)
            if step:  # the first one is slower
                seconds[name].append(time.perf_counter() - began)
    medians = {name: 1000 * statistics.median(each) for name, each in seconds.items()}
    what = f"{NETWORK}, batch {batch_size}, {side} pixels: a step"
    return [
        Row(
            what=f"{what}, {name}, ms",
            ours=median,
            peers={"plain": medians["plain"]},
            beside="plain",
            target="" if name == "plain" else f"≤ {WANTED} × plain",
            as_ratio=True,
        )
        for name, median in medians.items()
    ]


def main() -> None:
    """Print the table."""
    batch_size, side, steps = (
        int(given) if given else usual
        for given, usual in zip((sys.argv[1:] + [""] * 3)[:3], (32, 128, 15), strict=True)
    )
    publish(measured(batch_size, side, steps), "lab")
    print(machine())


if __name__ == "__main__":
    main()
