"""Images of classes in memory as trainings read them: shuffled and augmented in epochs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from trueface.data.class_images import Images
from trueface.data.examples import Examples, groups
from trueface.runtime.rng import derive
from trueface.training.class_settings import ClassifySettings

TEST_BATCH_SIZE = 256
MARGIN = 8  # a crop moves an image by up to an eighth of its side: 4 of 32 pixels, as is usual
HELD_BYTES = 1 << 30  # of images that are kept on a GPU; more stay in the computer's memory


@dataclass(frozen=True)
class Pixels:
    """Images as unlearning reads them: shuffled and augmented in epochs, in order otherwise."""

    images: Images
    settings: ClassifySettings
    device: str = "cpu"

    @cached_property
    def identity(self) -> str:
        """A checksum of the images, and of what is done to them."""
        settings = self.settings
        return f"{self.images.sha256}/{settings.flip}/{settings.crop}/{settings.seed}"

    @cached_property
    def _held(self) -> Tensor:
        pixels = self.images.pixels
        return pixels.to(self.device) if pixels.numel() <= HELD_BYTES else pixels

    def __call__(
        self, positions: Sequence[int], *, epoch: int | None, batch_size: int | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Start a pass; see `data.examples.Source`."""
        settings = self.settings
        size = batch_size or (TEST_BATCH_SIZE if epoch is None else settings.batch_size)
        random = torch.Generator()
        random.manual_seed(derive(f"augment/{epoch}", settings.seed))
        for places in groups(positions, epoch, size, settings.seed):
            batch = self._held[places.to(self._held.device)]
            if epoch is not None:
                batch = augmented(batch, random, flip=settings.flip, crop=settings.crop)
            yield batch, places

    def examples(self, positions: Sequence[int] | None = None) -> Examples:
        """Return the images at some positions with their labels; None: all of them."""
        chosen = tuple(range(len(self.images)) if positions is None else positions)
        labels = tuple(self.images.labels[place] for place in chosen)
        return Examples(source=self, positions=chosen, trained=labels, true=labels)


def augmented(batch: Tensor, random: torch.Generator, *, flip: bool, crop: bool) -> Tensor:
    """Return images (B, 3, S, S) flipped and shifted at random, each on its own; black comes in."""
    count, _, side, _ = batch.shape
    if flip:
        mirrored = (torch.rand(count, generator=random) < 0.5).to(batch.device)
        batch = torch.where(mirrored[:, None, None, None], batch.flip(-1), batch)
    margin = side // MARGIN
    if crop and margin:
        padded = functional.pad(batch, (margin,) * 4)
        moved = torch.randint(2 * margin + 1, (2, count, 1), generator=random)
        rows, columns = (moved + torch.arange(side)).to(batch.device)  # (B, S) each
        images = torch.arange(count, device=batch.device)[:, None, None]
        # of two indices with a slice between them the slice goes to the end
        taken = padded[images, :, rows[:, :, None], columns[:, None, :]]  # (B, S, S, 3)
        batch = taken.permute(0, 3, 1, 2)
    return batch
