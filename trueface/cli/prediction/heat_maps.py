"""Heat maps of predictions as PNG files: one file, or one for each image in a folder."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from launcher.api import MachineError, UsageError, write_atomic

if TYPE_CHECKING:  # torch takes seconds to import
    from numpy.typing import NDArray
    from torch import Tensor

    from trueface.prediction.heat_map import HeatMap
    from trueface.prediction.predictor import Prediction, Predictor

SUFFIX = ".png"
By = Literal["occlusion", "blocks"]


def refuse(place: Path, files: Sequence[Path]) -> None:
    """Refuse a place that cannot take the maps, before an image is read.

    Raises:
        UsageError: one file for several images, a folder that cannot be made, or a place where maps
            would replace the images.
    """
    if place.suffix.lower() == SUFFIX and not place.is_dir():
        if len(files) > 1:
            raise UsageError(
                f"--heat-map {place} is one file, and there are {len(files)} images: name a folder"
            )
        if not place.parent.is_dir():
            raise UsageError(f"--heat-map: there is no folder {place.parent}")
    elif place.exists() and not place.is_dir():
        raise UsageError(f"--heat-map {place}: name a file that ends with {SUFFIX}, or a folder")
    where = os.path.realpath(place)
    for file in files:
        image = os.path.realpath(file)
        if where in {image, os.path.dirname(image)}:  # noqa: PTH120  # there may be 100,000
            raise UsageError(
                f"--heat-map {place} could replace images that are predicted, such as {file}: name "
                "another place"
            )


@dataclass(slots=True)
class HeatMaps:
    """Writes the heat maps of answers.

    Attributes:
        place: a PNG file, or a folder.
        by: how maps are made.
        predictor: that gave the answers.
    """

    place: Path
    by: By
    predictor: "Predictor"
    names: set[str] = field(default_factory=set)  # of files in the folder so far

    def write(self, answer: "Prediction") -> Path:
        """Make and write the map of an answer; return its file.

        Raises:
            JobError: the network has no exact map by blocks.
            MachineError: the file cannot be written.
        """
        # torch takes seconds to import: the module is imported for help and wrong arguments, too
        from trueface.prediction.heat_map import picture

        pixels = self.predictor.decode(answer.path)
        title = f"{answer.verdict}: {100 * answer.probability:.1f} % fake, logit {answer.logit:.3g}"
        content = picture(pixels, self._map(pixels, answer.path), title=title, by=self.by)
        path = self._path(answer.path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, content)
        except OSError as error:
            raise MachineError(f"cannot write {path}: {error.strerror or error}") from error
        return path

    def _map(self, pixels: "Tensor", file: Path) -> "HeatMap":
        from trueface.prediction import heat_map  # as above

        predictor = self.predictor
        seen = heat_map.seen_window(pixels, predictor.settings.resize_size)
        if self.by == "blocks":
            if predictor.settings.test_crops:
                raise UsageError(
                    "--heat-map-by blocks: this model looks at several crops of an image; take "
                    "--heat-map-by occlusion"
                )
            view = predictor.seen(pixels, file)
            return heat_map.class_activation(predictor.model, view, pixels, seen)

        def score(images: "list[Tensor]") -> "NDArray[np.float64]":
            import torch  # as above

            views = torch.stack([predictor.seen(image, file) for image in images])
            logits: NDArray[np.float64] = predictor.logits(views).double().numpy()
            return logits

        return heat_map.occlusion(pixels, seen, score, batch_size=predictor.settings.batch_size)

    def _path(self, image: Path) -> Path:
        if self.place.suffix.lower() == SUFFIX and not self.place.is_dir():
            return self.place
        name, number = f"{image.stem}{SUFFIX}", 1
        while name in self.names:  # of another folder
            number += 1
            name = f"{image.stem}-{number}{SUFFIX}"
        self.names.add(name)
        return self.place / name
