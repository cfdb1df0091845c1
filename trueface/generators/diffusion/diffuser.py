"""A trained diffusion model: its noise schedule, its network, and sampling.

Sampling is DDIM, the inversion of DDIM, or the reverse chain of DDPM. The caller passes all noise. Gradients are
tracked; use `torch.no_grad()` if they are not needed. `models.model_file` describes the file.
"""

import copy
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from trueface.generators.diffusion.networks import (
    EpsNetwork,
    NetworkName,
    NetworkShape,
    build_network,
)
from trueface.generators.diffusion.schedule import Schedule, Steps, make_schedule
from trueface.models import model_file
from trueface.models.model_file import Checkpoint, ModelKind
from trueface.runtime.errors import JobError, UnknownName
from trueface.runtime.files import Json

StepHook = Callable[[int, Tensor], None]  # called with a step and its images


Prediction = Literal["eps", "v"]
_NO_NULL = (
    "guidance and erasing need a null token, but this diffuser was trained with drop 0. "
    "Train it with drop: 0.1."
)
KIND = ModelKind(
    name="diffuser",
    # `network` is the result of `EpsNetwork.build_config`, `schedule` the argument of `make_schedule`
    arguments={
        "network": dict, "schedule": dict, "prediction": str, "t_max": int, "size": int,
        "channels": int, "class_names": list, "has_null": bool,
    },
    other_kind="{path} is not a diffuser, but the model of another job type",
)  # fmt: skip
STABLE = "trueface.generators.diffusion.stable"  # the module that builds the network of a Stable Diffusion


@dataclass(kw_only=True, eq=False)
class Diffuser:
    """A network with its noise schedule, its classes and the steps that it was trained for.

    Attributes:
        network: the network, in evaluation mode.
        prediction: output of the network: the noise, or v = sqrt(abar) noise - sqrt(1 - abar) x_0
            (arXiv 2202.00512, appendix D).
        t_max: largest step of the training, 1 … T.
        size: side of the images in pixels.
        channels: channels of the images, 3 or 1.
        class_names: names of the classes in the order of the embedding table. Empty if the network is
            unconditional.
        has_null: whether the class of some images was dropped in training. Guidance requires this.
    """

    network: EpsNetwork
    schedule: Schedule
    prediction: Prediction = "eps"
    t_max: int = 0  # 0: all steps of the schedule
    size: int
    channels: int
    class_names: tuple[str, ...] = ()
    has_null: bool = False

    def __post_init__(self) -> None:
        self.t_max = self.t_max or self.schedule.steps
        if not 1 <= self.t_max <= self.schedule.steps:
            raise ValueError(
                f"t_max {self.t_max} is outside the {self.schedule.steps} steps of the schedule"
            )

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.network.parameters()).device

    def embed(self, labels: Tensor) -> Tensor:
        """Return the embeddings (N, E) of class numbers (N,). The number of classes stands for the null token.

        Raises:
            JobError: the diffuser is unconditional, or was trained without the null token.
        """
        table = self.network.table
        if table is None:
            raise JobError(
                "this diffuser was trained without classes. Train one with data: classes:all."
            )
        if not self.has_null and bool((labels == self.network.classes).any()):
            raise JobError(_NO_NULL)
        embedded: Tensor = table(labels.to(self.device))
        return embedded

    def null(self, n: int) -> Tensor:
        """Return the embedding of the null token, repeated n times: (n, E).

        Raises:
            JobError: the diffuser is unconditional, or was trained without the null token.
        """
        return self.repeat_embedding(None, n)

    def repeat_embedding(self, label: int | None, count: int) -> Tensor:
        """Return the embedding of a class, or of the null token for None, `count` times: N×E (text: N×tokens×E).

        Raises:
            JobError: the diffuser is unconditional, or was trained without the null token.
        """
        number = self.network.classes if label is None else label
        return self.embed(torch.full((count,), number))

    def label(self, name: str) -> int:
        """Return the number of a class.

        Raises:
            UnknownName: there is no class of this name. The message names the nearest.
        """
        if name not in self.class_names:
            raise UnknownName("concept", name, self.class_names)
        return self.class_names.index(name)

    def check_samples_from_noise(self) -> None:
        """Check that images can be sampled from pure noise.

        Raises:
            JobError: the diffuser was trained only for earlier steps, at which an image is still visible.
        """
        if self.t_max < self.schedule.steps:
            raise JobError(
                f"this diffuser was trained only up to step {self.t_max} of {self.schedule.steps} and "
                "cannot draw images from noise. Train one without t_max."
            )

    def eps(self, x: Tensor, t: Steps, embedding: Tensor | None = None) -> Tensor:
        """Return the predicted noise in images.

        Args:
            x: noisy images, N×C×H×W.
            t: step of each image, (N,), or one step for all, 1 … t_max.
            embedding: embedding of each image's class, (N, E). None for no class.

        Raises:
            JobError: the diffuser was not trained for such a step, or without the null token.
        """
        latest = t if isinstance(t, int) else int(t.max())
        if latest > self.t_max:
            raise JobError(
                f"noise step {latest} is too large: this diffuser was trained up to step {self.t_max}. "
                "Use a smaller step, or train with a larger t_max."
            )
        if embedding is None and self.network.table is not None:
            embedding = self.null(len(x))
        steps = torch.full((len(x),), t, device=x.device) if isinstance(t, int) else t.to(x.device)
        answer: Tensor = self.network(x, steps, embedding)
        return self.output_to_eps(answer, x, t)

    def output_to_eps(self, answer: Tensor, x: Tensor, t: Steps) -> Tensor:
        """Convert an output of the network to noise."""
        if self.prediction == "eps":
            return answer
        return self.schedule.signal(t, x) * answer + self.schedule.sigma(t, x) * x

    def guided_eps(self, x: Tensor, t: Steps, embedding: Tensor, guidance: float) -> Tensor:
        """Return eps_null + guidance (eps_class - eps_null). In arXiv 2207.12598, guidance is w + 1.

        Raises:
            JobError: as for `eps`. A guidance of 1 does not need the null token.
        """
        if guidance == 1:
            return self.eps(x, t, embedding)
        both = t if isinstance(t, int) else torch.cat([t, t])
        noises = self.eps(torch.cat([x, x]), both, torch.cat([self.null(len(x)), embedding]))
        null, named = noises.chunk(2)
        return null + guidance * (named - null)

    def to(self, device: str | torch.device) -> "Diffuser":
        """Return this diffuser with its network moved to a device."""
        self.network.to(device)
        return self

    def copy(self) -> "Diffuser":
        """Return a copy that does not share weights with this diffuser."""
        return replace(self, network=copy.deepcopy(self.network))


