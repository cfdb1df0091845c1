"""The noise of an image at each step of a diffusion."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

ScheduleName = Literal["linear", "scaled", "seed"]
Steps = Tensor | int  # (N,) integers, or the same step for all images


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Schedule:
    """Noise by step t = 0 … `steps`. Step 0 is a clean image, so alpha_bar[0] = 1 in each convention.

    x_t = sqrt(alpha_bar[t]) x_0 + sqrt(1 - alpha_bar[t]) noise      (arXiv 2006.11239, equation 4)
    """

    name: ScheduleName
    steps: int
    beta_start: float
    beta_end: float
    betas: Tensor  # (steps + 1,) float64, on the CPU
    alpha_bar: Tensor  # likewise

    def alpha_bar_at(self, t: Steps, template: Tensor) -> Tensor:
        """Return alpha_bar of each image in a shape that broadcasts over `template`, on its device, float64."""
        if isinstance(t, int):
            return self.alpha_bar[t].to(template.device)
        rows = self.alpha_bar[t.cpu()].to(template.device, non_blocking=True)
        return rows.reshape(-1, *(1 for _ in range(template.dim() - 1)))

    def signal(self, t: Steps, template: Tensor) -> Tensor:
        """Return sqrt(alpha_bar) in a shape that broadcasts over `template`, in its type."""
        return self.alpha_bar_at(t, template).sqrt().to(template.dtype)

    def sigma(self, t: Steps, template: Tensor) -> Tensor:
        """Return sqrt(1 - alpha_bar), the standard deviation of the noise, in the shape of `template`."""
        return (1 - self.alpha_bar_at(t, template)).sqrt().to(template.dtype)

    def add_noise(self, x0: Tensor, t: Steps, noise: Tensor) -> Tensor:
        """Return clean images N×… with the noise of step t added."""
        return self.signal(t, x0) * x0 + self.sigma(t, x0) * noise

    def x0(self, x_t: Tensor, t: Steps, eps: Tensor) -> Tensor:
        """Return the clean images of noisy images, given their noise."""
        return (x_t - self.sigma(t, x_t) * eps) / self.signal(t, x_t)

    def nearest_t(self, sigma: float) -> int:
        """Return the step, at least 1, whose noise has the standard deviation nearest to `sigma`.

        Args:
            sigma: such as the root mean square of a perturbation, images in [-1, 1].
        """
        distances = ((1 - self.alpha_bar[1:]).sqrt() - sigma).abs()
        return int(distances.argmin()) + 1


def make_schedule(
    name: ScheduleName, steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02
) -> Schedule:
    """Return a schedule of rising noise.

    Args:
        name: "linear" has beta_1 … beta_T evenly from start to end (arXiv 2006.11239, section 4; the
            schedulers of diffusers count the same values from 0). "scaled" has evenly spaced square
            roots, as Stable Diffusion from 0.00085 to 0.012. "seed" has T + 1 values beta_0 … beta_T
            evenly from start to end, with beta_0 part of each product. This is the schedule of the
            purification by a DDPM (WISA 2023), whose alpha_bar[10] is 0.997807666, not 0.998105.
            Here alpha_bar[0] is 1 also for "seed", because a clean image has no noise.
        steps: T.
        beta_start: of the first step.
        beta_end: of the last one.

    Raises:
        ValueError: no such schedule, no steps, or betas outside of 0 … 1.
    """
    if steps < 1 or not 0 < beta_start <= beta_end < 1 or not math.isfinite(beta_end):
        raise ValueError(
            f"{steps} noise steps with betas from {beta_start} to {beta_end} are not a schedule"
        )
    if name in {"linear", "scaled"}:
        power = 1 if name == "linear" else 2
        start, end = beta_start ** (1 / power), beta_end ** (1 / power)
        rising = torch.linspace(start, end, steps, dtype=torch.float64) ** power
        betas = torch.cat([torch.zeros(1, dtype=torch.float64), rising])
        alpha_bar = (1 - betas).cumprod(0)
    elif name == "seed":
        places = torch.arange(steps + 1, dtype=torch.float64)
        betas = (beta_end - beta_start) * places / steps + beta_start
        alpha_bar = (1 - betas).cumprod(0)
        alpha_bar[0] = 1
    else:
        raise ValueError(f"unknown schedule {name!r}. Choose linear, scaled or seed.")
    return Schedule(
        name=name,
        steps=steps,
        beta_start=beta_start,
        beta_end=beta_end,
        betas=betas,
        alpha_bar=alpha_bar,
    )
