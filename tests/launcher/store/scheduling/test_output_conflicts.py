"""Jobs of different runs that write the same path run one after the other."""

from pathlib import Path
from typing import Any

import pytest

from launcher.queue.home.paths import Home
from launcher.queue.jobs.job import Terms
from launcher.queue.jobs.states import Outcome, ReasonCode, State
from launcher.queue.store.queue import Store
from launcher.queue.texts import reason_to_show
from tests.build import a_context, a_seat, a_spec, claimed, endings, enqueue, job_row, shell, until
from tests.launcher.conftest import Launcher
from tests.launcher.queued import DONE, FAILED, LOST, STOPPED, VOID, end, ready, serve, until_done

DATA = "/nowhere/data/set"


def put(store: Store, run: str, *outputs: str, entry: str = "", **terms: Any) -> int:
    spec = a_spec(name=f"sample/{run}", run=run, entry=entry, outputs=outputs, terms=Terms(**terms))
    (job,) = enqueue(store, spec, run=run)
    return job


def is_refused(store: Store, job: int) -> bool:
    return store.claims.claim(job, a_seat(), reason="", now=2.0) is None


@pytest.mark.parametrize(
    ("first", "second", "entry", "conflict"),
    [
        ((DATA, f"{DATA}/mark.json"), (DATA, f"{DATA}/mark.json"), "m:f", True),
        ((DATA,), ("/nowhere/data/../data/set",), "m:f", True),
        (("/nowhere/a.csv", "/nowhere/b.csv"), ("/nowhere/c.csv", "/nowhere/b.csv"), "", True),
        ((DATA,), ("/nowhere/data/other",), "m:f", False),
        ((DATA,), (), "m:f", False),
        # each attempt writes into a staging folder of its own
        (("/nowhere/runs/two/x",), ("/nowhere/runs/two/x",), "m:f", False),
        (("/nowhere/runs/two/x",), ("/nowhere/runs/two/x",), "", True),
    ],
)
def test_job_is_not_claimed_while_a_running_job_writes_the_same_output(
    store: Store, first: tuple[str, ...], second: tuple[str, ...], entry: str, conflict: bool
) -> None:
    claimed(store, put(store, "one", *first, entry=entry))
    job = put(store, "two", *second, entry=entry)
    assert is_refused(store, job) == conflict
    assert ready(store) == []
    if conflict:
        row = job_row(store, job)
        shown = reason_to_show(row, store.read.first_unmet_dependencies([job])[job])
        assert (row.state, shown.code) == (State.QUEUED, ReasonCode.OUTPUT_IN_USE)
        assert shown.text.startswith("waiting for job 1 (sample/one), which writes /nowhere/")
        assert shown.data["need"] == 1


def test_file_that_is_named_through_a_linked_folder_is_the_same_file(
    store: Store, tmp_path: Path
) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "data").symlink_to("scratch")
    claimed(store, put(store, "one", f"{tmp_path}/scratch/a.csv"))
    assert is_refused(store, put(store, "two", f"{tmp_path}/data/a.csv"))
    assert not is_refused(store, put(store, "three", f"{tmp_path}/data/b.csv"))


@pytest.mark.parametrize(
    ("first", "second", "conflict"),
    [
        ("out/", "out/a.txt", True),
        ("out/in/a.txt", "out/", True),
        ("out/", "out/in/", True),
        ("out/", "out", True),
        ("out/", "output/a.txt", False),
        ("out", "out/a.txt", False),  # a file: the second one fails
        ("a/out/", "b/out/", False),
    ],
)
def test_job_waits_for_a_running_job_that_writes_a_folder_around_its_output(
    store: Store, first: str, second: str, conflict: bool
) -> None:
    def put_program(run: str, name: str) -> int:
        outputs = (f"/nowhere/{name.rstrip('/')}",)
        spec = a_spec(run=run, settings={"outputs": [name]}, outputs=outputs)
        (job,) = enqueue(store, spec, run=run)
        return job

    claimed(store, put_program("one", first))
    assert is_refused(store, put_program("two", second)) == conflict


@pytest.mark.parametrize("outcome", [DONE, FAILED, STOPPED, LOST, VOID])
def test_job_starts_when_the_attempt_with_the_same_output_has_ended(
    store: Store, outcome: Outcome
) -> None:
    claim = claimed(store, put(store, "one", DATA, retries=1, backoff_s=60.0))
    job = put(store, "two", DATA)
    assert is_refused(store, job)
    end(store, claim, outcome)
    assert job in ready(store)
    claimed(store, job)


def test_jobs_with_the_same_output_wait_without_a_deadlock(store: Store) -> None:
    """The first is queued again while the second runs, and waits for that one then."""
    first, second = put(store, "one", DATA), put(store, "two", DATA)
    claim = claimed(store, first)
    assert is_refused(store, second)
    end(store, claim, VOID)
    claim = claimed(store, second)
    assert is_refused(store, first)
    end(store, claim, VOID)
    assert sorted(ready(store)) == [first, second]
    end(store, first)
    end(store, second)
    assert {row.state for row in store.read.jobs()} == {State.DONE}


def test_job_waiting_for_the_same_output_can_be_cancelled_and_loses_its_dependency(
    store: Store, launcher: Launcher
) -> None:
    claim = claimed(store, put(store, "one", DATA))
    job = put(store, "two", DATA)
    assert is_refused(store, job)
    store.job_control.cancel([job], 3.0)
    end(store, claim)
    assert job_row(store, job).state is State.CANCELLED
    store.job_control.retry([job], 4.0)
    assert ready(store) == [job]
    assert launcher.json("show", str(job))["after_any"] == []


def test_programs_of_two_runs_with_the_same_output_run_one_after_the_other(
    home: Home, store: Store, tmp_path: Path, launcher: Launcher
) -> None:
    """Each finds no other that writes, although there is room for both."""
    script = "mkdir lock || exit 7; echo $1 > begun; until [ -e go ]; do sleep 0.01; done; rmdir lock; echo $1 > made"
    jobs = []
    for run in ("one", "two"):
        argv = shell(script, run)
        settings = {"argv": [*argv], "outputs": ["made"]}
        spec = a_spec(*argv, kind="program", settings=settings, outputs=(f"{tmp_path}/made",))
        jobs += enqueue(store, spec, run=run, context=a_context(tmp_path))
    serve(home)
    until((tmp_path / "begun").exists, "the first one runs")
    waits = f"waiting for job 1 (command/1), which writes {tmp_path}/made"
    until(lambda: waits in launcher("status", "2").out, "the second one waits")
    record = launcher.json("status", "2")["jobs"][0]
    assert (record["reason"], record["reason_code"]) == (waits, "output-in-use")
    (tmp_path / "go").touch()
    until_done(store, *jobs)
    assert [endings(store, job) for job in jobs] == [["done"], ["done"]]
    assert (tmp_path / "made").read_text() == "two\n"
