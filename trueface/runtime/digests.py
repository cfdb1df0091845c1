"""Fingerprints: the SHA-256 of texts, bytes and files. Records and caches compare them, so each keeps its parts.

The parts of a fingerprint are hashed one after another, without a separator. A text is encoded in UTF-8; the
bytes of a file name that is not UTF-8 are restored.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

Part = str | bytes | memoryview


def sha256_hex(*parts: Part) -> str:
    """Return the fingerprint of the parts, 64 hexadecimal digits."""
    return sha256_digest(parts).hex()


def sha256_digest(parts: Iterable[Part]) -> bytes:
    """Return the fingerprint of the parts, 32 bytes. Only one part is in memory at a time."""
    sha256 = hashlib.sha256()
    for part in parts:
        sha256.update(part.encode(errors="surrogateescape") if isinstance(part, str) else part)
    return sha256.digest()


def file_digest(path: Path | str) -> bytes:
    """Return the fingerprint of a file's bytes, 32 bytes.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:  # noqa: PTH123  # a Path for each of a million takes longer
        return hashlib.file_digest(file, "sha256").digest()
