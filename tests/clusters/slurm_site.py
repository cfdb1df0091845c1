"""A queue with a Slurm of its own."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.clusters.census import marked, tokens_of
from tests.clusters.site import Site
from tests.clusters.stubs import Stubs
from tests.launcher.pilots.late_files import LateFiles
from tests.slurm.cluster import Slurm, a_slurm

NODES = ("n1", "n2", "n3")
NODE = "SLURMD_NODENAME"
FOREIGN = "a-colleagues-job"
SLEEPS = "#!/bin/sh\nexec sleep 600\n"
SETTINGS = """kind = "slurm"
cpus = 2
pilots = 3
per_minute = 60
beat = "0.5s"
poll = "1s"
"""
PILOT_FOLDERS = 2  # depth of names of a pilot's folder and of its files at submission
NAMES_S = 2.0  # seconds that a new file is hidden from the other side


@dataclass(kw_only=True)
class SlurmSite(Site):
    """The queue, and its Slurm."""

    slurm: Slurm
    stubs: Stubs

    def pilots(self, state: str = "") -> list[str]:
        """Return the names of the pilots that Slurm has, or of those in a state."""
        wanted = (f"--states={state}",) if state else ()
        listed = self.slurm.ask("squeue", "-h", "-o", "%j", *wanted).split()
        return [name for name in listed if name.startswith("launcher-")]

    def node(self, name: str) -> tuple[set[int], set[str]]:
        """Return the pids of a node's daemon and of its children, and the tokens of its pilots."""
        begun = marked(NODE, name, self.folder)
        # otherwise killed
        daemons = [self.slurm.daemons[name].pid] if name in self.slurm.daemons else []
        return {*daemons, *(process.pid for process in begun)}, tokens_of(begun)

    def settle(self) -> str:
        """Wait for all nodes, end the job of another user, and return its state if it was harmed."""
        self.slurm.await_nodes()
        listed = self.slurm.ask("squeue", "-h", "-t", "all", f"--name={FOREIGN}", "-o", "%T")
        if not listed.split():
            return ""
        self.slurm.ask("scancel", f"--name={FOREIGN}")
        return (
            "" if listed.split()[-1] in {"RUNNING", "COMPLETED"} else f"a colleague's job: {listed}"
        )

    def daemons(self) -> list[int]:
        """Return the pids of Slurm's daemons."""
        return [daemon.pid for daemon in self.slurm.daemons.values()]

    def submissions(self) -> int:
        """Return how often sbatch was called; an array is submitted with one call."""
        return self.stubs.calls("sbatch")

    def pilots_left(self) -> list[str]:
        """Return the pilots in squeue."""
        return self.pilots()


@contextlib.contextmanager
def on_slurm(
    place: Path,
    *,
    jobs: int,
    seconds: float = 0.0,
    table: str = SETTINGS,
    settings: str = "",
    late_files: bool = False,
) -> Iterator[SlurmSite]:
    """Give a queue with a Slurm of three nodes in an empty folder.

    Args:
        place: the folder.
        jobs: how many there will be.
        seconds: that each takes.
        table: lines of the backend's table.
        settings: further lines of the backend's table.
        late_files: between submit host and nodes.
    """
    with contextlib.ExitStack() as opened:
        slurm = opened.enter_context(a_slurm(place / "slurm", len(NODES)))
        stubs = Stubs(place / "bin")
        path = os.environ.get("PATH", os.defpath)
        lines = [table, settings]
        if late_files:
            here, there = place / "pilots", place / "pilots-there"
            opened.enter_context(LateFiles(here, there, NAMES_S, at_once=PILOT_FOLDERS))
            lines.append(f'folder = "{here}"\npaths = {{ "{here}" = "{there}" }}')
        yield SlurmSite(
            folder=place,
            environment={**slurm.environment, "PATH": f"{stubs.folder}:{path}"},
            settings="\n".join(lines),
            jobs=jobs,
            seconds=seconds,
            slurm=slurm,
            stubs=stubs,
        )
