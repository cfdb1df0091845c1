"""Attempts that were given up or of which no queue knows, as after a restore: what reaches a run's folder, and who is left alone."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.provenance.file_digests import FileDigests
from launcher.queue.home.daemon_control import scheduler_pid, wake
from launcher.queue.home.paths import Home
from launcher.queue.jobs.context import Context
from launcher.queue.jobs.job import Spec, Terms
from launcher.queue.jobs.states import ENDED_STATES, State
from launcher.queue.scheduler.unrecorded_attempts import find_unrecorded
from launcher.queue.staging.earlier_stages import find_unaccepted_output
from launcher.queue.store.backups import back_up, backups
from launcher.queue.store.client import ensure_scheduler_alive
from launcher.queue.store.queue import Store
from launcher.system.errors import MachineError, StoreError
from launcher.system.files import write_json
from launcher.system.process_trees import send_signal
from launcher.system.processes import Identity, boot_id, identity, usable_cores
from tests.build import (
    a_context,
    a_spec,
    an_attempt,
    endings,
    enqueue,
    gone,
    in_state,
    job_row,
    lane_reason_text,
    lines_of,
    program_of,
    shell,
    supervisor_of,
    until,
)
from tests.launcher.conftest import Launcher
from tests.launcher.queued import one, serve, states, until_done, until_in, waits_for
from tests.launcher.staging.attempts import files_in
from tests.shortened import QUICK_FAILURES, QUICK_KILLS, shortened

# --- attempts of a laboratory in real processes, with a real scheduler: what reaches the run's folder, and when


LABORATORY = '''
import os, time
from pathlib import Path
from typing import Any
from launcher.api import JobError, write_atomic

def work(job):
    """Write at the start and at the end; the first attempt waits in between."""
    folder, words = job.model_folder(job.model), job.settings
    before = [path.read_text() for path in folder.glob("resume")]
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "resume", f"of attempt {job.attempt}")
    Path(words["begun"]).touch()
    while job.attempt == 1 and not os.path.exists(words["go"]):
        time.sleep(0.01)
    try:
        job.outputs[0].parent.mkdir(parents=True, exist_ok=True)
        write_atomic(job.outputs[0], f"attempt {job.attempt}")
        write_atomic(job.run_folder / f"by-{job.attempt}", "")
        (folder / "resume").unlink()
    except OSError as error:
        Path(words["refused"]).write_text(str(error))
        raise
    return {"before": before}

def tell(job):
    own = {"own": str(job.model_folder("a:pre"))}
    if job.settings.get("quiet"):
        return own
    names = sorted(path.name for path in job.run_folder.iterdir() if path.name != ".attempts")
    return own | {
        "other": str(job.model_folder("b:pre")), "output": str(job.outputs[0]), "run": names
    }

def leave(job):
    job.outputs[0].parent.mkdir(parents=True, exist_ok=True)
    write_atomic(job.outputs[0], f"attempt {job.attempt}")
    if job.attempt == 1:
        os._exit(0)
    return {}

def fail(job):
    write_atomic(job.outputs[0], "half")
    raise JobError("no")
'''


QUICK_TRIES = {
    "launcher.queue.scheduler.endings.MOVE_RETRY_S": 0.2,
    "launcher.queue.scheduler.start_jobs.UNCLEAR_PAUSE_S": 1.0,
}


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Files that cannot be moved are moved again soon."""
    with shortened(QUICK_FAILURES | QUICK_KILLS | QUICK_TRIES):
        yield


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "lab.py").write_text(LABORATORY)
    return folder


def context(project: Path) -> Context:
    return a_context(project, environment={"PATH": os.environ["PATH"], "PYTHONPATH": str(project)})


def a_job(project: Path, entry: str = "work") -> Spec:
    marks = {name: str(project / name) for name in ("begun", "go", "refused")}
    return a_spec(
        name="work/a", kind="work", entry=f"lab:{entry}", root=str(project), model="a:pre",
        outputs=(f"{project}/runs/test/a:pre/model.json",), settings=marks,
    )  # fmt: skip


