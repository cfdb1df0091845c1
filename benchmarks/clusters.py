"""Our pilots on a Slurm of three nodes beside others, in one run, and on Ray; noisy machine, nothing is asserted.

python -m benchmarks.clusters [pilots|plain|submitit|hyperqueue|ray]…

The Slurm is one of the tests' own, on this machine: root, and Slurm's packages. Wrappers of its programs, first in
PATH, record every call. This costs 1 ms per call.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from unittest import mock

import click

from benchmarks.clusters_peers import hyperqueue, missing, submitit
from benchmarks.table import Row, machine, publish
from launcher.queue.home.paths import make_home
from launcher.queue.jobs.context import current_context
from launcher.queue.jobs.job import Resources, Spec, Terms
from launcher.queue.store.client import wake_or_start_scheduler
from launcher.queue.store.queue import NewJob, Store
from tests.clusters.census import left_behind
from tests.clusters.proof import end_scheduler, settled
from tests.clusters.ray_site import on_ray
from tests.clusters.site import BACKEND, Site
from tests.clusters.slurm_site import SlurmSite, on_slurm
from tests.ray.cluster import missing as missing_ray
from tests.slurm.cluster import missing as missing_slurm

PATIENCE_S = 300.0
PEERS_WORK_S = 60.0  # work of a peer that would take minutes for all jobs
TABLE = 'kind = "slurm"\ncpus = 2\ntime = "1h"\nper_minute = 60\n'
PILOTS = f"{TABLE}pilots = 3\n"
PLAIN = 'kind = "slurm"\npilot = "off"\npilots = {jobs}\n'
TARGETS = {
    "pilots: queued and pilots submitted, s": "< 1",
    "pilots: jobs/s after the first": "≥ 100",
    "pilots: questions to squeue in 5 s": "≤ 1",
    "plain: array submitted, s": "< 1",
    "ray: CPU of ours a job, ms": "≤ 5",
}
# row → that of submitit with which it is compared
SUBMITIT = {
    "pilots: jobs/s after the first": "submitit: jobs/s after the first",
    "plain: array submitted, s": "submitit: submitted, s",
}
QUESTIONS_S = 5.0


def pilots(place: Path, jobs: int) -> dict[str, float]:
    """Run no-ops through three pilots of two cores."""
    with _site(place, PILOTS, jobs) as site:
        since = _queue(site)
        site.until(lambda: site.stubs.calls("sbatch") == 3, "three pilots are submitted")
        submitted = site.stubs.ends("sbatch")[-1]
        site.until(lambda: site.done, "the first job is done", PATIENCE_S)
        first, at = site.done, time.time()
        site.until(lambda: site.done == jobs, "all jobs are done", PATIENCE_S)
        end = time.time()
        return {
            "queued and pilots submitted, s": submitted - since,
            "first job done, s": at - since,
            "all jobs done, s": end - since,
            "jobs/s after the first": (jobs - first) / (end - at),
            **_questions(site, end - since),
        }


def plain(place: Path, jobs: int) -> dict[str, float]:
    """Queue no-ops in plain mode, and see them submitted as one array; then stop."""
    with _site(place, PLAIN.format(jobs=jobs), jobs) as site:
        since = _queue(site)
        site.until(lambda: site.stubs.calls("sbatch"), "the array is submitted", PATIENCE_S)
        submitted = site.stubs.ends("sbatch")[0]
        site.until(lambda: site.done, "the first job is done", PATIENCE_S)
        first = time.time()
        time.sleep(QUESTIONS_S)
        done, at = site.done, time.time()
        return {
            "array submitted, s": submitted - since,
            "first job done, s": first - since,
            "jobs/s after the first": (done - 1) / (at - first),
            **_questions(site, at - since),
        }


def ray(place: Path, jobs: int) -> dict[str, float]:
    """Run no-ops through three pilots of two cores on a Ray of three raylets."""
    with (
        on_ray(place, jobs=jobs, seconds=0.0) as site,
        mock.patch.dict(os.environ, site.surroundings),
    ):
        try:
            since = _queue(site)
            site.until(lambda: site.done, "the first job is done", PATIENCE_S)
            first, at, used = site.done, time.time(), _used(place)
            site.until(lambda: site.done == jobs, "all jobs are done", PATIENCE_S)
            end, used_then = time.time(), _used(place)
        finally:
            site.launcher("stop", "--now", check=False)
            end_scheduler(site)
            settled(place, site.daemons())
    spent_s = sum(seconds - used[pid] for pid, seconds in used_then.items() if pid in used)
    return {
        "first job done, s": at - since,
        "jobs/s after the first": (jobs - first) / (end - at),
        "CPU of ours a job, ms": 1000 * spent_s / (jobs - first),
    }


def _used(place: Path) -> dict[int, float]:
    """Return pid → seconds of CPU of scheduler, pilots and what serves them, without the jobs' programs."""
    used = {}
    for process in left_behind(place, spared=()):
        with suppress(OSError):
            fields = Path(f"/proc/{process.pid}/stat").read_bytes().rpartition(b")")[2].split()
            used[process.pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return used


def _peer(
    measure: Callable[[SlurmSite, int, float], dict[str, float]],
) -> Callable[[Path, int], dict[str, float]]:
    def measured(place: Path, jobs: int) -> dict[str, float]:
        with _site(place, PILOTS, jobs) as site:
            return measure(site, jobs, PEERS_WORK_S)

    return measured


GROUPS: Mapping[str, Callable[[Path, int], dict[str, float]]] = {
    "pilots": pilots,
    "plain": plain,
    "submitit": _peer(submitit),
    "hyperqueue": _peer(hyperqueue),
    "ray": ray,
}


@contextmanager
def _site(place: Path, table: str, jobs: int) -> Iterator[SlurmSite]:
    """Give a queue on a Slurm of its own; nothing of it is left afterwards."""
    with (
        on_slurm(place, jobs=jobs, table=table) as site,
        mock.patch.dict(os.environ, site.surroundings),
    ):
        try:
            yield site
        finally:
            if site.home.exists():
                site.launcher("stop", "--now", check=False)
                end_scheduler(site)
            settled(place, site.daemons())


def _questions(site: SlurmSite, seconds: float) -> dict[str, float]:
    return {
        "questions to squeue in 5 s": QUESTIONS_S * (site.stubs.calls("squeue") - 1) / seconds,
        "questions to squeue from nodes": site.stubs.calls("squeue-on-node"),
    }


def _queue(site: Site) -> float:
    """Queue no-ops in one transaction; return when it began, in seconds since 1970."""
    make_home(site.home)
    context = current_context({"PATH": os.environ["PATH"]})
    with closing(Store(site.home)) as store:
        since = time.time()
        with store.database.writing():
            jobs = [NewJob(spec=_no_op(index)) for index in range(site.jobs)]
            store.insert_new(store.ensure_run(site.project, "no-ops"), context, jobs, since)
    wake_or_start_scheduler(site.home)
    return since


def _no_op(index: int) -> Spec:
    return Spec(
        name=f"command/{index}", kind="command", role="plain", run="no-ops", root="/", argv=("true",),
        resources=Resources(device="cpu"), terms=Terms(on=(BACKEND,)),
    )  # fmt: skip


def _row(what: str, figures: Mapping[str, float], jobs: int) -> Row:
    peer = figures.get(SUBMITIT.get(what, ""))
    return Row(
        what=f"{jobs:,} jobs, {what}", ours=figures[what],
        peers={} if peer is None else {"submitit": peer}, beside="submitit",
        target=TARGETS.get(what, ""),
    )  # fmt: skip


@click.command()
@click.argument("groups", nargs=-1, type=click.Choice(list(GROUPS)))
@click.option("--jobs", type=click.IntRange(min=1, max=1000), default=1000, show_default=True)
def main(groups: Sequence[str], jobs: int) -> None:
    """Print how our pilots do beside others; all GROUPS when none is named."""
    chosen = groups or tuple(GROUPS)
    lacking = (missing_slurm() if set(chosen) - {"ray"} else "") or (
        missing_ray() if "ray" in chosen else ""
    )
    if lacking:
        print(lacking, file=sys.stderr)
        sys.exit(2)
    absent = missing()
    figures: dict[str, float] = {}
    for name in chosen:
        if name in {peer.lower() for peer in absent}:
            continue
        print(name, file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="benchmark-") as place:
            for what, figure in GROUPS[name](Path(place), jobs).items():
                figures[f"{name}: {what}"] = figure
    print(f"{machine()}; {jobs} jobs, 3 nodes with 2 slots each")
    publish([_row(what, figures, jobs) for what in figures], "clusters")
    for name, remedy in absent.items():
        print(f"{name}: not installed ({remedy})")


if __name__ == "__main__":
    main()
