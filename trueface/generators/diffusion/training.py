"""The training of a diffuser: each step samples its batch from a random stream that depends on the step number.

A stopped or killed training resumes from its last state. On the same machine with the same number of threads, the
result is bit-identical to that of a training without interruption.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam

from trueface.generators.diffusion.diffuser import Diffuser
from trueface.generators.diffusion.networks import NetworkShape, build_network
from trueface.generators.diffusion.schedule import make_schedule
from trueface.generators.diffusion.settings import SMALL_T, DiffuserSettings, names_of_classes
from trueface.generators.made_folders import digest_of_images, load_images, to_minus_one_one
from trueface.generators.step_loader import StepLoader
from trueface.runtime import paths
from trueface.runtime.errors import DataError, UnknownName
from trueface.runtime.files import Json, write_atomic
from trueface.runtime.gradient_step import GradientStep, set_lr
from trueface.runtime.graph_step import Inputs, make_steps, reason_of_device
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

LONGEST_GRADIENT = 1.0  # norm that gradients are clipped to; early steps at large t exceed it
ROWS = 100  # rows in the history of a complete training
COLUMNS = ("step", "loss", "lr", "seconds")
WARM_UP = 100  # steps with a rising learning rate, at most a twentieth of all steps
LAST_LR = 0.05  # fraction of the highest rate; in short trainings, decay helps more than averaging


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedDiffuser:
    """A diffuser with the average weights of its training, and the history of the loss."""

    diffuser: Diffuser
    rows: tuple[tuple[float, ...], ...]  # history: step, mean loss since the previous row, …
    seconds: float  # duration without interruptions
    # launch of the steps; empty with `accelerate: off`
    acceleration: Mapping[str, Json] = field(default_factory=dict)

    @property
    def loss(self) -> float:
        """The mean loss in the last row of the history."""
        return self.rows[-1][1]


def load_classes(
    root: Path, *, size: int, channels: int, cpus: int = 1
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Return images N×C×H×W uint8, their classes (N,) int64, and the classes' names.

    Args:
        root: folder that contains one folder per class.
        size: side that each image must have, in pixels.
        channels: channels of the images, 3 or 1.
        cpus: number of threads that decode images.

    Raises:
        DataError: there are fewer than two classes, a class has no images, or as for `load_images`.
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
        images: training images, N×C×H×W, uint8.
        labels: class of each image, (N,). None: unconditional.
        settings: validated settings.
        class_names: names of the classes in the order of their labels. Empty: unconditional.
        watch: device, precision, progress and stop signal.
        folder: folder of resume.pt and history.csv. None: neither is written.

    Raises:
        DataError: the images have another size than in the settings, or no image remains.
        UnknownName: the class to leave out does not exist.
        JobError: the training was stopped, or the loss is not finite.
    """
    _refuse_other_shape(images, settings)
    kept = None
    if folder is not None:
        claim = RunFingerprint(
            _fingerprint(settings, digest_of_images(images, labels, class_names))
        )
        kept = ResumeFile(paths.resume(folder), claim, settings.save_every)
    images_and_labels = _exclude_class(images, labels, class_names, settings.without)
    watch = watch or RunContext()
    training = _DiffuserTraining(*images_and_labels, settings, class_names, watch.device, folder)
    try:
        run_steps(training, watch, kept)
    finally:
        training.steps.release()
    training.after_save()
    return TrainedDiffuser(
        diffuser=training.result(),
        rows=tuple(map(tuple, training.rows)),
        seconds=training.seconds,
        acceleration=training.steps.ran,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisedBatch:
    """The images of one step, with their noise steps and noise."""

    images: Tensor  # N×C×H×W in [-1, 1], on the device
    # (N,), on the device; equal to the number of classes if the class is dropped
    labels: Tensor | None
    t: Tensor  # noise step of each image, (N,), on the CPU
    noise: Tensor  # N×C×H×W, on the device


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSource:
    """Samples batches from images in memory.

    Args:
        loader: reads training images, N×C×H×W, uint8.
        labels: class of each image, (N,). None if there are no classes.
        classes: number of classes.
        settings: settings of the training.
        device: device of the batches.
    """

    loader: StepLoader
    labels: Tensor | None
    classes: int
    settings: DiffuserSettings
    device: str

    def batch(self, step: int) -> NoisedBatch:
        """Return the batch of a step. It depends only on the step number and the seed."""
        settings, count = self.settings, self.settings.batch_size
        batch, draw = self.loader(step)
        t = torch.randint(1, settings.latest_t + 1, (count,), generator=draw)
        if settings.small_t:
            small = torch.rand(count, generator=draw) < settings.small_t
            most = min(SMALL_T, settings.latest_t + 1)
            t = torch.where(small, torch.randint(1, most, (count,), generator=draw), t)
        images = to_minus_one_one(self._send(batch.inputs))
        if settings.flip:
            mirrored = torch.rand(count, generator=draw) < 0.5
            images = torch.where(self._send(mirrored)[:, None, None, None], images.flip(3), images)
        labels = None if self.labels is None else self.labels[batch.indices]
        if labels is not None:
            absent = torch.rand(count, generator=draw) < settings.class_dropout_rate(self.classes)
            labels = self._send(labels.masked_fill(absent, self.classes))
        # the noise is large, so it is generated on the device that uses it
        own = draw
        if self.device != "cpu":
            own = torch.Generator(self.device).manual_seed(draw.initial_seed())
        noise = torch.randn(images.shape, generator=own, device=self.device)
        return NoisedBatch(images=images, labels=labels, t=t, noise=noise)

    def _send(self, values: Tensor) -> Tensor:
        # otherwise torch waits until the device is idle
        return values.to(self.device, non_blocking=True)


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
        # the fused kernel updates all parameters in one pass, which is three times as fast on a CPU
        self.optimizer = Adam(self.network.parameters(), lr=settings.learning_rate, fused=True)
        self.gradient_step = GradientStep(
            self.optimizer, clip=LONGEST_GRADIENT, average=self.average
        )
        self.steps = make_steps(
            self.gradient_step,
            self._loss_of,
            device=device,
            accelerate=settings.accelerate,
            reason=reason_of_device(device),
        )
        self.parts = {
            "network": self.network,
            "average": self.average.network,
            "optimizer": self.optimizer,
        }
        self.rows: list[list[float]] = []  # the history, with the columns `COLUMNS`
        self.pending: list[float] = []  # losses since the last row of the history

    def result(self) -> Diffuser:
        """Return a diffuser with the average weights."""
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
        """Train on the batch of the step; return its loss."""
        set_lr(self.optimizer, learning_rate(self.settings, self.step))
        inputs = self._noisy_inputs(self.source.batch(self.step))
        return {"loss": self.steps(inputs)[0]}

    def nonfinite_message(self, name: str, loss: float) -> str:
        """Return a message with the step and the learning rate."""
        settings, lr = self.settings, learning_rate(self.settings, self.step - 1)
        return (
            f"the {name} is {loss} at step {self.step} of {self.total} (lr {lr:.3g}, batch_size "
            f"{settings.batch_size}, precision {settings.precision}). Use a smaller lr."
        )

    def record_losses(self, losses: Mapping[str, float]) -> Mapping[str, float]:
        """Add a row to the history after each hundredth of all steps."""
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
        """Restore the history and the average's number of updates."""
        self.rows, self.pending = numbers["rows"], numbers["pending"]
        self.average.steps = self.step

    def after_save(self) -> None:
        """Write the history next to the state."""
        if self.folder is not None:
            write_history(paths.history(self.folder), self.rows)

    def _noisy_inputs(self, batch: NoisedBatch) -> dict[str, Tensor]:
        """Return the inputs of the network and the output that it learns, on the device."""
        noisy = self.schedule.add_noise(batch.images, batch.t, batch.noise)
        target = batch.noise
        if self.settings.prediction == "v":
            signal = self.schedule.signal(batch.t, noisy)
            target = signal * batch.noise - self.schedule.sigma(batch.t, noisy) * batch.images
        inputs = {"noisy": noisy, "target": target, "t": batch.t.to(self.device, non_blocking=True)}
        return inputs if batch.labels is None else {**inputs, "labels": batch.labels}

    def _loss_of(self, inputs: Inputs) -> tuple[Tensor, dict[str, Tensor]]:
        table = self.network.table
        with autocast(self.device, self.settings.precision):
            embedding = None if table is None else table(inputs["labels"])
            answer = self.network(inputs["noisy"], inputs["t"], embedding)
        return torch.nn.functional.mse_loss(answer.float(), inputs["target"]), {}


def learning_rate(settings: DiffuserSettings, step: int) -> float:
    """Return the learning rate of a step, counted from 0: a linear rise, then a cosine decay."""
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
    images: Tensor, labels: Tensor | None, names: Sequence[str], excluded_name: str
) -> tuple[Tensor, Tensor | None]:
    if not excluded_name:
        return images, labels
    if labels is None:
        raise DataError(
            f"the images have no classes, so class {excluded_name!r} cannot be left out"
        )
    if excluded_name not in names:
        raise UnknownName("class", excluded_name, names)
    kept = labels != names.index(excluded_name)
    if not bool(kept.any()):
        raise DataError(f"no images are left without class {excluded_name}")
    return images[kept], labels[kept]


def _refuse_other_shape(images: Tensor, settings: DiffuserSettings) -> None:
    expected = (settings.channels, settings.size, settings.size)
    if images.dim() != 4 or tuple(images.shape[1:]) != expected or not len(images):
        raise DataError(f"images have the shape {tuple(images.shape)}, expected (N, {expected})")


def _fingerprint(settings: DiffuserSettings, images: str) -> str:
    """Return the fingerprint of everything that determines the result of a training."""
    # states of earlier versions do not contain this setting
    absent = {"accelerate"} if settings.accelerate == "off" else set()
    values = settings.model_dump(mode="json", exclude={"data_root", *settings.neutral, *absent})
    return values_fingerprint([images, torch.__version__, values])


def _mean(losses: Sequence[float]) -> float:
    return math.fsum(losses) / len(losses)