def queued(home: Home, store: Store, project: Path, entry: str = "work", **changes: Any) -> int:
    """Queue a job of the laboratory, and have a scheduler serve it."""
    spec = a_job(project, entry)._replace(**changes)
    (job,) = enqueue(store, spec, context=context(project))
    serve(home)
    return job


def wait_until_ended(store: Store, job: int) -> None:
    until(lambda: in_state(store, job, *ENDED_STATES), "the job has ended")


def test_late_process_of_an_abandoned_attempt_changes_nothing(
    home: Home, store: Store, project: Path
) -> None:
    job = queued(home, store, project)
    until((project / "begun").exists, "the first attempt has begun")
    first = home.attempt(job, 1)
    frozen = [supervisor_of(first), program_of(first)]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    scheduler = scheduler_pid(home) or 0
    write_json(home.stop_record, {"schema": 1, "now": False, "at": 0.0})  # nothing restarts it
    os.kill(scheduler, signal.SIGKILL)
    until(lambda: scheduler_pid(home) is None, "the scheduler is dead")
    with sqlite3.connect(home.database) as database:  # as if its machine had been restarted
        database.execute("UPDATE attempts SET boot = 'another'")
    database.close()
    home.stop_record.unlink()
    serve(home)
    wait_until_ended(store, job)
    assert endings(store, job) == ["lost", "done"]
    results = files_in(project / "runs")
    assert results == {"test/a:pre/model.json": "attempt 2", "test/by-2": ""}
    assert store.read.result_of(job) == {"before": ["of attempt 1"]}
    (project / "go").touch()
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    until(lambda: all(map(gone, frozen)), "the zombie has ended")
    assert files_in(project / "runs") == results
    assert "/runs" in (project / "refused").read_text()
    assert in_state(store, job, State.DONE)


@pytest.mark.parametrize("entry", ["work", "tell"])
def test_output_is_identified_by_content(
    home: Home, store: Store, project: Path, entry: str
) -> None:
    (output,) = a_job(project).outputs
    if entry == "tell":  # this entry writes nothing
        Path(output).parent.mkdir(parents=True)
        Path(output).write_text("of an earlier job")
    (project / "go").touch()
    job = queued(home, store, project, entry)
    wait_until_ended(store, job)
    row = job_row(store, job)
    assert row.state is State.DONE
    version = FileDigests().read_file_version(output)
    assert version is not None
    assert version.digest
    assert row.outputs == {output: version}


def test_outputs_of_a_failed_attempt_stay_outside_the_run_until_cleaned(
    home: Home, store: Store, project: Path, launcher: Launcher
) -> None:
    (project / "runs/test/a:pre").mkdir(parents=True)
    (project / "runs/test/a:pre/model.json").write_text("whole")
    job = queued(home, store, project, "fail")
    wait_until_ended(store, job)
    assert (project / "runs/test/a:pre/model.json").read_text() == "whole"
    made = Path(find_unaccepted_output(home.attempt(job, 1), project / "runs" / "test"))
    assert (made / "a:pre/model.json").read_text() == "half"
    assert json.loads(launcher("show", "work/a", "--json").out)["not_accepted"] == str(made)
    assert f"staging folder  {made}" in launcher("show", "work/a").out
    assert launcher("clean", "work/a", "--yes").code == 0
    assert files_in(project / "runs") == {"test/a:pre/model.json": "whole"}


