"""An upgrade: a later version, with another schema, takes over a queue in use, and going back is refused."""

import json
import re
import shutil
import subprocess
import sys
from inspect import getfile
from pathlib import Path

import pytest

import launcher
from launcher.queue.store.schema import KNOWN_SCHEMA, migrate
from tests.build import until
from tests.e2e.conftest import Project
from tests.launcher.store.test_development_homes import snapshot
from tests.launcher.system.test_git import git

pytest.importorskip("optuna", reason="a search needs the extra `search`")

VERSION = "99.1.0"
STEP = """
def _add_column(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE jobs ADD COLUMN rehearsal TEXT")

STEPS: tuple[Step, ...] = (_add_column,)
"""
WAIT = """until [ -e go ]
do sleep 0.02
done
"""
PAUSED = f"echo paused >> ran\n{WAIT}"
APPEND = "with open('ran', 'a') as file:\n    file.write('{}\\n')\n"
# the first trial ends at once, the others run during the upgrade
TRIAL = f"""echo {{x}} >> ran
if [ -e first ]
then {WAIT}fi
touch first
echo launcher: acc={{x}}
"""


def make_next_version(folder: Path) -> None:
    """Copy the package, with a higher version number and one more step of the schema."""
    package = Path(launcher.__file__).parent
    shutil.copytree(package, folder / "launcher")
    schema = Path(getfile(migrate)).relative_to(package)
    for name, old, new in (
        ("__init__.py", f'"{launcher.__version__}"', f'"{VERSION}"'),
        (schema, "\nSTEPS: tuple[Step, ...] = ()\n", STEP),
    ):
        file = folder / "launcher" / name
        text = file.read_text(encoding="utf-8")
        assert old in text
        file.write_text(text.replace(old, new), encoding="utf-8")


def stored(project: Project) -> dict[str, tuple[int, int, bytes]]:
    """Return the files of the queue without the index of the log, which each reader makes again."""
    return {
        name: file for name, file in snapshot(project.home).items() if not name.endswith("-shm")
    }


def test_next_version_takes_over_a_queue_in_use(project: Project, tmp_path: Path) -> None:
    make_next_version(tmp_path / "next")

    def old(*words: str, code: int = 0) -> str:
        done = project.call("launcher", *words)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    def new(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "launcher", *words],
            cwd=project.folder,
            env={**project.environment, "PYTHONPATH": str(tmp_path / "next")},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def add(name: str, *words: str) -> None:
        old("add", "--name", name, *words)

    ran, code = project.folder / "ran", project.folder / "code.py"
    code.write_text(APPEND.format("frozen"))
    project.write(".gitignore", "first\ngo\nran\n")
    git(project.folder, "init", "-q")
    add("done", "--", "sh", "-c", "echo done >> ran")
    old("wait", "done")
    add("paused", "--", "sh", "-c", PAUSED)
    search = ("--search", "acc", "--trials", "3", "--sweep", "x=0.1..0.9")
    add("fit", "--run", "tune", *search, "--", "sh", "-c", TRIAL)
    add("waiting", "--after", "paused", "--", "sh", "-c", "echo waiting >> ran")
    add("frozen", "--after", "paused", "--snapshot", "--", "python", "code.py")
    code.write_text(APPEND.format("code of today"))
    until(lambda: len(ran.read_text().splitlines()) >= 4, "done, paused and two trials ran")
    old("pause", "paused")
    until(lambda: "\tnew\t" not in old("status", "--all"), "each waiting job has its reason")
    before = old("status", "--all")

    new("start")
    assert new("status", "--all") == before, "nothing is lost and nothing has started again"
    scheduler = json.loads(project.home.scheduler_record.read_text())
    assert scheduler["version"] == VERSION
    assert [path.name[:9] for path in project.home.backups.iterdir()] == [f"queue-v{KNOWN_SCHEMA}"]
    (project.folder / "go").touch()
    new("resume", "paused")
    new("wait", "run:tune", "run:add")
    lines = ran.read_text().splitlines()
    trials = [float(line) for line in lines if line[0].isdigit()]
    assert sorted(line for line in lines if line.isalpha()) == [
        "done",
        "frozen",
        "paused",
        "waiting",
    ]
    assert len({*trials}) == len(trials) == 3
    assert new("results", "tune").count("command/fit@x=") == 3

    new("stop", "--now")
    until(lambda: not Path(f"/proc/{scheduler['pid']}").exists(), "the scheduler has ended")
    left = stored(project)
    for words in (("status",), ("add", "--", "true"), ("start",), ("results", "tune")):
        message = old(*words, code=3)
        assert re.fullmatch(r"error: .*queue.sqlite was written by a newer launcher .*\n", message)
    assert stored(project) == left
