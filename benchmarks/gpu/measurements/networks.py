"""The networks and loops of the parts that measure images per second."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.gpu.bench import Bench
from trueface.data.batch import Batch, BatchLoader
from trueface.data.index import Image
from trueface.data.loading.image_loaders import eval_loader
from trueface.data.loading.image_set import ImageLoader
from trueface.data.loading.prefetching import closing
from trueface.models.detectors import Detector, build_detector
from trueface.poisoning.loaders import poisoned_train_loader
from trueface.runtime.progress import RunContext
from trueface.runtime.timer import now
from trueface.training.loop import Loop
from trueface.training.objectives.registry import make_objective
from trueface.training.settings import TrainSettings

BATCH = 64  # the original's
LOADERS = 16  # processes at most
SIDES = (224, 96)  # pixels of a patch
PRECISIONS = ("bf16", "fp32")
AHEAD = 2  # batches that each process has ready: those of a short pass would all be ready
WARM = 8  # steps, in which kernels are chosen and a CUDA graph is captured
ACCELERATE = "accelerate"  # the setting that replays the steps of a training as a CUDA graph
OFF, GRAPH = "off", "graph"  # its values
# the original's launch line, so that augmentation costs what it costs there
RANDOM: dict[str, Any] = {
    "resize_prob": 0.2, "resize_size": 256, "resize_scale": [0.2, 1], "resize_ratio": [0.75, 1.33],
    "jpeg_prob": 0.2, "jpeg_qual": [30, 100], "blur_prob": 0.2, "blur_sigma": [1e-6, 3],
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A network at a size of patches and a precision."""

    bench: Bench
    side: int
    precision: str
    accelerate: str = OFF
    full_batch: int = BATCH
    automatic: bool = False  # as many processes load as there are free cores

    @property
    def name(self) -> str:
        """Name of the case in the rows."""
        mode = f", {self.accelerate}" if self.accelerate != OFF else ""
        return f"{self.model}, {self.side} px, {self.precision}{mode}"

    @property
    def model(self) -> str:
        """The network's name."""
        return "slim18" if self.bench.rehearsal else "nodown"

    @property
    def workers(self) -> int:
        """How many processes load."""
        return 0 if self.bench.rehearsal else min(LOADERS, self.bench.cores)

    @property
    def batch_size(self) -> int:
        """Images a step."""
        return self.bench.size(self.full_batch, 4)

    @property
    def first(self) -> int:
        """Number of the batch from which on the speed of a long pass is that of its slowest part."""
        return AHEAD * self.workers + WARM

    def settings(self, epochs: int = 1) -> TrainSettings:
        """Return the settings of a training, as a task file would have them."""
        return TrainSettings.model_validate(
            {
                "data_root": "", "split_path": "", "weights": "none", "model": self.model,
                "num_epochs": epochs, "batch_size": self.batch_size,
                "num_threads": "auto" if self.automatic else self.workers,
                "precision": self.precision, "patch_size": self.side, **RANDOM,
                **({ACCELERATE: self.accelerate} if has_graphs() else {}),
            }
        )  # fmt: skip

    def network(self, *, channels_last: bool = True) -> Detector:
        """Return the network on the device."""
        model = build_detector(self.model, weights="none", seed=1, channels_last=channels_last)
        return model.to(self.bench.device)

    def watch(self) -> RunContext:
        """Return device and precision."""
        return RunContext(device=self.bench.device, precision=self.precision)

    def training(self, images: Sequence[Image]) -> ImageLoader:
        """Return images as they are learned."""
        return poisoned_train_loader(images, self.settings(), None)

    def testing(self, images: Sequence[Image]) -> ImageLoader:
        """Return images as they are tested: the centre, as large as the patches."""
        settings = self.settings().model_copy(update={"resize_size": self.side, "patch_size": -1})
        return eval_loader(images, settings)

    def batch(self) -> Batch:
        """Return one random batch that is on the device."""
        rng = torch.Generator().manual_seed(1)
        shape = (self.batch_size, 3, self.side, self.side)
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=rng)
        labels = torch.arange(self.batch_size).remainder(2).float()[:, None]
        batch = Batch(inputs=pixels, labels=labels, indices=torch.arange(self.batch_size))
        return batch.to(self.bench.device)

    def loop(self, feed: BatchLoader, epochs: int = 1, *, channels_last: bool = True) -> Loop:
        """Return the laboratory's own training loop over a feed."""
        config, model = self.settings(epochs).trainer, self.network(channels_last=channels_last)
        objective = make_objective(config.objective)
        return Loop(model, feed, objective, config=config, watch=self.watch(), state={})


def cases(bench: Bench) -> list[Case]:
    """Return the cases, the most important first."""
    if bench.rehearsal:
        return [Case(bench=bench, side=16, precision="fp32")]
    return [
        Case(bench=bench, side=side, precision=precision)
        for precision in PRECISIONS
        for side in SIDES
    ]


def has_graphs() -> bool:
    """Return whether trainings have the setting `accelerate`."""
    return ACCELERATE in TrainSettings.model_fields


def modes(bench: Bench) -> tuple[str, ...]:
    """Return the values of the setting `accelerate` that can be measured."""
    return (OFF, GRAPH) if has_graphs() and not bench.rehearsal else (OFF,)


@dataclass(frozen=True, slots=True)
class Repeated:
    """A feed that gives one batch, which is on the device already, again and again."""

    batch: Batch
    count: int
    rest: int = 0  # images of a last, smaller batch

    def __len__(self) -> int:
        return self.count * len(self.batch.labels) + self.rest

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """Start a pass."""
        del epoch  # every pass is the same
        for _ in range(self.count):
            yield self.batch
        if self.rest:
            parts = (self.batch.inputs, self.batch.labels, self.batch.indices)
            inputs, labels, indices = (part[: self.rest] for part in parts)
            yield Batch(inputs=inputs, labels=labels, indices=indices)


class TimedFeed:
    """A feed whose speed is measured from one of its batches to the end of the pass.

    Args:
        feed: the batches.
        first: number of that batch, from 0. A pass that is shorter is measured as a whole.
    """

    def __init__(self, feed: BatchLoader, first: int) -> None:
        self._feed, self._first = feed, first
        self._began, self._count = 0.0, 0

    def __len__(self) -> int:
        return len(self._feed)

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """Start a pass."""
        with closing(self._feed(epoch)) as batches:
            for number, batch in enumerate(batches):
                if number in {0, self._first}:
                    self._began, self._count = now(), 0
                self._count += len(batch.labels)
                yield batch

    def speed(self) -> float:
        """Return the images per second until now."""
        return self._count / (now() - self._began)


def rate(step: Callable[[], int], seconds: float, *, warm: int = 3) -> float:
    """Return images per second of steps that are repeated for about so many seconds.

    Args:
        step: does one step, and returns the number of its images.
        seconds: after which no step is begun.
        warm: steps before, which are not counted.
    """
    for _ in range(warm):
        step()
    began, count = now(), 0
    while True:
        count += step()
        if time.monotonic() - began >= seconds:
            return count / (now() - began)


@contextmanager
def exact_float32() -> Iterator[None]:
    """Let convolutions and products compute in float32, where TF32 is quicker and less exact."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
