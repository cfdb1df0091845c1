"""The last layer of a network: how it is found, its inputs, and replacements for it.

A forward pass with a few random images checks it, because the layers alone do not show how a
network uses them.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.data.landmarks import POINTS
from trueface.models.registry import without_linear_layer
from trueface.runtime.errors import JobError, first_line

SIDES = (64, 224)  # pixels: the first is enough for most networks
BATCH = 2
Key = TypeVar("Key")  # key of a layer: its name, or its position
CLIP = 8.0  # standard deviations: a feature of an unusual image counts no more than that
HIDDEN = 64  # units
LEAST_DEVIATION = (
    1e-6  # deviation of the raw features: a smaller one means constant, except for rounding
)
TOLERANCE = 1e-4  # between logits, relative to the largest where that is above 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer that makes maps (B, C, S, S) of maps."""

    name: str  # dotted
    side_before: int
    side: int
    channels: int


def dry_forward(
    network: nn.Module, name: str, side: int | None, *, frames: int | None = None
) -> Tensor:
    """Return the output of `network` for two random images or clips. It stays in evaluation mode.

    Args:
        network: from images (B, 3, H, W), or clips (B, 3, T, H, W), to logits.
        name: of the network, for messages.
        side: the only image side that it accepts, in pixels. None: any.
        frames: of a clip. None: it gets images.

    Raises:
        JobError: it accepts none of them. The message gives the reason.
    """
    network.eval()
    *others, last = SIDES if side is None else (side,)
    for each in others:
        try:
            return _pass(network, each, frames)
        except (
            JobError,
            RuntimeError,
            AssertionError,
            ValueError,
        ):  # a larger image may be accepted
            continue
    return _forward_or_refuse(network, name, last, frames)


def refuse_small(network: nn.Module, name: str, side: int, *, frames: int | None = None) -> None:
    """Check that a network takes images that are smaller than those of a probe.

    Args:
        network: see `dry_forward`; it is in evaluation mode afterwards.
        name: of the network, for messages.
        side: of images, in pixels.
        frames: see `dry_forward`.

    Raises:
        JobError: it does not; says why.
    """
    if side < SIDES[0]:
        _forward_or_refuse(network.eval(), name, side, frames)


def layers_of_maps(network: nn.Module, name: str, side: int | None) -> list[Layer]:
    """Return the layers from square maps to square maps, in the order in which they end.

    Args and errors are those of `dry_forward`.
    """
    layers: list[Layer] = []

    def note(layer: str, _: nn.Module, inputs: tuple[object, ...], result: object) -> None:
        if inputs and _is_map(before := inputs[0]) and _is_map(result):
            layers.append(
                Layer(
                    name=layer,
                    side_before=before.shape[-1],
                    side=result.shape[-1],
                    channels=result.shape[1],
                )
            )

    # the network itself is none of its layers
    with forward_hooks(islice(network.named_modules(), 1, None), note):
        dry_forward(network, name, side)
    return layers


@contextmanager
def forward_hooks(
    layers: Iterable[tuple[Key, nn.Module]],
    hook: Callable[[Key, nn.Module, tuple[Any, ...], Any], None],
) -> Iterator[None]:
    """Call `hook` after each given layer inside the block, with key, layer, inputs and output."""

    def bind_key(key: Key) -> Callable[..., None]:
        return lambda layer, inputs, result: hook(key, layer, inputs, result)

    handles = [layer.register_forward_hook(bind_key(key)) for key, layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _forward_or_refuse(network: nn.Module, name: str, side: int, frames: int | None) -> Tensor:
    try:
        return _pass(network, side, frames)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise JobError(
            f"model {name} does not accept images of {side} by {side} pixels "
            f"({first_line(error)}). Change resize_size, or choose another network."
        ) from error


def _pass(network: nn.Module, side: int, frames: int | None) -> Tensor:
    shape = (BATCH, 3, side, side) if frames is None else (BATCH, 3, frames, side, side)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(side))
    with torch.no_grad():
        return network(images)  # type: ignore[no-any-return]  # torch: modules return Any


def _is_map(value: object) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.dim() == 4 and value.shape[-2] == value.shape[-1]


