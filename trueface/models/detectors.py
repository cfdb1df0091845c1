"""The family of detectors: convolutional networks with one logit, positive = fake.

    baseline    ResNet-50                    nodown      the same, first convolution with stride 1
    baseline18  ResNet-18                    nodown18    the same, first convolution with stride 1
    squeezenet  SqueezeNet 1.1               mobilenet   MobileNet v2
    slim18      ResNet-18 an eighth as wide, on a high-pass residual: the member for CPUs

"No down-sampling in the first layer" keeps the traces that a generator leaves at the highest
frequencies: D. Gragnaniello et al., "Are GAN generated images easy to detect?", ICME 2021,
arXiv 2104.02617, section 4. Parameters have torchvision's names, so that its files fit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torchvision.models import (
    MobileNet_V2_Weights,
    ResNet18_Weights,
    ResNet50_Weights,
    SqueezeNet1_1_Weights,
    WeightsEnum,
    mobilenet_v2,
    resnet18,
    resnet50,
    squeezenet1_1,
)
from torchvision.models.resnet import ResNet

from trueface.models import backbones, pretrained
from trueface.models.backbones import Head, Pooled, Slim18
from trueface.runtime.errors import UnknownName, WeightsError
from trueface.runtime.rng import derive

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of torchvision's published weights
IMAGENET_STD = (0.229, 0.224, 0.225)
RESIDUAL_STD = 6 / 255  # six grey levels: about the spread of a photograph's high-pass residual

Triple = tuple[float, float, float]
OWN = "model"  # the normalization that belongs to the member
# "half" takes pixels to -1 … 1, as weights that come from TensorFlow want them
NORMALIZATIONS: Mapping[str, tuple[Triple, Triple]] = MappingProxyType(
    {"imagenet": (IMAGENET_MEAN, IMAGENET_STD), "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One member of the family; how its input is usually normalised belongs to it."""

    name: str
    make: Callable[[], nn.Module]
    published: WeightsEnum | None = None  # ImageNet weights; None: it starts from random ones
    stride: int = 2  # of the first convolution
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD


class Detector(nn.Module):
    """A network of the family with the preprocessing that belongs to it.

    Pixels come in as they lie in files; normalising them happens here, on the device, for a
    whole batch, so that no training and no test can use another network's mean.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        spec: Spec,
        network: nn.Module,
        *,
        normalization: str = OWN,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        self.spec, self.network = spec, network
        self.normalization, self.channels_last = normalization, channels_last
        mean, std = NORMALIZATIONS.get(normalization, (spec.mean, spec.std))
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return one logit an image, (B, 1).

        Args:
            pixels: (B, 3, H, W), or (B, K, 3, H, W) for the mean logit of K crops of each image;
                uint8, or float32 in [0, 1].
        """
        logits: Tensor = self.network(self._normalised(pixels))
        return logits.view(len(pixels), -1).mean(1, keepdim=True)

    def features(self, pixels: Tensor) -> Tensor:
        """Return what the last layer gets, (B, F) float32.

        Of K crops it is their mean: as the last layer is linear, `head` makes of it the mean logit.

        Args:
            pixels: as for `forward`.
        """
        found = backbones.body(self.network, self._normalised(pixels)).float()  # (B·K, F)
        return found.view(len(pixels), -1, found.shape[1]).mean(1)

    def head(self, features: Tensor) -> Tensor:
        """Return the logits (B, 1) of features (B, F)."""
        return self.network.fc(features)  # type: ignore[no-any-return, operator]  # torch: Any

    @property
    def last(self) -> nn.Linear:
        """The last layer, from features to the logit."""
        return backbones.last(self.network)

    def take_last(self, layer: nn.Linear) -> None:
        """Put another last layer in the place of this one.

        No setter of a property: torch would keep a module that is assigned beside it, unused.
        """
        self.network.fc = layer

    @property
    def width(self) -> int:
        """How many features an image has."""
        return self.last.in_features

    def _normalised(self, pixels: Tensor) -> Tensor:
        images = pixels.flatten(0, -4)  # (B·K, 3, H, W)
        if images.dtype == torch.uint8:
            images = images.to(torch.float32) / 255
        form = torch.channels_last if self.channels_last else torch.contiguous_format
        return ((images - self.mean) / self.std).contiguous(memory_format=form)


