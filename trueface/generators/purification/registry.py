"""Names of purifiers in settings, such as `jpeg75+oneshot10`. This module does not import torch.

purifier = "none" | step ("+" step)*
step     = name number? ("x" times)?      `oneshot20x2` runs twice. The method limits the number.

The arguments of `@register_purifier` are parsed from the source text of the files in `methods`. A file is imported
only when an image is purified.
"""

import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from trueface.runtime.declarations import Numbered, Registry, words_of
from trueface.runtime.errors import UnknownName
from trueface.runtime.field_types import Accelerate, Count, Finite, Positive, Settings, setting

PACKAGE = "trueface.generators.purification.methods"
Model = Literal["", "diffuser", "denoiser"]
Gradient = Literal["exact", "identity"]
_DECLARED = re.compile(r"[a-z]+")
NONE = "none"
MOST_STEPS = 4  # steps of a purifier; its text is part of folder names
MOST_TIMES = 9  # repetitions of one step
_STEP = re.compile(r"(?P<name>[a-z]+?)(?P<number>-?[0-9]+(?:\.[0-9]+)?)?(?:x(?P<times>[0-9]+))?")
_LETTERS = re.compile(r"[A-Za-z_]+")
MODELS = ("diffuser", "denoiser")  # settings that hold the ID of a model


@dataclass(frozen=True, slots=True)
class PurifierSpec(Numbered):
    """Declares a purifier. The decorated function purifies a batch; see `steps.Method`.

    Raises:
        ValueError: the name does not fit the grammar, or a range is given without a number.
    """

    _: KW_ONLY
    number: str = ""  # meaning and unit of the number; "" if the purifier has no number
    odd: bool = False  # only odd integers are valid
    # the number is optional; if omitted, it is estimated from the noise in each image
    estimated: bool = False
    reach: float = 1.0  # the largest diffusion step that is used, divided by the number
    needs: Model = ""  # the setting that names the model; "" if there is none
    # the gradient that an adaptive attack uses: "identity" if the exact gradient does not exist,
    # vanishes, or is too expensive (A. Athalye et al., arXiv 1802.00420, 4.1)
    gradient: Gradient = "exact"

    def __post_init__(self) -> None:
        if not _DECLARED.fullmatch(self.name):
            raise ValueError(f"purifier {self.name!r}: the name must consist of lower-case letters")
        self.refuse_range()

    @property
    def forms(self) -> str:
        """The notation: `jpeg<1…100>`, and the form without a number if the number is optional."""
        return f"{self.name}, {self.example}" if self.estimated else self.example


register_purifier = PurifierSpec
SPECS = Registry(PACKAGE, PurifierSpec, decorator="register_purifier")


@dataclass(frozen=True, slots=True)
class PurifierStep:
    """One purifier, applied once or several times."""

    name: str  # a key of `SPECS`
    value: float | None = None  # None: there is no number, or it is estimated for each image
    times: int = 1

    def __str__(self) -> str:
        return self._format_step("")

    @property
    def label(self) -> str:
        """The notation in tables: `oneshot@20x2`."""
        return self._format_step("@")

    def _format_step(self, mark: str) -> str:
        number = "" if self.value is None else f"{mark}{self.value:g}"
        return f"{self.name}{number}" + (f"x{self.times}" if self.times > 1 else "")

    @property
    def largest_t(self) -> int:
        """The largest step of the diffusion that its text names, or 0 if it names none."""
        spec = SPECS[self.name]
        if spec.needs != "diffuser" or self.value is None:
            return 0
        return round(spec.reach * self.value)


@dataclass(frozen=True, slots=True)
class PurifierName:
    """A requested purifier: its steps, in order."""

    steps: tuple[PurifierStep, ...]

    @property
    def text(self) -> str:
        """The canonical text, as stored and in names of folders: `jpeg75` for `jpeg075`."""
        return "+".join(map(str, self.steps))

    def __str__(self) -> str:
        return self.text

    def label(self) -> str:
        """Return the notation in tables: `ddpm@10`, `jpeg@75+oneshot@10`."""
        return "+".join(step.label for step in self.steps)

    @property
    def needs(self) -> tuple[str, ...]:
        """The settings that name the models: `diffuser`, `denoiser`, both or none."""
        return tuple(sorted({SPECS[step.name].needs for step in self.steps} - {""}))

    @property
    def largest_t(self) -> int:
        """The largest step of the diffusion that its text names, or 0 if it names none."""
        return max(step.largest_t for step in self.steps)

    @property
    def draws(self) -> bool:
        """Whether the result depends on the file name of an image, which seeds its noise."""
        return any(SPECS[step.name].draws for step in self.steps)

    @property
    def is_exact(self) -> bool:
        """Whether an attack uses the exact gradient of each step."""
        return all(SPECS[step.name].gradient == "exact" for step in self.steps)


def parse_purifier(text: str) -> PurifierName:
    """Return the steps of a purifier in their order.

    Raises:
        ValueError: a method is unknown (the message names the nearest), there are too many steps, or
            `none` is one of several steps. Also if a number is missing, outside its range or
            superfluous.
    """
    too_many = f"{text} has {{count}} purifiers, but at most {{most}} are allowed"
    words = words_of(text.strip(), MOST_STEPS, too_many)
    steps = tuple(_step(word, text) for word in words)
    if len(steps) > 1 and any(step.name == NONE for step in steps):
        raise ValueError(f"{text}: {NONE} cannot be combined with other purifiers")
    return PurifierName(steps)


