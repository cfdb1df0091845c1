"""The networks of timm by its own names, with or without a tag: `timm/resnet50.a1_in1k`.

A tag selects published weights, with their image size, normalisation and licence. The loader of
timm is not used, because it accepts the file of another network and leaves missing tensors random.
"""

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import try_to_load_from_cache
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from trueface.models.registry import BuiltNetwork, ModelSpec, register_library
from trueface.runtime.errors import JobError, UnknownName, WeightsError, first_line
from trueface.runtime.tensor_files import refuse_other_digest

SHA256 = re.compile(r"[0-9a-f]{64}")  # name of a large file in the hub's cache
FILES = ("model.safetensors", "pytorch_model.bin")  # files of a repository at the Hugging Face hub


@register_library("timm", summary="timm", package="timm.models", extra="timm", has_tags=True)
def network_of_timm(spec: ModelSpec, side: int | None) -> BuiltNetwork:
    """Return a network with random weights, and what its published ones want.

    Raises:
        UnknownName: timm has no network, or no weights of it, of that name.
        JobError: it takes no images of that side, or has two heads.
    """
    name = spec.name.partition("/")[2]
    network, size = _create_network(name, spec.name, side)
    config: dict[str, Any] = network.pretrained_cfg
    head = _head_of(network, spec.name)
    pixels = resolve_model_data_config(network)
    complete = replace(
        spec,
        head=head,
        mean=tuple(pixels["mean"]),
        std=tuple(pixels["std"]),
        input_size=size,
        library=f"timm {timm.__version__}",
        licence=config.get("license") or "",
    )
    return BuiltNetwork(
        network=network,
        spec=complete,
        adapt=partial(_adapt_state, network, head, config["num_classes"]),
        published=partial(_find_cached_weights, spec.name, config.get("hf_hub_id") or ""),
    )


def _create_network(name: str, model: str, side: int | None) -> tuple[Any, int | None]:
    """Return a network with one logit, and its only image side in pixels, or None if any."""
    try:
        config = timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError as error:
        tagged = [
            each for each in timm.list_pretrained() if each.startswith(f"{name.partition('.')[0]}.")
        ]
        names = [f"timm/{each}" for each in tagged or timm.list_models()]
        raise UnknownName("model", model, names) from error
    if not config.fixed_input_size:
        return timm.create_model(name, pretrained=False, num_classes=1), None
    size: int = side or config.input_size[-1]
    return _build_for_size(name, model, size, config.input_size[-1]), size


def _build_for_size(name: str, model: str, size: int, usual: int) -> Any:
    """Return a network for images of one size.

    Raises:
        JobError: it cannot be made for that size.
    """
    # not of the usual size: some do not take the option
    options = {} if size == usual else {"img_size": size}
    try:
        network = timm.create_model(name, pretrained=False, num_classes=1, **options)
    except (TypeError, AssertionError, ValueError, RuntimeError) as error:
        raise JobError(
            f"model {model} does not accept images of {size} by {size} pixels "
            f"({first_line(error)}). Set resize_size to its usual size, {usual}."
        ) from error
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    step = patch[0] if isinstance(patch, tuple) else patch
    if isinstance(step, int) and size % step:  # timm would leave the last pixels out
        raise JobError(
            f"model {model} needs images whose side is a multiple of {step} pixels, got {size}. "
            f"Set resize_size to {size - size % step} or {size - size % step + step}."
        )
    return network


def _head_of(network: Any, model: str) -> str:
    """Return the dotted name of the last layer.

    Raises:
        JobError: it is not one linear layer.
    """
    last = network.get_classifier()
    names: list[str] = [key for key, module in network.named_modules() if module is last]
    if isinstance(last, tuple):
        raise JobError(
            f"model {model} has two heads and returns the mean of their logits. Features, "
            "freezing and unlearning need one head. Choose another network."
        )
    if not names or not isinstance(last, nn.Linear):
        raise JobError(
            f"model {model} ends in a {type(last).__name__}, but features, freezing and "
            "unlearning need a linear layer. Choose another network."
        )
    return names[0]


def _adapt_state(
    network: Any, head: str, classes: int, state: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return the tensors of a file under timm's names, positions for this size, and no classes."""
    convert: Callable[..., dict[str, Tensor]] | None = getattr(
        sys.modules[type(network).__module__], "checkpoint_filter_fn", None
    )
    adapted = dict(state)
    if convert is not None:
        try:
            with torch.no_grad():
                adapted = dict(convert(dict(state), network))
        except Exception:  # noqa: BLE001  # another network's file: names and shapes will tell
            adapted = dict(state)
    last = adapted.get(f"{head}.weight")
    if last is not None and last.dim() and len(last) == classes:
        for key in (f"{head}.weight", f"{head}.bias"):
            adapted.pop(key, None)
    return adapted


def _find_cached_weights(model: str, repository: str) -> Path:
    """Return the file of the published weights, where the hub's own cache has it.

    Raises:
        WeightsError: it has none; says where to get it. Or its content is not that of its name.
    """
    for file in FILES if repository else ():
        path = try_to_load_from_cache(repository, file)
        if isinstance(path, str):
            blob = Path(path).resolve()
            if SHA256.fullmatch(blob.name):
                refuse_other_digest(blob, blob.name, advice="download it again")
            return Path(path)
    where = f"https://huggingface.co/{repository}/resolve/main/{FILES[0]}" if repository else ""
    raise WeightsError(
        f"the published weights of model {model} are not on this machine, and they are not "
        "downloaded automatically. "
        + (f"Download {where} and name the file" if where else "Name their file")
        + " (--weights PATH, or TRUEFACE_WEIGHTS=PATH in the environment)"
        + ", or use random weights (--weights none)."
    )
