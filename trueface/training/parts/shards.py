"""Several processes that share each batch. Each reads its shard of the images."""

from collections.abc import Mapping
from dataclasses import replace

from trueface.data.loading.image_set import ImageLoader
from trueface.runtime.files import Json
from trueface.training.parts.protocol import Part
from trueface.training.parts.registry import register_part


@register_part(
    "shards",
    conflicts={
        "ridge": "{model} is fitted in closed form, which uses one process and one GPU at most"
    },
)
class Shards(Part):
    """Limits the images to the shard of this process."""

    def images(
        self, train_loader: ImageLoader, validation_loader: ImageLoader
    ) -> tuple[ImageLoader, ImageLoader]:
        """Return the shard of this process for training and validation images."""
        shard = self.training.group.shard
        return replace(train_loader, shard=shard), replace(validation_loader, shard=shard)

    def facts(self) -> Mapping[str, Json]:
        """Return the number of processes, and the backend that averages their gradients."""
        group = self.training.group
        return {"world_size": group.size, "backend": group.backend}
