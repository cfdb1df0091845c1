"""Why a training that is to be fair to groups must not run."""

from collections.abc import Iterable

from launcher.api import Draft
from trueface.training.fairness.settings import needs_groups
from trueface.training.objectives.registry import (
    DEFAULT,
    NOT_FAIR,
    choice,
    objectives,
    used_objective,
)
from trueface.training.settings import solver_of

LOSSES = frozenset({DEFAULT, "ce"})  # of one logit the same: what `fair` takes the place of


def unfit_fairness(draft: Draft) -> Iterable[str]:
    """Yield why what a training does for its groups cannot be done."""
    settings = draft.settings
    fair = settings.get("fair", NOT_FAIR)
    if solver_of(settings) == "ridge" and fair != NOT_FAIR:
        yield (
            f"fair: {fair} weighs the images of steps, and {draft.model} is fitted in closed form; "
            "leave fair out, or take another solver"
        )
        return
    yield from _unfit_network(draft)
    objective = settings.get("objective", DEFAULT)
    if used_objective(settings) != objective and objective not in LOSSES:
        yield (
            f"objective: {objective} and fair: {fair} are two losses, and a training has one; "
            "leave one of them out (fair: oversample goes with any objective)"
        )
    needing = needs_groups(settings)
    if needing and not settings.get("attributes"):
        yield (
            f"{needing} needs attributes: the CSV file that says of which group each image is, "
            "such as attributes: faces.csv"
        )


def _unfit_network(draft: Draft) -> Iterable[str]:
    """Yield why a network cannot be trained with an objective that asks for its inner parts."""
    spec = objectives().get(used_objective(draft.settings))
    if spec is None or not spec.network:
        return
    model = str(draft.settings["model"])
    if model.partition("/")[0] != spec.network:
        yield (
            f"{choice(draft.settings)} needs the parts of model {spec.network}, and this is {model}; "
            f"take model: {spec.network} or {spec.network}/NETWORK, or another objective"
        )
    elif draft.settings.get("freeze"):
        yield f"{choice(draft.settings)} trains the whole network; leave freeze out"


def unfit_selection(draft: Draft) -> Iterable[str]:
    """Refuse an unlearning that would choose by groups: it reads none of validation."""
    if draft.settings.get("select") == "worst-cell":
        yield "select: worst-cell is for trainings; an unlearning takes best or last"
