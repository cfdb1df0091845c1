"""DAW-FDD: the loss is the mean over the worst fraction of images of the worst fraction of groups."""

from trueface.training.group_losses import GroupCvar
from trueface.training.objectives.registry import register_objective


@register_objective(
    "daw",
    summary="DAW-FDD: CVaR over groups of the CVaR over their images",
    binary=True,
    columns=("demographic",),
    fair=True,
    capturable=True,
    options=("fair_alpha_in", "fair_alpha_out", "fair_min"),
)
class DemographicAware(GroupCvar):
    """CVaR over the groups of a batch: Y. Ju et al., WACV 2024 (arXiv 2306.16635), DAW-FDD.

    As in the authors' code, groups are independent of the class; `cvar2` uses groups × classes.
    """

    name = "daw"
