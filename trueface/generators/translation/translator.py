"""StarGAN: its two networks, the trained generator with its labels and size, its files and published weights.

Y. Choi et al., StarGAN: Unified Generative Adversarial Networks for Multi-Domain Image-to-Image
Translation, CVPR 2018, tables 4 and 5. The generator's weights have the authors' names. The authors' instance norms
store running statistics, but their program never leaves the training mode and does not use them. These networks
have no running statistics. The labels of images are read from a table by name, and flipped one attribute at a time.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from trueface.data.attribute_table import find_table, read_attribute_table
from trueface.data.folders import describe_names, stem
from trueface.data.settings import PARTS
from trueface.generators.made_folders import image_names
from trueface.generators.translation.settings import HALVINGS, TranslatorSettings, critic_layers
from trueface.models import model_file
from trueface.models.assembly import REMEDY, read_state
from trueface.models.model_file import Checkpoint, ModelKind
from trueface.runtime.errors import CheckpointError, DataError, JobError, WeightsError
from trueface.runtime.files import Json

# hair colours of CelebA; a face has one of them
HAIR = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")
COLOURS = 3
SLOPE = 0.01  # negative slope of the critic's leaky ReLU
KIND = ModelKind(
    name="translator",
    # `labels` and `size` are fields of `Translator`, the others of `GeneratorShape`
    arguments={"labels": list, "size": int, "width": int, "blocks": int},
)
FIRST = "main.0.weight"
BLOCK = re.compile(r"main\.\d+\.main\.0\.weight")
# statistics of the instance norms, which the authors' program stores and never uses
UNUSED = (".running_mean", ".running_var", ".num_batches_tracked")
MOST_SHOWN = 3


def labels_of(
    root: Path, names: Sequence[str], attributes: Sequence[str] | None = None
) -> tuple[tuple[str, ...], Tensor]:
    """Return the names of the attributes, and a row of 0 or 1 for each image, N×K float32.

    Args:
        root: folder of the images, with attributes.csv or list_attr_celeba.txt in it or next to it.
        names: paths of the images, relative to `root`.
        attributes: names of the attributes to return, in this order. None: all of the table.

    Raises:
        DataError: the table is missing or broken, or an image has no row in it.
        UnknownName: the table has no such attribute.
    """
    table = read_attribute_table(find_table(root))
    held = table.names if attributes is None else tuple(attributes)
    return held, torch.tensor(table.rows_for_images(names, held), dtype=torch.float32).reshape(
        -1, len(held)
    )


def flip_each_attribute(labels: Tensor, names: Sequence[str]) -> Tensor:
    """Return, for each attribute, the labels with it flipped: K×N×K.

    CelebA's hair colours exclude one another, as in the function create_labels of StarGAN. A flipped hair colour is
    set and all others are cleared, so nothing changes if it was set already.

    Args:
        labels: labels of the images, N×K, 0 or 1.
        names: names of the K attributes.
    """
    hair = [at for at, name in enumerate(names) if name in HAIR]
    rows = []
    for at in range(len(names)):
        changed = labels.clone()
        if at in hair and len(hair) > 1:
            changed[:, hair] = 0
            changed[:, at] = 1
        else:
            changed[:, at] = 1 - changed[:, at]
        rows.append(changed)
    return torch.stack(rows)


def refuse_shared(data_root: Path) -> None:
    """Refuse a data root in which two of the parts A, B and C share an image.

    Raises:
        DataError: an image is in two parts. The message names the first such images.
    """
    seen: dict[str, str] = {}
    twice: list[str] = []
    for part in PARTS:
        for name in image_names(data_root / part) if (data_root / part).is_dir() else ():
            if stem(name) in seen:
                twice.append(f"{name} in {seen[stem(name)]} and {part}")
            seen[stem(name)] = part
    if twice:
        raise DataError(
            f"{data_root}: images are in two parts: {describe_names(twice)}. Remove them from one part, so that "
            "no test image is a training image."
        )


@dataclass(frozen=True, slots=True)
class GeneratorShape:
    """The shape of a generator's layers."""

    classes: int  # number of attributes
    width: int = 64
    blocks: int = 6


