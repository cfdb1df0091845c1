"""One logit for each patch of an image: L. Chai et al., ECCV 2020, arXiv 2008.10588.

A network that is cut after an early block sees small patches only, and must go by what is the same
in all of them. The logit of an image is the mean of those of its patches; as the last layer is
linear, that is the logit of their mean features.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from trueface.models.blocks.truncation import Last, Reached
from trueface.models.head import Layer, dry_forward, forward_hooks, layers_of_maps
from trueface.models.registry import BuiltNetwork, register_family
from trueface.runtime.errors import JobError

# a network is cut where maps have a quarter of an image's side, of a ResNet after its first stage;
# convolutions without padding lose some pixels of it
FINEST, COARSEST = 1 / 3, 1 / 6


class Patches(nn.Module):
    """The beginning of a network, and a linear layer on its features of each patch."""

    def __init__(self, body: nn.Module, last: Layer) -> None:
        super().__init__()
        self.body = body
        self.fc = nn.Linear(last.channels, 1)
        body.set_submodule(last.name, Last(body.get_submodule(last.name)))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, 1) of images (B, 3, H, W), the mean of those of their patches."""
        try:
            self.body(images)
        except Reached as reached:
            return self.fc(reached.maps.mean((2, 3)))  # type: ignore[no-any-return]  # torch
        raise AssertionError


@register_family("patch", summary="network cut after an early block, with one logit per patch")
def patch(inner: BuiltNetwork) -> nn.Module:
    """Return a network that is cut where its maps have a quarter of the resolution.

    Raises:
        JobError: it has no such place.
    """
    name, body = inner.spec.name, inner.network
    layers = layers_of_maps(body, name, inner.spec.input_size)
    side = max((layer.side_before for layer in layers), default=0)
    last = _last_early(layers, side)
    # if maps have another form from there on, only one convolution is left
    if last is None or isinstance(body.get_submodule(last.name), nn.Conv2d):
        raise JobError(
            f"model {name} has no feature maps at a quarter of the resolution, where patch cuts "
            "the network. Choose a convolutional network, such as a ResNet or a MobileNet."
        )
    network = Patches(body, last)
    _leave_out_unused(network, name, inner.spec.input_size)
    return network


def _last_early(layers: Sequence[Layer], side: int) -> Layer | None:
    """Return the layer that ends last of those outside of blocks that go on to a coarser grid."""
    low, high = COARSEST * side, FINEST * side
    coarser = tuple(
        f"{layer.name}."
        for layer in layers
        if low < layer.side_before <= high and layer.side <= low
    )
    early = [
        layer for layer in layers if low < layer.side <= high and not layer.name.startswith(coarser)
    ]
    return early[-1] if early else None


def _leave_out_unused(network: Patches, name: str, side: int | None) -> None:
    """Put nothing in the place of layers that no image reaches: they would be in every checkpoint."""
    reached: set[nn.Module] = set()
    with forward_hooks(network.named_modules(), lambda _, layer, *__: reached.add(layer)):
        dry_forward(network, name, side)
    for key, layer in list(network.body.named_modules()):
        used = layer in reached or isinstance(layer, Last)
        if key and not used and not any(each in reached for each in layer.modules()):
            network.body.set_submodule(key, nn.Identity())
