"""The networks by name, without importing torch.

What `@register_model`, `@register_family`, `@register_library` and `@register_classifier` declare
in the files of `architectures` is read from their text. A file is imported when a network of it is
built. A name has one of three forms. It is that of a network (`slim18`), of a library and its
network (`tv/convnext_tiny`), or of a family and its inner network (`patch/baseline` or
`linear/timm/vit_small_patch16_224`). Networks that are trained from scratch on any number of
classes, as for CIFAR, have separate names, and a recipe.
"""

import importlib.util
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from trueface.runtime.declarations import Declaration, Declared, Registry
from trueface.runtime.errors import UnknownName, UsageError, install_command, nearest

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # mean of torchvision's published weights
IMAGENET_STD = (0.229, 0.224, 0.225)
# mean and deviation of pixels in 0 … 1, about those of photographs; the same for every data set of classes
PHOTO_MEAN, PHOTO_STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
LEAST_LETTERS = 3  # equal first letters of a name and the one that is suggested
LEAST_SIZE = 8  # side of an image that any network with a recipe takes, in pixels

# why a network, or a layer of it, is not trained in several processes
OWN_DRAWS = "draws random numbers for the images of each process, so that several processes would not train as one does."
LANDMARKS = "landmarks"  # value of `inputs`
Triple = tuple[float, float, float]
Solver = Literal["gradient", "ridge"]
Stem = Literal["small", "large"]
# torchvision writes `@register_model()` and one more decorator, which may take several lines
_DECLARED = re.compile(
    r"^@register_model(?:\([^)]*\))?\n(?:@\w[^\n]*\n(?:[ )][^\n]*\n)*)*def (\w+)\(", re.MULTILINE
)
_RENAMED = re.compile(
    r"^register_model_deprecations\(__name__, \{(.*?)^\}", re.MULTILINE | re.DOTALL
)
_PAIR = re.compile(r"""['"](\w+)['"]: *['"]([\w.]+)['"]""")
PACKAGE = "trueface.models.architectures"
LIBRARY_NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)?")  # network's name with a tag of its weights


@dataclass(frozen=True, slots=True)
class ModelSpec(Declared):
    """Declares a network of detectors, and the preprocessing that belongs to it.

    The function below it makes one, with random weights. Features are what the last layer gets, (B,
    F): `head` alone says where they are, so that no network has to be written in two halves. A
    network of a library says head, weights, mean, std and input size when it is made: until then
    `head` is empty.
    """

    name: str  # name in settings
    _: KW_ONLY
    summary: str  # the network's usual name, in few words
    # dotted name of its last layer, an `nn.Linear` that gets features, as in its state dict; a layer with
    # one logit takes its place. None: the network does not end in one linear layer. It computes its one logit
    # itself, in float32, and what works on features or on a last layer refuses it
    head: str | None = "fc"
    head_dropout: float = (
        0.0  # its dropout before the last layer; that of the settings comes on top
    )
    # ImageNet weights, a state dict of the network's own names, in a file called
    # `<name>-<first digits of its SHA-256>.pth`; None: it starts from random weights
    weights_url: str | None = None
    mean: Triple = IMAGENET_MEAN  # mean of pixels in 0 … 1, as the weights want it
    std: Triple = IMAGENET_STD  # likewise
    # equal images have different features in training, by dropout or stochastic depth before the features
    draws: bool = False
    input_size: int | None = None  # the only side of images that it takes, in pixels; None: any
    side_step: int | None = None  # sides of images are multiples of it, in pixels; None: any
    usual_side: int | None = (
        None  # side of its authors' images, in pixels; another one is warned of
    )
    # side of its authors' stored images, in pixels, of which it gets the centre; larger ones show something else.
    # None: images of any size are resized or cropped
    stored_side: int | None = None
    stored_as: str = ""  # content of these images
    # its input: pixels, or the landmarks of clips that are stored with the frames, (B, T, 68, 2)
    inputs: Literal["pixels", "landmarks"] = "pixels"
    # names of the parts that its authors publish in a file each; (): one file has all
    files: tuple[str, ...] = ()
    # fewest frames of a clip; such a network gets (B, 3, T, H, W). None: it gets single images
    frames: int | None = None
    most_frames: int | None = None  # most frames of a clip; None: any number
    # width F of its features, for planning the size of the feature store; None: unknown
    width: int | None = None
    # solver of its last layer; "ridge": it is the network's own `RidgeHead`, and it alone learns, in closed form
    solver: Solver = "gradient"
    raw_pixels: bool = False  # it gets pixels 0 … 255, float32, and normalises for itself
    differentiable: bool = True  # gradients of the logit reach the pixels
    frozen: bool = False  # steps train its own last layer alone; the body stays
    inner: str | None = None  # the network that one of a family is made of
    library: str = ""  # name and version
    licence: str = ""  # licence of the published weights, where it binds those who use them
    # False: it was not compared with the code of its authors, so that files of others are refused
    compared: bool = True
    # file that trainings start from, and published files lack; "": none is needed
    start_file: str = ""
    rounds_gradients: bool = False  # `round_gradients` of a test applies to it
    own_draws: bool = False  # a layer draws numbers for the images of a process: see `OWN_DRAWS`
    not_trained: str = ""  # why it is only tested here; "": it can be trained
    revision: str = ""  # the last change of its code that changed its results, part of the hash

    @property
    def probe_side(self) -> int | None:
        """A side of images that it takes, in pixels. None: it takes any."""
        return self.input_size or self.side_step


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltNetwork:
    """A network with its declaration."""

    network: Any  # nn.Module
    spec: ModelSpec
    # from the tensors of a file, by name, to those of the network
    adapt: Callable[[dict[str, Any]], dict[str, Any]] = dict
    # the file of `weights: default`, where no URL leads to it; raises WeightsError
    published: Callable[[], Path] | None = None

    @property
    def head(self) -> str:
        """The dotted name of its last layer; a network without one is not the inner one of a family."""
        assert self.spec.head is not None
        return self.spec.head


