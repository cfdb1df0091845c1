"""How long a person waits for a command, and a torch worker to be ready; medians, noisy machine.

python -m benchmarks.commands
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

BIN = Path(sys.executable).parent
ROUNDS = 15
JOBS = 9
LAB = """
import time
from launcher.api import Draft, Role, Settings

class Ready:
    name, role, summary, entry, results = "ready", Role.PLAIN, "says when it was ready", "readylab:run", ""
    preload, sources, settings = ("torch", "torchvision"), (), Settings
    def images(self, data): return data
    def elementary(self, data): return data
    def inputs(self, draft): return ()
    def outputs(self, draft): return ()
    def argv(self, draft): return ("true",)

READY = Ready()

def run(job):
    import torch  # imported by the nursery already
    return {"ready": time.time(), "torch": torch.__version__}
"""


def median_ms(action: Callable[[], object]) -> float:
    """Return the median duration of some rounds."""
    spans = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        action()
        spans.append(1000 * (time.perf_counter() - start))
    return statistics.median(spans)


def command_times(environment: Mapping[str, str]) -> None:
    """Print how long commands take that a person types all the time."""
    for words in (["launcher", "--help"], ["launcher", "status"], ["trueface", "--help"]):
        argv = [str(BIN / words[0]), *words[1:]]
        took = median_ms(partial(subprocess.run, argv, capture_output=True, env=environment))
        print(f"{' '.join(words):<34}{took:8.0f} ms")
    cold = median_ms(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True))
    print(f"{'python -c pass':<34}{cold:8.0f} ms")


def worker_times(folder: Path, environment: Mapping[str, str]) -> None:
    """Print how long a torch worker takes from the claim to its entry, and a cold import beside."""
    (folder / "readylab.py").write_text(LAB, encoding="utf-8")
    package = folder / "readylab-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: readylab\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[launcher.kinds]\nready = readylab:READY\n")
    entries = "".join(f"  - {{name: job{n}}}\n" for n in range(JOBS))
    (folder / "ready.yaml").write_text(f"name: ready\nready:\n{entries}", encoding="utf-8")
    environment = {**environment, "PYTHONPATH": str(folder)}
    run = [str(BIN / "launcher"), "run", "ready.yaml"]
    subprocess.run(run, cwd=folder, env=environment, check=True, capture_output=True)
    spans = []
    for number in range(1, JOBS + 1):
        show = [str(BIN / "launcher"), "show", str(number), "--json"]
        said = subprocess.run(show, env=environment, check=True, capture_output=True)
        record = json.loads(said.stdout)
        spans.append(1000 * (record["result"]["ready"] - record["attempts"][0]["claimed"]))
    print(f"{'torch worker, claim to entry':<34}{statistics.median(spans[2:]):8.0f} ms")
    imports = [sys.executable, "-c", "import torch, torchvision"]
    start = time.perf_counter()
    subprocess.run(imports, check=True)
    print(f"{'cold import torch, torchvision':<34}{1000 * (time.perf_counter() - start):8.0f} ms")


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "LAUNCHER_HOME": str(Path(folder) / "home")}
        worker_times(Path(folder), environment)
        command_times(environment)  # after: `status` has a queue to read
        subprocess.run(
            [str(BIN / "launcher"), "stop", "--now"], env=environment, capture_output=True
        )


if __name__ == "__main__":
    main()
