"""A machine with GPUs and more cores than this one, and a person who queues real programs on it."""

import contextlib
import errno
import json
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.queue.gpu.gpus_file import read_gpu_status
from launcher.queue.home.daemon_control import scheduler_pid, wake
from launcher.queue.jobs.job import Resources
from launcher.queue.jobs.states import ENDED_STATES
from launcher.queue.store.queue import Store
from launcher.queue.texts import why
from launcher.system.files import write_json
from tests.build import a_context, a_spec, enqueue, shell, until
from tests.e2e.conftest import Project, a_project
from tests.forked import BIN, Process, call_launcher, start
from tests.launcher.users import NOBODY
from tests.nvml.standin import GIB, TAKE, Devices
from tests.shortened import QUICK_LOOKS, shorten

ROOT = Path(__file__).parents[2]
CORES = 16
COMMAND_S = 60.0
CAN_BE_ANOTHER = os.geteuid() == 0 and shutil.which("setpriv") is not None
PATIENCE_S = 30.0  # a reason appears within 1 s on an idle machine
# takes $1 bytes, says in $2 where it is, and ends with code 0 as soon as somebody opens the pipe $3
HOLDING = f"""
{TAKE} echo "$CUDA_VISIBLE_DEVICES/$CUDA_DEVICE_ORDER" >"$2.tmp" && mv "$2.tmp" "$2"
read line <"$3" || true
"""
# takes $1 bytes, and when it is let go ends with torch's message $4
SHORT = f"""
{TAKE} echo "$CUDA_VISIBLE_DEVICES/$CUDA_DEVICE_ORDER" >"$2.tmp" && mv "$2.tmp" "$2"
read line <"$3" || true
echo 'Traceback (most recent call last):'
echo '  File "train.py", line 7, in <module>'
echo "torch.OutOfMemoryError: $4"
exit 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A queued program of ours that says where it runs, and ends when it is let go."""

    job: int
    said: Path
    gate: Path

    @property
    def started(self) -> bool:
        """Whether it runs, or ran, and has taken its memory."""
        return self.said.exists()

    @property
    def cards(self) -> list[str]:
        """The GPUs that it was given; fails when it does not run in time."""
        until(lambda: self.started, f"job {self.job} runs")
        visible = self.said.read_text().split("/")[0].strip()
        return visible.split(",") if visible else []

    def let_go(self) -> None:
        """Let it end, once it has come so far."""
        until(self._opened, f"job {self.job} waits to be let go")

    def _opened(self) -> bool:
        try:
            os.close(os.open(self.gate, os.O_WRONLY | os.O_NONBLOCK))
        except OSError as error:
            if error.errno != errno.ENXIO:  # nobody reads it yet
                raise
            return False
        return True


