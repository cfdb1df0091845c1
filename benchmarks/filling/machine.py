"""Simulated machines, and the queues of users on them."""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.home.paths import Home
from tests.nvml.simulated_card import (
    Programs,
    Run,
    SimulatedCards,
    Usage,
    compile_programs,
)
from tests.nvml.standin import GIB, Devices, compile_library

CORES = 16
TOTAL = 80 * GIB  # an H100's
POLL_S = 0.02
CALL_S = 120.0  # for a command; hundreds of jobs are queued with one
# not passed on: they would name other queues, other cards and other cores
FOREIGN = ("LAUNCHER", "CUDA", "STANDIN")


class Job(NamedTuple):
    """A program to be queued; `load` are the arguments of `SimulatedCards.program`."""

    load: Mapping[str, Any]
    gpus: int = 1
    vram_gib: int | None = None  # declared; None: unknown
    exclusive: bool = False

    @property
    def name(self) -> str:
        """Its name among what ran."""
        return str(self.load.get("name", ""))

    def named(self, name: str) -> "Job":
        """Return the same job under another name."""
        return self._replace(load={**self.load, "name": name})

    @property
    def options(self) -> tuple[str, ...]:
        """The options of `launcher add`."""
        memory = () if self.vram_gib is None else ("--vram", f"{self.vram_gib}GiB")
        alone = ("--exclusive",) if self.exclusive else ()
        return ("--cpus", "1", "--gpus", str(self.gpus), *memory, *alone)


class Counts(NamedTuple):
    """How many jobs of a queue are in which states."""

    failed: int
    left: int  # neither done nor failed

    def faults(self) -> list[str]:
        """Return what is wrong; nothing if all jobs are done."""
        named = ((self.failed, "failed"), (self.left, "not done in time"))
        return [f"{count} {what}" for count, what in named if count]


class Queue:
    """A user's queue on a simulated machine."""

    def __init__(self, machine: "Machine", name: str, config: str) -> None:
        """Make an empty queue and start its scheduler, which no measurement is to include."""
        folder = machine.folder / name
        self._machine, self._work = machine, folder / "work"
        self._work.mkdir(parents=True)
        self.home = Home(folder / "home")
        own_config = folder / "config.toml"
        own_config.write_text(config, encoding="utf-8")
        self._environment = machine.environment | {
            "LAUNCHER_HOME": str(self.home.folder),
            "LAUNCHER_CONFIG": str(own_config),
        }
        self.call("add", "--cpus", "1", "--", "true")
        self.call("wait", "--timeout", "60s")

    def call(self, *words: str, codes: Sequence[int] = (0,)) -> str:
        """Run `launcher` with these words; return what it prints.

        Raises:
            RuntimeError: its exit code is none of `codes`.
        """
        done = subprocess.run(
            [self._machine.launcher, *words],
            cwd=self._work,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in codes:
            raise RuntimeError(f"launcher {' '.join(words)}: {done.stderr or done.stdout}")
        return done.stdout

    def add(self, jobs: Sequence[Job]) -> float:
        """Queue jobs; return when that began, by the monotonic clock."""
        began = time.monotonic()
        for number, (options, group) in enumerate(groupby(jobs, lambda job: job.options)):
            lines = [" ".join(self._machine.cards.program(**job.load)) for job in group]
            file = self._work / f"jobs-{began:.3f}-{number}.txt"
            file.write_text("\n".join([*lines, ""]), encoding="utf-8")
            self.call("add", *options, "--from", str(file))
        return began

    def wait(self, limit_s: float) -> None:
        """Wait until all jobs have ended, but no longer than `limit_s`."""
        self.call("wait", "--timeout", f"{max(1, round(limit_s))}s", codes=(0, 1, 3))

    def counts(self) -> Counts:
        """Return how many jobs are not done."""
        counts: dict[str, int] = json.loads(self.call("status", "--json"))["counts"]
        done, failed = counts.get("done", 0), counts.get("failed", 0)
        return Counts(failed=failed, left=sum(counts.values()) - done - failed)

    def scheduler_cpu_s(self) -> float:
        """Return the CPU time of the scheduler's process so far.

        Raises:
            RuntimeError: no scheduler serves this queue.
        """
        pid = scheduler_pid(self.home)
        if pid is None:
            raise RuntimeError(f"no scheduler serves {self.home.folder}")
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime

    def stop(self) -> None:
        """Stop the scheduler and the running jobs."""
        self.call("stop", "--now", codes=(0, 1, 2, 3))


@dataclass(slots=True, kw_only=True)
class Machine:
    """A machine with simulated cards; all its queues share one folder of claims."""

    folder: Path
    launcher: Path
    devices: Devices
    cards: SimulatedCards
    _queues: list[Queue] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of commands on this machine."""
        inherited = {key: text for key, text in os.environ.items() if not key.startswith(FOREIGN)}
        claims = {"LAUNCHER_CLAIMS": str(self.folder / "claims")}
        return inherited | self.cards.environment | claims

    @property
    def uuids(self) -> tuple[str, ...]:
        """The cards in PCI order."""
        return tuple(card.uuid for card in self.devices.cards)

    def open_queue(self, name: str = "ada", config: str = "") -> Queue:
        """Open a user's queue."""
        self._queues.append(Queue(self, name, config))
        return self._queues[-1]

    def until(self, condition: Callable[[], bool], limit_s: float) -> bool:
        """Wait until a condition holds, but no longer than `limit_s`; return whether it does."""
        deadline = time.monotonic() + limit_s
        while not (holds := condition()) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        return holds

    def runs(self, name: str = "") -> list[Run]:
        """Return the programs that ended by themselves, all or those of one name."""
        return [run for run in self.cards.runs() if not name or run.name == name]

    def shortages(self) -> int:
        """Return how many programs ended because the memory of a card was short."""
        return sum(run.outcome != "done" for run in self.runs())

    def use(self) -> dict[str, Any]:
        """Return the columns of the table that describe how the cards were used."""
        usage: Usage = self.cards.usage()
        return {
            "busy_s": usage.busy_s,
            "held_s": usage.held_s,
            "most": usage.most,
            "out_of_memory": self.shortages(),
        }

    def close(self) -> None:
        """Stop all queues."""
        for queue in self._queues:
            queue.stop()


class Maker:
    """Makes machines; compiles the stand-in and the programs once."""

    def __init__(self, launcher: Path, folder: Path) -> None:
        """Compile the stand-in and the programs.

        Args:
            launcher: the command that is measured.
            folder: for all machines; exists.
        """
        self._launcher, self._folder = launcher, folder
        self._library: Path = compile_library(folder)
        self._programs: Programs = compile_programs(folder)

    @contextmanager
    def machine(self, cards: int = 1) -> Iterator[Machine]:
        """A new machine with so many cards; nothing of it runs on afterwards."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        for part in ("gpus", "claims"):
            (folder / part).mkdir()
        devices = Devices(folder / "gpus", self._library)
        for _ in range(cards):
            devices.add(TOTAL, name="NVIDIA_H100", limit=700_000)
        with ExitStack() as stack:
            simulated = SimulatedCards(devices, self._programs, cores=CORES)
            stack.enter_context(simulated)
            machine = Machine(
                folder=folder, launcher=self._launcher, devices=devices, cards=simulated
            )
            stack.callback(machine.close)
            yield machine
