"""A trained diffusion model: a network with all that is needed to use it."""

import copy
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from trueface.diffusion.network import EpsNetwork
from trueface.diffusion.schedule import Schedule, Steps
from trueface.runtime.errors import JobError, UnknownName

Prediction = Literal["eps", "v"]


@dataclass(kw_only=True, eq=False)
class Diffuser:
    """A network, its schedule, and what it was trained for.

    Attributes:
        network: in evaluation mode.
        prediction: what it answers: the noise, or v = sqrt(abar) noise - sqrt(1 - abar) x_0
            (arXiv 2202.00512, appendix D).
        t_max: the largest step that it was trained for, 1 … T.
        size: side of its images in pixels.
        channels: 3 or 1.
        class_names: in the order of its embedding table; empty: unconditional.
        has_null: it was trained with the class left out now and then, so that it can be guided.
    """

    network: EpsNetwork
    schedule: Schedule
    prediction: Prediction = "eps"
    t_max: int = 0  # 0: all of the schedule
    size: int
    channels: int
    class_names: tuple[str, ...] = ()
    has_null: bool = False

    def __post_init__(self) -> None:
        self.t_max = self.t_max or self.schedule.steps
        if not 1 <= self.t_max <= self.schedule.steps:
            raise ValueError(f"t_max {self.t_max} of a schedule of {self.schedule.steps} steps")

    @property
    def device(self) -> torch.device:
        """Where its weights lie."""
        return next(self.network.parameters()).device

    def embed(self, labels: Tensor) -> Tensor:
        """Return the embeddings (N, E) of classes (N,); the number of classes itself is null.

        Raises:
            JobError: it is unconditional, or null was never trained.
        """
        table = self.network.table
        if table is None:
            raise JobError("this diffuser knows no classes; train one with data: classes:all")
        if not self.has_null and bool((labels == self.network.classes).any()):
            raise JobError(_NO_NULL)
        embedded: Tensor = table(labels.to(self.device))
        return embedded

    def null(self, n: int) -> Tensor:
        """Return the embedding of no class, n times (n, E).

        Raises:
            JobError: it is unconditional, or null was never trained.
        """
        return self.embed(torch.full((n,), self.network.classes))

    def label(self, name: str) -> int:
        """Return the number of a class.

        Raises:
            UnknownName: there is none of this name; names the nearest.
        """
        if name not in self.class_names:
            raise UnknownName("concept", name, self.class_names)
        return self.class_names.index(name)

    def refuse_noise_alone(self) -> None:
        """Make sure that images can be drawn from nothing but noise.

        Raises:
            JobError: it was trained for earlier steps only, at which an image is there already.
        """
        if self.t_max < self.schedule.steps:
            raise JobError(
                f"this diffuser was trained up to step {self.t_max} of {self.schedule.steps} and cannot "
                "draw images from noise alone; train one without t_max"
            )

    def eps(self, x: Tensor, t: Steps, embedding: Tensor | None = None) -> Tensor:
        """Return the noise in images.

        Args:
            x: N×C×H×W.
            t: (N,) or one step for all, 1 … t_max.
            embedding: (N, E); None: no class.

        Raises:
            JobError: the diffuser was not trained for such a step, or has no null.
        """
        latest = t if isinstance(t, int) else int(t.max())
        if latest > self.t_max:
            raise JobError(
                f"step {latest} of noise, and this diffuser was trained up to step {self.t_max}; "
                "take an earlier one, or train with a larger t_max"
            )
        if embedding is None and self.network.table is not None:
            embedding = self.null(len(x))
        steps = torch.full((len(x),), t, device=x.device) if isinstance(t, int) else t.to(x.device)
        answer: Tensor = self.network(x, steps, embedding)
        return self.eps_of(answer, x, t)

    def eps_of(self, answer: Tensor, x: Tensor, t: Steps) -> Tensor:
        """Return the noise that an answer of the network stands for."""
        if self.prediction == "eps":
            return answer
        return self.schedule.signal(t, x) * answer + self.schedule.sigma(t, x) * x

    def guided(self, x: Tensor, t: Steps, embedding: Tensor, guidance: float) -> Tensor:
        """Return eps_null + guidance (eps_class - eps_null): arXiv 2207.12598, its w being guidance - 1.

        Raises:
            JobError: as of `eps`; a guidance of 1 needs no null.
        """
        if guidance == 1:
            return self.eps(x, t, embedding)
        both = t if isinstance(t, int) else torch.cat([t, t])
        answers = self.eps(torch.cat([x, x]), both, torch.cat([self.null(len(x)), embedding]))
        null, named = answers.chunk(2)
        return null + guidance * (named - null)

    def to(self, device: str | torch.device) -> "Diffuser":
        """Return this diffuser with its network moved to a device."""
        self.network.to(device)
        return self

    def copy(self) -> "Diffuser":
        """Return one with weights of its own."""
        return replace(self, network=copy.deepcopy(self.network))


_NO_NULL = (
    "this diffuser was trained with drop: 0 and has no null token, which guidance and erasing need; "
    "train it with drop: 0.1"
)
