"""A screen says what the store and the snapshots of the GPUs say, at one moment."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.frontends.screens.queue_head import progress
from launcher.frontends.screens.queue_view import running_table, snapshot_lines
from launcher.frontends.screens.snapshots import (
    QueueSnapshot,
    QueueSnapshotReader,
    read_scheduler_status,
)
from launcher.queue.gpu.gpus_file import GpuStatus, write_gpu_status
from launcher.queue.gpu.monitor import GpuPoller
from launcher.queue.gpu.own_reservations import Reservation
from launcher.queue.gpu.reservations import ReservationBoard
from launcher.queue.gpu.resources import core_resource_name
from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.queue.home.paths import Home
from launcher.queue.jobs.job import Spec, Terms
from launcher.queue.jobs.states import Done, Failed, Outcome, ReasonCode, State, Stopped
from launcher.queue.scheduler.gpus.reported_ends import ReportedEnds
from launcher.queue.scheduler.gpus.taken_memory import GpuUsageTracker
from launcher.queue.scheduler.policy.model import Running
from launcher.queue.store.queue import NewJob, Store
from launcher.queue.store.rows import Claim
from launcher.queue.store.usage import no_usage
from launcher.queue.texts import pause_reason
from launcher.system.files import Json
from launcher.system.processes import core_mask
from launcher.system.text_table import TextStyle, text_of
from tests.build import (
    DEADLINE_S,
    GIB,
    Clock,
    a_context,
    a_gpu,
    a_seat,
    a_spec,
    an_attempt,
    claimed,
    enqueue,
    finished,
)
from tests.launcher.conftest import Launcher
from tests.screens import texts_of

NOW = 1_000_000.0


TakeSnapshot = Callable[..., QueueSnapshot]


@pytest.fixture
def take_snapshot(home: Home, store: Store) -> TakeSnapshot:
    """Return a function that takes the snapshot of a screen opened at a given time."""

    def seen(now: float = NOW, **asked: Any) -> QueueSnapshot:
        return QueueSnapshotReader(home, store, clock=Clock(now)).read_snapshot(**asked)

    return seen


def steps(home: Home, job: int, *reports: tuple[float, int]) -> None:
    """Write progress reports of a job's first attempt, at times before now."""
    attempt = home.attempt(job, 1)
    attempt.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lines = [
        json.dumps({"at": NOW + at, "step": step, "total": 100, "metrics": {"loss": 0.5}})
        for at, step in reports
    ]
    attempt.progress.write_text("\n".join([*lines, ""]))


def write_log(home: Home, job: int, text: str) -> None:
    """Have a job's first attempt print."""
    home.attempt(job, 1).folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.attempt(job, 1).log.write_text(text)


LATER = a_spec(name="train/later", kind="train", terms=Terms(not_before=NOW + 9999))


def test_empty_queue_has_an_empty_snapshot(take_snapshot: TakeSnapshot) -> None:
    screen = take_snapshot()
    assert (screen.running, screen.waiting, screen.recent, screen.gpus) == ((), (), (), ())
    assert screen.scheduler.state == "absent"
    assert screen.counts == {}


def test_running_job_shows_progress_rate_and_time_left(
    home: Home, store: Store, take_snapshot: TakeSnapshot
) -> None:
    (job,) = enqueue(store, a_spec())
    claimed(store, job, now=NOW - 60)
    steps(home, job, (-20.0, 10), (-10.0, 20), (0.0, 30))
    (work,) = take_snapshot().running
    assert work.since == NOW - 60
    assert work.reason == "30/100 loss=0.5"
    assert work.step is not None
    assert (work.step.rate, work.ends) == (1.0, NOW + 70)
    assert (work.devices, work.memory) == ("cpu", None)
    steps(home, job, (-20.0, 90), (-10.0, 0), (0.0, 20))  # begun anew
    (work,) = take_snapshot().running
    assert work.step is not None
    assert work.step.rate == 2.0