@pytest.mark.parametrize("retries", [0, 1])
def test_outputs_of_exit_code_0_without_a_report_are_not_accepted(
    home: Home, store: Store, project: Path, retries: int
) -> None:
    job = queued(home, store, project, "leave", terms=Terms(retries=retries, backoff_s=0.0))
    wait_until_ended(store, job)
    row = job_row(store, job)
    assert endings(store, job) == ["failed", "done"][: retries + 1]
    assert row.state is (State.DONE if retries else State.FAILED)
    model = project / "runs/test/a:pre/model.json"
    assert model.exists() == bool(retries)
    if retries:
        assert files_in(project / "runs") == {"test/a:pre/model.json": "attempt 2"}
    else:
        assert (
            row.reason == "failed: its process ended with exit code 0 before it reported a result"
        )
        made = Path(find_unaccepted_output(home.attempt(job, 1), project / "runs" / "test"))
        assert (made / "a:pre/model.json").read_text() == "attempt 1"


def test_outputs_are_accepted_by_the_next_scheduler_after_a_kill(
    home: Home, store: Store, project: Path
) -> None:
    job = queued(home, store, project)
    until((project / "begun").exists, "the attempt has begun")
    scheduler, supervisor = scheduler_pid(home) or 0, supervisor_of(home.attempt(job, 1))
    os.kill(scheduler, signal.SIGSTOP)
    (project / "go").touch()
    until(lambda: "ending" in home.attempt(job, 1).started.read_text(), "its end is on record")
    assert not (project / "runs/test/a:pre/model.json").exists()
    os.kill(scheduler, signal.SIGKILL)
    until(lambda: gone(supervisor), "its supervisor has left")
    serve(home)
    wait_until_ended(store, job)
    assert files_in(project / "runs") == {"test/a:pre/model.json": "attempt 1", "test/by-1": ""}


def test_end_waits_for_results_that_are_not_visible_yet(
    home: Home, store: Store, project: Path
) -> None:
    job = queued(home, store, project)
    until((project / "begun").exists, "the attempt has begun")
    scheduler = scheduler_pid(home) or 0
    os.kill(scheduler, signal.SIGSTOP)
    (project / "go").touch()
    until(lambda: "ending" in home.attempt(job, 1).started.read_text(), "its end is on record")
    stages = project / "runs/test/.attempts"
    stages.rename(project / "unseen")  # as on a node, whose file system shows it later
    os.kill(scheduler, signal.SIGCONT)
    until(
        lambda: "cannot move its results" in home.scheduler_log.read_text(),
        "the scheduler has looked",
    )
    assert in_state(store, job, State.RUNNING)
    (project / "unseen").rename(stages)
    wait_until_ended(store, job)
    assert files_in(project / "runs") == {"test/a:pre/model.json": "attempt 1", "test/by-1": ""}


def test_job_reads_models_of_other_jobs_in_place_and_its_own_in_its_attempt(
    home: Home, store: Store, project: Path
) -> None:
    (project / "runs/test/b:pre").mkdir(parents=True)
    job = queued(home, store, project, "tell")
    wait_until_ended(store, job)
    own = home.attempt(job, 1).folder / "runs"
    assert store.read.result_of(job) == {
        "own": str(own / "test" / "a:pre"),
        "other": str(project / "runs" / "test" / "b:pre"),
        "output": str(own / "test" / "a:pre" / "model.json"),
        "run": ["b:pre"],
    }


def test_job_in_a_read_only_project_runs_without_a_staging_folder(
    home: Home, store: Store, project: Path
) -> None:
    absent, quiet = str(project / "absent"), {"quiet": True}
    job = queued(home, store, project, "tell", root=absent, outputs=(), settings=quiet)
    wait_until_ended(store, job)
    assert store.read.result_of(job) == {"own": str(project / "absent/runs/test/a:pre")}
    assert not (project / "absent").exists()


# --- attempt folders without a record in the queue: processes that must not be killed, and jobs
# that must wait


EARLIER = "00000000-0000-0000-0000-000000000000"  # a boot


@pytest.fixture
def daemon() -> Iterator[tuple[int, Identity]]:
    """A session whose leader has ended: the leader's pid, and a process that is still alive."""
    with subprocess.Popen(
        shell("sleep 60 >/dev/null & echo $!"),
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    ) as leader:
        assert leader.stdout is not None
        left = identity(int(leader.stdout.readline()))
        leader.wait()
    assert left is not None
    yield leader.pid, left
    send_signal(left.pid, signal.SIGKILL)


