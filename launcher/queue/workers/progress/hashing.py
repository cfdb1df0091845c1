"""How far the digest of a large file is: its supervisor writes that into the attempt's folder, screens read it."""

import contextlib
import time

from launcher.provenance.file_digests import progress_text
from launcher.queue.home.paths import Attempt
from launcher.system.files import read_bytes

REPORT_AGAIN_S = 0.5  # seconds between two reports; a file that is read sooner has none


class HashingReport:
    """How far the digest of a large file is, in a file of the attempt's folder that screens read."""

    def __init__(self, attempt: Attempt) -> None:
        """Begin without a report."""
        self._attempt = attempt
        self._next_at = time.monotonic() + REPORT_AGAIN_S
        self._is_written = False

    def report(self, path: str, read: int, size: int) -> None:
        """Write how many bytes of a file were read, unless that was reported a moment ago."""
        if (now := time.monotonic()) < self._next_at:
            return
        self._next_at = now + REPORT_AGAIN_S
        with contextlib.suppress(OSError):  # the disk is full, or the job has deleted the folder
            self._attempt.hashing.write_text(progress_text(path, read, size), encoding="utf-8")
            self._is_written = True

    def end(self) -> None:
        """Remove the report."""
        if self._is_written:
            with contextlib.suppress(OSError):
                self._attempt.hashing.unlink()
            self._is_written = False


def read_hashing_report(attempt: Attempt) -> str:
    """Return which file the supervisor of an attempt reads, and how far it is; "" if it reads none."""
    with contextlib.suppress(OSError):
        return read_bytes(attempt.hashing).decode(errors="replace").strip()
    return ""
