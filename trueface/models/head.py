"""The last layer of a network: where it is, what it gets, and ours in its place."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from trueface.runtime.errors import JobError


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


@contextmanager
def inputs_of(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what a layer gets while the block runs, a tensor each time that it is called."""
    inputs: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    try:
        yield inputs
    finally:
        handle.remove()
