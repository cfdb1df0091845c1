"""A Ray cluster of several raylets on this machine, for tests; the process of the tests never imports Ray."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TREE = Path(__file__).parents[2]
STARTS_WITHIN_S = 180.0  # each of Ray's processes; on a busy machine a cluster takes half a minute
MISSING = "ray is not installed: pip install '.[ray]'"


def missing() -> str:
    """Return what keeps a cluster from being started here; '' where nothing does."""
    return "" if importlib.util.find_spec("ray") else MISSING


@dataclass(slots=True)
class RayCluster:
    """A running cluster: a head that takes nothing, and the nodes that are added."""

    process: "subprocess.Popen[str]"
    address: str = ""

    def add(self, name: str, *, cpus: int, gpus: int = 0) -> None:
        """Start a node; it has plenty of a resource `on-NAME`, for pilots that are to run there."""
        self._ask(f"add {name} {cpus} {gpus}")

    def kill(self, name: str) -> None:
        """Kill the raylet of a node, and wait for its end."""
        self._ask(f"kill {name}")

    def raylet(self, name: str) -> int:
        """Return the pid of a node's raylet."""
        return int(self._ask(f"pid {name}")["pid"])

    def _ask(self, line: str) -> Mapping[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> Mapping[str, Any]:
        """Return the next answer of the cluster's process."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the cluster's process ended with {self.process.wait(STARTS_WITHIN_S)}"
        answer: Mapping[str, Any] = json.loads(line)
        return answer


@contextmanager
def a_ray_cluster(log: Path, environment: Mapping[str, str] = {}) -> Iterator[RayCluster]:
    """Run a cluster; nothing of it is left afterwards.

    Args:
        log: where its processes print.
        environment: variables of its nodes, and so of the pilots there.
    """
    with log.open("w") as opened:
        process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("cluster_process.py"))],
            env={**os.environ, "PYTHONPATH": str(TREE), "RAY_USAGE_STATS_ENABLED": "0"}
            | dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=opened,
            text=True,
        )
    try:
        cluster = RayCluster(process)
        cluster.address = cluster.answer()["address"]
        yield cluster
    finally:
        process.communicate(timeout=STARTS_WITHIN_S)
