"""A ResNet-18 an eighth as wide, on a high-pass residual."""

from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock

WIDTHS = (16, 32, 64, 128)


def high_pass(images: Tensor) -> Tensor:
    """Return the residual of images (B, C, H, W) from the mean of 3 by 3 pixels."""
    return images - functional.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)


class Slim18(nn.Module):
    """A ResNet-18 of widths 16 to 128 on the residual of an image from its 3-by-3 mean.

    Generators leave their traces in the residual. The mean removes most of a scene, which the
    network would otherwise have to learn to ignore (on plain input this network hardly learns in 20
    epochs). Sources: blocks from K. He et al., arXiv 1512.03385, section 4.2; a fixed high-pass
    filter before a classifier is a method of steganalysis, J. Fridrich and J. Kodovský, "Rich
    models for steganalysis of digital images", IEEE TIFS 7(3), 2012; here one simple filter
    replaces many.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.layer1 = _stage(WIDTHS[0], WIDTHS[0], stride=1)
        self.layer2 = _stage(WIDTHS[0], WIDTHS[1], stride=2)
        self.layer3 = _stage(WIDTHS[1], WIDTHS[2], stride=2)
        self.layer4 = _stage(WIDTHS[2], WIDTHS[3], stride=2)
        self.fc = nn.Linear(WIDTHS[3], 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, 1) of images (B, 3, H, W)."""
        maps = self.maps(high_pass(images))
        return self.fc(maps.mean((2, 3)))  # type: ignore[no-any-return]  # torch: modules return Any

    def maps(self, x: Tensor) -> Tensor:
        """Return the last maps (B, 128, H/16, W/16) of inputs (B, 3, H, W)."""
        x = functional.relu(self.bn1(self.conv1(x)))  # (B, 16, H, W)
        x = functional.max_pool2d(x, 3, stride=2, padding=1)  # (B, 16, H/2, W/2)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))  # type: ignore[no-any-return]


def _stage(width_in: int, width: int, *, stride: int) -> nn.Sequential:
    shortcut = None
    if stride != 1 or width_in != width:
        shortcut = nn.Sequential(
            nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width)
        )
    blocks = BasicBlock(width_in, width, stride, shortcut), BasicBlock(width, width)
    for block in blocks:
        # each block starts as the identity: P. Goyal et al., arXiv 1706.02677, section 5.1
        nn.init.zeros_(block.bn2.weight)
    return nn.Sequential(*blocks)
