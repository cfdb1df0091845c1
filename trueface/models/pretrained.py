"""Weights that a network starts from: read without executing anything, checked, adopted.

A file is a state dict of the network's own names, alone or inside a checkpoint, of any float type.
Its last layer is taken where it has one logit, and left where it names ImageNet's classes.
"""

import contextlib
import hashlib
import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn

from trueface.runtime import tensor_files
from trueface.runtime.errors import WeightsError

WRAPPERS = ("model_state_dict", "state_dict", "model", "state")  # under which files keep weights
PREFIXES = ("_orig_mod.", "module.")  # of names in a compiled network, and in DataParallel
CLASSES = 1000  # of ImageNet; a last layer for them is replaced without a word
# last layers of torchvision's networks, which ours may lack: see `pooled`
FOREIGN_HEADS = ("fc.", "classifier.")
COUNTER = ".num_batches_tracked"  # of batch norms; older and converted files have none
REMEDY = (
    "give a state dict of this network (--weights PATH, or TRUEFACE_WEIGHTS=PATH in the environment)"
    " or start from random weights (--weights none, or TRUEFACE_WEIGHTS=none)"
)


def chosen_weights(weights: str, environment: Mapping[str, str]) -> str:
    """Return `weights`, or what TRUEFACE_WEIGHTS says where it is "default"."""
    return environment.get("TRUEFACE_WEIGHTS") or weights if weights == "default" else weights


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict, also one that lies inside a checkpoint; nothing in the file is executed.

    Half-precision tensors become float32, and what torch's wrappers put before every name is left out.

    Raises:
        WeightsError: absent, unreadable, empty, or holding more than tensors and plain values, or
            a number that is none.
    """
    try:
        content = tensor_files.load(path)
    except FileNotFoundError as error:
        raise WeightsError(f"weights {path} cannot be read: no such file; {REMEDY}") from error
    except tensor_files.BrokenFileError as error:
        raise WeightsError(f"weights {path} cannot be read safely: {error}; {REMEDY}") from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if (
        not isinstance(content, dict)
        or not content
        or not all(isinstance(n, str) and isinstance(v, Tensor) for n, v in content.items())
    ):
        raise WeightsError(f"weights {path}: not a state dict (names and tensors); {REMEDY}")
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in content):
            content = {name.removeprefix(prefix): tensor for name, tensor in content.items()}
    return {name: _whole(tensor, name, path) for name, tensor in content.items()}


def load_state(network: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load every tensor of `state` into `network`.

    Raises:
        WeightsError: a name is missing or unknown, or a shape differs; each kind with examples.
    """
    own = network.state_dict()
    missing = [name for name in own if name not in state]
    unknown = [name for name in state if name not in own]
    other = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    reports = [
        f"{len(names)} {title} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
        for title, names in (
            ("missing", missing),
            ("unknown", unknown),
            ("of another shape", other),
        )
        if names
    ]
    if reports:
        raise WeightsError(f"{what} do not fit this model: {'; '.join(reports)}")
    network.load_state_dict(dict(state))


def adopt(network: nn.Module, state: Mapping[str, Tensor], what: str, *, head: str) -> None:
    """Load `state`, but keep our own last layer where that of `state` names ImageNet's classes.

    Args:
        network: with a last layer of one logit.
        state: of the network's names; a last layer may have another library's.
        what: begins a message.
        head: dotted name of the network's last layer.

    Raises:
        WeightsError: another network's, or a last layer of neither one logit nor 1,000 classes.
    """
    own, prefix = network.state_dict(), f"{head}."
    last = {
        name
        for name in state
        if name.startswith(prefix) or (name not in own and name.startswith(FOREIGN_HEADS))
    }
    classes = {len(state[name]) for name in last if name.endswith("weight") and state[name].dim()}
    if other := classes - {1, CLASSES}:
        raise WeightsError(
            f"{what} have a last layer of {min(other)} classes, a detector has one logit; only a "
            f"layer of ImageNet's {CLASSES} classes is replaced: remove {', '.join(sorted(last))} "
            "from the file to start with a new one"
        )
    fitting = {
        name: tensor
        for name, tensor in state.items()
        if name not in last or (name.startswith(prefix) and len(tensor) == 1)
    }
    fitting |= {
        name: tensor
        for name, tensor in own.items()
        if name not in fitting and (name.startswith(prefix) or name.endswith(COUNTER))
    }
    load_state(network, fitting, what)


def published_state(url: str) -> Mapping[str, Tensor]:
    """Return published weights from torch's cache, or from the network.

    Raises:
        WeightsError: they are not there and cannot be downloaded, or their checksum is wrong.
    """
    try:
        # torch announces a download in one of them, by version
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            state: Mapping[str, Tensor] = torch.hub.load_state_dict_from_url(
                url, progress=False, check_hash=True, weights_only=True
            )
    except (URLError, OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise WeightsError(
            f"the published weights {url} cannot be had: {_first(error)}; {REMEDY}, or take "
            "a model that needs none: residuals, as tasks/photos_no_weights.yaml does"
        ) from error
    return state


def fingerprint(weights: str, url: str | None) -> str | None:
    """Return the SHA-256 of the file that a network started from, in hexadecimal digits.

    Args:
        weights: "default", "none" or a path.
        url: what "default" means for this network; None: random weights.

    Returns:
        None where the weights are random, or where torch keeps no copy of its own.

    Raises:
        WeightsError: the file cannot be read.
    """
    if weights == "none" or (weights == "default" and url is None):
        return None
    path = Path(weights)
    if weights == "default" and url is not None:
        path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
        if not path.is_file():
            return None
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"weights {path} cannot be read: {_first(error)}; {REMEDY}") from error


def _whole(tensor: Tensor, name: str, path: Path) -> Tensor:
    if name.endswith(COUNTER):
        return tensor
    if tensor.layout != torch.strided or tensor.is_meta or not tensor.is_floating_point():
        raise WeightsError(
            f"weights {path}: {name} is {tensor.dtype}, {tensor.layout}, on {tensor.device}, and not "
            f"a plain tensor of floats (quantised ones have to be converted first); {REMEDY}"
        )
    wide = tensor.to(torch.float32)
    broken = int((~wide.isfinite()).sum())
    if broken:
        raise WeightsError(
            f"weights {path}: {broken} of {wide.numel()} numbers of {name} are not finite (nan or "
            f"inf): the training that wrote them diverged; {REMEDY}"
        )
    return wide


def _first(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
