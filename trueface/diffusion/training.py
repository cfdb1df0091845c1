"""The training of a diffuser: a number of steps, each from a batch of its own random stream.

A training that was stopped or killed goes on where it was, to the same bits: on the same machine, with
the same number of threads.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam

from trueface.data.made_folders import digest_of_images, load_images, to_minus_one_one
from trueface.data.step_loader import StepLoader
from trueface.diffusion.diffuser import Diffuser
from trueface.diffusion.networks import NetworkShape, build_network
from trueface.diffusion.schedule import make_schedule
from trueface.diffusion.settings import SMALL_T, DiffuserSettings, names_of_classes
from trueface.runtime import paths
from trueface.runtime.errors import DataError, UnknownName
from trueface.runtime.files import write_atomic
from trueface.runtime.gradient_step import GradientStep, set_lr
from trueface.runtime.moving_average import ExponentialMovingAverage
from trueface.runtime.precision import autocast
from trueface.runtime.progress import RunContext
from trueface.runtime.stepping import (
    ResumeFile,
    RunFingerprint,
    StepTrainer,
    run_steps,
    values_fingerprint,
)

LONGEST_GRADIENT = 1.0  # longer ones are shortened to it: early steps of large t
ROWS = 100  # rows in the history of a complete training
COLUMNS = ("step", "loss", "lr", "seconds")
WARM_UP = 100  # steps of a rising learning rate, at most a twentieth of all
LAST_LR = 0.05  # of the highest; short trainings end better on a falling rate than on their average


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedDiffuser:
    """A diffuser with the average weights of its training, and what that was."""

    diffuser: Diffuser
    rows: tuple[tuple[float, ...], ...]  # of the history: step, mean loss since the last row, …
    seconds: float  # interruptions not counted

    @property
    def loss(self) -> float:
        """Mean of the last row."""
        return self.rows[-1][1]


def load_classes(
    root: Path, *, size: int, channels: int, cpus: int = 1
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Return images N×C×H×W uint8, their classes (N,) int64, and the classes' names.

    Args:
        root: holds a folder for each class.
        size: the side that each image must have, in pixels.
        channels: 3 or 1.
        cpus: threads that decode.

    Raises:
        DataError: fewer than two classes, one without images, or as of `load_images`.
    """
    names = names_of_classes(root)
    images = [load_images(root / name, size=size, channels=channels, cpus=cpus) for name in names]
    labels = [torch.full((len(part),), label) for label, part in enumerate(images)]
    return torch.cat(images), torch.cat(labels), names


