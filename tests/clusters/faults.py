"""What is done to a Slurm of three nodes while jobs run on it."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.clusters.census import signal_all
from tests.clusters.site import Site
from tests.clusters.slurm_site import FOREIGN, SLEEPS, SlurmSite

EARLY, LATER = 0.15, 0.4  # shares of the jobs that are done when a fault comes
DOWN_S = 20.0  # seconds without a daemon; longer than Slurm waits for a node
LEASE_S = 4.0
CALL_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One row of the table."""

    name: str
    does: str  # for people
    strike: Callable[[Any], None]  # breaks something of the site
    engine: str = "slurm"
    seconds: float = 0.5  # duration of each job
    settings: str = ""  # further lines of the backend's table
    late_files: bool = False  # between submit host and nodes


def nothing(site: Site) -> None:
    """Break nothing."""


def kill_slurmd(site: SlurmSite) -> None:
    """Kill a node's daemon. Its processes continue to run."""
    site.until_done(EARLY)
    site.slurm.kill("n1")
    time.sleep(DOWN_S)
    site.slurm.start_node("n1")


def kill_slurmd_and_pilot(site: SlurmSite) -> None:
    """Kill a node's daemon, and the pilot there; the supervisors of its attempts are orphans."""
    site.until_done(EARLY)
    site.slurm.kill("n1")
    site.kill_pilots("n1")
    time.sleep(DOWN_S)
    site.slurm.start_node("n1")


def cut_power(site: SlurmSite) -> None:
    """Kill all that runs on a node; it comes back later."""
    site.until_done(EARLY)
    site.signal_node("n1", signal.SIGKILL)
    site.slurm.kill("n1")
    time.sleep(DOWN_S)
    site.slurm.start_node("n1")


def freeze_node(site: Site) -> None:
    """Stop all that runs on a node for longer than the lease, and let it go on."""
    site.until_done(EARLY)
    frozen = site.signal_node("n1", signal.SIGSTOP)
    time.sleep(4 * LEASE_S)
    signal_all(frozen, signal.SIGCONT)


def kill_slurmctld_after(delay_s: float) -> Callable[[SlurmSite], None]:
    """Kill the controller `delay_s` after the first submission, and start it again."""

    def strike(site: SlurmSite) -> None:
        site.stubs.await_call("sbatch", CALL_S)
        time.sleep(delay_s)
        site.slurm.kill("slurmctld")
        time.sleep(1.0)
        site.slurm.start_controller()

    return strike


def give_number_again(site: SlurmSite) -> None:
    """Have the controller forget all jobs, and a colleague submit one that gets a pilot's number."""
    site.until_done(EARLY)
    numbers = site.slurm.ask("squeue", "-h", "-o", "%i").split()
    site.slurm.kill("slurmctld")
    site.slurm.forget()
    site.slurm.start_controller()
    site.slurm.await_nodes()
    number = site.slurm.ask(
        *("sbatch", "--parsable", f"--job-name={FOREIGN}", "--output=/dev/null"), stdin=SLEEPS
    ).strip()
    assert number in numbers, f"{number} is none of {numbers}"


def kill_scheduler(site: Site) -> None:
    """Kill the scheduler three times; its owner looks for it a few seconds later."""
    for share in (EARLY, 2 * EARLY, 3 * EARLY):
        site.until_done(share)
        site.kill_scheduler()
        time.sleep(3.0)
        site.scheduler()


def freeze_submit_host(site: Site) -> None:
    """Stop the submit host for a minute."""
    site.until_done(EARLY)
    site.freeze_submit_host(60.0)


def cancel_from_outside(site: SlurmSite) -> None:
    """Cancel two of three pilots by hand, one after the other."""
    for share in (EARLY, LATER):
        site.until_done(share)
        site.until(lambda: site.pilots("running"), "a pilot runs")
        site.slurm.ask("scancel", f"--name={site.pilots('running')[0]}")


def preempt(site: SlurmSite) -> None:
    """Have an urgent job take two whole nodes for a while."""
    site.until_done(EARLY)
    words = ("--partition=urgent", "--nodes=2", "--exclusive", f"--job-name={FOREIGN}")
    sleeps = SLEEPS.replace("600", "10")
    number = site.slurm.ask("sbatch", "--parsable", *words, "--output=/dev/null", stdin=sleeps)
    site.until(lambda: FOREIGN in site.slurm.ask("squeue", "-h", "-t", "running", "-o", "%j"),
               f"urgent job {number.strip()} runs")  # fmt: skip


def fail_squeue(site: SlurmSite) -> None:
    """Have squeue fail for half a minute; meanwhile a pilot dies."""
    site.until_done(EARLY)
    site.stubs.set("squeue", "fail")
    time.sleep(5.0)
    site.slurm.ask("scancel", f"--name={site.pilots('running')[0]}")
    time.sleep(25.0)
    site.stubs.set("squeue", "")


def hang_squeue(site: SlurmSite) -> None:
    """Have squeue hang for more than a minute; meanwhile a pilot dies."""
    site.until_done(EARLY)
    site.stubs.set("squeue", "hang")
    time.sleep(5.0)
    site.slurm.ask("scancel", f"--name={site.pilots('running')[0]}")
    time.sleep(70.0)
    site.stubs.set("squeue", "")


LEASE = f'lease = "{LEASE_S:g}s"'
FAULTS = (
    Fault(name="none", does="nothing", strike=nothing),
    Fault(name="slurmd", does="slurmd of a node killed, back after 20 s", strike=kill_slurmd),
    Fault(
        name="slurmd-pilot",
        does="slurmd and pilot of a node killed, slurmd back after 20 s",
        strike=kill_slurmd_and_pilot,
    ),
    Fault(name="power", does="all of a node killed, back after 20 s", strike=cut_power),
    Fault(
        name="freeze",
        does="a whole node frozen for 16 s with a lease of 4 s, thawed",
        strike=freeze_node,
        settings=LEASE,
        seconds=1.0,
    ),
    *(
        Fault(
            name=f"slurmctld-{delay_s}",
            does=f"slurmctld killed {delay_s} s after the submission, back 1 s later",
            strike=kill_slurmctld_after(delay_s),
        )
        for delay_s in (0, 1, 4)
    ),
    Fault(name="scheduler", does="scheduler killed (-9) three times", strike=kill_scheduler),
    Fault(
        name="submit-host",
        does="submit host stopped for a minute",
        strike=freeze_submit_host,
    ),
    Fault(
        name="submit-host-lease",
        does="submit host stopped for a minute with a lease of 4 s",
        strike=freeze_submit_host,
        settings=LEASE,
    ),
    Fault(name="scancel", does="two pilots cancelled from outside", strike=cancel_from_outside),
    Fault(name="preemption", does="an urgent job takes two nodes", strike=preempt),
    Fault(
        name="time-limit",
        does="pilots of one minute (--time)",
        strike=nothing,
        seconds=2.0,
        settings='time = "1m"',
    ),
    Fault(name="squeue-fails", does="squeue fails for 30 s, a pilot cancelled", strike=fail_squeue),
    Fault(
        name="squeue-hangs", does="squeue hangs for 75 s, a pilot cancelled", strike=hang_squeue,
        seconds=1.0,
    ),
    Fault(
        name="number-again",
        does="slurmctld forgets all; a colleague's job gets a pilot's number",
        strike=give_number_again,
    ),
    Fault(
        name="late-files",
        does="folders and files of attempts are seen on the other side after 2 s, appended ones in parts",
        strike=nothing,
        late_files=True,
    ),
)  # fmt: skip