@dataclass(frozen=True, slots=True)
class Family(Declared):
    """Declares networks that are built from another one: `FAMILY/NETWORK`.

    The function below it gets a `BuiltNetwork`, which contains the inner network and the mean and
    std of the settings. The inner network is complete, with its weights and a last layer of one
    logit at `head`. The function returns the network of the family, which may contain the
    inner one completely or in part.
    """

    name: str  # part before the slash
    _: KW_ONLY
    summary: str  # in few words
    head: str = "fc"  # dotted name of the last layer in the returned network
    solver: Solver = "gradient"  # as of a `ModelSpec`
    raw_pixels: bool = (
        False  # the returned network gets raw pixels, and has to normalise for the inner one
    )
    differentiable: bool = True  # likewise
    frozen: bool = False  # the last layer is its own, and it alone learns, by gradient steps
    # approximate number of features by inner network, for planning; unknown for others
    widths: Mapping[str, int] = field(default_factory=dict)

    def spec(self, inner: ModelSpec) -> ModelSpec:
        """Return what the network of this family that is made of `inner` declares."""
        return replace(
            inner,
            name=f"{self.name}/{inner.name}",
            summary=f"{self.summary}: {inner.summary}",
            head=self.head,
            head_dropout=0.0,
            width=self.widths.get(inner.name),
            solver=self.solver,
            raw_pixels=self.raw_pixels,
            differentiable=self.differentiable,
            frozen=self.frozen,
            inner=inner.name,
        )


@dataclass(frozen=True, slots=True)
class Library(Declared):
    """Declares networks of an installed library: `LIBRARY/NETWORK`.

    The function below it gets a `ModelSpec` with only the name guaranteed, and the side of images
    in pixels (None if unknown). It returns a complete `BuiltNetwork`. Its network has random
    weights.
    """

    name: str  # part before the slash
    _: KW_ONLY
    summary: str  # the library's usual name
    package: str  # dotted, whose files declare networks by `@register_model`; they are read as text
    extra: str  # this project's extra with which the library is installed
    has_tags: bool = False  # a name may end in a full stop and the tag of published weights
    # networks whose last layer is not linear, so that no detector is made of them
    without_last_layer: tuple[str, ...] = ()
    side_steps: Mapping[str, int] = field(default_factory=dict)  # as of a `ModelSpec`, by network
    exact_sides: Mapping[str, int] = field(
        default_factory=dict
    )  # the only side in pixels, by network
    clip_package: str = ""  # dotted, whose files declare networks of clips; "": none
    clip_frames: int | None = None  # fewest frames of a clip of these networks
    # the only number of frames, by network, where it differs
    exact_frames: Mapping[str, int] = field(default_factory=dict)

    def spec(self, network: str) -> ModelSpec:
        """Return what is known of a network of this library before it is made."""
        of_clips = self.clip_package and network in names_of(self.clip_package)
        return ModelSpec(
            name=f"{self.name}/{network}",
            summary=f"{network} of {self.summary}",
            head=None if network in self.without_last_layer else "",
            side_step=self.side_steps.get(network),
            input_size=self.exact_sides.get(network),
            frames=self.exact_frames.get(network, self.clip_frames) if of_clips else None,
            most_frames=self.exact_frames.get(network),
        )

    @property
    def networks(self) -> frozenset[str]:
        """The names of its networks; empty if it is not installed."""
        packages = filter(None, (self.package, self.clip_package))
        return frozenset().union(*map(names_of, packages))


