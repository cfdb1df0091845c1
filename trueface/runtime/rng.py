"""Named random streams: every use of chance has a name, and one root seed fixes them all.

Two streams with different names are independent. So an additional draw in one place (another image
to augment, another layer to initialise) changes no other place.
"""

import hashlib

import numpy as np


def stream_seed(name: str, seed: int) -> int:
    """Return the seed of the stream `name` under the root seed, in 0 … 2⁶³ - 1."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def numpy_rng(name: str, seed: int) -> np.random.Generator:
    """Return a fresh NumPy generator for the stream `name`."""
    return np.random.default_rng(stream_seed(name, seed))


def rng_from_words(*words: object) -> np.random.Generator:
    """Return a generator that depends on the words alone, not on the order of work."""
    digest = hashlib.sha256("/".join(map(str, words)).encode(errors="surrogateescape")).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))
