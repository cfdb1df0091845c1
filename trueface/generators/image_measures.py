"""Distances of each image to its partner, in units of [-1, 1]: one grey level is 2/255.

The original of seed 003 (seclab-yonsei/Anti-disrupt) counts batches with a large error and calls them
images, and its L∞ is the smallest difference. Here every measure is one number an image, so that no
batch size changes it.
"""

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812  # its usual name
from torch import Tensor, nn

from trueface.models.assembly import BuildOptions, assemble
from trueface.models.registry import Triple, without_last_layer
from trueface.runtime.errors import UsageError
from trueface.runtime.rng import torch_rng

PEAK = 2.0  # from black, -1, to white, 1
DISRUPTED = 0.05  # mean squared error from which an image counts as disrupted: the original's
WINDOW = 11  # pixels; the paper's
SIGMA = 1.5  # width of the Gaussian window, in pixels; the paper's
K1, K2 = 0.01, 0.03  # the paper's
RANDOM = "random"  # the network without training, which needs no file
LEAST_SIDE = 64  # pixels that trained networks get at least; smaller images are enlarged
WIDTHS = (16, 32, 64)  # channels of the random network
BATCH = 64
LEAST = 2  # samples, of which a covariance can be estimated


def mse(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean squared error of each image, (N,), float64.

    Args:
        first: N×C×H×W in [-1, 1].
        second: its partners, of the same shape.
    """
    return _difference(first, second).square().mean(1)


def l1(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean absolute error of each image, (N,), float64."""
    return _difference(first, second).abs().mean(1)


def linf(first: Tensor, second: Tensor) -> Tensor:
    """Return the largest absolute difference of each image, (N,), float64."""
    return _difference(first, second).abs().amax(1)


def psnr(first: Tensor, second: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each image in dB, (N,), float64. Equal images have inf."""
    return 10 * torch.log10(PEAK**2 / mse(first, second))


def fraction_above(values: Tensor, threshold: float = DISRUPTED) -> float:
    """Return the share of images whose value exceeds a threshold, in 0 … 1.

    Args:
        values: one per image, (N,).
        threshold: .05 of the mean squared error, as in the original.

    Raises:
        ValueError: there is no image.
    """
    if not values.numel():
        raise ValueError("no images, so the share is undefined")
    return float((values > threshold).double().mean())


def _difference(first: Tensor, second: Tensor) -> Tensor:
    if first.shape != second.shape:
        raise ValueError(
            f"images of shapes {tuple(first.shape)} and {tuple(second.shape)} cannot be compared"
        )
    return (first.double() - second.double()).flatten(1)


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean structural similarity of each image to its partner, (N,), float64, at most 1.

    The mean goes over channels and over the positions where the whole window is inside the image, without
    any border added; others pad, and differ by some 1e-4. Images whose sides are below 11 pixels get the largest
    odd window that they hold. It is computed of intensities in 0 … 1: means of both signs, as in
    [-1, 1], would make its factor of luminance meaningless.

    Args:
        first: N×C×H×W in [-1, 1].
        second: its partners, of the same shape.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"images of shapes {tuple(first.shape)} and {tuple(second.shape)} cannot be compared"
        )
    n, channels, height, width = first.shape
    side = min(WINDOW, height, width)
    window = _gaussian(side - 1 + side % 2).to(first.device)

    def blur_maps(maps: Tensor) -> Tensor:
        flat = maps.reshape(n * channels, 1, height, width)
        return F.conv2d(F.conv2d(flat, window[None, None, :, None]), window[None, None, None])

    a, b = (first.double() + 1) / 2, (second.double() + 1) / 2
    mean_a, mean_b = blur_maps(a), blur_maps(b)
    var_a = blur_maps(a * a) - mean_a**2
    var_b = blur_maps(b * b) - mean_b**2
    covariance = blur_maps(a * b) - mean_a * mean_b
    c1, c2 = K1**2, K2**2
    likeness = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    )
    return likeness.reshape(n, -1).mean(1)


def _gaussian(side: int) -> Tensor:
    offsets = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    return weights / weights.sum()


class FeatureNetwork(NamedTuple):
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
        name: "random" or a network of the lab, such as squeezenet. "random" means three fixed untrained
            convolutions, which respond to coarse differences of texture and colour.
        weights: of the latter: a file with its state dict.
        device: where it works.

    Raises:
        UnknownName: no such network.
        UsageError: it is one of the laboratory, and there is no file.
        WeightsError: the file is not of this network.
    """
    if name == RANDOM:
        features = FeatureNetwork(
            name=RANDOM, body=_random_network(), mean=(0.5,) * 3, std=(0.5,) * 3, least_side=1
        )
    elif weights is None:
        raise UsageError(
            f"features: {name} needs its weights. Set feature_weights to a file with its state dict, "
            f"or write features: {RANDOM}."
        )
    else:
        assembled = assemble(name, BuildOptions(weights=str(weights)))
        network, spec = assembled.network, assembled.spec
        if spec.head is None:
            raise UsageError(without_last_layer("features", name))
        network.set_submodule(spec.head, nn.Identity())
        features = FeatureNetwork(
            name=name, body=network, mean=spec.mean, std=spec.std, least_side=LEAST_SIDE
        )
    features.body.eval().requires_grad_(False).to(device)
    return features


def _random_network() -> nn.Module:
    """Return three convolutions drawn from a fixed stream, and the mean over the image."""
    rng = torch_rng("random features", 0)
    layers: list[nn.Module] = []
    channels = 3
    for width in WIDTHS:
        convolution = nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False)
        spread = (2 / (9 * channels)) ** 0.5  # He initialisation, which keeps the variance
        drawn = torch.randn(convolution.weight.shape, generator=rng) * spread
        convolution.weight = nn.Parameter(drawn)
        layers += [convolution, nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Return the Fréchet distance of two sets of features, 0 or more.

    The trace of the root equals that of (S1^½ S2 S1^½)^½, which is symmetric. It needs two calls of eigh in
    double precision. Other implementations take the root of a matrix that is not symmetric.

    Args:
        first: N×F, N at least 2. With N below F the covariance is singular, and the distance biased upwards.
        second: M×F, of the other set.

    Raises:
        ValueError: too few samples, or features of different widths.
    """
    if min(len(first), len(second)) < LEAST:
        raise ValueError(
            f"{len(first)} and {len(second)} images are too few for a covariance. Use at least 2 of each."
        )
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"features have different lengths: {first.shape[1]} and {second.shape[1]}")
    mean_a, covariance_a = _moments(first)
    mean_b, covariance_b = _moments(second)
    root = _root(covariance_a)
    both = torch.linalg.eigvalsh(root @ covariance_b @ root).clamp_min(0).sqrt().sum()
    apart = (mean_a - mean_b).square().sum()
    distance = apart + covariance_a.trace() + covariance_b.trace() - 2 * both
    return max(0.0, float(distance))


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    values = features.double()
    mean = values.mean(0)
    centred = values - mean
    return mean, centred.T @ centred / (len(values) - 1)


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    return root