def _squeezenet() -> nn.Module:
    return Pooled(squeezenet1_1().features, width=512)


def _mobilenet() -> nn.Module:
    network = mobilenet_v2()
    return Pooled(network.features, width=network.last_channel)


FAMILY: Mapping[str, Spec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            Spec(name="baseline", make=resnet50, published=ResNet50_Weights.DEFAULT),
            Spec(name="nodown", make=resnet50, published=ResNet50_Weights.DEFAULT, stride=1),
            Spec(name="baseline18", make=resnet18, published=ResNet18_Weights.DEFAULT),
            Spec(name="nodown18", make=resnet18, published=ResNet18_Weights.DEFAULT, stride=1),
            Spec(name="slim18", make=Slim18, stride=1, mean=(0, 0, 0), std=(RESIDUAL_STD,) * 3),
            Spec(name="squeezenet", make=_squeezenet, published=SqueezeNet1_1_Weights.DEFAULT),
            Spec(name="mobilenet", make=_mobilenet, published=MobileNet_V2_Weights.DEFAULT),
        )
    }
)


def member(name: str) -> Spec:
    """Return the member of the family that is called `name`.

    Raises:
        UnknownName: there is none.
    """
    if name not in FAMILY:
        raise UnknownName("model", name, FAMILY)
    return FAMILY[name]


def build(
    name: str,
    *,
    weights: str,
    seed: int,
    dropout: float = 0.0,
    normalization: str = OWN,
    channels_last: bool = True,
) -> Detector:
    """Return a member of the family, in evaluation mode.

    Args:
        name: a key of `FAMILY`.
        weights: "default" (the published ImageNet weights, random where a member has none),
            "none" (random), or the path of a state dict; see `weights.chosen_weights` for the
            environment.
        seed: root seed; random weights come from its stream "weights".
        dropout: probability before the last layer.
        normalization: of the pixels, as the weights want it; "model" is the member's own.
        channels_last: memory format; on a CPU 1.2 to 1.5 times as fast.

    Raises:
        UnknownName: no such member, or normalization.
        WeightsError: the weights cannot be had, or are another network's.
    """
    spec = member(name)
    if normalization != OWN and normalization not in NORMALIZATIONS:
        raise UnknownName("normalization", normalization, (OWN, *NORMALIZATIONS))
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(derive("weights", seed))
        network = spec.make()
        network.fc = Head(backbones.last(network).in_features, dropout)
    if weights == "default" and spec.published is not None:
        state = pretrained.published_state(spec.published)
        pretrained.adopt(network, state, f"the ImageNet weights of {name}")
    elif weights not in {"default", "none"}:
        _adopt_file(network, Path(weights), name)
    if isinstance(network, ResNet) and spec.stride == 1:
        network.conv1.stride = (1, 1)  # the same weights on a grid twice as fine
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    return Detector(spec, network, normalization=normalization, channels_last=channels_last).eval()


def weights_sha256(name: str, weights: str) -> str | None:
    """Return the checksum of the weights that `build` starts from; None: they are random.

    Raises:
        UnknownName: no such member.
        WeightsError: the file cannot be read.
    """
    return pretrained.fingerprint(weights, member(name).published)


def freeze(model: Detector) -> None:
    """Let only the last layer learn."""
    for name, parameter in model.network.named_parameters():
        parameter.requires_grad_(name.startswith("fc."))


def teach(model: nn.Module, *, fixed_statistics: bool) -> None:
    """Put `model` into training mode, with or without moving batch-norm statistics."""
    model.train()
    if fixed_statistics:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


def _adopt_file(network: nn.Module, path: Path, name: str) -> None:
    state = pretrained.read_state(path)
    try:
        pretrained.adopt(network, state, f"weights {path}")
    except WeightsError as error:
        others = [other for other in FAMILY if other != name and _fits(other, state)]
        advice = f"they fit model {' and '.join(others)}" if others else pretrained.REMEDY
        raise WeightsError(f"{error}; {advice}") from error


def _fits(name: str, state: Mapping[str, Tensor]) -> bool:
    with torch.random.fork_rng(devices=()), torch.device("meta"):
        own = FAMILY[name].make().state_dict()
    left = {
        key: value.shape
        for key, value in own.items()
        if not key.startswith(pretrained.LAST) and not key.endswith(pretrained.COUNTER)
    }
    return all(key in state and state[key].shape == shape for key, shape in left.items())
