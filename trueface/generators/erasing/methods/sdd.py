"""Safe self-distillation: the concept's score learns the model's own null score. The result is a weight average."""

from dataclasses import replace

from torch import Tensor

from trueface.generators.diffusion.diffuser import Diffuser
from trueface.generators.erasing.erasure import (
    ErasureTask,
    iter_trajectory_batches,
    make_student,
    mean_square,
    minimize_with_adam,
    predict_noise_pair,
)
from trueface.generators.erasing.registry import STEPS, register_erasure
from trueface.runtime.moving_average import ExponentialMovingAverage


@register_erasure(
    "sdd",
    summary="self-distillation of the concept to the null token, averaged over steps",
    needs={"null"},
    defaults={
        **STEPS, "num_steps": 600, "scope": "maps", "trajectory": "own", "paths": 256,
        "refresh": 10, "ema": 0.99,
    },
)  # fmt: skip
def self_distillation(teacher: Diffuser, task: ErasureTask) -> Diffuser:
    """Erase by SDD (S. Kim et al., ICML 2023 workshop, arXiv 2307.05977).

        L = || eps_θ(z,c) - sg eps_θ(z) ||²

    The result is the moving average of the student's weights. The average also samples the z_t, for class c.
    Published values for Stable Diffusion are AdamW at 1e-5, 1500 steps of one image, guidance 3, 50 DDIM steps
    and a decay of 0.999. The authors train whole cross-attention layers. Here only the projections of the class
    embedding are trained. With a decay of 0.999, the teacher's weight in the average after n steps is 0.999^n:
    0.22 after 1500 steps, but 0.55 after 600. The default decay here is therefore lower.

    For the concept, the result samples like the unconditional model. The concept is therefore still drawn at its
    share of all images. Images on trajectories for c already show the concept. The two scores therefore differ
    most at small t, but the class is decided at large t. The method needs more steps than its falling loss
    suggests.
    """
    student, parameters = make_student(teacher, task.options.scope)
    average = ExponentialMovingAverage(student.network, task.options.ema)
    averaged = replace(student, network=average.network)
    noisy = iter_trajectory_batches(teacher, averaged, task)
    minimize_with_adam(
        task,
        parameters,
        lambda: self_distillation_loss(student, *next(noisy), task),
        average=average,
    )
    return averaged


def self_distillation_loss(
    student: Diffuser, noisy: Tensor, t: Tensor, task: ErasureTask
) -> Tensor:
    """Return the loss of a batch z_t. The null score is computed without gradient."""
    concept, null = predict_noise_pair(student, noisy, t, task.erase, None)
    return mean_square(concept - null.detach())
