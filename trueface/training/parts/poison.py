"""Flipped training labels and images with a patch, as listed in a poison record."""

from collections.abc import Mapping
from typing import ClassVar

from trueface.data.loading.image_set import ImageLoader
from trueface.poisoning.loaders import with_poison
from trueface.poisoning.poison_record import PoisonRecord, read_model_record
from trueface.runtime import paths
from trueface.runtime.files import Json, file_sha256
from trueface.training.parts.protocol import Part
from trueface.training.parts.registry import register_part


@register_part(
    "poison",
    conflicts={
        "shots": "shots cannot be used with poison, because the poison record does not know which examples "
        "are chosen",
        "sbi": "sbi cannot be used with poison: self-blending would change the label of real images "
        "whose label the record flips. Leave one of them out.",
    },
)
class Poison(Part):
    """Applies the poison record in the model folder. A model without poison in its ID has no record."""

    identity: ClassVar[tuple[str, ...]] = ("poison_record_sha256",)

    _record: PoisonRecord | None = None

    def images(
        self, train_loader: ImageLoader, validation_loader: ImageLoader
    ) -> tuple[ImageLoader, ImageLoader]:
        """Return the training images with the labels and patches of the record."""
        self._record = record = read_model_record(self.training.model, self.training.folder)
        return train_loader if record is None else with_poison(
            train_loader, record
        ), validation_loader

    def facts(self) -> Mapping[str, Json]:
        """Return the digest of the record."""
        path = paths.poison_record(self.training.folder)
        return {"poison_record_sha256": None if self._record is None else file_sha256(path)}

    def result(self) -> Mapping[str, Json]:
        """Return the number of flipped labels."""
        return {"poisoned": 0 if self._record is None else len(self._record.keys)}
