"""One proof. It queues jobs, causes a fault, and judges the results."""

import contextlib
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from launcher.queue.home.daemon_control import scheduler_pid
from launcher.system.process_trees import send_signal
from tests.chaos.outside import facts
from tests.chaos.program import read_stamps
from tests.clusters.census import Process, left_behind, signal_all
from tests.clusters.faults import Fault
from tests.clusters.jobs import output_of
from tests.clusters.judge import Verdict, judge
from tests.clusters.ray_site import on_ray
from tests.clusters.site import Site
from tests.clusters.slurm_site import on_slurm

SETTLE_S = 90.0  # seconds until all processes of a stopped queue have ended
LOOK_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of a proof."""

    fault: Fault
    verdict: Verdict
    seconds: float
    pilots: int  # submissions
    pilots_left: tuple[str, ...]
    processes_left: tuple[str, ...]
    stages_left: int
    trouble: str  # reason for which the proof itself stopped

    @property
    def good(self) -> bool:
        """Whether all is as it must be."""
        left = self.pilots_left or self.processes_left
        return not (self.verdict.complaints or left or self.trouble)

    @property
    def lines(self) -> list[str]:
        """All that must not be, a line each."""
        pilots = [f"pilot left: {name}" for name in self.pilots_left]
        left = [f"process left: {process}" for process in self.processes_left]
        trouble = [f"proof: {self.trouble}"] if self.trouble else []
        return [*self.verdict.complaints, *pilots, *left, *trouble]


def prove(place: Path, fault: Fault, *, jobs: int, patience_s: float) -> Report:
    """Run a proof in an empty folder.

    Args:
        place: the folder of all its files.
        fault: what happens.
        jobs: how many there are.
        patience_s: for all of them after the fault.
    """
    with _site(place, fault, jobs) as site:
        try:
            trouble = _torment(site, fault, patience_s)
            seconds = time.monotonic() - site.began
            site.launcher("stop", check=False)
            trouble += site.settle()
            processes = settled(place, site.daemons())
            pilots = site.pilots_left()
            verdict = verdict_of(site)
        finally:
            end_scheduler(site)
            spared = site.daemons()
            signal_all([process.pid for process in left_behind(place, spared)], signal.SIGKILL)
        return Report(
            fault=fault,
            verdict=verdict,
            seconds=seconds,
            pilots=site.submissions(),
            pilots_left=tuple(pilots),
            processes_left=tuple(process.title for process in processes),
            stages_left=len(site.stages()),
            trouble=trouble,
        )


def _site(place: Path, fault: Fault, jobs: int) -> contextlib.AbstractContextManager[Site]:
    if fault.engine == "ray":
        return on_ray(place, jobs=jobs, seconds=fault.seconds, settings=fault.settings)
    return on_slurm(
        place,
        jobs=jobs,
        seconds=fault.seconds,
        settings=fault.settings,
        late_files=fault.late_files,
    )


def _torment(site: Site, fault: Fault, patience_s: float) -> str:
    """Queue the jobs, strike, and wait for their ends; return what kept it from going on."""
    try:
        site.begin()
        fault.strike(site)
        site.until(lambda: not site.open and site.scheduler(), "all jobs have ended", patience_s)
    except AssertionError as error:
        return f"{error}; {site.launcher('status', check=False)[-1500:]}"
    return ""


def settled(place: Path, daemons: list[int]) -> list[Process]:
    """Return the processes that do not end by themselves after the queue was stopped."""
    deadline = time.monotonic() + SETTLE_S
    while (left := left_behind(place, daemons)) and time.monotonic() < deadline:
        time.sleep(LOOK_S)
    return left


def verdict_of(site: Site) -> Verdict:
    """Judge."""
    stamps = site.project / "stamps"
    lines = stamps.read_text(encoding="ascii").splitlines() if stamps.exists() else []
    outputs = {
        name: str(output_of(site.project, name).relative_to(site.project)) for name in site.names
    }
    return judge(site.names, facts(site.home), read_stamps(lines), site.files(), outputs)


def end_scheduler(site: Site) -> None:
    """Kill a scheduler that is still there."""
    pid = scheduler_pid(site.home)
    if pid is not None:
        send_signal(pid, signal.SIGKILL)
