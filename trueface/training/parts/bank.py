"""Features of a training with a frozen backbone, which replace pixels for the last layer.

Features are computed once if pixels repeat: in validation, and in an augmentation that is not random or
repeats after some epochs. Features in the feature store are not computed.
"""

from collections.abc import Mapping, Sequence
from typing import cast

from trueface.data.loading.image_loaders import eval_loader
from trueface.data.loading.image_set import ImageLoader, ImageSet
from trueface.data.loading.loader import Dataset, Loader
from trueface.data.quality_feed import (
    ChunkedSet,
    QualitySet,
    QualityTransform,
    split_by_quality,
)
from trueface.features.bank import BANK_BYTES, FeatureSet, keep_features
from trueface.features.store import FeatureStore
from trueface.models.checkpoint import add_reference
from trueface.models.detectors import Detector
from trueface.models.head import RidgeHead
from trueface.models.inference import FrozenBackbone
from trueface.prediction.reference import FeatureDistance, Reference
from trueface.runtime import paths
from trueface.runtime.errors import JobError
from trueface.runtime.files import Json
from trueface.runtime.progress import RunContext
from trueface.training.image_lists import TrainingLists
from trueface.training.parts.protocol import Part, TrainingContext
from trueface.training.parts.registry import register_part
from trueface.training.settings import LearningSettings, has_frozen_backbone
from trueface.training.trainer import TrainingResult


@register_part("bank", chosen_by=("freeze",))
class FeatureCachePart(Part):
    """Replaces pixels by features if a single process trains only the last layer."""

    def __init__(self, training: TrainingContext) -> None:
        super().__init__(training)
        self._feeds: tuple[Loader[Dataset], Loader[Dataset]] | tuple[()] = ()

    def feeds(
        self, train_loader: Loader[Dataset], validation_loader: Loader[Dataset], model: Detector
    ) -> tuple[Loader[Dataset], Loader[Dataset]]:
        """Return feeds of features, or the given loaders if the backbone is trained.

        Raises:
            JobError: the model was fitted in closed form.
        """
        if model.has_head and isinstance(model.head, RidgeHead):
            raise JobError(
                "the base was fitted in closed form and cannot be fine-tuned with gradient steps. "
                "Train it again with gradient steps, or set solver: ridge to add a few examples."
            )
        training = self.training
        if not has_frozen_backbone(training.settings) or training.group.size > 1:
            return train_loader, validation_loader
        self._feeds = feeds = build_feature_feeds(
            model,
            _images_of(train_loader),
            _images_of(validation_loader),
            training.settings,
            training.watch,
            store=training.store,
        )
        return feeds

    def finish(self, lists: TrainingLists, model: Detector, result: TrainingResult) -> None:
        """Add the reference for predictions to the checkpoint, if validation scores are available.

        No features are computed for it. If some were not computed in training, it has no feature distance.
        """
        del model
        predictions = result.val_predictions
        if predictions is None or not self.training.settings.save_weights:
            return
        distance = distance_of(*self._feeds) if self._feeds else result.features
        videos: list[str] = []
        if self.training.settings.clips is not None:
            files = (lists.val[at].file for at in predictions.positions.tolist())
            videos = [file.rpartition("/")[0] for file in files]
        reference = Reference.from_predictions(
            predictions.labels, predictions.margin, distance, videos
        )
        add_reference(paths.checkpoint(self.training.folder), reference.tensors)

    def facts(self) -> Mapping[str, Json]:
        """Return the sources of the features so far, or {} for pixels."""
        return {"features": feature_facts(*self._feeds)}


def _images_of(loader: Loader[Dataset]) -> ImageLoader:
    """Return the loader as an `ImageLoader`, because no earlier part has replaced it."""
    assert isinstance(loader.dataset, ImageSet)
    return cast(ImageLoader, loader)


@register_part("features", chosen_by=("features",))
class SavedFeatures(Part):
    """The features of each training image, written to the model folder."""

    def finish(self, lists: TrainingLists, model: Detector, result: TrainingResult) -> None:
        """Write the features of the images under the test transform."""
        del result
        training = self.training
        if not training.settings.features:
            return
        images = eval_loader(lists.train, training.settings)
        keep_features(training.folder, "train", model, images, training.watch, training.store)


