"""Statistics of the blocks of a frozen network, at one or more sizes of the image."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.models.statistics.block_moments import centre
from trueface.models.statistics.blocks import Block, blocks_of, reduce_maps
from trueface.models.statistics.families import Families

LEVELS = 255  # grey level of white
AT_ONCE = 4  # images: their largest maps stay in the caches of a processor

Reader = Callable[[int], nn.Module]  # from the channels of a block to what reads its maps


class BlockStatistics(nn.Module):
    """What readers make of the maps of a network's blocks.

    At each size each reader is a family, of which every block has the same part.

    Args:
        network: from images to anything; it stays as it is.
        mean: of pixels in 0 … 1, as the network wants them.
        std: likewise.
        readers: each makes a module with `width` and `weights`, from a `CentredMap` to its numbers.
        coarsest: only blocks whose stride is at most that; None: all.
        depths: of those that are left only the ones at about these parts of the depth, 0 … 1; None:
            all.
        halvings: how often the image is halved, a pass for each entry.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        readers: Sequence[Reader],
        coarsest: float | None = None,
        depths: Sequence[float] | None = None,
        halvings: Sequence[int] = (0,),
    ) -> None:
        super().__init__()
        self.network = network
        self.halvings = tuple(halvings)
        for name, values in (("mean", mean), ("std", std)):
            levels = LEVELS * torch.tensor(values).view(3, 1, 1)
            self.register_buffer(name, levels, persistent=False)
        self.blocks = tuple(
            block for block in blocks_of(network) if coarsest is None or block.stride <= coarsest
        )
        self._at_depths = depths is not None
        if depths is not None:
            self.blocks = _at(depths, self.blocks)
        self.readers = nn.ModuleList(
            Families(reader(block.channels) for reader in readers) for block in self.blocks
        )
        self.width = len(self.halvings) * Families(self.readers).width

    def extra_repr(self) -> str:
        """Return what a body's fingerprint cannot see: which blocks are read, where not all are."""
        return " ".join(block.name for block in self.blocks) if self._at_depths else ""

    def weights(self) -> Tensor:
        """Return how much each number counts, (width,): the squares sum to 1 in each family and size."""
        weights: Tensor = Families(self.readers).weights() / len(self.blocks) ** 0.5
        return weights.repeat(len(self.halvings))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the numbers (B, width) of pixels (B, 3, H, W) in 0 … 255."""
        return torch.cat([self._of_few(few) for few in torch.split(pixels, AT_ONCE)])

    def _of_few(self, pixels: Tensor) -> Tensor:
        images = (pixels - self.mean) / self.std
        return torch.cat([self._read(images, halvings) for halvings in self.halvings], 1)

    def _read(self, images: Tensor, halvings: int) -> Tensor:
        if halvings:
            images = functional.avg_pool2d(images, 2**halvings)
        numbers = reduce_maps(self.network, images, self.blocks, self._numbers)
        return torch.cat(numbers, 1)

    def _numbers(self, position: int, maps: Tensor) -> Tensor:
        return self.readers[position](centre(maps))  # type: ignore[no-any-return]  # torch: modules return Any


def _at(depths: Sequence[float], blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Return the blocks that end at parts of the depth, each once; of few blocks fewer."""
    last = len(blocks) - 1
    places = {min(max(round(depth * len(blocks)) - 1, 0), last) for depth in depths}
    return tuple(blocks[place] for place in sorted(places))
