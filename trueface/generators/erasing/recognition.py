"""The classifier of samples, the rates of its predictions, and the real images on which it is checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from trueface.evaluation import estimates
from trueface.evaluation.estimate import Estimate
from trueface.generators.diffusion.diffuser import Diffuser
from trueface.generators.made_folders import image_names, load_image_batch, to_uint8
from trueface.models import checkpoint
from trueface.models.logits import BackboneHeadSplit, as_multiclass_logits
from trueface.runtime.errors import CheckpointError, DataError, JobError
from trueface.runtime.files import Json
from trueface.runtime.rng import python_rng

BATCH_SIZE = 1024
PIXELS = frozenset({1, 3})  # numbers of channels of pixel images; latents have others
HELD_OUT = 64  # test images per class on which the classifier is checked


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A fraction of samples with its 95 % interval (Wilson; Clopper-Pearson at 0 and 1)."""

    measure: Estimate
    n: int

    @property
    def value(self) -> float:
        """The fraction."""
        return self.measure.value

    @property
    def json_record(self) -> dict[str, Json]:
        """Return the rate as JSON."""
        return {**self.measure.json_record, "n": self.n}


def rate(hits: Tensor) -> Rate:
    """Return the fraction of true values in a tensor of any shape.

    The interval assumes independent samples. It covers other noise with the same model and classifier.
    """
    n = hits.numel()
    return Rate(measure=estimates.rate(float(hits.double().mean()), n), n=n)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Predictions of the classifier for a model's samples."""

    called: Mapping[str, Mapping[str, float]]  # fraction by sampled class and recognised class
    right: Mapping[str, Rate]  # by class: fraction recognised as the sampled class
    erased: Rate  # fraction of the concept's samples that are recognised as the concept
    anchor: Rate | None  # fraction of the concept's samples that are recognised as the anchor
    others: Rate  # mean over the other classes: fraction recognised as the sampled class


def rates(
    predicted_classes: Tensor,
    drawn_names: Sequence[str],
    class_names: Sequence[str],
    erase: str,
    anchor: str = "",
) -> Rates:
    """Return the rates of samples.

    Args:
        predicted_classes: predicted class of each sample as an index into `class_names`, K×n.
        drawn_names: names of the K sampled classes.
        class_names: names of the classifier's classes.
        erase: the concept.
        anchor: the class that replaces the concept, or "".

    Raises:
        JobError: only one class was sampled, so that there are no other classes.
    """
    if len(drawn_names) < 2:
        raise JobError(f"{erase} is the only class, so no other class can be measured")
    right = {
        name: rate(row == class_names.index(name))
        for name, row in zip(drawn_names, predicted_classes, strict=True)
    }
    kept = [at for at, name in enumerate(drawn_names) if name != erase]
    truth = predicted_classes.new_tensor([[class_names.index(drawn_names[at])] for at in kept])
    under = predicted_classes[list(drawn_names).index(erase)]
    return Rates(
        called={
            name: {
                other: float((row == at).double().mean()) for at, other in enumerate(class_names)
            }
            for name, row in zip(drawn_names, predicted_classes, strict=True)
        },
        right=right,
        erased=right[erase],
        anchor=rate(under == class_names.index(anchor)) if anchor else None,
        others=rate(predicted_classes[kept] == truth),
    )


def refuse_weak_teacher(teacher: Rates, least: float) -> None:
    """Reject a teacher that cannot generate a class, because such a class cannot be erased.

    Raises:
        JobError: the teacher is too weak. The message names each such class with its recognised fraction.
    """
    weak = {name: right.value for name, right in teacher.right.items() if right.value < least}
    if not weak:
        return
    (first, share), *more = weak.items()
    also = "".join(f", {name} ({value:.2f})" for name, value in more)
    raise JobError(
        f"the classifier recognises too few samples of the teacher: {first} ({share:.2f}){also}. Train "
        f"the teacher longer, until at least {least:.2f} of each class are recognised."
    )


