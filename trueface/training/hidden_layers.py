"""Hidden layers of a network by name, and their outputs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from trueface.models.detectors import Detector
from trueface.runtime.errors import JobError

_ACTIVATIONS = (nn.ReLU, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid)
_SHOWN = 24  # names of layers in a message
_IMAGES, _TOKENS, _ROWS = 4, 3, 2  # dimensions of outputs


def select_layers(
    model: nn.Module, weights: Mapping[str, float], *, features: bool
) -> dict[str, tuple[nn.Module, float]]:
    """Return the layers whose features count, with their weights, by name.

    Args:
        model: a detector, or a network.
        weights: by the names of layers of the network. Where the body is frozen, they are those of
        the
            hidden layers of the head, the last to the last.
        features: whether the body is frozen, so that the head alone is computed.

    Raises:
        JobError: the network has no such layer, or the head no hidden one; names those that there
        are.
    """
    network = model.network if isinstance(model, Detector) else model
    if features:
        return _find_hidden_layers(model, weights)
    modules = dict(network.named_modules())
    unknown = [name for name in weights if name not in modules]
    if unknown:
        raise JobError(
            f"collab_layers: the network has no layer {unknown[0]!r}. Its layers: "
            f"{_list_blocks(network)}."
        )
    return {name: (modules[name], weight) for name, weight in weights.items()}


@contextmanager
def capture_outputs(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Collect what layers give while the block runs: (rows, d), images and tokens pooled by their mean.

    Raises:
        JobError: a layer gives something else than a tensor with a row for each image.
    """
    outputs: dict[str, Tensor] = {}

    def keep(name: str, output: object) -> None:
        outputs[name] = _pool_output(name, output)

    handles = [
        layer.register_forward_hook(
            # nothing is returned: a hook's result would take the place of the layer's
            lambda _module, _inputs, output, name=name: keep(name, output)
        )
        for name, layer in layers.items()
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _find_hidden_layers(
    model: nn.Module, weights: Mapping[str, float]
) -> dict[str, tuple[nn.Module, float]]:
    head: nn.Module = model.head if isinstance(model, Detector) else model
    inside = [(name, each) for name, each in head.named_modules() if name]
    # if activations are not modules, their inputs
    kinds: tuple[type[nn.Module], ...] = _ACTIVATIONS
    if not any(isinstance(each, kinds) for _, each in inside):
        kinds = (nn.Linear,)
    named = [(name, each) for name, each in inside if isinstance(each, kinds)]
    if not named:
        raise JobError(
            "collab: only the last layer is trained, and it has no hidden layer whose features "
            "could change. Leave freeze out, or choose a model with a hidden layer in its head, "
            "such as moments/mobilenet."
        )
    count = min(len(named), len(weights))
    pairs = zip(named[-count:], list(weights.values())[-count:], strict=True)
    return {f"head.{name}": (layer, weight) for (name, layer), weight in pairs}


def _pool_output(name: str, output: object) -> Tensor:
    if isinstance(output, Tensor):
        if output.ndim == _IMAGES:
            return output.mean((2, 3))
        if output.ndim == _TOKENS:
            return output.mean(1)
        if output.ndim == _ROWS:
            return output
    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    raise JobError(
        f"collab_layers: layer {name!r} returns {shape}, which cannot be used as features. Choose "
        "another layer."
    )


def _list_blocks(network: nn.Module) -> str:
    """Return the names of a network's blocks, the outer ones first."""
    names = [name for name, _ in network.named_modules() if name]
    names.sort(key=lambda name: name.count("."))
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
