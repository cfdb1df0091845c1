"""The decoder that draws an image from the maps of its forgery and those of its content."""

from torch import Tensor, nn
from torch.nn import functional

from trueface.models.disentangling.statistics import adopt_statistics

DROPOUT = 0.3  # of what each stage gets
STAGES = 3  # each doubles the resolution and halves the channels


class Decoder(nn.Module):
    """A decoder whose content takes over the statistics of the forgery at three resolutions.

    The conditional U-Net of L. Lin et al., CVPR 2024, arXiv 2402.17229, after their program: content and
    forgery go through the same convolutions, 512 → 256 → 128 → 64 at a width of 512. It ends by
    enlarging to the size of the images, which at a stride of 32 is the published factor of 4.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width >> stage for stage in range(STAGES + 1)]
        self.stages = nn.ModuleList(map(_convolutions, widths[:-1], widths[1:]))
        self.dropout = nn.Dropout(DROPOUT)
        self.colours = nn.Conv2d(widths[-1], 3, 1)

    def forward(self, forgery: Tensor, content: Tensor, size: tuple[int, int]) -> Tensor:
        """Return images (B, 3, *size) in -1 … 1.

        Args:
            forgery: (B, width, h, w), which says how; the condition.
            content: (B, width, h, w), which says what.
            size: height and width of the images, in pixels.
        """
        x, condition = content, forgery
        for number, stage in enumerate(self.stages):
            x = stage(self.dropout(_doubled(adopt_statistics(x, condition))))
            if number < STAGES - 1:  # nothing takes the condition after the last
                condition = stage(self.dropout(_doubled(condition)))
        return _enlarged(self.colours(x), size).tanh()


def _convolutions(width_in: int, width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(width_in, width, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(inplace=True),
    )


def _doubled(maps: Tensor) -> Tensor:
    height, width = maps.shape[-2:]
    return _enlarged(maps, (2 * height, 2 * width))


def _enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(maps, size, mode="bilinear", align_corners=True)
