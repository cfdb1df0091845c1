"""The settings of a diffuser, and the folders of its classes. This module does not import torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from trueface.generators.image_sets import picture_folder
from trueface.runtime.errors import DataError
from trueface.runtime.field_types import (
    Accelerate,
    Count,
    Finite,
    Probability,
    Settings,
    setting,
)

SMALL_T = 30  # purification uses steps below this one
GROUPS = 8  # number of channel groups in the group norm of a U-Net
DROP = 0.1  # fraction of class labels dropped in training, if there are classes (arXiv 2207.12598)

# defaults of settings that depend on the network
WIDTHS: Mapping[str, tuple[int, ...]] = {"unet": (48, 64, 96), "mlp": (192, 192, 192, 192)}
EMBEDDING: Mapping[str, int] = {"unet": 64, "mlp": 16}
LR: Mapping[str, float] = {"unet": 1e-3, "mlp": 2e-3}

# settings that also apply to an imported diffuser, or that a task file may set for all job types
NOT_OF_TRAINING = frozenset(
    {"data_root", "weights", "prompts", "size", "channels", "seed", "precision", "batch_size"}
)


# imports a local Stable Diffusion folder. The module is imported by name, because it needs optional packages
IMPORTER = "trueface.generators.jobs.stable_diffusion"


TRAINED = "train"  # folder of training images in a data root with train/ and test/


def _modules_of_weights(weights: str) -> tuple[str, ...]:
    return (IMPORTER,) if weights else ()


class DiffuserSettings(Settings):
    """A training of a network that predicts noise."""

    data_root: str = Field(description="Folder with the images, or with folders of images")
    weights: str = setting(
        "",
        cost=True,
        modules=_modules_of_weights,
        description="Folder with a Stable Diffusion model in the layout of diffusers, used instead "
        "of training. Needs the extra diffusion",
    )
    prompts: str = Field(
        "",
        description="Text file with one prompt per line, for weights. The prompts are the concepts, "
        "instead of classes",
    )
    size: int = setting(
        32, cost=True, ge=4, le=1024, description="Side length of the images, in pixels"
    )
    channels: Literal[1, 3] = setting(
        3, cost=True, description="1 for grey images, 3 for colour images"
    )

    network: Literal["unet", "mlp"] = setting(
        "unet",
        cost=True,
        description="Network: unet (a plain U-Net) or mlp (a residual MLP for very small images)",
    )
    widths: tuple[Count, ...] = setting(
        (),
        cost=True,
        description="Channels of each level of a unet, fine to coarse, or of each block of an mlp, all "
        "equal. Default: 48,64,96 for unet and 192,192,192,192 for mlp",
    )
    unshuffle: Count = setting(
        2, cost=True, description="Factor of pixel_unshuffle before a unet. 1 uses none"
    )
    attention: bool = setting(
        True, cost=True, description="Self-attention at the coarsest level of a unet"
    )
    embedding: int = Field(
        0, ge=0, description="Size of the class embedding. 0 takes 64 for unet and 16 for mlp"
    )

    noise_steps: Annotated[int, Field(ge=1, le=10_000)] = Field(
        1000, description="Number of noise steps in the schedule, T"
    )
    schedule: Literal["linear", "seed"] = Field(
        "linear",
        description="Noise schedule: betas rise linearly from 0.0001 to 0.02, over steps 1 to T "
        "(linear) or 0 to T (seed)",
    )
    prediction: Literal["eps", "v"] = Field(
        "eps", description="Output of the network: the noise (eps) or the velocity (v)"
    )
    t_max: int = Field(
        0,
        ge=0,
        description="Largest noise step of the training. Early steps are enough to purify images. 0 "
        "trains all steps",
    )
    small_t: Probability = Field(
        0.0, description=f"Fraction of images whose noise step is drawn below {SMALL_T}"
    )

    num_steps: Count = setting(3000, cost=True, description="Number of training steps")
    batch_size: Count = setting(64, cost=True, description="Images per step")
    lr: Annotated[Finite, Field(gt=0)] | None = Field(
        None,
        description="Highest learning rate of Adam. Default: 0.001 for unet, 0.002 for mlp",
    )
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.999,
        description="Decay of the moving average of the weights, which is saved. 0 saves the last "
        "weights",
    )
    drop: Probability | None = Field(
        None,
        description="Probability that the class of an image is dropped, for classifier-free guidance. "
        f"Default: {DROP} with classes",
    )
    without: str = Field(
        "", description="Class whose images are left out. Its name stays in the model"
    )
    flip: bool = Field(True, description="Mirror half of the images")
    seed: int = Field(42, ge=0, description="Random seed of the training")
    precision: Literal["fp32", "bf16"] = setting(
        "fp32",
        cost=True,
        description="Precision of the computation. With bf16, the weights stay in fp32",
    )
    accelerate: Accelerate = setting("off", added=True, cost=True)
    save_every: int = setting(
        0,
        neutral=True,
        ge=0,
        description="Number of steps between saved states, from which a stopped job resumes. 0 saves "
        "every 20 s",
    )

    @property
    def network_widths(self) -> tuple[int, ...]:
        """The given widths, or the defaults of the network."""
        return self.widths or WIDTHS[self.network]

    @property
    def embedding_width(self) -> int:
        """The length of a class embedding: the given one, or the default."""
        return self.embedding or EMBEDDING[self.network]

    @property
    def learning_rate(self) -> float:
        """The highest learning rate: the given one, or the default."""
        return LR[self.network] if self.lr is None else self.lr

    @property
    def latest_t(self) -> int:
        """The largest step of the training."""
        return self.t_max or self.noise_steps

    def class_dropout_rate(self, classes: int) -> float:
        """Return the fraction of images whose class is dropped in training, or 0 without classes."""
        if not classes:
            return 0.0
        return DROP if self.drop is None else self.drop

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.t_max > self.noise_steps:
            raise ValueError(f"t_max {self.t_max} is larger than noise_steps {self.noise_steps}")
        if self.prompts and not self.weights:
            raise ValueError("prompts needs weights")
        if self.weights:
            if not self.prompts:
                raise ValueError("weights needs prompts, a text file with one concept per line")
            given = [
                name
                for name, field in type(self).model_fields.items()
                if name not in NOT_OF_TRAINING and getattr(self, name) != field.default
            ]
            if given:
                raise ValueError(
                    f"weights cannot be combined with settings of a training: {', '.join(given)}. Leave "
                    "out one or the other."
                )
        elif self.network == "mlp":
            if len(set(self.network_widths)) > 1:
                raise ValueError(
                    f"widths {_join_widths(self.widths)} differ, but all blocks of an mlp have the same width"
                )
        else:
            self._refuse_odd_unet()
        return self

    def _refuse_odd_unet(self) -> None:
        widths = self.network_widths
        odd = [width for width in widths if width % GROUPS]
        if odd:
            raise ValueError(f"width {odd[0]} is not a multiple of {GROUPS}")
        unit = self.unshuffle * 2 ** (len(widths) - 1)
        if self.size % unit:
            raise ValueError(
                f"size {self.size} is not a multiple of {unit}, which unshuffle {self.unshuffle} and "
                f"{len(widths)} levels of a unet require. Change size or unshuffle, or give fewer "
                "widths."
            )

    @classmethod
    def without_effect(cls, values: Mapping[str, Any]) -> Mapping[str, str]:
        """Return settings that have no effect with the other values, each with the reason."""
        if values.get("network") != "mlp":
            return {}
        return dict.fromkeys(("unshuffle", "attention"), "an mlp does not use it")


def _join_widths(widths: tuple[int, ...]) -> str:
    return ",".join(map(str, widths))


def training_folder(root: Path, data: str) -> Path:
    """Return the folder of the images of a data ID, which is train/ if the images are divided into train/ and test/."""
    folder = picture_folder(root, data)
    inside = folder / TRAINED
    return inside if data.startswith("classes:") and inside.is_dir() else folder


def names_of_classes(folder: Path) -> tuple[str, ...]:
    """Return the sorted names of the folders in a folder, without hidden ones.

    Raises:
        DataError: the folder does not exist, or contains fewer than two folders.
    """
    if not folder.is_dir():
        raise DataError(f"folder {folder} does not exist")
    names = sorted(
        path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    if len(names) < 2:
        count = "only one class folder" if names else "no class folder"
        raise DataError(
            f"{folder} has {count}, expected at least two. Put the images of each class into a folder "
            "with its name, or train with data: images:…"
        )
    return tuple(names)
