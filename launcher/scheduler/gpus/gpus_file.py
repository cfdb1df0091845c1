"""gpus.json: what the scheduler saw last of the GPUs, for screens, which never ask the driver while it lives."""

import logging
import time
from collections.abc import Sequence

from launcher.gpu.recording import gpu_record
from launcher.gpu.snapshot import GpuSnapshot
from launcher.system.files import Json, write_json
from launcher.system.paths import Home

SHOW_EVERY_S = 2.0  # screens may show the GPUs so late

logger = logging.getLogger(__name__)


class GpusFile:
    """The file, written now and then."""

    def __init__(self, home: Home) -> None:
        """Begin without having written it."""
        self._home = home
        self._at = 0.0  # when it was written, monotonic
        self.trouble = ""  # that it states

    def write_soon(self) -> None:
        """Write it at the next chance, however new it is: a GPU has failed, or works again."""
        self._at = 0.0

    def write(self, gpus: Sequence[GpuSnapshot], trouble: str) -> None:
        """Write what was seen where that is due; a full disk stops nothing.

        Args:
            gpus: at the newest look; none: there was none yet.
            trouble: why others cannot know what we reserve; empty: they can.
        """
        if not gpus and not trouble and not self.trouble:
            return
        late = time.monotonic() >= self._at + SHOW_EVERY_S
        if not late and trouble == self.trouble:
            return
        self._at, self.trouble = time.monotonic(), trouble
        seen: list[Json] = [gpu_record(gpu) for gpu in gpus]
        record: dict[str, Json] = {"schema": 1, "at": time.time(), "gpus": seen, "trouble": trouble}
        try:
            write_json(self._home.gpus, record, mode=0o600, durable=False)
        except OSError as error:
            logger.warning("gpus.json trouble=%r", str(error))
