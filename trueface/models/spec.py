"""What is declared of a network, of a family of networks, and of a library: plain values, no torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of torchvision's published weights
IMAGENET_STD = (0.229, 0.224, 0.225)

Triple = tuple[float, float, float]
Solver = Literal["gradient", "ridge"]
Maker = TypeVar("Maker", bound=Callable[..., object])


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A network of detectors, and the preprocessing that belongs to it.

    Features are what the last layer gets, (B, F): `head` alone says where they are, so that no
    network has to be written in two halves. A network of a library says head, weights, mean, std and
    input size when it is made: until then `head` is empty.
    """

    name: str
    summary: str
    head: str
    weights_url: str | None
    mean: Triple
    std: Triple
    input_size: int | None
    width: int | None
    solver: Solver = "gradient"  # of its last layer; "ridge": in closed form, the body stays
    raw_pixels: bool = False  # it gets pixels 0 … 255, and normalises for itself
    differentiable: bool = True  # gradients reach the pixels
    frozen: bool = False  # steps train its own last layer alone; the body stays
    inner: str | None = None  # the network that one of a family is made of
    library: str = ""  # name and version
    licence: str = ""  # of the published weights, where it binds those who use them

    def __call__(self, make: Maker) -> Maker:
        """Leave the decorated function, which makes the network, as it is."""
        return make


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A network with what is declared of it."""

    network: Any  # nn.Module
    spec: Spec
    # from the tensors of a file, by name, to those of the network
    adapt: Callable[[dict[str, Any]], dict[str, Any]] = dict
    # the file of `weights: default`, where no URL leads to it; raises WeightsError
    published: Callable[[], Path] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Networks that are made of another one: `FAMILY/NETWORK`."""

    name: str
    summary: str
    head: str
    solver: Solver
    raw_pixels: bool
    differentiable: bool
    frozen: bool
    widths: Mapping[
        str, int
    ]  # about how many features, by the network inside; of others: not known

    def __call__(self, make: Maker) -> Maker:
        """Leave the decorated function, which makes the network, as it is."""
        return make

    def spec(self, inner: Spec) -> Spec:
        """Return what the network of this family that is made of `inner` declares."""
        return replace(
            inner,
            name=f"{self.name}/{inner.name}",
            summary=f"{self.summary}: {inner.summary}",
            head=self.head,
            width=self.widths.get(inner.name),
            solver=self.solver,
            raw_pixels=self.raw_pixels,
            differentiable=self.differentiable,
            frozen=self.frozen,
            inner=inner.name,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """Networks of an installed library: `LIBRARY/NETWORK`."""

    name: str
    summary: str
    package: str
    extra: str
    has_tags: bool

    def __call__(self, make: Maker) -> Maker:
        """Leave the decorated function, which makes the network, as it is."""
        return make

    def spec(self, network: str) -> Spec:
        """Return what is known of a network of this library before it is made."""
        return Spec(
            name=f"{self.name}/{network}",
            summary=f"{network} of {self.summary}",
            head="",
            weights_url=None,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            input_size=None,
            width=None,
        )