def write_start_record(home: Home, boot: str, program: int) -> None:
    """Leave an attempt whose supervisor and program are dead, with the program's pid."""
    attempt = an_attempt(home, a_spec())
    who = [{"pid": pid, "start_ticks": 5, "boot": boot} for pid in (2**22, program)]
    attempt.started.write_text("".join(f"{json.dumps(one)}\n" for one in who))


def test_process_with_a_pid_from_an_earlier_boot_is_not_killed(
    home: Home, daemon: tuple[int, Identity]
) -> None:
    leader, left = daemon
    write_start_record(home, EARLIER, leader)
    before = find_unrecorded(home, 1, 1)
    assert identity(left.pid) == left
    assert (before.number, len(before.began), before.living) == (2, 1, ())


def test_unrecorded_program_of_this_boot_ends_before_the_next_attempt(
    home: Home, daemon: tuple[int, Identity]
) -> None:
    leader, left = daemon
    write_start_record(home, boot_id(), leader)
    assert len(find_unrecorded(home, 1, 1).began) == 1
    until(lambda: identity(left.pid) is None, "nothing of it is left")


def test_process_with_a_supervisor_pid_from_an_earlier_boot_delays_no_job(
    home: Home, daemon: tuple[int, Identity]
) -> None:
    _, left = daemon
    attempt = an_attempt(home, a_spec())
    attempt.started.write_text(json.dumps({**left.to_json(), "boot": EARLIER}) + "\n")
    assert find_unrecorded(home, 1, 1).living == ()
    assert identity(left.pid) == left


def write_infinite_time(started: Path) -> None:
    outcome = json.dumps({"schema": 1, "ending": "done", "at": 10**400})
    started.write_text(f"{{}}\n{outcome}\n")


@pytest.mark.parametrize(
    ("left", "why"),
    [(Path.mkdir, "Is a directory"), (write_infinite_time, "int too large to convert to float")],
)
def test_unreadable_outcome_of_an_unrecorded_attempt_is_unclear(
    home: Home, left: Callable[[Path], None], why: str
) -> None:
    in_the_way = an_attempt(home, a_spec())
    left(in_the_way.started)
    assert find_unrecorded(home, 1, 1).unclear == f"{in_the_way.folder} ({why})"
    shutil.rmtree(in_the_way.folder)


def test_unreadable_folders_delay_only_their_own_jobs(home: Home, store: Store) -> None:
    names = [f"command/{number}" for number in range(usable_cores() + 1)]
    *bad, good = enqueue(store, *(a_spec(name=name) for name in names), a_spec(name="command/good"))
    in_the_way = [an_attempt(home, a_spec(), job=job) for job in bad]
    for attempt in in_the_way:
        attempt.started.mkdir()
    serve(home)

    until_done(store, good)
    first = str(in_the_way[0].folder)
    until(lambda: first in lane_reason_text(job_row(store, bad[0])), "it is told why")
    for job, attempt in zip(bad, in_the_way, strict=True):
        assert in_state(store, job, State.QUEUED)
        attempt.folder.rename(home.folder / f"away{job}")
    until_done(store, *bad)


def test_end_is_recorded_while_the_folder_of_another_job_is_unreadable(
    home: Home, store: Store, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    (runs,) = enqueue(store, a_spec(*waits_for(gate)))
    serve(home)
    until_in(store, State.RUNNING, runs)
    in_the_way = an_attempt(home, a_spec(), job=runs + 1)
    in_the_way.started.write_text("{}\n")
    with in_the_way.started.open() as spawning:
        fcntl.flock(spawning, fcntl.LOCK_EX)  # as between a spawn and its record
        bad = one(store, "2")
        assert bad == runs + 1
        wake(home)
        until(lambda: "cannot read" in lane_reason_text(job_row(store, bad)), "it is told why")
        gate.touch()
        until_done(store, runs)
        assert in_state(store, bad, State.QUEUED)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, f'{{"pid": {10**30}, "start_ticks": 5, "boot": ""}}']
)
def test_foreign_record_identifies_no_process(home: Home, text: str) -> None:
    attempt = an_attempt(home, a_spec())
    attempt.started.write_text(f"{text}\n{text}\n")
    before = find_unrecorded(home, 1, 1)
    assert (before.number, len(before.began), before.unclear) == (2, 1, "")


