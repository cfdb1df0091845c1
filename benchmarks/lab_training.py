"""The speed of a training compared with a loop that works like that of the original.

Both see the same photographs and the same augmentation, from the same random weights:

    reference: Pillow, torchvision's v2 transforms, float32, contiguous. A frozen backbone runs in
        training mode in every epoch. Validation is augmented, and computed in every epoch.
    ours: `train.fit`, with the settings of a task file. Validation is one fixed patch.

Neither writes checkpoints. Both load in their own process. Ratios are those of medians of one run, in
which the two take turns.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import PIL.Image
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision.models import resnet18, resnet50
from torchvision.transforms import v2

from benchmarks.table import Row
from trueface.data.index import Image
from trueface.data.loading.image_loaders import eval_loader
from trueface.models.detectors import build_detector
from trueface.models.registry import IMAGENET_MEAN, IMAGENET_STD
from trueface.poisoning.loaders import poisoned_train_loader
from trueface.runtime.progress import RunContext
from trueface.training.parts.bank import build_feature_feeds
from trueface.training.settings import TrainSettings, has_frozen_backbone
from trueface.training.trainer import fit

ROUNDS = 3  # results are the medians of the rounds
TARGET_FROZEN, TARGET_FULL = 2.0, 1.2  # times the reference
NETWORKS = {"nodown": resnet50, "nodown18": resnet18}
# as in the original, except the size, which is that of the photographs
RANDOM = {
    "resize_prob": 0.2, "resize_size": 256, "resize_scale": [0.2, 1], "resize_ratio": [0.75, 1.33],
    "jpeg_prob": 0.2, "jpeg_qual": [30, 100], "blur_prob": 0.2, "blur_sigma": [1e-6, 3],
    "patch_size": 96, "test_crops": 1,
}  # fmt: skip
FIXED = {"resize_size": 96, "flip_prob": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A training to be timed."""

    what: str
    model: str
    images: int  # for training; a quarter as many for validation
    target: float | None  # times the reference; None if the value has no target
    settings: dict[str, object]
    peer: str = ""  # the case whose reference this one shares; empty: its own

    def choices(self) -> TrainSettings:
        """Return all settings of it."""
        given = {"data_root": "", "split_path": "", "weights": "none", "batch_size": 16}
        return TrainSettings.model_validate({**given, "model": self.model, **self.settings})


def cases(model: str, images: int) -> list[Case]:
    """Return the trainings of a model."""
    frozen = {"freeze": True, "num_epochs": 10, "lr": 1e-3}
    fresh = f"{model}, frozen, 10 epochs, fresh augmentation"

    def frozen_case(what: str, *, peer: str = fresh, **more: object) -> Case:
        settings = {**RANDOM, **frozen, **more}
        return Case(
            what=f"{model}, frozen, 10 epochs, {what}", model=model, images=images,
            target=TARGET_FROZEN if "precision" not in more else None, settings=settings, peer=peer,
        )  # fmt: skip

    return [
        frozen_case("fresh augmentation", peer=""),
        frozen_case("fresh augmentation, bf16", precision="bf16"),
        frozen_case("augment_cycle 2", augment_cycle=2),
        Case(
            what=f"{model}, frozen, 10 epochs, nothing random", model=model, images=images,
            target=TARGET_FROZEN, settings={**FIXED, **frozen},
        ),
        Case(
            what=f"{model}, unfrozen, 2 epochs", model=model, images=images,
            target=TARGET_FULL, settings={**RANDOM, "num_epochs": 2},
        ),
        Case(
            what=f"{model}, unfrozen, 2 epochs, bf16", model=model, images=images, target=None,
            settings={**RANDOM, "num_epochs": 2, "precision": "bf16"},
            peer=f"{model}, unfrozen, 2 epochs",
        ),
    ]  # fmt: skip


def ours(case: Case, train: Sequence[Image], val: Sequence[Image]) -> float:
    """Return the seconds that our training takes."""
    settings = case.choices()
    model = build_detector(case.model, weights="none", seed=1, channels_last=settings.channels_last)
    began = time.perf_counter()
    learned, tested, watch = (
        poisoned_train_loader(train, settings, None),
        eval_loader(val, settings),
        RunContext(),
    )
    if has_frozen_backbone(settings):
        fit(
            model,
            *build_feature_feeds(model, learned, tested, settings, watch),
            settings.trainer,
            watch=watch,
        )
    else:
        fit(model, learned, tested, settings.trainer, watch=watch)
    return time.perf_counter() - began


