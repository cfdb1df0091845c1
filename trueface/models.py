"""The family of detectors: residual networks with one logit, positive = fake.

    baseline    ResNet-50                    nodown    the same, first convolution with stride 1
    baseline18  ResNet-18                    nodown18  the same, first convolution with stride 1
    slim18      ResNet-18 an eighth as wide, on a high-pass residual: the member for CPUs

"No down-sampling in the first layer" keeps the traces that a generator leaves at the highest
frequencies: D. Gragnaniello et al., "Are GAN generated images easy to detect?", ICME 2021,
arXiv 2104.02617, section 4. Parameters have torchvision's names, so that its files fit.
"""

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import ResNet18_Weights, ResNet50_Weights, WeightsEnum, resnet18, resnet50
from torchvision.models.resnet import BasicBlock, ResNet

from launcher.api import UnknownName
from trueface.errors import WeightsError
from trueface.streams import derive

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of torchvision's published weights
IMAGENET_STD = (0.229, 0.224, 0.225)
RESIDUAL_STD = 6 / 255  # six grey levels: about the spread of a photograph's high-pass residual
SLIM_WIDTHS = (16, 32, 64, 128)
WRAPPERS = ("model_state_dict", "state_dict", "model", "state")  # under which files keep weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One member of the family; how its input is normalised belongs to it."""

    name: str
    make: Callable[[], nn.Module]
    published: WeightsEnum | None = None  # ImageNet weights; None: it starts from random ones
    stride: int = 2  # of the first convolution
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


class Detector(nn.Module):
    """A network of the family with the preprocessing that belongs to it.

    Pixels come in as they lie in files; normalising them happens here, on the device, for a
    whole batch, so that no training and no test can use another network's mean.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: Spec, network: nn.Module) -> None:
        super().__init__()
        self.spec, self.network = spec, network
        for name, values in (("mean", spec.mean), ("std", spec.std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return one logit an image, (B, 1).

        Args:
            pixels: (B, 3, H, W), or (B, K, 3, H, W) for the mean logit of K crops of each image;
                uint8, or float32 in [0, 1].
        """
        images = pixels.flatten(0, -4)  # (B·K, 3, H, W)
        if images.dtype == torch.uint8:
            images = images.to(torch.float32) / 255
        images = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.network(images)
        return logits.view(len(pixels), -1).mean(1, keepdim=True)


class Head(nn.Linear):
    """The last layer: dropout (in training only), then one logit."""

    def __init__(self, features: int, dropout: float) -> None:
        super().__init__(features, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # nn.Linear's own name
        """Return the logits (B, 1) of features (B, F)."""
        return super().forward(self.dropout(input))


class Slim18(nn.Module):
    """A ResNet-18 of widths 16 to 128 on what is left of an image without its 3-by-3 mean.

    Generators leave their traces in the residual; scenes, most of which a mean removes, would
    have to be learned away first (on plain input this network hardly learns in 20 epochs).
    Sources: blocks from K. He et al., arXiv 1512.03385, section 4.2; a fixed high-pass filter in
    front of a learner is the way of steganalysis, J. Fridrich and J. Kodovský, "Rich models for
    steganalysis of digital images", IEEE TIFS 7(3), 2012; here one plain filter stands for many.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, SLIM_WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(SLIM_WIDTHS[0])
        self.layer1 = _stage(SLIM_WIDTHS[0], SLIM_WIDTHS[0], stride=1)
        self.layer2 = _stage(SLIM_WIDTHS[0], SLIM_WIDTHS[1], stride=2)
        self.layer3 = _stage(SLIM_WIDTHS[1], SLIM_WIDTHS[2], stride=2)
        self.layer4 = _stage(SLIM_WIDTHS[2], SLIM_WIDTHS[3], stride=2)
        self.fc = nn.Linear(SLIM_WIDTHS[3], 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, 1) of images (B, 3, H, W)."""
        mean = functional.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
        x = functional.relu(self.bn1(self.conv1(images - mean)))  # (B, 16, H, W)
        x = functional.max_pool2d(x, 3, stride=2, padding=1)  # (B, 16, H/2, W/2)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # (B, 128, H/16, W/16)
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]  # torch: modules return Any


