"""The unlearning methods by name, with what each needs: no torch here."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

ALL = frozenset({"flips", "class", "instances"})
FLIPS = frozenset({"flips"})
FORGETTING = frozenset({"class", "instances"})
NO_LABEL = "puts true labels in the place of wrong ones, and here no label is wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a method without loading it."""

    summary: str
    retain: bool = False  # it must read what is to be kept
    true: bool = False  # it must know the right labels
    fresh: bool = False  # it begins anew, as the training did
    goals: frozenset[str] = ALL  # flips, class, instances: see `fitness.Goal`
    otherwise: str = NO_LABEL  # why not, for the other goals


METHODS: Mapping[str, Facts] = MappingProxyType(
    {
        "retrain": Facts(summary="a new training without the forgotten", retain=True, fresh=True),
        "finetune": Facts(summary="the model trained on, on what is kept", retain=True),
        "relabel": Facts(
            summary="the model trained on, wrong labels put right", true=True, goals=FLIPS
        ),
        "corrected": Facts(
            summary="a new training, wrong labels put right",
            retain=True,
            true=True,
            fresh=True,
            goals=FLIPS,
        ),
        "restart": Facts(
            summary="a new start, trained for an unlearning's budget on sound labels",
            retain=True,
            fresh=True,
        ),
        "exact": Facts(summary="the last layer fitted anew on cached features", retain=True),
        "ng": Facts(summary="negative gradient: up the loss of the forgotten"),
        "rl": Facts(summary="random labels for the forgotten"),
        "fisher": Facts(summary="noise on what the kept need least", retain=True),
        "shrink": Facts(summary="boundary shrink: to the nearest other class"),
        "expand": Facts(
            summary="boundary expanding: to a class of its own, which is dropped",
            goals=FORGETTING,
            otherwise="sends the forgotten to a class that is dropped; a wrong label needs a right one",
        ),
        "iwu": Facts(summary="instance-wise unlearning with adversarial examples"),
        "lau": Facts(summary="layer attack: the last layer against adversarial features"),
        "pgu": Facts(summary="projected gradient: only where the kept do not lie"),
        "scrub": Facts(summary="a student that leaves its teacher on the forgotten", retain=True),
        "ssd": Facts(summary="selective synaptic dampening", retain=True),
        "potion": Facts(summary="dampening with a searched strength, no labels", retain=True),
        "salun": Facts(summary="relabelling of the salient weights only", retain=True),
        "npo": Facts(summary="negative preference: a bounded negative gradient"),
    }
)


_MODULES = {"pgu": "pgu.method"}  # others: their own name


def modules_of(method: str) -> tuple[str, ...]:
    """Return the modules that a method's name stands for: they are imported by that name."""
    return (f"trueface.unlearning.methods.{_MODULES.get(method, method)}",)