def test_reported_time_left_overrides_the_time_limit(
    home: Home, store: Store, take_snapshot: TakeSnapshot
) -> None:
    (job,) = enqueue(store, a_spec(terms=Terms(time_limit_s=3600.0)))
    claim = claimed(store, job, now=NOW - 60)
    assert [work.ends for work in take_snapshot().running] == [NOW + 3540]
    steps(home, job, (-20.0, 10), (-10.0, 20), (0.0, 30))
    assert [work.ends for work in take_snapshot().running] == [NOW + 70]
    assert [run.ends for run in read_running_jobs(home, claim, NOW)] == [NOW + 70]
    late = [NOW + 3540]  # all should be done by then, and it goes on
    assert [work.ends for work in take_snapshot(NOW + 71).running] == late
    assert [run.ends for run in read_running_jobs(home, claim, NOW + 71)] == late
    assert [run.ends for run in read_running_jobs(home, claim, NOW - 55)] == late, (
        "asked for it too soon"
    )


def test_program_printing_a_400_digit_number_does_not_stop_the_queue(
    home: Home, store: Store
) -> None:
    (job,) = enqueue(store, a_spec(terms=Terms(time_limit_s=3600.0)))
    claim = claimed(store, job, now=NOW - 60)
    digits = "9" * 400
    write_log(home, job, f"50%|#####     | {digits}/{digits} [00:10<00:10, 1.00it/s]\n")
    assert [run.ends for run in read_running_jobs(home, claim, NOW)] == [NOW + 3540]


def read_running_jobs(home: Home, claim: Claim, now: float) -> list[Running]:
    """Return the running jobs in the view of a scheduler that starts now."""
    taken = GpuUsageTracker(lambda _: None, ReportedEnds(home, Clock(now)))
    taken.read_reported_ends([claim])
    return taken.running_jobs([claim], no_usage)


def test_program_without_steps_shows_its_last_output_line(
    home: Home, store: Store, take_snapshot: TakeSnapshot
) -> None:
    (job,) = enqueue(store, a_spec())
    claimed(store, job, now=NOW - 60)
    (work,) = take_snapshot().running
    assert work.code is ReasonCode.STARTED
    write_log(home, job, "\x1b[31mreading\x1b[0m\nwriting \x1b[1m3\x1b[0m files\n")
    (work,) = take_snapshot().running
    assert (work.reason, work.code, work.step) == ("writing 3 files", None, None)


def test_progress_is_read_from_log_lines_and_progress_bars(
    home: Home, store: Store, take_snapshot: TakeSnapshot
) -> None:
    lines, bar = enqueue(store, "command/a", "command/b")
    outputs = {
        lines: "begins\nlauncher: step=3 total=10 loss=.2\nsaved\n",
        bar: "\r 30%|###       | 3/10 [00:01<00:02,  3.50it/s, loss=0.1]",
    }
    for job, text in outputs.items():
        claimed(store, job, now=NOW - 60)
        write_log(home, job, text)
    first, second = take_snapshot().running
    assert (first.reason, second.reason) == ("3/10 loss=0.2", "3/10 loss=0.1")
    assert second.step is not None
    assert (second.step.rate, second.ends) == (3.5, second.step.at + 2)


def test_paused_job_shows_the_pause_instead_of_progress(
    home: Home, store: Store, take_snapshot: TakeSnapshot
) -> None:
    (job,) = enqueue(store, a_spec(terms=Terms(time_limit_s=3600.0)))
    claimed(store, job, now=NOW - 60)
    steps(home, job, (-20.0, 10), (-10.0, 20))
    store.job_control.pause([job], lambda _: pause_reason("cpu", None, NOW - 5), NOW - 5)
    screen = take_snapshot()
    (work,) = screen.running
    assert (work.code, work.step, work.ends) == (ReasonCode.PAUSED, None, None)
    drawn = running_table(screen).to_lines(160)
    assert any(text_of(line).startswith("◐ command/1") for line in drawn)
    notes = [span for line in drawn for span in line.spans if "paused" in span.text]
    assert [(span.text[:12], span.style) for span in notes] == [("paused since", TextStyle.WARN)]


def test_waiting_jobs_are_in_start_order_and_the_rest_is_counted(
    store: Store, take_snapshot: TakeSnapshot
) -> None:
    jobs = enqueue(store, *(f"command/{number}" for number in range(9)))
    store.job_control.set_priority([jobs[5]], 3)
    screen = take_snapshot(waiting_limit=4)
    assert [one.id for one in screen.waiting] == [jobs[5], *jobs[:3]]
    assert screen.more == 5
    assert screen.counts[State.QUEUED] == 9


