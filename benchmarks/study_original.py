"""One job of a study in the original's way: a process that passes every image in every epoch.

It reads, decodes and augments each image in every epoch, and passes it through the whole network.

python -m benchmarks.study_original JOB.json

Pillow and torchvision's v2 transforms over whole images, float32, contiguous, validation augmented and
computed in every epoch. All random values are equal to ours, so that both programs give the same
numbers. These are crops, blurs, qualities, the order of images, and the first weights of the last layer. In favour of the
original, batch norms of a frozen backbone keep their statistics. Prints its result as JSON.
"""

import json
import random
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import PIL.Image
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as image_ops

from trueface.data.index import Image
from trueface.data.loading.transforms import BLUR_KERNEL, TrainTransform
from trueface.data.settings import AugmentationSettings
from trueface.models.detectors import NORMALIZATIONS, Detector, build_detector

THRESHOLD = 0.0  # logits above it say fake


class Example(NamedTuple):
    """An image and the label that it is learned with, or scored against."""

    file: str
    key: str
    method: str
    true: int
    label: int

    @property
    def image(self) -> Image:
        """The image, by whose name its augmentation is drawn."""
        return Image(self.file, self.key, self.true, self.method, "pre")


class Original(Dataset[tuple[Tensor, Tensor]]):
    """Images as the original reads them; augmented in the current epoch, or cropped alone."""

    def __init__(
        self, examples: Sequence[Example], settings: dict[str, Any], *, augmented: bool
    ) -> None:
        self._examples, self._size = examples, settings["resize_size"]
        self._normalization = NORMALIZATIONS[settings["normalization"]]
        names = set(AugmentationSettings.model_fields) & set(settings)
        chosen = {name: settings[name] for name in names}
        augmentation = AugmentationSettings(data_root="", split_path="", **chosen)
        self._drawn = TrainTransform(settings=augmentation, seed=augmentation.augment_seed)
        self._augmented, self.epoch = augmented, 0

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return normalised float32 pixels (3, H, W) and the label (1,)."""
        example = self._examples[index]
        with PIL.Image.open(example.file) as file:
            pixels: Tensor = image_ops.pil_to_tensor(file.convert("RGB"))
        if self._augmented:
            pixels = self._changed(pixels, example)
        pixels = image_ops.center_crop(pixels, [self._size, self._size])
        pixels = image_ops.to_dtype(pixels, torch.float32, scale=True)
        mean, std = self._normalization
        return image_ops.normalize(pixels, list(mean), list(std)), torch.tensor(
            [float(example.label)]
        )

    def _changed(self, pixels: Tensor, example: Example) -> Tensor:
        """Return an image after the original's random steps, each over the whole image."""
        size, drawn = [self._size, self._size], self._drawn.parameters
        chosen = drawn(pixels.shape[-2], pixels.shape[-1], example.image, self.epoch)
        if (crop := chosen.crop) is not None:
            pixels = image_ops.resized_crop(
                pixels, crop.top, crop.left, crop.height, crop.width, size
            )
        pixels = image_ops.center_crop(pixels, size)
        if chosen.sigma is not None:
            pixels = image_ops.gaussian_blur(pixels, [BLUR_KERNEL] * 2, [chosen.sigma] * 2)
        if chosen.quality is not None:
            pixels = image_ops.jpeg(pixels, chosen.quality)
        if chosen.mirrored:
            pixels = image_ops.horizontal_flip(pixels)
        return image_ops.vertical_flip(pixels) if chosen.turned else pixels


def train(job: dict[str, Any]) -> dict[str, Any]:
    """Train the last layer for the job's epochs, and keep the weights of the last one."""
    settings = job["settings"]
    model = network_of(settings)
    if job["start"] is not None:
        model.load_state_dict(torch.load(job["start"], weights_only=True))
    model.network.requires_grad_(requires_grad=False)
    model.head.requires_grad_(requires_grad=True)
    learned, checked = (
        Original([Example(*example) for example in job[name]], settings, augmented=True)
        for name in ("train", "val")
    )
    steps = len(batches_of(len(learned), job, 0))
    optimizer = torch.optim.AdamW(
        model.head.parameters(), lr=job["lr"], weight_decay=settings["weight_decay"]
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=job["lr"], total_steps=job["epochs"] * steps + 1
    )
    accuracy = 0.0
    for epoch in range(job["epochs"]):
        learned.epoch = checked.epoch = epoch
        groups = batches_of(len(learned), job, epoch)
        for pixels, labels in DataLoader(learned, batch_sampler=groups):
            loss = functional.binary_cross_entropy_with_logits(model.network(pixels), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch
            optimizer.step()
            schedule.step()
        accuracy = accuracy_of(model, checked, settings["batch_size"])
        torch.save(model.state_dict(), job["weights"])
    return {"val_accuracy": accuracy}


def test(job: dict[str, Any]) -> dict[str, Any]:
    """Score a model on a list."""
    model = network_of(job["settings"])
    model.load_state_dict(torch.load(job["start"], weights_only=True))
    settings = job["settings"]
    images = Original([Example(*example) for example in job["test"]], settings, augmented=False)
    accuracy = accuracy_of(model, images, settings["batch_size"])
    return {"accuracy": accuracy, "n": len(images)}


def network_of(settings: dict[str, Any]) -> Detector:
    """Return the pretrained network; its last layer is random."""
    return build_detector(
        settings["model"],
        weights=settings["weights"],
        seed=settings["seed"],
        normalization=settings["normalization"],
        channels_last=False,
    ).eval()


def batches_of(count: int, job: dict[str, Any], epoch: int) -> list[list[int]]:
    """Return the batches of an epoch, in ours' order."""
    order, size = list(range(count)), job["settings"]["batch_size"]
    random.Random(f"order/{job['order_seed']}/{epoch}").shuffle(order)
    return [order[at : at + size] for at in range(0, count, size)]


def accuracy_of(model: Detector, images: Original, batch_size: int) -> float:
    """Return the fraction of images that are classified as they are labelled."""
    right = seen = 0
    network: nn.Module = model.network
    with torch.no_grad():
        for pixels, labels in DataLoader(images, batch_size=batch_size):
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
