"""A queue with a Ray cluster of its own: a head, and three raylets."""

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from launcher.queue.backends.protocol import AllocationState
from launcher.queue.backends.ray import Ray
from launcher.queue.backends.settings import BackendSettings
from tests.clusters.census import marked, tokens_of
from tests.clusters.site import BACKEND, Site
from tests.ray.cluster import RayCluster, a_ray_cluster

NODES = ("n1", "n2", "n3")
RAYLET = "LAUNCHER_RAYLET"
SETTINGS = """kind = "ray"
cpus = 2
pilots = 3
per_minute = 60
beat = "0.5s"
poll = "1s"
"""


@dataclass(kw_only=True)
class RaySite(Site):
    """The queue, and its cluster."""

    cluster: RayCluster

    def node(self, name: str) -> tuple[set[int], set[str]]:
        """Return the pids of a node's raylet and of its children, and the tokens of its pilots."""
        raylet = self.cluster.raylet(name)
        begun = marked(RAYLET, raylet, self.folder)
        return {raylet, *(process.pid for process in begun)}, tokens_of(begun)

    def daemons(self) -> list[int]:
        """Return nothing: Ray's processes do not know of this proof."""
        return []

    def submissions(self) -> int:
        """Return how many pilots have had attempts."""
        return len(self._tokens())

    def pilots_left(self) -> list[str]:
        """Return the pilots that Ray has."""
        tokens = self._tokens()
        engine = Ray(BackendSettings(name=BACKEND, kind="ray", address=self.cluster.address))
        seen = engine.observe(tokens)
        return [
            token
            for token in tokens
            if seen[token].stage in {AllocationState.WAITING, AllocationState.RUNNING}
        ]

    def _tokens(self) -> list[str]:
        with contextlib.closing(
            sqlite3.connect(f"file:{self.home.database}?mode=ro", uri=True)
        ) as opened:
            rows = opened.execute("SELECT DISTINCT boot FROM attempts WHERE boot LIKE 'pilot:%'")
            return [boot.removeprefix("pilot:") for (boot,) in rows]


@contextlib.contextmanager
def on_ray(place: Path, *, jobs: int, seconds: float, settings: str = "") -> Iterator[RaySite]:
    """Give a queue with a Ray cluster of three nodes in an empty folder.

    Args:
        place: the folder.
        jobs: how many there will be.
        seconds: that each takes.
        settings: further lines of the backend's table.
    """
    with a_ray_cluster(place / "ray.log") as cluster:
        for node in NODES:
            cluster.add(node, cpus=2)
        yield RaySite(
            folder=place,
            settings="\n".join([SETTINGS, f'address = "{cluster.address}"', settings]),
            jobs=jobs,
            seconds=seconds,
            cluster=cluster,
        )
