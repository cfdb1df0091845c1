"""Networks whose first convolution keeps the resolution: `nodown`.

A first stride of 1 keeps the traces that a generator leaves at the highest frequencies:
D. Gragnaniello et al., ICME 2021, arXiv 2104.02617, section 4.
"""

from torch import Tensor, nn

from trueface.models.probe import probe
from trueface.runtime.errors import JobError

LEAST_KERNEL = 3  # a smaller one with a stride leaves pixels out


def keep_resolution(network: nn.Module, name: str, side: int | None) -> None:
    """Set the stride of the first convolution to 1.

    Args:
        network: from images to logits.
        name: of the network, for messages.
        side: the only side of images that it takes, in pixels; None: any.

    Raises:
        JobError: it does not begin with a single convolution of stride 2 and a kernel of 3 or more.
    """
    layers = _first_convolutions(network, name, side)
    if len(layers) != 1:
        branches = f"{len(layers)} convolutions ({', '.join(layers)})" if layers else "none"
        raise JobError(
            f"nodown needs a network that begins with one convolution, and {name} begins with "
            f"{branches}; leave nodown out"
        )
    layer, convolution = layers.popitem()
    kernel, stride = convolution.kernel_size, convolution.stride
    if stride != (2, 2) or min(kernel) < LEAST_KERNEL:
        raise JobError(
            f"nodown takes a first convolution of stride 2, with a kernel of {LEAST_KERNEL} or more, "
            f"to stride 1; {layer} of {name} has stride {stride[0]} and a kernel of {kernel[0]}; "
            "leave nodown out"
        )
    convolution.stride = (1, 1)


def _first_convolutions(network: nn.Module, name: str, side: int | None) -> dict[str, nn.Conv2d]:
    """Return the convolution that is called first, with those that get the same tensor, by name."""
    calls: list[tuple[nn.Module, Tensor]] = []
    convolutions = {
        each: key for key, each in network.named_modules() if isinstance(each, nn.Conv2d)
    }
    handles = [
        each.register_forward_pre_hook(lambda layer, arguments: calls.append((layer, *arguments)))
        for each in convolutions
    ]
    try:
        probe(network, name, side)
    finally:
        for handle in handles:
            handle.remove()
    return {
        convolutions[layer]: layer
        for layer, images in calls
        if isinstance(layer, nn.Conv2d) and images is calls[0][1]
    }
