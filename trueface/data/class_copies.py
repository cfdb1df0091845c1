"""Images of equal content in a data set of classes, under different names.

A copy is named by the first image with its content. Copies are drawn together. Copies of training images in
the test, and in several classes, are counted for warnings, for the provenance and for audits.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from trueface.runtime.files import Json

EQUAL_IMAGES = "equal_images"  # key of the provenance of a model; it contains the next two
IN_TEST, IN_CLASSES = "in_training_and_test", "in_several_classes"


class NamedImages(NamedTuple):
    """The names and labels of one list of images."""

    names: Sequence[str]
    labels: Sequence[int]


class EqualImages(NamedTuple):
    """Images that are in two lists or in two classes, and an example of two names."""

    images: int = 0
    example: str = ""  # "train/cat/1.png = test/cat/7.png"; empty if there are none


def read_equal_images(provenance: Mapping[str, Json], kind: str) -> EqualImages | None:
    """Return the equal images that a job recorded, or None if it did not compare them.

    Args:
        provenance: of the model.
        kind: IN_TEST or IN_CLASSES.
    """
    recorded = provenance.get(EQUAL_IMAGES)
    equal = recorded.get(kind) if isinstance(recorded, dict) else None
    count = equal.get("images") if isinstance(equal, dict) else None
    if not isinstance(equal, dict) or not isinstance(count, int):
        return None
    return EqualImages(count, str(equal.get("example", "")))


def find_copies(contents: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    """Return copy → first image with the same content; images without earlier equals are left out.

    Args:
        contents: name and digest of each image; None for one that is equal to no other.
    """
    first: dict[bytes, str] = {}
    copies: dict[str, str] = {}
    for name, content in contents:
        if content is not None and (original := first.setdefault(content, name)) != name:
            copies[name] = original
    return copies


def name_originals(names: Sequence[str], copies: Mapping[str, str]) -> list[str]:
    """Return the name of the image of each name, the same for all copies."""
    return [copies.get(name, name) for name in names]


def find_images_in_test(
    training_names: Sequence[str], test: Sequence[str], copies: Mapping[str, str]
) -> EqualImages:
    """Return the test images with the content of an image that a training read.

    Args:
        training_names: names of the training and validation images.
        test: names of the test images.
        copies: see `find_copies`.
    """
    if not copies:
        return EqualImages()
    by_image: dict[str, str] = {}
    for image, name in zip(name_originals(training_names, copies), training_names, strict=True):
        by_image.setdefault(image, name)
    pairs = [
        (by_image[image], name)
        for image, name in zip(name_originals(test, copies), test, strict=True)
        if image in by_image
    ]
    return EqualImages(len(pairs), " = ".join(pairs[0])) if pairs else EqualImages()


def find_images_in_classes(training_images: NamedImages, copies: Mapping[str, str]) -> EqualImages:
    """Return the images that are in several classes of the training; copies count once."""
    if not copies:
        return EqualImages()
    by_image: dict[str, dict[int, str]] = defaultdict(dict)
    for image, name, label in zip(
        name_originals(training_images.names, copies), *training_images, strict=True
    ):
        by_image[image].setdefault(label, name)
    several = [list(names.values()) for names in by_image.values() if len(names) > 1]
    return EqualImages(len(several), " = ".join(several[0][:2])) if several else EqualImages()