class MlpHead(nn.Linear):
    """logit = W · dropout(relu(V z + c)) + b, z = clip((x - mean) / deviation), of raw features x (B, F).

    It is the linear layer W, b, with the layers that compute its inputs from the features. Mean and
    deviation are those of the images that it was first trained on. They are buffers in the state
    dict, not parameters.

    Attributes:
        hidden: V and c.
        mean: (F,) of the raw features.
        deviation: (F,) of the raw features, > 0.
        rows: () int64, the number of images of the statistics. 0: not known yet, features are
            unchanged.
    """

    mean: Tensor
    deviation: Tensor
    rows: Tensor

    def __init__(self, features: int, *, width: int = HIDDEN, dropout: float = 0.0) -> None:
        super().__init__(width, 1)
        self.in_features = features  # number of features from callers, not of inputs of W
        self.hidden = nn.Linear(features, width)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.register_buffer("rows", torch.tensor(0))

    @property
    def is_standardised(self) -> bool:
        """Whether mean and deviation are known."""
        return bool(self.rows)

    @torch.no_grad()
    def standardise(self, sums: Tensor, squares: Tensor, rows: int) -> None:
        """Take mean and deviation of raw features.

        Args:
            sums: (F,) of the features, float64.
            squares: (F,) of their squares, float64.
            rows: how many of each were added, at least 1.
        """
        mean = sums / rows
        deviation = (squares / rows - mean.square()).clamp_min(0).sqrt()
        constant = deviation <= LEAST_DEVIATION * mean.abs().clamp_min(1)
        self.mean.copy_(mean)
        self.deviation.copy_(deviation.masked_fill(constant, 1.0))
        self.rows.fill_(rows)

    def units(self, features: Tensor) -> Tensor:
        """Return the hidden units (B, H), >= 0, of raw features (B, F)."""
        scaled = (features.to(self.mean.dtype) - self.mean) / self.deviation
        return functional.relu(self.hidden(scaled.clamp(-CLIP, CLIP)))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # nn.Linear's own name
        """Return the logits (B, 1) of raw features (B, F)."""
        return super().forward(self.dropout(self.units(input)))


class RidgeHead(nn.Linear):
    """logit = W · (weights * clip((x - mean) / scale, -clip, clip)) + b, of raw features x (B, F).

    Mean and scale are those of the images that it was fitted on, and are in the state dict. An
    unfitted head returns 0. It computes at least in float32, for any precision of the backbone,
    because it sums tens of thousands of terms.

    Attributes:
        mean: (F,) of the raw features.
        scale: (F,) their standard deviations, > 0.
        weights: (F,) of the standardised features, for the penalty.
        clip: (), in standard deviations, > 0.
        penalty: (), of squared weights of the logit before its temperature. 0: not fitted.
        temperature: (), the divisor of weight and bias.
        views: (), number of views of each image in the fit.
        rows: (), number of rows: views of readable images, and of added examples.
    """

    mean: Tensor
    scale: Tensor
    weights: Tensor
    clip: Tensor
    penalty: Tensor
    temperature: Tensor
    views: Tensor
    rows: Tensor

    def __init__(self, features: int, *, clip: float = CLIP) -> None:
        super().__init__(features, 1)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.register_buffer("weights", torch.ones(features))
        facts = {"clip": clip, "penalty": 0.0, "temperature": 1.0, "views": 1.0, "rows": 0.0}
        for name, value in facts.items():  # float64: a refit shall be the same to the last digits
            self.register_buffer(name, torch.tensor(value, dtype=torch.float64))

    def scale_features(self, features: Tensor) -> Tensor:
        """Return what the linear layer gets, (B, F), of raw features (B, F)."""
        scaled = (features.to(self.mean.dtype) - self.mean) / self.scale
        clip = float(self.clip)
        return scaled.clamp(-clip, clip) * self.weights

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # nn.Linear's own name
        """Return the logits (B, 1) of raw features (B, F)."""
        with torch.autocast(input.device.type, enabled=False):
            return functional.linear(self.scale_features(input), self.weight, self.bias)


def pre_logits(layer: nn.Linear, features: Tensor) -> Tensor:
    """Return the inputs (B, H) of the linear layer in a head, from features (B, F)."""
    if isinstance(layer, RidgeHead):
        return layer.scale_features(features)
    return layer.units(features) if isinstance(layer, MlpHead) else features