def test_waiting_job_names_its_first_dependency(store: Store, take_snapshot: TakeSnapshot) -> None:
    names = ["train/a", "train/b", "test/a", "test/b"]
    needs = {"test/a": ["train/a"], "test/b": ["train/a", "train/b"]}
    first, *_ = enqueue(store, *names, needs=needs)
    told = {one.name: one.reason for one in take_snapshot().waiting}
    assert told["test/a"] == "waiting for train/a"
    assert told["test/b"] == "waiting for train/a and 1 more job"
    finished(store, first, Done(at=NOW))
    told = {one.name: one.reason for one in take_snapshot().waiting}
    assert told["test/b"] == "waiting for train/b"


def test_dependency_has_its_number_if_its_name_is_long_or_ambiguous(
    store: Store, take_snapshot: TakeSnapshot
) -> None:
    long = "train/gan2:pre&real:pre%40@seed=2,weight_decay=0.0002"
    enqueue(store, "prep", run="other")
    with store.database.writing():
        run = store.ensure_run(Path("/nowhere"), "test")
        for name, needs in ((long, []), ("test/a", [2]), ("test/b", [1])):
            store.insert_or_replace(
                run, a_context(), NewJob(spec=a_spec(name=name), dependencies=needs), NOW
            )
    told = {one.name: one.reason for one in take_snapshot().waiting}
    assert told["test/a"] == f"waiting for {long} (job 2)"
    assert told["test/b"] == "waiting for prep (job 1)"


def test_ended_jobs_show_results_and_failed_attempts_the_action(
    store: Store, take_snapshot: TakeSnapshot
) -> None:
    a, b, c = enqueue(
        store,
        "command/a",
        a_spec(name="command/b", terms=Terms(retries=1)),
        "command/c",
    )
    done = Done(at=NOW - 30, result={"loss": 0.25, "name": "x", "n": 3})
    store.transitions.finish_attempt(claimed(store, a, NOW - 90), done, outputs={}, now=NOW - 30)
    for job, at in ((b, NOW - 20), (c, NOW - 10)):
        failed = Failed(at=at, error="boom")
        store.transitions.finish_attempt(claimed(store, job, at - 5), failed, outputs={}, now=at)
    newest, again, oldest = take_snapshot().recent
    assert (newest.id, newest.state, newest.reason) == (c, State.FAILED, "boom")
    assert (again.state, again.latest) == (State.FAILED, State.QUEUED)
    assert again.reason.startswith("waiting for retry 1 of 1 after")
    assert (oldest.state, oldest.reason, oldest.seconds) == (State.DONE, "loss=0.25 n=3", 60.0)


def test_release_and_hold_are_not_listed_as_ended(
    store: Store, take_snapshot: TakeSnapshot
) -> None:
    (job,) = enqueue(store, a_spec())
    store.job_control.hold([job], NOW)
    store.job_control.release([job], NOW)
    assert take_snapshot().recent == ()


def test_search_matches_name_glob_run_and_number(store: Store, take_snapshot: TakeSnapshot) -> None:
    a, b = enqueue(store, "train/vit", "test/vit/real")
    (c,) = enqueue(store, "command/[x", run="other")
    for sought, wanted in (
        ("vit", [a, b]),
        ("train/*", [a]),
        ("other", [c]),
        (str(b), [b]),
        ("nothing", []),
    ):
        found = take_snapshot(search_text=sought).found
        assert found is not None
        assert [one.id for one in found] == wanted, sought
    assert take_snapshot().found is None