# --- a queue that was restored from a backup: attempts since then decide nothing, and are not
# repeated


@contextlib.contextmanager
def open_store(home: Home) -> Iterator[Store]:
    """The queue as it is now: its database is replaced now and then."""
    store = Store(home, durable=False)
    yield store
    store.close()


def enqueue_and_serve(home: Home, *specs: Spec, served: bool = True) -> int:
    """Queue a job, and have a scheduler serve it."""
    with open_store(home) as store:
        (job,) = enqueue(store, *specs)
    if served:
        serve(home)
    return job


def retry(home: Home, job: int) -> None:
    """Do what `launcher retry` does."""
    with open_store(home) as store:
        assert store.job_control.retry([job], time.time()) == [job]
    serve(home)


def wait_for_state(home: Home, job: int, *wanted: State) -> None:
    """Wait until a job is in one of the states."""
    with open_store(home) as store:
        until(lambda: in_state(store, job, *wanted), f"job {job} is {wanted}")


def no_scheduler(home: Home) -> None:
    """Kill the scheduler. Its attempts continue."""
    home.stop_record.touch()  # nothing restarts it
    pid = scheduler_pid(home)
    if pid is not None:
        send_signal(pid, signal.SIGKILL)
    until(lambda: scheduler_pid(home) is None, "the scheduler is dead")
    home.stop_record.unlink()


def save(home: Home) -> Path:
    """Make a backup as a migration does."""
    return back_up(home.database, home.backups, 2)


def replace(home: Home, content: bytes) -> None:
    """Put another file in the database's place, at once: a supervisor may revive the scheduler."""
    new = home.folder / "new"
    new.write_bytes(content)
    new.replace(home.database)
    for end in ("-wal", "-shm"):
        home.database.with_name(home.database.name + end).unlink(missing_ok=True)


def restore(home: Home, backup: Path) -> None:
    """Damage the database, and do with a backup what the damage report advises."""
    no_scheduler(home)
    replace(home, os.urandom(1 << 16))
    with pytest.raises(StoreError, match="found damaged") as report:
        Store(home)
    start = "from the newest backup: "
    (line,) = [one for one in str(report.value).splitlines() if one.startswith(start)]
    command = line.removeprefix(start).replace(str(backups(home.backups)[-1]), str(backup))
    subprocess.run(["/bin/sh", "-c", command], check=True)


def test_retry_runs_after_a_restore_from_each_backup(home: Home, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    job = enqueue_and_serve(home, a_spec(*shell('echo x >>"$1"; exit 3', str(ran))))
    wait_for_state(home, job, *ENDED_STATES)
    saved = [save(home)]
    for _ in range(2):
        retry(home, job)
        wait_for_state(home, job, *ENDED_STATES)
        saved.append(save(home))
    for times, backup in enumerate(saved, 4):
        restore(home, backup)
        assert len(lines_of(ran)) == times - 1
        retry(home, job)
        wait_for_state(home, job, *ENDED_STATES)
        assert len(lines_of(ran)) == times

        with open_store(home) as store:
            assert job_row(store, job).attempts == times
            assert endings(store, job)[-1] == "failed"


def test_scheduler_does_not_use_a_replaced_database(home: Home) -> None:
    job = enqueue_and_serve(home, a_spec())
    wait_for_state(home, job, State.DONE)
    first = scheduler_pid(home)
    replace(home, save(home).read_bytes())

    other = enqueue_and_serve(home, a_spec(name="command/2"))
    wait_for_state(home, other, State.DONE)
    assert scheduler_pid(home) not in {first, None}
    with open_store(home) as store:  # everything written since is there: no log was lost
        assert states(store) == "done done"


def test_scheduler_renames_an_unreadable_database_and_exits(home: Home) -> None:
    job = enqueue_and_serve(home, a_spec())
    wait_for_state(home, job, State.DONE)
    store = Store(home)
    store.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = home.database.stat().st_size
    with home.database.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))
    wake(home)

    until(home.damage_record.exists, "it is found damaged")
    until(lambda: scheduler_pid(home) is None, "the scheduler has left")
    with pytest.raises(MachineError, match="found damaged"):
        ensure_scheduler_alive(home, store)  # each follower gets the error
    store.close()
    home.damage_record.unlink()
    other = enqueue_and_serve(home, a_spec(name="command/2"))
    wait_for_state(home, other, State.DONE)


