"""FGSM: I. Goodfellow et al., arXiv 1412.6572, section 4."""

from torch import Tensor

from trueface.attacks.perturb import Request
from trueface.attacks.registry import register_attack


@register_attack("fgsm", summary="one step along the gradient's sign", access="full")
def fgsm(request: Request) -> Tensor:
    """Return each level moved by the whole budget, as the gradient at the image says."""
    signs = request.target.gradient(request.images).sign()
    return request.within(
        request.images + request.budget * request.directions.view(-1, 1, 1, 1) * signs
    )
