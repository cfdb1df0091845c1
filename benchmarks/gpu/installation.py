"""Check this machine: a GPU, a torch that can use it, the job types of launcher."""

import configparser
import contextlib
import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pynvml

from benchmarks.gpu.bench import GIB, ROOT
from benchmarks.gpu.report import Value
from launcher.queue.gpu.nvml import describe_error

GROUP = "launcher.kinds"
FACTS = """
import json, torch
print(json.dumps({"torch": torch.__version__, "cuda": torch.cuda.is_available() and torch.version.cuda}))
"""


def absence() -> str:
    """Return why no GPU can be measured, empty if there is one."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return describe_error(error)
    try:
        return "" if pynvml.nvmlDeviceGetCount() else "the driver lists no GPU"
    except pynvml.NVMLError as error:
        return describe_error(error)
    finally:
        pynvml.nvmlShutdown()


def torch_facts() -> dict[str, Value]:
    """Return the card, the driver, torch and the cores; `cuda` is False if torch cannot use it."""
    # in a process of its own: this one must hold nothing of the card while parts run
    done = subprocess.run(
        [sys.executable, "-c", FACTS], capture_output=True, text=True, check=False, timeout=120
    )
    facts: dict[str, Value] = {"torch": "is not installed", "cuda": False}
    if done.returncode == 0:
        facts = json.loads(done.stdout.splitlines()[-1])
    return {**_card(), **facts, "cores": len(os.sched_getaffinity(0))}


def _card() -> dict[str, Value]:
    """Return the properties of the first GPU that the driver reports."""
    card: dict[str, Value] = {}
    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        card["GPU"] = pynvml.nvmlDeviceGetName(handle)
        card["GiB"] = round(pynvml.nvmlDeviceGetMemoryInfo(handle).total / GIB, 1)
        card["driver"] = pynvml.nvmlSystemGetDriverVersion()
    return card


def provide_entry_points(folder: Path) -> None:
    """Let this process's children find the launcher's kinds, where the project is not installed.

    Args:
        folder: for the metadata that an installation would have made.
    """
    if any(point.name == "train" for point in entry_points(group=GROUP)):
        return
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    points = config["options.entry_points"][GROUP].strip()
    package = folder / "site" / "launcher_trueface-0.dist-info"
    package.mkdir(parents=True)
    metadata = "Metadata-Version: 2.1\nName: launcher-trueface\nVersion: 0\n"
    (package / "METADATA").write_text(metadata, encoding="utf-8")
    (package / "entry_points.txt").write_text(f"[{GROUP}]\n{points}\n", encoding="utf-8")
    given = os.environ.get("PYTHONPATH")
    paths = (str(ROOT), str(package.parent), given)
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
