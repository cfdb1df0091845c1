"""A scheduler of a machine with more cores than this one, whose main memory no other program uses.

python -m tests.nvml.scheduler HOME CORES [SECONDS]

SECONDS: after which a wait without a cause is named.
"""

import sys
from pathlib import Path

from launcher.queue.scheduler import process
from launcher.queue.scheduler.policy import watchdog
from launcher.scheduler import SERVICES
from launcher.system import memory
from tests import shortened


def main() -> int:
    """Serve the home as a scheduler does that was given so many cores."""
    shortened.apply()
    home, count, *patience = sys.argv[1:]
    if patience:
        watchdog.PATIENCE_S = float(patience[0])

    def cores(root: Path = Path("/")) -> int:
        return int(count)

    process.usable_cores = cores  # type: ignore[attr-defined]  # what it was imported as
    # other tests, and their files in memory, use some; they come and go
    memory.available_bytes = memory.usable_bytes
    return process.main([home], SERVICES)


if __name__ == "__main__":
    sys.exit(main())
