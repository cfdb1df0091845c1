"""How a denoiser learns: steps that go on, bit by bit, where they were stopped."""

import hashlib
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from trueface.data.made.folders import to_unit
from trueface.diffusion.images import digest
from trueface.purification.denoiser import Denoiser, DenoiserShape, new_denoiser
from trueface.purification.settings import DenoiserSettings
from trueface.runtime import tensor_files
from trueface.runtime.errors import JobError
from trueface.runtime.progress import Watch
from trueface.runtime.rng import derive

LOSS_DECAY = 0.98  # of the mean that is reported

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A denoiser that has learned, and its loss."""

    denoiser: Denoiser
    loss: float  # mean squared error, the mean over the last steps, newer ones counting more
    resumed_at: int  # the step that this attempt began with; 0: anew


def train_denoiser(
    images: Tensor, settings: DenoiserSettings, *, watch: Watch, state: Path
) -> Trained:
    """Return a denoiser trained on images to which noise is added.

    A step draws its images, their mirroring and their noise by its own number alone, so that a
    training that goes on from `state` has the bits of one that was never stopped.

    Args:
        images: N×C×H×W, uint8, on the CPU.
        settings: checked.
        watch: the device, where progress goes, and what stops it.
        state: file of an interrupted training; written now and then, removed at the end.

    Raises:
        JobError: stopped, the state being written; or the loss is not finite: says the step.
    """
    shape = DenoiserShape(channels=settings.channels, width=settings.width, depth=settings.depth)
    denoiser = new_denoiser(shape, derive("denoiser/weights", settings.seed)).to(watch.device)
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=settings.lr)
    identity = _fingerprint(settings, digest(images, None, ()))
    begun, mean = _restored(state, identity, denoiser, optimizer)
    for step in range(begun, settings.num_steps):
        if watch.stop.is_set():
            _keep(state, identity, denoiser, optimizer, step, mean)
            raise JobError(f"stopped after {step} of {settings.num_steps} steps; it goes on there")
        loss = _learn(denoiser, optimizer, images, settings, step, watch.device)
        mean = loss if step == 0 else LOSS_DECAY * mean + (1 - LOSS_DECAY) * loss
        watch.progress(step=step + 1, total=settings.num_steps, loss=mean)
        if (step + 1) % settings.save_every == 0 and step + 1 < settings.num_steps:
            _keep(state, identity, denoiser, optimizer, step + 1, mean)
    denoiser.eval().requires_grad_(requires_grad=False)
    return Trained(denoiser=denoiser, loss=mean, resumed_at=begun)


def _learn(
    denoiser: Denoiser,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    settings: DenoiserSettings,
    step: int,
    device: str,
) -> float:
    """Take one step; return its loss."""
    for group in optimizer.param_groups:
        group["lr"] = settings.lr * (1 + math.cos(math.pi * step / settings.num_steps)) / 2
    clean, noise = (part.to(device) for part in _drawn(images, settings, step))
    # of the answer's clean image, and so of the noise, too
    loss = functional.mse_loss(denoiser(clean + noise), clean)
    value = loss.item()
    if not math.isfinite(value):
        raise JobError(f"the loss is {value} at step {step + 1}; take a smaller lr")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]  # torch
    optimizer.step()
    return value


def _drawn(images: Tensor, settings: DenoiserSettings, step: int) -> tuple[Tensor, Tensor]:
    """Return a step's clean images and the noise for them."""
    chance = torch.Generator().manual_seed(derive(f"denoiser/{step}", settings.seed))
    count = settings.batch_size
    rows = torch.randint(len(images), (count,), generator=chance)
    clean = to_unit(images[rows])
    if settings.flip:
        mirrored = torch.rand(count, 1, 1, 1, generator=chance) < 0.5
        clean = torch.where(mirrored, clean.flip(-1), clean)
    least, most = settings.noise
    strengths = least + (most - least) * torch.rand(count, 1, 1, 1, generator=chance)
    return clean, strengths * torch.randn(clean.shape, generator=chance)


def _fingerprint(settings: DenoiserSettings, images: str) -> str:
    values = settings.decisive(settings.model_dump(mode="json"))
    text = json.dumps({"settings": values, "images": images}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _keep(
    path: Path,
    identity: str,
    denoiser: Denoiser,
    optimizer: torch.optim.Optimizer,
    step: int,
    loss: float,
) -> None:
    content = {
        "fingerprint": identity,
        "step": step,
        "loss": loss,
        "model": denoiser.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    tensor_files.save(path, content)


def _restored(
    path: Path, identity: str, denoiser: Denoiser, optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    """Fill in the state of an interrupted training; return its step and loss, 0 where there is none."""
    content = _state(path)
    if content is None:
        return 0, 0.0
    if content.get("fingerprint") != identity:
        log.info("state=%s reason=of another training, so it begins anew", path)
        return 0, 0.0
    denoiser.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    log.info("state=%s step=%d reason=goes on there", path, content["step"])
    return int(content["step"]), float(content["loss"])


def _state(path: Path) -> Mapping[str, Any] | None:
    try:
        content = tensor_files.load(path)
    except FileNotFoundError:
        return None
    except tensor_files.BrokenFileError as error:
        log.warning("state=%s reason=cannot be read, so it begins anew: %s", path, error)
        return None
    return content if isinstance(content, dict) else None