@dataclass(frozen=True, slots=True)
class ClassifierSpec(Declared):
    """Declares a network of any number of classes, and how it is usually trained from scratch.

    The function below it makes one of a `ClassifierShape`.
    """

    name: str
    _: KW_ONLY
    summary: str
    optimizer: Literal["sgd", "adamw"]
    lr: float
    weight_decay: float
    # side of an image, in pixels, by stem; else `LEAST_SIZE`
    least_size: Mapping[str, int] = field(default_factory=dict)
    # divisor of the side, in pixels, by stem; else 1
    patch: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierShape:
    """The shape of a network with a recipe."""

    model: str  # a key of `RECIPES`
    stem: Stem
    size: int  # side of an image, in pixels
    classes: int


@lru_cache(maxsize=8)
def names_of(package: str) -> frozenset[str]:
    """Return the names of the networks that a package declares; empty where it is not installed."""
    return frozenset(name for text in _texts(package) for name in _DECLARED.findall(text))


@lru_cache(maxsize=8)
def read_renamed_networks(package: str) -> dict[str, str]:
    """Return today's names of a package's networks by their earlier ones."""
    tables = (table for text in _texts(package) for table in _RENAMED.findall(text))
    return dict(pair for table in tables for pair in _PAIR.findall(table))


@lru_cache(maxsize=2)
def _texts(package: str) -> tuple[str, ...]:
    top, *parts = package.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        return ()
    folder = Path(spec.submodule_search_locations[0], *parts)
    return tuple(
        text
        for path in sorted(folder.glob("*.py"))
        if "register_model" in (text := path.read_text(encoding="utf-8", errors="replace"))
    )


register_model = ModelSpec
register_family = Family
register_library = Library
register_classifier = ClassifierSpec
SPECS = Registry(PACKAGE, ModelSpec, decorator="register_model", modules={__name__})
FAMILIES = Registry(PACKAGE, Family, decorator="register_family", modules={__name__})
LIBRARIES = Registry(PACKAGE, Library, decorator="register_library", modules={__name__})
RECIPES = Registry(PACKAGE, ClassifierSpec, decorator="register_classifier", modules={__name__})


def spec_of(name: str) -> ModelSpec:
    """Return what the network of that name declares; of a library's, as much as is known before.

    Raises:
        UnknownName: there is none, or a family's inner network is of a family itself.
    """
    if name in SPECS:
        return SPECS[name]
    first, _, rest = name.partition("/")
    if first in LIBRARIES and LIBRARY_NAME.fullmatch(rest):
        return LIBRARIES[first].spec(rest)
    if first in FAMILIES and rest:
        return FAMILIES[first].spec(_inner_spec(first, rest))
    alone = first in FAMILIES or first in LIBRARIES
    raise _unknown_name(name, f"{first}/NETWORK" if alone and not rest else None)


def is_network(name: str) -> bool:
    """Return whether a network is registered, or a library has networks of such names."""
    return name in SPECS or name.partition("/")[0] in LIBRARIES


def may_draw(name: str) -> bool:
    """Return whether equal images may have different features in training. It is not known of other packages' networks.

    Raises:
        UnknownName: there is no network of that name.
    """
    family, slash, rest = name.partition("/")
    if slash and family in FAMILIES:
        return not FAMILIES.module(family).startswith(f"{PACKAGE}.") or may_draw(rest)
    return (
        spec_of(name).draws or name not in SPECS or not SPECS.module(name).startswith(f"{PACKAGE}.")
    )


def _inner_spec(family: str, name: str) -> ModelSpec:
    """Return what is declared of a network that others can be made of."""
    if name.partition("/")[0] not in FAMILIES:
        try:
            spec = spec_of(name)
        except UnknownName as error:
            meant = error.suggestion and f"{family}/{error.suggestion}"
            names = [
                f"{family}/{each}" for each in error.known if each.partition("/")[0] not in FAMILIES
            ]
            raise _unknown_name(f"{family}/{name}", meant, names) from None
        if spec.head is None:
            raise UsageError(without_last_layer(f"a model {family}/NETWORK", name))
        if spec.frames is not None:
            raise UsageError(
                f"a model {family}/NETWORK needs a network of images, but model {name} looks at clips. Choose "
                "another network."
            )
        if spec.solver == "gradient":
            return spec
    names = [f"{family}/{each}" for each, spec in SPECS.items() if _can_be_inner(spec)]
    names += [f"{family}/{each}/NETWORK" for each in LIBRARIES]
    raise _unknown_name(f"{family}/{name}", None, names)


