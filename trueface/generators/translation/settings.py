"""The settings of a translator's training and of `translate`. This module does not import torch."""

import re
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from trueface.data.settings import Precision
from trueface.runtime.field_types import Count, Probability, Settings, setting

HALVINGS = 2  # the generator halves the image this often, so that sides must be multiples of 4
MOST_LAYERS = 6  # layers of the critic; the number in the paper, for 128 pixels
LEAST_SIDE = 2  # pixels; side of the input of the critic's last layer
Target = Literal["grey", "black", "away"]  # target of a disruption
STEPPED = ("bim", "pgd")  # attacks of several steps
ADVERSARIAL = "adversarial_"  # the settings of the attack of an adversarial training begin with it

_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")


def critic_layers(size: int) -> int:
    """Return how many times a critic halves images of `size` pixels: down to 2 pixels, at most 6 times."""
    layers = 0
    while layers < MOST_LAYERS and size % 2 == 0 and size // 2 >= LEAST_SIDE:
        size, layers = size // 2, layers + 1
    return layers


class TranslatorSettings(Settings):
    """A StarGAN: its networks and its training, or the file of its authors' weights.

    The defaults are those of Y. Choi et al., StarGAN, CVPR 2018 (arXiv 1711.09020), for CelebA at 128
    pixels. Those of the attack of an adversarial training are the defaults of `disrupt`; see
    `training.TranslatorTraining` for its losses.
    """

    data_root: str = setting(
        aliases=("dataset_path",), description="Folder with the parts A, B and C"
    )
    size: int = setting(
        128, cost=True, ge=8, description="Side length of the images, in pixels, a multiple of 4"
    )
    labels: str = Field(
        "",
        description="Comma-separated attributes that the model can change, such as "
        "Black_Hair,Blond_Hair,Brown_Hair,Male,Young of StarGAN. Empty for all attributes of the table",
    )
    weights: str = Field(
        "",
        description="Weights file of a generator, written by the StarGAN program (200000-G.ckpt), used "
        "instead of training",
    )
    width: Count = setting(64, cost=True, description="Channels of the generator's first layer")
    blocks: Count = setting(6, cost=True, description="Number of residual blocks of the generator")
    critic_width: Count = setting(64, cost=True, description="Channels of the critic's first layer")
    gan: Literal["wgan-gp", "hinge"] = setting(
        "wgan-gp",
        cost=True,
        description="Adversarial loss: wgan-gp (as in the paper) or hinge (with spectral norm, at half "
        "the cost)",
    )
    lambda_cls: float = Field(1.0, ge=0, description="Weight of the classification loss")
    lambda_rec: float = Field(10.0, ge=0, description="Weight of the reconstruction loss")
    n_critic: Count = setting(5, cost=True, description="Critic steps per generator step")
    lr: float = Field(1e-4, gt=0, description="Learning rate of Adam, for generator and critic")
    decay: Probability = Field(
        0.5, description="Last fraction of the steps, in which the learning rate falls to 0"
    )
    flip: Probability = Field(0.5, description="Fraction of images that are mirrored")
    batch_size: Count = setting(16, cost=True, description="Images per step")
    num_steps: Count = setting(200_000, cost=True, description="Number of critic steps")
    seed: int = Field(42, ge=0, description="Random seed of the weights and the batches")
    precision: Precision = "fp32"
    adversarial: Literal["off", "generator", "both"] = setting(
        "off",
        added=True,
        cost=True,
        description="Adversarial training against disruption: off, generator (the generator learns from "
        "disrupted images, the critic from clean ones) or both (the critic as well)",
    )
    adversarial_attack: Literal["fgsm", "bim", "pgd"] = setting(
        "pgd",
        added=True,
        cost=True,
        description="Attack of adversarial training: fgsm (one step of eps), bim (steps from the image) or "
        "pgd (steps from a random start)",
    )
    adversarial_target: Target = setting(
        "grey",
        added=True,
        description="Target of this attack: grey (0), black (-1) or away (as different as possible from "
        "the output of the clean image)",
    )
    adversarial_eps: float = setting(
        0.05,
        added=True,
        ge=0,
        le=1,
        description="Largest change of a pixel by this attack, for images in [-1, 1]. 0 changes nothing",
    )
    adversarial_steps: Count = setting(
        10,
        added=True,
        cost=True,
        description="Number of steps of bim and pgd in adversarial training",
    )
    adversarial_step_size: float = setting(
        0.01,
        added=True,
        gt=0,
        le=2,
        description="Step size of bim and pgd in adversarial training, for images in [-1, 1]",
    )
    save_every: Count = setting(
        1000,
        neutral=True,
        description="Number of steps between saved states, from which a stopped job resumes",
    )

    @field_validator("size")
    @classmethod
    def _divides(cls, size: int) -> int:
        if size % (1 << HALVINGS):
            raise ValueError(f"size {size} is not a multiple of {1 << HALVINGS}")
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
                f"num_steps {self.num_steps} is less than n_critic {self.n_critic}, so the generator is "
                "never trained"
            )
        return self

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """The names of the selected attributes. None selects all of the table."""
        return tuple(self.labels.split(",")) if self.labels else None

    @classmethod
    def without_effect(cls, values: Mapping[str, Any]) -> Mapping[str, str]:
        """Return settings that have no effect with the other values, each with the reason."""
        if values.get("weights"):
            reason = "nothing is trained if weights is set"
            return dict.fromkeys(("num_steps", "adversarial", *cls._attack_settings()), reason)
        idle: dict[str, str] = {}
        attack = values.get("adversarial_attack", "pgd")
        if values.get("adversarial", "off") == "off":
            idle |= dict.fromkeys(cls._attack_settings(), "adversarial is off")
        elif values.get("adversarial_eps") == 0:
            idle |= dict.fromkeys(
                ("adversarial", *cls._attack_settings()), "adversarial_eps 0 changes no image"
            )
            del idle["adversarial_eps"]  # without it, images are attacked
        elif attack not in STEPPED:
            names = ("adversarial_steps", "adversarial_step_size")
            idle |= dict.fromkeys(names, f"{attack} does not use it")
        return idle

    @classmethod
    def _attack_settings(cls) -> tuple[str, ...]:
        """Return the settings of the attack of an adversarial training."""
        return tuple(name for name in cls.model_fields if name.startswith(ADVERSARIAL))


