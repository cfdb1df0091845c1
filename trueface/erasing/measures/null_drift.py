"""Null drift: how far the prediction without a class has moved from the teacher's."""

import torch
from torch import Tensor

from trueface.diffusion.diffuser import Diffuser
from trueface.erasing.measures.samples import Sampling, drawn


def null_drift(
    student: Diffuser, teacher: Diffuser, noise: Tensor, labels: Tensor, sampling: Sampling
) -> float:
    """Return E |eps_student(z, null) - eps_teacher(z, null)|², mean over pixels; noise has variance 1.

    z are the noisy images through which the teacher passes when it draws: every step of every sample
    counts alike. It is what the penalty of All-but-One holds down (arXiv 2312.12807).

    Args:
        student: the model that is measured.
        teacher: what it was made of.
        noise: N×C×H×W, where the teacher begins.
        labels: (N,) classes that it draws.
        sampling: how it draws.

    Raises:
        JobError: stopped, or a model has no null token.
    """
    sums: list[float] = []
    counts: list[int] = []

    def through(t: int, z: Tensor) -> None:
        apart = student.eps(z, t, student.null(len(z))) - teacher.eps(z, t, teacher.null(len(z)))
        sums.append(float(apart.double().square().sum()))
        counts.append(apart.numel())

    with torch.no_grad():
        drawn(teacher, noise, teacher.embed(labels), sampling, through=through)
    return sum(sums) / sum(counts)
