"""The same on Ray, whose raylets are killed: python -m tests.clusters.ray_proofs [--jobs 200] [--out FILE]."""

import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from launcher.backends.ray_guard import RAYLET
from launcher.system.process_tree import descendants
from tests.clusters.census import left_behind, processes, signal_all
from tests.clusters.faults import EARLY, LATER, Fault, kill_scheduler, nothing
from tests.clusters.proof import Report, end_scheduler, settled, verdict_of
from tests.clusters.site import Site
from tests.clusters.table import table
from tests.ray.cluster import RayCluster, a_ray_cluster, missing

SETTINGS = """kind = "ray"
cpus = 2
pilots = 3
per_minute = 60
beat = "0.5s"
poll = "1s"
"""
MARK = "LAUNCHER_PROOF"  # which all processes of the cluster have, those of pilots, too
GUARD = b"launcher.backends.ray_guard"
LEAVES_S = 60.0


@dataclass(kw_only=True)
class RaySite(Site):
    """A queue with a Ray cluster of its own."""

    cluster: RayCluster
    raylets: dict[str, int] = field(default_factory=dict)  # node → its process

    def guards(self, node: str = "") -> list[int]:
        """Return the processes around the pilots that live, or of those on a node."""
        return [
            process.pid
            for process in processes()
            if GUARD in process.words
            and str(self.folder).encode() in process.words[-1]
            and (not node or process.has(RAYLET, self.raylets[node]))
        ]


def kill_raylet(site: RaySite) -> None:
    """Kill a raylet; another node joins later."""
    site.until_done(EARLY)
    site.cluster.kill("n1")
    site.until_done(LATER)
    site.cluster.add("n4", cpus=2)


def kill_raylet_and_pilot(site: RaySite) -> None:
    """Kill a raylet and the pilot of its node, so that supervisors are orphans."""
    site.until_done(EARLY)
    guards = site.guards("n1")
    assert guards, "no pilot on n1"
    pilots = [pid for guard in guards for pid in descendants(guard)[:1]]
    site.cluster.kill("n1")
    signal_all(pilots, signal.SIGKILL)
    site.until_done(LATER)
    site.cluster.add("n4", cpus=2)


def kill_pilot(site: RaySite) -> None:
    """Kill the pilot of a node alone."""
    site.until_done(EARLY)
    guards = site.guards("n1")
    assert guards, "no pilot on n1"
    signal_all([pid for guard in guards for pid in descendants(guard)[:1]], signal.SIGKILL)


def kill_actors(site: RaySite) -> None:
    """Kill all actors of the nodes, as Ray does where memory is short."""
    site.until_done(EARLY)
    workers = {pid for raylet in site.raylets.values() for pid in descendants(raylet)}
    signal_all([p.pid for p in processes() if p.pid in workers and p.words[0].startswith(b"ray::Pilot")],
               signal.SIGKILL)  # fmt: skip


def kill_schedulers(site: RaySite) -> None:
    """Kill the scheduler three times, and with it who speaks with Ray."""
    kill_scheduler(site)


@dataclass(frozen=True, slots=True, kw_only=True)
class RayFault:
    """One row of the table."""

    name: str
    does: str
    strike: Callable[[RaySite], None]


def no_fault(site: RaySite) -> None:
    """Break nothing."""


FAULTS = (
    RayFault(name="none", does="Ray: nothing", strike=no_fault),
    RayFault(name="raylet", does="Ray: a raylet killed", strike=kill_raylet),
    RayFault(
        name="raylet-pilot",
        does="Ray: a raylet and the pilot there killed",
        strike=kill_raylet_and_pilot,
    ),
    RayFault(name="pilot", does="Ray: a pilot killed", strike=kill_pilot),
    RayFault(name="actors", does="Ray: all actors killed", strike=kill_actors),
    RayFault(
        name="scheduler", does="Ray: scheduler killed (-9) three times", strike=kill_schedulers
    ),
)


def prove(
    place: Path, fault: RayFault, *, jobs: int, patience_s: float, seconds: float = 0.5
) -> Report:
    """Run a proof in an empty folder; its arguments are those of `proof.prove`."""
    with a_ray_cluster(place / "ray.log", {MARK: f"{place}/"}) as cluster:
        site = RaySite(
            folder=place,
            settings=f'{SETTINGS}address = "{cluster.address}"\n',
            jobs=jobs,
            seconds=seconds,
            cluster=cluster,
        )
        site.raylets = {name: cluster.add(name, cpus=2) for name in ("n1", "n2", "n3")}
        try:
            trouble = _torment(site, fault, patience_s)
            took = time.monotonic() - site.began
            site.launcher("stop", check=False)
            deadline = time.monotonic() + LEAVES_S
            while (guards := site.guards()) and time.monotonic() < deadline:
                time.sleep(0.1)
            verdict = verdict_of(site)
        finally:
            end_scheduler(site)
    left = settled(place, [])
    signal_all([process.pid for process in left_behind(place, ())], signal.SIGKILL)
    pilots = len(list((site.home.folder / "pilots").glob("*/spec.json")))
    return Report(
        fault=Fault(name=fault.name, does=fault.does, strike=nothing),
        verdict=verdict,
        seconds=took,
        pilots=pilots,
        pilots_left=tuple(map(str, guards)),
        processes_left=tuple(process.title for process in left),
        stages_left=len(site.stages()),
        trouble=trouble,
    )


def _torment(site: RaySite, fault: RayFault, patience_s: float) -> str:
    try:
        site.begin()
        fault.strike(site)
        site.until(lambda: not site.open and site.scheduler(), "all jobs have ended", patience_s)
    except AssertionError as error:
        return f"{error}; {site.launcher('status', check=False)[-1500:]}"
    return ""


@click.command()
@click.option("--jobs", type=click.IntRange(min=1), default=200, show_default=True)
@click.option("--only", multiple=True, type=click.Choice([fault.name for fault in FAULTS]))
@click.option("--patience", type=float, default=300.0, help="Seconds for all jobs after a fault.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the table here, too.")
def main(jobs: int, only: Sequence[str], patience: float, out: Path | None) -> None:
    """Run jobs on a Ray cluster of three nodes, break its parts, and count what went wrong."""
    if missing():
        click.echo(missing(), err=True)
        sys.exit(2)
    reports = []
    for fault in (fault for fault in FAULTS if not only or fault.name in only):
        with tempfile.TemporaryDirectory(prefix="ray-proof-", ignore_cleanup_errors=True) as place:
            click.echo(f"{fault.name}: {fault.does}; in {place}", err=True)
            reports.append(prove(Path(place), fault, jobs=jobs, patience_s=patience))
        for line in reports[-1].lines:
            click.echo(f"  {line}", err=True)
        click.echo(table(reports[-1:]), err=True)
    click.echo(table(reports))
    if out is not None:
        out.write_text(table(reports) + "\n", encoding="utf-8")
    sys.exit(not all(report.good for report in reports))


if __name__ == "__main__":
    main()
