"""Erased Stable Diffusion: the concept's score is moved away from the concept, against its guidance."""

import torch
from torch import Tensor

from trueface.generators.diffusion.diffuser import Diffuser
from trueface.generators.erasing.erasure import (
    ErasureTask,
    distill,
    mean_square,
    predict_noise,
    predict_noise_pair,
)
from trueface.generators.erasing.registry import STEPS, register_erasure


@register_erasure(
    "esd-x",
    summary="negative guidance, on the linear layers that take the class embedding",
    needs={"null"},
    defaults={
        **STEPS, "lr": 3e-4, "scope": "maps", "trajectory": "own", "paths": 256, "refresh": 10, "eta": 1.0,
    },
)  # fmt: skip
@register_erasure(
    "esd-u",
    summary="negative guidance, on all layers except those of esd-x",
    needs={"null"},
    defaults={
        **STEPS, "lr": 1e-4, "scope": "rest", "trajectory": "own", "paths": 256, "refresh": 10, "eta": 1.0,
    },
)  # fmt: skip
def negative_guidance(teacher: Diffuser, task: ErasureTask) -> Diffuser:
    """Erase by ESD (R. Gandikota et al., ICCV 2023, arXiv 2303.07345).

        L = || eps_θ(z,c) - ( eps*(z) - eta (eps*(z,c) - eps*(z)) ) ||²

    Published values for Stable Diffusion are eta 1, Adam at 1e-5 and 1000 steps of one image. The z_t come
    from the student's own sampling under c with guidance 3, stopped at a random one of 50 DDIM steps.
    Here a step uses a batch, and the student's trajectories serve `refresh` steps before they are
    resampled. With lr 1e-4 its 300 steps keep the concept of our toy models fully under ESD-x; with 3e-4 they
    erase it. The authors' ESD-x trains whole layers of cross-attention, and their ESD-u all other layers.
    Here the maps of queries and outputs, which take no class embedding, belong to ESD-u. Their program also
    excludes the time embedding and the last layer from ESD-u; the paper and this code do not.
    """
    return distill(teacher, task, negative_guidance_loss)


def negative_guidance_loss(
    student: Diffuser, teacher: Diffuser, noisy: Tensor, t: Tensor, task: ErasureTask
) -> Tensor:
    """Return the loss of a batch z_t."""
    with torch.no_grad():
        concept, null = predict_noise_pair(teacher, noisy, t, task.erase, None)
        target = null - task.options.eta * (concept - null)
    return mean_square(predict_noise(student, noisy, t, task.erase) - target)