def test_running_job_in_search_results_shows_progress(home: Home, store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    claimed(store, job, now=NOW - 60)
    queue = QueueSnapshotReader(home, store, clock=Clock(NOW))
    for step, left in ((30, "1 m 10 s"), (40, "1 m")):  # the second screen searches for nothing
        steps(home, job, (-10.0, step - 10), (0.0, step))
        screen = queue.read_snapshot(search_text=str(job))
        assert screen.found == screen.running
        texts = [" ".join(text.split()) for text in texts_of(snapshot_lines(screen, 140))]
        (title,) = (text for text in texts if text.startswith("FOUND"))
        assert title.endswith("RATE LEFT")
        assert any(f"1/s {left} {step}/100 loss=0.5" in text for text in texts)


def test_runs_with_open_jobs_show_their_progress(store: Store, take_snapshot: TakeSnapshot) -> None:
    a, _ = enqueue(store, "command/a", "command/b")
    (c,) = enqueue(store, "command/c", run="over")
    for job in (a, c):
        finished(store, job, Done(at=NOW))
    enqueue(store, "command/d", run="add")  # single jobs are no run
    assert take_snapshot().active == {"test": (1, 2)}


def finish(store: Store, job: int, began: float, ended: float, outcome: Outcome) -> None:
    """Have a job run for some time, in seconds from now, and end."""
    claim = claimed(store, job, NOW + began)
    store.transitions.finish_attempt(claim, outcome, outputs={}, now=NOW + ended)


def trainings(store: Store, number: int) -> list[int]:
    return enqueue(store, *(a_spec(name=f"train/{n}", kind="train") for n in range(number)))


def finish_three(store: Store, jobs: list[int]) -> None:
    """Have the first three take 10 s each."""
    for job in jobs[:3]:
        finish(store, job, -10, 0, Done(at=NOW))


def test_time_left_needs_three_finished_jobs_of_the_kind(
    store: Store, take_snapshot: TakeSnapshot
) -> None:
    jobs = trainings(store, 9)
    finish(store, jobs[8], -31, -30, Failed(at=NOW - 30, error="boom"))
    claimed(store, jobs[7], NOW)
    for number, job in enumerate(jobs[:3]):
        assert take_snapshot().remaining_s is None
        at = -20.0 + 10 * number
        finish(store, job, at - 10, at, Done(at=NOW + at))
    assert take_snapshot().remaining_s == 50.0  # 10 s each: one runs, four wait


def test_time_left_is_unknown_while_a_job_is_paused(
    store: Store, take_snapshot: TakeSnapshot
) -> None:
    jobs = trainings(store, 6)
    finish_three(store, jobs)
    claimed(store, jobs[3], NOW)
    assert take_snapshot().remaining_s == 30.0
    store.job_control.pause([jobs[3]], lambda _: pause_reason("cpu", None, NOW), NOW)
    screen = take_snapshot()
    assert (screen.remaining_s, screen.run_remaining_s) == (None, {})
    store.job_control.resume([jobs[3]], NOW)
    assert take_snapshot().remaining_s == 30.0


@pytest.mark.parametrize("other", [LATER, a_spec(name="test/0", kind="test")], ids=["time", "kind"])
def test_time_left_is_unknown_for_other_kinds_and_delayed_or_unneeded_jobs(
    store: Store, take_snapshot: TakeSnapshot, other: Spec
) -> None:
    jobs = trainings(store, 5)
    finish_three(store, jobs)
    assert take_snapshot().remaining_s is None, "nothing runs"
    claimed(store, jobs[3], NOW)
    assert take_snapshot().remaining_s == 20.0
    enqueue(store, other)
    assert take_snapshot().remaining_s is None


@pytest.mark.parametrize(
    ("signatures", "left_s"),
    [
        (["command a"] * 6, 30.0),
        (["command a"] * 5 + ["command b"], None),
        ([""] * 6, None),
    ],
    ids=["equal", "one differs", "unknown"],
)
def test_time_left_is_known_for_programs_that_differ_in_numbers_only(
    store: Store, take_snapshot: TakeSnapshot, signatures: list[str], left_s: float | None
) -> None:
    specs = (
        a_spec(name=f"command/{n}", signature=signature) for n, signature in enumerate(signatures)
    )
    jobs = enqueue(store, *specs)
    finish_three(store, jobs)
    claimed(store, jobs[3], NOW)
    assert take_snapshot().remaining_s == left_s


def test_time_left_of_a_job_uses_its_own_progress(
    home: Home, store: Store, take_snapshot: TakeSnapshot
) -> None:
    (job,) = trainings(store, 1)
    claimed(store, job, now=NOW - 60)
    steps(home, job, (-20.0, 10), (0.0, 30))
    assert take_snapshot().remaining_s == 70.0


def test_time_left_is_unknown_if_a_job_exceeds_all_earlier_durations(
    store: Store, take_snapshot: TakeSnapshot
) -> None:
    jobs = trainings(store, 4)
    for job in jobs[:3]:
        finish(store, job, -101, -1, Done(at=NOW - 1))
    claimed(store, jobs[3], NOW)
    assert take_snapshot(NOW + 40).remaining_s == 60.0
    assert take_snapshot(NOW + 101).remaining_s is None


def test_time_left_is_unknown_for_held_jobs_and_stopped_queues(
    home: Home, store: Store, take_snapshot: TakeSnapshot
) -> None:
    jobs = trainings(store, 7)
    finish_three(store, jobs)
    store.job_control.hold(jobs[3:5], NOW)
    claimed(store, jobs[5], NOW)
    assert take_snapshot().remaining_s == 20.0
    home.stop_record.write_text("{}")
    assert take_snapshot().remaining_s is None


def test_time_left_of_a_run_ignores_other_runs(
    home: Home, store: Store, take_snapshot: TakeSnapshot
) -> None:
    jobs = trainings(store, 6)
    finish_three(store, jobs)
    claimed(store, jobs[3], NOW)
    enqueue(store, "command/any", run="add")
    enqueue(store, "command/other", run="night")
    enqueue(store, LATER, run="later")
    screen = take_snapshot()
    assert screen.remaining_s is None
    assert screen.run_remaining_s == {"test": 30.0}
    drawn = " ".join(texts_of(progress(screen, 100)))
    assert "test (about 30 s), night, later" in drawn
    home.stop_record.write_text("{}")
    assert take_snapshot().run_remaining_s == {}


def test_time_left_of_a_run_ignores_a_program(store: Store, take_snapshot: TakeSnapshot) -> None:
    jobs = trainings(store, 5)
    finish_three(store, jobs)
    claimed(store, jobs[3], NOW)
    enqueue(store, "command/any", run="add")
    (drawn,) = progress(take_snapshot(), 100)
    assert " 3 of 5  about 20 s left (" in drawn.text


def test_ended_jobs_are_shown_with_many_newer_jobs(
    store: Store, take_snapshot: TakeSnapshot
) -> None:
    a, b = enqueue(store, "command/a", "command/b")
    finish(store, a, -90, -60, Done(at=NOW - 60))
    finish(store, b, -90, -30, Failed(at=NOW - 30, error="boom"))
    enqueue(store, *(f"command/{number}" for number in range(500)))
    recent = take_snapshot().recent
    assert [(one.id, one.state, one.reason) for one in recent] == [
        (b, State.FAILED, "boom"),
        (a, State.DONE, ""),
    ]
    finish(store, 3, -20, -10, Done(at=NOW - 10))
    told = [(one.id, one.state) for one in take_snapshot().recent]
    assert told == [(3, State.DONE), (b, State.FAILED), (a, State.DONE)], "each only once"


def test_stopped_attempt_is_not_failed(store: Store, take_snapshot: TakeSnapshot) -> None:
    (job,) = enqueue(store, a_spec(terms=Terms(retries=1, backoff_s=0.0)))
    finish(store, job, -50, -40, Stopped(at=NOW - 40))
    finish(store, job, -30, -20, Failed(at=NOW - 20, error="boom"))
    failed, stopped = take_snapshot().recent
    assert (failed.state, failed.latest) == (State.FAILED, State.QUEUED)
    assert (stopped.state, stopped.reason) == (State.QUEUED, "stopped. Queued again")


def test_each_attempt_has_its_own_duration(store: Store, take_snapshot: TakeSnapshot) -> None:
    (job,) = enqueue(store, a_spec(terms=Terms(retries=1, backoff_s=0.0)))
    finish(store, job, -90, -60, Failed(at=NOW - 60, error="boom"))
    store.ready_jobs.release_due_timers(NOW - 50)
    finish(store, job, -50, -40, Failed(at=NOW - 40, error="boom"))
    store.job_control.retry([job], NOW - 30)
    store.job_control.cancel([job], NOW - 20)
    told = [(one.state, one.seconds) for one in take_snapshot().recent]
    assert told == [(State.CANCELLED, None), (State.FAILED, 10.0), (State.FAILED, 30.0)]


def test_unreasonable_progress_report_is_ignored(
    home: Home, store: Store, take_snapshot: TakeSnapshot
) -> None:
    (job,) = enqueue(store, a_spec())
    claimed(store, job, NOW)
    steps(home, job, (-20.0, 1), (float("nan"), 3), (float("inf"), 4), (-10.0, 10**400))
    (work,) = take_snapshot().running
    assert work.step is not None
    assert (work.step.step, work.ends) == (1, None)


def test_groups_show_the_number_of_running_jobs(store: Store, take_snapshot: TakeSnapshot) -> None:
    store.job_control.set_group_limit("downloads", 2)
    (job,) = enqueue(store, a_spec(terms=Terms(group="downloads")))
    claimed(store, job)
    (group,) = take_snapshot().groups
    assert (group.name, group.limit, group.running) == ("downloads", 2, 1)


def test_gpus_are_read_from_the_latest_scheduler_snapshot(
    home: Home, store: Store, take_snapshot: TakeSnapshot
) -> None:
    write_gpu_status(home, GpuStatus(at=NOW - 2, gpus=(a_gpu(0, used=3, utilisation=0.5),)))
    taken = QueueSnapshotReader(home, store, clock=Clock(NOW))
    assert [gauge.gpu.label for gauge in taken.read_snapshot().gpus] == ["cuda:0"]
    assert taken.read_snapshot().busy == {"GPU-0": (0.5, 0.5)}
    assert take_snapshot(NOW + 60).gpus == ()
    assert take_snapshot(NOW - 3600).gpus == (), "the clock was set back"


@pytest.mark.parametrize(
    ("known", "estimate", "load"),
    [
        ({"estimate": 3 * GIB, "load": 0.25, "load_s": 5.0}, 3 * GIB, 0.25),
        ({"estimate": None, "load": 0.0, "load_s": 0.0}, None, None),  # nothing was measured yet
        ({"number": 2, "estimate": GIB}, None, None),  # facts of an earlier attempt
        ({"estimate": "much", "load": "high", "load_s": 5.0}, None, None),
    ],
)
def test_gpu_shows_estimated_and_measured_memory_of_each_job(
    home: Home,
    store: Store,
    known: dict[str, Json],
    estimate: int | None,
    load: float | None,
) -> None:
    (job,) = enqueue(store, a_spec())
    claimed(store, job, NOW, device="GPU-0")
    seen = GpuStatus(at=NOW, gpus=(a_gpu(0),))
    write_gpu_status(home, seen, [None, {"job": job, "number": 1, **known}])
    (gauge,) = QueueSnapshotReader(home, store, clock=Clock(NOW)).read_snapshot().gpus
    (guest,) = gauge.jobs
    assert (guest.estimate, guest.load) == (estimate, load)
    assert gauge.unused_reserved_bytes == (estimate or 0)


def test_snapshot_includes_cores_and_gpus_reserved_by_other_queues(
    home: Home, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAUNCHER_CLAIMS", str(tmp_path))
    write_gpu_status(home, GpuStatus(at=NOW, gpus=(a_gpu(0),)))
    taken = QueueSnapshotReader(home, store, clock=Clock(NOW))
    assert [gauge.foreign for gauge in taken.read_snapshot().gpus] == [()]
    reserved = [
        Reservation(core_resource_name(core_mask()), 1, None, job=1),
        Reservation("GPU-0", GIB, None, job=1),
    ]
    assert ReservationBoard(tmp_path, tmp_path / "other").publish(reserved)
    screen = taken.read_snapshot()
    assert screen.host is not None
    assert screen.host.reserved_elsewhere == 1
    assert [each.amount for each in screen.gpus[0].foreign] == [GIB]


def test_missing_reservation_folder_is_not_logged(
    launcher: Launcher,
    home: Home,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("LAUNCHER_CLAIMS", str(tmp_path / "missing"))
    write_gpu_status(home, GpuStatus(at=NOW, gpus=(a_gpu(0),)))
    taken = QueueSnapshotReader(home, store, clock=Clock(NOW))
    assert [len(taken.read_snapshot().gpus) for _ in range(2)] == [1, 1]
    launcher.well("status", "--json")
    launcher.well("gpus")
    assert caplog.text == ""


def test_gpu_poller_is_used_if_the_scheduler_is_absent(home: Home, store: Store) -> None:
    answers, seen = threading.Event(), threading.Event()

    def take_snapshot() -> list[GpuSnapshot]:
        answers.wait(DEADLINE_S)
        return [a_gpu(1)]

    taken = QueueSnapshotReader(
        home, store, gpu_poller=GpuPoller(take_snapshot, seen.set), clock=Clock(NOW)
    )
    assert taken.read_snapshot().gpus == (), "it is not waited for"
    answers.set()
    assert seen.wait(DEADLINE_S)
    assert [gauge.gpu.label for gauge in taken.read_snapshot().gpus] == ["cuda:1"]


def test_memory_of_a_job_is_current_peak_and_requested(
    home: Home, store: Store, take_snapshot: TakeSnapshot
) -> None:
    write_gpu_status(
        home,
        GpuStatus(
            at=NOW,
            gpus=(
                a_gpu(0, used=5, processes=()),
                a_gpu(1, used=0),
            ),
        ),
    )
    (job,) = enqueue(store, a_spec())
    seat = a_seat(device="GPU-0,GPU-1", vram=8 * GIB)
    assert store.claims.claim(job, seat, reason="fits", now=NOW) is not None
    attempt = an_attempt(home, a_spec(), job=job)
    told = {
        "schema": 1,
        "at": NOW,
        "reserved": 2 * GIB,
        "peak": 3 * GIB,
        "context": GIB,
        "uuid": None,
    }
    attempt.memory.write_text(json.dumps(told))
    (work,) = take_snapshot().running
    assert work.devices == "cuda:0,1"
    assert work.memory is not None
    assert (work.memory.now, work.memory.peak, work.memory.requested) == (3 * GIB, 4 * GIB, 8 * GIB)
    assert not work.memory.exceeds_request


def test_names_and_reasons_cannot_control_the_terminal(
    store: Store, take_snapshot: TakeSnapshot
) -> None:
    steering = "\x1b[2J\r\n"
    (job,) = enqueue(store, a_spec(name=f"command/{steering}", run=f"r{steering}"))
    failed = Failed(at=NOW, error=f"said {steering}")
    store.transitions.finish_attempt(claimed(store, job, NOW), failed, outputs={}, now=NOW)
    enqueue(store, a_spec(name=f"command/2{steering}", run=f"r{steering}"))
    screen = take_snapshot(search_text="command")
    assert repr(screen).isprintable()
    texts = [screen.waiting[0].name, screen.recent[0].reason, *screen.active]
    assert all(text.isprintable() for text in texts)


def test_unnamed_program_shows_its_command(store: Store, take_snapshot: TakeSnapshot) -> None:
    enqueue(
        store,
        a_spec("sleep", "30 s", name="command/1"),
        a_spec("x" * 99, name="command/2'"),
        a_spec("true", name="command/prep"),
    )
    programs = [one.program for one in take_snapshot().waiting]
    assert programs == ["sleep '30 s'", "x" * 39 + "…", ""]


def test_reading_a_snapshot_writes_nothing_and_needs_no_lock(home: Home, store: Store) -> None:
    enqueue(store, a_spec())
    other = Store(home)
    taken = QueueSnapshotReader(home, other, clock=Clock(NOW))
    before = store.read.data_version()
    with store.database.writing():
        enqueue(store, "command/2")
        assert taken.read_snapshot().counts[State.QUEUED] == 1
    assert taken.read_snapshot().counts[State.QUEUED] == 2
    assert store.read.data_version() == before
    other.close()


def test_failed_read_leaves_no_open_transaction(home: Home, store: Store) -> None:
    def take_snapshot() -> None:
        with store.database.reading():
            store.read.counts()
            raise KeyError

    with pytest.raises(KeyError):
        take_snapshot()
    enqueue(store, a_spec())
    other = Store(home)
    assert other.read.counts() == {State.QUEUED: 1}, "it was written down at once"
    other.close()


def test_scheduler_without_a_record_is_shown(home: Home) -> None:
    assert read_scheduler_status(home).state == "absent"
    home.stop_record.write_text("{}")
    assert read_scheduler_status(home).state == "stopped"