class Photographs(Dataset[tuple[Tensor, Tensor]]):
    """Images as the original reads and augments them."""

    def __init__(self, images: Sequence[Image], settings: TrainSettings) -> None:
        self._images, self._transform = images, original_transform(settings)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return normalised float32 pixels (3, H, W) and the label (1,)."""
        image = self._images[index]
        with PIL.Image.open(image.path) as file:
            pixels: Tensor = self._transform(file.convert("RGB"))
        return pixels, torch.tensor([float(image.label)])


def original_transform(settings: TrainSettings) -> Callable[[object], Tensor]:
    """Return the original's transform of training and validation."""
    size, patch = settings.resize_size, settings.patch_size
    crop = v2.RandomResizedCrop(size, settings.resize_scale, settings.resize_ratio)
    steps = [
        v2.ToImage(),
        v2.RandomApply([crop], settings.resize_prob),
        v2.CenterCrop(size),
        v2.RandomApply([v2.GaussianBlur(15, settings.blur_sigma)], settings.blur_prob),
        v2.RandomApply([v2.JPEG(settings.jpeg_qual)], settings.jpeg_prob),
        v2.RandomHorizontalFlip(settings.flip_prob),
        v2.RandomVerticalFlip(settings.flip_prob),
        *([v2.RandomCrop(patch, pad_if_needed=True)] if patch > 0 else []),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
    ]
    return v2.Compose(steps)  # type: ignore[no-any-return]  # torchvision


def reference(case: Case, train: Sequence[Image], val: Sequence[Image]) -> float:
    """Return the seconds that the original's way takes."""
    settings = case.choices()
    network = NETWORKS[case.model]()
    network.conv1 = nn.Conv2d(3, 64, 7, stride=1, padding=3, bias=False)
    network.fc = nn.Linear(network.fc.in_features, 1)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not settings.freeze or name.startswith("fc."))
    loaders = [
        DataLoader(Photographs(images, settings), batch_size=settings.batch_size, shuffle=True)
        for images in (train, val)
    ]
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.lr)
    began = time.perf_counter()
    for _ in range(settings.num_epochs):
        _original_epoch(network, loaders[0], optimizer)
        _original_accuracy(network, loaders[1])
    return time.perf_counter() - began


def _original_epoch(
    network: nn.Module, loader: DataLoader[tuple[Tensor, Tensor]], optimizer: torch.optim.Optimizer
) -> None:
    network.train()
    for pixels, labels in loader:
        loss = functional.binary_cross_entropy_with_logits(network(pixels), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        optimizer.step()
        loss.item()


def _original_accuracy(network: nn.Module, loader: DataLoader[tuple[Tensor, Tensor]]) -> float:
    network.eval()
    right = seen = 0
    with torch.no_grad():
        for pixels, labels in loader:
            predicted = network(pixels).sigmoid().round()
            right += int((predicted == labels).sum())
            seen += len(labels)
    return right / seen


def photographs(folder: Path, count: int) -> tuple[list[Image], list[Image]]:
    """Return `count` images for training and an eighth as many for validation, of both classes."""
    files = {
        label: sorted((folder / "PreSocial" / kind).rglob("*.jpg"))
        for label, kind in enumerate(("Real", "Fake"))
    }
    images = [
        Image(file=str(file), key=file.stem, label=label, method=file.parent.name, modifier="pre")
        for pair in zip(*files.values(), strict=False)
        for label, file in enumerate(pair)
    ]
    return images[:count], images[count : count + count // 8]


def measured(folder: Path, model: str, count: int, rounds: int = ROUNDS) -> list[Row]:
    """Return a row for each training of a model."""
    train, val = photographs(folder, count)
    ours_s: dict[str, list[float]] = {}
    reference_s: dict[str, list[float]] = {}
    for _ in range(rounds):
        for case in cases(model, count):
            ours_s.setdefault(case.what, []).append(ours(case, train, val))
            if not case.peer:
                reference_s.setdefault(case.what, []).append(reference(case, train, val))
            print(".", end="", file=sys.stderr, flush=True)
    rows = []
    for case in cases(model, count):
        images = case.choices().num_epochs * (len(train) + len(val))
        there = images / statistics.median(reference_s[case.peer or case.what])
        rows.append(
            Row(
                what=f"{case.what}, images/s",
                ours=images / statistics.median(ours_s[case.what]),
                peers={"reference": there},
                beside="reference",
                target="" if case.target is None else f"{case.target} × reference",
                as_ratio=True,
            )
        )
    return rows