@dataclass(slots=True, kw_only=True)
class Machine:
    """One person's queue on the machine; `gpus` are its devices."""

    project: Project
    gpus: Devices
    scheduler: str = "tests.nvml.scheduler"  # the module that is run
    prefix: tuple[str, ...] = ()  # words before every command, by which somebody else runs it
    _schedulers: list[Process] = field(default_factory=list)

    def serve(self, cores: int = CORES, *, patience_s: float | None = None) -> None:
        """Start a scheduler that believes in so many cores; return once it has the lock.

        Args:
            cores: that it believes in.
            patience_s: after which it names a wait without a cause.
        """
        home, folder = self.project.home, self.project.folder
        words = [str(home.folder), str(cores), *(() if patience_s is None else (str(patience_s),))]
        environment = self.project.environment
        process: Process
        with Path(os.devnull).open() as nothing, (folder / "scheduler.out").open("ab") as log:
            streams = (nothing.fileno(), log.fileno(), log.fileno())
            if self.prefix:
                process = subprocess.Popen(
                    [*self.prefix, sys.executable, "-m", self.scheduler, *words],
                    cwd=ROOT,
                    env=environment,
                    stdin=streams[0],
                    stdout=streams[1],
                    stderr=streams[2],
                    start_new_session=True,
                )
            else:
                process = start(
                    self.scheduler, words, folder=ROOT, environment=environment, streams=streams
                )
        self._schedulers.append(process)
        until(lambda: scheduler_pid(home) == process.pid, "the scheduler serves")
        until(home.scheduler_record.exists, "the scheduler is on record")

    def kill_scheduler(self) -> None:
        """Kill the scheduler; nobody but `serve` starts the next one."""
        # as if it had been restarted too often lately
        write_json(self.project.home.restarts, {"schema": 1, "times": [time.time()] * 3})
        pid = scheduler_pid(self.project.home)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until(lambda: scheduler_pid(self.project.home) is None, "it is dead")

    def call(
        self, *words: str, environ: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `launcher` with these words to its end."""
        said = self._call(*words, environ=environ)
        assert said.returncode == 0, said
        return said

    def rehearsed(self, *words: str) -> str:
        """Return what a dry run of what would be refused says."""
        said = self._call(*words)
        assert (said.returncode, said.stderr) == (2, ""), said
        return said.stdout

    def refused(self, *words: str, environ: Mapping[str, str] | None = None) -> str:
        """Run `launcher` with words that it refuses, and return what it says."""
        said = self._call(*words, environ=environ)
        assert said.returncode == 2, said
        return said.stderr

    def _call(
        self, *words: str, environ: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        environment = {**self.project.environment, **(environ or {})}
        folder = self.project.folder
        if self.prefix:
            said = subprocess.run(
                [*self.prefix, BIN / "launcher", *words],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=COMMAND_S,
                check=False,
            )
        else:
            said = call_launcher(
                *words, folder=folder, environment=environment, timeout_s=COMMAND_S
            )
        assert "Traceback (most recent call last)" not in said.stderr, said
        return said

    def add(self, *argv: str, environ: Mapping[str, str] | None = None, **options: object) -> int:
        """Queue a program and return its number."""
        words = ((f"--{key.replace('_', '-')}", value) for key, value in options.items())
        flags = [key if value is True else f"{key}={value}" for key, value in words]
        said = self.call("add", *flags, "--", *argv, environ=environ)
        return int(said.stdout.split()[0])

    def queue_many(self, argv: tuple[str, ...], count: int, **resources: object) -> list[int]:
        """Queue a program so many times in one transaction; for a queue of who runs the tests."""
        asked = Resources(**resources)  # type: ignore[arg-type]  # as the caller says
        name = secrets.token_hex(4)
        specs = [a_spec(*argv, name=f"command/{name}-{n}", resources=asked) for n in range(count)]
        environment = {**os.environ, **self.project.environment}
        with self._store() as store:
            jobs = enqueue(store, *specs, context=a_context("/", environment=environment))
        wake(self.project.home)
        return jobs

    def hold(
        self,
        amount: float,
        *,
        environ: Mapping[str, str] | None = None,
        script: str = HOLDING,
        words: tuple[str, ...] = (),
        **options: object,
    ) -> Program:
        """Queue a program that takes so many GiB on each of its GPUs until it is let go."""
        said, gate = self.places()
        argv = shell(script, str(round(amount * GIB)), str(said), str(gate), *words)
        job = self.add(*argv, environ=environ, **options)
        return Program(job=job, said=said, gate=gate)

    def places(self) -> tuple[Path, Path]:
        """Return where a new program says what it sees, and the pipe that lets it go."""
        number = len(list(self.project.folder.glob("gate-*")))
        gate = self.project.folder / f"gate-{number}"
        os.mkfifo(gate)
        gate.chmod(0o666)
        return self.project.folder / f"said-{number}", gate

    def show(self, job: int) -> dict[str, Any]:
        """Return the JSON of `launcher show` for a job."""
        record: dict[str, Any] = json.loads(self.call("show", str(job), "--json").stdout)
        return record

    def show_text(self, job: int) -> str:
        """Return the text of `launcher show` for a job."""
        return self.call("show", str(job)).stdout

    def gpu_status(self) -> dict[str, dict[str, Any]]:
        """Return the JSON of `launcher gpus`, by UUID."""
        record = json.loads(self.call("gpus", "--json").stdout)
        return {gpu["uuid"]: gpu for gpu in record["gpus"]}

    def wait_for_usage(self, uuid: str, used: int) -> None:
        """Wait until the scheduler has seen that so many bytes of a GPU are in use."""

        def seen() -> bool:
            look = read_gpu_status(self.project.home)
            found = [gpu.used for gpu in look.gpus if gpu.uuid == uuid] if look else []
            return found == [used]

        until(seen, f"the scheduler sees {used} bytes in use")

    def state(self, job: int) -> str:
        """Return the state of a job; quicker than to ask a command."""
        with self._store() as store:
            (row,) = store.read.jobs_by_id([job])
        return str(row.state)

    def why(self, job: int) -> str:
        """Return why a job is in its state; quicker than to ask a command."""
        with self._store() as store:
            (row,) = store.read.jobs_by_id([job])
        return why(row)

    def until_state(self, job: int, state: str) -> None:
        """Wait until a job is in a state."""
        expected = {state, *(str(first) for first in ENDED_STATES)}
        until(lambda: self.state(job) in expected, f"job {job} is {state}")
        assert self.state(job) == state, self.show_text(job)

    def wait_for_reason(self, job: int, *words: str) -> str:
        """Wait until what is said of a job's state holds these words, and return it."""
        said: list[str] = [""]

        def told() -> bool:
            said.append(self.why(job))
            return all(word in said[-1] for word in words)

        with contextlib.suppress(AssertionError):
            until(told, f"{words} is told", PATIENCE_S)
            return said[-1]  # not read again: the state may have changed by now
        raise AssertionError(f"{words} is not told, but {set(said)}")

    def configure(self, text: str) -> None:
        """Write the user's config.toml."""
        file = Path(self.project.environment["LAUNCHER_CONFIG"])
        temporary = file.with_suffix(".new")
        temporary.write_text(text)
        temporary.replace(file)

    def end(self) -> None:
        """Kill the schedulers that were started here; their jobs are killed with the project."""
        for process in self._schedulers:
            process.kill()
            process.wait()

    @contextmanager
    def _store(self) -> Iterator[Store]:
        store = Store(self.project.home)
        try:
            yield store
        finally:
            store.close()


@contextmanager
def a_machine(
    place: Path, gpus: Devices, *, claims: Path | None = None, uid: int | None = None
) -> Iterator[Machine]:
    """A person's empty queue on a machine with these GPUs; nothing of it is left afterwards.

    Args:
        place: Existing folder for all files of the user.
        gpus: the machine's.
        claims: Folder for the reservations of all users. If None, a folder of their own.
        uid: Another user than the one who runs the tests.
    """
    with a_project(place) as project:
        if claims is None:
            claims = place / "claims"
            claims.mkdir()
        config = project.folder / "config.toml"
        config.touch()
        mine = {"LAUNCHER_CLAIMS": str(claims), "LAUNCHER_CONFIG": str(config)}
        project.environment.update(gpus.environment | mine)
        shorten(project.environment, QUICK_LOOKS)
        for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"):  # the launcher sets them
            project.environment.pop(name, None)
        project.home.folder.mkdir(mode=0o700)
        machine = Machine(project=project, gpus=gpus)
        if uid is not None:
            # this user may read the folders of the user who runs the tests: Python and launcher
            words = f"--reuid={uid} --regid={uid} --clear-groups"
            allowed = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
            machine.prefix = ("setpriv", *words.split(), *allowed, "--")
            for folder in (project.folder, project.home.folder, config):
                os.chown(folder, uid, uid)
        try:
            yield machine
        finally:
            # nobody restarts it, and nothing new is started while the rest is killed
            with contextlib.suppress(OSError):
                project.home.stop_record.write_text('{"schema": 1, "now": false, "at": 0.0}')
            machine.end()


@contextmanager
def two_users(
    place: Path,
    gpus: Devices,
    *,
    scheduler: str = "tests.nvml.scheduler",
    intervals: Mapping[str, float] | None = None,
) -> Iterator[tuple[Machine, Machine]]:
    """Two users with a queue each on one machine; where nobody can become another, two queues of one.

    Args:
        place: Existing folder for all files of the users.
        gpus: the machine's.
        scheduler: the module of a scheduler.
        intervals: Constants that their schedulers have shorter, see `tests.shortened`.
    """
    claims, places = place / "claims", [place / "one", place / "other"]
    for folder in (claims, *places):
        folder.mkdir()
    for folder in (claims, gpus.taken):
        folder.chmod(0o1777)
    with ExitStack() as stack:
        first = stack.enter_context(a_machine(places[0], gpus, claims=claims))
        uid = NOBODY if CAN_BE_ANOTHER else None
        other = stack.enter_context(a_machine(places[1], gpus, claims=claims, uid=uid))
        for person in (first, other):
            person.scheduler = scheduler
            shorten(person.project.environment, intervals or {})
            person.serve()
        yield first, other


def queue_of(person: Machine) -> str:
    """Return how reasons of other queues name the queue of a user."""
    user = pwd.getpwuid(NOBODY if person.prefix else os.geteuid()).pw_name
    return f"the queue {person.project.home.folder} of user {user}"


def name_of(person: Machine) -> str:
    """Return the name by which others know a user."""
    me = pwd.getpwuid(os.geteuid()).pw_name
    if not CAN_BE_ANOTHER:
        return f"another queue of user {me}"
    return pwd.getpwuid(NOBODY).pw_name if person.prefix else me
