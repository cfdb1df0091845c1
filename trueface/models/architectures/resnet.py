"""ResNets: K. He et al., arXiv 1512.03385; those without down-sampling in the first layer.

A first convolution of stride 1 keeps the traces that a generator leaves at the highest
frequencies: D. Gragnaniello et al., "Are GAN generated images easy to detect?", ICME 2021,
arXiv 2104.02617, section 4. The weights are the same, on a grid twice as fine.
"""

from torch import nn
from torchvision.models import resnet18, resnet50

from trueface.models.registry import register_model


@register_model(
    "baseline",
    summary="ResNet-50",
    weights_url="https://download.pytorch.org/models/resnet50-11ad3fa6.pth",
    width=2048,
)
def baseline() -> nn.Module:
    """Return a ResNet-50."""
    return resnet50()  # type: ignore[no-any-return]  # torchvision is untyped


@register_model(
    "nodown",
    summary="ResNet-50 whose first convolution keeps the resolution",
    weights_url="https://download.pytorch.org/models/resnet50-11ad3fa6.pth",
    width=2048,
)
def nodown() -> nn.Module:
    """Return a ResNet-50 with a first stride of 1."""
    network = resnet50()
    network.conv1.stride = (1, 1)
    return network  # type: ignore[no-any-return]  # torchvision is untyped


@register_model(
    "baseline18",
    summary="ResNet-18",
    weights_url="https://download.pytorch.org/models/resnet18-f37072fd.pth",
    width=512,
)
def baseline18() -> nn.Module:
    """Return a ResNet-18."""
    return resnet18()  # type: ignore[no-any-return]  # torchvision is untyped


@register_model(
    "nodown18",
    summary="ResNet-18 whose first convolution keeps the resolution",
    weights_url="https://download.pytorch.org/models/resnet18-f37072fd.pth",
    width=512,
)
def nodown18() -> nn.Module:
    """Return a ResNet-18 with a first stride of 1."""
    network = resnet18()
    network.conv1.stride = (1, 1)
    return network  # type: ignore[no-any-return]  # torchvision is untyped
