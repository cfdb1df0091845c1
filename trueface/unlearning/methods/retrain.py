"""Retraining: a new model from the retained images alone, the reference of every other method.

Start, settings and seed are those of the first training; only the forgotten images are missing.
Source: exact unlearning as L. Bourtoule et al. define it, "Machine unlearning", IEEE S&P 2021,
arXiv 1912.03817, section III.
"""

from trueface.unlearning.api import Request, Result
from trueface.unlearning.methods.common import kept, learned, started


def unlearn(request: Request) -> Result:
    """Train a fresh model on the retained images; the forget set is never read.

    Raises:
        JobError: there is nothing to retain or to start from, stopped, or no finite result.
    """
    return learned(request, started(request), kept(request), "trained")
