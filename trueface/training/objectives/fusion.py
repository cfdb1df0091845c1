"""The fusion loss of fairness generalisation: DAW-FDD, smoothed on the level of groups."""

from trueface.training.group_losses import FUSION_RIDGE, FUSION_SMOOTH, GroupCvar
from trueface.training.objectives.registry import register_objective


@register_objective(
    "fused",
    summary="smoothed two-level CVaR of fairness generalisation",
    binary=True,
    columns=("demographic",),
    fair=True,
    capturable=True,
    options=("fair_alpha_in", "fair_alpha_out", "fair_min"),
)
class FusionLoss(GroupCvar):
    """L. Lin et al., CVPR 2024 (arXiv 2402.17229): its bi-level loss alone, without its network.

    In their code the flags for both shares, --lamda1 and --lamda2, were read and not used: .9 and
    .5 were fixed. Here they are `fair_alpha_in` and `fair_alpha_out`, whose defaults are these
    numbers. τ1 and τ2 are those of their code.
    """

    name = "fused"
    smooth = FUSION_SMOOTH
    ridge = FUSION_RIDGE
