"""Named random streams: every use of chance has a name, and one root seed fixes them all.

Two streams with different names are independent, so that one more draw in one place (an image
more to augment, a layer more to initialise) leaves every other place as it was.
"""

import hashlib

import numpy as np
import torch


def derive(name: str, seed: int) -> int:
    """Return the seed of the stream `name` under the root seed, in 0 … 2⁶³ - 1."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream(name: str, seed: int) -> torch.Generator:
    """Return a fresh generator on the CPU for the stream `name`."""
    return torch.Generator().manual_seed(derive(name, seed))


def numpy_stream(name: str, seed: int) -> np.random.Generator:
    """Return a fresh NumPy generator for the stream `name`."""
    return np.random.default_rng(derive(name, seed))
