"""Several augmentations of each image in a batch, for objectives that compare them."""

from collections.abc import Mapping
from dataclasses import replace

from trueface.data.loading.image_set import ImageLoader, ImageSet
from trueface.data.loading.loader import Dataset, Loader
from trueface.data.views import ViewSet, with_views
from trueface.models.detectors import Detector
from trueface.runtime.files import Json
from trueface.training.parts.protocol import Part
from trueface.training.parts.registry import register_part


@register_part("views")
class Views(Part):
    """Gives each training image several rows of a batch, if the objective asks for it."""

    def images(
        self, train_loader: ImageLoader, validation_loader: ImageLoader
    ) -> tuple[ImageLoader, ImageLoader]:
        """Return the loaders, with all views of the training images."""
        views = self.training.settings.views
        return with_views(train_loader, views) if views > 1 else train_loader, validation_loader

    def feeds(
        self, train_loader: Loader[Dataset], validation_loader: Loader[Dataset], model: Detector
    ) -> tuple[Loader[Dataset], Loader[Dataset]]:
        """Return the loaders, with a row for each view of a training image."""
        del model
        dataset, views = train_loader.dataset, self.training.settings.views
        if views == 1:
            return train_loader, validation_loader
        assert isinstance(dataset, ImageSet)
        return replace(train_loader, dataset=ViewSet(dataset, views)), validation_loader

    def facts(self) -> Mapping[str, Json]:
        """Return the number of views, if there are several."""
        views = self.training.settings.views
        return {"views": views} if views > 1 else {}
