"""Folders of images: read as tensors by name, paired with another folder, written by a job.

A job writes lossless PNG files with the names of the originals, and `made.json`. The noise of an
image depends on its name, so that the batch size changes nothing.
"""

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor

from trueface.data.folders import describe_names, is_image, stem
from trueface.data.index import describe_links
from trueface.data.loading.decoding import decode_array
from trueface.data.settings import PARTS
from trueface.runtime.artifact import replace_folder, staging_folder
from trueface.runtime.digests import sha256_hex
from trueface.runtime.errors import BadImageError, DataError, JobError
from trueface.runtime.files import Json, file_sha256, read_json, write_atomic, write_json
from trueface.runtime.image_files import open_image, unreadable_reason
from trueface.runtime.rng import stream_seed, torch_rng

GREY = frozenset({"1", "L", "LA"})  # modes of Pillow
GREY_16_BITS = "I;16"  # begins the modes of each byte order
CHUNK = 256  # images that are decoded at once


def image_names(root: Path, *, limit: int = 0) -> tuple[str, ...]:
    """Return the relative names of all images below a folder, sorted, without hidden files.

    Args:
        root: the folder.
        limit: number of images, evenly spread over the sorted names. 0 takes all.

    Raises:
        DataError: the folder is missing, has no image, two images that differ only in suffix, or a
        dangling link.
    """
    if not root.is_dir():
        raise DataError(f"folder {root} does not exist")
    dangling = list[str]()
    names = sorted(_walk_names(root, PurePosixPath(), dangling))
    if not names:
        raise DataError(f"{root} contains no images. It needs files such as .png or .jpg.")
    _refuse_twins(root, names)
    if dangling:
        raise DataError(
            f"{len(dangling)} of {len(names)} images in {root} are broken links, such as "
            f"{describe_links(sorted(dangling))}. Restore their targets or remove the links."
        )
    if 0 < limit < len(names):
        names = [names[at * len(names) // limit] for at in range(limit)]
    return tuple(names)


def _walk_names(folder: Path, prefix: PurePosixPath, dangling: list[str]) -> Iterator[str]:
    """Yield the names of images; add those that are links that lead nowhere, as paths."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _walk_names(Path(entry.path), prefix / entry.name, dangling)
            elif is_image(entry.name):
                # os.path, as a Path for each link takes longer than to look where it leads
                if entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110
                    dangling.append(entry.path)
                yield str(prefix / entry.name)


def _refuse_twins(root: Path, names: Sequence[str]) -> None:
    """Refuse two images of one name: their outputs would be one file, with the same noise."""
    first: dict[str, str] = {}
    for name in names:
        earlier = first.setdefault(stem(name), name)
        if earlier != name:
            raise DataError(
                f"{root} contains {earlier} and {name}, but images are paired by name without the "
                "suffix. Rename one of them."
            )


def partners(root: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Return the images of a folder whose names equal given names, except for the suffix.

    Raises:
        DataError: one or more are missing. The message names the first ones.
    """
    there = {stem(name): name for name in image_names(root)}
    missing = [name for name in names if stem(name) not in there]
    if missing:
        raise DataError(
            f"{root} has no image for {describe_names(missing)}. Images are paired by name; make this folder "
            "again."
        )
    return tuple(there[stem(name)] for name in names)


def divide_into_parts(names: Sequence[str], seed: int) -> dict[str, tuple[str, ...]]:
    """Divide images into the parts A, B and C of 70, 20 and 10 % (see `divide_by_hash`).

    The original splits the sorted list instead, which puts neighbours, such as frames of a video,
    into one part.
    """
    return divide_by_hash(names, PARTS, seed)


def divide_by_hash(
    names: Sequence[str], shares: Mapping[str, float], seed: int
) -> dict[str, tuple[str, ...]]:
    """Divide images by the order of a hash of their names, which suffixes do not change.

    Args:
        names: of the images, each once.
        shares: of the parts, which sum to 1; what rounding leaves is in the last one.
        seed: of the order.
    """
    ordered = sorted(names, key=lambda name: (stream_seed(f"part/{stem(name)}", seed), name))
    parts, start, share = {}, 0, 0.0
    for part, own in shares.items():
        share += own
        end = round(len(ordered) * share)
        parts[part], start = tuple(sorted(ordered[start:end])), end
    return parts


def shape_of(root: Path, name: str) -> tuple[int, int, int]:
    """Return channels (1 for grey, otherwise 3), height and width of an image from its header.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with open_image(root / name) as file:
            is_grey = file.mode in GREY or file.mode.startswith(GREY_16_BITS)
            return 1 if is_grey else 3, file.height, file.width
    except Exception as error:  # parsers of broken files raise whatever they trip over
        raise _unreadable_error(root / name, unreadable_reason(error)) from error


def read_image(path: Path, *, channels: int = 3) -> NDArray[np.uint8]:
    """Return the pixels of an image file, (H, W, channels).

    Args:
        path: of the file.
        channels: 3 (RGB) or 1 (grey).

    Raises:
        DataError: it cannot be read; names the file and the reason.
    """
    try:
        return decode_array(path, channels=channels)
    except BadImageError as error:
        raise _unreadable_error(path, error.reason) from error


def load_image_batch(
    root: Path, names: Sequence[str], *, size: int | tuple[int, int] = 0, channels: int = 3
) -> Tensor:
    """Return images as one tensor, N×C×H×W in [-1, 1], float32.

    Args:
        root: the folder.
        names: relative to it; at least one.
        size: side in pixels, or height and width, that every image must have. 0: the size of the
            first.
        channels: 3 (RGB) or 1 (grey).

    Raises:
        DataError: a file cannot be read, or has another size.
    """
    images = []
    expected = size if isinstance(size, tuple) else (size, size)
    for name in names:
        pixels = read_image(root / name, channels=channels)
        images.append(torch.from_numpy(pixels))
        if expected == (0, 0):
            expected = (pixels.shape[0], pixels.shape[1])
        if pixels.shape[:2] != expected:
            height, width = pixels.shape[:2]
            raise DataError(
                f"{root / name} has {width}x{height} pixels, expected {expected[1]}x{expected[0]}. "
                "Resize the images of this folder first."
            )
    return to_minus_one_one(torch.stack(images).permute(0, 3, 1, 2))


def load_images(
    root: Path, names: Sequence[str] | None = None, *, size: int, channels: int = 3, cpus: int = 1
) -> Tensor:
    """Return images as one tensor, N×C×H×W, uint8, of which memory holds no second copy.

    Args:
        root: the folder.
        names: relative to it; None: of all images below it.
        size: the side that each of them must have, in pixels.
        channels: 3 or 1.
        cpus: threads that decode.

    Raises:
        DataError: there is no image, one of another size, or one that cannot be read.
    """
    names = image_names(root) if names is None else names
    whole = torch.empty((len(names), channels, size, size), dtype=torch.uint8)

    def fill(first: int) -> None:
        part = slice(first, first + CHUNK)
        whole[part] = to_uint8(load_image_batch(root, names[part], size=size, channels=channels))

    with ThreadPoolExecutor(max(cpus, 1)) as pool:
        for _ in pool.map(fill, range(0, len(names), CHUNK)):  # raises what a thread has raised
            pass
    return whole


def digest_of_images(
    images: Tensor, labels: Tensor | None = None, names: Sequence[str] = ()
) -> str:
    """Return the SHA-256 of images, their classes, and the classes' names."""
    tensors = (images,) if labels is None else (images, labels)
    contents = (tensor.contiguous().numpy().data for tensor in tensors)
    return sha256_hex(repr((tuple(images.shape), tuple(names))), *contents)


def _unreadable_error(path: Path, reason: str) -> DataError:
    return DataError(f"{path} cannot be read as an image: {reason}. Fix or remove the file.")


def to_minus_one_one(levels: Tensor) -> Tensor:
    """Return grey levels 0 … 255 in [-1, 1]: one level is 2/255."""
    return levels.to(torch.float32) / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Return images of [-1, 1] as grey levels, uint8, rounded to the nearest and cut to 0 … 255."""
    return ((images.detach().to(torch.float32) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def round_to_levels(images: Tensor) -> Tensor:
    """Return images as they are when they come back from a PNG."""
    return to_minus_one_one(to_uint8(images))


def save_picture(path: Path, picture: Tensor) -> None:
    """Write a picture C×H×W in [-1, 1] as PNG, atomically."""
    buffer = io.BytesIO()
    to_picture(to_uint8(picture).permute(1, 2, 0).cpu().numpy()).save(buffer, "PNG")
    write_atomic(path, buffer.getvalue())


def to_picture(levels: NDArray[np.uint8]) -> PIL.Image.Image:
    """Return pixels (H, W, C) as an RGB or grey image."""
    return PIL.Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels)


def digest_of(root: Path, names: Sequence[str]) -> str:
    """Return the SHA-256 of some images' names and contents."""
    return sha256_hex(*(f"{name}\0{file_sha256(root / name)}\n" for name in names))


class PerImageRNG:
    """Draws random numbers for each image of a batch from a generator of its own.

    A name is taken without its suffix. Two draws of the same `stream` are equal.

    Args:
        names: of the batch's images, relative to their folder.
        seed: of the job.
    """

    def __init__(self, names: Sequence[str], seed: int) -> None:
        self.names, self.seed = tuple(names), seed

    def normal(self, stream: str, template: Tensor) -> Tensor:
        """Return standard normal numbers in the shape of a batch N×…, on its device."""
        return self._draw_like(stream, template, uniform=False)

    def uniform(self, stream: str, template: Tensor) -> Tensor:
        """Return numbers in [-1, 1) in the shape of a batch N×…, on its device."""
        return self._draw_like(stream, template, uniform=True) * 2 - 1

    def of_rows(self, rows: Sequence[int]) -> "PerImageRNG":
        """Return the noise of some images of the batch, by their places in it."""
        return PerImageRNG([self.names[row] for row in rows], self.seed)

    def _draw_like(self, stream: str, template: Tensor, *, uniform: bool) -> Tensor:
        draw = torch.rand if uniform else torch.randn
        rows = []
        for name in self.names:
            rng = torch_rng(f"{stream}/{stem(name)}", self.seed)
            rows.append(draw(template.shape[1:], generator=rng))
        return torch.stack(rows).to(template)


MADE = "made.json"
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class ImageFolderWriter:
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
                f"the model made {broken[0]} with values that are not finite. Check the training "
                "of the model."
            )
        levels = to_uint8(images).permute(0, 2, 3, 1).cpu().numpy()
        for name, pixels in zip(names, levels, strict=True):
            path = self.root / f"{stem(name)}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            to_picture(pixels).save(path, compress_level=1)

    def write_output_record(self, facts: Mapping[str, Json]) -> None:
        """Write `made.json`: settings, the digest of the source, the seed, and measured values."""
        write_json(self.root / MADE, {"schema": SCHEMA, **facts})


@contextmanager
def output_folder(path: Path) -> Iterator[ImageFolderWriter]:
    """Give a folder to fill; it is renamed to `path` at the end, and removed after an error."""
    with staging_folder(path) as folder:
        inside = folder / "whole"
        inside.mkdir()
        yield ImageFolderWriter(inside)
        replace_folder(inside, path)


def read_output_record(root: Path) -> Mapping[str, Json]:
    """Return what `made.json` of a folder says.

    Raises:
        DataError: there is none.
    """
    facts = read_json(root / MADE)
    if facts is None:
        raise DataError(
            f"{root} has no {MADE}. A job of disrupt, purify or translate writes this file."
        )
    return facts
