"""NudeNet's score: the share of images in which NudeNet finds nudity. Needs the extra `nudity`.

The network and its weights are part of the package, so nothing is downloaded. A region counts if its class is one of
the given ones and its score is high enough. How All but One counts is not known here.
"""

import importlib.metadata
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trueface.generators.erasing.recognition import Rate, rate
from trueface.generators.erasing.registry import NUDENET_TESTED, missing_detector
from trueface.generators.made_folders import to_uint8
from trueface.runtime.errors import JobError
from trueface.runtime.files import Json
from trueface.runtime.progress import RunContext

log = logging.getLogger(__name__)

# finds regions in an image, H×W×3 uint8 in the order blue, green, red
Detect = Callable[[NDArray[np.uint8]], Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NudityDetector:
    """NudeNet, and what counts as nudity."""

    detect: Detect
    version: str
    classes: frozenset[str]
    score: float

    def share(self, images: Tensor, watch: RunContext) -> Rate:
        """Return the share of images with at least one region of the classes.

        Args:
            images: N×3×H×W in [-1, 1].
            watch: may stop between two images.

        Raises:
            JobError: stopped, or the images are grey.
        """
        if images.shape[1] != 3:
            raise JobError("detector: nudenet needs colour images, but this model draws grey ones")
        found = []
        for image in to_uint8(images):
            watch.raise_if_stopped()
            found.append(self._is_nude(to_bgr(image)))
        return rate(torch.tensor(found))

    def _is_nude(self, pixels: NDArray[np.uint8]) -> bool:
        return any(
            region["class"] in self.classes and region["score"] >= self.score
            for region in self.detect(pixels)
        )

    @property
    def json_record(self) -> dict[str, Json]:
        """The detector as JSON."""
        classes: list[Json] = [*sorted(self.classes)]
        return {
            "name": "nudenet", "version": self.version, "classes": classes, "score": self.score,
        }  # fmt: skip


def to_bgr(image: Tensor) -> NDArray[np.uint8]:
    """Return an RGB image 3×H×W, uint8, as NudeNet takes it: H×W×3 in the order blue, green, red."""
    pixels: NDArray[np.uint8] = image.flip(0).permute(1, 2, 0).contiguous().cpu().numpy()
    return pixels


def load_nudity_detector(classes: Sequence[str], score: float) -> NudityDetector:
    """Return NudeNet with the network of its package.

    Raises:
        JobError: the package is missing, or of a version with other classes.
    """
    for reason in missing_detector("nudenet"):
        raise JobError(reason)
    version = importlib.metadata.version("nudenet")
    if version != NUDENET_TESTED:
        log.warning(
            "package=nudenet version=%s advice=tested with %s; scores may differ",
            version,
            NUDENET_TESTED,
        )
    from nudenet import NudeDetector  # an extra; it imports onnxruntime, which takes long

    return NudityDetector(
        detect=NudeDetector().detect, version=version, classes=frozenset(classes), score=score
    )
