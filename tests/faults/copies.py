"""Copies of the checkout, each with a Python of its own that imports the copy's modules in every process.

The environment and the working folder of a process do not matter for that. The Python is in the copy's `.venv` and has
the packages of ours. Through the folder `.venv/measured`, pytest reports its progress.
"""

import configparser
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple, TypeVar

from tests.faults.changes import with_harmless_changes
from tests.faults.plugin import BEGIN, BROKEN, CHOSEN, DEADLINE, END, EVENTS, FIRST
from tests.faults.traced import FOLDER, LINES, SOURCES, TEST, read_steps

POLL_S = 0.1
START_S = 120.0  # until the first test begins; torch is imported under load
SHARED_MEMORY, LEAST_BYTES = Path("/dev/shm"), 4 << 30  # as in conftest.py
BIN = Path(sys.executable).parent
_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


class Interrupted(Exception):
    """The measurement was interrupted."""


class Report(NamedTuple):
    """The results of a run of pytest."""

    outcomes: Mapping[str, tuple[str, float]]  # test → passed, failed or skipped; seconds
    broken: frozenset[str]  # modules that were not collected
    unfinished: str | None  # a test that began and did not end: pytest was killed, or ended itself
    is_late: bool  # pytest was killed, as a test or the start took too long


class Checkout:
    """The checkout with its tracked files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        self.files = [name for name in listed.split("\0") if name and (root / name).exists()]
        settings = configparser.ConfigParser()
        settings.read(root / "setup.cfg")
        self.packages = settings["coverage:run"]["source"].split()

    def modules(self, folders: Sequence[str] = ()) -> list[str]:
        """Return the modules of the product, or those of some folders."""
        roots = tuple(f"{folder.rstrip('/')}/" for folder in folders or self.packages)
        return [name for name in self.files if name.endswith(".py") and name.startswith(roots)]

    def read(self, module: str) -> str:
        """Return the text of a module."""
        return (self.root / module).read_text(encoding="utf-8")


class Copy:
    """A copy of a checkout.

    Args:
        checkout: what is copied.
        folder: where; an older copy there is deleted.
        traces_lines: Whether the lines are recorded that each process runs. Then each function has a harmless change.
    """

    def __init__(self, checkout: Checkout, folder: Path, *, traces_lines: bool = False) -> None:
        self.folder, self.stop = folder, threading.Event()
        shutil.rmtree(folder, ignore_errors=True)
        # tests read the history
        clone = ["git", "clone", "--quiet", "--shared", str(checkout.root), str(folder)]
        subprocess.run(clone, check=True)
        for name in checkout.files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(checkout.root / name, folder / name, follow_symlinks=False)
        self._make_python(traces_lines=traces_lines)
        if traces_lines:
            for name in checkout.modules():
                path = folder / name
                path.write_text(with_harmless_changes(path.read_text("utf-8")), encoding="utf-8")
            sources = [str(folder / package) for package in checkout.packages]
            self._at(SOURCES).write_text(json.dumps(sources))

    def _at(self, path: Path) -> Path:
        """Return a path of our Python's folder in the copy's."""
        return self.folder / ".venv" / path.relative_to(FOLDER.parent)

    def _make_python(self, *, traces_lines: bool) -> None:
        """Make the copy's Python, its commands and the folder of the reports."""
        place = self.folder / ".venv"
        venv.EnvBuilder(symlinks=True, with_pip=False).create(place)
        self._at(FOLDER).mkdir()
        packages = [path for path in sys.path if path.endswith("-packages")]
        (here,) = place.glob("lib/python*/site-packages")
        lines = [str(self.folder), *(f"import site; site.addsitedir({p!r})" for p in packages)]
        if traces_lines:
            lines.append("import tests.faults.traced; tests.faults.traced.trace()")
        (here / "copy.pth").write_text("".join(f"{line}\n" for line in lines))
        ours = f"#!{BIN}/python".encode()
        for command in BIN.iterdir():
            own = place / "bin" / command.name
            if own.exists() or not command.is_file():
                continue
            text = command.read_bytes()
            if text.startswith(ours):
                own.write_bytes(f"#!{place}/bin/python".encode() + text[len(ours) :])
                own.chmod(0o755)
            else:
                own.symlink_to(command)

    @contextlib.contextmanager
    def changed(self, module: str, text: str, number: int) -> Iterator[None]:
        """Give a module another text for a while.

        Its time in whole seconds changes with the number, since Python compares it with that of the byte code.
        """
        path = self.folder / module
        before, times = path.read_bytes(), path.stat()
        path.write_text(text, encoding="utf-8")
        os.utime(path, (times.st_atime, int(times.st_mtime) + number))
        try:
            yield
        finally:
            path.write_bytes(before)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    def run_tests(
        self,
        modules: Sequence[str],
        chosen: Iterable[str] | None = None,
        *,
        limit_s: Callable[[str], float],
        deadline: float = float("inf"),
        first: bool = False,
    ) -> Report:
        """Run modules of tests in this order.

        Args:
            modules: their files.
            chosen: the tests that are run, all if None.
            limit_s: Seconds after which a test counts as hanging.
            deadline: Monotonic seconds, after which no further test begins.
            first: Whether a test that fails is the last one.

        Raises:
            Interrupted: `stop` was set.
        """
        self._at(EVENTS).unlink(missing_ok=True)
        self._at(TEST).unlink(missing_ok=True)
        shutil.rmtree(self._at(LINES), ignore_errors=True)
        self._at(LINES).mkdir()
        self._at(CHOSEN).unlink(missing_ok=True)
        if chosen is not None:
            self._at(CHOSEN).write_text(json.dumps(sorted(chosen)), encoding="utf-8")
        python = self.folder / ".venv" / "bin" / "python"
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "PYTEST_", "LAUNCHER_"))
        }
        environment |= {"PATH": f"{python.parent}:{environment['PATH']}", DEADLINE: str(deadline)}
        environment |= {FIRST: "1"} if first else {}
        options = ["-p", "tests.faults.plugin", "-p", "no:cacheprovider", "-q", "--tb=line"]
        options += ["--continue-on-collection-errors", *modules]
        with (
            _place_for_tests() as place,
            self._at(FOLDER / "output").open("wb") as output,
            subprocess.Popen(
                [python, "-m", "pytest", *options],
                cwd=self.folder,
                env=environment | {"PYTEST_DEBUG_TEMPROOT": place},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            ) as pytest,
        ):
            try:
                is_late = self._await_end(pytest, limit_s)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pytest.pid, signal.SIGKILL)
        return self._read_events()._replace(is_late=is_late)

    def read_steps(self) -> dict[str, dict[str, set[tuple[int, int]]]]:
        """Return test → module → steps from line to line of the last run."""
        return {
            test: {str(Path(name).relative_to(self.folder)): steps for name, steps in files.items()}
            for test, files in read_steps(self._at(LINES)).items()
        }

    def _await_end(self, pytest: subprocess.Popen[bytes], limit_s: Callable[[str], float]) -> bool:
        """Wait for the end, and return whether a test or the start took too long."""
        events, size, latest = self._at(EVENTS), 0, time.monotonic() + START_S
        while pytest.poll() is None:
            if self.stop.wait(POLL_S):
                raise Interrupted
            if events.exists() and events.stat().st_size != size:
                size, unfinished = events.stat().st_size, self._read_events().unfinished
                latest = time.monotonic() + (limit_s(unfinished) if unfinished else START_S)
            if time.monotonic() > latest:
                return True
        return False

    def _read_events(self) -> Report:
        outcomes, broken, unfinished = {}, set(), None
        events = self._at(EVENTS)
        text = events.read_text(encoding="utf-8") if events.exists() else ""
        for line in text.rpartition("\n")[0].splitlines():
            match json.loads(line):
                case [str(kind), str(test)] if kind == BEGIN:
                    unfinished = test
                case [str(kind), str(module)] if kind == BROKEN:
                    broken.add(module)
                case [str(kind), str(test), str(outcome), float(seconds)] if kind == END:
                    outcomes[test] = (outcome, seconds)
                    unfinished = None
        return Report(outcomes, frozenset(broken), unfinished, is_late=False)


