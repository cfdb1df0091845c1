"""Where a proof takes place: a project, a home, and a cluster, below one folder."""

import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.home.paths import Home
from launcher.system.process_trees import descendants, send_signal
from tests.chaos.outside import facts, still_open
from tests.clusters.census import of_node, pilots_below, signal_all
from tests.clusters.jobs import make_laboratory, names

ROOT = Path(__file__).parents[2]  # `launcher` and `tests` are imported from here
LAUNCHER = Path(sys.executable).parent / "launcher"
BACKEND = "cluster"
LOOK_S = 0.02
COMMAND_S = 120.0
PROGRESS_S = 240.0  # seconds that a fault waits for its condition


@dataclass(kw_only=True)
class Site(ABC):
    """A queue with one backend."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)  # environment of the cluster
    settings: str = ""  # lines of its table
    jobs: int
    seconds: float  # duration of each job
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        """Make the project and the configuration; the queue begins with the jobs."""
        make_laboratory(self.project)
        text = f"[backends.{BACKEND}]\n{self.settings}\n"
        self._configuration.write_text(text, encoding="ascii")

    @property
    def home(self) -> Home:
        """The queue's."""
        return Home(self.folder / "home")

    @property
    def project(self) -> Path:
        """Where the runs lie."""
        return self.folder / "project"

    @property
    def _configuration(self) -> Path:
        return self.folder / "config.toml"

    @property
    def surroundings(self) -> dict[str, str]:
        """The environment of all that the queue's owner does."""
        python_path = os.environ.get("PYTHONPATH", "")
        return {
            **os.environ,
            **self.environment,
            "LAUNCHER_HOME": str(self.home.folder),
            "LAUNCHER_CONFIG": str(self._configuration),
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [python_path])]),
        }

    def begin(self) -> None:
        """Queue the jobs."""
        words = (str(self.project), str(self.jobs), str(self.seconds), BACKEND)
        self.call(sys.executable, "-m", "tests.clusters.jobs", *words)

    def call(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command as the queue's owner does."""
        done = subprocess.run(
            argv,
            env=self.surroundings,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        assert not check or done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done

    def launcher(self, *words: str, check: bool = True) -> str:
        """Type a command of the queue; return what it prints."""
        done = self.call(str(LAUNCHER), *words, check=check)
        return done.stdout + done.stderr

    # --- of the engine

    @abstractmethod
    def node(self, name: str) -> tuple[set[int], set[str]]:
        """Return the pids of a node's daemons and of their children, and the tokens of its pilots."""

    def settle(self) -> str:
        """Wait until the engine is whole again; return what else must not be."""
        return ""

    @abstractmethod
    def daemons(self) -> list[int]:
        """Return the pids of the engine's daemons."""

    @abstractmethod
    def submissions(self) -> int:
        """Return how many pilots there have been."""

    @abstractmethod
    def pilots_left(self) -> list[str]:
        """Return the pilots that the engine still has."""

    def signal_node(self, name: str, number: signal.Signals) -> set[int]:
        """Send a signal to all processes of a node, also to new ones, and return the pids of these processes."""
        reached: set[int] = set()
        while new := set(of_node(*self.node(name))) - reached:
            signal_all(new, number)
            reached |= new
        return reached

    def kill_pilots(self, name: str) -> None:
        """Kill the pilots of a node with SIGKILL, and nothing that they have started."""
        _, tokens = self.node(name)
        pids = [pid for token, pid in pilots_below(self.folder).items() if token in tokens]
        assert pids, f"no pilot on {name}"
        signal_all(pids, signal.SIGKILL)

    # --- what a fault waits for, and strikes

    @property
    def done(self) -> int:
        """How many jobs are done."""
        return sum(fact.state == "done" for fact in facts(self.home).values())

    @property
    def open(self) -> int:
        """How many jobs have not ended."""
        return still_open(self.home)

    def until_done(self, share: float) -> None:
        """Return when a share of the jobs is done."""
        number = round(share * self.jobs)
        self.until(lambda: self.done >= number, f"{number} jobs are done")

    def until(
        self, condition: Callable[[], object], what: str, patience_s: float = PROGRESS_S
    ) -> None:
        """Return soon after a condition holds.

        Raises:
            AssertionError: it does not in time.
        """
        deadline = time.monotonic() + patience_s
        while not condition():
            assert time.monotonic() < deadline, f"waited {patience_s:g} s in vain until {what}"
            time.sleep(LOOK_S)

    def scheduler(self) -> int:
        """Return the scheduler's pid; start it where it has died, as its owner's next command does."""
        pid = scheduler_pid(self.home)
        if pid is None:
            self.launcher("start")
            self.until(lambda: scheduler_pid(self.home) is not None, "a scheduler lives", 60.0)
            pid = scheduler_pid(self.home)
        assert pid is not None
        return pid

    def kill_scheduler(self) -> None:
        """Kill it with SIGKILL."""
        pid = scheduler_pid(self.home)
        if pid is not None:
            send_signal(pid, signal.SIGKILL)
            self.until(lambda: scheduler_pid(self.home) is None, "the scheduler is dead", 60.0)

    def freeze_submit_host(self, seconds: float) -> None:
        """Stop all that runs on the submit host, as a laptop that is closed does."""
        pid = self.scheduler()
        pids = [pid, *descendants(pid)]
        for frozen in pids:
            send_signal(frozen, signal.SIGSTOP)
        time.sleep(seconds)
        for frozen in pids:
            send_signal(frozen, signal.SIGCONT)

    # --- what is judged

    @property
    def names(self) -> list[str]:
        """Of all jobs."""
        return names(self.jobs)

    def files(self) -> dict[str, str]:
        """Return all files below the runs with their texts; not what attempts keep for themselves."""
        runs = self.project / "runs"
        return {
            str(path.relative_to(self.project)): path.read_text(errors="replace")
            for path in runs.rglob("*")
            if path.is_file() and ".attempts" not in path.parts
        }

    def stages(self) -> list[str]:
        """Return what attempts keep for themselves, and was neither accepted nor removed."""
        return [str(path) for path in self.project.glob("runs/*/.attempts/*")]
