"""The networks by name, of detectors and of image classifiers: no torch here.

What `@register_model` and `@register_classifier` say in the files of `architectures` is read from
their text. A file is imported when a network of it is made.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from trueface.runtime.declarations import Declaration, read_declarations
from trueface.runtime.errors import UnknownName

PACKAGE = "trueface.models.architectures"
IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of torchvision's published weights
IMAGENET_STD = (0.229, 0.224, 0.225)
LEAST_SIZE = 8  # side of an image that any network of image classifiers takes, in pixels
NOTHING: Mapping[str, int] = MappingProxyType({})

Triple = tuple[float, float, float]
Stem = Literal["small", "large"]
Maker = TypeVar("Maker", bound=Callable[..., object])


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A network of detectors, and the preprocessing that belongs to it.

    Features are what the last layer gets, (B, F): `head` alone says where they are, so that no
    network has to be written in two halves.
    """

    name: str
    summary: str
    head: str
    weights_url: str | None
    mean: Triple
    std: Triple
    input_size: int | None
    width: int | None

    def __call__(self, make: Maker) -> Maker:
        """Leave the decorated function, which makes the network, as it is."""
        return make


def register_model(
    name: str,
    *,
    summary: str,
    head: str = "fc",
    weights_url: str | None = None,
    mean: Triple = IMAGENET_MEAN,
    std: Triple = IMAGENET_STD,
    input_size: int | None = None,
    width: int | None = None,
) -> Spec:
    """Declare a network of detectors; the function below it makes one, with random weights.

    Args:
        name: what settings call it.
        summary: the network's usual name, in few words.
        head: dotted name of its last layer, an `nn.Linear` that gets features (B, F), as in its
            state dict; a layer with one logit takes its place.
        weights_url: of ImageNet weights, a state dict of the network's own names, in a file called
            `<name>-<first digits of its SHA-256>.pth`; None: it starts from random weights.
        mean: of pixels in 0 … 1, as the weights want it.
        std: likewise.
        input_size: the only side of images that it takes, in pixels; None: any.
        width: F of its features, from which a plan tells how much the feature store will hold; None:
            a plan does not tell.
    """
    return Spec(
        name=name,
        summary=summary,
        head=head,
        weights_url=weights_url,
        mean=mean,
        std=std,
        input_size=input_size,
        width=width,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A network of image classifiers, and how it is usually trained from scratch."""

    summary: str
    optimizer: Literal["sgd", "adamw"]
    lr: float
    weight_decay: float
    least_size: Mapping[str, int]  # side of an image, in pixels, by stem; else `LEAST_SIZE`
    patch: Mapping[str, int]  # of which the side is a multiple, in pixels, by stem; else 1

    def __call__(self, make: Maker) -> Maker:
        """Leave the decorated function, which makes the network, as it is."""
        return make


def register_classifier(
    name: str,  # noqa: ARG001  # the reader's
    *,
    summary: str,
    optimizer: Literal["sgd", "adamw"],
    lr: float,
    weight_decay: float,
    least_size: Mapping[str, int] = NOTHING,
    patch: Mapping[str, int] = NOTHING,
) -> Recipe:
    """Declare a network of image classifiers; the function below it makes one of a `Shape`."""
    return Recipe(
        summary=summary,
        optimizer=optimizer,
        lr=lr,
        weight_decay=weight_decay,
        least_size=least_size,
        patch=patch,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a network of an image classifier looks like."""

    model: str  # a key of `RECIPES`
    stem: Stem
    size: int  # side of an image, in pixels
    classes: int


def _declared(decorator: str) -> Mapping[str, Declaration]:
    declared = read_declarations(PACKAGE, decorator, modules={__name__})
    return MappingProxyType({name: declared[name] for name in sorted(declared)})


_MODELS, _CLASSIFIERS = _declared("register_model"), _declared("register_classifier")

SPECS: Mapping[str, Spec] = MappingProxyType(
    {name: declared.pass_to(register_model) for name, declared in _MODELS.items()}
)
RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {name: declared.pass_to(register_classifier) for name, declared in _CLASSIFIERS.items()}
)


def spec_of(name: str) -> Spec:
    """Return what the network of that name declares.

    Raises:
        UnknownName: there is none.
    """
    if name not in SPECS:
        raise UnknownName("model", name, SPECS)
    return SPECS[name]


def maker_of_model(name: str) -> Callable[[], Any]:
    """Import the file of a network; return the function that makes one."""
    return _MODELS[name].load()  # type: ignore[no-any-return]  # what a file holds


def maker_of_classifier(name: str) -> Callable[[Shape], Any]:
    """Import the file of an image classifier's network; return the function that makes one."""
    return _CLASSIFIERS[name].load()  # type: ignore[no-any-return]  # what a file holds


def modules_of_model(name: str) -> tuple[str, ...]:
    """Return the modules that a detector's name stands for: they are imported by that name."""
    return (_MODELS[name].module,)


def modules_of_classifier(name: str) -> tuple[str, ...]:
    """Return the modules that a classifier's name stands for: they are imported by that name."""
    return (_CLASSIFIERS[name].module,)


def model_name(name: str) -> str:
    """Return the name of a network as it is registered; a network's usual name is suggested.

    Raises:
        ValueError: there is none of that name.
    """
    if name in SPECS:
        return name
    by_summary = {_letters(spec.summary): spec.name for spec in SPECS.values()}
    meant = by_summary.get(_letters(name))  # resnet50 is what we call baseline
    raise ValueError(UnknownName("model", name, SPECS, suggestion=meant))


def _letters(name: str) -> str:
    return "".join(char for char in name.casefold() if char.isalnum())
