"""Fixed filters of steganalysis before a shallow network of convolutions.

The filters are three of J. Fridrich and J. Kodovský, "Rich models for steganalysis of digital
images", IEEE TIFS 7(3), 2012, in the form of P. Zhou et al., CVPR 2018, arXiv 1805.04953, section
3.2; cutting their answers off is from there, too. The network behind them is ours.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.models.registry import register_model

GREY_LEVEL = 1 / 255
LARGEST = 3.0  # grey levels: what goes beyond is the scene, not the noise
WIDTHS = (32, 64, 128)

# filters of second order, of the 3 by 3 square, and of the 5 by 5 square; each adds up to 0
FILTERS = (
    ((0, 0, 0, 0, 0), (0, 0, 0, 0, 0), (0, 1, -2, 1, 0), (0, 0, 0, 0, 0), (0, 0, 0, 0, 0)),
    ((0, 0, 0, 0, 0), (0, -1, 2, -1, 0), (0, 2, -4, 2, 0), (0, -1, 2, -1, 0), (0, 0, 0, 0, 0)),
    (
        (-1, 2, -2, 2, -1),
        (2, -6, 8, -6, 2),
        (-2, 8, -12, 8, -2),
        (2, -6, 8, -6, 2),
        (-1, 2, -2, 2, -1),
    ),
)
DIVISORS = (2, 4, 12)  # the size of their largest weight


class FilteredNetwork(nn.Module):
    """Three fixed filters of each colour, cut off, and three convolutions with batch norms."""

    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        bank = torch.tensor(FILTERS, dtype=torch.float32)
        bank = bank / torch.tensor(DIVISORS, dtype=torch.float32).view(-1, 1, 1)
        # (9, 1, 5, 5): each of three colours by each of three filters; constants, in no file
        self.register_buffer("filters", bank.unsqueeze(1).repeat(3, 1, 1, 1), persistent=False)
        widths = (len(self.filters), *WIDTHS)
        self.blocks = nn.Sequential(*(_block(*pair) for pair in zip(widths, WIDTHS, strict=False)))
        self.fc = nn.Linear(WIDTHS[-1], 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, 1) of images (B, 3, H, W) in grey levels."""
        noise = functional.conv2d(images, self.filters, padding=2, groups=images.shape[1])
        x = self.blocks(noise.clamp(-LARGEST, LARGEST))  # (B, 128, H/8, W/8)
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]  # torch: modules return Any


def _block(width_in: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width_in, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
    )


@register_model(
    "srmconv",
    summary="shallow network on fixed filters of steganalysis",
    mean=(0.0, 0.0, 0.0),
    std=(GREY_LEVEL, GREY_LEVEL, GREY_LEVEL),
    width=WIDTHS[-1],
)
def srmconv() -> nn.Module:
    """Return the network, with random weights behind the filters."""
    return FilteredNetwork()
