"""Networks whose features the Fréchet distance compares; each has a name, which its results carry."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812  # its usual name
from torch import Tensor, nn

from trueface.models.assembly import Wanted, assemble
from trueface.models.spec import Triple
from trueface.runtime.errors import UsageError
from trueface.runtime.rng import derive

RANDOM = "random"  # the network without training, which needs no file
LEAST_SIDE = 64  # pixels that trained networks get at least; smaller images are enlarged
WIDTHS = (16, 32, 64)  # channels of the random network
BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureNetwork:
    """A network without its last layer."""

    name: str
    body: nn.Module
    mean: Triple
    std: Triple
    least_side: int

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Return features N×F of images N×C×H×W in [-1, 1]; grey ones are taken as three channels."""
        starts = range(0, len(images), BATCH)
        return torch.cat([self._features(images[at : at + BATCH]) for at in starts])

    def _features(self, images: Tensor) -> Tensor:
        pixels = (images.float() + 1) / 2
        if pixels.shape[1] == 1:
            pixels = pixels.expand(-1, 3, -1, -1)
        if (side := min(pixels.shape[2:])) < self.least_side:
            scale = self.least_side / side
            pixels = F.interpolate(pixels, scale_factor=scale, mode="bilinear")
        shape = (1, 3, 1, 1)
        mean, std = (pixels.new_tensor(row).reshape(shape) for row in (self.mean, self.std))
        features: Tensor = self.body((pixels - mean) / std)
        return features.flatten(1)


def feature_network(
    name: str, weights: Path | None = None, *, device: str = "cpu"
) -> FeatureNetwork:
    """Return the network of that name.

    Args:
        name: "random": three convolutions that nobody trained, always the same, which tell coarse
            differences of texture and colour; or a network of the laboratory, such as squeezenet.
        weights: of the latter: a file with its state dict.
        device: where it works.

    Raises:
        UnknownName: no such network.
        UsageError: it is one of the laboratory, and there is no file.
        WeightsError: the file is not of this network.
    """
    if name == RANDOM:
        made = FeatureNetwork(
            name=RANDOM, body=_random(), mean=(0.5,) * 3, std=(0.5,) * 3, least_side=1
        )
    elif weights is None:
        raise UsageError(
            f"features of {name} need its weights: give a file with its state dict "
            f"(feature_weights), or take features: {RANDOM}"
        )
    else:
        assembled = assemble(name, Wanted(weights=str(weights)))
        network, spec = assembled.network, assembled.spec
        network.set_submodule(spec.head, nn.Identity())
        made = FeatureNetwork(
            name=name, body=network, mean=spec.mean, std=spec.std, least_side=LEAST_SIDE
        )
    made.body.eval().requires_grad_(False).to(device)
    return made


def _random() -> nn.Module:
    """Return three convolutions drawn from a fixed stream, and the mean over the image."""
    generator = torch.Generator().manual_seed(derive("random features", 0))
    layers: list[nn.Module] = []
    channels = 3
    for width in WIDTHS:
        convolution = nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False)
        spread = (2 / (9 * channels)) ** 0.5  # He initialisation, which keeps the variance
        drawn = torch.randn(convolution.weight.shape, generator=generator) * spread
        convolution.weight = nn.Parameter(drawn)
        layers += [convolution, nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))