class ConceptClassifier:
    """A classifier of images in [-1, 1], whose classes are matched by name.

    Images are converted as if they were read from a PNG file: 8 bits and RGB, with grey repeated. If the
    classifier has another input size, they are resized (bilinear, antialiased).

    Args:
        model: network that returns K logits for pixels, uint8, N×3×S×S.
        names: names of the K classes.
        size: side S in pixels. 0: any.
        text: name of the classifier in tables, its model ID.
        device: device of the network.
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
        self._split = BackboneHeadSplit(model.to(device).eval())

    def predict_classes(self, images: Tensor) -> Tensor:
        """Return the class of each image N×C×H×W as an index into `names`, (N,)."""
        return self.predict_with_features(images)[0]

    @torch.no_grad()
    def predict_with_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the class of each image, (N,), and the features before the last layer, N×F float32.

        Raises:
            JobError: the classifier does not end in a linear layer.
        """
        classes, features = [], []
        for start in range(0, len(images), BATCH_SIZE):
            inside = self._split.features(self._pixels(images[start : start + BATCH_SIZE]))
            head = self._split.head
            classes.append(
                as_multiclass_logits(functional.linear(inside, head.weight, head.bias))
                .argmax(1)
                .cpu()
            )
            features.append(inside.cpu())
        return torch.cat(classes), torch.cat(features)

    def number(self, class_name: str) -> int:
        """Return the number of a class.

        Raises:
            JobError: the classifier does not have this class.
        """
        if class_name not in self.names:
            raise JobError(
                f"{self.text} has no class {class_name!r}, only {', '.join(self.names)}. Train the "
                "classifier on the class folders of the diffuser."
            )
        return self.names.index(class_name)

    @property
    def features(self) -> str:
        """The description of the features, for tables."""
        return f"input of the last layer of {self.text}, {self._split.width} numbers"

    def _pixels(self, images: Tensor) -> Tensor:
        side = self.size or images.shape[-1]
        if images.shape[-2:] != (side, side):
            images = functional.interpolate(
                images, (side, side), mode="bilinear", antialias=True, align_corners=False
            )
        levels = to_uint8(images.to(self.device))
        return levels.expand(-1, 3, -1, -1) if levels.shape[1] == 1 else levels


def load_concept_classifier(path: Path, *, text: str, device: str = "cpu") -> ConceptClassifier:
    """Return the classifier of a checkpoint that `classify` wrote.

    Raises:
        CheckpointError: the file cannot be read, or is of another kind of model.
    """
    kept = checkpoint.load(path)
    settings, names = kept.provenance.get("settings"), kept.provenance.get("class_names")
    if not isinstance(settings, dict) or not isinstance(names, list):
        raise CheckpointError(f"{path} is not a classifier. Give a model of job type classify.")
    form = bool(settings.get("channels_last", True))
    model = checkpoint.classifier_from_checkpoint(kept, path, channels_last=form)
    size = kept.arguments["size"]
    return ConceptClassifier(
        model, [str(name) for name in names], size=size, text=text, device=device
    )


def concept_images(
    root: Path, concept: str, count: int, diffuser: Diffuser, seed: int
) -> tuple[Tensor, tuple[str, ...]]:
    """Return training images of a class in random order, and their names.

    Args:
        root: folder of the class folders, which are in train/ if that folder exists.
        concept: the class.
        count: number of images.
        diffuser: diffuser whose size and channels the images must have.
        seed: seed of the order.

    Raises:
        DataError: there are too few images, or an image has another size.
    """
    folder = class_folder(root, concept)
    names = list(image_names(folder))
    if len(names) < count:
        raise DataError(
            f"{folder} has {len(names)} images, but the attack needs {count}. Add images, or use a "
            "smaller recover_images."
        )
    python_rng(f"recovery/images/{concept}", seed).shuffle(names)
    chosen = tuple(names[:count])
    return real_images(folder, chosen, diffuser), chosen


def held_out_accuracy(
    root: Path, classes: Sequence[str], diffuser: Diffuser, recogniser: ConceptClassifier
) -> Rate | None:
    """Return the classifier's accuracy on real test images at the diffuser's size, or None without test/.

    It uses at most 64 images per class, evenly spaced in the sorted list of names.

    Raises:
        DataError: an image cannot be read, or has another size.
    """
    if not (root / "test").is_dir():
        return None
    hits = []
    for name in classes:
        folder = root / "test" / name
        images = real_images(folder, image_names(folder, limit=HELD_OUT), diffuser)
        hits.append(recogniser.predict_classes(images) == recogniser.number(name))
    return rate(torch.cat(hits))


def real_images(folder: Path, names: Sequence[str], diffuser: Diffuser) -> Tensor:
    """Read images in the format of a diffuser, N×C×H×W in [-1, 1].

    Raises:
        DataError: an image cannot be read, or its size differs from that of the diffuser. The images for a
            latent diffuser must only be equal in size.
    """
    if diffuser.channels in PIXELS:
        return load_image_batch(folder, names, size=diffuser.size, channels=diffuser.channels)
    return load_image_batch(folder, names)  # the encoder determines the size


def class_folder(root: Path, name: str) -> Path:
    """Return the folder of a class's training images, which is in train/ if that folder exists."""
    return (root / "train" if (root / "train").is_dir() else root) / name
