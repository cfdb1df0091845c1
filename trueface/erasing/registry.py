"""Methods of concept erasing by name, and the settings that choose them and what is measured. No torch here.

What `@register_erasure` says is read from the files' text; a file is imported when a concept is erased.
A hyper-parameter that is left out is the method's own default: see `METHODS`.
"""

import importlib.util
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from trueface.runtime.declarations import Declared, Registry
from trueface.runtime.errors import UnknownName, install_command
from trueface.runtime.field_types import Count, Finite, Probability, Settings

Scope = Literal["all", "maps", "rest"]
Trajectory = Literal["anchor", "concept", "own"]


PACKAGE = "trueface.erasing.methods"
MODULES = frozenset({"trueface.erasing.registry"})
Need = Literal["null", "anchor", "images"]
_NAME = re.compile(r"[a-z]+(?:-[a-z]+)?")  # it stands in model IDs
# of all methods that take gradient steps on noisy images of sampling. Numbers and rates of steps are for
# small networks, chosen by a sweep; what was published is for Stable Diffusion, see each method
STEPS: Mapping[str, Any] = MappingProxyType(
    {"num_steps": 300, "lr": 1e-3, "batch_size": 64, "guidance": 3.0, "sample_steps": 25}
)
SAME = (
    "concept and anchor are both {name!r}: the anchor is what is drawn instead, name another class"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureOptions:
    """Hyper-parameters of the methods; each method uses some of them, with its own defaults."""

    num_steps: int = 300
    lr: float = 1e-3
    batch_size: int = 64
    scope: Scope = "all"
    trajectory: Trajectory = "anchor"
    paths: int = 256
    refresh: int = 10
    guidance: float = 3.0
    sample_steps: int = 25
    gamma1: float = 1.0
    gamma2: float = 1.0
    penalty: float = 1.0
    mask: float = 0.0
    edit_scale: float = 1.0
    eta: float = 1.0
    ema: float = 0.99
    uce_lambda: float = 0.1
    uce_preserve: float = 1.0

    @property
    def is_whole_edit(self) -> bool:
        """All of an edit is made: none is masked, none is scaled."""
        return self.mask == 0 and self.edit_scale == 1


NAMES = tuple(field.name for field in fields(ErasureOptions))


@dataclass(frozen=True, slots=True)
class Erasure(Declared):
    """Declares a method, without its code; the function below it takes a teacher and an `ErasingProblem`.

    Raises:
        ValueError: the name is no word of lower-case letters with a dash within at most; an unknown need or
            option.
    """

    name: str
    _: KW_ONLY
    summary: str  # half a line for lists
    # a teacher with a null token; an anchor, the class drawn instead; the training images
    needs: Collection[Need] = ()
    # by names of `ErasureOptions`: its own values of those that it uses; the others have no effect on it
    defaults: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"method {self.name!r}: take lower-case letters, with one dash within at most"
            )
        for what, words, known in (
            ("needs", self.needs, get_args(Need)), ("defaults", self.defaults, NAMES),
        ):  # fmt: skip
            for word in words:
                if word not in known:
                    raise ValueError(
                        f"{what} of {self.name}: {word!r} is none of {', '.join(known)}"
                    )

    def options(self, given: Mapping[str, Any]) -> ErasureOptions:
        """Return the method's hyper-parameters: what is given, else its own defaults.

        Args:
            given: by names of `ErasureOptions`; None: not given. What the method does not use is left out.
        """
        chosen = {name: given.get(name) for name in self.defaults}
        return ErasureOptions(
            **{
                name: self.defaults[name] if value is None else value
                for name, value in chosen.items()
            }
        )


register_erasure = Erasure
METHODS = Registry(PACKAGE, Erasure, decorator="register_erasure", modules=MODULES)


def modules_of(name: str) -> tuple[str, ...]:
    """Return the modules that a method's name stands for: no import statement names them."""
    return METHODS.modules([name])


def described() -> str:
    """Return each method with its summary, for lists of settings."""
    return ", ".join(f"{name} ({method.summary})" for name, method in METHODS.items())


def _method(name: str) -> str:
    if name not in METHODS:
        raise ValueError(UnknownName("method of erasing", name, METHODS))
    return name


