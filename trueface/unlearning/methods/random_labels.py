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

from pydantic import Field

from trueface.data.examples import Examples
from trueface.runtime.field_types import Count
from trueface.unlearning.building_blocks import ONLY_OTHER, random_other_labels, retain_set
from trueface.unlearning.gradient_method import GradientMethod
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
class RandomLabels(GradientMethod[RlOptions]):
    """Train the model on the forget set under random other labels."""

    def samples(self) -> Examples:
        """Return the forget set with random labels, and the retain set if it is wanted."""
        labels = random_other_labels(self.request, self.epoch if self.options.redraw else 0)
        forget = self.request.forget.replace_labels(labels)
        return forget + retain_set(self.request) if self.options.with_retain else forget

    def notes(self) -> tuple[str, ...]:
        """Return a remark if the random label is always the true one."""
        return (ONLY_OTHER,) if self.request.goal == "flips" and self.request.classes == 2 else ()
