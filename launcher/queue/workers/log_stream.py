"""Standard output and error of Python code in a worker. Output is dropped if the disk of the log is full."""

import io
import sys
from typing import Any, TextIO, cast

from launcher.system.files import DISK_FULL_ERRORS


class LogFile(io.FileIO):
    """A log that drops what cannot be written because its disk is full."""

    def write(self, data: Any) -> int:
        """Write as much as possible; return how much was written or dropped."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in DISK_FULL_ERRORS:
                raise
            return memoryview(data).nbytes


def drop_output_on_full_disk() -> None:
    """Let `print` never fail because the disk of the log is full. A line is written when it is printed."""
    sys.stdout = _log_stream(sys.stdout)
    sys.stderr = _log_stream(sys.stderr)


def _log_stream(stream: TextIO) -> TextIO:
    """Return a stream that writes where another one does, as text of the same kind."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    file = LogFile(stream.fileno(), "w", closefd=False)
    wrapper = io.TextIOWrapper(
        io.BufferedWriter(file),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=True,
    )
    return cast("TextIO", wrapper)
