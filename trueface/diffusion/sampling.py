"""Steps through a diffusion: DDIM and its inversion, the reverse chain, the estimate in one step.

All noise is passed in, and gradients are kept: a caller that wants none says `torch.no_grad()`.
"""

import threading
from collections.abc import Callable

from torch import Tensor

from trueface.diffusion.diffuser import Diffuser, Schedule
from trueface.runtime.errors import JobError

Through = Callable[[int, Tensor], None]


def timesteps(schedule: Schedule, steps: int, t_max: int | None = None) -> tuple[int, ...]:
    """Return the steps that a sampling passes through, evenly from the last one down to above 0.

    Args:
        schedule: of the diffuser.
        steps: how many.
        t_max: the largest; None: all of the schedule.

    Raises:
        JobError: there are not that many.
    """
    last = schedule.steps if t_max is None else t_max
    if not 1 <= steps <= last:
        raise JobError(f"{steps} sampling steps, and there are 1 to {last}")
    return tuple(round(last * left / steps) for left in range(steps, 0, -1))


def ddim_step(schedule: Schedule, x: Tensor, eps: Tensor, t: int, t_next: int) -> Tensor:
    """Return images of step t moved to step t_next, either way, without new noise.

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
    through: Through | None = None,
) -> Tensor:
    """Return images made of noise, N×C×H×W, not cut to [-1, 1].

    Args:
        diffuser: trained up to the last step of its schedule, or `noise` is an image of step t_max.
        noise: where to start.
        embedding: (N, E) of what they shall show; None: nothing.
        steps: calls of the network; twice as many images in each with guidance.
        guidance: 1: none.
        through: is given t and the images before each step.

    Raises:
        JobError: guidance without classes or without null, or more steps than there are.
    """
    if embedding is None and guidance != 1:
        raise JobError(f"guidance {guidance} towards nothing: give the class to sample")
    path = timesteps(diffuser.schedule, steps, diffuser.t_max)
    x = noise
    for t, t_next in zip(path, (*path[1:], 0), strict=True):
        if through is not None:
            through(t, x)
        if embedding is None:
            eps = diffuser.eps(x, t)
        else:
            eps = diffuser.guided(x, t, embedding, guidance)
        x = ddim_step(diffuser.schedule, x, eps, t, t_next)
    return x


def ddim_invert(diffuser: Diffuser, x0: Tensor, embedding: Tensor | None, *, steps: int) -> Tensor:
    """Return the noise from which `ddim_sample` makes images again, all but for an error.

    Each step is that of the sampling backwards, but for the image at which the noise is asked for:
    that of the earlier step in the place of the later one, which is not known yet. So the error
    falls with the number of steps. The network is asked for the later step: never for step 0.
    """
    path = timesteps(diffuser.schedule, steps, diffuser.t_max)[::-1]
    x = x0
    for t, t_next in zip((0, *path), path, strict=False):
        x = ddim_step(diffuser.schedule, x, diffuser.eps(x, t_next, embedding), t, t_next)
    return x


def reverse_chain(
    diffuser: Diffuser,
    x: Tensor,
    start: int,
    noise: Callable[[int], Tensor] | None,
    *,
    stop: threading.Event | None = None,
) -> Tensor:
    """Return images after the reverse steps start … 1, taken to be of step `start`.

    x <- (x - eps beta_t / sqrt(1 - abar_t)) / sqrt(1 - beta_t) + sqrt(beta_t) z,  z = 0 at t = 1

    Source: arXiv 2006.11239, algorithm 2, with sigma_t² = beta_t; nothing is cut to [-1, 1]. Under
    the schedule "seed" it is the chain of the purification by a DDPM (WISA 2023).

    Args:
        diffuser: trained for these steps.
        x: N×C×H×W.
        start: the first step, 1 … t_max.
        noise: gives z of a step in the shape of `x`; None: z = 0, the mean of each step.
        stop: ends it between two steps.

    Raises:
        JobError: stopped, or the diffuser was not trained for step `start`.
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


def one_shot(diffuser: Diffuser, x: Tensor, t: int) -> Tensor:
    """Return the estimate of the clean images by one call of the network: E[x_0 | x_t = x].

    `x` is taken for an image of step t as it is; its values are not scaled by sqrt(abar_t) before.
    """
    return diffuser.schedule.x0(x, t, diffuser.eps(x, t))
