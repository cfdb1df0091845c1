"""Retraining without the concept: what erasing would be at best, at the price of a whole training."""

from trueface.diffusion.diffuser import Diffuser
from trueface.diffusion.settings import DiffuserSettings
from trueface.diffusion.training import train_diffuser
from trueface.erasing.problem import ErasingProblem
from trueface.erasing.registry import register_erasure
from trueface.runtime.errors import JobError


@register_erasure(
    "retrain",
    summary="train anew on all images but those of the concept",
    needs={"images"},
    defaults={},
)
def retrain(teacher: Diffuser, problem: ErasingProblem) -> Diffuser:
    """Train a diffuser as the teacher was trained, without the concept's images.

    The settings are those of the teacher's checkpoint, the seed is the problem's. The concept keeps its
    row in the table of embeddings, which is never trained: what is drawn under it is not nothing.
    """
    raise NotImplementedError
