"""SqueezeNet (arXiv 1602.07360) and MobileNet v2 (arXiv 1801.04381): convolutions and their mean.

Neither keeps torchvision's classifier: SqueezeNet's is one more convolution, and MobileNet's has a
dropout of its own.
"""

from torch import Tensor, nn
from torchvision.models import mobilenet_v2, squeezenet1_1

from trueface.models.registry import register_model

SQUEEZENET_WIDTH = 512  # channels of its last convolution


class Pooled(nn.Module):
    """Convolutions that torchvision keeps under `features`, their mean over the image, `fc`."""

    def __init__(self, features: nn.Module, width: int) -> None:
        super().__init__()
        self.features = features
        self.fc = nn.Linear(width, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, 1) of images (B, 3, H, W)."""
        x: Tensor = self.features(images)  # (B, width, h, w)
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]  # torch: modules return Any


@register_model(
    "squeezenet",
    summary="SqueezeNet 1.1",
    weights_url="https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
    width=512,
)
def squeezenet() -> nn.Module:
    """Return the convolutions of SqueezeNet 1.1, pooled."""
    return Pooled(squeezenet1_1().features, width=SQUEEZENET_WIDTH)


@register_model(
    "mobilenet",
    summary="MobileNet v2",
    weights_url="https://download.pytorch.org/models/mobilenet_v2-7ebf99e0.pth",
    width=1280,
)
def mobilenet() -> nn.Module:
    """Return the convolutions of MobileNet v2, pooled."""
    network = mobilenet_v2()
    return Pooled(network.features, width=network.last_channel)
