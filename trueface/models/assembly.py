"""Networks by name, with the weights that they start from and a last layer of one logit.

A network of a family is made of another one, which gets its weights first: a file is always of the
names, and checked against all tensors, of the network that it was written of.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from trueface.models import pretrained
from trueface.models.head import Head, MlpHead, head_of, refuse_several_heads
from trueface.models.probe import probe
from trueface.models.registry import (
    LIBRARIES,
    SPECS,
    Made,
    Spec,
    Triple,
    maker_of_model,
    names_of,
    spec_of,
)
from trueface.runtime.errors import JobError, WeightsError

LEAST_KERNEL = 3  # a smaller one with a stride leaves pixels out
# licences of published weights that leave their use free
PERMISSIVE = frozenset({"apache-2.0", "bsd-3-clause", "cc-by-4.0", "mit"})

log = logging.getLogger(__name__)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """How a network is made."""

    weights: str  # default, none, or the path of a state dict
    dropout: float = 0.0  # before the last layer
    pixels: tuple[Triple, Triple] | None = None  # mean and std; None: the network's own
    side: int | None = None  # of images, in pixels; None: not known
    nodown: bool = False  # its first convolution keeps the resolution


def assemble(name: str, wanted: Wanted) -> Made:
    """Return the network of that name; what is random of it comes from torch's own generator.

    Raises:
        UnknownName: there is none.
        JobError: it cannot be made in this way; says why.
        WeightsError: the weights cannot be had, or are another network's.
    """
    spec = spec_of(name)
    made = _made(spec, wanted)
    network, spec = made.network, made.spec
    if isinstance(own := head_of(network, spec.head), MlpHead):
        own.dropout.p = wanted.dropout
    elif spec.solver == "gradient":  # others bring a last layer of their own
        head = Head(head_of(network, spec.head).in_features, wanted.dropout)
        network.set_submodule(spec.head, head)
    if spec.inner is None:
        _start_from(made, wanted.weights)
    if wanted.nodown and spec.inner is None:  # a family reads the maps of a network that has it
        keep_resolution(network, name, spec.input_size)
    if spec.solver == "gradient":
        refuse_several_heads(network, name, spec.head, spec.input_size)
    return made


def weights_sha256(name: str, weights: str) -> str | None:
    """Return the checksum of the weights that a network starts from; None: they are random.

    Raises:
        UnknownName: no such network.
        WeightsError: the file cannot be read.
    """
    spec = spec_of(name)
    library = (spec.inner or name).partition("/")[0] in LIBRARIES
    if weights != "default" or not library:
        return pretrained.fingerprint(weights, spec.weights_url)
    with torch.random.fork_rng(devices=()):
        made = _made(spec_of(spec.inner or name), Wanted(weights="none"))
    if made.published is not None:
        weights = str(made.published())
    return pretrained.fingerprint(weights, made.spec.weights_url)


def _made(spec: Spec, wanted: Wanted) -> Made:
    make = maker_of_model(spec.name)
    if spec.inner is not None:
        inner = assemble(spec.inner, replace(wanted, dropout=0.0))
        mean, std = wanted.pixels or (inner.spec.mean, inner.spec.std)
        inner = replace(inner, spec=replace(inner.spec, mean=mean, std=std))
        own = replace(
            spec,
            mean=inner.spec.mean,
            std=inner.spec.std,
            input_size=inner.spec.input_size,
            library=inner.spec.library,
            licence=inner.spec.licence,
        )
        return Made(network=make(inner), spec=own)
    if spec.name.partition("/")[0] in LIBRARIES:
        return make(spec, wanted.side)  # type: ignore[no-any-return]  # what a file holds
    return Made(network=make(), spec=spec)


def _start_from(made: Made, weights: str) -> None:
    spec = made.spec
    if weights == "none" or (weights == "default" and not (spec.weights_url or made.published)):
        return
    if weights == "default" and spec.weights_url:
        state = pretrained.published_state(spec.weights_url)
        what = f"the ImageNet weights of {spec.name}"
        pretrained.adopt(made.network, made.adapt(dict(state)), what, head=spec.head)
    else:
        published = weights == "default" and made.published
        _adopt_file(made, published() if published else Path(weights))
    if spec.licence and spec.licence not in PERMISSIVE:
        log.warning(
            "network=%s licence=%s advice=see whether it allows what you use the weights for",
            spec.name,
            spec.licence,
        )


def _adopt_file(made: Made, path: Path) -> None:
    state, spec = pretrained.read_state(path), made.spec
    try:
        pretrained.adopt(made.network, made.adapt(state), f"weights {path}", head=spec.head)
    except WeightsError as error:
        names = (*SPECS, *_relatives(spec.name))
        others = [name for name in names if name != spec.name and _fits(name, state)]
        advice = f"they fit model {' and '.join(others)}" if others else pretrained.REMEDY
        raise WeightsError(f"{error}; {advice}") from error


def _relatives(name: str) -> list[str]:
    """Return the networks of torchvision that begin with the same letters, as a library's."""
    first, _, network = name.partition("/")
    if first not in LIBRARIES:
        return []
    letters = re.match("[a-z]*", network)
    names = names_of(LIBRARIES["tv"].package)
    own = names_of(LIBRARIES[first].package)
    return [
        f"{first if each in own else 'tv'}/{each}"
        for each in sorted(names)
        if letters and each.startswith(letters[0])
    ]


def _fits(name: str, state: Mapping[str, Tensor]) -> bool:
    with torch.random.fork_rng(devices=()), torch.device("meta"):
        try:
            made = _made(spec_of(name), Wanted(weights="none"))
        except (JobError, NotImplementedError):  # not every network of a library can be made so
            return False
    shapes = {
        key: value.shape
        for key, value in made.network.state_dict().items()
        if not key.startswith(f"{made.spec.head}.") and not key.endswith(pretrained.COUNTER)
    }
    heads = (f"{made.spec.head}.", *pretrained.FOREIGN_HEADS)
    body = {
        key for key in state if not key.startswith(heads) and not key.endswith(pretrained.COUNTER)
    }
    # every file would fit a network without tensors
    return (
        bool(shapes)
        and body == shapes.keys()
        and all(state[key].shape == shapes[key] for key in shapes)
    )
