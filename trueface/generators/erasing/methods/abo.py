"""All but One: the guidance of a concept is replaced, and the score without a concept is held."""

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
from trueface.generators.erasing.registry import STEPS, ErasureOptions, register_erasure


def top_tail(edit: Tensor, quantile: float) -> Tensor:
    """Return where an edit is strongest: of each image, the entries in the top tail of |edit|.

    SEGA (M. Brack et al., arXiv 2301.12247) keeps the entries above the quantile; diffusers' pipeline sums |edit| over channels first.
    Here it is the paper's, entry by entry, and exactly (1 - quantile) of them are kept even where
    several are equal.

    Args:
        edit: psi, N×C×H×W.
        quantile: lambda in 0 … 1; 0: all entries. The paper advises .95 to .99, the pipeline's default is .9.

    Returns:
        Booleans in the shape of `edit`.
    """
    flat = edit.detach().abs().flatten(1)
    kept = round((1 - quantile) * flat.shape[1])
    mask = torch.zeros_like(flat, dtype=torch.bool)
    mask.scatter_(1, flat.topk(kept, dim=1).indices, True)
    return mask.view_as(edit)


def sparse_edit(edit: Tensor, quantile: float, scale: float) -> Tensor:
    """Return `scale` times the edit where it is strongest, and zero elsewhere (SEGA, arXiv 2301.12247)."""
    return scale * edit * top_tail(edit, quantile)


@register_erasure(
    "abo",
    summary="All but One, changes the guidance of the concept and keeps the score of the null token",
    needs={"null"},
    defaults={
        **STEPS,
        "scope": "maps",
        "trajectory": "anchor",
        "paths": 256,
        "refresh": 10,
        "gamma1": 1.0,
        "gamma2": 1.0,
        "penalty": 1.0,
        "mask": 0.0,
        "edit_scale": 1.0,
    },
)
def all_but_one(teacher: Diffuser, task: ErasureTask) -> Diffuser:
    """Erase by All but One (S. Hong et al., AAAI 2024, arXiv 2312.12807).

        L = || gamma2 (eps_θ(z,c) - sg eps_θ(z)) - target ||² + lambda || eps_θ(z) - eps*(z) ||²

    θ is the student, * the teacher, sg stops the gradient, eps(z) is the score of the null token. The
    z_t are points of the teacher's sampling trajectories under the anchor c' (`trajectory: concept`: under c).
    The target is in `alternate_guidance`.

    gamma1, gamma2, lambda and the learning rate were not published; 1, 1 and 1 are ours. The authors'
    program took some 450 steps. Which parameters change is not published. `scope: maps` preserves the other
    classes best. With `all`, only the penalty preserves the model.
    """
    return distill(teacher, task, all_but_one_loss)


def all_but_one_loss(
    student: Diffuser, teacher: Diffuser, noisy: Tensor, t: Tensor, task: ErasureTask
) -> Tensor:
    """Return the loss of a batch z_t; no gradient goes through the null score of its first term."""
    options = task.options
    with torch.no_grad():
        target, null = teacher_guidance(teacher, noisy, t, task)
    concept, own_null = predict_noise_pair(student, noisy, t, task.erase, None)
    loss = mean_square(options.gamma2 * (concept - own_null.detach()) - target)
    return loss + options.penalty * mean_square(own_null - null)


def teacher_guidance(
    teacher: Diffuser, noisy: Tensor, t: Tensor, task: ErasureTask
) -> tuple[Tensor, Tensor]:
    """Return the target of the student's guidance, and the teacher's null score."""
    options = task.options
    if task.anchor is not None and options.is_unmasked_edit:
        anchor, null = predict_noise_pair(teacher, noisy, t, task.anchor, None)
        return options.gamma1 * (anchor - null), null
    concept, null = predict_noise_pair(teacher, noisy, t, task.erase, None)
    instead = null
    if task.anchor is not None:
        instead = predict_noise(teacher, noisy, t, task.anchor)
    return alternate_guidance(concept, null, instead, options), null


def alternate_guidance(
    concept: Tensor, null: Tensor, anchor: Tensor, options: ErasureOptions
) -> Tensor:
    """Return gamma1 (eps*(z,c) - eps*(z)) + delta, the concept's guidance with a sparse edit.

    delta is a sparse edit like SEGA's: gamma1 times psi = eps*(z,c') - eps*(z,c) where |psi| is in its top tail.
    It moves those entries from the concept's guidance to the anchor's. So `mask: 0` gives
    gamma1 (eps*(z,c') - eps*(z)), the target with an explicit anchor. Without an anchor, c' is the null token:
    psi removes the concept. SEGA's psi is eps*(z,c') - eps*(z) for an added anchor, and minus
    eps*(z,c) - eps*(z) for a removed concept. Ours with an anchor is the sum of both under one
    mask, because the first one alone keeps the concept's guidance.

    Args:
        concept: eps*(z,c).
        null: eps*(z).
        anchor: eps*(z,c'), or the null score.
        options: gamma1, mask, edit_scale.
    """
    delta = sparse_edit(anchor - concept, options.mask, options.edit_scale)
    return options.gamma1 * (concept - null + delta)
