"""The last features of a frozen network, as of CLIP or DINO, and a linear layer on them.

U. Ojha et al., "Towards universal fake image detectors that generalize across generative models",
CVPR 2023, arXiv 2302.10174, section 4.2. Features that were trained for another task are not
specific to one generator. Here the layer is fitted in closed form.
"""

from torch import Tensor, nn

from trueface.models.head import head_of
from trueface.models.registry import BuiltNetwork, register_family


class LastFeatures(nn.Module):
    """A network without its last layer, and one of our own."""

    def __init__(self, body: nn.Module, width: int) -> None:
        super().__init__()
        self.body = body
        self.fc = nn.Linear(width, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, 1) of images (B, 3, H, W)."""
        return self.fc(self.body(images))  # type: ignore[no-any-return]  # torch: modules return Any


@register_family("linear", summary="last features and a linear layer", solver="ridge")
def linear(inner: BuiltNetwork) -> nn.Module:
    """Return the network without its last layer, which was checked to be the only one."""
    body: nn.Module = inner.network
    width = head_of(body, inner.head).in_features
    body.set_submodule(inner.head, nn.Identity())
    return LastFeatures(body, width)
