"""Neighbouring pixel relationships: C. Tan et al., CVPR 2024, arXiv 2312.10461.

Generators that double the resolution leave neighbours alike. What is left of an image without its
own half, enlarged again by repetition, holds only how neighbours differ.
"""

from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import Bottleneck, ResNet

from trueface.models.registry import register_model

WIDTH = 512  # channels after the second stage of a ResNet-50
SCALE = 2 / 3  # by which the published program multiplies the residual of normalised pixels


class NeighbouringPixels(nn.Module):
    """A ResNet-50 up to its second stage, with a first convolution of 3 by 3, on the residual.

    Its parameters have the names of the published program, so that its files fit.
    """

    def __init__(self) -> None:
        super().__init__()
        network = ResNet(Bottleneck, [3, 4, 1, 1])  # a ResNet-50 as far as the second stage
        self.conv1 = nn.Conv2d(3, 64, 3, stride=2, padding=1, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.bn1, self.relu, self.maxpool = network.bn1, network.relu, network.maxpool
        self.layer1, self.layer2 = network.layer1, network.layer2
        self.fc1 = nn.Linear(WIDTH, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, 1) of images (B, 3, H, W); an odd last row or column is left out."""
        x = self.conv1(residual(images) * SCALE)  # (B, 64, H/2, W/2)
        x = self.maxpool(self.relu(self.bn1(x)))
        x = self.layer2(self.layer1(x))  # (B, 512, H/8, W/8)
        return self.fc1(x.mean((2, 3)))  # type: ignore[no-any-return]  # torch: modules return Any


def residual(images: Tensor) -> Tensor:
    """Return what each pixel differs by from the upper left one of its four.

    Args:
        images: (B, C, H, W).

    Returns:
        (B, C, H, W), of even H and W.
    """
    height, width = (side - side % 2 for side in images.shape[-2:])
    even = images[..., :height, :width]
    # half the size by its nearest pixel, which is the upper left one, and back
    return even - functional.interpolate(even[..., ::2, ::2], scale_factor=2, mode="nearest")


@register_model(
    "npr", summary="ResNet-50 cut after two stages, on neighbouring pixels", head="fc1", width=WIDTH
)
def npr() -> nn.Module:
    """Return the network, with random weights."""
    return NeighbouringPixels()