def timesteps(schedule: Schedule, steps: int, t_max: int | None = None) -> tuple[int, ...]:
    """Return evenly spaced steps for sampling, in descending order and above 0.

    Args:
        schedule: noise schedule of the diffuser.
        steps: number of steps.
        t_max: largest step. None: the largest of the schedule.

    Raises:
        JobError: the schedule has fewer steps.
    """
    last = schedule.steps if t_max is None else t_max
    if not 1 <= steps <= last:
        raise JobError(f"{steps} sampling steps are not possible: expected 1 to {last}")
    return tuple(round(last * left / steps) for left in range(steps, 0, -1))


def ddim_step(schedule: Schedule, x: Tensor, eps: Tensor, t: int, t_next: int) -> Tensor:
    """Return images moved from step t to step t_next, forwards or backwards, without new noise.

    Source: arXiv 2010.02502, equation 12 with sigma = 0.
    """
    clean = schedule.x0(x, t, eps)
    return schedule.signal(t_next, x) * clean + schedule.sigma(t_next, x) * eps


def ddim_sample(
    diffuser: Diffuser,
    noise: Tensor,
    embedding: Tensor | None,
    *,
    steps: int,
    guidance: float = 1.0,
    step_hook: StepHook | None = None,
) -> Tensor:
    """Sample images from noise, N×C×H×W, not clipped to [-1, 1].

    Args:
        diffuser: diffuser that was trained up to the last step of its schedule. Otherwise `noise`
            must be noisy images of step t_max.
        noise: noise to start from.
        embedding: embeddings (N, E) of the classes to sample. None: unconditional.
        steps: number of calls of the network. With guidance each call has twice as many images.
        guidance: strength of the guidance. 1 disables it.
        step_hook: function that is called with t and the images before each step.

    Raises:
        JobError: guidance is requested without classes or without the null token, or `steps` is
            larger than the number of steps in the schedule.
    """
    if embedding is None and guidance != 1:
        raise JobError(f"guidance {guidance} needs a class. Give the class to sample.")
    path = timesteps(diffuser.schedule, steps, diffuser.t_max)
    x = noise
    for t, t_next in zip(path, (*path[1:], 0), strict=True):
        if step_hook is not None:
            step_hook(t, x)
        if embedding is None:
            eps = diffuser.eps(x, t)
        else:
            eps = diffuser.guided_eps(x, t, embedding, guidance)
        x = ddim_step(diffuser.schedule, x, eps, t, t_next)
    return x


