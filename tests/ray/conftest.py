"""A Ray cluster for the tests of this folder, and pilots on it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from launcher.queue.backends.pilot_folder import read_pilot_spec
from launcher.queue.backends.pilot_processes import kill_all
from launcher.queue.backends.protocol import AllocationState, Observation
from launcher.queue.backends.ray import Ray
from launcher.queue.backends.settings import BackendSettings
from tests.build import until
from tests.launcher.pilots.desk import Desk, a_pilot
from tests.nvml.standin import Devices
from tests.ray.cluster import STARTS_WITHIN_S, RayCluster, a_ray_cluster, missing

UUIDS = [f"GPU-{number:08x}-0000-4000-8000-000000000000" for number in range(2)]


def ray_or_skip() -> None:
    """Skip a test where Ray is not installed."""
    lacking = missing()
    if lacking:
        pytest.skip(lacking)


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[RayCluster]:
    """A cluster that a file's tests share; it costs time as long as it lives. `n1` has two cores and two GPUs."""
    ray_or_skip()
    devices = Devices(tmp_path_factory.mktemp("gpus"), request.getfixturevalue("nvml_library"))
    for uuid in UUIDS:
        devices.add(uuid=uuid)
    with a_ray_cluster(tmp_path_factory.mktemp("ray") / "log", devices.environment) as cluster:
        cluster.add("n1", cpus=2, gpus=2)
        yield cluster


@dataclass(kw_only=True)
class Bench:
    """Pilots below a folder, and the cluster that they run on."""

    folder: Path
    cluster: RayCluster
    engines: list[Ray] = field(default_factory=list)
    pilots: list[Desk] = field(default_factory=list)

    def engine(self, node: str = "n1", **settings: Any) -> Ray:
        """An engine that knows nothing yet, as after a restart; its pilots run on a node."""
        values = {"address": self.cluster.address, "resources": {f"on-{node}": 1.0}, **settings}
        self.engines.append(Ray(BackendSettings(name="ray", kind="ray", **values)))
        return self.engines[-1]

    def submitted(self, engine: Ray, **spec: Any) -> Desk:
        """Submit a pilot of one core."""
        desk = Desk.of(self.folder, a_pilot("launcher", **{"backend": "ray", "cpus": 1, **spec}))
        self.pilots.append(desk)
        engine.submit([(desk.folder, read_pilot_spec(desk.folder))])
        return desk

    def running(self, engine: Ray, **spec: Any) -> Desk:
        """Submit a pilot and wait for its first message."""
        desk = self.submitted(engine, **spec)
        until(lambda: desk.read() or is_over(engine, desk), "the pilot speaks", STARTS_WITHIN_S)
        assert desk.read(), f"{seen(engine, desk)} {desk.log}"
        return desk


def seen(engine: Ray, pilot: Desk) -> Observation:
    """Return Ray's observation of a pilot."""
    return engine.observe([pilot.folder.token])[pilot.folder.token]


def is_over(engine: Ray, pilot: Desk) -> bool:
    """Whether a pilot has ended."""
    return seen(engine, pilot).stage is AllocationState.ENDED


def await_stage(engine: Ray, pilot: Desk, stage: AllocationState) -> Observation:
    """Wait until Ray says that a pilot is so far."""
    last: list[Observation] = []

    def reached() -> bool:
        last.append(seen(engine, pilot))
        return last[-1].stage in {stage, AllocationState.ENDED}

    until(reached, f"the pilot is {stage}", STARTS_WITHIN_S)
    assert last[-1].stage is stage
    return last[-1]


Benches = Callable[[], Bench]


@pytest.fixture
def bench(cluster: RayCluster, tmp_path: Path) -> Iterator[Bench]:
    """Pilots on the cluster; they and all that they started are killed afterwards."""
    bench = Bench(folder=tmp_path / "pilots", cluster=cluster)
    yield bench
    bench.engines[-1].cancel([pilot.folder.token for pilot in bench.pilots])
    for engine in bench.engines:
        engine.close()
    for pilot in bench.pilots:
        kill_all(pilot.folder, None)
