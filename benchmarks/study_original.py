"""One job of a study in the original's way: a process that passes every image in every epoch.

It reads, decodes and augments each image anew, and passes it through the whole network.

python -m benchmarks.study_original JOB.json

Pillow and torchvision's v2 transforms, float32, contiguous, validation augmented and computed in
every epoch. One thing differs from the original, in its favour: batch norms of a frozen body keep
their statistics, as ours do, so that both ways train the same function. Prints its result as JSON.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import PIL.Image
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from trueface.models.detectors import NORMALIZATIONS, Detector, build

THRESHOLD = 0.0  # logits above it say fake


class Example(NamedTuple):
    """An image and the label that it is learned with, or scored against."""

    path: str
    label: int


class Original(Dataset[tuple[Tensor, Tensor]]):
    """Images as the original reads them."""

    def __init__(self, examples: list[Example], transform: v2.Transform) -> None:
        self._examples, self._transform = examples, transform

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return normalised float32 pixels (3, H, W) and the label (1,)."""
        example = self._examples[index]
        with PIL.Image.open(example.path) as file:
            pixels: Tensor = self._transform(file.convert("RGB"))
        return pixels, torch.tensor([float(example.label)])


def transform_of(settings: dict[str, Any], *, augmented: bool) -> v2.Transform:
    """Return the original's transform of trainings, or that of tests."""
    size, patch = settings["resize_size"], settings["patch_size"]
    mean, std = NORMALIZATIONS[settings["normalization"]]
    crop = v2.RandomResizedCrop(size, settings["resize_scale"], settings["resize_ratio"])
    random = [
        v2.RandomApply([crop], settings["resize_prob"]),
        v2.CenterCrop(size),
        v2.RandomApply([v2.GaussianBlur(15, settings["blur_sigma"])], settings["blur_prob"]),
        v2.RandomApply([v2.JPEG(settings["jpeg_qual"])], settings["jpeg_prob"]),
        v2.RandomHorizontalFlip(settings["flip_prob"]),
        v2.RandomVerticalFlip(settings["flip_prob"]),
        *([v2.RandomCrop(patch, pad_if_needed=True)] if patch > 0 else []),
    ]
    steps = random if augmented else [v2.CenterCrop(size)]
    last = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
    return v2.Compose([v2.ToImage(), *steps, *last])


def train(job: dict[str, Any]) -> dict[str, Any]:
    """Train the last layer for the job's epochs, and keep the weights of the last one."""
    settings = job["settings"]
    model = network_of(settings)
    if job["start"] is not None:
        model.load_state_dict(torch.load(job["start"], weights_only=True))
    model.network.requires_grad_(requires_grad=False)
    model.head.requires_grad_(requires_grad=True)
    learned, checked = (loader_of(job[name], settings, augmented=True) for name in ("train", "val"))
    optimizer = torch.optim.AdamW(
        model.head.parameters(), lr=job["lr"], weight_decay=settings["weight_decay"]
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=job["lr"], total_steps=job["epochs"] * len(learned)
    )
    accuracy = 0.0
    for _ in range(job["epochs"]):
        for pixels, labels in learned:
            loss = functional.binary_cross_entropy_with_logits(model.network(pixels), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch
            optimizer.step()
            schedule.step()
        accuracy = accuracy_of(model, checked)
        torch.save(model.state_dict(), job["weights"])
    return {"val_accuracy": accuracy}


def test(job: dict[str, Any]) -> dict[str, Any]:
    """Score a model on a list."""
    model = network_of(job["settings"])
    model.load_state_dict(torch.load(job["start"], weights_only=True))
    loader = loader_of(job["test"], job["settings"], augmented=False)
    return {"accuracy": accuracy_of(model, loader), "n": len(job["test"])}


def network_of(settings: dict[str, Any]) -> Detector:
    """Return the pretrained network; its last layer is random."""
    return build(
        settings["model"],
        weights=settings["weights"],
        seed=settings["seed"],
        normalization=settings["normalization"],
        channels_last=False,
    ).eval()


def loader_of(
    examples: list[list[Any]], settings: dict[str, Any], *, augmented: bool
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Return batches of images, those of trainings in a new order in every epoch."""
    images = Original(
        [Example(*example) for example in examples], transform_of(settings, augmented=augmented)
    )
    return DataLoader(images, batch_size=settings["batch_size"], shuffle=augmented)


def accuracy_of(model: Detector, loader: DataLoader[tuple[Tensor, Tensor]]) -> float:
    """Return the fraction of images that are classified as they are labelled."""
    right = seen = 0
    network: nn.Module = model.network
    with torch.no_grad():
        for pixels, labels in loader:
            right += int(((network(pixels) > THRESHOLD) == (labels > 0)).sum())
            seen += len(labels)
    return right / seen


def main(path: str) -> None:
    """Run the job of a file, and print its result."""
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    torch.manual_seed(job["settings"]["seed"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's, of its JPEG coder
        result = {"train": train, "test": test}[job["kind"]](job)
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1])