class StarGanBlock(nn.Module):
    """Two 3×3 convolutions with a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.InstanceNorm2d(width, affine=True),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.InstanceNorm2d(width, affine=True),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        changed: Tensor = self.main(features)
        return features + changed


class Generator(nn.Module):
    """Network from an image and target attributes to an image with these attributes.

    Args:
        shape: shape of the layers.
    """

    def __init__(self, shape: GeneratorShape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.width
        layers: list[nn.Module] = [
            nn.Conv2d(COLOURS + shape.classes, width, 7, padding=3, bias=False),
            *_norm_and_activation(width),
        ]
        for _ in range(HALVINGS):
            layers += [
                nn.Conv2d(width, width * 2, 4, 2, 1, bias=False),
                *_norm_and_activation(width * 2),
            ]
            width *= 2
        layers += [StarGanBlock(width) for _ in range(shape.blocks)]
        for _ in range(HALVINGS):
            layers += [
                nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=False),
                *_norm_and_activation(width // 2),
            ]
            width //= 2
        layers += [nn.Conv2d(width, COLOURS, 7, padding=3, bias=False), nn.Tanh()]
        self.main = nn.Sequential(*layers)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return images, N×3×H×W in [-1, 1].

        Args:
            images: N×3×H×W in [-1, 1]; H and W are multiples of 4.
            labels: N×K, 1 for each attribute that the result must have, otherwise 0.
        """
        planes = labels.to(images)[:, :, None, None].expand(-1, -1, *images.shape[2:])
        output: Tensor = self.main(torch.cat((images, planes), 1))
        return output


class Critic(nn.Module):
    """Network from images to a realness map and logits of their attributes.

    Args:
        size: side of the images in pixels.
        width: channels of the first layer.
        classes: number of attributes.
        spectral: whether each layer has spectral norm.
    """

    def __init__(self, size: int, width: int, classes: int, *, spectral: bool) -> None:
        super().__init__()
        norm: Callable[[nn.Module], nn.Module] = spectral_norm if spectral else _as_it_is
        layers: list[nn.Module] = []
        channels = COLOURS
        halvings = critic_layers(size)
        for _ in range(halvings):
            layers += [norm(nn.Conv2d(channels, width, 4, 2, 1)), nn.LeakyReLU(SLOPE)]
            channels, width = width, width * 2
        self.main = nn.Sequential(*layers)
        self.realness = norm(nn.Conv2d(channels, 1, 3, padding=1, bias=False))
        self.attributes = norm(nn.Conv2d(channels, classes, size >> halvings, bias=False))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return realness, N×1×h×w, and logits of the attributes, N×K."""
        features = self.main(images)
        return self.realness(features), self.attributes(features).flatten(1)


def build_generator(shape: GeneratorShape, *, seed: int) -> Generator:
    """Return a generator with random weights. The global random state of torch does not change."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Generator(shape)


def build_critic(settings: TranslatorSettings, classes: int, *, seed: int) -> Critic:
    """Return a critic with random weights. The global random state of torch does not change."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        normed = settings.gan == "hinge"
        return Critic(settings.size, settings.critic_width, classes, spectral=normed)


def _norm_and_activation(width: int) -> tuple[nn.Module, nn.Module]:
    return nn.InstanceNorm2d(width, affine=True), nn.ReLU(inplace=True)


def _as_it_is(layer: nn.Module) -> nn.Module:
    return layer


@dataclass(frozen=True, slots=True)
class Translator:
    """Changes the attributes of images.

    The weights do not require gradients. The images may, because an attack differentiates through the network.
    """

    generator: Generator
    labels: tuple[str, ...]  # names of the attributes
    size: int  # side of the training images in pixels

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return images with other attributes, N×3×H×W in [-1, 1].

        Args:
            images: images, N×3×H×W in [-1, 1]. H and W are multiples of 4.
            targets: target attributes, N×K, 0 or 1, in the order of `labels`.

        Raises:
            JobError: the images or the targets have another shape.
        """
        if images.ndim != 4 or images.shape[1] != COLOURS:
            raise JobError(
                f"images have the shape {'×'.join(map(str, images.shape))}, but a translator takes "
                f"N×{COLOURS}×H×W"
            )
        if any(side % (1 << HALVINGS) for side in images.shape[2:]):
            raise JobError(
                f"images have {images.shape[3]}x{images.shape[2]} pixels, but a translator takes only "
                f"multiples of {1 << HALVINGS}. Resize the images first."
            )
        if targets.shape != (len(images), len(self.labels)):
            raise JobError(
                f"targets have the shape {'×'.join(map(str, targets.shape))}, expected "
                f"{len(images)}×{len(self.labels)} (images × {', '.join(self.labels)})"
            )
        outputs: Tensor = self.generator(images, targets)
        return outputs


