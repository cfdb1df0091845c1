"""The noisy images that methods learn from: points of sampling paths, z_t with their t.

Sampling is DDIM without noise of its own (J. Song et al., arXiv 2010.02502, equation 12 with sigma = 0), so that a
path is a function of its first noise.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from trueface.diffusion.diffuser import Diffuser
from trueface.diffusion.sampling import ddim_sample
from trueface.erasing.problem import ErasingProblem, rows

MOST_AT_ONCE = 256  # images that are sampled together
MOST_NUMBERS = 1 << 20  # in them: of larger images fewer are, 64 of Stable Diffusion's latents


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Points of sampling paths."""

    times: Tensor  # S, int64, falling
    points: Tensor  # S×N×C×H×W: z_t of N paths at each of these times
    images: Tensor  # N×C×H×W: their ends

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return points drawn uniformly over paths and times, `count`×C×H×W, and their t."""
        steps, images = self.points.shape[:2]
        step = torch.randint(steps, (count,), generator=generator)
        image = torch.randint(images, (count,), generator=generator)
        device = self.points.device
        return self.points[step.to(device), image.to(device)], self.times[step].to(device)


def sampled_paths(
    diffuser: Diffuser,
    label: int | None,
    count: int,
    problem: ErasingProblem,
    generator: torch.Generator,
    *,
    done: int = 0,
) -> Paths:
    """Sample images with a diffuser; return the whole of their paths, without gradients.

    Args:
        diffuser: whose paths they are.
        label: the class they are sampled under, with the problem's guidance and steps.
        count: how many.
        problem: for guidance, steps and the stop signal.
        generator: of the first noise.
        done: steps of the method so far, for the message of a stop.

    Raises:
        JobError: stopped.
    """
    numbers = diffuser.channels * diffuser.size**2
    at_once = max(1, min(MOST_AT_ONCE, MOST_NUMBERS // numbers))
    parts = [
        _part(diffuser, label, min(at_once, count - start), problem, generator, done)
        for start in range(0, count, at_once)
    ]
    return Paths(
        times=parts[0].times,
        points=torch.cat([part.points for part in parts], dim=1),
        images=torch.cat([part.images for part in parts]),
    )


def _part(
    diffuser: Diffuser,
    label: int | None,
    count: int,
    problem: ErasingProblem,
    generator: torch.Generator,
    done: int,
) -> Paths:
    times: list[int] = []
    points: list[Tensor] = []

    def keep(t: int, point: Tensor) -> None:
        problem.refuse_stop(done)
        times.append(t)
        points.append(point.detach().clone())

    shape = (count, diffuser.channels, diffuser.size, diffuser.size)
    options = problem.options
    with torch.no_grad():
        images = ddim_sample(
            diffuser,
            torch.randn(shape, generator=generator).to(diffuser.device),
            rows(diffuser, label, count),
            steps=options.sample_steps,
            guidance=options.guidance,
            through=keep,
        )
    return Paths(times=torch.tensor(times), points=torch.stack(points), images=images)


def batches(
    teacher: Diffuser, own: Diffuser, problem: ErasingProblem
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of z_t with their t, without end, from the paths that `trajectory` names.

    Args:
        teacher: its paths under anchor or concept are sampled once.
        own: the model whose paths are sampled anew, every `refresh` steps, where they are its own.
        problem: the options. Without an anchor, `anchor` means the concept: there is no other.
    """
    options, generator = problem.options, problem.generator("paths")
    if options.trajectory == "own":
        step = 0
        while True:
            paths = sampled_paths(
                own, problem.erase, options.batch_size, problem, generator, done=step
            )
            for _ in range(options.refresh):
                yield paths.draw(options.batch_size, generator)
                step += 1
    label = problem.erase
    if options.trajectory == "anchor" and problem.anchor is not None:
        label = problem.anchor
    paths = sampled_paths(teacher, label, options.paths, problem, generator)
    while True:
        yield paths.draw(options.batch_size, generator)
