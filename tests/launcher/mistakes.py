"""Invalid command lines with their exact output: read from a file, run, and written to it again.

    .venv/bin/python -m tests.launcher.mistakes     prints changed outputs
    .venv/bin/python -m tests.launcher.mistakes --write     writes the current outputs to the file

A block of the file is the name of a folder, a command line, its exit code and its output. Lines of the standard
output start with `|`, lines of the standard error with `>`.
"""

import contextlib
import io
import os
import re
import shlex
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.frontends.cli.main import main
from launcher.queue.home.paths import Home, make_home
from launcher.queue.jobs.job import Terms
from launcher.queue.jobs.states import Done, Failed
from launcher.queue.store.queue import Store
from launcher.system.files import Json, write_json
from tests.build import a_spec, claimed, enqueue
from tests.launcher.users import NOBODY

REFUSED = 2  # the exit code
FILE = Path(__file__).parent / "data" / "command_mistakes.txt"
VARIABLES = ("LAUNCHER_HOME", "LAUNCHER_CONFIG", "HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME")
_WHEN = re.compile(r"\d{8}T\d{6}\.\d{6}Z")  # name of a damaged database's folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """A command line, the situation in which it runs, its exit code and its output."""

    given: str
    line: str
    code: int = 0
    out: str = ""
    err: str = ""

    def __str__(self) -> str:
        printed = [f"| {one}" for one in self.out.splitlines()]
        printed += [f"> {one}" for one in self.err.splitlines()]
        return "\n".join([f"[{self.given}]", f"$ {self.line}", f"= {self.code}", *printed]) + "\n"


def read(text: str) -> list[Mistake]:
    """Return the blocks of a file."""
    found = []
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line and not line.startswith("#")]
        if not lines:
            continue
        given, line, *rest = lines
        answer: dict[str, list[str]] = {"=": [], "|": [], ">": []}
        for one in rest:
            answer[one[0]].append(one[2:])
        found.append(
            Mistake(
                given=given.strip("[]"),
                line=line.removeprefix("$ "),
                code=int(answer["="][0]) if answer["="] else 0,
                out="\n".join(answer["|"]),
                err="\n".join(answer[">"]),
            )
        )
    return found


class Places:
    """The folders in which the command lines are typed, one for each word of the file."""

    def __init__(self, root: Path) -> None:
        """Make them on demand below a folder."""
        self._root = root
        self._queue = root / "queue"

    @contextlib.contextmanager
    def at(self, given: str) -> Iterator[Path]:
        """Set up a place and go there; its folder is deleted afterwards."""
        word, _, rest = given.partition(": ")
        folder = Path(tempfile.mkdtemp(dir=self._root, prefix="place-"))
        before = {name: os.environ.get(name) for name in VARIABLES}
        for name in VARIABLES:
            os.environ.pop(name, None)
        os.environ |= {"HOME": str(folder), "LAUNCHER_HOME": str(folder / "home")}
        os.environ["LAUNCHER_CONFIG"] = os.devnull
        try:
            with chdir(folder):
                _PLACES[word](self, folder, rest)
                yield folder
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
            shutil.rmtree(folder)

    def queue(self, folder: Path, _: str) -> None:
        """A queue with a job in each state, and a task file beside it."""
        if not self._queue.exists():
            _fill(Home(self._queue))
            Home(self._queue).record.unlink()  # else each copy would be one of this queue
        shutil.copytree(self._queue, folder / "home")
        for name, text in _TASK_FILES.items():
            (folder / name).write_text(text)

    def nothing(self, folder: Path, _: str) -> None:
        """No queue at all."""

    def config(self, folder: Path, text: str) -> None:
        """A queue, and a file with defaults that says this; `/` stands between its lines."""
        self.queue(folder, "")
        file = folder / "config.toml"
        file.write_text(text.replace(" / ", "\n") + "\n")
        os.environ["LAUNCHER_CONFIG"] = str(file)

    def home(self, folder: Path, path: str) -> None:
        """A home of another kind: `file`, a relative path, or one below a file system of the kernel."""
        for name, text in _TASK_FILES.items():
            (folder / name).write_text(text)
        if path == "file":
            (folder / "home").write_text("")
        else:
            os.environ["LAUNCHER_HOME"] = path

    def damaged(self, folder: Path, _: str) -> None:
        """A database that is none."""
        self.queue(folder, "")
        for file in (folder / "home").glob("queue.sqlite*"):
            file.unlink()
        (folder / "home" / "queue.sqlite").write_bytes(b"no database at all, " * 500)

    def newer(self, folder: Path, _: str) -> None:
        """A database of a version to come."""
        self.queue(folder, "")
        store = Store(Home(folder / "home"), durable=False)
        store.close()
        with contextlib.closing(sqlite3.connect(folder / "home" / "queue.sqlite")) as database:
            database.execute("PRAGMA user_version = 99")

    def elsewhere(self, folder: Path, _: str) -> None:
        """A home that another machine made."""
        self.queue(folder, "")
        record: dict[str, Json] = {"schema": 1, "machine": "0" * 32, "host": "zeus"}
        write_json(folder / "home" / "home.json", record)

    def somebodys(self, folder: Path, _: str) -> None:
        """A home that belongs to somebody else; only root can make one."""
        self.queue(folder, "")
        os.chown(folder / "home", NOBODY, NOBODY)

    def stopped(self, folder: Path, _: str) -> None:
        """A stopped queue."""
        self.queue(folder, "")
        write_json(folder / "home" / "stop.json", {"schema": 1, "now": False, "at": 0.0})


