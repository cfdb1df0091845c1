"""The denoising auto-encoder: a small convolutional network, its file and its training."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.generators.made_folders import digest_of_images, to_minus_one_one
from trueface.generators.purification.registry import DenoiserSettings
from trueface.generators.step_loader import StepLoader
from trueface.models import model_file
from trueface.models.model_file import Checkpoint, ModelKind
from trueface.runtime.files import Json
from trueface.runtime.gradient_step import GradientStep, set_lr
from trueface.runtime.graph_step import Inputs, make_steps, reason_of_device
from trueface.runtime.progress import RunContext
from trueface.runtime.rng import stream_seed
from trueface.runtime.stepping import (
    ResumeFile,
    RunFingerprint,
    StepTrainer,
    run_steps,
    values_fingerprint,
)

KIND = ModelKind(
    name="denoiser",
    arguments={"channels": int, "width": int, "depth": int},  # fields of `DenoiserShape`
    absent="checkpoint {path} does not exist. Train the denoiser first.",
    unreadable="checkpoint {path}: {error}. Train the denoiser again.",
    other_kind="checkpoint {path} is not a denoiser. Give a model of job type denoiser.",
    other_schema="checkpoint {path} has another schema version. Train the denoiser again.",
    damaged="checkpoint {path} is damaged ({error}). Train the denoiser again.",
)
# factor of the difference between a pixel and its local mean, which makes it about as large as the image
DETAIL = 10.0
LOSS_DECAY = 0.98  # decay per step of the reported mean loss


@dataclass(frozen=True, slots=True, kw_only=True)
class DenoiserShape:
    """The arguments to build a denoiser, without its weights."""

    channels: int  # channels of the images, 3 or 1
    width: int  # channels of its hidden layers
    depth: int  # convolutions, 2 or more


class Denoiser(nn.Module):
    """Convolutions of 3x3 with ReLU between them, which estimate the noise in an image.

    The output is the image minus that noise (K. Zhang et al., arXiv 1608.03981, section III). A new
    network is the identity, because the weights of its last layer are initially zero. The first layer
    receives the image and ten times the difference between each pixel and its local mean. The noise is
    about a twentieth of the image's range. With the image alone, a few hundred training steps are not
    enough to detect it.

    MagNet's defensive model 1 (arXiv 1705.09064, table 2) is different: it generates the image itself
    through a sigmoid, and pools once.

    The input is N×C×H×W in [-1, 1], with sides of at least 2 pixels. The output may exceed that range.
    """

    def __init__(self, shape: DenoiserShape) -> None:
        super().__init__()
        self.shape = shape
        widths = [2 * shape.channels, *[shape.width] * (shape.depth - 1), shape.channels]
        layers: list[nn.Module] = []
        for in_channels, after in pairwise(widths):
            layers += [
                nn.Conv2d(in_channels, after, 3, padding=1, padding_mode="reflect"),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers[:-1])
        last = self.layers[-1]
        assert isinstance(last, nn.Conv2d)
        nn.init.zeros_(last.weight)
        if last.bias is not None:
            nn.init.zeros_(last.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return the images without the estimated noise."""
        around = functional.pad(images, (1, 1, 1, 1), mode="reflect")
        detail = images - functional.avg_pool2d(around, 3, stride=1)
        noise: Tensor = self.layers(torch.cat([images, DETAIL * detail], dim=1))
        return images - noise


