"""A home and a run of an earlier version, put up as if it had worked here; see tests/data/home-*."""

import gzip
import json
import sqlite3
import sys
from pathlib import Path

from launcher.system.files import stamp
from tests.e2e.conftest import Project

STORED = Path(__file__).parent / "data/home-0.3.0.dev0"
TASK_FILES = ("old.yaml", "later.yaml")


def put_up(project: Project) -> None:
    """Give a project the home and the runs of the earlier version."""
    places = {
        "@HOME@": project.home.folder,
        "@PROJECT@": project.folder,
        "@PYTHON@": sys.executable,
        "@FOLDER@": project.folder.parent,
        "@CLAIMS@": project.folder.parent / "claims",
    }

    def placed(path: Path) -> str:
        text = path.read_text(encoding="utf-8")
        for mark, place in places.items():
            text = text.replace(mark, str(place))
        return text

    def copy(source: Path, to: Path) -> None:
        to.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".gz":
            to.with_suffix("").write_bytes(gzip.decompress(source.read_bytes()))
        elif source.suffix == ".npz":
            to.write_bytes(source.read_bytes())
        else:
            to.write_text(placed(source), encoding="utf-8")

    project.home.folder.mkdir(mode=0o700)
    for folder, place in (("attempts", project.home.folder), ("runs", project.folder)):
        for source in (STORED / folder).rglob("*"):
            if source.is_file():
                copy(source, place / source.relative_to(STORED))
    for name in TASK_FILES:
        copy(STORED / name, project.folder / name)
    database = sqlite3.connect(project.home.database)
    database.executescript(placed(STORED / "queue.sql"))
    _stamp_outputs(database)
    database.close()


def _stamp_outputs(database: sqlite3.Connection) -> None:
    """Note size and time of each result as they are here; what is not kept is an empty file."""
    rows = database.execute("SELECT id, outputs FROM jobs").fetchall()
    outputs = {number: json.loads(text) for number, text in rows}
    paths = {Path(path) for by_path in outputs.values() for path in by_path}
    for path in sorted(paths, reverse=True):  # what lies in a folder before the folder
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_dir():
            path.touch()
    for number, by_path in outputs.items():
        stamps = json.dumps({path: stamp(path) for path in by_path})
        database.execute("UPDATE jobs SET outputs = ? WHERE id = ?", (stamps, number))
    database.commit()
