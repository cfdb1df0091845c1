"""Negative preference optimisation: a negative gradient that fades as the label is left.

Source: R. Zhang et al., "Negative preference optimization: from catastrophic collapse to effective
unlearning", COLM 2024, arXiv 2404.05868, equation 3. With r = p(y|x) / p0(y|x) and p0 of the original
model, the loss is (2/beta) mean log(1 + r^beta). Its gradient is that of log p(y|x), weighted by
2 r^beta / (1 + r^beta). The weight is 1 at the start and for beta towards 0, which is the negative
gradient. It tends to 0 once p has fallen. Here it is applied to classes instead of texts.

If retained samples may be read, each step adds the cross entropy of a batch of them (the paper's
NPO+RT). These batches come from separate passes in parallel to those over the forget set. The faults of the negative
gradient are gone, but not its limit: if half of the labels are flipped, the result is chance.
"""

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from trueface.data.batch import Batch
from trueface.unlearning.gradient_method import GradientMethod
from trueface.unlearning.hyperparameters import DescentOptions, NotNegative, Positive
from trueface.unlearning.registry import register_method


class NpoOptions(DescentOptions):
    """Negative preference optimisation."""

    beta: Positive = Field(
        0.1,
        description="Inverse temperature of the loss; the gradient fades sooner with a higher value",
    )
    retain_weight: NotNegative = Field(
        1.0, description="Weight of the retain set in the loss, or 0 to skip the retain set"
    )


@register_method(
    "npo",
    summary="Negative preference optimization: gradient ascent with a bounded loss",
    hyperparameters=NpoOptions,
)
class Npo(GradientMethod[NpoOptions]):
    """Forget the trained labels of the forget set, and preserve the retain set."""

    keeps_original = True

    def compute_loss(self, batch: Batch) -> Tensor:
        """Return the preference loss, plus the weighted loss of a batch of the retain set."""
        original_logits = self.original_logits(batch.inputs)
        loss = preference(
            self.logits(batch.inputs), original_logits, batch.labels, self.options.beta
        )
        return loss + self.retain_loss(self.options.retain_weight)


def preference(logits: Tensor, reference: Tensor, labels: Tensor, beta: float) -> Tensor:
    """Return the mean loss of wide logits (B, K) against those of the model before unlearning.

    It is never below 0, and finite for every finite logit.
    """
    lost = functional.cross_entropy(logits, labels, reduction="none")  # (B,), -log p
    begun = functional.cross_entropy(reference, labels, reduction="none")
    return (2 / beta) * functional.softplus(beta * (begun - lost)).mean()
