"""Potion: label-free dampening, with a search for the strength at which the poison has no effect.

Importances are the absolute gradient of the mean L2 norm of the logits, for the forget set and for all
data. Those for all data are cached. Each trial starts from the original weights. It dampens those whose
ratio of both is above alpha, the percentile 100 - ln(1 + 100 c) of all ratios, by that ratio. The factor c
grows by `GROWTH` from trial to trial. The search ends when the forget set gets its trained labels at most
`stop_at` times as often as before. Source: S. Schoepf, J. Foster, A. Brintrup, "Potion: towards poison unlearning", 2024, arXiv
2406.09173. The label-free importance is that of their "Loss-free machine unlearning", arXiv 2402.19308.

Differences: the percentile is the next lower ratio, without interpolation. Trials that select the same
weights as the one before are not measured again. The search also ends if validation accuracy has lost
more than `most_loss` or if all predictions are the same, which random flips may need. This is checked in
every tenth measured trial and in the last one. The last valid trial is used. If the first is not valid,
the model is unchanged. The notes name the trial used.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import Field
from torch import Tensor

from trueface.evaluation.forward import predict_examples
from trueface.runtime.field_types import Count, Probability
from trueface.unlearning.api import Request, Result
from trueface.unlearning.hyperparameters import GradientBatch, MostLoss, Options
from trueface.unlearning.importance import Dampening, Guard, dampening, make_guard
from trueface.unlearning.optimization import Step
from trueface.unlearning.registry import register_method

START = 1e-6  # first value of c, at which alpha is nearly the largest ratio
GROWTH = 1.1  # factor of c from one trial to the next, as in the paper
LOOK = 10  # measured trials from one look at validation to the next: c grows to 2.6 times


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    number: int  # from 1
    c: float
    alpha: float


class PotionOptions(Options):
    """Potion's search for the strength of the dampening."""

    stop_at: Probability = Field(
        0.2,
        description="Target of the accuracy on the forget set (rho), as a fraction of its original value",
    )
    trials: Count = Field(500, description="Maximum number of trials")
    most_loss: MostLoss = 0.05
    batch_size: GradientBatch = 64


@register_method(
    "potion",
    summary="Dampening without labels that searches its strength",
    hyperparameters=PotionOptions,
    needs={"retain set"},
)
def potion(request: Request) -> Result:
    """Dampen the weights that matter to the forget set, in place.

    Raises:
        JobError: stopped, nothing could be read, or no finite result.
    """
    options = request.own(PotionOptions)
    accuracy_guard = make_guard(request, options.most_loss)
    start = _forget_accuracy(request)
    if start <= 0:
        note = "the model predicts no trained label of the forget set, so the model is unchanged"
        return Result(model=request.model, notes=(note,))
    weights = dampening(request, "norm", batch_size=options.batch_size)
    log: list[Step] = []
    taken = _search_trials(request, weights, accuracy_guard, options.stop_at * start, log)
    if taken is None:
        weights.restore_weights()
    else:
        weights.apply(taken.alpha, 1.0)
    note = _note(request, taken, start, options.stop_at * start)
    return Result(model=request.model, log=tuple(log), notes=(note,))


def _search_trials(
    request: Request, weights: Dampening, accuracy_guard: Guard, target: float, log: list[Step]
) -> _Trial | None:
    """Return the first trial that reaches `target`, otherwise the last valid one. None if there is none."""
    options = request.own(PotionOptions)
    taken: _Trial | None = None
    unseen: list[_Trial] = []
    for trial in _trials(weights.ratios().sort().values, options.trials):
        request.watch.raise_if_stopped()
        dampened = weights.apply(trial.alpha, 1.0)
        forgotten = _forget_accuracy(request)
        unseen.append(trial)
        metrics: dict[str, float | None] = {
            "c": trial.c,
            "alpha": trial.alpha,
            "dampened": dampened / weights.count,
            "forget_accuracy_trained": forgotten,
        }
        stands, looked = True, forgotten <= target or len(unseen) == LOOK
        if looked:
            metrics["val_accuracy"], stands = accuracy_guard.check_accuracy()
        log.append(Step(step=trial.number, metrics=metrics))
        request.watch.progress(step=trial.number, total=options.trials)
        if not stands:
            return _find_last_valid_trial(request, weights, accuracy_guard, unseen, taken)
        if looked:
            taken, unseen = trial, []
        if forgotten <= target:
            return taken
    return _find_last_valid_trial(request, weights, accuracy_guard, unseen, taken)


def _trials(ratios: Tensor, most: int) -> Iterator[_Trial]:
    """Yield those of `most` trials that select more than the one before, from ratios in rising order."""
    last = math.inf
    for number in range(most):
        c = START * GROWTH**number
        percent = 100 - math.log1p(100 * c)
        if percent < 0:
            return
        alpha = float(ratios[math.floor(percent / 100 * (len(ratios) - 1))])
        if alpha < last:
            last = alpha
            yield _Trial(number=number + 1, c=c, alpha=alpha)


def _find_last_valid_trial(
    request: Request,
    weights: Dampening,
    accuracy_guard: Guard,
    trials: Sequence[_Trial],
    last_valid: _Trial | None,
) -> _Trial | None:
    """Return the last valid trial by bisection: each dampens all weights of the one before it."""
    low, high = -1, len(trials)
    while high - low > 1:
        request.watch.raise_if_stopped()
        middle = (low + high) // 2
        weights.apply(trials[middle].alpha, 1.0)
        _, stands = accuracy_guard.check_accuracy()
        low, high = (middle, high) if stands else (low, middle)
    return trials[low] if low >= 0 else last_valid


def _forget_accuracy(request: Request) -> float:
    """Return how often the forget set gets its trained labels, in [0, 1]."""
    return predict_examples(request.model, request.forget, request.watch).accuracy("trained") or 0.0


def _note(request: Request, trial: _Trial | None, start: float, target: float) -> str:
    if trial is None:
        return (
            f"no dampening lowers forget accuracy from {start:.4f} to {target:.4f} and keeps "
            "validation accuracy, so the model is unchanged"
        )
    end = _forget_accuracy(request)
    summary = (
        f"trial {trial.number} chose c {trial.c:.4g} (alpha {trial.alpha:.4g}); forget "
        f"accuracy changed from {start:.4f} to {end:.4f}"
    )
    if end <= target:
        return summary
    return (
        f"{summary}. Other trials did not reach {target:.4f} or lost too much validation accuracy."
    )