def canonical(text: str) -> str:
    """Return the canonical text of a purifier.

    Raises:
        ValueError: see `parse_purifier`.
    """
    return parse_purifier(text).text


def plugin_modules(text: str) -> tuple[str, ...]:
    """Return the modules of a purifier's methods, which are imported by name."""
    return SPECS.modules(step.name for step in parse_purifier(text).steps)


def describe_choices() -> str:
    """Return the notation of each method, for lists of settings."""
    return ", ".join((NONE, *(spec.forms for spec in SPECS.values() if spec.name != NONE)))


def refuse_untrained(name: PurifierName, t_max: int, diffuser: str) -> str:
    """Return the reason why a diffuser does not fit a purifier, or '' if it does.

    Args:
        name: the purifier.
        t_max: the largest step that the diffuser was trained for.
        diffuser: model ID of the diffuser, for the message.
    """
    if name.largest_t <= t_max:
        return ""
    return (
        f"{name.text}: t {name.largest_t} is too large: {diffuser} was trained up to t {t_max}. "
        "Use a smaller t, or train with a larger t_max."
    )


def _step(word: str, whole: str) -> PurifierStep:
    if not word:
        raise ValueError(
            f"{whole!r}: a purifier is missing. Write {NONE}, or for example jpeg75+oneshot10."
        )
    match = _STEP.fullmatch(word)
    name = match["name"] if match else next(iter(_LETTERS.findall(word)), word)
    if name not in SPECS:
        raise ValueError(str(UnknownName("purifier", name, SPECS)))
    spec = SPECS[name]
    if match is None:
        raise ValueError(
            f"{word!r} is not a purifier. Write {spec.forms}, and join several with +."
        )
    times = int(match["times"] or 1)
    if not 1 <= times <= MOST_TIMES:
        raise ValueError(f"{word}: expected 1 to {MOST_TIMES} repetitions")
    if times > 1 and name == NONE:
        raise ValueError(f"{word}: {NONE} cannot be repeated")
    return PurifierStep(name, _number(spec, match["number"], word), times)


def _number(spec: PurifierSpec, number: str | None, word: str) -> float | None:
    if number is None and spec.estimated:
        return None
    value = spec.value(number, word)
    if spec.odd and value is not None and not int(value) % 2:
        raise ValueError(f"{word}: expected an odd number for {spec.number}")
    return value


class PurifySettings(Settings):
    """The settings of a purification: images, purifier and models."""

    source: str = setting(
        folder=True, description="Folder of the images: a path, or the name of a job that makes one"
    )
    purifier: Annotated[str, AfterValidator(canonical)] = setting(
        cost=True,
        modules=plugin_modules,
        description=f"Purifier: {describe_choices()}. Join several with +, and write x2 to apply one twice",
    )
    diffuser: str = setting(
        "", model=True, description="Model ID of the diffuser, if the purifier needs one"
    )
    denoiser: str = setting(
        "", model=True, description="Model ID of the denoiser, if the purifier needs one"
    )
    seed: int = Field(
        42,
        ge=0,
        description="Random seed of the noise. The noise of an image depends on the seed and its file "
        "name",
    )
    limit: int = setting(
        0,
        cost=True,
        ge=0,
        description="Number of images, evenly spread over the sorted names. 0 takes all",
    )
    batch_size: Count = setting(
        32, neutral=True, description="Images per batch. It changes memory use, but not the result"
    )

    @classmethod
    def decisive(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings that are part of a job's hash: models only if they are used."""
        needed = parse_purifier(values["purifier"]).needs
        unused = [model for model in MODELS if model not in needed]
        return {key: value for key, value in super().decisive(values).items() if key not in unused}


class DenoiserSettings(Settings):
    """The settings of a denoiser's training: images, size and number of steps."""

    data_root: str = Field(description="Folder of the images")
    size: Annotated[int, Field(ge=8)] = setting(
        32, cost=True, description="Side length of the images, in pixels"
    )
    channels: Literal[1, 3] = setting(
        3, cost=True, description="1 for grey images, 3 for colour images"
    )
    width: Count = setting(24, cost=True, description="Channels of the hidden layers")
    depth: Annotated[int, Field(ge=2, le=32)] = setting(
        4, cost=True, description="Number of convolutions"
    )
    noise: Positive = Field(
        (0.02, 0.08),
        description="Standard deviation of the noise, for images in [-1, 1]. Two values are a range",
    )
    num_steps: Count = setting(600, cost=True, description="Number of training steps")
    batch_size: Count = setting(32, cost=True, description="Images per step")
    lr: Annotated[Finite, Field(gt=0)] = Field(
        0.003, description="Learning rate of Adam, which falls to 0 along a cosine"
    )
    flip: bool = Field(True, description="Mirror half of the images")
    seed: int = Field(42, ge=0, description="Random seed of the weights, the batches and the noise")
    accelerate: Accelerate = setting("off", added=True, cost=True)
    save_every: Count = setting(
        200,
        neutral=True,
        description="Number of steps between saved states, from which a stopped job resumes",
    )
