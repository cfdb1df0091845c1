"""What is done to a Ray cluster of three nodes while jobs run on it."""

import signal

from launcher.system.process_trees import descendants
from tests.clusters.census import processes, signal_all
from tests.clusters.faults import (
    EARLY,
    LEASE,
    Fault,
    freeze_node,
    freeze_submit_host,
    kill_scheduler,
    nothing,
)
from tests.clusters.ray_site import NODES, RaySite


def kill_raylet(site: RaySite) -> None:
    """Kill a node's daemon."""
    site.until_done(EARLY)
    site.cluster.kill("n1")


def kill_raylet_and_pilot(site: RaySite) -> None:
    """Kill a node's daemon, and the pilot there."""
    site.until_done(EARLY)
    site.kill_pilots("n1")
    site.cluster.kill("n1")


def kill_pilot(site: RaySite) -> None:
    """Kill the pilot of a node alone."""
    site.until_done(EARLY)
    site.kill_pilots("n1")


def kill_actors(site: RaySite) -> None:
    """Kill all actors that hold pilots, as Ray does where memory is short."""
    site.until_done(EARLY)
    workers = {pid for node in NODES for pid in descendants(site.cluster.raylet(node))}
    actors = [
        process.pid
        for process in processes()
        if process.pid in workers
        and process.words[0].startswith((b"ray::launcher-", b"ray::Pilot"))
    ]
    assert actors, "no pilot has an actor"
    signal_all(actors, signal.SIGKILL)


def _fault(name: str, does: str, strike: object, **more: object) -> Fault:
    return Fault(name=f"ray-{name}", does=f"Ray: {does}", strike=strike, engine="ray", **more)  # type: ignore[arg-type]


RAY_FAULTS = (
    _fault("none", "nothing", nothing),
    _fault("raylet", "a raylet killed", kill_raylet),
    _fault("raylet-pilot", "raylet and pilot of a node killed", kill_raylet_and_pilot),
    _fault(
        "freeze",
        "a whole node frozen for 16 s with a lease of 4 s, thawed",
        freeze_node,
        settings=LEASE,
        seconds=1.0,
    ),
    _fault("pilot", "a pilot killed", kill_pilot),
    _fault("actors", "all actors killed", kill_actors),
    _fault("scheduler", "scheduler killed (-9) three times", kill_scheduler),
    _fault("submit-host", "submit host stopped for a minute", freeze_submit_host),
)
