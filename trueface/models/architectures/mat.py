"""MAT: multi-attentional detection, H. Zhao et al., CVPR 2021. See `blocks.multi_attention`."""

from torch import nn

from trueface.models.blocks.multi_attention import MultiAttention
from trueface.models.registry import register_model

HALF = (0.5, 0.5, 0.5)
SIDE = 380  # pixels
WIDTH = 256


@register_model(
    "mat",
    summary="MAT: EfficientNet-B4 with four attention maps on textures, padded for 380 pixels",
    head="ensemble_classifier_fc.2",
    draws=True,
    mean=HALF,
    std=HALF,
    usual_side=SIDE,
    width=WIDTH,
)
def mat() -> nn.Module:
    """Return the network, with random weights."""
    return MultiAttention()
