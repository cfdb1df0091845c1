"""A plain CNN for small images: little work, enough for drawn shapes."""

from torch import Tensor, nn
from torch.nn import functional

from trueface.models.classifier_registry import Shape, register_classifier

WIDTHS = (32, 64, 64)
LARGE = 4  # pixels a side that the large stem averages first


@register_classifier(
    "cnn",
    summary="three convolutions, for small images on CPUs",
    optimizer="adamw",
    lr=3e-3,
    weight_decay=0.01,
    least_size={"large": 16},
)
def small_cnn(shape: Shape) -> nn.Module:
    """Return a CNN; the large stem sees a coarser image."""
    return SmallCnn(shape.classes, coarser=LARGE if shape.stem == "large" else 1)


class SmallCnn(nn.Module):
    """Three convolutions with batch norm, two halvings, and the mean over places, which moves with no shift.

    Args:
        classes: K.
        coarser: how many pixels a side are averaged first.
    """

    def __init__(self, classes: int, *, coarser: int = 1) -> None:
        super().__init__()
        first, second, third = WIDTHS
        self.coarser = coarser
        self.body = nn.Sequential(
            *_layer(3, first),
            nn.MaxPool2d(2),
            *_layer(first, second),
            nn.MaxPool2d(2),
            *_layer(second, third),
        )
        self.fc = nn.Linear(third, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return K logits (B, K) of images (B, 3, S, S)."""
        fine = functional.avg_pool2d(images, self.coarser) if self.coarser > 1 else images
        logits: Tensor = self.fc(self.body(fine).mean((2, 3)))
        return logits


def _layer(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU()
