"""Commands of users during a proof. They queue jobs and may be killed meanwhile."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from launcher.queue.home.paths import Home
from tests.chaos.enqueue import KIND, spec_of, write_portion
from tests.chaos.killer import Kill
from tests.chaos.outside import names
from tests.chaos.recipe import BACKOFF_S, Recipe

LAUNCHER = Path(sys.executable).parent / "launcher"
ROOT = Path(__file__).parents[2]  # `launcher` and `tests` are imported from here
SITE = Path(__file__).parent / "site"
COMMAND_TIMEOUT_S = 60.0
KILLED_SHARE = 0.3  # fraction of the commands that queue
KILLED_WITHIN_S = 0.6  # time after their start
TRIES = 12
LOOK_AGAIN_S, WAIT_S = 0.1, 0.5  # for how long a queue lies dead at most
KILLED_WAITS = 0.1


def surroundings(home: Home, *, guard: bool, delay_s: float) -> dict[str, str]:
    """Return the environment of every command, and through them of all processes of the home."""
    inherited = os.environ.get("PYTHONPATH", "")
    return {
        **os.environ,
        "LAUNCHER_HOME": str(home.folder),
        "LAUNCHER_CONFIG": os.devnull,
        "PYTHONPATH": os.pathsep.join([str(SITE), str(ROOT), *filter(None, [inherited])]),
        "CHAOS_GUARD": "on" if guard else "off",
        "CHAOS_DELAY_S": f"{delay_s:g}",
        "CHAOS_DELAYS": str(delays_file(home)),
        # without the guard it is the late ones that do harm: many of them, to be found in a minute
        "CHAOS_DELAYED": "0.2" if guard else "0.7",
    }


def delays_file(home: Home) -> Path:
    """Return where each supervisor that loses time leaves a byte."""
    return home.folder.parent / "delays"


@dataclass
class People:
    """Types commands, kills some, and remembers which jobs it was promised."""

    home: Home
    folder: Path
    environment: dict[str, str]
    chance: random.Random
    killed_share: float = KILLED_SHARE
    promised: set[str] = field(default_factory=set)  # a command said with 0 that they are queued
    torn: set[str] = field(default_factory=set)  # left out of a transaction that others are in
    kills: list[Kill] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)  # errors of unharmed commands
    _commands: int = 0

    def queue(self, vram_limit: Sequence[Recipe]) -> None:
        """Queue a portion with one of the commands. Jobs that a killed command did not queue are queued again.

        Raises:
            RuntimeError: it cannot be queued, however often it is tried.
        """
        for _ in range(TRIES):
            there = names(self.home)
            left = [one for one in vram_limit if one.name not in there]
            if not left:
                return
            if len(left) < len(vram_limit):  # one command, one transaction: all or nothing
                self.torn |= {one.name for one in left}
                return
            self._queue_once(left)
        said = "; ".join(self.complaints[-1:])
        raise RuntimeError(f"{vram_limit[0].name} could not be queued in {TRIES} tries: {said}")

    def _queue_once(self, left: Sequence[Recipe]) -> None:
        killed = self.chance.random() < self.killed_share
        if self._call(self._way(left), killed=killed) == 0:
            self.promised |= {one.name for one in left}

    def _way(self, left: Sequence[Recipe]) -> list[str]:
        """Return a command that queues all of them."""
        self._commands += 1
        if len(left) == 1:
            return [str(LAUNCHER), "add", *_options(left[0]), "--", *self._argv(left[0])]
        if _plain(left) and self.chance.random() < 0.7:
            return [str(LAUNCHER), "run", "--detach", self._task_file(left)]
        file = self.folder / f"portion{self._commands}.json"
        write_portion(file, self.folder, left)
        return [sys.executable, "-m", "tests.chaos.enqueue", str(file)]

    def _task_file(self, left: Iterable[Recipe]) -> str:
        lines = [f"name: run{self._commands}", f"{KIND}:"]
        for one in left:
            words = ", ".join(f'"{word}"' for word in self._argv(one))
            lines.append(f"  - {{name: {one.name}, argv: [{words}],")
            lines.append(f"     resources: {{priority: {one.priority}}}}}")
        file = self.folder / f"run{self._commands}.yaml"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return str(file)

    def _argv(self, one: Recipe) -> tuple[str, ...]:
        return spec_of(one, self.folder, "").argv

    def wait(self, timeout_s: float, *, killed: bool = False) -> int | None:
        """Wait for all jobs as a person does; the command sees to it that a scheduler lives."""
        words = [str(LAUNCHER), "wait", "--timeout", f"{timeout_s:g}s"]
        return self._call(words, killed=killed)

    def say(self, *words: str) -> str:
        """Run a command of the launcher and return what it printed."""
        done = subprocess.run(
            [str(LAUNCHER), *words],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_TIMEOUT_S,
        )
        if done.returncode != 0:
            self.complaints.append(f"{words[0]}: {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def _call(self, words: Sequence[str], *, killed: bool) -> int | None:
        """Run a command, perhaps only until it is killed; return its exit code, None if it was."""
        command = subprocess.Popen(
            words,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        with command:
            patience_s = self.chance.uniform(0, KILLED_WITHIN_S) if killed else COMMAND_TIMEOUT_S
            try:
                _, said = command.communicate(timeout=patience_s)
            except subprocess.TimeoutExpired:
                self.kills.append(Kill(pid=command.pid, at=time.time(), strike="command"))
                command.kill()
                return None
        text = said.decode(errors="replace").strip()
        if command.returncode not in {0, 1} and "have not ended after" not in text:
            self.complaints.append(f"{words[1]}: {command.returncode}: {text}")
        return command.returncode


def _options(one: Recipe) -> list[str]:
    """Return the arguments of `launcher add` for a job without dependencies."""
    terms = ["--retries", str(one.retries), "--backoff", f"{BACKOFF_S}s"] if one.retries else []
    rerun = ["--rerun", "never"] if one.once else []
    return ["--name", one.name, f"--priority={one.priority}", *terms, *rerun]


def _plain(recipes: Sequence[Recipe]) -> bool:
    """Return whether a task file can express all of it."""
    return not any(one.needs or one.retries or one.once or one.held for one in recipes)


def keep_going(people: People, resting: Event) -> None:
    """Wait for the jobs again and again until it is time to rest; some of these are killed, too."""
    while not resting.wait(LOOK_AGAIN_S):
        if people.home.exists():
            people.wait(WAIT_S, killed=people.chance.random() < KILLED_WAITS)