def fit(
    images: Tensor,
    labels: Tensor | None,
    settings: DiffuserSettings,
    *,
    class_names: Sequence[str] = (),
    watch: RunContext | None = None,
    folder: Path | None = None,
) -> TrainedDiffuser:
    """Train a diffuser.

    Args:
        images: N×C×H×W, uint8.
        labels: (N,) their classes; None: unconditional.
        settings: checked.
        class_names: in the order of the labels; empty: unconditional.
        watch: device, precision, progress, stop.
        folder: where resume.pt and history.csv are kept; None: nowhere.

    Raises:
        DataError: the images are of another size than the settings', or none is left.
        UnknownName: the class to leave out is none of the classes.
        JobError: stopped, or the loss is not finite.
    """
    _refuse_other_shape(images, settings)
    kept = None
    if folder is not None:
        claim = RunFingerprint(
            _fingerprint(settings, digest_of_images(images, labels, class_names))
        )
        kept = ResumeFile(paths.resume(folder), claim, settings.save_every)
    learned = _exclude_class(images, labels, class_names, settings.without)
    watch = watch or RunContext()
    training = _DiffuserTraining(*learned, settings, class_names, watch.device, folder)
    run_steps(training, watch, kept)
    training.after_save()
    return TrainedDiffuser(
        diffuser=training.result(),
        rows=tuple(map(tuple, training.rows)),
        seconds=training.seconds,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisedBatch:
    """Random values of one step."""

    images: Tensor  # N×C×H×W in [-1, 1], on the device
    labels: Tensor | None  # (N,), on the device; the number of classes: left out
    t: Tensor  # (N,), on the CPU
    noise: Tensor  # like the images


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSource:
    """The sampling of batches.

    Args:
        loader: of images N×C×H×W, uint8.
        labels: (N,); None: they have no classes.
        classes: how many; 0: none.
        settings: of the training.
        device: where batches are wanted.
    """

    loader: StepLoader
    labels: Tensor | None
    classes: int
    settings: DiffuserSettings
    device: str

    def batch(self, step: int) -> NoisedBatch:
        """Return the batch of a step; two calls return the same one."""
        settings, count = self.settings, self.settings.batch_size
        batch, draw = self.loader(step)
        t = torch.randint(1, settings.latest_t + 1, (count,), generator=draw)
        if settings.small_t:
            small = torch.rand(count, generator=draw) < settings.small_t
            most = min(SMALL_T, settings.latest_t + 1)
            t = torch.where(small, torch.randint(1, most, (count,), generator=draw), t)
        images = to_minus_one_one(batch.inputs.to(self.device))
        if settings.flip:
            mirrored = torch.rand(count, generator=draw) < 0.5
            images = torch.where(
                mirrored.to(self.device)[:, None, None, None], images.flip(3), images
            )
        labels = None if self.labels is None else self.labels[batch.indices]
        if labels is not None:
            absent = torch.rand(count, generator=draw) < settings.class_dropout_rate(self.classes)
            labels = labels.masked_fill(absent, self.classes).to(self.device)
        # large, so generated on the device that uses it
        own = draw
        if self.device != "cpu":
            own = torch.Generator(self.device).manual_seed(draw.initial_seed())
        noise = torch.randn(images.shape, generator=own, device=self.device)
        return NoisedBatch(images=images, labels=labels, t=t, noise=noise)


class _DiffuserTraining(StepTrainer):
    stopped = "stopped after step {step} of {total}"

    def __init__(
        self,
        images: Tensor,
        labels: Tensor | None,
        settings: DiffuserSettings,
        class_names: Sequence[str],
        device: str,
        folder: Path | None,
    ) -> None:
        super().__init__(settings.num_steps)
        self.settings, self.names, self.device = settings, tuple(class_names), device
        self.folder = folder
        self.source = BatchSource(
            loader=StepLoader(images, "step", settings.batch_size, settings.seed),
            labels=labels,
            classes=len(self.names),
            settings=settings,
            device=device,
        )
        shape = NetworkShape(
            network=settings.network,
            size=settings.size,
            channels=settings.channels,
            classes=len(self.names),
            embedding=settings.embedding_width,
            widths=settings.network_widths,
            unshuffle=settings.unshuffle,
            attention=settings.attention,
        )
        self.network = build_network(shape, seed=settings.seed).to(device).train()
        self.average = ExponentialMovingAverage(self.network, settings.ema, rises=True)
        self.schedule = make_schedule(settings.schedule, settings.noise_steps)
        # fused is one pass over all parameters: on a CPU three times as fast as a loop over them
        self.optimizer = Adam(self.network.parameters(), lr=settings.learning_rate, fused=True)
        self.gradient_step = GradientStep(
            self.optimizer, clip=LONGEST_GRADIENT, average=self.average
        )
        self.parts = {
            "network": self.network,
            "average": self.average.network,
            "optimizer": self.optimizer,
        }
        self.rows: list[list[float]] = []  # of `COLUMNS`
        self.pending: list[float] = []  # losses since the last row

    def result(self) -> Diffuser:
        """Return the diffuser of the average weights."""
        return Diffuser(
            network=self.average.network,
            schedule=self.schedule,
            prediction=self.settings.prediction,
            t_max=self.settings.latest_t,
            size=self.settings.size,
            channels=self.settings.channels,
            class_names=self.names,
            has_null=self.settings.class_dropout_rate(len(self.names)) > 0,
        )

    def take_step(self) -> Mapping[str, float]:
        """Learn from the batch of the step."""
        set_lr(self.optimizer, learning_rate(self.settings, self.step))
        return {"loss": self.gradient_step(self._loss(self.source.batch(self.step)))}

    def nonfinite_message(self, name: str, loss: float) -> str:
        """Name the step and the rate."""
        settings, lr = self.settings, learning_rate(self.settings, self.step - 1)
        return (
            f"the {name} is {loss} at step {self.step} of {self.total} (lr {lr:.3g}, batch_size "
            f"{settings.batch_size}, precision {settings.precision}). Use a smaller lr."
        )

    def record_losses(self, losses: Mapping[str, float]) -> Mapping[str, float]:
        """Close a row of the history for each hundredth of all steps."""
        lr = learning_rate(self.settings, self.step - 1)
        self.pending.append(losses["loss"])
        loss = self.rows[-1][1] if self.rows else _mean(self.pending)
        if self.step * ROWS // self.total > (self.step - 1) * ROWS // self.total:
            loss = _mean(self.pending)
            self.rows.append([self.step, loss, lr, self.seconds])
            self.pending.clear()
        images_per_s = self.step * self.settings.batch_size / max(self.seconds, 1e-9)
        return {"loss": loss, "lr": lr, "images_per_s": images_per_s}

    def extra_state(self) -> dict[str, Any]:
        """Return the history."""
        return {"rows": self.rows, "pending": self.pending}

    def load_extra_state(self, numbers: Mapping[str, Any]) -> None:
        """Take the history; the average's decay follows the steps."""
        self.rows, self.pending = numbers["rows"], numbers["pending"]
        self.average.steps = self.step

    def after_save(self) -> None:
        """Write the history next to the state."""
        if self.folder is not None:
            write_history(paths.history(self.folder), self.rows)

    def _loss(self, batch: NoisedBatch) -> Tensor:
        noisy = self.schedule.add_noise(batch.images, batch.t, batch.noise)
        table = self.network.table
        target = batch.noise
        if self.settings.prediction == "v":
            signal = self.schedule.signal(batch.t, noisy)
            target = signal * batch.noise - self.schedule.sigma(batch.t, noisy) * batch.images
        with autocast(self.device, self.settings.precision):
            embedding = None if table is None else table(batch.labels)
            answer = self.network(noisy, batch.t.to(self.device), embedding)
        return torch.nn.functional.mse_loss(answer.float(), target)


def learning_rate(settings: DiffuserSettings, step: int) -> float:
    """Return the learning rate of a step, counted from 0: it rises evenly, then falls along a cosine."""
    total = settings.num_steps
    warm = max(1, min(WARM_UP, total // 20))
    if step < warm:
        return settings.learning_rate * (step + 1) / warm
    share = (step - warm) / max(1, total - warm)
    falling = LAST_LR + (1 - LAST_LR) * (1 + math.cos(math.pi * share)) / 2
    return settings.learning_rate * falling


def write_history(path: Path, rows: Sequence[Sequence[float]]) -> None:
    """Write one CSV line per row, atomically. Folders are created as needed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([int(row[0]), *(f"{value:.6g}" for value in row[1:])] for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text.getvalue())


def _exclude_class(
    images: Tensor, labels: Tensor | None, names: Sequence[str], unwanted: str
) -> tuple[Tensor, Tensor | None]:
    if not unwanted:
        return images, labels
    if labels is None:
        raise DataError(f"the images have no classes, so class {unwanted!r} cannot be left out")
    if unwanted not in names:
        raise UnknownName("class", unwanted, names)
    kept = labels != names.index(unwanted)
    if not bool(kept.any()):
        raise DataError(f"no images are left without class {unwanted}")
    return images[kept], labels[kept]


def _refuse_other_shape(images: Tensor, settings: DiffuserSettings) -> None:
    wanted = (settings.channels, settings.size, settings.size)
    if images.dim() != 4 or tuple(images.shape[1:]) != wanted or not len(images):
        raise DataError(f"images have the shape {tuple(images.shape)}, expected (N, {wanted})")


def _fingerprint(settings: DiffuserSettings, images: str) -> str:
    """Return the fingerprint of all that decides a training's result."""
    values = settings.model_dump(mode="json", exclude={"data_root", *settings.neutral})
    return values_fingerprint([images, torch.__version__, values])


def _mean(losses: Sequence[float]) -> float:
    return math.fsum(losses) / len(losses)
