"""The entry function of ranks that compare a step of theirs with a step of one process."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional

from launcher.api import Job, Json
from trueface.data.batch import Batch
from trueface.data.clips import Clips
from trueface.data.loading.loader import Shard
from trueface.models.blocks.efficientnet import DropConnect
from trueface.models.detectors import Detector, accept_clips, build_detector
from trueface.models.registry import ModelSpec
from trueface.runtime.progress import RunContext
from trueface.training.config import TrainerConfig
from trueface.training.distributed import SINGLE_PROCESS, ProcessGroup
from trueface.training.loop import Loop
from trueface.training.objectives.protocol import Objective
from trueface.training.objectives.registry import make_objective

SIDE = 32
FRAMES = 4
SPEC = ModelSpec("clips", summary="", head="6", frames=FRAMES)
CONFIG = TrainerConfig(
    objective="bce", num_epochs=1, batch_size=5, seed=1, lr=1e-3, optimizer="adam",
    weight_decay=0.0, schedule="plateau",
)  # fmt: skip


@dataclass
class Images:
    """Images in memory; each rank yields its part of every batch, as `dataset.batches` does."""

    images: torch.Tensor
    sizes: tuple[int, ...]  # sizes of the batches
    shard: Shard
    unreadable: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return sum(self.sizes)

    def __call__(self, epoch: int) -> Iterator[Batch]:
        begin = 0
        for size in self.sizes:
            every = range(begin, begin + size)
            begin += size
            own = [
                place
                for place in self.shard.shard_batch(list(every))
                if place not in self.unreadable
            ]
            labels = torch.tensor([[float(place % 2)] for place in own]).reshape(-1, 1)
            images = self.images[own] if own else torch.empty(0)
            yield Batch(images, labels, torch.tensor(own, dtype=torch.int64))


def difference(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> float:
    """Return the distance of two sets of tensors, relative to the length of the first."""
    if not first:
        return 0.0
    lengths = [
        torch.cat(
            [(first[name] - factor * second[name]).double().flatten() for name in first]
        ).norm()
        for factor in (1, 0)
    ]
    return float(lengths[0] / lengths[1])


def step(
    model: nn.Module,
    sizes: tuple[int, ...],
    group: ProcessGroup,
    objective: Objective,
    config: TrainerConfig = CONFIG,
    *,
    frames: int | None = None,
    most: int = 256,
) -> Loop:
    rng = torch.Generator().manual_seed(7)
    own = () if frames is None else (1, frames)
    shape = (sum(sizes), *own, 3, SIDE, SIDE)
    pixels = torch.randint(0, most, shape, generator=rng).to(torch.uint8)
    images = Images(pixels, sizes, group.shard, frozenset({1}))
    loop = Loop(model, images, objective, config=config, watch=RunContext(), state={}, group=group)
    loop.run(0, None, every=0, pause=lambda _: None)
    return loop


class Perturbed(Objective):
    """A second pass at other weights, as in sharpness-aware minimization; and two forward passes."""

    def __init__(self) -> None:
        self.inner = make_objective("bce")

    def training_step(
        self, model: nn.Module, batch: Batch
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor | float]]:
        first, logs = self.inner.training_step(model, batch)
        mirrored = batch._replace(inputs=batch.inputs.flip(-1))
        second, _ = self.inner.training_step(model, mirrored)
        return (first + second) / 2, logs

    def perturbed(self, model: nn.Module):  # type: ignore[no-untyped-def]  # a context
        return Moved(model)


class Moved:
    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __enter__(self) -> None:
        self.before = copy.deepcopy(self.model.state_dict())
        with torch.no_grad():
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    parameter.add_(parameter.grad, alpha=0.05)

    def __exit__(self, *_: object) -> None:
        names = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, parameter in names.items():
                parameter.copy_(self.before[name])


def clip_network() -> nn.Module:
    """Return a small network of clips."""
    torch.manual_seed(1)
    layers = (nn.Conv3d(3, 8, 3, 2), nn.BatchNorm3d(8), nn.ReLU(), nn.AdaptiveAvgPool3d(1))
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(8, 1))


class ActivatedNorm(nn.BatchNorm2d):
    """A batch norm that activates what it has normalised, as those of timm."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.drop, self.act = nn.Dropout(0.2), nn.PReLU(width)

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  # torch's own name
        if self.training:
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]  # a tensor
        normalised = functional.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, self.training,
            self.momentum or 0.0, self.eps,
        )  # fmt: skip
        return self.act(self.drop(normalised))  # type: ignore[no-any-return]  # torch


