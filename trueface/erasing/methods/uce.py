"""Unified concept editing: the maps of the class embedding in closed form."""

import torch
from torch import Tensor

from trueface.diffusion.diffuser import Diffuser
from trueface.erasing.problem import ErasingProblem, released
from trueface.erasing.registry import register_erasure


@register_erasure(
    "uce",
    summary="unified concept editing: the maps of the class embedding in closed form",
    needs=(),
    defaults={"uce_lambda": 0.1, "uce_preserve": 1.0},
)
def edit_concept(teacher: Diffuser, problem: ErasingProblem) -> Diffuser:
    """Erase by UCE (R. Gandikota et al., WACV 2024, arXiv 2308.14761, equation 7).

    Every map learns to take the concept's embedding for the anchor's, or for the null token's without an
    anchor; the other classes and the null token are preserved. Biases stay as they are. The paper's
    regularisation is that of the authors' program, lambda: .1 (.5 in its version of today), with the
    preserved concepts' weight .1 (1 today).
    """
    student = teacher.copy()
    table = student.network.table
    maps = student.network.condition_maps()
    if table is None or not maps:
        return released(student)  # not reached: a teacher with classes has both
    embeddings = table.weight.detach()
    instead = len(teacher.class_names) if problem.anchor is None else problem.anchor
    others = [label for label in range(len(embeddings)) if label != problem.erase]
    if not teacher.has_null:  # that row was never trained
        others.remove(len(embeddings) - 1)
    options = problem.options
    with torch.no_grad():
        for linear in maps:
            linear.weight.copy_(
                edited(
                    linear.weight,
                    embeddings[[problem.erase]],
                    embeddings[[instead]],
                    embeddings[others],
                    keep=options.uce_lambda,
                    preserve=options.uce_preserve,
                )
            )
    return released(student)


def edited(
    weight: Tensor, erased: Tensor, instead: Tensor, kept: Tensor, *, keep: float, preserve: float
) -> Tensor:
    """Return the weights W that minimise the editing's own objective.

        Σ ||W c - W0 c'||² + preserve Σ ||W k - W0 k||² + keep ||W - W0||²

    over the concepts c with what is drawn instead c', and the preserved k. In double precision.

    Args:
        weight: W0, of shape O×E.
        erased: c, n×E.
        instead: c', n×E.
        kept: k, m×E.
        keep: lambda > 0; it makes the problem solvable where there are fewer concepts than E.
        preserve: weight of the preserved ones.
    """
    old, c, anchors, k = (each.double() for each in (weight, erased, instead, kept))
    unit = torch.eye(old.shape[1], dtype=torch.float64, device=old.device)
    outer = c.T @ c + preserve * (k.T @ k) + keep * unit
    values = old @ (anchors.T @ c + preserve * (k.T @ k) + keep * unit)
    new: Tensor = torch.linalg.solve(outer, values, left=False)
    return new.to(weight.dtype)
