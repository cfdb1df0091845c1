"""Networks by name, with the weights that they start from and a last layer of one logit.

A network of a family is made of another one, which gets its weights first: a file is always of the
names, and checked against all tensors, of the network that it was written of.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from trueface.models import pretrained
from trueface.models.first_layer import keep_resolution
from trueface.models.head import Head, head_of, refuse_several_heads
from trueface.models.registry import LIBRARIES, SPECS, maker_of_model, spec_of
from trueface.models.spec import Made, Spec, Triple
from trueface.runtime.errors import WeightsError


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
    if spec.solver == "gradient":  # others bring a last layer of their own
        head = Head(head_of(network, spec.head).in_features, wanted.dropout)
        network.set_submodule(spec.head, head)
    if spec.inner is None:
        _start_from(made, wanted.weights)
    if wanted.nodown:
        keep_resolution(network, name, spec.input_size)
    if spec.solver == "gradient":
        refuse_several_heads(network, name, spec.head, spec.input_size)
    return made


def complete_spec(name: str) -> Spec:
    """Return what is declared of a network, with what a library says when it makes it."""
    spec = spec_of(name)
    if name.partition("/")[0] not in LIBRARIES:
        return spec
    with torch.random.fork_rng(devices=()), torch.device("meta"):
        made: Made = maker_of_model(name)(spec, None)
    return made.spec


def _made(spec: Spec, wanted: Wanted) -> Made:
    make = maker_of_model(spec.name)
    if spec.inner is not None:
        inner = assemble(spec.inner, replace(wanted, dropout=0.0, nodown=False))
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
        return
    path = made.published() if weights == "default" and made.published else Path(weights)
    _adopt_file(made, path)


def _adopt_file(made: Made, path: Path) -> None:
    state, spec = pretrained.read_state(path), made.spec
    try:
        pretrained.adopt(made.network, made.adapt(state), f"weights {path}", head=spec.head)
    except WeightsError as error:
        others = [name for name in SPECS if name != spec.name and _fits(name, state)]
        advice = f"they fit model {' and '.join(others)}" if others else pretrained.REMEDY
        raise WeightsError(f"{error}; {advice}") from error


def _fits(name: str, state: Mapping[str, Tensor]) -> bool:
    spec = spec_of(name)
    with torch.random.fork_rng(devices=()), torch.device("meta"):
        own = maker_of_model(name)().state_dict()
    shapes = {
        key: value.shape
        for key, value in own.items()
        if not key.startswith(f"{spec.head}.") and not key.endswith(pretrained.COUNTER)
    }
    return all(key in state and state[key].shape == shape for key, shape in shapes.items())
