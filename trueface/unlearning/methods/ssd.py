"""Selective synaptic dampening: weights of high importance for the forget set are scaled down.

No training: one gradient pass over everything, kept in the cache, and one over the forget set. A
weight is dampened where its importance for the forgotten is more than alpha times that for all, to
lambda divided by that ratio. Source: J. Foster, S. Schoepf, A. Brintrup, "Fast machine unlearning
without retraining through Selective synaptic dampening", AAAI 2024, arXiv 2308.07707. As in
the authors' code gradients are those of whole batches, squared.

There are three differences. The samples are mixed, with batches no larger than the forget set and equal
for both sets. Alpha is doubled until validation accuracy has lost no more than `most_loss` and
predictions are not constant. If the forget set was not memorized, its loss is so much larger that every
weight is selected and the model is destroyed. Each trial starts from the original weights. If no trial is
valid, the model is unchanged, and the notes say so.
"""

from pydantic import Field

from trueface.unlearning.api import Request, Result
from trueface.unlearning.hyperparameters import GradientBatch, MostLoss, Options, Positive
from trueface.unlearning.importance import Dampening, Guard, dampening, make_guard
from trueface.unlearning.optimization import Step
from trueface.unlearning.registry import register_method


class SsdOptions(Options):
    """Selective synaptic dampening."""

    alpha: Positive = Field(
        10.0, description="Smallest importance ratio at which a weight is dampened"
    )
    strength: Positive = Field(
        1.0, description="Dampening constant (lambda): a smaller value dampens more"
    )
    search: bool = Field(True, description="Double alpha until validation accuracy is kept")
    most_loss: MostLoss = 0.05
    batch_size: GradientBatch = 64


@register_method(
    "ssd",
    summary="Selective synaptic dampening",
    hyperparameters=SsdOptions,
    needs={"retain set"},
)
def dampen(request: Request) -> Result:
    """Dampen the weights that matter most to the forget set, in place.

    Raises:
        JobError: stopped, nothing could be read, or no finite result.
    """
    options = request.own(SsdOptions)
    accuracy_guard = make_guard(request, options.most_loss)
    weights = dampening(request, "loss", batch_size=options.batch_size)
    ratios = weights.ratios()
    finite = ratios[ratios.isfinite()]
    largest = float(finite.max()) if len(finite) else 0.0
    log: list[Step] = []
    alpha, note = options.alpha, ""
    while not note:
        request.watch.raise_if_stopped()
        dampened = weights.apply(alpha, options.strength)
        accuracy, stands = accuracy_guard.check_accuracy()
        metrics = {"alpha": alpha, "dampened": dampened / weights.count, "val_accuracy": accuracy}
        log.append(Step(step=len(log) + 1, metrics=metrics))
        request.watch.progress(step=len(log), total=None)
        if stands or not options.search or not dampened:
            note = _note(weights, options, alpha, dampened, len(log))
        elif alpha >= largest:  # the same weights are selected at any alpha
            weights.restore_weights()
            note = _describe_no_effect(options, accuracy_guard, weights)
        alpha *= 2
    return Result(model=request.model, log=tuple(log), notes=(note,))


def _note(
    weights: Dampening, options: SsdOptions, alpha: float, dampened_count: int, trials: int
) -> str:
    if dampened_count:
        return (
            f"trial {trials} chose alpha {alpha:g}, which dampens {dampened_count} of "
            f"{weights.count} weights"
        )
    if trials == 1:
        return (
            f"no weight is more than {alpha:g} times as important for the forget set as for all "
            "images, so the model is unchanged. Choose a lower alpha."
        )
    return (
        f"the model is unchanged, as alpha was doubled from {options.alpha:g} to {alpha:g}, where "
        "nothing is dampened. With each smaller alpha, validation accuracy fell by more than "
        f"{options.most_loss:g} or all predictions were the same."
    )


def _describe_no_effect(options: SsdOptions, accuracy_guard: Guard, weights: Dampening) -> str:
    alone = int(weights.ratios().isinf().sum())
    return (
        f"{alone} weights matter only to the forget set; without them, no alpha keeps "
        f"validation accuracy within {options.most_loss:g} of {accuracy_guard.accuracy:.4f}. The model is "
        "unchanged."
    )
