"""The classifier that tells what was drawn: its answers and features of images in [-1, 1]."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from trueface.data.made.folders import to_levels
from trueface.models import checkpoint, classifiers
from trueface.models.classifier_registry import Shape
from trueface.models.logits import Split, wide
from trueface.models.pretrained import load_state
from trueface.runtime.errors import CheckpointError, JobError, WeightsError

BATCH_SIZE = 1024


class Recogniser:
    """A classifier of images in [-1, 1], whose classes are matched by name.

    It sees images as they come from a PNG: 8 bits, RGB (grey is repeated), resized to its own side where
    that is another (bilinear, antialiased).

    Args:
        model: gives K logits of pixels uint8 N×3×S×S.
        names: of its K classes.
        size: S; 0: any.
        text: what it is called in tables: its model ID.
        device: where it works.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        names: Sequence[str],
        *,
        size: int = 0,
        text: str = "classifier",
        device: str = "cpu",
    ) -> None:
        self.names, self.size, self.text, self.device = tuple(names), size, text, device
        self._split = Split(model.to(device).eval())

    def answers(self, images: Tensor) -> Tensor:
        """Return the class of each image N×C×H×W, (N,), as numbers of `names`."""
        return self.seen(images)[0]

    @torch.no_grad()
    def seen(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the class of each image, (N,), and what its last layer gets, N×F float32.

        Raises:
            JobError: the classifier does not end in a linear layer.
        """
        classes, features = [], []
        for start in range(0, len(images), BATCH_SIZE):
            inside = self._split.features(self._pixels(images[start : start + BATCH_SIZE]))
            head = self._split.head
            classes.append(wide(functional.linear(inside, head.weight, head.bias)).argmax(1).cpu())
            features.append(inside.cpu())
        return torch.cat(classes), torch.cat(features)

    def number(self, class_name: str) -> int:
        """Return the number of a class.

        Raises:
            JobError: it does not know it.
        """
        if class_name not in self.names:
            raise JobError(
                f"{self.text} does not know the class {class_name!r}; it knows "
                f"{', '.join(self.names)}: train the classifier on the diffuser's class folders"
            )
        return self.names.index(class_name)

    @property
    def features(self) -> str:
        """What features are, for tables."""
        return f"input of the last layer of {self.text}, {self._split.width} numbers"

    def _pixels(self, images: Tensor) -> Tensor:
        side = self.size or images.shape[-1]
        if images.shape[-2:] != (side, side):
            images = functional.interpolate(
                images, (side, side), mode="bilinear", antialias=True, align_corners=False
            )
        levels = to_levels(images.to(self.device))
        return levels.expand(-1, 3, -1, -1) if levels.shape[1] == 1 else levels


def load_recogniser(path: Path, *, text: str, device: str = "cpu") -> Recogniser:
    """Return the classifier of a checkpoint that `classify` wrote.

    Raises:
        CheckpointError: it cannot be read, or is another kind of model.
    """
    kept = checkpoint.load(path)
    settings, names = kept.provenance.get("settings"), kept.provenance.get("class_names")
    if not isinstance(settings, dict) or not isinstance(names, list):
        raise CheckpointError(f"{path} is no network that classify has trained; name one of these")
    known: dict[str, Any] = settings
    shape = Shape(model=kept.arch, stem=known["stem"], size=int(known["size"]), classes=len(names))
    model = classifiers.build(shape, seed=0, channels_last=bool(known.get("channels_last", True)))
    try:
        load_state(model.network, kept.state, f"the parameters of checkpoint {path}")
    except WeightsError as error:
        raise CheckpointError(str(error)) from error
    return Recogniser(
        model, [str(name) for name in names], size=shape.size, text=text, device=device
    )