def ddim_invert(diffuser: Diffuser, x0: Tensor, embedding: Tensor | None, *, steps: int) -> Tensor:
    """Return the noise from which `ddim_sample` reproduces images up to an error.

    Each step reverses a sampling step. The noise is predicted for the image of the earlier step,
    because the image of the later step is not known yet. More steps therefore reduce the error. The
    network is called with the later step, never with step 0.
    """
    path = timesteps(diffuser.schedule, steps, diffuser.t_max)[::-1]
    x = x0
    for t, t_next in zip((0, *path), path, strict=False):
        x = ddim_step(diffuser.schedule, x, diffuser.eps(x, t_next, embedding), t, t_next)
    return x


def ddpm_reverse(
    diffuser: Diffuser,
    x: Tensor,
    start: int,
    noise: Callable[[int], Tensor] | None,
    *,
    stop: threading.Event | None = None,
) -> Tensor:
    """Return images after the reverse steps start … 1. The input is assumed to be of step `start`.

    x <- (x - eps beta_t / sqrt(1 - abar_t)) / sqrt(1 - beta_t) + sqrt(beta_t) z,  z = 0 at t = 1

    Source: arXiv 2006.11239, algorithm 2, with sigma_t² = beta_t. Values are not clipped to [-1, 1].
    With the schedule "seed" this is the chain of the purification by a DDPM (WISA 2023).

    Args:
        diffuser: diffuser that was trained for these steps.
        x: noisy images, N×C×H×W.
        start: first step, 1 … t_max.
        noise: function that returns z of a step in the shape of `x`. None: z = 0, the mean of each
            step.
        stop: event that stops the sampling between two steps.

    Raises:
        JobError: the sampling was stopped, or the diffuser was not trained for step `start`.
    """
    betas, schedule = diffuser.schedule.betas, diffuser.schedule
    for t in range(start, 0, -1):
        if stop is not None and stop.is_set():
            raise JobError(f"stopped before step {t} of {start} of the reverse chain")
        beta = float(betas[t])
        weight = beta / float((1 - schedule.alpha_bar[t]).sqrt())
        x = (x - weight * diffuser.eps(x, t)) / (1 - beta) ** 0.5
        if noise is not None and t > 1:
            x = x + beta**0.5 * noise(t)
    return x


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDiffuser:
    """A diffuser as stored on disk, with its provenance."""

    diffuser: Diffuser
    provenance: Mapping[str, Json] = field(default_factory=dict)


def save_diffuser(path: Path, diffuser: Diffuser, provenance: Mapping[str, Json]) -> None:
    """Write a diffuser atomically. Folders are created as needed.

    Raises:
        MachineError: the file cannot be written.
    """
    schedule, network = diffuser.schedule, diffuser.network.build_config()
    stored = Checkpoint(
        kind=KIND.name,
        arch=network.pop("network"),
        arguments={
            "network": network,
            "schedule": {
                "name": schedule.name,
                "steps": schedule.steps,
                "beta_start": schedule.beta_start,
                "beta_end": schedule.beta_end,
            },
            "prediction": diffuser.prediction,
            "t_max": diffuser.t_max,
            "size": diffuser.size,
            "channels": diffuser.channels,
            "class_names": list(diffuser.class_names),
            "has_null": diffuser.has_null,
        },
        state=diffuser.network.state_dict(),
        provenance=provenance,
    )
    model_file.save(path, stored)


def load_diffuser(path: Path, device: str = "cpu") -> Diffuser:
    """Return the diffuser of a file, in evaluation mode and without gradients. See `read_diffuser` for errors."""
    return read_diffuser(path, device).diffuser


def read_diffuser(path: Path, device: str = "cpu") -> StoredDiffuser:
    """Read a diffuser and its provenance.

    Raises:
        CheckpointError: the file is absent, truncated, or not a diffuser of this package.
    """
    stored = model_file.load(path, KIND)
    diffuser = model_file.build(stored, path, KIND, _from_checkpoint)
    return StoredDiffuser(diffuser=diffuser.to(device), provenance=stored.provenance)


def _from_checkpoint(checkpoint: Checkpoint) -> Diffuser:
    facts = dict(checkpoint.arguments)
    network = _build_network(checkpoint.arch, facts.pop("network"))
    schedule, names = make_schedule(**facts.pop("schedule")), tuple(facts.pop("class_names"))
    diffuser = Diffuser(network=network, schedule=schedule, class_names=names, **facts)
    model_file.load_frozen(network, checkpoint.state)
    return diffuser


def _build_network(arch: str, facts: Mapping[str, Any]) -> EpsNetwork:
    """Return a network with untrained weights from the result of `EpsNetwork.build_config`."""
    if arch == "stable":  # requires an optional package, so it is imported only here
        network: EpsNetwork = import_module(STABLE).rebuild(facts)
        return network
    name = cast(NetworkName, arch)
    return build_network(NetworkShape(network=name, **{**facts, "widths": tuple(facts["widths"])}))
