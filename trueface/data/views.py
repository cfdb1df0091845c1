"""Several views of each image in a batch: augmentations that are drawn independently.

A batch has all images in the first view, then all in the second, and so on. The first view is the one
that a training with a single view has.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from trueface.data.batch import Batch
from trueface.data.index import Image
from trueface.data.loading.image_set import ImageLoader, ImageSet
from trueface.data.loading.loader import PassRequest
from trueface.data.loading.prefetching import closing
from trueface.data.loading.transforms import TrainTransform, TransformId
from trueface.data.quality_feed import expand_qualities
from trueface.runtime.rng import stream_seed


@dataclass(frozen=True, kw_only=True)
class ViewTransform:
    """The transform of a training with several views, (V, 3, h, w)."""

    views: tuple[TrainTransform, ...]

    @cached_property
    def id(self) -> TransformId:
        """The identity of its pixels."""
        first = self.views[0].id
        own = {"views": len(self.views)}
        return replace(
            first,
            identity={**first.identity, **own},
            view_identity={**first.view_identity, **own},
            is_test=False,
        )

    def __call__(self, pixels: Tensor, image: Image, epoch: int) -> Tensor:
        """Return the views (V, 3, h, w) of an image (3, H, W), uint8."""
        return torch.stack([view(pixels, image, epoch) for view in self.views])

    def rows_needed(self, height: int, width: int, image: Image, epoch: int) -> int:
        """Return the first row of the image that no view needs."""
        return max(view.rows_needed(height, width, image, epoch) for view in self.views)


@dataclass(frozen=True, slots=True)
class ViewSet:
    """Images in several views, each decoded once; a batch of B images has B·V rows."""

    image_set: ImageSet  # under a `ViewTransform`
    rows_per_position: int  # views

    def __len__(self) -> int:
        return len(self.image_set)

    def load(self, request: PassRequest) -> Iterator[Batch]:
        """Yield the batches of a pass."""
        with closing(self.image_set.load(request)) as batches:
            for batch in batches:
                yield expand_qualities(batch, self.rows_per_position)


def with_views(images: ImageLoader, count: int) -> ImageLoader:
    """Return images of a training in so many views. Decoded images are shared.

    Raises:
        TypeError: the images do not have the transform of a training.
    """
    base = images.dataset.transform
    if not isinstance(base, TrainTransform):
        raise TypeError(f"images of {type(base).__name__} have no views")
    further = (replace(base, seed=stream_seed(f"view/{at}", base.seed)) for at in range(1, count))
    transform = ViewTransform(views=(base, *further))
    return replace(images, dataset=images.dataset.with_transform(transform, goes_on=True))
