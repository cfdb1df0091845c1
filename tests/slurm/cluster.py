"""A Slurm of its own in a folder: munge, a controller, and a daemon per node, all on this machine.

Nodes are names with a port each; their GPUs are character devices, of which Slurm looks at the names only.
It needs root, since slurmd does, and no systemd and no cgroups. `Slurm.environment` points Slurm's programs at it.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from launcher.system.process_trees import descendants, send_signal
from tests.slurm.configuration import TIMEOUT, write_configuration

PACKAGES = {  # program → Debian's package
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
    "munged": "munge",
}
SBIN = "/usr/sbin"  # not in every user's PATH
STARTS_WITHIN_S, ENDS_WITHIN_S, ANSWERS_WITHIN_S = 60.0, 20.0, 60.0
PAUSE_S = 0.02
STARTS = 3
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1  # prctl(2)
LOG_BYTES = 2000  # end of each daemon's log, shown where a start fails


def missing() -> str:
    """Return what keeps Slurm from being started here, and what helps; '' where nothing does."""
    absent = [name for name in PACKAGES if _program(name) is None]
    if absent:
        packages = " ".join(PACKAGES[name] for name in absent)
        return (
            f"{', '.join(absent)} not installed: apt-get install --no-install-recommends {packages}"
        )
    return "" if os.geteuid() == 0 else "needs root: slurmd refuses to run as another user"


@dataclass(kw_only=True)
class Slurm:
    """A running Slurm. Its daemons have the names munged, slurmctld, n1, n2, …"""

    folder: Path
    nodes: tuple[str, ...]
    cpus: int = 2  # CPUs of each node, as Slurm counts
    gpus: int = 2
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that make Slurm's programs use this cluster."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def ask(self, *argv: str, stdin: str = "") -> str:
        """Return what one of Slurm's programs prints.

        Raises:
            AssertionError: it failed.
        """
        done = subprocess.run(
            argv,
            env={**os.environ, **self.environment},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=ANSWERS_WITHIN_S,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(argv)}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self) -> None:
        """Start all daemons, and wait until all nodes take jobs.

        Raises:
            AssertionError: they do not; with the ends of their logs.
        """
        write_configuration(self.folder, self.nodes, cpus=self.cpus, gpus=self.gpus)
        self.start_munged()
        self.start_controller()
        for node in self.nodes:
            self.start_node(node)
        self.await_nodes()

    def start_munged(self) -> None:
        """Start what signs the daemons' messages, and wait for its socket."""
        munge = self.folder / "munge"
        words = [f"--key-file={munge}/key", f"--socket={self.folder}/munge.socket"]
        words += [f"--{name}-file={munge}/{name}" for name in ("pid", "log", "seed")]
        # pytest's folders are private, which munged allows only where it is forced to
        self._spawn("munged", "--foreground", "--force", "--num-threads=2", *words)
        self._await(lambda: (self.folder / "munge.socket").exists(), "munged listens")

    def start_controller(self) -> None:
        """Start slurmctld; it takes a moment until it answers."""
        self._spawn("slurmctld", "-D", "-f", str(self.folder / "slurm.conf"))

    def start_node(self, node: str) -> None:
        """Start the slurmd of a node."""
        self._spawn("slurmd", "-D", "-N", node, "-f", str(self.folder / "slurm.conf"), name=node)

    def await_nodes(self) -> None:
        """Wait until all nodes answer and take jobs."""
        self._await(self._all_take_jobs, "all nodes take jobs")

    def kill(self, name: str) -> None:
        """Kill a daemon with SIGKILL."""
        daemon = self.daemons.pop(name)
        daemon.kill()
        daemon.wait()

    def await_answers_for(self, seconds: int) -> None:
        """Let Slurm wait so long for a node before it is down; by default it waits long for a slow one."""
        path = self.folder / "slurm.conf"
        path.write_text(path.read_text().replace(TIMEOUT, f"SlurmdTimeout={seconds}"))
        self.ask("scontrol", "reconfigure")

    def forget(self) -> None:
        """Delete the saved state of a stopped controller, so that it knows no job."""
        shutil.rmtree(self.folder / "state")
        (self.folder / "state").mkdir()

    def stop(self) -> None:
        """Kill every daemon and every process of a job, whatever state they are in."""
        for name in list(self.daemons):
            self.kill(name)
        deadline = time.monotonic() + ENDS_WITHIN_S
        while (left := self.job_processes()) and time.monotonic() < deadline:
            for pid in left:
                send_signal(pid, signal.SIGKILL)
            time.sleep(PAUSE_S)
        assert not left, f"processes of jobs do not end: {left}"

    def job_processes(self) -> list[int]:
        """Return what the daemons have started and left: all that has this Slurm in its environment, and its children."""
        mark = f"SLURM_CONF={self.folder}/slurm.conf".encode()
        marked = [pid for pid in _pids() if mark in _environment(pid)]
        ours = {os.getpid(), *(daemon.pid for daemon in self.daemons.values())}
        below = [below for pid in marked for below in descendants(pid)]
        return [pid for pid in dict.fromkeys((*marked, *below)) if pid not in ours]

    def _spawn(self, program: str, *words: str, name: str = "") -> None:
        path = _program(program)
        assert path is not None, missing()
        with (self.folder / f"log/{name or program}.out").open("ab") as log:
            self.daemons[name or program] = subprocess.Popen(
                [path, *words],
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    def _all_take_jobs(self) -> bool:
        done = subprocess.run(
            ["sinfo", "-h", "-N", "-p", "main", "-o", "%N %T"],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=ANSWERS_WITHIN_S,
            check=False,
        )
        states = [line.split()[-1] for line in done.stdout.splitlines()]
        return len(states) == len(self.nodes) and set(states) <= {"idle", "mixed", "allocated"}

    def _await(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + STARTS_WITHIN_S
        while not condition():
            dead = [name for name, daemon in self.daemons.items() if daemon.poll() is not None]
            if dead or time.monotonic() > deadline:
                raise AssertionError(f"waited in vain until {what}; ended: {dead}\n{self._logs()}")
            time.sleep(PAUSE_S)

    def _logs(self) -> str:
        logs = sorted((self.folder / "log").iterdir())
        return "\n".join(
            f"{log.name}:\n{log.read_text(errors='replace')[-LOG_BYTES:]}" for log in logs
        )


@contextmanager
def a_slurm(folder: Path, nodes: int = 1, *, cpus: int = 2) -> Iterator[Slurm]:
    """Run a Slurm below a new folder; nothing of it is left afterwards, not even after a failed start."""
    folder.mkdir(mode=0o755)
    slurm = _started(folder, nodes, cpus)
    try:
        yield slurm
    finally:
        slurm.stop()


def _started(folder: Path, nodes: int, cpus: int) -> Slurm:
    """Start a Slurm; again with other ports where somebody was quicker to take one of them."""
    for number in range(STARTS):
        slurm = Slurm(
            folder=folder / str(number),
            nodes=tuple(f"n{node + 1}" for node in range(nodes)),
            cpus=cpus,
        )
        slurm.folder.mkdir(mode=0o755)
        try:
            slurm.start()
        except BaseException as error:
            slurm.stop()
            if number + 1 == STARTS or not isinstance(error, AssertionError):
                raise
        else:
            return slurm
    raise AssertionError("unreachable")


def _end_with_parent() -> None:
    """Be killed when the tests are, however they end."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _pids() -> list[int]:
    return [int(process.name) for process in Path("/proc").glob("[0-9]*")]


def _environment(pid: int) -> list[bytes]:
    """Return the variables that a process began with; none of one that has ended."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{SBIN}")
