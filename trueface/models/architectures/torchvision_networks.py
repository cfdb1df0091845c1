"""The classifiers of torchvision by its own names: `tv/convnext_tiny`, `tv/vit_b_16`, and of clips `tv/r3d_18`."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torchvision
from torch import Tensor, nn
from torchvision.models import VisionTransformer, get_model_builder, get_model_weights, list_models
from torchvision.models.vision_transformer import interpolate_embeddings

from trueface.models.head import last_linear
from trueface.models.registry import BuiltNetwork, ModelSpec, register_library
from trueface.runtime.errors import JobError, UnknownName, first_line

# heads that learn in training only, of networks that want pixels as TensorFlow does
INCEPTIONS: Mapping[str, tuple[str, ...]] = {
    "googlenet": ("aux1.", "aux2."),
    "inception_v3": ("AuxLogits.",),
}
POSITIONS = "encoder.pos_embedding"  # weights of a vision transformer, (1, 1 + patches, width)


@register_library(
    "tv",
    summary="torchvision",
    package="torchvision.models",
    extra="lab",
    without_last_layer=("squeezenet1_0", "squeezenet1_1", "s3d"),
    clip_package="torchvision.models.video",
    clip_frames=4,
    exact_frames={"mvit_v1_b": 16, "mvit_v2_s": 16},
    side_steps={
        "vit_b_16": 16,
        "vit_b_32": 32,
        "vit_l_16": 16,
        "vit_l_32": 32,
        "vit_h_14": 14,
        "maxvit_t": 224,
    },
    exact_sides={"mvit_v1_b": 224, "mvit_v2_s": 224},
)
def tv(spec: ModelSpec, side: int | None) -> BuiltNetwork:
    """Return a network with random weights, and what its published ones want.

    Raises:
        UnknownName: torchvision has no classifier of that name.
        JobError: it takes no images of that side, or has no last linear layer.
    """
    name = spec.name.partition("/")[2]
    names = list_models(module=torchvision.models) + list_models(module=torchvision.models.video)
    if name not in names:
        raise UnknownName("model", spec.name, [f"tv/{each}" for each in names])
    published = get_model_weights(name).DEFAULT
    usual = published.transforms()
    size = _size(name, side, usual.crop_size[0])
    try:
        network: nn.Module = get_model_builder(name)(weights=None, **_options(name, size))
    except (ValueError, AssertionError) as error:  # some sizes do not fit
        raise JobError(
            f"model {spec.name} does not accept images of {size} by {size} pixels "
            f"({first_line(error)}). Set resize_size to its usual size, {usual.crop_size[0]}."
        ) from error
    complete = replace(
        spec,
        head=last_linear(network, spec.name),
        weights_url=published.url,
        mean=tuple(usual.mean),
        std=tuple(usual.std),
        input_size=size,
        library=f"torchvision {torchvision.__version__}",
        licence=published.meta.get("license", ""),
    )
    return BuiltNetwork(network=network, spec=complete, adapt=partial(_adapt_state, name, network))


def _size(name: str, side: int | None, usual: int) -> int | None:
    """Return the only image side that a network accepts, in pixels, or None if any."""
    if name.startswith("mvit_"):
        return usual
    return (side or usual) if name.startswith(("vit_", "maxvit_")) else None


def _options(name: str, size: int | None) -> dict[str, Any]:
    if name in INCEPTIONS:
        return {"aux_logits": False, "transform_input": True, "init_weights": False}
    if size is None or name.startswith("mvit_"):
        return {}
    return {"image_size": size} if name.startswith("vit_") else {"input_size": (size, size)}


def _adapt_state(name: str, network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a file without second heads, and with positions for another size."""
    unused = INCEPTIONS.get(name, ())
    kept = {key: value for key, value in state.items() if not (unused and key.startswith(unused))}
    if isinstance(network, VisionTransformer) and POSITIONS in kept:
        try:
            return dict(interpolate_embeddings(network.image_size, network.patch_size, kept))
        except (
            ValueError,
            RuntimeError,
        ):  # weights of another network; names or shapes are checked later
            return kept
    return kept
