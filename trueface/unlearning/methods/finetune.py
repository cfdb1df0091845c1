"""Fine-tuning: the model is trained on, on what is kept, and forgets the rest by and by.

Source: the baseline "fine-tune" (catastrophic forgetting of all layers, CF) of S. Goel et al.,
"Towards adversarial evaluations for inexact machine unlearning", arXiv 2201.06640, section 4.
"""

from trueface.unlearning.api import Request, Result
from trueface.unlearning.methods.common import kept, learned


def unlearn(request: Request) -> Result:
    """Train the model on, on the retained images.

    Raises:
        JobError: there is nothing to retain, stopped, or no finite result.
    """
    return learned(request, request.model, kept(request), "trained")
