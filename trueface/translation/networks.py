"""StarGAN's two networks: the generator, whose weights have the authors' names, and the critic.

Y. Choi et al., StarGAN: Unified Generative Adversarial Networks for Multi-Domain Image-to-Image
Translation, CVPR 2018, tables 4 and 5. The authors' instance norms keep running statistics that their
program never uses, as it never leaves the training mode; ours keep none.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from trueface.translation.settings import HALVINGS, TranslatorSettings, critic_layers

COLOURS = 3
SLOPE = 0.01  # of the critic's leaky ReLU, below zero


@dataclass(frozen=True, slots=True)
class GeneratorShape:
    """What decides a generator's layers."""

    classes: int  # attributes
    width: int = 64
    blocks: int = 6


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside a short cut."""

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
        """Return features in the shape of those given."""
        changed: Tensor = self.main(features)
        return features + changed


class Generator(nn.Module):
    """From an image and the attributes that it shall have to an image with these.

    Args:
        shape: of its layers.
    """

    def __init__(self, shape: GeneratorShape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.width
        layers: list[nn.Module] = [
            nn.Conv2d(COLOURS + shape.classes, width, 7, padding=3, bias=False),
            *_after(width),
        ]
        for _ in range(HALVINGS):
            layers += [nn.Conv2d(width, width * 2, 4, 2, 1, bias=False), *_after(width * 2)]
            width *= 2
        layers += [ResidualBlock(width) for _ in range(shape.blocks)]
        for _ in range(HALVINGS):
            layers += [
                nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=False),
                *_after(width // 2),
            ]
            width //= 2
        layers += [nn.Conv2d(width, COLOURS, 7, padding=3, bias=False), nn.Tanh()]
        self.main = nn.Sequential(*layers)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return images, N×3×H×W in [-1, 1].

        Args:
            images: likewise; H and W are multiples of 4.
            labels: N×K, 1 for each attribute that the result shall have, else 0.
        """
        planes = labels.to(images)[:, :, None, None].expand(-1, -1, *images.shape[2:])
        made: Tensor = self.main(torch.cat((images, planes), 1))
        return made


class Critic(nn.Module):
    """From images to how real each place looks, and to logits of their attributes.

    Args:
        size: side of the images.
        width: channels of the first layer.
        classes: attributes.
        normed: whether each layer has spectral norm.
    """

    def __init__(self, size: int, width: int, classes: int, *, normed: bool) -> None:
        super().__init__()
        norm: Callable[[nn.Module], nn.Module] = spectral_norm if normed else _as_it_is
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
    """Return a generator with random weights; torch's own random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Generator(shape)


def build_critic(settings: TranslatorSettings, classes: int, *, seed: int) -> Critic:
    """Return a critic with random weights; torch's own random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        normed = settings.gan == "hinge"
        return Critic(settings.size, settings.critic_width, classes, normed=normed)


def _after(width: int) -> tuple[nn.Module, nn.Module]:
    return nn.InstanceNorm2d(width, affine=True), nn.ReLU(inplace=True)


def _as_it_is(layer: nn.Module) -> nn.Module:
    return layer
