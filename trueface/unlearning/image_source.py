"""Images of a training as the source of an unlearning's samples."""

import json
import os
from functools import cache, partial

from trueface.data.examples import ExampleSource
from trueface.data.loading.image_set import ImageLoader
from trueface.runtime.digests import sha256_hex
from trueface.training.settings import LearningSettings


def pixel_source(
    train_loader: ImageLoader, test_loader: ImageLoader, settings: LearningSettings
) -> ExampleSource:
    """Return the images of one list as a source of samples.

    Args:
        train_loader: the images as they are augmented in epochs.
        test_loader: the same images as in a test.
        settings: of the training.
    """
    return ExampleSource(
        train_loader=train_loader,
        test_loader=test_loader,
        identify=cache(partial(identity_of, train_loader, test_loader, settings)),
    )


def identity_of(
    train_loader: ImageLoader, test_loader: ImageLoader, settings: LearningSettings
) -> str:
    """Return a checksum of the files in their order and of their processing."""
    values = settings.model_dump(mode="json")
    description = [
        [(image.name, *_stamp(image.file)) for image in test_loader.dataset.images],
        sorted(test_loader.dataset.stamped),
        {
            **train_loader.dataset.transform.id.identity,
            **test_loader.dataset.transform.id.identity,
            "decode": values.get("decode"),
            "seed": values.get("seed"),  # seed of the order
        },
    ]
    return sha256_hex(json.dumps(description))


def _stamp(file: str) -> tuple[int, ...]:
    """Return size and times of a file, since another image may get the same name, size and modification time."""
    try:
        status = os.stat(file)  # noqa: PTH116  # of 200,000 files, without a path of each
    except OSError:  # the file is unreadable, so that its samples are left out
        return 0, 0
    # programs that copy files set back their modification time, and no program can set back the other
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
