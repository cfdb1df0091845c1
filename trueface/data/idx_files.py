"""Images and labels in IDX files, the format of MNIST and Fashion-MNIST, plain or compressed by gzip.

A file has two zero bytes, the type of its numbers (8: unsigned bytes), the number of its dimensions,
the dimensions as big-endian 32-bit numbers, and the numbers. Source: Y. LeCun, the page of MNIST.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trueface.runtime.errors import DataError

MOST_BYTES = 1 << 30  # bytes of numbers in a file; the largest of EMNIST has 600 MB
_UNSIGNED_BYTES = 8
_PREFIX = {"train": "train", "test": "t10k"}
_AGAIN = "Get the file again."


def read_idx_set(folder: Path, part: str, classes: int) -> tuple[NDArray[np.uint8], list[int]]:
    """Return the images (N, H, W) and the labels of one part of a data set.

    Args:
        folder: of the four files, such as `train-images-idx3-ubyte` or `train-images-idx3-ubyte.gz`.
        part: "train" or "test".
        classes: labels are below this number.

    Raises:
        DataError: a file is missing or broken, or images and labels do not match.
    """
    images_file = _find(folder, f"{_PREFIX[part]}-images-idx3-ubyte")
    labels_file = _find(folder, f"{_PREFIX[part]}-labels-idx1-ubyte")
    images, labels = _read(images_file, 3), _read(labels_file, 1)
    if len(images) != len(labels):
        raise DataError(
            f"{images_file} has {len(images)} images, but {labels_file} has {len(labels)} labels. "
            "Get both files again."
        )
    if len(labels) and int(labels.max()) >= classes:
        raise DataError(
            f"{labels_file} has the label {labels.max()}, but the data set has {classes} classes. {_AGAIN}"
        )
    return images, labels.tolist()


def _find(folder: Path, name: str) -> Path:
    for file in (folder / name, folder / f"{name}.gz"):
        if file.is_file():
            return file
    raise DataError(f"{folder} has no file {name} or {name}.gz. Copy it there.")


def _read(file: Path, dimensions: int) -> NDArray[np.uint8]:
    try:
        with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as opened:
            head = opened.read(4)
            if head != bytes((0, 0, _UNSIGNED_BYTES, dimensions)):
                if not head:
                    raise DataError(f"{file} is empty. {_AGAIN}")
                raise DataError(
                    f"{file} begins with the bytes {head.hex(' ')}, not with "
                    f"00 00 08 {dimensions:02}: it is not an IDX file of this kind. {_AGAIN}"
                )
            sizes = opened.read(4 * dimensions)
            if len(sizes) < 4 * dimensions:
                raise DataError(f"{file} is cut off in its header. {_AGAIN}")
            shape = struct.unpack(f">{dimensions}I", sizes)
            count = math.prod(shape)
            if count > MOST_BYTES:
                raise DataError(f"{file} has {count:,} numbers, more than {MOST_BYTES:,}. {_AGAIN}")
            content = opened.read(count + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {file}: {error}. {_AGAIN}") from error
    if len(content) != count:
        found = f"only {len(content):,} of" if len(content) < count else "more than"
        raise DataError(f"{file} has {found} the {count:,} numbers that its header says. {_AGAIN}")
    return np.frombuffer(content, np.uint8).reshape(shape)
