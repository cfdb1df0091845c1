"""How like the teacher a model still draws the other classes: SSIM, feature distance, Fréchet distance."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trueface.evaluation.image_measures import frechet_distance, ssim

AT_ONCE = 32  # pairs whose SSIM takes a dozen copies in double precision: gigabytes of 512 pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """Of samples with equal noise; 1, 0 and 0 where nothing has changed."""

    ssim: float  # mean over pairs
    feature_distance: float  # Euclidean, mean over pairs
    frechet: float  # of both sets of features
    frechet_floor: float  # of two sets of the teacher's own, drawn with other noise
    n: int  # pairs


def likeness(
    student: Tensor,
    teacher: Tensor,
    student_features: Tensor,
    teacher_features: Tensor,
    other_features: Tensor,
) -> Likeness:
    """Compare samples with those of the teacher that began from the same noise.

    Args:
        student: N×C×H×W in [-1, 1].
        teacher: its partners.
        student_features: N×F, of the classifier.
        teacher_features: likewise.
        other_features: M×F, of the teacher's samples from other noise.
    """
    apart = (student_features - teacher_features).double().norm(dim=1)
    pairs = zip(torch.split(student, AT_ONCE), torch.split(teacher, AT_ONCE), strict=True)
    return Likeness(
        ssim=float(torch.cat([ssim(*pair) for pair in pairs]).mean()),
        feature_distance=float(apart.mean()),
        frechet=frechet_distance(student_features, teacher_features),
        frechet_floor=frechet_distance(other_features, teacher_features),
        n=len(student),
    )
