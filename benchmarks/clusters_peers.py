"""submitit and HyperQueue beside our pilots on the same Slurm; each is left out where it is not installed."""

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.clusters.slurm_site import SlurmSite

PATIENCE_S = 120.0
PAUSE_S = 0.05
# an interpreter that has submitit: its tasks import it on the nodes
SUBMITIT_PYTHON = "SUBMITIT_PYTHON"
SUBMITIT = """
import sys, time
import submitit

def nothing(number):
    return number

count, folder = int(sys.argv[1]), sys.argv[2]
executor = submitit.AutoExecutor(folder=folder, cluster="slurm")
executor.update_parameters(slurm_array_parallelism=count, timeout_min=10, cpus_per_task=1)
since = time.time()
jobs = executor.map_array(nothing, range(count))
print(since, time.time(), jobs[0].job_id.partition("_")[0])
"""


def missing() -> Mapping[str, str]:
    """Return which peers are not there, and how they would be."""
    absent = {}
    if not os.environ.get(SUBMITIT_PYTHON):
        absent["submitit"] = f"pip install submitit; {SUBMITIT_PYTHON} names that interpreter"
    if shutil.which("hq") is None:
        absent["HyperQueue"] = "its program hq, not its Python package, in PATH"
    return absent


def submitit(site: SlurmSite, count: int, seconds: float) -> dict[str, float]:
    """Submit no-ops as submitit's array; let it work for a while, and end it.

    Args:
        site: whose Slurm is used.
        count: how many tasks.
        seconds: how long it may work; so many would take minutes.
    """
    folder = site.folder / "submitit"
    folder.mkdir()
    words = [os.environ[SUBMITIT_PYTHON], "-c", SUBMITIT, str(count), str(folder)]
    # its pickles import from the folder it was called in
    since, submitted, array = _run(site, words).split()
    ends = _watch(lambda: len(list(folder.glob("*_result.pkl"))), count, seconds)
    _run(site, ["scancel", array])
    return {"submitted, s": float(submitted) - float(since), **ends}


def hyperqueue(site: SlurmSite, count: int, seconds: float) -> dict[str, float]:
    """Run no-ops by HyperQueue, whose automatic allocation submits workers to Slurm.

    Args:
        site: whose Slurm is used.
        count: how many tasks.
        seconds: how long it may work.
    """
    server = site.folder / "hyperqueue"
    hq = ["hq", f"--server-dir={server}"]
    process = subprocess.Popen([*hq, "server", "start"], env=site.surroundings, cwd=site.folder,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        site.until((server / "hq-current").exists, "HyperQueue's server is there", PATIENCE_S)
        limits = ("--backlog=3", "--max-worker-count=3", "--time-limit=10m")
        _run(site, [*hq, "alloc", "add", "slurm", *limits, "--", "--cpus-per-task=2"])
        since = time.time()
        _run(site, [*hq, "submit", f"--array=1-{count}", "--stdout=none", "--stderr=none", "true"])
        submitted = time.time()
        ends = _watch(lambda: _finished(site, hq), count, seconds)
    finally:
        subprocess.run([*hq, "server", "stop"], env=site.surroundings, check=False)
        process.wait(PATIENCE_S)
    return {"submitted, s": float(submitted) - float(since), **ends}


def _finished(site: SlurmSite, hq: Sequence[str]) -> int:
    lines = _run(site, [*hq, "job", "info", "1"]).splitlines()
    words = next((line.split() for line in lines if "FINISHED" in line), [])
    counts = [int(word.strip("()/")) for word in words if word.strip("()/").isdecimal()]
    return counts[0] if counts else 0


def _watch(done: object, count: int, seconds: float) -> dict[str, float]:
    """Count until all are done or the time is over; return how fast they were after the first."""
    assert callable(done)
    began = time.monotonic()
    first, at = 0, began
    while (number := done()) < count and time.monotonic() < began + seconds:
        if not first and number:
            first, at = number, time.monotonic()
        time.sleep(PAUSE_S)
    return {"jobs/s after the first": (number - first) / max(PAUSE_S, time.monotonic() - at)}


def _run(site: SlurmSite, words: Sequence[str]) -> str:
    done = subprocess.run(
        words, env=site.surroundings, cwd=Path(site.folder), capture_output=True, text=True,
        timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout
