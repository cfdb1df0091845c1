"""What one step of a training is drawn from: images, classes, steps of noise, and the noise.

Each step has a random stream of its own, named by its number, so that a training that goes on after
an interruption draws what it would have drawn.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from trueface.data.made.folders import to_unit
from trueface.diffusion.settings import SMALL_T, DiffuserSettings
from trueface.runtime.rng import derive


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One step's draw."""

    images: Tensor  # N×C×H×W in [-1, 1], on the device
    labels: Tensor | None  # (N,), on the device; the number of classes: left out
    t: Tensor  # (N,), on the CPU
    noise: Tensor  # like the images


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSource:
    """Images in memory, and how batches of them are drawn.

    Args:
        images: N×C×H×W, uint8.
        labels: (N,); None: they have no classes.
        classes: how many; 0: none.
        settings: of the training.
        device: where batches are wanted.
    """

    images: Tensor
    labels: Tensor | None
    classes: int
    settings: DiffuserSettings
    device: str

    def batch(self, step: int) -> Batch:
        """Return the batch of a step; two calls return the same one."""
        settings, count = self.settings, self.settings.batch_size
        seed = derive(f"step/{step}", settings.seed)
        draw = torch.Generator().manual_seed(seed)
        places = torch.randint(len(self.images), (count,), generator=draw)
        t = torch.randint(1, settings.latest_t + 1, (count,), generator=draw)
        if settings.small_t:
            small = torch.rand(count, generator=draw) < settings.small_t
            most = min(SMALL_T, settings.latest_t + 1)
            t = torch.where(small, torch.randint(1, most, (count,), generator=draw), t)
        images = to_unit(self.images[places].to(self.device))
        if settings.flip:
            mirrored = torch.rand(count, generator=draw) < 0.5
            images = torch.where(
                mirrored.to(self.device)[:, None, None, None], images.flip(3), images
            )
        labels = None if self.labels is None else self.labels[places]
        if labels is not None:
            absent = torch.rand(count, generator=draw) < settings.dropped(self.classes)
            labels = labels.masked_fill(absent, self.classes).to(self.device)
        # large, so drawn where it is needed
        own = draw if self.device == "cpu" else torch.Generator(self.device).manual_seed(seed)
        noise = torch.randn(images.shape, generator=own, device=self.device)
        return Batch(images=images, labels=labels, t=t, noise=noise)