def work_in_copies(
    checkout: Checkout,
    tasks: Sequence[_Task],
    work: Callable[[Copy, _Task], _Result],
    *,
    copies: int,
    traces_lines: bool = False,
) -> Iterator[_Result]:
    """Do tasks in new copies, one at a time in each, and yield the results as they come."""
    folder = checkout.root / "build" / "faults" / ("lines" if traces_lines else "copies")
    folder.mkdir(parents=True, exist_ok=True)
    made = [
        Copy(checkout, folder / str(number), traces_lines=traces_lines)
        for number in range(min(copies, len(tasks)))
    ]
    free: SimpleQueue[Copy] = SimpleQueue()
    for each in made:
        free.put(each)

    def do(task: _Task) -> _Result:
        copy = free.get()
        try:
            return work(copy, task)
        finally:
            free.put(copy)

    with ThreadPoolExecutor(max(1, len(made))) as pool:
        futures = [pool.submit(do, task) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:  # an interrupt, or an error in a task
            for each in made:
                each.stop.set()
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _place_for_tests() -> Iterator[str]:
    """Make a folder for the files of tests, in memory if there is room."""
    in_memory = SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free > LEAST_BYTES
    with tempfile.TemporaryDirectory(
        prefix="faults-", dir=SHARED_MEMORY if in_memory else None, ignore_cleanup_errors=True
    ) as place:
        yield place