class Head(nn.Linear):
    """The last layer: dropout (in training only), then one logit."""

    def __init__(self, features: int, dropout: float) -> None:
        super().__init__(features, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # nn.Linear's own name
        """Return the logits (B, 1) of features (B, F)."""
        return super().forward(self.dropout(input))


def compute_in_full_precision(layer: nn.Linear) -> None:
    """Compute the outputs of a last layer in float32, also if the network is in half precision.

    A bf16 logit has 8 significant bits, so images with different scores would get equal ones. The layer
    is computed a second time, because the library's network calls it inside of autocast.
    """

    def compute(layer: nn.Linear, inputs: tuple[Tensor, ...], _: Tensor) -> Tensor:
        with torch.autocast(inputs[0].device.type, enabled=False):
            return type(layer).forward(layer, inputs[0].float())

    layer.register_forward_hook(compute)


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
        reason = "does not exist" if layer is None else f"is a {type(layer).__name__}"
        raise JobError(
            f"the head of a {type(network).__name__} must be an nn.Linear, but {name!r} {reason}. "
            f"Linear layers: {', '.join(linear_layers(network)[-3:]) or 'none'}."
        )
    return layer


def linear_layers(network: nn.Module) -> list[str]:
    """Return the dotted names of the linear layers, in the order in which they were registered."""
    return [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]


def last_linear(network: nn.Module, name: str) -> str:
    """Return the dotted name of the linear layer that was registered last.

    Raises:
        JobError: there is none.
    """
    linear = linear_layers(network)
    if not linear:
        raise JobError(without_linear_layer(name))
    return linear[-1]


@contextmanager
def capture_inputs(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what a layer gets while the block runs, a tensor each time that it is called."""
    inputs: list[Tensor] = []
    with forward_hooks([("", layer)], lambda _, __, arguments, ___: inputs.append(arguments[0])):
        yield inputs


def check_single_head(
    network: nn.Module, name: str, head: str, side: int | None, *, frames: int | None = None
) -> None:
    """Check that the logits are the output of the last layer alone.

    Args:
        network: from images to logits (B, 1). It stays in evaluation mode.
        name: of the network, for messages.
        head: dotted name of its last layer.
        side: the only image side that it accepts, in pixels. None: any.
        frames: see `dry_forward`.

    Raises:
        JobError: they are not, for example in a network with two heads.
    """
    layer = head_of(network, head)
    with capture_inputs(layer) as inputs:
        logits = dry_forward(network, name, side, frames=frames)
    if len(inputs) == 1 and inputs[0].shape == (len(logits), layer.in_features):
        with torch.no_grad():
            expected = layer(inputs[0])
        if logits.shape == expected.shape and _are_close(logits, expected):
            return
    raise JobError(
        f"the logits of model {name} do not come from its last layer {head!r} alone; it may have "
        "two heads. Features, freezing and unlearning need one head. Choose another network."
    )


def check_one_logit(
    network: nn.Module, name: str, side: int | None, *, frames: int | None = None
) -> None:
    """Check that a network without one last layer returns one logit of each image.

    Args and errors are those of `dry_forward`.

    Raises:
        JobError: it returns something else.
    """
    logits = dry_forward(network, name, side, frames=frames)
    if logits.shape != (BATCH, 1):
        raise JobError(
            f"model {name} must return one logit of each image, (B, 1), but its output for {BATCH} "
            f"images is {tuple(logits.shape)}"
        )


def check_landmark_logit(network: nn.Module, name: str, frames: int) -> None:
    """Check that a network of landmarks returns one logit of each clip.

    Args:
        network: from landmarks (B, T, 68, 2) to logits. It stays in evaluation mode.
        name: of the network, for messages.
        frames: of a clip.

    Raises:
        JobError: it returns something else.
    """
    landmarks = torch.rand(BATCH, frames, POINTS, 2, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = network.eval()(landmarks)
    if logits.shape != (BATCH, 1):
        raise JobError(
            f"model {name} must return one logit of each clip, (B, 1), but its output for {BATCH} clips is "
            f"{tuple(logits.shape)}"
        )


def _are_close(first: Tensor, second: Tensor) -> bool:
    scale = max(1.0, float(second.abs().max()))
    return torch.allclose(first, second, rtol=0, atol=TOLERANCE * scale)
