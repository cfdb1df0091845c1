"""The images of a test as they were scored, as a data root of the laboratory's layout.

Each lies where its file lies below the data root that it comes from, as PNG: keys, and with them the
lists of a split, stay the same.
"""

import io
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from trueface.corruptions.pillow import to_image
from trueface.data.index import Image
from trueface.data.loaders import Pass
from trueface.runtime.files import write_atomic
from trueface.runtime.progress import Watch

COMPRESSION = 1  # of PNG, 0 to 9: beyond it files take longer and get little smaller


@dataclass(frozen=True, slots=True)
class ImageWriter:
    """Writes images below `root` as they lie below `data_root`."""

    root: Path
    data_root: Path

    def __call__(self, image: Image, pixels: Tensor) -> None:
        """Write an image, (3, H, W) uint8, whole or not at all."""
        path = self.root / image.path.relative_to(self.data_root).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        file = io.BytesIO()
        to_image(pixels).save(file, "PNG", compress_level=COMPRESSION)
        write_atomic(path, file.getvalue())


def write_images(feed: Pass, write: ImageWriter, watch: Watch) -> None:
    """Write every image of a feed as a network sees it; of several crops none.

    Raises:
        JobError: stopped.
    """
    images, done = feed.image_set.images, 0
    for batch in feed(0):
        watch.refuse_stop(done, len(images))
        done += len(batch.indices)
        for position, pixels in zip(batch.indices.tolist(), batch.images, strict=True):
            write(images[position], pixels)
