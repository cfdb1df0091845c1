"""The denoising auto-encoder: a small network of convolutions, and its file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.runtime import tensor_files
from trueface.runtime.errors import CheckpointError
from trueface.runtime.files import Json

SCHEMA = 1
NETWORK = "denoiser"  # what the file says that it holds
DETAIL = 10.0  # times what a pixel differs from those around it, as large as the image itself


@dataclass(frozen=True, slots=True, kw_only=True)
class DenoiserShape:
    """All that is needed to build a denoiser again, before its weights are filled in."""

    channels: int  # of images, 3 or 1
    width: int  # channels of its hidden layers
    depth: int  # convolutions, 2 or more


class Denoiser(nn.Module):
    """Convolutions of 3x3 with ReLU between them, which say what noise an image holds.

    The answer is the image minus that noise (K. Zhang et al., arXiv 1608.03981, section III): a new
    network is the identity, as its last layer begins at zero. Besides the image the first layer gets
    ten times what each pixel differs from the mean around it. Noise is a twentieth of the image's
    range, and from the image alone a few hundred steps of a training do not find it.

    Differs from MagNet's defensive model 1 (arXiv 1705.09064, table 2), which paints the image itself
    through a sigmoid and pools once.

    Takes images of any size from 2 pixels, N×C×H×W in [-1, 1]; its answers may leave that range.
    """

    def __init__(self, shape: DenoiserShape) -> None:
        super().__init__()
        self.shape = shape
        widths = [2 * shape.channels, *[shape.width] * (shape.depth - 1), shape.channels]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, padding=1, padding_mode="reflect"), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])
        last = self.layers[-1]
        assert isinstance(last, nn.Conv2d)
        nn.init.zeros_(last.weight)
        if last.bias is not None:
            nn.init.zeros_(last.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return the images without what it takes for noise."""
        around = functional.pad(images, (1, 1, 1, 1), mode="reflect")
        detail = images - functional.avg_pool2d(around, 3, stride=1)
        noise: Tensor = self.layers(torch.cat([images, DETAIL * detail], dim=1))
        return images - noise


def new_denoiser(shape: DenoiserShape, seed: int) -> Denoiser:
    """Return a denoiser with weights that a seed decides; the global generator stays as it was."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        return Denoiser(shape)


def save_denoiser(path: Path, denoiser: Denoiser, provenance: Mapping[str, Json]) -> None:
    """Write a denoiser atomically, with what it was made of; folders are made as needed."""
    content = {
        "schema": SCHEMA,
        "network": NETWORK,
        "shape": asdict(denoiser.shape),
        "state": {
            name: tensor.detach().cpu().clone() for name, tensor in denoiser.state_dict().items()
        },
        "provenance": dict(provenance),
    }
    tensor_files.save(path, content)


def load_denoiser(path: Path, device: str = "cpu") -> Denoiser:
    """Return a denoiser in evaluation mode, its weights without gradients.

    Raises:
        CheckpointError: there is no such file, it cannot be read safely, or is another network's.
    """
    try:
        content = tensor_files.load(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint {path}; train the denoiser first") from error
    except tensor_files.BrokenFileError as error:
        raise CheckpointError(f"checkpoint {path}: {error}; train the denoiser again") from error
    if not isinstance(content, dict) or content.get("network") != NETWORK:
        raise CheckpointError(f"checkpoint {path} holds no denoiser; give a model of that kind")
    if content.get("schema") != SCHEMA:
        raise CheckpointError(f"checkpoint {path} is of another version; train the denoiser again")
    try:
        denoiser = Denoiser(DenoiserShape(**content["shape"]))
        denoiser.load_state_dict(content["state"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(
            f"checkpoint {path} does not fit its own shape: {error}; train the denoiser again"
        ) from error
    return denoiser.to(device).eval().requires_grad_(requires_grad=False)