def new_denoiser(shape: DenoiserShape, seed: int) -> Denoiser:
    """Return a denoiser with random weights from a seed. The global random state of torch does not change."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        return Denoiser(shape)


def save_denoiser(path: Path, denoiser: Denoiser, provenance: Mapping[str, Json]) -> None:
    """Write a denoiser atomically, with its provenance. Folders are created as needed."""
    stored = Checkpoint(
        kind=KIND.name,
        arch="residual",
        arguments=asdict(denoiser.shape),
        state=denoiser.state_dict(),
        provenance=provenance,
    )
    model_file.save(path, stored)


def load_denoiser(path: Path, device: str = "cpu") -> Denoiser:
    """Return a denoiser in evaluation mode, its weights without gradients.

    Raises:
        CheckpointError: the file does not exist, cannot be read safely, or belongs to another network.
    """
    stored = model_file.load(path, KIND)
    return model_file.build(stored, path, KIND, _from_checkpoint).to(device)


def _from_checkpoint(checkpoint: Checkpoint) -> Denoiser:
    network = Denoiser(DenoiserShape(**checkpoint.arguments))
    return model_file.load_frozen(network, checkpoint.state)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedDenoiser:
    """A trained denoiser and its loss."""

    denoiser: Denoiser
    loss: float  # mean squared error, as an exponential moving average over the steps
    resumed_at: int  # number of steps before this attempt; 0 if it was not resumed
    # launch of the steps; empty with `accelerate: off`
    acceleration: Mapping[str, Json] = field(default_factory=dict)


def train_denoiser(
    images: Tensor, settings: DenoiserSettings, *, watch: RunContext, state: Path
) -> TrainedDenoiser:
    """Return a denoiser trained on images to which noise is added.

    Images, mirroring and noise of a step depend only on its number. A training that resumes from
    `state` is therefore bit-identical to one without interruption.

    Args:
        images: training images, N×C×H×W, uint8, on the CPU.
        settings: validated settings.
        watch: device, progress and stop signal.
        state: file of the state of an interrupted training. It is removed at the end.

    Raises:
        JobError: the training was stopped (its state is written first), or the loss is not finite.
    """
    values = settings.decisive(settings.model_dump(mode="json"))
    claim = RunFingerprint(
        values_fingerprint({"settings": values, "images": digest_of_images(images)})
    )
    training = _DenoiserTraining(images, settings, watch.device)
    try:
        run_steps(training, watch, ResumeFile(state, claim, settings.save_every))
    finally:
        training.steps.release()
    denoiser = training.denoiser.eval().requires_grad_(requires_grad=False)
    return TrainedDenoiser(
        denoiser=denoiser,
        loss=training.loss,
        resumed_at=training.begun,
        acceleration=training.steps.ran,
    )


class _DenoiserTraining(StepTrainer):
    stopped = "stopped after {step} of {total} steps. The next attempt resumes from there."

    def __init__(self, images: Tensor, settings: DenoiserSettings, device: str) -> None:
        super().__init__(settings.num_steps)
        self.settings, self.device = settings, device
        self.loader = StepLoader(images, "denoiser", settings.batch_size, settings.seed)
        shape = DenoiserShape(
            channels=settings.channels, width=settings.width, depth=settings.depth
        )
        self.denoiser = new_denoiser(shape, stream_seed("denoiser/weights", settings.seed)).to(
            device
        )
        reason = reason_of_device(device)
        replays = settings.accelerate == "graph" and not reason
        self.optimizer = torch.optim.Adam(
            self.denoiser.parameters(),
            lr=settings.lr,
            fused=replays or None,  # None: torch chooses
        )
        self.gradient_step = GradientStep(self.optimizer)
        self.steps = make_steps(
            self.gradient_step,
            self._loss_of,
            device=device,
            accelerate=settings.accelerate,
            reason=reason,
        )
        self.parts = {"model": self.denoiser, "optimizer": self.optimizer}
        self.loss = 0.0  # moving average over the steps
        self.begun = 0

    def take_step(self) -> Mapping[str, float]:
        """Train on a batch of images with added noise; return the loss."""
        falling = (1 + math.cos(math.pi * self.step / self.total)) / 2
        set_lr(self.optimizer, self.settings.lr * falling)
        drawn = _draw_noise_batch(self.loader, self.settings, self.step)
        clean, noise = (part.to(self.device, non_blocking=True) for part in drawn)
        inputs = {"clean": clean, "noise": noise}
        return {"loss": self.steps(inputs)[0]}

    def _loss_of(self, inputs: Inputs) -> tuple[Tensor, dict[str, Tensor]]:
        # the error of the denoised image equals the error of the estimated noise
        clean, noise = inputs["clean"], inputs["noise"]
        return functional.mse_loss(self.denoiser(clean + noise), clean), {}

    def nonfinite_message(self, name: str, loss: float) -> str:
        """Return a message with the step."""
        return f"the {name} is {loss} at step {self.step}. Use a smaller lr."

    def record_losses(self, losses: Mapping[str, float]) -> Mapping[str, float]:
        """Update the mean loss; return the values to report."""
        loss = losses["loss"]
        self.loss = loss if self.step == 1 else LOSS_DECAY * self.loss + (1 - LOSS_DECAY) * loss
        return {"loss": self.loss}

    def extra_state(self) -> dict[str, Any]:
        """Return the mean loss."""
        return {"loss": self.loss}

    def load_extra_state(self, numbers: Mapping[str, Any]) -> None:
        """Restore the mean loss."""
        self.loss, self.begun = float(numbers["loss"]), self.step


def _draw_noise_batch(
    loader: StepLoader, settings: DenoiserSettings, step: int
) -> tuple[Tensor, Tensor]:
    """Return the clean images of a step and the noise to add to them."""
    batch, rng = loader(step)
    clean, count = to_minus_one_one(batch.inputs), settings.batch_size
    if settings.flip:
        mirrored = torch.rand(count, 1, 1, 1, generator=rng) < 0.5
        clean = torch.where(mirrored, clean.flip(-1), clean)
    least, most = settings.noise
    strengths = least + (most - least) * torch.rand(count, 1, 1, 1, generator=rng)
    return clean, strengths * torch.randn(clean.shape, generator=rng)
