"""Networks by name, with their initial weights and a last layer of one logit.

A network of a family is built from an inner network, which gets its weights first. The tensors of a
file therefore always have the names of the inner network, and are all checked against it.

A file is read without executing anything, and checked. It is a state dict of the network's own
names, alone or inside a checkpoint, of any float type. Its last layer is loaded if it has one
logit, and ignored if it has ImageNet's classes.
"""

import contextlib
import io
import logging
import pickle
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Protocol, runtime_checkable
from urllib.error import URLError

import torch
from torch import Tensor, nn

from trueface.models.head import (
    Head,
    MlpHead,
    check_landmark_logit,
    check_one_logit,
    check_single_head,
    dry_forward,
    forward_hooks,
    head_of,
)
from trueface.models.registry import (
    LANDMARKS,
    LIBRARIES,
    SPECS,
    BuiltNetwork,
    ModelSpec,
    Triple,
    load_model_maker,
    spec_of,
    without_last_layer,
)
from trueface.runtime import tensor_files
from trueface.runtime.errors import JobError, WeightsError, first_line
from trueface.runtime.moving_average import COUNT, PREFIX
from trueface.runtime.tensor_files import cached_sha256, refuse_other_digest

WRAPPERS = ("model_state_dict", "state_dict", "model", "state")  # under which files keep weights
PREFIXES = ("_orig_mod.", "module.")  # prefixes of names in a compiled network, and in DataParallel
DIGEST = re.compile(r"-([0-9a-f]{8,64})\.\w+$")  # in names of torch's hub: begins the SHA-256
CLASSES = 1000  # classes of ImageNet; a last layer for them is replaced without a word
CLIP_CLASSES = 400  # the same for networks of clips: classes of Kinetics-400
# last layers of torchvision's networks, which ours may lack: see `pooled`
FOREIGN_HEADS = ("fc.", "classifier.")
VARIANCE = "running_var"  # variance of a batch norm
COUNTER = ".num_batches_tracked"  # counter of batch norms; older and converted files have none
REMEDY = (
    "Use a state dict of this network (--weights PATH, or TRUEFACE_WEIGHTS=PATH in the "
    "environment) or random weights (--weights none, or TRUEFACE_WEIGHTS=none)."
)


def resolve_weights(weights: str, environment: Mapping[str, str]) -> str:
    """Return `weights`, or what TRUEFACE_WEIGHTS says where it is "default"."""
    return environment.get("TRUEFACE_WEIGHTS") or weights if weights == "default" else weights


def read_state(path: Path, *, noun: str = "weights", remedy: str = REMEDY) -> dict[str, Tensor]:
    """Read a state dict, also one that lies inside a checkpoint; nothing in the file is executed.

    Half-precision tensors become float32, and what torch's wrappers put before every name is left
    out.

    Args:
        path: of the file.
        noun: the setting that names it, for messages.
        remedy: a sentence that says what to do if it cannot be used.

    Raises:
        WeightsError: absent, unreadable, empty, or holding more than tensors and plain values, or
            a number that is none.
    """
    try:
        content = tensor_files.load(path)
    except FileNotFoundError as error:
        raise WeightsError(f"{noun} {path} cannot be read: no such file. {remedy}") from error
    except tensor_files.BrokenFileError as error:
        raise WeightsError(f"{noun} {path} cannot be read safely: {error}. {remedy}") from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if (
        not isinstance(content, dict)
        or not content
        or not all(isinstance(n, str) and isinstance(v, Tensor) for n, v in content.items())
    ):
        raise WeightsError(
            f"{noun} {path}: the file is not a state dict (names and tensors). {remedy}"
        )
    content = without_prefixes(content)
    return {
        name: to_float32(tensor, name, f"{noun} {path}", remedy=remedy)
        for name, tensor in content.items()
    }


def without_prefixes(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return a state without the prefixes of torch's wrappers, which nest in any order."""
    while True:
        state = without_average_count(state)
        prefixes = (each for each in PREFIXES if all(name.startswith(each) for name in state))
        prefix = next(prefixes, "")
        if not prefix:
            return state
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}


