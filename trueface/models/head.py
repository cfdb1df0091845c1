"""The last layer of a network: where it is, what it gets, and ours in its place."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from trueface.models.probe import probe
from trueface.runtime.errors import JobError

TOLERANCE = 1e-4  # between logits, relative to the largest where that is above 1


class Head(nn.Linear):
    """The last layer: dropout (in training only), then one logit."""

    def __init__(self, features: int, dropout: float) -> None:
        super().__init__(features, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # nn.Linear's own name
        """Return the logits (B, 1) of features (B, F)."""
        return super().forward(self.dropout(input))


def head_of(network: nn.Module, name: str) -> nn.Linear:
    """Return the layer of that dotted name.

    Raises:
        JobError: the network has no such layer, or it is not linear.
    """
    try:
        layer: nn.Module | None = network.get_submodule(name)
    except AttributeError:
        layer = None
    if not isinstance(layer, nn.Linear):
        reason = "is not there" if layer is None else f"is a {type(layer).__name__}"
        linear = [key for key, module in network.named_modules() if isinstance(module, nn.Linear)]
        raise JobError(
            f"the head of a {type(network).__name__} must be an nn.Linear, and {name!r} {reason}; "
            f"linear layers: {', '.join(linear[-3:]) or 'none'}"
        )
    return layer


def last_linear(network: nn.Module, name: str) -> str:
    """Return the dotted name of the linear layer that was registered last.

    Raises:
        JobError: there is none.
    """
    linear: list[str] = [
        key for key, module in network.named_modules() if isinstance(module, nn.Linear)
    ]
    if not linear:
        raise JobError(
            f"model {name} ends without a linear layer, which features, freezing and unlearning need; "
            "take another network (SqueezeNet is there as squeezenet)"
        )
    return linear[-1]


@contextmanager
def inputs_of(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what a layer gets while the block runs, a tensor each time that it is called."""
    inputs: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    try:
        yield inputs
    finally:
        handle.remove()


def refuse_several_heads(network: nn.Module, name: str, head: str, side: int | None) -> None:
    """Check that the logits are those of the last layer, and of nothing else.

    Args:
        network: from images to logits (B, 1); it is in evaluation mode afterwards.
        name: of the network, for messages.
        head: dotted name of its last layer.
        side: the only side of images that it takes, in pixels; None: any.

    Raises:
        JobError: they are not, as where a network has two heads.
    """
    layer = head_of(network, head)
    with inputs_of(layer) as inputs:
        logits = probe(network, name, side)
    if len(inputs) == 1 and inputs[0].shape == (len(logits), layer.in_features):
        with torch.no_grad():
            expected = layer(inputs[0])
        if logits.shape == expected.shape and _are_close(logits, expected):
            return
    raise JobError(
        f"the logits of model {name} are not those of its last layer {head!r} alone, as of a network "
        "with two heads: features, freezing and unlearning would be of another network; take another"
    )


def _are_close(first: Tensor, second: Tensor) -> bool:
    scale = max(1.0, float(second.abs().max()))
    return torch.allclose(first, second, rtol=0, atol=TOLERANCE * scale)
