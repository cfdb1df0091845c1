"""LGrad: C. Tan et al., "Learning on gradients", CVPR 2023.

The input of a ResNet-50 is the gradient of the discriminator of StyleGAN (T. Karras et al., CVPR 2019) at an image.
The gradient is stretched to 0 … 255 for each image, and rounded to 8 bits as in the published program, which writes
it as a PNG file. The gradient of the logit therefore does not reach the pixels.

The discriminator does not learn. Its weights are a file of the user, under NVIDIA's licence CC BY-NC 4.0. Names are
those of its conversion to PyTorch that the authors of LGrad link. As their program takes one image at a time, the
deviation over a group of images, an input of the last convolution, is a constant.

Compared with github.com/chuangchuangtan/LGrad, whose files have no licence. That program trains on crops of 224
pixels of the gradient, here the network gets all 256.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet50

from trueface.models.registry import IMAGENET_MEAN, IMAGENET_STD, register_model

SIDE = 256  # pixels
LAST = 4  # side of the last maps
CHANNELS, MOST = (
    16_384,
    512,
)  # channels of maps are the first number over their side, at most the second
FUSED = 128  # side of maps from which on a convolution halves them itself
SLOPE = 0.2  # slope of negative numbers
GAIN = 2**0.5
DEVIATION = 1e-4  # root of the published 1e-8: the deviation over one image
WHITE = 255.0
AT_ONCE = 4  # images of one gradient, which bounds the memory
DISCRIMINATOR = "discriminator"
_FIRST = "input0.weight"  # a name that only files of the discriminator have


def _channels(side: int) -> int:
    return min(CHANNELS // side, MOST)


class ScaledLayer(nn.Module):
    """Weights that are scaled when they are used, and a bias, for StyleGAN's equalized learning rate."""

    def __init__(self, *shape: int, gain: float = GAIN) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.zeros(shape[0]))
        nn.init.normal_(self.weight)
        self.factor = gain / self.weight[0].numel() ** 0.5

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, H, W) of maps (B, c, H, W), of the same size, or (B, C) of (B, c)."""
        weight = self.weight * self.factor
        if weight.dim() == 2:
            return functional.linear(x, weight, self.bias)
        return functional.conv2d(x, weight, self.bias, padding=weight.shape[-1] // 2)


class Halving(ScaledLayer):
    """A blur, and a convolution that halves the maps, or a mean after it."""

    kernel: Tensor

    def __init__(self, width_in: int, width: int, *, is_fused: bool) -> None:
        super().__init__(width, width_in, 3, 3)
        self.is_fused = is_fused
        row = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("kernel", torch.outer(row, row).expand(width_in, 1, 3, 3), False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, H/2, W/2) of maps (B, c, H, W)."""
        x = functional.conv2d(x, self.kernel, padding=1, groups=len(self.kernel))
        if not self.is_fused:
            return functional.avg_pool2d(super().forward(x), 2)
        around = functional.pad(self.weight * self.factor, (1, 1, 1, 1))
        weight = functional.avg_pool2d(around, 2, stride=1)  # the mean of four shifted kernels
        return functional.conv2d(x, weight, self.bias, stride=2, padding=1)


class Discriminator(nn.Module):
    """StyleGAN's discriminator of images of 256 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.input0 = ScaledLayer(_channels(SIDE), 3, 1, 1)
        side, number = SIDE, 0
        while side > LAST:
            width = _channels(side)
            halving = Halving(width, _channels(side // 2), is_fused=side >= FUSED)
            self.add_module(f"layer{number}", ScaledLayer(width, width, 3, 3))
            self.add_module(f"layer{number + 1}", halving)
            side, number = side // 2, number + 2
        self.last = number
        self.add_module(f"layer{number}", ScaledLayer(MOST, MOST + 1, 3, 3))
        self.add_module(f"layer{number + 1}", ScaledLayer(MOST, MOST * LAST**2))
        self.add_module(f"layer{number + 2}", ScaledLayer(1, MOST, gain=1.0))

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, 1) of images (B, 3, 256, 256) in -1 … 1, each as if it were alone."""
        x = functional.leaky_relu(self.input0(images), SLOPE)
        for number in range(self.last):
            x = functional.leaky_relu(self.get_submodule(f"layer{number}")(x), SLOPE)
        x = torch.cat([x, torch.full_like(x[:, :1], DEVIATION)], 1)
        for number in (self.last, self.last + 1):
            x = functional.leaky_relu(self.get_submodule(f"layer{number}")(x), SLOPE)
            x = x.flatten(1)
        return self.get_submodule(f"layer{self.last + 2}")(x)  # type: ignore[no-any-return]  # torch


