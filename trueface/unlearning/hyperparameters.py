"""The hyper-parameters of every unlearning method, with their papers' defaults: no torch here.

One class a method. Names that several have in common (`COMMON`) mean the same everywhere; task files
call them `unlearn_<name>`, and a method's own `<method>_<name>`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from trueface.runtime.field_types import Count, Finite, Probability

Positive = Annotated[Finite, Field(gt=0)]
NotNegative = Annotated[Finite, Field(ge=0)]
Statistics = Literal["eval", "train"]


class Options(BaseModel):
    """Base of a method's hyper-parameters: unknown names and endless numbers are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TrainingOptions(Options):
    """Methods that are trainings, done as the model's own training unless told otherwise."""

    epochs: Count | None = Field(None, description="passes over what is learned from")
    lr: Positive | None = Field(None, description="learning rate")


class DescentOptions(Options):
    """Methods that go down (or up) a gradient in steps of their own."""

    epochs: Count = Field(5, description="passes over the forget set")
    lr: Positive = Field(1e-3, description="learning rate")
    batch_size: Count = Field(64, description="images a step")
    momentum: Annotated[Finite, Field(ge=0, lt=1)] = Field(0.9, description="of the steps")
    weight_decay: NotNegative = Field(0.0, description="of the weights")
    clip: NotNegative = Field(1.0, description="largest norm of a gradient; 0: any")
    bn: Statistics = Field(
        "eval", description="batch statistics: eval keeps them as they are, train moves them"
    )


COMMON = (*DescentOptions.model_fields, "lr_end")


class ExactOptions(Options):
    """The last layer refitted."""

    decay: NotNegative | None = Field(
        None,
        description="penalty on squared weights, for features of a mean variance of 1; default: "
        "several, the best on validation",
    )
    steps: Count = Field(100, description="L-BFGS steps for each")


class NgOptions(DescentOptions):
    """Negative gradient. Defaults: Unlearn-Saliency's baseline, 5 epochs at 1e-4."""

    lr: Positive = Field(1e-4, description="learning rate")
    stop_at: Probability | None = Field(
        None,
        description="stop when the forget set gets its trained labels so seldom; default: of a "
        "class 0, of instances as often as validation, of flips as seldom as validation errs",
    )


class RlOptions(DescentOptions):
    """Random labels: L. Graves et al., AAAI 2021."""

    epochs: Count = Field(3, description="passes")
    redraw: bool = Field(False, description="new random labels in every epoch")
    with_retain: bool = Field(False, description="learn from the kept images as well")


class FisherOptions(Options):
    """Fisher forgetting. Defaults: the selective-synaptic-dampening repository's."""

    alpha: Positive = Field(1e-6, description="scale of the noise's variance")
    most: Positive = Field(1e3, description="largest inverse importance")
    most_last: Positive = Field(1e2, description="the same for the last layer")
    samples: Count | None = Field(None, description="kept images to read; default: all")
    exact: bool = Field(
        False, description="every class of every image, weighted; else one class drawn from them"
    )


class ShrinkOptions(DescentOptions):
    """Boundary shrink."""

    epochs: Count = Field(10, description="passes")
    lr: Positive = Field(1e-4, description="learning rate")
    bound: Positive = Field(0.1, description="of the attack, as a share of the inputs' range")


class ExpandOptions(DescentOptions):
    """Boundary expanding."""

    epochs: Count = Field(10, description="passes")
    lr: Positive = Field(1e-4, description="learning rate")


class IwuOptions(DescentOptions):
    """Instance-wise unlearning. Defaults: the authors' for CIFAR-10."""

    epochs: Count = Field(100, description="most passes")
    weight_decay: NotNegative = Field(1e-4, description="of the weights")
    batch_size: Count = Field(32, description="forgotten images a step")
    adversarial: Count = Field(20, description="adversarial examples an image")
    adversarial_batch: Count = Field(256, description="adversarial examples a step")
    radius: Positive = Field(4.0, description="of the attack, L2, in the inputs' units")
    attack_steps: Count = Field(100, description="of the attack")
    importance: NotNegative = Field(1.0, description="weight of what holds important weights")
    most: Count = Field(256, description="forgotten images used; more are drawn from")


class LauOptions(DescentOptions):
    """Layer attack unlearning."""

    epochs: Count = Field(20, description="most passes; it stops when all is forgotten")
    lr: Positive = Field(0.01, description="learning rate")
    batch_size: Count = Field(128, description="features a step")
    clip: NotNegative = Field(0.0, description="largest norm of a gradient; 0: any")
    pgd: Literal["partial", "full"] = Field(
        "partial", description="attack on features through the last layer, or on images"
    )
    double_softmax: bool = Field(True, description="smooth the distillation's target twice")
    alpha: Probability = Field(0.5, description="share of the distillation in the loss")
    temperature: Positive = Field(4.0, description="of the distillation")
    eps: Positive | None = Field(
        None,
        description="of the attack, in mean absolute features, or of images in their range; "
        "default: grows until 95 % of the answers change",
    )
    attack_steps: Count = Field(10, description="of the attack")
    share: Annotated[Finite, Field(gt=0, le=1)] = Field(
        1.0, description="of the forget set that is read"
    )


