"""A folder of images that a job makes: lossless PNG under the names of their originals, and `made.json`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import PIL.Image
import torch
from torch import Tensor

from trueface.data.made.folders import stem, to_levels
from trueface.runtime.artifact import put_in_place, staged
from trueface.runtime.errors import DataError, JobError
from trueface.runtime.files import Json, read_json, write_json

MADE = "made.json"
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class MadeFolder:
    """A folder while it is filled; it appears at its place as a whole."""

    root: Path

    def write(self, names: Sequence[str], images: Tensor) -> None:
        """Write a batch of images, N×C×H×W in [-1, 1], under the names of their originals, as PNG.

        Raises:
            JobError: an image holds numbers that are not finite; names it.
        """
        finite = torch.isfinite(images).flatten(1).all(1).tolist()
        broken = [name for name, is_whole in zip(names, finite, strict=True) if not is_whole]
        if broken:
            raise JobError(
                f"{broken[0]} became an image with numbers that are not finite; "
                "look at the model's training"
            )
        levels = to_levels(images).permute(0, 2, 3, 1).cpu().numpy()
        for name, pixels in zip(names, levels, strict=True):
            path = self.root / f"{stem(name)}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = PIL.Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
            picture.save(path, compress_level=1)

    def record(self, facts: Mapping[str, Json]) -> None:
        """Write `made.json`: settings, the digest of the source, the seed, what was measured."""
        write_json(self.root / MADE, {"schema": SCHEMA, **facts})


@contextmanager
def made_folder(place: Path) -> Iterator[MadeFolder]:
    """Give a folder to fill; it is renamed to `place` at the end, and removed after an error."""
    with staged(place) as folder:
        inside = folder / "whole"
        inside.mkdir()
        yield MadeFolder(inside)
        put_in_place(inside, place)


def read_made(root: Path) -> Mapping[str, Json]:
    """Return what `made.json` of a folder says.

    Raises:
        DataError: there is none.
    """
    facts = read_json(root / MADE)
    if facts is None:
        raise DataError(f"{root} has no {MADE}: a job of disrupt, purify or translate writes it")
    return facts
