"""Capsule-Forensics v2: H. Nguyen et al., "Use of a capsule network …", 2019, arXiv 1910.12467.

Ten small networks, the primary capsules, read the middle maps of a VGG-19 that is not trained. Two
output capsules of four numbers, for real and fake, are routed from them. Each of the four is a
classifier, and the detector's probability is their mean. So no linear layer is the last one.

Names and results are those of the published code (github.com/nii-yamagishilab/Capsule-Forensics-v2,
BSD-3), which has images of 300 by 300 pixels. Noise and dropout of the routing, arguments there, are on
in training mode here. A published file does not contain the VGG-19: its tensors have the names of
torchvision's (`features`).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

CAPSULES = 10
CLASSES = 2  # real, fake
READINGS, NUMBERS = 8, 4  # numbers of a primary capsule, and of an output capsule
NOISE = 0.01  # deviation of the noise on the routing's weights, in training
DROPOUT = 0.05  # share of the routed numbers, which are not scaled up for it
LAYERS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0)  # channels of VGG-19; 0: a pooling
MAPS = LAYERS[-2]
LEAST_SIDE = 16  # pixels: the maps need two positions for a deviation


class MapStatistics(nn.Module):
    """Mean and deviation of each map over its positions."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, 2, C) of maps (B, C, H, W)."""
        positions = maps.flatten(2)
        return torch.stack([positions.mean(2), positions.std(2)], dim=1)


class PrimaryCapsules(nn.Module):
    """Ten networks from maps to eight numbers each."""

    def __init__(self) -> None:
        super().__init__()
        self.capsules = nn.ModuleList(_primary_capsule() for _ in range(CAPSULES))
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the numbers (B, 8, 10) of maps (B, 256, H, W), squashed over the capsules."""
        return squash(torch.stack([capsule(maps) for capsule in self.capsules], dim=-1), dim=-1)


class Routing(nn.Module):
    """The routing by agreement from ten capsules to two."""

    def __init__(self) -> None:
        super().__init__()
        self.route_weights = nn.Parameter(torch.randn(CLASSES, CAPSULES, NUMBERS, READINGS))

    def forward(self, numbers: Tensor) -> Tensor:
        """Return the output capsules (B, 4, 2) of primary ones (B, 8, 10)."""
        weights: Tensor = self.route_weights
        if self.training:  # drawn on the CPU: a GPU has other random numbers
            weights = weights + NOISE * torch.randn(weights.shape).to(weights)
        votes = torch.einsum("kcor,brc->bkco", weights, numbers)  # (B, 2, 10, 4)
        if self.training:
            votes = votes * (torch.rand(votes.shape) >= DROPOUT).to(votes)
        outputs = _sum_votes(votes, torch.zeros_like(votes))
        outputs = _sum_votes(votes, votes * outputs)  # the second and last turn
        return outputs.squeeze(2).transpose(1, 2)


class Capsule(nn.Module):
    """Middle layers of VGG-19, primary capsules and their routing."""

    def __init__(self) -> None:
        super().__init__()
        self.features = _vgg19_beginning().requires_grad_(requires_grad=False)
        self.fea_ext = PrimaryCapsules()
        self.routing_stats = Routing()

    def start_from_backbone(self, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Return the tensors with those of a file of a whole VGG-19; None if it is another file."""
        frozen = {f"features.{name}": tensor for name, tensor in self.features.state_dict().items()}
        if not frozen.keys() <= state.keys() or not all(map(_is_of_vgg19, state)):
            return None
        return {**self.state_dict(), **{name: state[name] for name in frozen}}

    def forward(self, images: Tensor) -> Tensor:
        """Return the log odds (B, 1) of the mean probability of fake, of images (B, 3, H, W)."""
        return mean_log_odds(self.forward_capsules(images))

    def forward_capsules(self, images: Tensor) -> Tensor:
        """Return the output capsules (B, 4, 2) of images (B, 3, H, W), columns real and fake.

        Raises:
            ValueError: the images have less than 16 pixels on a side.
        """
        if min(images.shape[-2:]) < LEAST_SIDE:
            raise ValueError(f"capsule needs images of {LEAST_SIDE} pixels or more on each side")
        capsules: Tensor = self.routing_stats(self.fea_ext(self.features(images)))
        return capsules


def squash(vectors: Tensor, dim: int) -> Tensor:
    """Return vectors v along a dimension as v |v| / (1 + |v|²), shorter than 1."""
    length = torch.linalg.vector_norm(vectors, dim=dim, keepdim=True)
    squashed: Tensor = vectors * (length / (1 + length.square()))
    return squashed


def _sum_votes(votes: Tensor, agreement: Tensor) -> Tensor:
    """Return the output capsules (B, 2, 1, 4) of votes and their agreement (B, 2, 10, 4)."""
    return squash((agreement.softmax(2) * votes).sum(2, keepdim=True), dim=3)


def mean_log_odds(capsules: Tensor) -> Tensor:
    """Return log p / (1 - p), (B, 1), of the mean p of the probabilities of fake of capsules (B, 4, 2)."""
    logits = (capsules[..., 1] - capsules[..., 0]).float()  # (B, 4)
    fake, real = functional.logsigmoid(logits), functional.logsigmoid(-logits)
    return (fake.logsumexp(1) - real.logsumexp(1))[:, None]


def _is_of_vgg19(name: str) -> bool:
    return name.partition(".")[0] in {"features", "classifier"}


def _primary_capsule() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(MAPS, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.Conv2d(64, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        MapStatistics(),  # (B, 2, 16)
        nn.Conv1d(2, READINGS, 5, stride=2, padding=2),  # (B, 8, 8)
        nn.BatchNorm1d(READINGS),
        nn.Conv1d(READINGS, 1, 3, padding=1),
        nn.BatchNorm1d(1),
        nn.Flatten(),
    )


def _vgg19_beginning() -> nn.Sequential:
    """Return the first 19 layers of VGG-19 with random weights: K. Simonyan, ICLR 2015, arXiv 1409.1556."""
    layers: list[nn.Module] = []
    width_in = 3
    for width in LAYERS:
        if not width:
            layers.append(nn.MaxPool2d(2))
            continue
        convolution = nn.Conv2d(width_in, width, 3, padding=1)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        layers += [convolution, nn.ReLU(inplace=True)]
        width_in = width
    return nn.Sequential(*layers)
