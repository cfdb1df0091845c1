"""Concept ablation: the concept is mapped to the anchor."""

import torch
from torch import Tensor

from trueface.generators.diffusion.diffuser import Diffuser
from trueface.generators.erasing.erasure import (
    Batches,
    ErasureTask,
    distill,
    iter_noised_images,
    mean_square,
    predict_noise,
    sample_trajectories,
)
from trueface.generators.erasing.registry import STEPS, register_erasure


@register_erasure(
    "ablate",
    summary="model-based concept ablation, moves the score of the concept to that of the anchor",
    needs={"anchor"},
    defaults={**STEPS, "lr": 3e-4, "scope": "all", "paths": 256},
)
@register_erasure(
    "ablate-maps",
    summary="the same as ablate, on the linear layers that take the class embedding",
    needs={"anchor"},
    defaults={**STEPS, "scope": "maps", "paths": 256},
)
def ablate(teacher: Diffuser, task: ErasureTask) -> Diffuser:
    """Erase by concept ablation, its model-based variant (N. Kumari et al., ICCV 2023, arXiv 2303.13516).

        L = || eps_θ(x_t,c) - eps*(x_t,c') ||²

    x_t are samples of the anchor c' from the teacher, with noise of a random t. Published values for
    Stable Diffusion are 100 steps of 8 images at 2e-6 per image, and 1000 samples (200 in the current
    program). The trained weights are the keys and values of cross-attention, or all weights.
    The paper replaces the teacher's score of the anchor by the detached score of the student. This saves
    the memory of the teacher as long as the anchor does not change. With all weights of our toy model it
    changes and the student diverges, so the target here is the teacher's. With lr 1e-4 300
    steps of all weights leave half of the concept, with 3e-4 a tenth.
    """
    return distill(teacher, task, ablation_loss, noised_samples(teacher, task))


def ablation_loss(
    student: Diffuser, teacher: Diffuser, noisy: Tensor, t: Tensor, task: ErasureTask
) -> Tensor:
    """Return the loss of a batch x_t."""
    with torch.no_grad():
        target = predict_noise(teacher, noisy, t, task.anchor)
    return mean_square(predict_noise(student, noisy, t, task.erase) - target)


def noised_samples(teacher: Diffuser, task: ErasureTask) -> Batches:
    """Return batches of the teacher's samples of the anchor with noise of a random t, without end."""
    rng = task.generator("samples")
    images = sample_trajectories(teacher, task.anchor, task.options.paths, task, rng).images
    return iter_noised_images(teacher, images, task, rng)
