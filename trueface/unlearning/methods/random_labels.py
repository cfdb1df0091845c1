"""Random labels: the model is trained further, with a random other label for each forgotten sample.

Source: L. Graves, V. Nagisetty, V. Ganesh, "Amnesiac machine learning", AAAI 2021, arXiv
2010.10981. A label is never the trained one. For a forgotten class it is one of the other classes.
Labels are drawn once, as in the paper. `redraw` draws them again in every epoch, which approaches a
uniform prediction over the other classes.

Without `with_retain` only the forget set is read, as in the tables of LAU (arXiv 2312.16823). With it
both sets are shuffled together, as in the repository of selective synaptic dampening (arXiv
2308.07707), which preserves far more. Batch statistics are unchanged by default in both cases, because
those of the training are right for the retain set.
"""

from dataclasses import replace

from pydantic import Field

from trueface.data.examples import Examples
from trueface.runtime.field_types import Count
from trueface.unlearning.api import Request, Result
from trueface.unlearning.building_blocks import (
    ONLY_OTHER,
    finetune_on,
    random_other_labels,
    retain_set,
)
from trueface.unlearning.hyperparameters import DescentOptions
from trueface.unlearning.registry import Goal, register_method


class RlOptions(DescentOptions):
    """Random labels: L. Graves et al., AAAI 2021."""

    epochs: Count = Field(3, description="Passes over the forget set")
    redraw: bool = Field(False, description="Draw new random labels in each epoch")
    with_retain: bool = Field(False, description="Also train on the retain set")

    def without_effect(self, goal: Goal, classes: int | None) -> dict[str, str]:  # noqa: ARG002
        """Return the settings that need more than one other class."""
        if classes == 2:
            return {"redraw": "with two classes, only one other label exists"}
        return {}


@register_method("rl", summary="Random labels for the forget set", hyperparameters=RlOptions)
def random_labels(request: Request) -> Result:
    """Train the model on, the forget set under random other labels.

    Raises:
        JobError: stopped, nothing to retain where that was asked for, or no finite result.
    """
    options = request.own(RlOptions)
    rest = retain_set(request) if options.with_retain else None

    def samples(epoch: int) -> Examples:
        labels = random_other_labels(request, epoch if options.redraw else 0)
        forget = request.forget.relabelled(labels)
        return forget if rest is None else forget + rest

    flips = request.goal == "flips" and request.classes == 2
    return replace(finetune_on(request, samples), notes=(ONLY_OTHER,) if flips else ())