_PLACES: dict[str, Callable[[Places, Path, str], None]] = {
    "a queue": Places.queue,
    "no queue": Places.nothing,
    "config": Places.config,
    "home": Places.home,
    "damaged": Places.damaged,
    "newer": Places.newer,
    "another machine's": Places.elsewhere,
    "somebody else's": Places.somebodys,
    "stopped": Places.stopped,
}
_TASK_FILES = {
    "empty.yaml": "",
    "list.yaml": "- train\n",
    "broken.yaml": "train: [{data: 'gan2:pre'\n",
    "good.yaml": "name: good\ncommand:\n  - {name: hello, argv: [echo, hello]}\n",
    "typo.yaml": "name: typo\ncomand:\n  - {name: hello, argv: [echo, hello]}\n",
    "jobs.csv": "submit_s,duration_s\n1,2\n",
    "empty.csv": "",
}


def _fill(home: Home) -> None:
    make_home(home)
    store = Store(home, durable=False)
    prep, failed, *_, runs = enqueue(
        store,
        a_spec(name="command/prep"),
        a_spec(name="train/a", kind="train"),
        a_spec(name="train/b", kind="train"),
        a_spec(name="test/a", kind="test"),
        a_spec(name="test/b", kind="test"),
        a_spec("sleep", "60", name="command/long", terms=Terms(group="downloads")),
        needs={"test/b": ["train/a"]},
        run="tour",
    )
    store.job_control.set_group_limit("downloads", 2)
    outcome = Done(at=2.0, result={"accuracy": 0.5, "loss": 0.7})
    store.transitions.finish_attempt(claimed(store, prep), outcome, outputs={}, now=2.0)
    error = Failed(at=2.0, error="ended with exit code 1: KeyError: 'lr'", exit_code=1)
    store.transitions.finish_attempt(claimed(store, failed), error, outputs={}, now=2.0)
    store.job_control.hold([4], 3.0)
    claimed(store, runs)
    store.close()


def ask(places: Places, one: Mistake) -> Mistake:
    """Return a command line with the answer of the program as it is; one that is refused changes no queue."""
    out, err = io.StringIO(), io.StringIO()
    with places.at(one.given) as folder, redirect_stdout(out), redirect_stderr(err):
        code: object = 0
        before = _rows(folder)
        try:
            main(shlex.split(one.line)[1:])
        except SystemExit as leaving:
            code = leaving.code
        assert isinstance(code, int)
        assert code != REFUSED or _rows(folder) == before, one.line
        told = [_steady(text.getvalue(), folder) for text in (out, err)]
    return replace(one, code=code, out=told[0], err=told[1])


def _rows(folder: Path) -> list[str]:
    """Return all rows of the queue in a place; none where it has no queue that can be read."""
    file = folder / "home" / "queue.sqlite"
    if not file.exists():
        return []
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        try:
            return list(database.iterdump())
        except sqlite3.DatabaseError:  # a damaged one
            return []


def _steady(text: str, folder: Path) -> str:
    """Return what was printed without what differs from one time to the next."""
    text = text.replace(str(folder), "~").replace(sys.executable, "python")
    text = text.replace(os.uname().nodename, "hera")
    return "\n".join(line.rstrip() for line in _WHEN.sub("<time>", text).rstrip("\n").split("\n"))


def _main(words: Sequence[str]) -> int:
    text = FILE.read_text(encoding="utf-8")
    head = text[: text.index("\n\n") + 2] if text.startswith("#") else ""
    with tempfile.TemporaryDirectory() as root:
        places = Places(Path(root))
        before = read(text)
        after = [ask(places, one) for one in before]
    for old, new in zip(before, after, strict=True):
        if old != new:
            sys.stdout.write(f"{new}\n")
    if "--write" in words:
        FILE.write_text(head + "\n".join(map(str, after)), encoding="utf-8")
    return int(before != after)


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