class EraseSettings(Settings):
    """An erasing: the concept, what is drawn instead, and the method's hyper-parameters."""

    costs: ClassVar[frozenset[str]] = frozenset(
        {"method", "num_steps", "batch_size", "sample_steps", "paths", "refresh", "trajectory"}
    )
    modules: ClassVar[Mapping[str, Callable[[Any], tuple[str, ...]]]] = {"method": modules_of}

    data_root: str = Field(
        "",
        description="folder of the teacher's training images, for retrain; default: the teacher's",
    )
    method: Annotated[str, AfterValidator(_method)] = Field(description=described())
    concept: str = Field(min_length=1, description="the class that shall not be drawn any more")
    anchor: str = Field(
        "", description="the class that is drawn instead; empty: none, for methods that need none"
    )
    num_steps: Count | None = Field(None, description="gradient steps")
    lr: Annotated[Finite, Field(gt=0)] | None = Field(None, description="learning rate of Adam")
    batch_size: Count | None = Field(None, description="noisy images a step")
    scope: Scope | None = Field(
        None,
        description="parameters that change; maps: the linear maps that take the class embedding, "
        "rest: all but these, all: both; the embeddings themselves never change",
    )
    trajectory: Trajectory | None = Field(
        None,
        description="whose sampling paths the noisy images are from; anchor, concept: the teacher's "
        "under that class; own: of the model that is being changed, under the concept",
    )
    paths: Count | None = Field(None, description="sampling paths, or samples, of the teacher")
    refresh: Count | None = Field(
        None, description="steps after which own paths are sampled anew; the papers: 1"
    )
    guidance: Annotated[Finite, Field(ge=0)] | None = Field(
        None, description="classifier-free guidance of these paths"
    )
    sample_steps: Count | None = Field(None, description="DDIM steps of these paths")
    gamma1: Finite | None = Field(None, description="abo: scale of the teacher's guidance")
    gamma2: Finite | None = Field(None, description="abo: scale of the student's guidance")
    penalty: Annotated[Finite, Field(ge=0)] | None = Field(
        None, description="abo: weight (lambda) of what keeps the null token's score"
    )
    mask: Annotated[Finite, Field(ge=0, lt=1)] | None = Field(
        None,
        description="abo: quantile of SEGA's mask, 0.9 edits the strongest tenth; 0: no mask",
    )
    edit_scale: Finite | None = Field(None, description="abo: scale of the masked edit")
    eta: Finite | None = Field(None, description="esd-x, esd-u: negative guidance")
    ema: Annotated[Finite, Field(ge=0, lt=1)] | None = Field(
        None, description="sdd: share of the averaged model that stays at each step"
    )
    uce_lambda: Annotated[Finite, Field(gt=0)] | None = Field(
        None, description="uce: weight of what keeps the maps as they were"
    )
    uce_preserve: Annotated[Finite, Field(ge=0)] | None = Field(
        None, description="uce: weight of the other classes and the null token"
    )
    seed: int = Field(42, ge=0, description="seed of all that is drawn")

    @model_validator(mode="after")
    def _another_class(self) -> "EraseSettings":
        if self.concept == self.anchor:
            raise ValueError(SAME.format(name=self.concept))
        if not self.anchor and "anchor" in METHODS[self.method].needs:
            raise ValueError(f"{self.method} needs an anchor: the class that is drawn instead")
        return self

    @property
    def options(self) -> ErasureOptions:
        """The method's hyper-parameters, its defaults filled in."""
        return METHODS[self.method].options(self.model_dump())

    @classmethod
    def without_effect(cls, values: Mapping[str, Any]) -> Mapping[str, str]:
        """Return the hyper-parameters that a method does not use, or not beside the others."""
        method = METHODS[values["method"]]
        reasons = dict.fromkeys(NAMES, f"{method.name} does not use it")
        options = method.options(values)
        own = "trajectory" in method.defaults and options.trajectory == "own"
        for name in method.defaults:
            if name == "paths" and own:
                reasons[name] = "own paths are as many as batch_size"
            elif name == "refresh" and not own:
                reasons[name] = "paths of the teacher are sampled once"
            else:
                del reasons[name]
        return {name: reason for name, reason in reasons.items() if values.get(name) is not None}


def _several(value: object) -> object:
    return (value,) if isinstance(value, int) else value


def _rising(values: tuple[int, ...]) -> tuple[int, ...]:
    if not values:
        raise ValueError("the list is empty: give one number at least")
    if list(values) != sorted(set(values)):
        shown = ", ".join(map(str, values))
        raise ValueError(f"{shown} does not rise: write each number once, the smallest first")
    return values


def lacking(*, inception: bool, clip: bool) -> Iterator[str]:
    """Yield why measures of publications cannot be made here: each whose packages are not installed.

    Args:
        inception: FID and KID are wanted.
        clip: CLIP score is.
    """
    for wanted, what, packages in (
        (inception, "FID and KID (inception)", ("torchmetrics", "torch_fidelity")),
        (clip, "CLIP score (clip)", ("torchmetrics", "transformers", "safetensors")),
    ):
        missing = [name for name in packages if importlib.util.find_spec(name) is None]
        if wanted and missing:
            yield f"{what} needs {', '.join(missing)}, not installed here: {install_command('metrics')}"


Rising = Annotated[tuple[Count, ...], BeforeValidator(_several), AfterValidator(_rising)]


