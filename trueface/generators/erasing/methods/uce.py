"""Unified concept editing: the maps of the class embedding in closed form."""

import torch
from torch import Tensor

from trueface.generators.diffusion.diffuser import Diffuser
from trueface.generators.erasing.erasure import ErasureTask, freeze_student, make_student
from trueface.generators.erasing.registry import register_erasure


@register_erasure(
    "uce",
    summary="unified concept editing in closed form, on the linear layers that take the class embedding",
    needs=(),
    defaults={"uce_lambda": 0.1, "uce_preserve": 1.0},
)
def edit_concept(teacher: Diffuser, task: ErasureTask) -> Diffuser:
    """Erase by UCE (R. Gandikota et al., WACV 2024, arXiv 2308.14761, equation 7).

    Every map learns to take the concept's embedding for the anchor's, or for the null token's without an
    anchor; the other classes and the null token are preserved. Biases stay as they are. The paper's
    regularisation is that of the authors' program, lambda: .1 (.5 in its version of today), with the
    preserved concepts' weight .1 (1 today).
    """
    student, _ = make_student(teacher, "maps")
    labels: list[int | None] = [
        label for label in range(len(teacher.class_names)) if label != task.erase
    ]
    if teacher.has_null:  # its embedding was trained
        labels.append(None)
    erased, instead = (token_embeddings(teacher, label) for label in (task.erase, task.anchor))
    kept = torch.cat([token_embeddings(teacher, label) for label in labels])
    options = task.options
    with torch.no_grad():
        for linear in student.network.condition_maps():
            linear.weight.copy_(
                uce_update(
                    linear.weight,
                    erased,
                    instead,
                    kept,
                    keep=options.uce_lambda,
                    preserve=options.uce_preserve,
                )
            )
    return freeze_student(student)


def token_embeddings(diffuser: Diffuser, label: int | None) -> Tensor:
    """Return a class's embedding as vectors that the maps take, n×E: one, or one a token of a text."""
    return diffuser.repeat_embedding(label, 1).detach().flatten(0, -2)


def uce_update(
    weight: Tensor,
    erased_embeddings: Tensor,
    anchor_embeddings: Tensor,
    kept_embeddings: Tensor,
    *,
    keep: float,
    preserve: float,
) -> Tensor:
    """Return the weights W that minimise the editing's own objective.

        Σ ||W c - W0 c'||² + preserve Σ ||W k - W0 k||² + keep ||W - W0||²

    over the concepts c with their replacements c', and the preserved k. In double precision.

    Args:
        weight: W0, of shape O×E.
        erased_embeddings: c, n×E.
        anchor_embeddings: c', n×E.
        kept_embeddings: k, m×E.
        keep: lambda > 0. It makes the problem solvable if there are fewer concepts than E.
        preserve: weight of the preserved ones.
    """
    old, c, anchors, k = (
        each.double() for each in (weight, erased_embeddings, anchor_embeddings, kept_embeddings)
    )
    unit = torch.eye(old.shape[1], dtype=torch.float64, device=old.device)
    outer = c.T @ c + preserve * (k.T @ k) + keep * unit
    values = old @ (anchors.T @ c + preserve * (k.T @ k) + keep * unit)
    new: Tensor = torch.linalg.solve(outer, values, left=False)
    return new.to(weight.dtype)
