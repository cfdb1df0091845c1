"""The settings of `erased` and of `revise`: no torch here."""

import importlib.util
from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from trueface.runtime.field_types import Count, Finite, Probability, Settings


def _several(value: object) -> object:
    return (value,) if isinstance(value, int) else value


def _rising(values: tuple[int, ...]) -> tuple[int, ...]:
    if not values:
        raise ValueError("the list is empty: give one number at least")
    if list(values) != sorted(set(values)):
        shown = ", ".join(map(str, values))
        raise ValueError(f"{shown} does not rise: write each number once, the smallest first")
    return values


INSTALL = "pip install 'launcher-trueface[metrics]'"


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
            yield f"{what} needs {', '.join(missing)}, not installed here: {INSTALL}"


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