def freeze_for_inference(
    generator: Generator, labels: tuple[str, ...], size: int, device: str
) -> Translator:
    """Return a translator on a device, in evaluation mode and with frozen weights."""
    generator = generator.to(device).eval().requires_grad_(False)
    return Translator(generator, labels, size)


def save_translator(path: Path, translator: Translator, provenance: Mapping[str, Json]) -> None:
    """Write a translator atomically. Folders are created as needed."""
    shape = translator.generator.shape
    stored = Checkpoint(
        kind=KIND.name,
        arch="stargan",
        arguments={
            "labels": list(translator.labels),
            "size": translator.size,
            "width": shape.width,
            "blocks": shape.blocks,
        },
        state=translator.generator.state_dict(),
        provenance=provenance,
    )
    model_file.save(path, stored)


def load_translator(path: Path, device: str = "cpu") -> Translator:
    """Read a translator that a job has written.

    Raises:
        CheckpointError: the file is absent, truncated or of another kind, or contains objects other
            than plain values.
    """
    stored = model_file.load(path, KIND)
    translator = model_file.build(stored, path, KIND, _from_checkpoint)
    translator.generator.to(device)
    return translator


def _from_checkpoint(checkpoint: Checkpoint) -> Translator:
    facts = checkpoint.arguments
    shape = GeneratorShape(len(facts["labels"]), facts["width"], facts["blocks"])
    generator = model_file.load_frozen(Generator(shape), checkpoint.state)
    return Translator(generator, tuple(facts["labels"]), facts["size"])


def load_generator_weights(shape: GeneratorShape, state: Mapping[str, Any]) -> Generator:
    """Return a generator with these weights.

    Raises:
        RuntimeError: the weights do not fit the shape.
    """
    generator = Generator(shape)
    tensors = {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
    generator.load_state_dict(tensors)
    return generator


def load_foreign(path: Path, labels: int) -> Generator:
    """Return the generator of a published file. Width, blocks and number of labels follow from the weights.

    Args:
        path: file of a state dict. No code in it is executed.
        labels: number of attributes that the settings name.

    Raises:
        CheckpointError: the file cannot be read, is not a StarGAN generator, or has another number of
            labels.
    """
    try:
        state = read_state(path)
    except WeightsError as error:  # its advice is about detectors, so it is replaced
        reason = str(error).removesuffix(f". {REMEDY}")
        raise CheckpointError(f"{reason}. Give a state dict of StarGAN's generator.") from error
    state = {name: tensor for name, tensor in state.items() if not name.endswith(UNUSED)}
    shape = shape_of(state, path)
    if shape.classes != labels:
        raise CheckpointError(
            f"{path} is a generator with {shape.classes} labels (c_dim), but {labels} are set. Set labels "
            f"to its {shape.classes} attributes, in the order of its training."
        )
    expected = {name: tensor.shape for name, tensor in Generator(shape).state_dict().items()}
    unknown, missing = sorted(state.keys() - expected), sorted(expected.keys() - state)
    if unknown or missing:
        raise CheckpointError(
            f"{path} is not a StarGAN generator with {shape.blocks} blocks: "
            + "; ".join(
                f"{noun} {', '.join(names[:MOST_SHOWN])}"
                for noun, names in (("unknown", unknown), ("missing", missing))
                if names
            )
        )
    for name, tensor in state.items():
        if tensor.shape != expected[name]:
            raise CheckpointError(
                f"{path}: {name} has the shape {list(tensor.shape)}, but a generator of width "
                f"{shape.width} has {list(expected[name])}"
            )
    return load_generator_weights(shape, state)


def shape_of(state: Mapping[str, Tensor], path: Path) -> GeneratorShape:
    """Return the shape of the generator that a state dict belongs to.

    Raises:
        CheckpointError: the state dict does not belong to a generator.
    """
    first = state.get(FIRST)
    if first is None or first.ndim != 4 or first.shape[1] <= COLOURS:
        shown = ", ".join(sorted(state)[:MOST_SHOWN])
        raise CheckpointError(
            f"{path} is not a StarGAN generator. Expected {FIRST}, a convolution of {COLOURS} colours and "
            f"the labels, but found {shown}."
        )
    blocks = sum(BLOCK.fullmatch(name) is not None for name in state)
    return GeneratorShape(first.shape[1] - COLOURS, first.shape[0], blocks)
