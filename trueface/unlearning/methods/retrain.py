"""Five methods that are a training: of a new model, or of the one at hand, on retained images.

The methods differ in their data and initial weights:

    retrain: Exact unlearning as L. Bourtoule et al. define it, "Machine unlearning", IEEE S&P 2021, arXiv
        1912.03817, section III. It has the start, settings and seed of the first training, without the
        forget set. It is the reference of every other method.
    finetune: The baseline "fine-tune" (catastrophic forgetting of all layers, CF) of S. Goel et al.,
        "Towards adversarial evaluations for inexact machine unlearning", arXiv 2201.06640, section 4.
    relabel: Fine-tuning on all images with the flipped labels corrected. In a two-class task a known
        flip gives the true label, y* = 1 - y, so no image is lost. It is the plainest corrective method.
        Other methods must be better at equal time. Setting: S. Goel et al., "Corrective machine
        unlearning", TMLR 2024, arXiv 2402.14015. Without a retain set, only the forget set is relabelled.
    corrected: A new training on all images with the flipped labels corrected. It is the ceiling for
        flipped labels. Rows (a) and (c) of the references of every unlearning of flips are based on it.
    restart: The initial weights of the training, trained for the budget of an unlearning. It is the
        baseline without any unlearning. If the same steps from pretrained weights are as good, a method
        has gained nothing from the poisoned model. Flipped labels are corrected if the true ones are
        known. Otherwise only the retain set is learned.
"""

from trueface.unlearning.api import Request, Result
from trueface.unlearning.building_blocks import (
    relabelled_dataset,
    retain_set,
    train,
    untrained_model,
)
from trueface.unlearning.hyperparameters import TrainingOptions
from trueface.unlearning.registry import FLIPS, register_method


@register_method(
    "retrain",
    summary="New training without the forget set",
    hyperparameters=TrainingOptions,
    needs={"retain set", "untrained model"},
)
def retrain(request: Request) -> Result:
    """Train a new model on the retain set; the forget set is never read.

    Raises:
        JobError: no retain set, no untrained model, stopped, or no finite result.
    """
    return train(request, untrained_model(request), retain_set(request), "trained")


@register_method(
    "finetune",
    summary="Further training on the retain set",
    hyperparameters=TrainingOptions,
    needs={"retain set"},
)
def finetune(request: Request) -> Result:
    """Train the model further, on the retain set.

    Raises:
        JobError: no retain set, stopped, or no finite result.
    """
    return train(request, request.model, retain_set(request), "trained")


@register_method(
    "relabel",
    summary="Further training with corrected labels",
    hyperparameters=TrainingOptions,
    needs={"true labels"},
    goals=FLIPS,
)
def relabel(request: Request) -> Result:
    """Train the model further, on all images with their true labels.

    Raises:
        JobError: stopped, or no finite result.
    """
    return train(request, request.model, relabelled_dataset(request), "trained")


@register_method(
    "corrected",
    summary="New training with corrected labels",
    hyperparameters=TrainingOptions,
    needs={"retain set", "true labels", "untrained model"},
    goals=FLIPS,
)
def retrain_corrected(request: Request) -> Result:
    """Train a new model on all images with their true labels.

    Raises:
        JobError: no untrained model, stopped, or no finite result.
    """
    return train(request, untrained_model(request), relabelled_dataset(request), "trained")


@register_method(
    "restart",
    summary="New training with the budget of an unlearning",
    hyperparameters=TrainingOptions,
    needs={"retain set", "untrained model"},
)
def restart(request: Request) -> Result:
    """Train a new model for `epochs`.

    Raises:
        JobError: no retain set, no untrained model, stopped, or no finite result.
    """
    correctable = request.goal == "flips" and request.forget.true is not None
    samples = relabelled_dataset(request) if correctable else retain_set(request)
    return train(request, untrained_model(request), samples, "trained")
