"""Real training images that become self-blended fakes: before the five steps, on the whole image.

The blend replaces an ellipse that stands for the face, so the images must be aligned faces. Whether
an image becomes a fake, and which, is a function of seed, image and epoch, as all augmentation is;
its label follows from the same draw wherever pixels or features of that epoch are used.

After Shiohara and Yamasaki (CVPR 2022, arXiv 2204.08376). Where they train on pairs of each real
image and its blend, a share of the real images is replaced, and other fakes stay as they are.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trueface.data.forging.blending import decoded, encoded, quality_of, self_blended
from trueface.data.index import Image
from trueface.data.vocabulary import UNSHARED
from trueface.runtime.rng import stream


@dataclass(frozen=True, slots=True)
class SelfBlending:
    """Turns a fraction of the unshared real images into fakes, and compresses all unshared ones alike."""

    fraction: float

    def makes_fake(self, image: Image, words: str) -> bool:
        """Return whether an image becomes a fake.

        Args:
            image: of any class.
            words: of seed, epoch and image.
        """
        return self._may(image) and bool(self._stream(words).random() < self.fraction)

    def __call__(self, pixels: Tensor, image: Image, words: str) -> Tensor:
        """Return the image of a file, (3, H, W) uint8, blended with itself where it becomes a fake.

        Unshared images of both classes go through one more JPEG of the same qualities: else having
        been compressed after the blend, or not, would be all there is to learn.
        """
        if image.modifier not in UNSHARED:
            return pixels
        chance = self._stream(words)
        becomes_fake = chance.random() < self.fraction and self._may(image)
        quality = quality_of(chance)
        face = pixels.permute(1, 2, 0).numpy()
        if becomes_fake:
            face = self_blended(face, chance)
        again = decoded(encoded(np.ascontiguousarray(face), quality))
        return torch.from_numpy(again).permute(2, 0, 1)

    def _may(self, image: Image) -> bool:
        return image.label == 0 and image.modifier in UNSHARED

    @staticmethod
    def _stream(words: str) -> np.random.Generator:
        return stream("sbi", words)
