"""Named random streams: every use of chance has a name, and one root seed fixes them all.

Two streams with different names are independent. So an additional draw in one place (another image
to augment, another layer to initialise) changes no other place.

The functions take the name and the root seed of a stream. If the name contains the seed already, as
that of an image in an epoch does, they take the name alone. A draw that had no name before this module
keeps its seed: see `seeded_python_rng` and `seeded_numpy_rng`.
"""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trueface.runtime.digests import sha256_digest

if TYPE_CHECKING:
    import numpy as np
    import torch


def stream_seed(name: str, seed: int | None = None) -> int:
    """Return the seed of the stream `name` under the root seed, in 0 … 2⁶³ - 1."""
    return int.from_bytes(_digest(name, seed)[:8], "big") >> 1


def python_rng(name: str, seed: int | None = None) -> random.Random:
    """Return a fresh generator of Python for the stream `name`."""
    return random.Random(name if seed is None else stream_seed(name, seed))


def seeded_python_rng(seed: int) -> random.Random:
    """Return a fresh generator of Python for a seed alone, as published programs make theirs."""
    return random.Random(seed)


def numpy_rng(name: str, seed: int | None = None) -> "np.random.Generator":
    """Return a fresh NumPy generator for the stream `name`."""
    import numpy as np  # 0.1 s, which commands that only list files would take, too

    if seed is None:
        return np.random.default_rng(int.from_bytes(_digest(name, None)[:16], "big"))
    return np.random.default_rng(stream_seed(name, seed))


def seeded_numpy_rng(seed: int | Sequence[int]) -> "np.random.Generator":
    """Return a fresh NumPy generator for a seed alone."""
    import numpy as np  # see `numpy_rng`

    return np.random.default_rng(seed)


def torch_rng(name: str, seed: int | None = None) -> "torch.Generator":
    """Return a fresh generator of torch for the stream `name`, on the CPU."""
    import torch  # 1 s, which they would take as well

    return torch.Generator().manual_seed(stream_seed(name, seed))


def _digest(name: str, seed: int | None) -> bytes:
    text = name if seed is None else f"{seed}/{name}"
    return sha256_digest([text])