class TranslateSettings(Settings):
    """A data root for detectors: translated images as fakes, and the real images of the same names."""

    source: str = setting(
        cost=True,
        folder=True,
        description="Folder of the images to translate: clean, disrupted or purified",
    )
    translator: str = setting(model=True, description="Model ID of the translator")
    real: str = setting(
        "",
        folder=True,
        description="Folder of the real images, with the same file names. Empty for the images from which "
        "source was made",
    )
    attribute: str = Field(
        "", description="Attribute that is flipped. Empty for a random one per image"
    )
    fakes: str = Field(
        "Translated", description="Name of the folder of translated images, in Fake/"
    )
    reals: str = Field("Originals", description="Name of the folder of real images, in Real/")
    train: Probability = Field(0.7, description="Fraction of the images in the training list")
    val: Probability = Field(
        0.15,
        description="Fraction of the images in the validation list. The rest is the test list",
    )
    seed: int = Field(
        42,
        ge=0,
        description="Random seed of the attributes and the lists, used with the name of each image",
    )
    limit: int = setting(
        0,
        cost=True,
        ge=0,
        description="Number of images, evenly spread over the sorted names. 0 takes all",
    )
    batch_size: Count = setting(32, cost=True, description="Images per batch")

    @field_validator("fakes", "reals")
    @classmethod
    def _folder(cls, name: str) -> str:
        if _FOLDER.fullmatch(name) is None:
            raise ValueError(f"{name!r} is not a folder name such as Translated")
        return name

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.fakes == self.reals:
            raise ValueError(
                f"fakes and reals are both {self.fakes!r}. Choose two different names."
            )
        if self.train + self.val > 1:
            raise ValueError(f"train {self.train:g} and val {self.val:g} add up to more than 1")
        return self

    @property
    def shares(self) -> dict[str, float]:
        """The share of each list."""
        rest = max(0.0, 1 - self.train - self.val)
        return {"train": self.train, "val": self.val, "test": rest}
