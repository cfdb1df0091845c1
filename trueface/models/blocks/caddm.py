"""CADDM: S. Dong et al., "Implicit identity leakage", CVPR 2023, arXiv 2210.14457.

A backbone makes maps of 7 by 7 places. Four more blocks reduce them to 7, 5, 3 and 1 places. At each place, two
anchors of a window have a class and four numbers of the window's position, as in SSD (W. Liu et al., ECCV 2016). They
are trained on the part of the face that was swapped, and tests do not use them. The logit is a linear function of the
mean of the backbone's maps plus the last block's map.

Names, and results before the softmax, are those of the published code (github.com/megvii-research/CADDM, Apache-2.0).
As there, pixels are blue, green, red in 0 … 255, and the padding of EfficientNet is that of version 0.6 for its
nominal side.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models import resnet34
from torchvision.models.resnet import BasicBlock

from trueface.models.blocks.efficientnet import EfficientNet, with_backbone

SIDE = 224  # pixels: the only side whose maps the four blocks reduce to one place
RESNET = "resnet34"
CLASSES = 2  # classes of an anchor: background, swapped
COORDINATES = 4
# dropout of the mean of the maps, in training
DROPOUT = {RESNET: 0.0, "b3": 0.3, "b4": 0.4}
ANCHORS = 2  # anchors at each place, of exchanged width and height
PLACES = (7, 5, 3, 1)  # places in a row of the maps of each block
STEPS = (32, 45, 75, 224)  # pixels between them, as published
WINDOWS = ((40, 80), (80, 120), (120, 160), (224, 224))  # height and width of an anchor, in pixels


class Detections(NamedTuple):
    """The outputs of a training: the logit and those of the anchors."""

    logit: Tensor  # (B, 1)
    places: Tensor  # (B, A, 4), relative to the anchor
    classes: Tensor  # (B, A, 2), logits of background and swapped


class ResNetMaps(nn.Module):
    """ResNet-34 up to its last maps."""

    def __init__(self) -> None:
        super().__init__()
        whole = resnet34()
        self.width = whole.fc.in_features
        for name, layer in whole.named_children():
            if name not in {"avgpool", "fc"}:
                self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        """Return the last maps (B, 512, H/32, W/32) of images (B, 3, H, W)."""
        for layer in self.children():
            x = layer(x)
        return x


class EndBlock(nn.Module):
    """The last block, without norms. It reduces 3 by 3 places to one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3)
        self.conv2 = nn.Conv2d(width, width, 1)
        self.downsample = nn.Conv2d(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, F, H - 2, W - 2) of (B, F, H, W)."""
        return (self.conv2(self.conv1(x).relu()) + self.downsample(x)).relu()  # type: ignore[no-any-return]


class MultiScaleDetector(nn.Module):
    """The convolutions from the maps of each block to its anchors."""

    def __init__(self, width: int) -> None:
        super().__init__()
        *others, _ = PLACES
        sides = [*(3 for _ in others), 1]
        self.ms_dets, self.ms_cls = (
            nn.ModuleList(
                nn.Conv2d(width, ANCHORS * numbers, side, padding=side // 2) for side in sides
            )
            for numbers in (COORDINATES, CLASSES)
        )


class ArtifactDetection(nn.Module):
    """The four blocks, and the outputs of the anchors."""

    def __init__(self, width: int) -> None:
        super().__init__()
        blocks = [nn.Sequential(_residual_block(width, kernel)) for kernel in (1, 3, 3)]
        self.adm_extra_layers = nn.ModuleList([*blocks, EndBlock(width)])
        self.multi_scale_detection_module = MultiScaleDetector(width)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps of each block (B, F, n, n), n = 7, 5, 3, 1, of maps (B, F, 7, 7)."""
        maps = []
        for block in self.adm_extra_layers:
            x = block(x)
            maps.append(x)
        return maps

    def detect(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return places (B, A, 4) and classes (B, A, 2) of the anchors of the maps of each block."""
        convolutions = self.multi_scale_detection_module
        return _by_anchor(convolutions.ms_dets, maps, COORDINATES), _by_anchor(
            convolutions.ms_cls, maps, CLASSES
        )


class Caddm(nn.Module):
    """A backbone, the detection of artifacts, and the last layer.

    Args:
        backbone: resnet34, b3 or b4. The last two are EfficientNets.
    """

    # layers of the authors' backbones that are not computed
    unused_parts = ("base_model.fc", "base_model._fc")

    def __init__(self, backbone: str = RESNET) -> None:
        super().__init__()
        self.base_model: ResNetMaps | EfficientNet = (
            ResNetMaps() if backbone == RESNET else EfficientNet(backbone, version="0.6")
        )
        self.drop = nn.Dropout(DROPOUT[backbone])
        self.adm = ArtifactDetection(self.base_model.width)
        self.fc = nn.Linear(self.base_model.width, 1)

    def start_from_backbone(self, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Return the tensors with those of a backbone's file; None if it is another file."""
        if isinstance(self.base_model, EfficientNet):
            return with_backbone(self, state)
        own = self.base_model.state_dict()
        counters = {name for name in own if name.endswith("num_batches_tracked")}
        found = {name: each for name, each in state.items() if not name.startswith("fc.")}
        if found.keys() | counters != own.keys():
            return None
        return {
            **self.state_dict(),
            **{f"base_model.{name}": each for name, each in found.items()},
        }

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, 1) of images (B, 3, 224, 224), red, green, blue in 0 … 255."""
        return self._classify(images)[0]

    def forward_parts(self, images: Tensor) -> Detections:
        """Return the logits of images, and the outputs of their anchors."""
        logits, maps = self._classify(images)
        places, classes = self.adm.detect(maps)
        return Detections(logit=logits, places=places, classes=classes)

    def _classify(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        x = self.base_model(images.flip(1))
        maps = self.adm(x)
        return self.fc(self.drop(x.mean((2, 3))) + maps[-1].flatten(1)), maps


def anchors() -> Tensor:
    """Return the anchors (A, 4): middle across and down, width and height, in sides of the image."""
    rows = []
    for places, step, (short, long) in zip(PLACES, STEPS, WINDOWS, strict=True):
        for down in range(places):
            for across in range(places):
                middle = [(across + 0.5) * step / SIDE, (down + 0.5) * step / SIDE]
                rows += [[*middle, short / SIDE, long / SIDE], [*middle, long / SIDE, short / SIDE]]
    return torch.tensor(rows).clamp(0, 1)


def _residual_block(width: int, kernel: int) -> BasicBlock:
    """Return a block of ResNet-18 whose first convolution is not padded, and has a bias."""
    shortcut = nn.Sequential(nn.Conv2d(width, width, kernel, bias=False), nn.BatchNorm2d(width))
    block = BasicBlock(width, width, downsample=shortcut)
    block.conv1 = nn.Conv2d(width, width, kernel)
    return block


def _by_anchor(convolutions: nn.ModuleList, maps: list[Tensor], numbers: int) -> Tensor:
    """Return outputs (B, A, numbers) of convolutions of the maps of each block."""
    outputs = [
        convolution(each).permute(0, 2, 3, 1).flatten(1)
        for convolution, each in zip(convolutions, maps, strict=True)
    ]
    return torch.cat(outputs, 1).view(len(outputs[0]), -1, numbers)