class PguOptions(DescentOptions):
    """Projected gradient unlearning. Defaults: the authors' for CIFAR-10 instances."""

    epochs: Count = Field(20, description="most passes; the paper's 100 with its stop rule")
    lr: Positive = Field(0.05, description="first learning rate")
    lr_end: Positive = Field(0.01, description="last learning rate")
    batch_size: Count = Field(128, description="images a step")
    momentum: Annotated[Finite, Field(ge=0, lt=1)] = Field(0.0, description="of the steps")
    bn: Literal["eval"] = Field("eval", description="batch norms are left as they are")
    retained: Annotated[Finite, Field(gt=0, le=1)] = Field(
        0.95, description="share of the inputs' spectrum that is protected; 1: all, nothing moves"
    )
    energy: Literal["s", "s2"] = Field(
        "s", description="spectrum: singular values as in the authors' code, or their squares"
    )
    positions: Count = Field(
        64, description="places of each image that a convolution's inputs are taken at"
    )
    offset: Annotated[Finite, Field(gt=0, lt=1)] = Field(0.05, description="keeps the loss finite")
    loss1: NotNegative = Field(1.0, description="weight of leaving the label")
    loss2: NotNegative = Field(0.2, description="weight of the entropy term")
    rule: Literal["auto", "class", "instances", "depoison"] = Field(
        "auto", description="loss and stop rule; auto: by what shall be forgotten"
    )
    loss: Literal["paper", "relabel"] = Field(
        "paper", description="relabel: towards the true label instead of away from the wrong one"
    )
    most_loss: Finite = Field(0.05, description="accuracy that may be lost before it stops, 0 to 1")


class ScrubOptions(DescentOptions):
    """SCRUB. Defaults: the authors' for CIFAR-10, large scale."""

    epochs: Count = Field(3, description="passes over what is kept")
    max_epochs: Annotated[int, Field(ge=0)] = Field(
        2, description="of these with a pass over the forgotten before"
    )
    lr: Positive = Field(5e-4, description="learning rate")
    weight_decay: NotNegative = Field(5e-4, description="of the weights")
    batch_size: Count = Field(128, description="kept images a step")
    forget_batch: Count = Field(32, description="forgotten images a step")
    gamma: NotNegative = Field(0.99, description="weight of the labels of what is kept")
    alpha: NotNegative = Field(0.001, description="weight of the teacher on what is kept")
    temperature: Positive = Field(4.0, description="of both distillations")
    rewind: bool = Field(
        False, description="SCRUB+R: the epoch whose error on the forgotten is that of validation"
    )
    bn: Statistics = Field("train", description="batch statistics while it learns what is kept")


class SsdOptions(Options):
    """Selective synaptic dampening."""

    alpha: Positive = Field(10.0, description="importance ratio from which a weight is dampened")
    strength: Positive = Field(1.0, description="lambda: how much of it is left")
    search: bool = Field(
        True, description="alpha is doubled until validation stands; never lowered"
    )
    most_loss: Finite = Field(0.05, description="validation accuracy that may be lost, 0 to 1")
    batch_size: Count = Field(64, description="images a gradient; the same for both sets")


class PotionOptions(Options):
    """Potion's search for the strength of the dampening."""

    stop_at: Probability = Field(
        0.2, description="rho: forget accuracy to reach, as a share of what it was"
    )
    start: Positive = Field(1e-6, description="first c of alpha = percentile 100 - ln(1 + 100 c)")
    growth: Annotated[Finite, Field(gt=1)] = Field(1.1, description="of c from trial to trial")
    trials: Count = Field(500, description="at most")
    most_loss: Finite = Field(0.05, description="validation accuracy that may be lost, 0 to 1")
    batch_size: Count = Field(64, description="images a gradient; the same for both sets")


class SalunOptions(DescentOptions):
    """SalUn. Defaults: the authors' for a tenth of CIFAR-10."""

    epochs: Count = Field(10, description="passes over both sets")
    lr: Positive = Field(0.013, description="learning rate")
    weight_decay: NotNegative = Field(5e-4, description="of the weights")
    batch_size: Count = Field(256, description="images a step")
    share: Annotated[Finite, Field(gt=0, le=1)] = Field(
        0.5, description="of all weights that may learn"
    )
    bn: Statistics = Field("train", description="batch statistics while it learns what is kept")


class NpoOptions(DescentOptions):
    """Negative preference optimisation."""

    epochs: Count = Field(5, description="passes over the forget set")
    beta: Positive = Field(0.1, description="how soon the gradient fades")
    retain_weight: NotNegative = Field(1.0, description="of what is kept in the loss; 0: unread")


OPTIONS: Mapping[str, type[Options]] = MappingProxyType(
    {
        "retrain": TrainingOptions,
        "finetune": TrainingOptions,
        "relabel": TrainingOptions,
        "corrected": TrainingOptions,
        "restart": TrainingOptions,
        "exact": ExactOptions,
        "ng": NgOptions,
        "rl": RlOptions,
        "fisher": FisherOptions,
        "shrink": ShrinkOptions,
        "expand": ExpandOptions,
        "iwu": IwuOptions,
        "lau": LauOptions,
        "pgu": PguOptions,
        "scrub": ScrubOptions,
        "ssd": SsdOptions,
        "potion": PotionOptions,
        "salun": SalunOptions,
        "npo": NpoOptions,
    }
)