def build_feature_feeds(
    model: Detector,
    training: ImageLoader,
    validation: ImageLoader,
    settings: LearningSettings,
    watch: RunContext,
    *,
    limit_bytes: int = BANK_BYTES,
    store: FeatureStore | None = None,
) -> tuple[Loader[Dataset], Loader[FeatureSet]]:
    """Return feature loaders for training and validation if the training `has_frozen_backbone`.

    They share one backbone and one memory limit. Validation is cached first, because its pixels always
    repeat. A stop request is checked between batches while training features are computed. If a batch has
    all qualities, each quality has its own features, which trainings with common qualities share.

    Args:
        model: model on the device of `watch`. Its backbone is copied in its current state.
        training: training images with their augmentation.
        validation: validation images with the test transform.
        settings: settings of the training.
        watch: device and stop signal.
        limit_bytes: maximum size of the features in memory.
        store: feature store of all jobs, or None.
    """
    transform = training.dataset.transform
    is_paired = isinstance(transform, QualityTransform) and transform.form == "paired"
    parts = split_by_quality(training) if is_paired else [training]
    train_sets, validation_set = _build_feeds(
        model, parts, validation, settings, watch, limit_bytes, store
    )
    if is_paired:
        chunked = Loader(
            dataset=ChunkedSet(train_sets, training.dataset, watch.stop.is_set),
            batch_size=training.batch_size,
            order=training.order,
        )
        return chunked, validation_set.loader()
    return train_sets[0].loader(), validation_set.loader()


def _build_feeds(
    model: Detector,
    parts: Sequence[ImageLoader],
    validation: ImageLoader,
    settings: LearningSettings,
    watch: RunContext,
    limit_bytes: int,
    store: FeatureStore | None,
) -> tuple[list[FeatureSet], FeatureSet]:
    body = FrozenBackbone(model, device=watch.device, precision=settings.precision)
    validation_set = FeatureSet(
        body, validation, watch=watch, limit_bytes=limit_bytes, store=store, finishes=True
    )
    left_bytes = (limit_bytes - validation_set.held_bytes) // len(parts)
    train_sets = [
        FeatureSet(
            body, part, watch=watch, limit_bytes=left_bytes, store=store, views=settings.num_epochs
        )
        for part in parts
    ]
    return train_sets, validation_set


def distance_of(
    train_feed: Loader[Dataset], validation_feed: Loader[Dataset]
) -> FeatureDistance | None:
    """Return the distribution of the features of a training in all its qualities, or None without features."""
    of_both = (*parts_of(validation_feed), *parts_of(train_feed))
    features = [each for each in of_both if isinstance(each, FeatureSet)]
    views = [view for each in features if (view := each.matrix(0)) is not None]
    if len(views) < 1 + len(parts_of(train_feed)):
        return None
    validation, *training = (view.features for view in views)
    return FeatureDistance.from_features(training, [validation])


def feature_facts(*feeds: Loader[Dataset]) -> dict[str, Json]:
    """Return the sources of the features of a training so far, for its provenance.

    Args:
        feeds: loaders of training and validation. The result is {} if they contain pixels.
    """
    banked = [part for feed in feeds for part in parts_of(feed) if isinstance(part, FeatureSet)]
    if not banked:
        return {}
    first = banked[0]
    return {
        "store": first.stored_views > 0,
        "views": first.views,  # epoch e uses view e mod this number
        "stored_views": first.stored_views,
        "rows_read": sum(bank.cost.read for bank in banked),
        "rows_computed": sum(bank.cost.computed for bank in banked),
        # the time it took to compute the rows that were read from the store
        "seconds_saved": sum(bank.cost.saved_s for bank in banked),
    }


def parts_of(feed: Loader[Dataset]) -> Sequence[Dataset]:
    """Return the datasets of a feed: one per quality, if it has several qualities."""
    dataset = feed.dataset
    if isinstance(dataset, ChunkedSet):
        return dataset.parts
    return (dataset.images,) if isinstance(dataset, QualitySet) else (dataset,)
