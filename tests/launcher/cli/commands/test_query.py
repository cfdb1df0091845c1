import io
import json
from pathlib import Path

import pytest

from launcher.cli.main import main
from launcher.results.write import NAME
from launcher.states import Done
from launcher.store.queue import Store
from launcher.system.paths import Home
from tests.build import a_spec, claimed, enqueue
from tests.launcher.conftest import Launcher

pytest.importorskip("sqlite_utils")


def with_runs(store: Store) -> None:
    """Two runs, of which each has a job that is done."""
    for number, run in enumerate(("first", "second")):
        (job,) = enqueue(store, a_spec("x", f"--lr={number}", name="command/a", run=run), run=run)
        done = Done(at=2.0, result={"auc": number / 2})
        store.scheduling.finish(claimed(store, job), done, outputs={}, now=2.0)


def test_a_file_that_results_wrote_is_asked(
    launcher: Launcher, store: Store, tmp_path: Path
) -> None:
    with_runs(store)
    path = str(tmp_path / "r.sqlite")
    written = launcher("results", "first", "--db", path)
    assert (written.code, written.out) == (0, "")
    assert "new or changed rows" in written.err
    words = ("query", "--db", path, "SELECT name, value FROM metrics")
    assert launcher(*words).out == "name\tvalue\nauc\t0.0\n"
    assert launcher(*words, "--format", "csv").out == "name,value\r\nauc,0.0\r\n"
    assert launcher(*words, "--format", "markdown").out == (
        "| name | value |\n| --- | --: |\n| auc | 0 |\n"
    )
    assert json.loads(launcher(*words, "--json").out) == {
        "schema": 1,
        "columns": ["name", "value"],
        "rows": [{"name": "auc", "value": 0.0}],
    }
    assert "\\toprule" in launcher(*words, "--format", "latex").out
    assert launcher(*words, "--format", "table").out == "name  value\nauc       0\n"


def test_without_a_file_all_runs_of_the_queue_are_asked_as_they_are_now(
    launcher: Launcher, store: Store, home: Home
) -> None:
    with_runs(store)
    words = ("query", "SELECT runs.name, count(*) FROM jobs JOIN runs ON runs.id = run GROUP BY 1")
    assert launcher(*words).out == "name\tcount(*)\nfirst\t1\nsecond\t1\n"
    (job,) = enqueue(store, a_spec(name="command/b", run="second"), run="second")
    assert launcher(*words).out.splitlines()[2] == "second\t2"
    states = ("query", "SELECT state FROM jobs WHERE name = 'command/b'")
    assert launcher(*states).out == "state\nqueued\n"
    store.scheduling.finish(claimed(store, job), Done(at=3.0), outputs={}, now=3.0)
    assert launcher(*states).out == "state\ndone\n"
    before = (home.folder / NAME).stat()
    assert launcher(*states).out == "state\ndone\n"
    assert (home.folder / NAME).stat() == before or (
        home.folder / NAME
    ).stat().st_mtime_ns == before.st_mtime_ns


def test_columns_of_one_name_are_told_apart_and_blobs_are_hexadecimal(
    launcher: Launcher, store: Store
) -> None:
    with_runs(store)
    answer = launcher("query", "SELECT 1 AS a, 2 AS a, x'00ff' AS b", "--json")
    assert json.loads(answer.out)["rows"] == [{"a": 1, "a_2": 2, "b": "00ff"}]


def test_an_answer_without_rows_is_one(launcher: Launcher, store: Store) -> None:
    with_runs(store)
    for form, said in (("csv", "id\r\n"), ("tabs", "id\n"), ("table", "id\n")):
        answer = launcher("query", "SELECT id FROM jobs WHERE 0", "--format", form)
        assert (answer.code, answer.out) == (0, said)
    assert json.loads(launcher("query", "SELECT 1 AS x WHERE 0", "--json").out)["rows"] == []


@pytest.mark.parametrize("sql", ["CREATE TABLE x (y)", "DELETE FROM jobs", "ATTACH 'x' AS x"])
def test_sql_that_writes_is_refused(launcher: Launcher, store: Store, home: Home, sql: str) -> None:
    with_runs(store)
    launcher("query", "SELECT 1")
    before = (home.folder / NAME).read_bytes()
    answer = launcher("query", sql)
    assert (answer.code, answer.out) == (2, "")
    assert "launcher query only reads" in answer.err
    assert (home.folder / NAME).read_bytes() == before


def test_the_queues_own_database_is_no_place_for_results(
    launcher: Launcher, store: Store, home: Home
) -> None:
    with_runs(store)
    answer = launcher("results", "first", "--db", str(home.database))
    assert answer.code == 2
    assert "is a database of another program" in answer.err


def test_text_of_an_answer_cannot_steer_a_terminal(launcher: Launcher, store: Store) -> None:
    with_runs(store)
    answer = launcher("query", "SELECT char(27) || '[31m' AS x, 'a' || char(10) || 'b' AS y")
    assert answer.out == "x\ty\n\\x1b[31m\ta\\nb\n"


def test_parquet_is_written_as_it_is(
    store: Store, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    with_runs(store)
    with pytest.raises(SystemExit):
        main(("query", "SELECT name, value FROM metrics", "--format", "parquet"))
    table = parquet.read_table(io.BytesIO(capfdbinary.readouterr().out))
    assert table.to_pylist() == [{"name": "auc", "value": 0.0}, {"name": "auc", "value": 0.5}]
