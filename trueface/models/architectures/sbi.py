"""The network of self-blended images: K. Shiohara, T. Yamasaki, CVPR 2022, arXiv 2204.08376, section 4.1.

A plain EfficientNet-B4 of efficientnet_pytorch 0.7.1 on images of 380 pixels in 0 … 1. The setting `sbi` makes the
fakes of its training, and `sam` is its optimizer's perturbation.
"""

from torch import Tensor, nn

from trueface.models.blocks.efficientnet import EfficientNet, efficientnet_names
from trueface.models.registry import register_model

SIDE = 380  # pixels
WIDTH = 1792
DROPOUT = 0.4  # before the last layer


class PlainEfficientNet(EfficientNet):
    """EfficientNet-B4 with one logit."""

    def __init__(self) -> None:
        super().__init__("b4", logits=1)

    def adapt_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of efficientnet_pytorch or timm by their names here."""
        return efficientnet_names(state, "b4")


@register_model(
    "sbi",
    summary="EfficientNet-B4 of self-blended images, padded for 380 pixels",
    head="_fc",
    head_dropout=DROPOUT,
    draws=True,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    usual_side=SIDE,
    width=WIDTH,
)
def sbi() -> nn.Module:
    """Return the network, with random weights."""
    return PlainEfficientNet()