class LGrad(nn.Module):
    """The gradient of the discriminator, and a ResNet-50."""

    mean: Tensor
    std: Tensor
    start_parts = (DISCRIMINATOR,)

    def __init__(self) -> None:
        super().__init__()
        for name, layer in resnet50().named_children():
            self.add_module(name, layer)
        self.discriminator = Discriminator().requires_grad_(requires_grad=False)
        self.rounds = True  # whether gradients are rounded to 8 bits
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def adapt_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of a file of the discriminator by the names here, and others as they are."""
        if _FIRST not in state:
            return state
        return {f"{DISCRIMINATOR}.{name}": tensor for name, tensor in state.items()}

    def start_from_backbone(self, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Return the tensors with those of a file of the discriminator; None if it is another file."""
        if _FIRST not in state:
            return None
        names = self.discriminator.state_dict()
        own = {name: each for name, each in self.state_dict().items() if not _is_of_gan(name)}
        return own | {f"{DISCRIMINATOR}.{name}": state[name] for name in names if name in state}

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, 1) of images (B, 3, 256, 256), red, green, blue in 0 … 255."""
        levels = stretch(self.gradients(images))
        if self.rounds:
            levels = levels.round()
        x = (levels / WHITE - self.mean) / self.std
        if images.is_contiguous(memory_format=torch.channels_last):
            x = x.contiguous(memory_format=torch.channels_last)
        for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
            x = self.get_submodule(name)(x)
        return self.get_submodule("fc")(x.mean((2, 3)))  # type: ignore[no-any-return]  # torch

    def gradients(self, images: Tensor) -> Tensor:
        """Return the gradients of the discriminator (B, 3, 256, 256) at images in 0 … 255."""
        return torch.cat([self._gradients_at(part) for part in torch.split(images, AT_ONCE)])

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # torch; a gradient in a forward pass is not compiled
    def _gradients_at(self, images: Tensor) -> Tensor:
        with (
            torch.inference_mode(mode=False),
            torch.enable_grad(),
            torch.autocast(images.device.type, enabled=False),
        ):
            pixels = images.detach().clone().to(self.mean.dtype)
            pixels = (pixels / (WHITE / 2) - 1).requires_grad_()
            (gradients,) = torch.autograd.grad(self.discriminator(pixels).sum(), pixels)
        return gradients


def stretch(gradients: Tensor) -> Tensor:
    """Return gradients (B, 3, H, W), each image stretched to 0 … 255; 0 if all of its numbers are equal."""
    least, most = gradients.amin((1, 2, 3), True), gradients.amax((1, 2, 3), True)
    spread = most - least
    return (gradients - least) / torch.where(spread > 0, spread, 1.0) * WHITE


def _is_of_gan(name: str) -> bool:
    return name.startswith(f"{DISCRIMINATOR}.")


@register_model(
    "lgrad",
    summary="ResNet-50 on gradients of StyleGAN's discriminator, LGrad",
    raw_pixels=True,
    differentiable=False,
    rounds_gradients=True,
    input_size=256,
    width=2048,
    start_file="StyleGAN's discriminator of bedrooms, 256 pixels, in PyTorch (licence CC BY-NC 4.0)",
    licence="cc-by-nc-4.0",
)
def lgrad() -> nn.Module:
    """Return the network, with random weights."""
    return LGrad()
