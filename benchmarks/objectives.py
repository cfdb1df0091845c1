"""How long the objectives that treat groups alike take: CVaR beside a search, and steps beside a plain one.

    python -m benchmarks.objectives [BATCH [SIDE [STEPS]]]

The search is that of the published code of DAW-FDD. It runs scipy's fminbound over the threshold, between
the smallest loss - 1000 and the largest loss. Each of its steps is a few operations of torch. Steps
alternate and medians are compared, so a changing load affects all of them. Slim ResNet-18, float32,
noise for images, eight groups.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace

import torch
from scipy.optimize import fminbound
from torch import Tensor

from benchmarks.table import Row, machine, publish
from trueface.data.batch import Batch
from trueface.models.detectors import build_detector
from trueface.runtime.progress import RunContext
from trueface.training.cells import bilevel_cvar, cvar
from trueface.training.config import TrainerConfig
from trueface.training.loop import Loop
from trueface.training.objectives.registry import make_objective

CVAR_WANTED = 5  # times as quick as the search
STEP_WANTED = 1.05  # times a plain step
GROUPS = 8
NETWORK = "slim18"
OBJECTIVES = ("bce", "reweight", "dag", "daw", "cvar2", "fused", "dro", "ldam", "mix")
PLAIN = TrainerConfig(
    objective="bce", num_epochs=1, batch_size=32, seed=1, lr=1e-4, optimizer="adam",
    weight_decay=0.0, schedule="plateau", fused=True,
)  # fmt: skip


@dataclass(frozen=True)
class OneBatch:
    """An epoch of a single batch, of images with groups."""

    batch: Batch

    def __len__(self) -> int:
        return len(self.batch.labels)

    @property
    def image_set(self) -> SimpleNamespace:
        """Facts about the images that objectives receive before the first step."""
        return SimpleNamespace(
            labels=self.batch.labels.flatten(),
            columns=self.batch.columns,
            column_names={},
            forged=lambda *_: [],  # no image becomes a fake in an epoch
        )

    def __call__(self, epoch: int) -> Iterator[Batch]:  # noqa: ARG002  # always the same
        """Start a pass."""
        yield self.batch


def searched(losses: Tensor, alpha: float) -> Tensor:
    """Return CVaR as the published code computes it."""
    values = losses.detach()

    def at(threshold: float) -> float:
        return float(threshold + torch.relu(values - threshold).mean().item() / alpha)

    low, high = values.min().item() - 1000, values.max().item()
    threshold = float(fminbound(at, low, high))
    return threshold + torch.relu(losses - threshold).mean() / alpha


def searched_by_group(losses: Tensor, groups: Tensor) -> Tensor:
    """Return DAW-FDD's loss as the published code computes it."""
    each = [searched(losses[groups == group], 0.9) for group in range(GROUPS)]
    return searched(torch.stack(each), 0.5)


def loss_rows(batch_size: int, rounds: int) -> list[Row]:
    """Return how long value and gradient of a batch's loss take, in microseconds."""
    losses = torch.rand(batch_size, generator=torch.Generator().manual_seed(1)).requires_grad_()
    groups = torch.arange(batch_size) % GROUPS
    pairs: dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor]]] = {
        "CVaR": (lambda: cvar(losses, 0.5), lambda: searched(losses, 0.5)),
        "CVaR over groups of CVaR": (
            lambda: bilevel_cvar(losses, groups, count=GROUPS),
            lambda: searched_by_group(losses, groups),
        ),
    }
    rows = []
    for what, (ours, theirs) in pairs.items():
        seconds: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            for computed, kept in zip((ours, theirs), seconds, strict=True):
                began = time.perf_counter()
                computed().backward()  # type: ignore[no-untyped-call]  # torch
                kept.append(time.perf_counter() - began)
        own, other = (1e6 * statistics.median(kept) for kept in seconds)
        rows.append(
            Row(
                what=f"{what} of {batch_size} losses and its gradient, µs",
                ours=own,
                peers={"search": other},
                beside="search",
                target=f"≤ 1/{CVAR_WANTED} × search",
            )
        )
        quick = f"{what} of {batch_size} losses, times as quick as a search"
        rows.append(Row(what=quick, ours=other / own, goal=CVAR_WANTED, target=f"≥ {CVAR_WANTED}"))
    return rows


def step_rows(batch_size: int, side: int, steps: int) -> list[Row]:
    """Return how long a step with each objective takes, in milliseconds."""
    rng = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (batch_size, 3, side, side), generator=rng).to(torch.uint8)
    places = torch.arange(batch_size)
    columns = {"demographic": places // 2 % GROUPS}
    feed = OneBatch(Batch(images, (places % 2)[:, None].float(), places, columns))
    loops = {
        name: Loop(
            build_detector(NETWORK, weights="none", seed=1), feed, make_objective(name),
            config=replace(PLAIN, objective=name), watch=RunContext(), state={},
        )
        for name in OBJECTIVES
    }  # fmt: skip
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for step in range(steps + 1):
        for name, loop in loops.items():
            began = time.perf_counter()
            loop.run(0, None, every=0, pause=lambda _: None)
            if step:  # the first one is slower
                seconds[name].append(time.perf_counter() - began)
    medians = {name: 1000 * statistics.median(each) for name, each in seconds.items()}
    return [
        Row(
            what=f"{NETWORK}, batch {batch_size}, {side} pixels: a step, {name}, ms",
            ours=median,
            peers={"plain": medians["bce"]},
            beside="plain",
            target=f"≤ {STEP_WANTED} × plain" if name == "daw" else "",
        )
        for name, median in medians.items()
    ]


def main() -> None:
    """Print the table."""
    batch_size, side, steps = (
        int(given) if given else usual
        for given, usual in zip((sys.argv[1:] + [""] * 3)[:3], (32, 128, 25), strict=True)
    )
    publish([*loss_rows(batch_size, 20 * steps), *step_rows(batch_size, side, steps)], "lab")
    print(machine())


if __name__ == "__main__":
    main()