def _can_be_inner(spec: ModelSpec) -> bool:
    return spec.solver == "gradient" and spec.head is not None and spec.frames is None


def without_last_layer(user: str, name: str) -> str:
    """Return why something does not work with a network that does not end in one linear layer."""
    return (
        f"{user} needs a network that ends in one linear layer, but model {name} does not. Choose "
        "another model."
    )


def without_linear_layer(name: str) -> str:
    """Return why no detector is made of a network of a library."""
    known = " (SqueezeNet is available as squeezenet)" * ("squeezenet" in name)
    return (
        f"model {name} has no linear layer, which features, freezing and unlearning need. Choose another network"
        f"{known}."
    )


def clip_lengths(spec: ModelSpec) -> str:
    """Return the numbers of frames that a network of clips takes, in words."""
    if spec.most_frames is None:
        return f"of {spec.frames} or more frames"
    only = spec.frames == spec.most_frames
    return f"of {spec.frames} frames" if only else f"of {spec.frames} to {spec.most_frames} frames"


def unfit_clips(spec: ModelSpec, frames: int | None) -> str:
    """Return why a network does not take clips of so many frames, or single images (None); "" if it does.

    A network of images takes any clips: it scores their frames.
    """
    if spec.frames is None:
        return ""
    needs = clip_lengths(spec)
    remedy = f"Write clips with frames={spec.frames}, or choose a network of images."
    if frames is None:
        return f"model {spec.name} needs clips {needs}, not single images. {remedy}"
    if spec.frames <= frames <= (spec.most_frames or frames):
        return ""
    return f"model {spec.name} needs clips {needs}, got {frames}. {remedy}"


def reads_landmarks(name: str) -> bool:
    """Return whether the network of that name reads landmarks in place of pixels; an unknown one does not."""
    try:
        return spec_of(name).inputs == LANDMARKS
    except UsageError:
        return False


def normalizes_itself(name: str) -> bool:
    """Return whether mean and deviation of the settings do not reach the network of that name."""
    try:
        spec = spec_of(name)
    except UsageError:
        return False
    return spec.raw_pixels and spec.inner is None


def needs_pixels(user: str, name: str) -> str:
    """Return why something that changes or shows pixels does not work with a network of landmarks."""
    return (
        f"{user} needs a network of pixels, but model {name} reads stored landmarks, which it would not change. Leave it "
        "out, or choose another model."
    )


def unfit_side(spec: ModelSpec, side: int, setting: str = "resize_size") -> str:
    """Return why a network does not take images of that side in pixels, as far as it declares it; "" if it does."""
    if spec.input_size not in {None, side}:
        return (
            f"model {spec.name} needs images of {spec.input_size} by {spec.input_size} pixels, got {side} by {side}. "
            f"Set {setting} to {spec.input_size}."
        )
    step = spec.side_step
    if step is None or side % step == 0:
        return ""
    return (
        f"model {spec.name} needs images whose side is a multiple of {step} pixels, got {side}. Set {setting} to "
        f"{step * max(1, round(side / step))}."
    )


def load_model_maker(name: str) -> Callable[..., Any]:
    """Import the file of a network, a family or a library; return its function.

    That of a network takes nothing, that of a family a `BuiltNetwork`, that of a library a
    `ModelSpec` and a side.

    Raises:
        UsageError: the library is not installed.
    """
    library = LIBRARIES.get(name.partition("/")[0])
    if library is not None and not library.networks:
        raise UsageError(without_library(library, name.partition("/")[2].partition(".")[0]))
    return _declaration(name).load()  # type: ignore[no-any-return]  # what a file holds


def modules_of_model(name: str) -> tuple[str, ...]:
    """Return the modules that a detector's name stands for: they are imported by that name."""
    inner = spec_of(name).inner
    return (_declaration(name).module, *(modules_of_model(inner) if inner else ()))


def revisions_of_model(name: str) -> list[str]:
    """Return the changes of a detector's code that change its results, for the hash of its training."""
    revision = spec_of(name).revision
    return [revision] if revision else []


def spec_of_classifier(name: str) -> ModelSpec:
    """Return the spec of a network with a recipe before it is built, without its last layer."""
    return ModelSpec(name, summary=RECIPES[name].summary, head="", mean=PHOTO_MEAN, std=PHOTO_STD)


