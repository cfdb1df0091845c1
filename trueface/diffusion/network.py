"""What all noise-predicting networks have in common, and what decides their shape."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, Literal

from torch import Tensor, nn

NetworkName = Literal["unet", "mlp", "stable"]  # stable: that of an imported Stable Diffusion


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkShape:
    """All that is needed to build a network again, before its weights are filled in."""

    network: NetworkName
    size: int  # side of an image in pixels
    channels: int
    classes: int  # 0: unconditional
    embedding: int  # numbers a class
    widths: tuple[int, ...]  # unet: channels of each level, fine to coarse; mlp: of each block
    unshuffle: int = 1  # unet: pixels a side that become channels
    attention: bool = True  # unet: self-attention at the coarsest level


class EpsNetwork(nn.Module, ABC):
    """A network that says what noise an image holds, or its mixture with the image (v).

    A class is given as an embedding, a row of `table` or any other vector: the table plays the part of
    a text encoder. Its last row is the null token, which stands for no class.

    Attributes:
        shape: how to build it again.
        classes: number of classes; 0: unconditional.
        width_of_embedding: E.
        table: (classes + 1, E), row `classes` is null; None: unconditional.
    """

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        self.classes = shape.classes
        self.width_of_embedding = shape.embedding
        self.table: nn.Embedding | None = (
            nn.Embedding(shape.classes + 1, shape.embedding) if shape.classes else None
        )

    def facts(self) -> dict[str, Any]:
        """Return all that is needed to build it again, but the weights, as plain values."""
        return {**asdict(self.shape), "widths": list(self.shape.widths)}

    @abstractmethod
    def forward(self, x: Tensor, t: Tensor, embedding: Tensor | None) -> Tensor:
        """Return the noise (or v) in each image, like `x`.

        Args:
            x: N×C×H×W noisy images; a clean image is in [-1, 1].
            t: (N,) integers, 1 … T.
            embedding: (N, E) of what each image shows; None for an unconditional network only.
        """

    def encoded(self, images: Tensor) -> Tensor:
        """Return what the network works on, of images in [-1, 1]: here, themselves."""
        return images

    def decoded(self, latents: Tensor) -> Tensor:
        """Return images in [-1, 1] of what the network works on: here, itself."""
        return latents

    @abstractmethod
    def condition_maps(self) -> tuple[nn.Linear, ...]:
        """Return every linear map that takes an embedding, none of which has a bias.

        They play the part of the keys and values of a text-to-image network's cross-attention.
        """
