"""One part in a process of its own, so that a crash or a broken CUDA context harms no other part.

python -m benchmarks.gpu.child MODULE BENCH
"""

import ctypes
import json
import os
import signal
import sys
import traceback
from importlib import import_module

from benchmarks.gpu.bench import VERDICT, Bench, NotMeasured

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def main() -> int:
    """Run the part and write down how it ended."""
    # asked to end, or the runner was killed: close everything that the part opened
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() == 1:
        return 1
    module, bench = sys.argv[1], Bench.of(sys.argv[2])
    verdict = {"state": "done", "why": ""}
    try:
        import_module(module).measure(bench)
    except NotMeasured as error:
        verdict = {"state": "skipped", "why": str(error)}
    except Exception as error:  # noqa: BLE001  # whatever it is, it ends this part and no other
        traceback.print_exc()
        verdict = {"state": "failed", "why": f"{type(error).__name__}: {first_line(error)}"}
    (bench.path / VERDICT).write_text(json.dumps(verdict), encoding="utf-8")
    return 0


def first_line(error: Exception) -> str:
    """Return the beginning of a message; torch's go on for a page, which the log has."""
    return str(error).partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