def without_average_count(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return a state without the counter of `torch.optim.swa_utils.AveragedModel`, if it is one."""
    others = {name: tensor for name, tensor in state.items() if name != COUNT}
    is_average = len(others) < len(state) and all(name.startswith(PREFIX) for name in others)
    return others if others and is_average else state


def load_state(network: nn.Module, state: Mapping[str, Tensor], noun: str) -> None:
    """Load every tensor of `state` into `network`.

    Raises:
        WeightsError: a name is missing or unknown, or a shape differs; each kind with examples.
    """
    if isinstance(network, SizedByState):
        network.take_sizes(state)
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
            ("with another shape", other),
        )
        if names
    ]
    if reports:
        raise WeightsError(f"{noun} do not fit this model: {'; '.join(reports)}")
    network.load_state_dict(dict(state))


def load_pretrained_state(
    network: nn.Module,
    state: Mapping[str, Tensor],
    noun: str,
    *,
    head: str | None,
    classes: int = CLASSES,
) -> None:
    """Load `state`. If its last layer has the classes of a pretraining, keep the last layer of `network`.

    Args:
        network: with one logit.
        state: tensors by the network's names. Those of the last layer may have another library's names.
        noun: the weights, as messages name them.
        head: dotted name of the network's last layer. None: every tensor is loaded.
        classes: number of classes of the pretraining.

    Raises:
        WeightsError: the tensors are of another network, or the last layer has neither 1 nor `classes` outputs.
    """
    own, prefix = network.state_dict(), f"{head}."
    last = {
        name
        for name in state
        if head is not None
        and (name.startswith(prefix) or (name not in own and name.startswith(FOREIGN_HEADS)))
    }
    found = {len(state[name]) for name in last if name.endswith("weight") and state[name].dim()}
    if other := found - {1, classes}:
        data = "ImageNet" if classes == CLASSES else "Kinetics"
        raise WeightsError(
            f"{noun} have a last layer of {min(other)} classes, but a detector has one logit. "
            f"Only a layer of {data}'s {classes} classes is replaced. To start with a new "
            f"layer, remove {', '.join(sorted(last))} from the file."
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
    load_state(network, fitting, noun)


def published_state(url: str) -> Mapping[str, Tensor]:
    """Return published weights from torch's cache, or from the network.

    Torch compares the digest in a file's name with its content only after a download.

    Raises:
        WeightsError: they are not there and cannot be downloaded, or their checksum is wrong.
    """
    path = _cache_path(url)
    if path.is_file() and (digest := DIGEST.search(path.name)):
        refuse_other_digest(path, digest[1], advice="start again to download it")
    try:
        # torch announces a download in one of them, by version
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            state: Mapping[str, Tensor] = torch.hub.load_state_dict_from_url(
                url, progress=False, check_hash=True, weights_only=True
            )
    except (URLError, OSError, RuntimeError, pickle.UnpicklingError) as error:
        if path.is_file():
            raise WeightsError(
                f"the published weights {path} cannot be read: {first_line(error)}. Delete the file "
                f"to download it again, or choose other weights. {REMEDY}"
            ) from error
        raise WeightsError(
            f"the published weights {url} cannot be downloaded: {first_line(error)}. {REMEDY} Or "
            "choose a model without pretrained weights, such as residuals in "
            "tasks/photos_no_weights.yaml."
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
        path = _cache_path(url)
        if not path.is_file():
            return None
    try:
        return cached_sha256(path)
    except OSError as error:
        raise WeightsError(
            f"weights {path} cannot be read: {first_line(error)}. {REMEDY}"
        ) from error


def _cache_path(url: str) -> Path:
    """Return where torch keeps the file of a URL."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name


def to_float32(tensor: Tensor, name: str, file: str, *, remedy: str = REMEDY) -> Tensor:
    """Return a tensor of weights as float32; the counter of a batch norm stays as it is.

    Args:
        tensor: as the file has it.
        name: in the file.
        file: its setting and path, for messages.
        remedy: a sentence that says what to do if the tensor cannot be used.

    Raises:
        WeightsError: it is not a plain tensor of floats, or a number is not finite.
    """
    if name.endswith(COUNTER):
        return tensor
    if tensor.layout != torch.strided or tensor.is_meta or not tensor.is_floating_point():
        raise WeightsError(
            f"{file}: {name} is {tensor.dtype}, {tensor.layout}, on {tensor.device}, "
            f"expected a plain tensor of floats (convert quantised tensors first). {remedy}"
        )
    wide = tensor.to(torch.float32)
    broken = int((~wide.isfinite()).sum())
    if broken:
        raise WeightsError(
            f"{file}: {broken} of {wide.numel()} numbers of {name} are not finite (nan or "
            f"inf), because their training diverged. {remedy}"
        )
    if name.endswith(VARIANCE) and bool((wide < 0).any()):
        raise WeightsError(
            f"{file}: {name} has negative numbers, but a variance has none. The file is "
            f"damaged, or its tensors are those of other layers. {remedy}"
        )
    return wide


LEAST_KERNEL = 3  # a smaller one with a stride leaves pixels out
# licences of published weights that leave their use free
PERMISSIVE = frozenset({"apache-2.0", "bsd-3-clause", "cc-by-4.0", "mit"})
log = logging.getLogger(__name__)


def keep_resolution(network: nn.Module, name: str, side: int | None) -> None:
    """Set the stride of the first convolution to 1.

    Args:
        network: from images to logits.
        name: of the network, for messages.
        side: the only image side that it accepts, in pixels. None: any.

    Raises:
        JobError: the network does not begin with a single convolution of stride 2 and a kernel of 3
        or more.
    """
    layers = _first_convolutions(network, name, side)
    if len(layers) != 1:
        branches = f"{len(layers)} convolutions ({', '.join(layers)})" if layers else "none"
        raise JobError(
            f"nodown needs a network that begins with one convolution, but {name} begins with "
            f"{branches}. Leave nodown out."
        )
    layer, convolution = layers.popitem()
    kernel, stride = convolution.kernel_size, convolution.stride
    if stride != (2, 2) or min(kernel) < LEAST_KERNEL:
        raise JobError(
            "nodown changes the stride of the first convolution from 2 to 1. Its kernel must be "
            f"{LEAST_KERNEL} or larger. {layer} of {name} has stride {stride[0]} and kernel "
            f"{kernel[0]}. Leave nodown out."
        )
    convolution.stride = (1, 1)


def _first_convolutions(network: nn.Module, name: str, side: int | None) -> dict[str, nn.Conv2d]:
    """Return the convolution that is called first, with those that get the same tensor, by name."""
    calls: list[tuple[str, nn.Conv2d, Tensor]] = []

    def note(key: str, layer: nn.Module, inputs: tuple[Tensor, ...], _: object) -> None:
        if isinstance(layer, nn.Conv2d):
            calls.append((key, layer, inputs[0]))

    with forward_hooks(network.named_modules(), note):
        dry_forward(network, name, side)
    return {key: layer for key, layer, images in calls if images is calls[0][2]}


@runtime_checkable
class SizedByState(Protocol):
    """A network some of whose tensors have as many rows as a state dict has."""

    def take_sizes(self, state: Mapping[str, Tensor]) -> None:
        """Change the sizes of tensors to those of a state dict."""


@runtime_checkable
class StartsFromFile(Protocol):
    """A network some of whose tensors are in a file of their own; see `start_file` of its declaration."""

    start_parts: tuple[str, ...]  # first words of their names


@runtime_checkable
class NamedOtherwise(Protocol):
    """A network whose published files have other names than its parameters."""

    def adapt_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of a file by the network's names; unknown ones keep theirs."""


@runtime_checkable
class HasBackbone(Protocol):
    """A network that can start from a file of its backbone alone."""

    def start_from_backbone(self, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Return the network's tensors with those of a backbone's file; None if it is another file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """How a network is made."""

    weights: str  # default, none, or the path of a state dict
    dropout: float = 0.0  # before the last layer
    pixels: tuple[Triple, Triple] | None = None  # mean and std; None: the network's own
    side: int | None = None  # side of images, in pixels; None: not known
    nodown: bool = False  # its first convolution keeps the resolution


def assemble(name: str, options: BuildOptions) -> BuiltNetwork:
    """Return the network of that name. Random weights come from torch's own generator.

    Raises:
        UnknownName: there is no network of that name.
        JobError: it cannot be built in this way. The message gives the reason.
        WeightsError: the weights are not available, or are another network's.
    """
    spec = spec_of(name)
    built = _build_network(spec, options)
    network, spec = built.network, built.spec
    if spec.head is None:
        if options.dropout:
            raise JobError(without_last_layer(f"dropout: {options.dropout:g}", name))
    elif isinstance(own := head_of(network, spec.head), MlpHead):
        own.dropout.p = options.dropout
    elif spec.solver == "gradient":  # others bring a last layer of their own
        dropout = options.dropout
        if spec.head_dropout:
            dropout = 1 - (1 - dropout) * (1 - spec.head_dropout)
        head = Head(head_of(network, spec.head).in_features, dropout)
        network.set_submodule(spec.head, head)
    if spec.inner is None:
        _load_start_weights(built, options.weights)
    if options.nodown and spec.frames is not None:
        raise JobError(
            f"nodown needs a network of images, but {name} looks at clips. Leave it out."
        )
    if options.nodown and spec.inner is None:  # a family reads the maps of a network that has it
        keep_resolution(network, name, spec.probe_side)
    try:
        _check_logit(network, spec)
    except JobError as error:
        if not options.nodown:
            raise
        raise JobError(
            f"model {name} does not work if its first convolution keeps the resolution. Leave nodown out."
        ) from error
    return built


def _check_logit(network: nn.Module, spec: ModelSpec) -> None:
    """Refuse a network that does not give one logit as its declaration says."""
    if spec.inputs == LANDMARKS:
        check_landmark_logit(network, spec.name, spec.frames or 1)
    elif spec.head is None:
        check_one_logit(network, spec.name, spec.probe_side, frames=spec.frames)
    elif spec.solver == "gradient":
        check_single_head(network, spec.name, spec.head, spec.probe_side, frames=spec.frames)


def weights_sha256(name: str, weights: str) -> str | None:
    """Return the checksum of the initial weights of a network, or None if they are random.

    Raises:
        UnknownName: no such network.
        WeightsError: the file cannot be read.
    """
    spec = spec_of(name)
    library = (spec.inner or name).partition("/")[0] in LIBRARIES
    if weights != "default" or not library:
        return fingerprint(weights, spec.weights_url)
    with torch.random.fork_rng(devices=()):
        built = _build_network(spec_of(spec.inner or name), BuildOptions(weights="none"))
    if built.published is not None:
        weights = str(built.published())
    return fingerprint(weights, built.spec.weights_url)


def _build_network(spec: ModelSpec, options: BuildOptions) -> BuiltNetwork:
    make = load_model_maker(spec.name)
    if spec.inner is not None:
        inner = assemble(spec.inner, replace(options, dropout=0.0))
        mean, std = options.pixels or (inner.spec.mean, inner.spec.std)
        inner = replace(inner, spec=replace(inner.spec, mean=mean, std=std))
        own = replace(
            spec,
            mean=inner.spec.mean,
            std=inner.spec.std,
            input_size=inner.spec.input_size,
            library=inner.spec.library,
            licence=inner.spec.licence,
        )
        return BuiltNetwork(network=make(inner), spec=own)
    if spec.name.partition("/")[0] in LIBRARIES:
        return make(spec, options.side)  # type: ignore[no-any-return]  # what a file holds
    network = make()
    adapt = network.adapt_state if isinstance(network, NamedOtherwise) else dict
    return BuiltNetwork(network=network, spec=spec, adapt=adapt)


def _load_start_weights(built_network: BuiltNetwork, weights: str) -> None:
    spec = built_network.spec
    if weights == "none" or (
        weights == "default" and not (spec.weights_url or built_network.published)
    ):
        return
    if weights == "default" and spec.weights_url:
        state = published_state(spec.weights_url)
        noun = f"the ImageNet weights of {spec.name}"
        if not _start_from_backbone(built_network, state, noun):
            _load_pretrained(built_network, dict(state), noun)
    else:
        published = weights == "default" and built_network.published
        _adopt_file(built_network, published() if published else Path(weights))
    if spec.licence and spec.licence not in PERMISSIVE:
        log.warning(
            "network=%s licence=%s advice=check that the licence allows your use of the weights",
            spec.name,
            spec.licence,
        )


def _adopt_file(built_network: BuiltNetwork, path: Path) -> None:
    state, spec = read_state(path), built_network.spec
    noun = f"weights {path}"
    try:
        if not _start_from_backbone(built_network, state, noun):
            state = drop_unused(built_network.network, state, noun)
            _load_pretrained(built_network, state, noun)
    except WeightsError as error:
        others = fitting_networks(spec.name, state)
        advice = f"They fit model {' and '.join(others)}." if others else REMEDY
        if spec.start_file:
            advice = f"Give the file of {spec.start_file}."
        raise WeightsError(f"{str(error).removesuffix('.')}. {advice}") from error


def _load_pretrained(built_network: BuiltNetwork, state: dict[str, Tensor], noun: str) -> None:
    classes = CLASSES if built_network.spec.frames is None else CLIP_CLASSES
    adapted = built_network.adapt(state)
    load_pretrained_state(
        built_network.network, adapted, noun, head=built_network.spec.head, classes=classes
    )


def _start_from_backbone(
    built_network: BuiltNetwork, state: Mapping[str, Tensor], noun: str
) -> bool:
    """Load the tensors of a backbone's file, and return whether it is one."""
    network = built_network.network
    begun = network.start_from_backbone(state) if isinstance(network, HasBackbone) else None
    if begun is not None:
        load_state(network, begun, noun)
        source = noun.removeprefix("weights ")
        log.info("weights=%s state=of the backbone alone, other layers are random", source)
    return begun is not None


def drop_unused(network: nn.Module, state: Mapping[str, Tensor], noun: str) -> dict[str, Tensor]:
    """Return a state dict without the parts that the network's `unused_parts` names; they are logged."""
    parts: Sequence[str] = getattr(network, "unused_parts", ())
    dropped = Counter(part for name in state for part in parts if f"{name}.".startswith(f"{part}."))
    if dropped:
        listed = ", ".join(f"{part} ({count})" for part, count in dropped.items())
        log.info("%s unused=%d parts=%s", noun.replace(" ", "=", 1), dropped.total(), listed)
    return {
        name: tensor
        for name, tensor in state.items()
        if not any(f"{name}.".startswith(f"{part}.") for part in dropped)
    }


def fitting_networks(name: str, state: Mapping[str, Tensor]) -> list[str]:
    """Return other networks than `name` that the tensors of a file fit, except for the last layer."""
    names, plain = (*SPECS, *_relatives(name)), without_prefixes(state)
    return [each for each in names if each != name and _fits(each, plain)]


def _relatives(name: str) -> list[str]:
    """Return the networks of torchvision that begin with the same letters, as a library's."""
    first, _, network = name.partition("/")
    if first not in LIBRARIES:
        return []
    letters = re.match("[a-z]*", network)
    names, own = LIBRARIES["tv"].networks, LIBRARIES[first].networks
    return [
        f"{first if each in own else 'tv'}/{each}"
        for each in sorted(names)
        if letters and each.startswith(letters[0])
    ]


def _fits(name: str, state: Mapping[str, Tensor]) -> bool:
    try:
        head, shapes, unused = _body_shapes(spec_of(name))
    except (JobError, NotImplementedError):  # not every network of a library can be made so
        return False
    others = unused if head is None else (f"{head}.", *FOREIGN_HEADS, *unused)
    body = {key for key in state if not key.startswith(others) and not key.endswith(COUNTER)}
    # every file would fit a network without tensors
    return (
        bool(shapes)
        and body == shapes.keys()
        and all(state[key].shape == shapes[key] for key in shapes)
    )


@cache
def _body_shapes(
    spec: ModelSpec,
) -> tuple[str | None, Mapping[str, torch.Size], tuple[str, ...]]:
    """Return the name of a network's last layer, the shapes of the tensors before it, and what files may have beside."""
    with torch.random.fork_rng(devices=()), torch.device("meta"):
        built = _build_network(spec, BuildOptions(weights="none"))
    shapes = {
        key: value.shape
        for key, value in built.network.state_dict().items()
        if not key.startswith(f"{built.spec.head}.") and not key.endswith(COUNTER)
    }
    unused: Sequence[str] = getattr(built.network, "unused_parts", ())
    return built.spec.head, shapes, tuple(f"{part}." for part in unused)