FAMILY: Mapping[str, Spec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            Spec(name="baseline", make=resnet50, published=ResNet50_Weights.DEFAULT),
            Spec(name="nodown", make=resnet50, published=ResNet50_Weights.DEFAULT, stride=1),
            Spec(name="baseline18", make=resnet18, published=ResNet18_Weights.DEFAULT),
            Spec(name="nodown18", make=resnet18, published=ResNet18_Weights.DEFAULT, stride=1),
            Spec(name="slim18", make=Slim18, stride=1, mean=(0, 0, 0), std=(RESIDUAL_STD,) * 3),
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


def build(name: str, *, weights: str, seed: int, dropout: float = 0.0) -> Detector:
    """Return a member of the family, in evaluation mode, in the channels-last memory format.

    Args:
        name: a key of `FAMILY`.
        weights: "default" (the published ImageNet weights, random where a member has none),
            "none" (random), or the path of a state dict; see `chosen_weights` for the environment.
        seed: root seed; random weights come from its stream "weights".
        dropout: probability before the last layer.

    Raises:
        UnknownName: no such member.
        WeightsError: the weights cannot be had, or are another network's.
    """
    spec = member(name)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(derive("weights", seed))
        network = spec.make()
        network.fc = Head(_features(network), dropout)
    if weights == "default" and spec.published is not None:
        _adopt(network, _download(spec.published), f"the ImageNet weights of {name}")
    elif weights not in {"default", "none"}:
        _adopt(network, read_state(Path(weights)), f"weights {weights}")
    if isinstance(network, ResNet) and spec.stride == 1:
        network.conv1.stride = (1, 1)  # the same weights on a grid twice as fine
    # on a CPU 1.2 to 1.5 times as fast
    return Detector(spec, network.to(memory_format=torch.channels_last)).eval()


def chosen_weights(weights: str, environment: Mapping[str, str]) -> str:
    """Return `weights`, or what TRUEFACE_WEIGHTS says where it is "default"."""
    return environment.get("TRUEFACE_WEIGHTS") or weights if weights == "default" else weights


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


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict, also one that lies inside a checkpoint; nothing in the file is executed.

    Raises:
        WeightsError: absent, unreadable, or holding more than tensors and plain values.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise WeightsError(f"weights {path} cannot be read safely: {_first(error)}") from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(f"weights {path}: not a state dict (names and tensors)")
    return dict(content)


def load_state(network: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load every tensor of `state` into `network`.

    Raises:
        WeightsError: a name is missing or unknown, or a shape differs; each kind with examples.
    """
    own = network.state_dict()
    missing = [name for name in own if name not in state]
    unknown = [name for name in state if name not in own]
    other = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    reports = [
        f"{len(names)} {title} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
        for title, names in (
            ("missing", missing),
            ("unknown", unknown),
            ("of another shape", other),
        )
        if names
    ]
    if reports:
        raise WeightsError(f"{what} do not fit this model: {'; '.join(reports)}")
    network.load_state_dict(dict(state))


def _adopt(network: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load `state`, but keep our own last layer where that of `state` names other classes."""
    own = network.state_dict()
    fitting = dict(state)
    if "fc.weight" not in state or state["fc.weight"].shape != own["fc.weight"].shape:
        fitting |= {name: own[name] for name in ("fc.weight", "fc.bias")}
    load_state(network, fitting, what)


def _download(published: WeightsEnum) -> Mapping[str, Tensor]:
    try:
        state: Mapping[str, Tensor] = published.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        raise WeightsError(
            f"the published weights {published} cannot be had: {_first(error)}; give a file of them"
            " (--weights PATH, or TRUEFACE_WEIGHTS=PATH in the environment) or start from random"
            " ones (--weights none, or TRUEFACE_WEIGHTS=none)"
        ) from error
    return state


def _stage(width_in: int, width: int, *, stride: int) -> nn.Sequential:
    shortcut = None
    if stride != 1 or width_in != width:
        shortcut = nn.Sequential(
            nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width)
        )
    blocks = BasicBlock(width_in, width, stride, shortcut), BasicBlock(width, width)
    for block in blocks:
        # each block starts as the identity: P. Goyal et al., arXiv 1706.02677, section 5.1
        nn.init.zeros_(block.bn2.weight)
    return nn.Sequential(*blocks)


def _features(network: nn.Module) -> int:
    last = network.fc
    if not isinstance(last, nn.Linear):
        raise TypeError(f"the last layer of a detector is linear, not {type(last).__name__}")
    return last.in_features


def _first(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
