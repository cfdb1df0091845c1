"""Atomic writes of small files, sizes, and the identity of code, re-exported from the launcher."""

from pathlib import Path

from launcher.api import Json as Json
from launcher.api import code_digest as code_digest
from launcher.api import format_bytes as format_bytes
from launcher.api import parse_bytes as parse_bytes
from launcher.api import read_json as read_json
from launcher.api import write_atomic as write_atomic
from launcher.api import write_json as write_json
from trueface.runtime.digests import file_digest


def file_sha256(path: Path | str) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    return file_digest(path).hex()


def link_target(path: str | Path) -> str:
    """Return where a symbolic link leads, as it is written; "" if the path is not a link."""
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""
