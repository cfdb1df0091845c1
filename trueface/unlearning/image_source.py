"""Images of a training as the source of an unlearning's samples."""

import json
import os
from functools import cache, partial

from trueface.data.examples import ExampleSource
from trueface.data.image_set import ImageLoader
from trueface.runtime.digests import sha256_hex
from trueface.training.settings import LearningSettings


def pixel_source(
    learned: ImageLoader, tested: ImageLoader, settings: LearningSettings
) -> ExampleSource:
    """Return the images of one list as a source of samples.

    Args:
        learned: the images as they are augmented in epochs.
        tested: the same images as in a test.
        settings: of the training.
    """
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
    return sha256_hex(json.dumps(description))


def _stamp(file: str) -> tuple[int, int]:
    """Return size and modification time of a file, since another image may get the same name."""
    try:
        status = os.stat(file)  # noqa: PTH116  # of 200,000 files, without a path of each
    except OSError:  # the file is unreadable, so that its samples are left out
        return 0, 0
    return status.st_size, status.st_mtime_ns