def load_classifier_maker(name: str) -> Callable[[ClassifierShape], Any]:
    """Import the file of a network with a recipe; return the function that makes one."""
    return RECIPES.load(name)  # type: ignore[no-any-return]  # what a file holds


def modules_of_classifier(name: str) -> tuple[str, ...]:
    """Return the modules that the name of a network with a recipe stands for."""
    return (RECIPES.module(name),)


def three_numbers(text: str) -> Triple:
    """Return the three numbers of `0.485,0.456,0.406`.

    Raises:
        ValueError: the text has another form.
    """
    try:
        first, second, third = (float(word) for word in text.split(","))
    except ValueError:
        first = second = third = math.nan
    if not all(map(math.isfinite, (first, second, third))):
        raise ValueError(
            f"{text!r}: expected three numbers for red, green and blue, such as 0.485,0.456,0.406"
        )
    return first, second, third


def model_name(name: str) -> str:
    """Return the name of a network as it is registered; a network's usual name is suggested.

    A library's network is looked for in the text of the installed library.

    Raises:
        ValueError: there is none of that name, or its library is not installed.
    """
    try:
        spec = spec_of(name)
    except UsageError as error:
        raise ValueError(error) from error
    network = spec.inner or spec.name
    if network not in SPECS:
        _refuse_unlisted(network)
    return name


def _refuse_unlisted(name: str) -> None:
    first, _, rest = name.partition("/")
    library = LIBRARIES[first]
    network = rest.partition(".")[0] if library.has_tags else rest
    listed = library.networks
    if not listed:
        raise ValueError(without_library(library, network))
    if network not in listed:
        meant = read_renamed_networks(library.package).get(network)
        names = [f"{first}/{each}" for each in sorted(listed)]
        raise ValueError(_unknown_name(name, meant and f"{first}/{meant}", names))


def describe_models() -> str:
    """Return the names of all networks that are trained, and of families and libraries with what follows them."""
    trained = (name for name, spec in SPECS.items() if not spec.not_trained)
    return ", ".join((*trained, *(f"{first}/NETWORK" for first in (*FAMILIES, *LIBRARIES))))


def without_library(library: Library, network: str) -> str:
    """Return a sentence about a library that is not installed, and the most similar network."""
    names = {
        each: f"{other.name}/{each}" for other in LIBRARIES.values() for each in other.networks
    }
    near = names.get(nearest(network, names) or "")
    return (
        f"model {library.name}/{network}: {library.summary} is not installed. Run "
        f"`{install_command(library.extra)}`"
        + (f", or use the closest installed network, {near}." if near else "")
    )


def _declaration(name: str) -> Declaration:
    first = name.partition("/")[0]
    declared = SPECS.declared.get(name) or FAMILIES.declared.get(first)
    return declared or LIBRARIES.declared[first]


def _unknown_name(
    name: str, suggestion: str | None = None, names: Collection[str] = ()
) -> UnknownName:
    by_summary = {_letters(spec.summary): spec.name for spec in SPECS.values()}
    known = names or (*SPECS, *(f"{first}/NETWORK" for first in (*FAMILIES, *LIBRARIES)))
    close = nearest(name, known)
    suggestion = suggestion or by_summary.get(_letters(name))  # resnet50 is what we call baseline
    if suggestion is None and not any(each.startswith(name) for each in known):
        suggestion = _find_by_prefix(_letters(name), by_summary)
    if suggestion is None and close is None:
        suggestion = by_summary.get(nearest(_letters(name), by_summary) or "")
    advice = ""
    if suggestion and suggestion != close and suggestion in SPECS:
        advice = f"The model {suggestion} is: {SPECS[suggestion].summary}."
    where = "launcher kinds train"
    return UnknownName("model", name, known, where=where, suggestion=suggestion, advice=advice)


def _find_by_prefix(letters: str, names_by_summary: Mapping[str, str]) -> str | None:
    """Return the network with the shortest usual name that begins so; those of libraries come second."""
    ours = {word: name for word, name in names_by_summary.items() if word.startswith(letters)}
    theirs = {
        network: f"{library.name}/{network}"
        for library in LIBRARIES.values()
        for network in library.networks
        if not ours and _letters(network).startswith(letters)
    }
    usual = (ours or theirs) if len(letters) >= LEAST_LETTERS else {}
    return usual[min(usual, key=lambda word: (len(word), word))] if usual else None


def _letters(name: str) -> str:
    return "".join(char for char in name.casefold() if char.isalnum())
