"""Images of a training as the source of an unlearning's samples."""

import hashlib
import json
import os
from functools import cache, partial

from trueface.data.examples import ExampleSource
from trueface.data.image_set import ImageLoader
from trueface.training.settings import LearningSettings


def pixel_source(
    learned: ImageLoader, tested: ImageLoader, settings: LearningSettings
) -> ExampleSource:
    """Return images of one list: augmented in epochs, and as they are tested otherwise."""
    return ExampleSource(
        learned=learned,
        tested=tested,
        identify=cache(partial(identity_of, learned, tested, settings)),
    )


def identity_of(learned: ImageLoader, tested: ImageLoader, settings: LearningSettings) -> str:
    """Return a checksum of the files in their order and of their processing."""
    values = settings.model_dump(mode="json")
    description = [
        [(image.name, *_stamp(image.file)) for image in tested.dataset.images],
        sorted(tested.dataset.stamped),
        {
            **learned.dataset.transform.id.identity,
            **tested.dataset.transform.id.identity,
            "decode": values.get("decode"),
            "seed": values.get("seed"),  # of the order
        },
    ]
    return hashlib.sha256(json.dumps(description).encode()).hexdigest()


def _stamp(file: str) -> tuple[int, int]:
    """Return size and modification time of a file, since another image may get the same name."""
    try:
        status = os.stat(file)  # noqa: PTH116  # of 200,000 files, without a path of each
    except OSError:  # such an image cannot be read either
        return 0, 0
    return status.st_size, status.st_mtime_ns
