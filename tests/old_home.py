"""Homes and runs of earlier versions, put up as if these had worked here; see tests/data/home*."""

import gzip
import json
import os
import sqlite3
import sys
from pathlib import Path

from launcher.system.files import file_stamp
from tests.e2e.conftest import Project

DATA = Path(__file__).parent / "data"
STORED = DATA / "home-0.3.0.dev0"
TASK_FILES = ("old.yaml", "later.yaml")


def queue_sql(schema: int) -> str:
    """Return the queue of a schema as SQL. Placeholders replace its paths."""
    return _sql(f"schema-{schema}")


def _sql(name: str) -> str:
    return (DATA / f"homes/{name}.sql").read_text(encoding="utf-8")


def put_up(project: Project) -> None:
    """Give a project the home and the runs that version 0.3.0.dev0 made with trueface."""

    def copy(source: Path, to: Path) -> None:
        to.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".gz":
            to.with_suffix("").write_bytes(gzip.decompress(source.read_bytes()))
        elif source.suffix == ".npz":
            to.write_bytes(source.read_bytes())
        else:
            to.write_text(_placed(project, source.read_text(encoding="utf-8")), encoding="utf-8")

    project.home.folder.mkdir(mode=0o700)
    for folder, place in (("attempts", project.home.folder), ("runs", project.folder)):
        for source in (STORED / folder).rglob("*"):
            if source.is_file():
                copy(source, place / source.relative_to(STORED))
    for name in TASK_FILES:
        copy(STORED / name, project.folder / name)
    _make_queue(project, (STORED / "queue.sql").read_text(encoding="utf-8"))


def put_up_schema(toys: Project, schema: int) -> None:
    """Give a project of toys the home and the run that the launcher of a schema, from 3 on, left."""
    put_up_toys(toys, f"schema-{schema}")


def put_up_toys(toys: Project, name: str) -> None:
    """Give a project of toys a stored home and its runs; see tests/data/homes/README.md."""
    toys.home.folder.mkdir(mode=0o700)
    places = {"attempts": toys.home.folder / "attempts", "project": toys.folder}
    text = (DATA / f"homes/{name}.json").read_text(encoding="utf-8")
    for file, content in json.loads(text).items():  # in the order of their names
        top, _, rest = file.partition("/")
        path = places[top] / rest
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, dict) and "symlink" in content:
            path.symlink_to(_placed(toys, content["symlink"]))
        elif isinstance(content, dict):
            os.link(path.with_name(content["link"]), path)
        else:
            path.write_text(_placed(toys, content), encoding="utf-8")
    _make_queue(toys, _sql(name))


def _placed(project: Project, text: str) -> str:
    places = {
        "@HOME@": project.home.folder,
        "@PROJECT@": project.folder,
        "@PYTHON@": sys.executable,
        "@SITE@": project.environment.get("PYTHONPATH", ""),
        "@FOLDER@": project.folder.parent,
        "@CLAIMS@": project.folder.parent / "claims",
    }
    for mark, place in places.items():
        text = text.replace(mark, str(place))
    return text


def _make_queue(project: Project, sql: str) -> None:
    database = sqlite3.connect(project.home.database)
    database.executescript(_placed(project, sql))
    _stamp_outputs(database)
    database.close()


def _stamp_outputs(database: sqlite3.Connection) -> None:
    """Record the current size and time of each result. A result that is not kept is an empty file."""
    rows = database.execute("SELECT id, outputs FROM jobs").fetchall()
    outputs = {number: json.loads(text) for number, text in rows}
    paths = {Path(path) for by_path in outputs.values() for path in by_path}
    for path in sorted(paths, reverse=True):  # the content of a folder before the folder
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_dir():
            path.touch()
    for number, by_path in outputs.items():
        stamps = json.dumps({path: file_stamp(path) for path in by_path})
        database.execute("UPDATE jobs SET outputs = ? WHERE id = ?", (stamps, number))
    database.commit()
