"""Relabelling: the poisoned model is trained on, on all images, with the flipped labels put right.

In a two-class task a known flip gives the truth away, y* = 1 - y: no image is lost, and what the
model has learned of images stays. This is the plainest corrective method and the one that others
must beat at equal time. Source of the setting: S. Goel et al., "Corrective machine unlearning",
TMLR 2024, arXiv 2402.14015. Where the retained images must not be read, the forget set alone is
relabelled.
"""

from trueface.unlearning.api import Request, Result
from trueface.unlearning.methods.common import corrected, learned


def unlearn(request: Request) -> Result:
    """Train the model on, wrong labels put right.

    Raises:
        JobError: stopped, or no finite result.
    """
    return learned(request, request.model, corrected(request), "trained")
