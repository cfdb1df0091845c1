"""The settings of a translator's training and of `translate`: no torch here."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from trueface.data.settings import PLACES, Precision
from trueface.runtime.field_types import Count, Probability, Settings

HALVINGS = 2  # of the generator: sides must be multiples of 4
MOST_LAYERS = 6  # of the critic; the paper's, for 128 pixels
LEAST_SIDE = 2  # pixels that the critic's last layer sees


_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")


def critic_layers(size: int) -> int:
    """Return how many times a critic halves images of a size: down to 2 pixels, at most 6 times."""
    layers = 0
    while layers < MOST_LAYERS and size % 2 == 0 and size // 2 >= LEAST_SIDE:
        size, layers = size // 2, layers + 1
    return layers


class TranslatorSettings(Settings):
    """A StarGAN: its networks and its training, or the file of its authors' weights.

    The defaults are those of Y. Choi et al., StarGAN, CVPR 2018 (arXiv 1711.09020), for CelebA at 128
    pixels.
    """

    neutral: ClassVar[frozenset[str]] = frozenset({"save_every"})
    costs: ClassVar[frozenset[str]] = frozenset(
        {"size", "width", "blocks", "critic_width", "gan", "n_critic", "batch_size", "num_steps"}
    )
    aliases: ClassVar[Mapping[str, str]] = PLACES

    data_root: str = Field(description="folder with the parts A, B and C")
    size: int = Field(128, ge=8, description="side of the images, in pixels, a multiple of 4")
    labels: str = Field(
        "",
        description="attributes that it can change, with commas between; '': all of the table. StarGAN's "
        "own are Black_Hair,Blond_Hair,Brown_Hair,Male,Young",
    )
    weights: str = Field(
        "",
        description="file of a generator's weights as its authors' program writes them (200000-G.ckpt), in "
        "the place of a training",
    )
    width: Count = Field(64, description="channels of the generator's first layer")
    blocks: Count = Field(6, description="residual blocks of the generator")
    critic_width: Count = Field(64, description="channels of the critic's first layer")
    gan: Literal["wgan-gp", "hinge"] = Field(
        "wgan-gp",
        description="adversarial loss: wgan-gp, the paper's, or hinge with spectral norm, which costs "
        "half of it",
    )
    lambda_cls: float = Field(1.0, ge=0, description="weight of the classification loss")
    lambda_rec: float = Field(10.0, ge=0, description="weight of the reconstruction loss")
    lambda_gp: float = Field(10.0, ge=0, description="weight of the gradient penalty of wgan-gp")
    n_critic: Count = Field(5, description="steps of the critic for one of the generator")
    lr: float = Field(1e-4, gt=0, description="learning rate of both, of Adam")
    beta1: float = Field(0.5, ge=0, lt=1, description="of Adam")
    beta2: float = Field(0.999, ge=0, lt=1, description="of Adam")
    decay: Probability = Field(
        0.5, description="last share of the steps, in which the learning rate falls to 0"
    )
    flip: Probability = Field(0.5, description="fraction of images that are mirrored")
    batch_size: Count = Field(16, description="images per step")
    num_steps: Count = Field(200_000, description="steps of the critic")
    seed: int = Field(42, ge=0, description="of weights and batches")
    precision: Precision = "fp32"
    save_every: Count = Field(1000, description="steps between two states to go on from")

    @field_validator("size")
    @classmethod
    def _divides(cls, size: int) -> int:
        if size % (1 << HALVINGS):
            raise ValueError(
                f"{size} is no multiple of {1 << HALVINGS}: the generator halves twice"
            )
        return size

    @field_validator("labels")
    @classmethod
    def _names(cls, text: str, _: ValidationInfo) -> str:
        names = [name.strip() for name in text.split(",") if name.strip()]
        if len(set(names)) != len(names):
            raise ValueError(f"{text!r} names an attribute twice")
        return ",".join(names)

    @model_validator(mode="after")
    def _trains(self) -> Self:
        if self.num_steps < self.n_critic and not self.weights:
            raise ValueError(
                f"num_steps {self.num_steps} is less than n_critic {self.n_critic}: the generator would "
                "never be trained"
            )
        return self

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """The wanted attributes; None: all of the table."""
        return tuple(self.labels.split(",")) if self.labels else None

    @classmethod
    def without_effect(cls, values: Mapping[str, Any]) -> Mapping[str, str]:
        """Return settings that change nothing beside the other values, each with the reason."""
        if values.get("weights"):
            return {"num_steps": "with `weights` nothing is trained"}
        if values.get("gan") == "hinge":
            return {"lambda_gp": "hinge has no gradient penalty"}
        return {}


class TranslateSettings(Settings):
    """A data root for detectors: translated images as fakes, and the real images of the same names."""

    costs: ClassVar[frozenset[str]] = frozenset({"source", "limit", "batch_size"})
    models: ClassVar[tuple[str, ...]] = ("translator",)
    folders: ClassVar[tuple[str, ...]] = ("source", "real")

    source: str = Field(
        description="folder of the images to translate: clean, disrupted or purified"
    )
    translator: str = Field(description="ID of the translator")
    real: str = Field(
        "",
        description="folder of the real images, which have the same names; '': the images that source was "
        "made of",
    )
    attribute: str = Field("", description="the one that is flipped; '': one drawn for each image")
    fakes: str = Field("Translated", description="folder of the translated images, below Fake/")
    reals: str = Field("Originals", description="folder of the real ones, below Real/")
    train: Probability = Field(0.7, description="share of the training list")
    val: Probability = Field(0.15, description="share of the validation list; the rest is tested")
    seed: int = Field(42, ge=0, description="of the attributes and of the lists, by image name")
    limit: int = Field(0, ge=0, description="images, evenly spread over the sorted names; 0: all")
    batch_size: Count = Field(32, description="images at once")

    @field_validator("fakes", "reals")
    @classmethod
    def _folder(cls, name: str) -> str:
        if _FOLDER.fullmatch(name) is None:
            raise ValueError(f"{name!r} is not the name of one folder, such as Translated")
        return name

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.fakes == self.reals:
            raise ValueError(
                f"fakes and reals are both {self.fakes!r}: a list would not tell one from the other"
            )
        if self.train + self.val > 1:
            raise ValueError(f"train {self.train:g} and val {self.val:g} are more than all")
        return self

    @property
    def shares(self) -> dict[str, float]:
        """The share of each list."""
        rest = max(0.0, 1 - self.train - self.val)
        return {"train": self.train, "val": self.val, "test": rest}
