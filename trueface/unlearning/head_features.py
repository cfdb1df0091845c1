"""Images of a training as features of a frozen backbone: the samples of an unlearning of the last layer."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

from trueface.data.batch import NO_LABELS, Batch
from trueface.data.examples import BATCH_SIZE, JOIN_SINGLE, CostCounter, ExampleSource
from trueface.data.loading.image_set import ImageLoader
from trueface.data.loading.loader import Dataset, Loader, PassRequest
from trueface.data.loading.prefetching import closing
from trueface.features.bank import FeatureSet, feature_matrix
from trueface.features.matrix import Cost, FeatureMatrix
from trueface.features.store import FeatureStore
from trueface.models.detectors import Detector
from trueface.models.inference import FrozenBackbone
from trueface.runtime.errors import JobError
from trueface.runtime.progress import RunContext
from trueface.runtime.timer import now
from trueface.training.ridge import views_of
from trueface.training.settings import LearningSettings
from trueface.unlearning.image_source import identity_of


def feature_source(
    train_loader: ImageLoader,
    test_loader: ImageLoader,
    model: Detector,
    settings: LearningSettings,
    watch: RunContext,
    *,
    meter: CostCounter,
    store: FeatureStore | None = None,
    copies: Sequence[str] = (),
    copies_seed: int = 0,
) -> ExampleSource:
    """Return images as features of the model's backbone, the inputs of its last layer.

    Args:
        train_loader: the images as they are augmented.
        test_loader: the images as they are tested.
        model: the owner of the backbone.
        settings: of the training.
        watch: device, precision, stop.
        meter: counts the images that are read and the time of computing features, also of stored ones.
        store: the feature store of all jobs. None: no store.
        copies: of the images that a layer in closed form was fitted on: epochs read the images and then
            each copy. (): epochs read the images as they are augmented.
        copies_seed: the seed of the copies.

    Raises:
        JobError: stopped, or the features are not finite.
    """
    began = now()
    body = FrozenBackbone(model, device=watch.device, precision=watch.precision)
    matrix = feature_matrix(body, test_loader, watch, store=store)
    meter.cached_samples += len(matrix)
    meter.cached_seconds += matrix.cost.seconds
    if matrix.cost.computed:
        meter.making_seconds += now() - began
    eval_features = _rows(matrix, len(test_loader))
    features = FeatureSet(body, train_loader, watch=watch, store=store)
    seeded = settings.model_copy(update={"augment_seed": copies_seed})
    views = views_of(train_loader, seeded, copies) if copies else ()
    sets = tuple(FeatureSet(body, view, watch=watch, store=store) for view in views)
    period = len(sets) or train_loader.dataset.transform.id.period
    source: Loader[Dataset] = features.loader()
    if period:
        repeated = FeatureViews(eval_features, sets or (features,) * period, meter)
        source = Loader(
            dataset=FeatureDataset(eval_features, repeated),
            batch_size=BATCH_SIZE,
            order=JOIN_SINGLE._replace(seed=settings.seed),
        )
    else:  # the augmentation never repeats
        source = replace(source, dataset=NewFeatures(features, watch, meter))
    return ExampleSource(
        train_loader=source,
        test_loader=Loader(
            dataset=FeatureDataset(eval_features, lambda _: eval_features),
            batch_size=BATCH_SIZE,
            order=JOIN_SINGLE,
        ),
        identify=cache(lambda: f"{identity_of(train_loader, test_loader, settings)}/{body.sha256}"),
    )


@dataclass(frozen=True, slots=True)
class FeatureDataset:
    """Features in memory as a dataset.

    Args:
        eval_features: (N, F), of as many images.
        rows: from an epoch to features (N, F). Rows of unreadable images are nan.
    """

    eval_features: Tensor
    rows: Callable[[int], Tensor]
    rows_per_position = 1

    def __len__(self) -> int:
        return len(self.eval_features)

    def load(self, request: PassRequest) -> Iterator[Batch]:
        """Yield the batches of a pass. Unreadable images are removed before batches are formed."""
        rows = self.rows(request.epoch)
        readable = (~rows[:, 0].isnan()).tolist()
        good = [position for position in request.positions if readable[position]]
        for group in replace(request, positions=good).groups():
            places = torch.tensor(group, dtype=torch.int64)
            yield Batch(rows[places], NO_LABELS, places)


@dataclass(slots=True)
class FeatureViews:
    """Features of augmented images, which repeat after `len(sets)` epochs."""

    eval_features: Tensor  # (N, F) as they are tested
    sets: tuple[FeatureSet, ...]
    meter: CostCounter
    held: dict[int, Tensor] = field(default_factory=dict)

    def __call__(self, epoch: int) -> Tensor:
        """Return the features of an epoch, (N, F)."""
        number = epoch % len(self.sets)
        features = self.sets[number]
        if features.is_test:
            return self.eval_features
        if number not in self.held:
            cost_before = features.cost
            matrix = features.full_matrix(number)
            _count_saved(features, cost_before, self.meter)
            self.held[number] = _rows(matrix, len(self.eval_features))
        return self.held[number]


@dataclass(frozen=True, slots=True)
class NewFeatures:
    """Features of augmented images that never repeat."""

    features: FeatureSet
    watch: RunContext
    meter: CostCounter
    rows_per_position = 1

    def __len__(self) -> int:
        return len(self.features)

    def load(self, request: PassRequest) -> Iterator[Batch]:
        """Yield the batches of a pass.

        Raises:
            JobError: stopped.
        """
        cost_before = self.features.cost
        with closing(self.features.load(request)) as batches:
            for batch in batches:
                cost_before = _count_saved(self.features, cost_before, self.meter)
                yield batch
        if self.watch.stop.is_set():  # the pass may have ended before its first batch
            raise JobError(
                "stopped. Nothing was written, so the next attempt starts from the beginning."
            )


def _count_saved(features: FeatureSet, cost_before: Cost, meter: CostCounter) -> Cost:
    """Count the time that the store saved, so that a method costs the same with and without a store."""
    cost = features.cost
    meter.saved_seconds += cost.saved_s - cost_before.saved_s
    return cost


def _rows(matrix: FeatureMatrix, count: int) -> Tensor:
    """Return features (count, F). Rows of unreadable images are nan."""
    rows = np.full((count, matrix.features.shape[1]), np.nan, dtype=np.float32)
    rows[matrix.positions] = matrix.features
    return torch.from_numpy(rows)
