"""Parts that go wrong in every way, run by the real runner; each does what its name says.

python -m tests.benchmarks.odd_parts FOLDER
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu import runner
from benchmarks.gpu.bench import Bench, NotMeasured
from benchmarks.gpu.parts import Part
from benchmarks.gpu.report import Report

NAMES = ("unable", "leaves", "dies", "raises", "refuses", "refutes", "hangs", "late")
LIMIT_S = 1.0  # limit of the part that hangs
TOTAL_S = 60.0


def measure(bench: Bench) -> None:
    """Do as the part's name says."""
    bench.row("before", 1.5, "GiB", beside_it=2)
    match bench.path.name:
        case "leaves":  # a process in a session of its own, as a scheduler is
            command = ["sleep", "600"]
            left = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
            (bench.path.parent / "left").write_text(str(left.pid))
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "raises":
            raise ValueError("of what is broken")
        case "refuses":
            raise NotMeasured("nothing to measure with")
        case "refutes":
            bench.row("expected", False, holds=False)
        case "hangs":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(TOTAL_S)


def main() -> None:
    """Run all parts; print each report as it would be written."""
    bench = Bench(folder=sys.argv[1], until=time.monotonic() + TOTAL_S, device="cpu")
    parts = {
        name: Part(
            title=name,
            module="tests.benchmarks.odd_parts",
            limit_s=LIMIT_S if name == "hangs" else TOTAL_S,
            usual_s=4 * TOTAL_S if name == "late" else 1.0,
            needs=lambda _, name=name: "no part for it" if name == "unable" else "",  # type: ignore[misc]
        )
        for name in NAMES
    }
    report = Report(machine={"rehearsal": True})
    file, table = Path(sys.argv[1]) / "report.json", Path(sys.argv[1]) / "report.md"
    written: list[int] = []

    def after_each() -> None:
        report.write(file, table)
        written.append(len(json.loads(file.read_text())["parts"]))

    runner.GRACE_S = LIMIT_S / 4
    runner.run_all(parts, bench, report, after_each)
    sys.stdout.write(f"{json.dumps(written)}\n")


if __name__ == "__main__":
    main()