class RowNorm(nn.BatchNorm1d):
    """A batch norm of rows, of other dimensions than its input."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  # torch's own name
        return super().forward(input.flatten(2).transpose(1, 2).flatten(0, 1)).view_as(input)


class Residual(nn.Module):
    """A network with random depth, and with a layer that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 4), ActivatedNorm(8))
        self.middle = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Dropout2d(0.3), DropConnect(0.4))
        self.norm, self.unread = RowNorm(8), nn.Linear(8, 500)
        self.fc = nn.Linear(8, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.stem(images)
        maps = maps + self.middle(maps)
        maps = self.norm(maps.flatten(2)[..., :8])
        return self.fc(maps.mean(2))  # type: ignore[no-any-return]  # torch


def build(network: str) -> Detector:
    """Return a detector in float64, in which rounding hides no other difference."""
    if network in {"clips", "residual"}:
        torch.manual_seed(1)
        spec = SPEC if network == "clips" else ModelSpec("residual", summary="")
        model = Detector(spec, clip_network() if network == "clips" else Residual())
    else:
        model = build_detector(network, weights="none", seed=1, dropout=0.3)
    model.network.double().register_forward_pre_hook(lambda _, inputs: inputs[0].double())
    return model


def compare(_: Job, group: ProcessGroup) -> Mapping[str, Json]:
    """Compare gradients and statistics of a step of all ranks with those of one process, in float64."""
    torch.set_num_threads(1)
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]  # in this process alone
    result: dict[str, Json] = {}
    bce = make_objective("bce")
    cases: dict[str, tuple[str, int, Objective]] = {
        "odd": ("slim18", 5, bce),
        "one image": ("slim18", 1, bce),
        "two passes": ("slim18", 5, Perturbed()),
        "dropout of maps": ("squeezenet", 5, bce),
        "sam": ("slim18", 5, bce),
        "accumulated": ("slim18", 5, bce),
        "frames": ("squeezenet", 5, bce),
        "clips": ("clips", 1, bce),
        "dark clips": ("clips", 5, bce),
        "layers of other classes": ("residual", 5, bce),
    }
    for name, (network, size, objective) in cases.items():
        facts, config = [], replace(CONFIG, sam=0.05 if name == "sam" else 0.0)
        sizes: tuple[int, ...] = (size,)
        if (
            name == "accumulated"
        ):  # one step: two steps of Adam would differ by the noise of zero gradients
            sizes, config = (5, 5, 3), replace(CONFIG, accumulate=4)
        for own in (SINGLE_PROCESS, group):
            model = build(network)
            frames = FRAMES if name == "frames" or network == "clips" else None
            accept_clips(model, None if frames is None else Clips(frames=frames))
            with own.sync_batch_layers(model):
                most = 8 if name == "dark clips" else 256
                loop = step(model, sizes, own, objective, config, frames=frames, most=most)
            learned = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
            state = model.network.state_dict()
            moving = {key: value for key, value in state.items() if "running" in key}
            facts.append((learned, moving, loop.images_read))
        result[name] = {
            "gradients": difference(facts[0][0], facts[1][0]),
            "statistics": difference(facts[0][1], facts[1][1]),
            "images": [facts[0][2], facts[1][2]],
        }
    return {"ranks": group.gather_json(result)}
