"""Networks that end after one of their inner layers. Later layers are not computed."""

from torch import Tensor, nn


class Last(nn.Module):
    """The layer with which a network ends before its end."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, maps: Tensor) -> Tensor:
        """End the forward pass with the output of the layer for `maps`.

        Raises:
            Reached: always.
        """
        raise Reached(self.layer(maps))


class Reached(Exception):  # not an error: ends the forward pass early
    """The last layer that is wanted has ended."""

    def __init__(self, maps: Tensor) -> None:
        super().__init__()
        self.maps = maps  # (B, C, h, w)


class MapsOf(nn.Module):
    """A network up to the maps of one layer, instead of its own output."""

    def __init__(self, body: nn.Module, last: str) -> None:
        super().__init__()
        self.body = body
        body.set_submodule(last, Last(body.get_submodule(last)))

    def forward(self, images: Tensor) -> Tensor:
        """Return maps (B, C, h, w) of images (B, 3, H, W)."""
        try:
            self.body(images)
        except Reached as reached:
            return reached.maps
        raise AssertionError
