"""How long a step of the disentangling network takes beside one of a plain detector.

    python -m benchmarks.fairnet [BATCH [SIDE [STEPS [DEVICE [NETWORK]]]]]

With the objective `fairnet` a step has three encoders, six losses and four drawings of each pair; with
`bce` the two encoders alone that the answer needs. Steps take turns, and their medians are compared.
NETWORK is what the encoders are made of, as `timm/legacy_xception`; the detector beside it is then NETWORK
itself. Float32, noise for images, reals and fakes in equal parts, eight groups.
"""

import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import torch

from benchmarks.table import Row, draw, machine
from trueface.data.batch import Batch
from trueface.models.detectors import build_detector
from trueface.runtime.progress import RunContext
from trueface.training.config import TrainerConfig
from trueface.training.loop import Loop
from trueface.training.objectives.registry import make_objective

USUAL = ("16", "128", "5", "cpu", "")
PLAIN = "slim18"
GROUPS = 8


@dataclass(frozen=True)
class OneBatch:
    """An epoch of a single batch, with the labels and columns of its images."""

    batch: Batch

    @property
    def image_set(self) -> SimpleNamespace:
        """Facts that an objective receives before the first step."""
        labels = self.batch.labels.flatten().long().tolist()
        return SimpleNamespace(
            labels=labels,
            columns=self.batch.columns,
            column_names={},
            forged=lambda *_: [],  # no image becomes a fake in an epoch
        )

    def __len__(self) -> int:
        return len(self.batch.labels)

    def __call__(self, epoch: int) -> Iterator[Batch]:  # noqa: ARG002  # always the same
        """Start a pass."""
        yield self.batch


def one_batch(size: int, side: int) -> OneBatch:
    """Return a batch of noise, half of it fake, of all groups and types."""
    rng = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (size, 3, side, side), generator=rng).to(torch.uint8)
    places = torch.arange(size)
    labels = places % 2
    columns = {"demographic": places // 2 % GROUPS, "forgery": labels * (1 + places // 2 % 5)}
    return OneBatch(Batch(images, labels[:, None].float(), places, columns))


def measured(size: int, side: int, steps: int, device: str, network: str) -> list[Row]:
    """Return a row for each way of training, in milliseconds a step."""
    fair = f"fairnet/{network}" if network else "fairnet"
    cases = [(network or PLAIN, "bce"), (fair, "bce"), (fair, "fairnet")]
    watch, feed = RunContext(device=device), one_batch(size, side)
    loops = [
        Loop(
            build_detector(model, weights="none", seed=1).to(device),
            feed,
            make_objective(objective),
            config=TrainerConfig(
                objective=objective, num_epochs=1, batch_size=size, seed=1, lr=1e-4,
                optimizer="adam", weight_decay=0.0, schedule="plateau", fused=True,
            ),
            watch=watch,
            state={},
        )
        for model, objective in cases
    ]  # fmt: skip
    seconds: list[list[float]] = [[] for _ in loops]
    for step in range(steps + 1):
        for loop, taken in zip(loops, seconds, strict=True):
            began = time.perf_counter()
            loop.run(0, None, every=0, pause=lambda _: None)  # it waits for the loss
            if step:  # the first one is slower
                taken.append(time.perf_counter() - began)
    medians = [1000 * statistics.median(each) for each in seconds]
    return [
        Row(
            what=f"{model}, {objective}: a step of {size} images of {side} pixels, ms",
            ours=median,
            peers={"plain": medians[0]},
            beside="plain",
        )
        for (model, objective), median in zip(cases, medians, strict=True)
    ]


def main() -> None:
    """Print the table."""
    given = [*sys.argv[1:], *USUAL[len(sys.argv) - 1 :]]
    size, side, steps = map(int, given[:3])
    print(draw(measured(size, side, steps, *given[3:5])))
    print(machine())


if __name__ == "__main__":
    main()
