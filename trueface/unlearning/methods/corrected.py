"""A clean training: a new model from all images, the wrong labels put right.

The ceiling for flipped labels: what the model would have been. Row (a) and (c) of the ladder that
every unlearning of flips is compared with.
"""

from trueface.unlearning.api import Request, Result
from trueface.unlearning.methods.common import corrected, learned, started


def unlearn(request: Request) -> Result:
    """Train a fresh model on all images with the right labels.

    Raises:
        JobError: there is nothing to start from, stopped, or no finite result.
    """
    return learned(request, started(request), corrected(request), "trained")