class ErasedSettings(Settings):
    """What a diffuser that forgot a concept still draws, and what an attack brings back."""

    model_config = ConfigDict(defer_build=True)
    models: ClassVar[tuple[str, ...]] = ("diffuser", "teacher", "classifier", "never")
    neutral: ClassVar[frozenset[str]] = frozenset({"batch_size"})
    added: ClassVar[frozenset[str]] = frozenset({"inception", "clip"})
    costs: ClassVar[frozenset[str]] = frozenset(
        {
            "data_root", "samples", "sample_steps", "guidance", "recover_images", "recover_steps",
            "recover_batch", "never", "inception", "clip",
        }
    )  # fmt: skip

    diffuser: str = Field(description="the model that is measured")
    teacher: str = Field(description="the model that it was made of, which draws every concept")
    classifier: str = Field(
        description="model of kind classify, of the same class folders: it recognises what is drawn"
    )
    never: str = Field(
        "",
        description="a diffuser that never saw the concept: the floor of recovery; without it there is "
        "no verdict on what is hidden",
    )
    data_root: str = Field(
        description="class folders with real images, of which the attack takes those of the concept"
    )
    inception: str = Field(
        "",
        description="file of InceptionV3's weights as torch-fidelity has them "
        "(pt_inception-2015-12-05-6726825d.pth): FID and KID, too; needs the extra metrics",
    )
    clip: str = Field(
        "",
        description="folder of a CLIP model in the layout of transformers: CLIP score, too; needs the "
        "extra metrics",
    )
    concept: str = Field(description="name of the class that was erased")
    anchor: str = Field("", description="name of the class that was to be drawn in its place")
    samples: int = Field(
        64, ge=2, description="drawn of each class, with equal noise by all models"
    )
    sample_steps: Count = Field(25, description="DDIM steps of a sample")
    guidance: Annotated[Finite, Field(ge=0)] = Field(
        2.0, description="of samples, classifier-free; 1: none, and then no null token is needed"
    )
    least_teacher_rate: Probability = Field(
        0.9,
        description="the job ends where the classifier recognises less of the teacher's samples of any "
        "class; 0: it never does",
    )
    recover_images: Rising = Field(
        (1, 5, 25), description="real images of the concept that the attack may use, a curve each"
    )
    recover_steps: Rising = Field(
        (10, 50, 250),
        description="steps of the attack after which it is measured; 250 is 250 updates",
    )
    recover_lr: Annotated[Finite, Field(gt=0)] = Field(
        0.1, description="Adam's, in units of the size (RMS) of the model's own class embeddings"
    )
    recover_batch: Count = Field(16, description="noised images in a step of the attack")
    seed: int = Field(1, ge=0, description="of samples and of the attack")
    batch_size: Count = Field(2048, description="images that are drawn at a time")

    @field_validator("anchor")
    @classmethod
    def _another(cls, anchor: str, others: ValidationInfo) -> str:
        if anchor and anchor == others.data.get("concept"):
            raise ValueError(f"{anchor} is what was erased, and cannot stand in its own place")
        return anchor

    def models_named(self) -> Sequence[tuple[str, str]]:
        """Return what each model is for, and its ID; those that are not given are left out."""
        named = (
            ("the diffuser that is measured", self.diffuser),
            ("the teacher", self.teacher),
            ("the classifier", self.classifier),
            ("the diffuser that never saw the concept", self.never),
        )
        return tuple((what, model) for what, model in named if model)


class ReviseSettings(Settings):
    """Real images drawn anew by an edited diffuser: DDIM inversion, then sampling."""

    model_config = ConfigDict(defer_build=True)
    models: ClassVar[tuple[str, ...]] = ("diffuser", "teacher", "classifier")
    folders: ClassVar[tuple[str, ...]] = ("source",)
    neutral: ClassVar[frozenset[str]] = frozenset({"batch_size"})
    costs: ClassVar[frozenset[str]] = frozenset({"source", "steps", "limit", "guidance", "teacher"})

    source: str = Field(description="folder of real images, or the job that made one")
    diffuser: str = Field(description="the edited model, which draws the images anew")
    teacher: str = Field(
        "", description="the unedited model: its round trip is the reference; '': none is made"
    )
    classifier: str = Field(
        "", description="model of kind classify: how many images are still recognised as drawn_as"
    )
    drawn_as: str = Field(description="name of the class under which the images are drawn anew")
    inverted_as: str = Field(
        "", description="name of the class under which they are inverted; '': the null token"
    )
    inverted_by: Literal["edited", "teacher"] = Field(
        "edited",
        description="the model that inverts; the published experiment takes the edited one",
    )
    steps: int = Field(50, ge=2, description="DDIM steps of inversion, and of sampling")
    guidance: Annotated[Finite, Field(ge=0)] = Field(
        1.0, description="of sampling, classifier-free; the inversion has none"
    )
    limit: int = Field(0, ge=0, description="images, evenly spread over the sorted names; 0: all")
    batch_size: Count = Field(64, description="images at a time; it changes no image")

    @field_validator("inverted_by")
    @classmethod
    def _there(cls, by: str, others: ValidationInfo) -> str:
        if by == "teacher" and not others.data.get("teacher"):
            raise ValueError("inverted_by: teacher needs the setting teacher")
        return by

    def models_named(self) -> Sequence[tuple[str, str]]:
        """Return what each model is for, and its ID; those that are not given are left out."""
        named = (
            ("the edited diffuser", self.diffuser),
            ("the teacher", self.teacher),
            ("the classifier", self.classifier),
        )
        return tuple((what, model) for what, model in named if model)
