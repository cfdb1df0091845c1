"""The features of a training whose body stays as it is: what the last layer gets in the place of pixels.

Where pixels repeat, in validation and in an augmentation that is no longer random or comes in
cycles, or where the feature store has them, the body does not see them again.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trueface.data.loaders import Feed, Pass
from trueface.data.qualities.feed import ChunkedFeed, QualityFeed
from trueface.features.bank import BANK_BYTES, Bank
from trueface.features.body import FrozenBody
from trueface.features.matrix import FeatureMatrix
from trueface.features.store import FeatureStore
from trueface.models.detectors import Detector
from trueface.runtime.files import Json, write_atomic
from trueface.runtime.progress import Watch
from trueface.training.settings import LearningSettings


def is_constant(settings: LearningSettings) -> bool:
    """Return whether the body of a network that is trained like this stays as it is, bit by bit."""
    return settings.freeze and settings.freeze_bn


def banks(
    model: Detector,
    training: Pass,
    validation: Pass,
    settings: LearningSettings,
    watch: Watch,
    *,
    limit_bytes: int = BANK_BYTES,
    store: FeatureStore | None = None,
) -> tuple[Bank, Bank]:
    """Return both feeds of a training whose body `is_constant`, with features for pixels.

    They share one body and one bound; validation, which always repeats, has the first claim. A
    stop is heeded while features for training are made, as between two batches.

    Args:
        model: on the device of `watch`; its body is taken as it is now.
        training: as augmented.
        validation: as it is tested.
        settings: of the training.
        watch: device and stop.
        limit_bytes: of the features held in memory.
        store: where features are kept for all jobs; None: nowhere.
    """
    body = FrozenBody(model, device=watch.device, precision=settings.precision)
    tested = Bank(
        body, validation, watch=watch, limit_bytes=limit_bytes, store=store, finishes=True
    )
    learned = Bank(
        body,
        training,
        watch=watch,
        limit_bytes=limit_bytes - tested.held_bytes,
        store=store,
        views=settings.num_epochs,
    )
    return learned, tested


def feature_facts(*feeds: Feed) -> dict[str, Json]:
    """Return where the features of a training come from so far, for the provenance.

    Args:
        feeds: training and validation; {} where they hold pixels.
    """
    banked = [part for feed in feeds for part in parts_of(feed) if isinstance(part, Bank)]
    if not banked:
        return {}
    learned = banked[0]
    return {
        "store": learned.stored_views > 0,
        "views": learned.views,  # epoch e sees view e mod this
        "stored_views": learned.stored_views,
        "rows_read": sum(bank.cost.read for bank in banked),
        "rows_computed": sum(bank.cost.computed for bank in banked),
        # what the rows that were read took when they were computed
        "seconds_saved": sum(bank.cost.saved_s for bank in banked),
    }


def parts_of(feed: Feed) -> Sequence[Feed]:
    """Return the feeds that one is made of: a training in several qualities has one of each."""
    if isinstance(feed, ChunkedFeed):
        return feed.feeds
    return (feed.images,) if isinstance(feed, QualityFeed) else (feed,)


def write_features(
    path: Path, matrix: FeatureMatrix, *, paths: Sequence[str], labels: Sequence[int]
) -> None:
    """Write arrays features (N, F), paths (N,) and labels (N,) as one .npz, atomically.

    No array holds objects: `numpy.load` reads the file as it is, without allow_pickle.

    Args:
        path: the file; its folder is made.
        matrix: the features.
        paths: of all images of the set, also of those that could not be read.
        labels: of all images of the set, 1 fake.
    """
    buffer = io.BytesIO()
    np.savez(
        buffer,
        features=matrix.features,
        paths=np.array([paths[position] for position in matrix.positions], dtype=np.str_),
        labels=np.array([labels[position] for position in matrix.positions], dtype=np.int8),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())
