"""A queue of its own for a part: a temporary home, real commands, real scheduler, real workers."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from benchmarks.gpu.bench import ROOT, Bench
from launcher.queue.gpu.monitor import recorded_program
from launcher.queue.gpu.nvml import Nvml
from launcher.queue.gpu.snapshot import GpuProcess, GpuSnapshot
from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.home.paths import Attempt, Home
from launcher.queue.workers.attempt_journal import read_recorded_outcome
from launcher.queue.workers.memory_share import read_report, read_share

COMMAND = "import sys; from launcher.frontends.cli.main import main; sys.exit(main())"
ENDED = ("done", "failed", "cancelled", "skipped")
POLL_S = 0.2
CALL_S = 60.0
SCHEDULER_S = 10.0  # for a scheduler to end


@dataclass(slots=True)
class Usage:
    """Measured memory of one job while it ran, in bytes."""

    limit: int | None = None  # limit of its allocator, the last one while it shared the card
    reserved: int = 0  # the most that its allocator had
    beyond: int = 0  # the most by which its allocator exceeded its limit
    driver: int = 0  # the most that the driver listed for its process
    busy: float | None = (
        None  # share of a second in which it used the card, by the driver; the most
    )
    uuid: str | None = None  # UUID of the card, as CUDA named it to the job


class Queue:
    """Commands on a home, and looks at what runs in it."""

    def __init__(self, bench: Bench, config: str = "") -> None:
        """Make an empty home in the part's folder.

        Args:
            bench: the part's surroundings.
            config: what the user's configuration file holds.
        """
        self.bench = bench
        self.folder = bench.path / "project"
        self.folder.mkdir()
        self.home = Home(bench.path / "home")
        claims = bench.path / "claims"
        claims.mkdir()
        own_config = bench.path / "config.toml"
        own_config.write_text(config, encoding="utf-8")
        self._environment = {
            **os.environ,
            "LAUNCHER_HOME": str(self.home.folder),
            "LAUNCHER_CLAIMS": str(claims),
            "LAUNCHER_CONFIG": str(own_config),
            "TRUEFACE_CACHE": str(bench.path / "cache"),
            "PYTHONPATH": os.pathsep.join(
                path for path in (str(ROOT), os.environ.get("PYTHONPATH")) if path
            ),
        }
        self._nvml = Nvml()

    def call(self, *words: str) -> str:
        """Run `launcher` with these words; return what it prints.

        Raises:
            RuntimeError: it failed.
        """
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, *words],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CALL_S,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"launcher {' '.join(words)}: {done.stderr or done.stdout}")
        return done.stdout

    def add(self, *argv: str, **options: str) -> str:
        """Queue a program; return its number."""
        flags = [f"--{key}={value}" for key, value in options.items()]
        return self.call("add", *flags, "--", *argv).split()[0]

    def run(self, name: str, text: str) -> None:
        """Queue the jobs of a task file."""
        (self.folder / name).write_text(text, encoding="utf-8")
        self.call("run", name, "--detach")

    def show(self, job: str) -> dict[str, Any]:
        """Return all that is known of a job."""
        record: dict[str, Any] = json.loads(self.call("show", job, "--json"))
        return record

    def restart(self) -> None:
        """End the scheduler; the next command starts another one."""
        pid = scheduler_pid(self.home)
        if pid is None:
            return
        os.kill(pid, 15)
        deadline = time.monotonic() + SCHEDULER_S
        while scheduler_pid(self.home) is not None and time.monotonic() < deadline:
            time.sleep(0.05)

    def attempts(self, number: int) -> list[Attempt]:
        """Return the attempts of a job that were begun, the newest last."""
        folders = self.home.attempts.glob(f"{number}-*")
        return [
            Attempt(path) for path in sorted(folders, key=lambda path: int(path.name.split("-")[1]))
        ]

    def ended(self, number: int) -> list[Attempt]:
        """Return the attempts of a job that have ended."""
        return [each for each in self.attempts(number) if read_recorded_outcome(each) is not None]

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until a condition holds.

        Raises:
            TimeoutError: it does not before the part has to end.
        """
        while not condition():
            if self.bench.left_s < 2:
                raise TimeoutError(f"waited in vain until {what}")
            time.sleep(POLL_S)

    def state(self, job: str) -> str:
        """Return a job's state."""
        return str(self.show(job)["state"])

    def until_ended(self, jobs: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Wait until jobs have ended; return what is known of them then."""
        self.until(lambda: all(self.state(job) in ENDED for job in jobs), f"{jobs} have ended")
        return {job: self.show(job) for job in jobs}

    def observe(self, numbers: Mapping[str, int], usages: dict[str, Usage]) -> int:
        """Look once at what jobs take; return how many of them hold memory of the card.

        Args:
            numbers: of jobs, by a name.
            usages: by the same names; updated.
        """
        (card, *_) = self._nvml.snapshot() or (None,)
        holding = 0
        for name, number in numbers.items():
            for attempt in self.attempts(number)[-1:]:
                if read_recorded_outcome(attempt) is None:
                    holding += _looked(usages.setdefault(name, Usage()), attempt, card)
        return holding

    def card(self) -> GpuSnapshot:
        """Return the first card as it is now."""
        return self._nvml.snapshot()[0]


def _looked(usage: Usage, attempt: Attempt, card: GpuSnapshot | None) -> bool:
    """Add to a job's usage what one look sees; return whether it holds memory."""
    limit, report = read_share(attempt), read_report(attempt)
    allocator = None if limit is None else limit.allocator  # None: it is alone, or about to start
    usage.limit = usage.limit if allocator is None else allocator
    if report is not None:
        usage.reserved = max(usage.reserved, report.peak)
        usage.uuid = report.uuid or usage.uuid
        if allocator is not None:
            usage.beyond = max(usage.beyond, report.reserved - allocator)
    listed = _listed(attempt, card)
    held = sum(process.used or 0 for process in listed)
    usage.driver = max(usage.driver, held)
    busy = [process.sm for process in listed if process.sm is not None]
    usage.busy = max(busy if usage.busy is None else [*busy, usage.busy], default=None)
    return held > 0 or (report is not None and report.reserved > 0)


def _listed(attempt: Attempt, card: GpuSnapshot | None) -> list[GpuProcess]:
    """Return what the driver lists of an attempt's program; nothing where it lists it under another pid."""
    program = recorded_program(attempt)
    processes = (card.processes if card else None) or ()
    return [each for each in processes if program is not None and each.pid == program.pid]


@contextmanager
def queue(bench: Bench, config: str = "") -> Iterator[Queue]:
    """A queue that is stopped at the end; what still runs is killed with the part."""
    own = Queue(bench, config)
    try:
        yield own
    finally:
        with suppress(RuntimeError, subprocess.TimeoutExpired):
            own.call("stop", "--now")