def test_attempt_started_before_a_restore_is_awaited_and_not_repeated(
    home: Home, tmp_path: Path
) -> None:
    ran, gate = tmp_path / "ran", tmp_path / "gate"
    script = 'echo x >>"$1"; until [ -e "$2" ]; do sleep 0.01; done'
    job = enqueue_and_serve(home, a_spec(*shell(script, str(ran), str(gate))), served=False)
    backup = save(home)
    serve(home)
    program = program_of(home.attempt(job, 1))
    restore(home, backup)

    other = enqueue_and_serve(home, a_spec(name="command/2"))
    wait_for_state(home, other, State.DONE)
    with open_store(home) as store:
        until(
            lambda: "the queue has no record of (" in lane_reason_text(job_row(store, job)),
            "it is told",
        )
        assert not gone(program)
        assert lines_of(ran) == ["x"]
        gate.touch()
        until_done(store, job)
        assert lines_of(ran) == ["x", "x"]
        assert job_row(store, job).attempts == 2


def test_non_repeatable_job_from_before_a_restore_runs_only_on_request(
    home: Home, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    argv = shell('echo x >>"$1"', str(ran))
    job = enqueue_and_serve(home, a_spec(*argv, terms=Terms(rerun="never")), served=False)
    backup = save(home)
    serve(home)
    wait_for_state(home, job, State.DONE)
    restore(home, backup)

    serve(home)
    wait_for_state(home, job, *ENDED_STATES)
    assert lines_of(ran) == ["x"]
    with open_store(home) as store:
        assert states(store) == "failed"
        assert "no record of the attempt" in job_row(store, job).reason
    retry(home, job)
    wait_for_state(home, job, State.DONE)
    assert lines_of(ran) == ["x", "x"]


def test_new_job_with_an_id_lost_by_a_restore_runs(home: Home, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    first = enqueue_and_serve(home, a_spec())
    wait_for_state(home, first, State.DONE)
    backup = save(home)
    forgotten = enqueue_and_serve(home, a_spec(*shell('echo x >>"$1"', str(ran)), name="command/2"))
    wait_for_state(home, forgotten, State.DONE)
    no_scheduler(home)
    for file in home.folder.glob("queue.sqlite*"):  # by hand, without a word to the queue
        file.unlink()
    shutil.copyfile(backup, home.database)

    job = enqueue_and_serve(home, a_spec(*shell('echo y >>"$1"', str(ran)), name="command/2"))
    wait_for_state(home, job, State.DONE)
    assert job == forgotten
    assert lines_of(ran) == ["x", "y"]


def test_folders_of_rolled_back_claims_do_not_accumulate(home: Home) -> None:
    job = enqueue_and_serve(home, a_spec(), served=False)
    left = home.attempt(job, 1)
    left.folder.mkdir()
    left.spec.write_text("{")  # the disk was full
    serve(home)
    wait_for_state(home, job, State.DONE)
    with open_store(home) as store:
        assert job_row(store, job).attempts == 1
