"""The beginning of Xception: F. Chollet, CVPR 2017, arXiv 1610.02357."""

from torch import Tensor, nn

WIDTH = 256  # channels of the last block


class ShallowXception(nn.Module):
    """The first two convolutions and blocks of Xception, and the mean of their maps."""

    def __init__(self, channels: int, *, stride: int = 2) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 32, 3, stride=stride, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 64, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.block1 = Block(64, 128)
        self.block2 = Block(128, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, 256) of maps (B, channels, H, W)."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.block2(self.block1(x)).mean((2, 3))  # type: ignore[no-any-return]  # torch


class Block(nn.Module):
    """Two separable convolutions and a pooling, with a shortcut of stride 2."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.shortcut = nn.Sequential(
            nn.Conv2d(width_in, width, 1, stride=2, bias=False), nn.BatchNorm2d(width)
        )
        self.layers = nn.Sequential(
            *_separable(width_in, width),
            nn.ReLU(inplace=True),
            *_separable(width, width),
            nn.MaxPool2d(3, stride=2, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, width, H/2, W/2) of (B, width_in, H, W)."""
        return self.layers(x) + self.shortcut(x)  # type: ignore[no-any-return]  # torch


def _separable(width_in: int, width: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(width_in, width_in, 3, padding=1, groups=width_in, bias=False),
        nn.Conv2d(width_in, width, 1, bias=False),
        nn.BatchNorm2d(width),
    )
