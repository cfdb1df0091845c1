"""A small convolutional network for images of 8 to 64 pixels, which a CPU trains in seconds."""

from itertools import pairwise

from torch import Tensor, nn

from trueface.models.registry import ClassifierShape, register_classifier

WIDTHS = (32, 64, 96)  # channels of its convolutions; the first keeps the size, the others halve it


class SmallCnn(nn.Module):
    """Three convolutions of 3x3 with batch norm, the mean over all places, a linear layer."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for in_channels, out_channels in pairwise((3, *WIDTHS)):
            layers += [
                nn.Conv2d(
                    in_channels, out_channels, 3, stride=2 if layers else 1, padding=1, bias=False
                ),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(inplace=True),
            ]
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(WIDTHS[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, N×K, of images N×3×H×W."""
        return self.fc(self.pool(self.features(images)).flatten(1))  # type: ignore[no-any-return]  # of a module


@register_classifier(
    "cnn",
    summary="three convolutions, for small images",
    optimizer="adamw",
    lr=3e-3,
    weight_decay=1e-4,
)
def small_cnn(shape: ClassifierShape) -> nn.Module:
    """Return the network; both stems are the same."""
    return SmallCnn(shape.classes)
