"""The settings of a diffuser, and where its classes lie; no torch here."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trueface.data.vocabulary import picture_folder
from trueface.runtime.errors import DataError
from trueface.runtime.field_types import Count, Finite, Probability, Settings

SMALL_T = 30  # steps below this one are those that purification asks for
GROUPS = 8  # of channels that a U-Net normalises together
DROP = 0.1  # share of classes left out in training, where there are classes (arXiv 2207.12598)

# where a setting is not given
WIDTHS: Mapping[str, tuple[int, ...]] = {"unet": (48, 64, 96), "mlp": (192, 192, 192, 192)}
EMBEDDING: Mapping[str, int] = {"unet": 64, "mlp": 16}
LR: Mapping[str, float] = {"unet": 1e-3, "mlp": 2e-3}

# that an imported diffuser has, too, or that a task file is likely to give for all its kinds
NOT_OF_TRAINING = frozenset(
    {"data_root", "weights", "prompts", "size", "channels", "seed", "precision", "batch_size"}
)


# takes a local Stable Diffusion folder; imported by name, as only such jobs need what it imports
IMPORTER = "trueface.jobs.generation.stable_diffusion"


TRAINED = "train"  # in a data root that is divided into train/ and test/


def _modules_of_weights(weights: str) -> tuple[str, ...]:
    return (IMPORTER,) if weights else ()


class DiffuserSettings(Settings):
    """A training of a network that predicts noise."""

    neutral: ClassVar[frozenset[str]] = frozenset({"save_every"})
    modules: ClassVar[Mapping[str, Callable[[Any], tuple[str, ...]]]] = {
        "weights": _modules_of_weights
    }
    costs: ClassVar[frozenset[str]] = frozenset(
        {
            "size", "channels", "network", "widths", "unshuffle", "attention", "num_steps",
            "batch_size", "precision", "weights",
        }
    )  # fmt: skip

    data_root: str = Field(description="folder with the images, or with folders of them")
    weights: str = Field(
        "",
        description="folder with a Stable Diffusion model in the layout of diffusers, taken in the "
        "place of a training; needs the extra diffusion",
    )
    prompts: str = Field(
        "",
        description="of weights: file with a prompt a line, the concepts in the place of classes",
    )
    size: int = Field(32, ge=4, le=1024, description="side of the images in pixels")
    channels: Literal[1, 3] = Field(3, description="1: grey; 3: colours")

    network: Literal["unet", "mlp"] = Field(
        "unet", description="unet: plain U-Net; mlp: residual linear maps, for about ten pixels"
    )
    widths: tuple[Count, ...] = Field(
        (),
        description="unet: channels of each level, fine to coarse; mlp: of each block, all equal; "
        "default: 48,64,96, and 192,192,192,192",
    )
    unshuffle: Count = Field(2, description="unet: pixels a side that become channels; 1: none")
    attention: bool = Field(True, description="unet: pixels attend to each other, coarsest level")
    embedding: int = Field(
        0, ge=0, description="numbers a class; default: 64 of a unet, 16 of an mlp"
    )

    noise_steps: Annotated[int, Field(ge=1, le=10_000)] = Field(
        1000, description="steps of noise of the whole schedule, T"
    )
    schedule: Literal["linear", "seed"] = Field(
        "linear",
        description="linear: betas of .0001 to .02 over steps 1 … T; seed: over steps 0 … T",
    )
    prediction: Literal["eps", "v"] = Field("eps", description="what the network answers")
    t_max: int = Field(
        0, ge=0, description="largest step of noise that is learned, enough to purify; 0: all"
    )
    small_t: Probability = Field(
        0.0, description=f"share of the draws whose step is below {SMALL_T}"
    )

    num_steps: Count = Field(3000, description="batches that it learns from")
    batch_size: Count = Field(64, description="images a batch")
    lr: Annotated[Finite, Field(gt=0)] | None = Field(
        None, description="highest learning rate, of Adam; default: .001 of a unet, .002 of an mlp"
    )
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.999, description="decay of the average of weights that is kept; 0: the last weights"
    )
    drop: Probability | None = Field(
        None, description=f"share of images whose class is left out; default: {DROP} with classes"
    )
    without: str = Field("", description="class that is left out of the images; it stays a name")
    flip: bool = Field(True, description="mirror half of the images")
    seed: int = Field(42, ge=0, description="root of every random choice")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="of the arithmetic; bf16 keeps the weights in fp32"
    )
    save_every: int = Field(
        0, ge=0, description="batches after which an interrupted training goes on; 0: every 20 s"
    )

    @property
    def network_widths(self) -> tuple[int, ...]:
        """Widths as given, or the network's usual ones."""
        return self.widths or WIDTHS[self.network]

    @property
    def embedding_width(self) -> int:
        """Numbers a class, as given or usual."""
        return self.embedding or EMBEDDING[self.network]

    @property
    def learning_rate(self) -> float:
        """The highest learning rate."""
        return LR[self.network] if self.lr is None else self.lr

    @property
    def latest_t(self) -> int:
        """The largest step of noise that is learned."""
        return self.t_max or self.noise_steps

    def dropped(self, classes: int) -> float:
        """Return the share of images whose class is left out; 0 without classes."""
        if not classes:
            return 0.0
        return DROP if self.drop is None else self.drop

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.t_max > self.noise_steps:
            raise ValueError(
                f"t_max {self.t_max} is beyond the last of {self.noise_steps} noise_steps"
            )
        if self.prompts and not self.weights:
            raise ValueError("prompts belong to weights, and none are given")
        if self.weights:
            if not self.prompts:
                raise ValueError(
                    "weights need prompts: a text file with a prompt a line, the concepts"
                )
            given = [
                name
                for name, field in type(self).model_fields.items()
                if name not in NOT_OF_TRAINING and getattr(self, name) != field.default
            ]
            if given:
                raise ValueError(
                    f"weights are taken as they are, and {', '.join(given)} would train: give one "
                    "or the other"
                )
        elif self.network == "mlp":
            if len(set(self.network_widths)) > 1:
                raise ValueError(f"the blocks of an mlp have one width, not {_listed(self.widths)}")
        else:
            self._refuse_odd_unet()
        return self

    def _refuse_odd_unet(self) -> None:
        widths = self.network_widths
        odd = [width for width in widths if width % GROUPS]
        if odd:
            raise ValueError(f"a width of {odd[0]} is no multiple of {GROUPS}")
        unit = self.unshuffle * 2 ** (len(widths) - 1)
        if self.size % unit:
            raise ValueError(
                f"a side of {self.size} pixels is no multiple of {unit}, which unshuffle "
                f"{self.unshuffle} and {len(widths)} levels of a unet need; take another size, "
                "unshuffle, or fewer widths"
            )

    @classmethod
    def without_effect(cls, values: Mapping[str, Any]) -> Mapping[str, str]:
        """Return settings that change nothing beside the other values, each with the reason."""
        if values.get("network") != "mlp":
            return {}
        return dict.fromkeys(("unshuffle", "attention"), "an mlp has none")


def _listed(widths: tuple[int, ...]) -> str:
    return ",".join(map(str, widths))


def training_folder(root: Path, data: str) -> Path:
    """Return the folder of the images that a data ID names: of classes in train/ and test/, those in train/."""
    folder = picture_folder(root, data)
    inside = folder / TRAINED
    return inside if data.startswith("classes:") and inside.is_dir() else folder


def names_of_classes(folder: Path) -> tuple[str, ...]:
    """Return the names of the folders in a folder, sorted; hidden ones are left out.

    Raises:
        DataError: it is not there, or holds fewer than two.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}")
    names = sorted(
        path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    if len(names) < 2:
        count = "1 folder" if names else "no folder"
        raise DataError(
            f"{folder} has {count} of a class, and two at least are needed: put the images of each "
            "class into a folder of its name, or train with data: images:…"
        )
    return tuple(names)
