"""A restart: the weights that the training began with, trained for an unlearning's budget.

The honest baseline without any unlearning: if the same steps from pretrained weights come as far, a
method has gained nothing from the poisoned model. Of flips all images are learned with the right
labels where these are known; else what is kept.
"""

from trueface.unlearning.api import Request, Result
from trueface.unlearning.methods.common import corrected, kept, learned, started


def unlearn(request: Request) -> Result:
    """Train a fresh model for `epochs`.

    Raises:
        JobError: there is nothing to retain or to start from, stopped, or no finite result.
    """
    sound = request.goal == "flips" and request.forget.true is not None
    some = corrected(request) if sound else kept(request)
    return learned(request, started(request), some, "trained")
