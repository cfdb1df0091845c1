"""What users do to jobs, pauses as the queue records them, and jobs that wait for the end of another."""

import re
import time
from pathlib import Path

import pytest

from launcher.frontends.screens.job_records import job_records
from launcher.frontends.screens.job_view import job_view
from launcher.queue.home.paths import Home
from launcher.queue.jobs.job import Resources, Terms
from launcher.queue.jobs.states import (
    Done,
    EndCause,
    Failed,
    Lost,
    Outcome,
    ReasonCode,
    State,
    termination_reason,
)
from launcher.queue.store.feed import EventCursor
from launcher.queue.store.lanes import PRIORITY_POINT_S
from launcher.queue.store.queue import NewJob, Store
from launcher.queue.store.runs import read_fair_share_account
from launcher.queue.store.steering import ChangedJob
from launcher.queue.store.transitions import RequeueDecision
from launcher.queue.store.usage import MeasuredUsage
from launcher.queue.texts import pause_reason
from launcher.queue.workers.progress.steps import AttemptProgress, ProgressReport
from launcher.queue.workers.termination import (
    TIME_LIMIT,
    ResistingProcess,
    Termination,
    write_termination,
)
from tests.build import GIB, a_context, a_reason, a_seat, a_spec, claimed, enqueue, job_row
from tests.launcher.queued import DONE, FAILED, LOST, STOPPED, end, one, put, ready, seated, states

CHAIN = {"b": "a", "c": "b"}


# --- cancelling


def test_cancelling_a_job_skips_its_dependents_except_those_cancelled_too(
    store: Store,
) -> None:
    a, b, _, d, e = put(store, "abcde", needs={"b": "a", "e": "d"})
    assert store.job_control.cancel([a], 2.0) == [a]
    assert store.job_control.cancel([d, e], 2.0) == [d, e]
    assert states(store) == "cancelled skipped queued cancelled cancelled"
    assert job_row(store, b).reason == f"skipped: job {a} command/a was cancelled"


def test_running_job_gets_an_end_request_and_ended_job_cannot_be_cancelled(
    store: Store,
) -> None:
    running, done = put(store, "ab")
    claimed(store, running)
    end(store, done)
    assert store.job_control.cancel([running, done], 2.0) == [running]
    assert states(store) == "running done"
    assert store.running_jobs.pending_actions() == {running: "cancel"}


def test_cancelled_running_job_has_the_reason_and_an_event_with_its_kill_time(
    store: Store,
) -> None:
    job = one(store, grace_s=8.0)
    claimed(store, job)
    store.job_control.cancel([job], 2.0)
    store.job_control.cancel([job], 5.0)  # changes nothing
    reason = job_row(store, job).state_reason
    assert (reason.code, reason.text) == (
        ReasonCode.ENDING,
        "ending: cancelled by its owner, SIGKILL after 8 s",
    )
    assert (reason.data["since"], reason.data["kill_at"]) == (2.0, 10.0)
    codes = [reason.code for _, _, reason in store.read.events_of(job)]
    assert codes == [ReasonCode.NEW, ReasonCode.STARTED, ReasonCode.ENDING]
    assert store.running_jobs.jobs_to_kill() == frozenset()


def test_ending_job_is_killed_after_its_first_grace_period(
    store: Store,
) -> None:
    job = one(store, grace_s=8.0)
    claimed(store, job)
    store.running_jobs.record_running_reason(
        job, termination_reason(EndCause.TIME_LIMIT, 2.0, 8.0), 2.0
    )
    store.job_control.cancel([job], 5.0)
    data = job_row(store, job).state_reason.data
    assert (data["since"], data["kill_at"], data["cause"]) == (2.0, 10.0, "cancelled")


def test_ending_job_can_be_killed_at_once(store: Store) -> None:
    job = one(store, grace_s=60.0)
    claimed(store, job)
    store.job_control.cancel([job], 2.0)
    assert store.job_control.cancel([job], 5.0, at_once=True) == [job]
    data = job_row(store, job).state_reason.data
    assert (data["since"], data["kill_at"]) == (2.0, 5.0)
    assert store.running_jobs.jobs_to_kill() == {job}


def test_resuming_an_ending_job_keeps_the_reason_of_its_end(store: Store) -> None:
    job = one(store)
    claimed(store, job)
    store.job_control.pause([job], lambda _: a_reason("paused", ReasonCode.PAUSED), 2.0)
    store.job_control.cancel([job], 3.0)
    store.job_control.resume([job], 4.0)
    assert job_row(store, job).state_reason.code is ReasonCode.ENDING


def test_reason_for_ending_a_running_job_is_recorded_once(store: Store) -> None:
    job = one(store)
    claimed(store, job)
    for cause in (EndCause.TIME_LIMIT, EndCause.QUEUE_STOPPED):
        store.running_jobs.record_running_reason(job, termination_reason(cause, 2.0, 30.0), 2.0)
    assert job_row(store, job).reason == "ending: its time limit was reached, SIGKILL after 30 s"
    assert len(store.read.events_of(job)) == 3


def test_screens_show_the_end_request_time_and_the_remaining_process(
    home: Home, store: Store
) -> None:
    job = one(store)
    claimed(store, job)
    now = time.time()
    store.job_control.cancel([job], now - 45)
    attempt = home.attempt(job, 1)
    attempt.folder.mkdir(parents=True)
    ending = Termination(since=now - 45, kill_at=now + 30)
    write_termination(attempt, ending)
    (record,) = job_records(home, store, [job_row(store, job)])
    assert re.fullmatch(
        r"ending for 45 s: cancelled by its owner; SIGKILL in \d+ s", str(record["note"])
    )
    resists = (ResistingProcess(pid=123, user="root", state="S"),)
    write_termination(attempt, ending._replace(kill_at=now - 15, resists=resists))
    (record,) = job_records(home, store, [job_row(store, job)])
    assert record["note"] == record["reason"]
    assert str(record["note"]).endswith("; process 123 of root does not end after SIGKILL")
    assert record["reason_code"] == record["note_code"] == "ending"
    termination = record["termination"]
    assert isinstance(termination, dict)
    assert termination["cause"] == "cancelled"
    assert termination["resists"] == [{"pid": 123, "user": "root", "state": "S"}]


def test_reason_and_facts_of_an_end_are_read_together(
    home: Home, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, now = one(store), time.time()
    claimed(store, job)
    looks = iter([Termination(since=now, kill_at=now + 30, cause=TIME_LIMIT), None])
    monkeypatch.setattr(
        "launcher.frontends.screens.termination.read_termination", lambda _: next(looks)
    )
    (record,) = job_records(home, store, [job_row(store, job)])
    assert str(record["reason"]).startswith("ending for")
    assert isinstance(record["termination"], dict)


def test_end_requested_by_the_supervisor_is_shown(home: Home, store: Store) -> None:
    job = one(store)
    claimed(store, job)
    attempt = home.attempt(job, 1)
    attempt.folder.mkdir(parents=True)
    now = time.time()
    write_termination(attempt, Termination(since=now, kill_at=now - 1, cause=TIME_LIMIT))
    (record,) = job_records(home, store, [job_row(store, job)])
    assert "its time limit was reached; SIGKILL was sent" in str(record["note"])
    store.running_jobs.record_running_reason(job, a_reason("settles", ReasonCode.SETTLING), 2.0)
    (record,) = job_records(home, store, [job_row(store, job)])
    assert (record["note"], record["termination"]) == ("settles", None)


def test_cancelling_ends_a_pause(store: Store) -> None:
    job = one(store, not_before=100.0)
    store.job_control.cancel([job], 2.0)
    assert store.ready_jobs.release_due_timers(50.0) is None


# --- holding


def test_a_held_job_does_not_start_until_it_is_released(store: Store) -> None:
    a, b = put(store, "ab")
    assert store.job_control.hold([a], 2.0) == [a]
    assert ready(store) == [b]
    assert store.job_control.hold([a], 2.0) == [], "it is held already"
    assert store.job_control.release([a, b], 3.0) == [a]
    assert ready(store) == [a, b]


def test_running_and_ended_jobs_are_not_held_or_released_and_open_ones_not_retried(
    store: Store,
) -> None:
    running, done, waits = put(store, "abc")
    end(store, done)
    claimed(store, running)
    for verb in (store.job_control.hold, store.job_control.release):
        assert verb([running, done], 3.0) == []
    assert store.job_control.retry([running, waits], 4.0) == []
    assert states(store) == "running done queued"


def test_held_job_is_skipped_when_its_dependency_fails(store: Store) -> None:
    a, b = put(store, "ab", needs=CHAIN)
    store.job_control.hold([b], 1.0)
    end(store, a, FAILED)
    assert states(store) == "failed skipped"


# --- priority


def test_a_day_of_waiting_equals_a_point_of_priority(store: Store) -> None:
    def late(priority: int, days: float) -> int:
        new = NewJob(spec=a_spec(name=f"command/{days}", priority=priority))
        with store.database.writing():
            run = store.ensure_run(Path("/nowhere"), "test")
            return store.insert_or_replace(run, a_context(), new, days * PRIORITY_POINT_S)

    old, urgent, latest = late(0, 0.0), late(1, 0.9), late(1, 1.1)
    assert ready(store) == [urgent, old, latest]


def test_priority_of_waiting_jobs_can_be_changed(store: Store) -> None:
    a, b, c = put(store, "abc")
    end(store, a)
    assert store.job_control.set_priority([a, b, c], -2) == [b, c]
    assert store.job_control.set_priority([c], 5) == [c]
    assert ready(store) == [c, b]
    assert [job.priority for job in store.read.jobs()] == [0, -2, 5]


# --- running again


def test_retrying_includes_dependencies_and_skipped_dependents(store: Store) -> None:
    a, b, c = put(store, "abc", needs=CHAIN)
    end(store, a, FAILED)
    assert states(store) == "failed skipped skipped"
    assert store.job_control.jobs_to_retry([c]) == [a, b, c]
    assert store.job_control.retry([c], 4.0) == [a, b, c]
    assert [job.waits for job in store.read.jobs()] == [0, 1, 1]
    assert ready(store) == [a]


def test_retrying_keeps_done_and_unrelated_jobs(store: Store) -> None:
    a, b, other = put(store, "abo", needs=CHAIN)
    end(store, a)
    for job in (b, other):
        end(store, job, FAILED)
    assert store.job_control.retry([b], 4.0) == [b]
    assert states(store) == "done queued failed"
    assert ready(store) == [b]
    assert store.job_control.retry([a], 5.0) == [a], "a done job that others wait for"
    assert job_row(store, b).waits == 1
    assert ready(store) == [a]


def test_retrying_resets_counters(store: Store) -> None:
    job = one(store, retries=1, rerun="never")
    end(store, job, FAILED)
    store.ready_jobs.release_due_timers(1e9)
    end(store, job, LOST)
    store.job_control.retry([job], 4.0)
    row = job_row(store, job)
    assert (row.failures, row.lost, row.ended) == (0, 0, None)
    assert end(store, job, FAILED) is State.QUEUED, "it has its retry again"


@pytest.mark.parametrize("held", [False, True])
def test_a_retried_job_waits_again_for_its_time(store: Store, held: bool) -> None:
    job = one(store, not_before=100.0)
    if held:
        store.job_control.hold([job], 1.0)
    store.job_control.cancel([job], 2.0)
    store.job_control.retry([job], 3.0)
    row = job_row(store, job)
    assert (row.state, row.starts_at, row.waits) == (
        State.HELD if held else State.QUEUED,
        100.0,
        1,
    )
    store.job_control.release([job], 4.0)
    assert ready(store) == []
    store.ready_jobs.release_due_timers(100.0)
    assert ready(store) == [job]


def test_past_start_time_does_not_delay_a_retried_job(store: Store) -> None:
    job = one(store, not_before=100.0)
    store.job_control.cancel([job], 2.0)
    store.job_control.retry([job], 200.0)
    assert (job_row(store, job).starts_at, ready(store)) == (None, [job])


def test_a_skipped_job_that_is_retried_with_its_need_waits_for_its_time(store: Store) -> None:
    specs = a_spec(name="command/a"), a_spec(name="command/b", terms=Terms(not_before=100.0))
    a, b = enqueue(store, *specs, needs={"command/b": ["command/a"]})
    end(store, a, FAILED)
    assert store.job_control.retry([a], 4.0) == [a, b]
    assert (job_row(store, b).starts_at, job_row(store, b).waits) == (100.0, 2)


def test_a_retried_job_does_not_wait_for_the_pause_after_its_failure(store: Store) -> None:
    job = one(store, retries=3, backoff_s=60.0, not_before=0.5)
    store.ready_jobs.release_due_timers(1.0)
    end(store, job, FAILED)
    assert job_row(store, job).starts_at == 63.0
    store.job_control.cancel([job], 4.0)
    store.job_control.retry([job], 5.0)
    assert (job_row(store, job).starts_at, ready(store)) == (None, [job])


@pytest.mark.parametrize(("asked", "waits_until"), [(500.0, 500.0), (30.0, 63.0)])
def test_later_of_pause_and_new_start_time_counts(
    store: Store, asked: float, waits_until: float
) -> None:
    job = one(store, retries=3, backoff_s=60.0)
    end(store, job, FAILED)
    row = job_row(store, job)
    spec = row.spec._replace(terms=row.spec.terms._replace(not_before=asked))
    store.job_control.change_jobs([ChangedJob(row, spec, a_reason("changed"))], 5.0)
    assert job_row(store, job).starts_at == waits_until


def test_changed_job_keeps_its_measured_gpu_memory_need(store: Store) -> None:
    job = one(store)
    requeue = RequeueDecision(reason=a_reason("full"), vram=8, exclusive=True)
    store.transitions.finish_attempt(
        claimed(store, job), FAILED, outputs={}, now=2.0, requeue=requeue
    )
    row = job_row(store, job)
    spec = row.spec._replace(resources=Resources(cpus=2))
    store.job_control.change_jobs([ChangedJob(row, spec, a_reason("changed"))], 5.0)
    lane = store.ready_jobs.lane_of_job(job)
    assert (lane.resources.cpus, lane.least_vram, lane.made_exclusive) == (2, 8, True)


def test_retried_job_keeps_its_settings(store: Store) -> None:
    a, b = put(store, "ab", after_any={"b": "a"}, group="night")
    store.job_control.set_priority([b], 7)
    store.job_control.change_tags([b], ["paper"], [])
    store.job_control.set_note([b], "table 3")
    store.job_control.set_group_limit("night", 1)
    before = job_row(store, b)
    store.job_control.cancel([b], 2.0)
    store.job_control.retry([b], 3.0)
    after = job_row(store, b)
    for name in ("priority", "waits", "spec_text", "owner_note", "submitted", "hash"):
        assert getattr(after, name) == getattr(before, name), name
    assert store.job_control.tags_of([b]) == {b: ["paper"]}
    assert [job.id for job in store.read.awaited_jobs_of(b)] == [a]
    assert store.ready_jobs.lane_of_job(b).group == "night"


# --- forgetting


def test_deleted_job_leaves_no_rows(store: Store) -> None:
    job = one(store)
    end(store, job, Done(at=2.0, result={"auc": 1.0}))
    assert store.job_control.delete_jobs([job]) == [job]
    read = store.read
    assert [read.jobs(), read.attempts([job]), read.events_of(job)] == [[]] * 3
    assert read.result_of(job) is None
    assert not any(read.counts().values())
    assert one(store) == job + 1, "its number is not given again"


def test_open_or_needed_jobs_are_not_deleted(store: Store) -> None:
    a, b, c = put(store, "abc", needs=CHAIN)
    end(store, a)
    assert store.job_control.delete_jobs([a, b, c]) == []
    store.job_control.cancel([b], 3.0)
    assert store.job_control.delete_jobs([a]) == [a], "only ended jobs need it now"
    assert store.read.dependency_names(b) == []
    assert store.job_control.jobs_to_retry([99]) == store.job_control.delete_jobs([99]) == []


def test_failed_job_is_not_deleted_while_a_dependent_can_be_retried(
    store: Store,
) -> None:
    a, b = put(store, "ab", needs=CHAIN)
    store.job_control.cancel([a], 2.0)
    assert store.job_control.delete_jobs([a]) == []
    assert store.job_control.deletable_jobs([a, b]) == {a, b}
    assert store.job_control.delete_jobs([a, b]) == [a, b]


def test_chain_is_deleted_only_with_its_dependents_that_can_be_retried(store: Store) -> None:
    names = "abcdefgh"
    jobs = put(store, names, needs={names[n]: names[n - 1] for n in range(1, len(names))})
    end(store, jobs[0], FAILED)
    assert store.job_control.deletable_jobs(jobs) == {*jobs}
    assert store.job_control.deletable_jobs(jobs[:-1]) == set(), "the last one may be run again"
    assert store.job_control.deletable_jobs(jobs[3:]) == {*jobs[3:]}
    assert store.job_control.delete_jobs(jobs) == jobs


def test_contexts_are_deleted_with_their_last_job(store: Store) -> None:
    secret = a_context(environment={"TOKEN": "s3cret"})
    (gone,) = enqueue(store, a_spec(name="command/a"), context=secret)
    kept = one(store, "b")
    store.job_control.cancel([gone], 2.0)
    store.job_control.delete_jobs([gone])
    store.job_control.delete_unused_rows()
    assert "s3cret" not in str([*map(tuple, store.database.execute("SELECT body FROM contexts"))])
    assert claimed(store, kept).context_text
    (again,) = enqueue(store, a_spec(name="command/c"), context=secret)
    assert "s3cret" in claimed(store, again).context_text


def test_rows_that_no_job_uses_are_deleted_and_their_numbers_are_not_reused(store: Store) -> None:
    def rows() -> dict[str, list[int]]:
        tables = ("lanes", "runs", "contexts", "sources")
        return {
            name: store.database.query_numbers(f"SELECT id FROM {name} ORDER BY id")
            for name in tables
        }

    def queue(name: str) -> int:
        spec = a_spec(name=f"command/{name}", sources={"x": name})
        spec = spec._replace(terms=Terms(group=name))
        context = a_context(environment={"X": name})
        (job,) = enqueue(store, spec, context=context, run=name)
        return job

    gone, kept, last = map(queue, "abc")
    before = rows()
    store.job_control.cancel([gone, last], 2.0)
    store.job_control.delete_jobs([gone, last])
    for _ in range(2):
        store.job_control.delete_unused_rows()
        assert rows() == {name: numbers[1:] for name, numbers in before.items()}
    counters = store.database.execute("SELECT DISTINCT run FROM counters ORDER BY run").fetchall()
    assert [run for (run,) in counters] == before["runs"][1:]
    assert claimed(store, kept).context_text
    new = queue("d")
    assert {name: numbers[-1] for name, numbers in rows().items()} == {
        name: numbers[-1] + 1 for name, numbers in before.items()
    }
    store.job_control.delete_unused_rows()
    assert rows() == {name: [numbers[1], numbers[2] + 1] for name, numbers in before.items()}, (
        "the former last ones are deleted, too"
    )
    assert claimed(store, new).context_text


def test_event_id_is_never_reused(store: Store) -> None:
    first, second = put(store, "ab")
    store.job_control.cancel([second], 2.0)
    last = store.read.last_event()
    store.job_control.delete_jobs([second])
    store.job_control.hold([first], 3.0)
    assert [change.job for change in EventCursor(store, last).read_new()] == [first]


# --- groups


def test_limit_of_a_group_is_set_changed_and_deleted(store: Store) -> None:
    for group, slots in (("downloads", 2), ("downloads", 3), ("uploads", 1)):
        store.job_control.set_group_limit(group, slots)
    groups = [(group.name, group.slots) for group in store.read.group_limits()]
    assert groups == [("downloads", 3), ("uploads", 1)]
    store.job_control.set_group_limit("downloads", None)
    assert [group.name for group in store.read.group_limits()] == ["uploads"]


# --- pauses as the queue records them: how long each attempt was paused, and what follows from that


SEAT = {"device": "GPU-0", "vram": 10 * GIB}


def paused_at(store: Store, job: int, now: float) -> list[int]:
    return store.job_control.pause([job], lambda _: pause_reason("cpu", None, now), now)


def test_only_running_jobs_without_an_end_request_are_paused(store: Store) -> None:
    waiting, running, ending = put(store, "123")
    claimed(store, running)
    claimed(store, ending)
    store.job_control.cancel([ending], 2.0)
    paused = [paused_at(store, job, at) for job in (waiting, running, ending) for at in (5.0, 6.0)]
    assert paused == [[], [], [running], [], [], []]
    assert store.running_jobs.paused_jobs() == {running}
    assert store.job_control.resume([waiting, ending], 7.0) == []


@pytest.mark.parametrize("outcome", [Done(at=100.0), Failed(at=100.0, error="no")])
def test_duration_of_an_attempt_excludes_its_pauses(
    store: Store, home: Home, outcome: Outcome
) -> None:
    job = one(store)
    claim = claimed(store, job, now=10.0)
    paused_at(store, job, 20.0)
    store.job_control.resume([job], 25.0)
    paused_at(store, job, 90.0)  # and ends so
    end(store, claim, outcome, now=100.0)
    seconds = 100 - 10 - 5 - 10
    assert store.read.newest_attempts([job])[job].seconds == seconds
    (record,) = job_records(home, store, [job_row(store, job)])
    assert (record["seconds"], record["paused"]) == (seconds, None)
    assert store.running_jobs.paused_jobs() == frozenset()
    (ending,) = store.read.recent_completions(5)  # events of a pause are not attempts
    assert (ending.state, ending.seconds) == (job_row(store, job).state, seconds)


def test_pause_does_not_affect_the_expected_duration(store: Store) -> None:
    job = one(store, signature="train 1")
    claim = seated(store, job, 10.0, **SEAT)
    paused_at(store, job, 20.0)
    store.job_control.resume([job], 60.0)
    measured = MeasuredUsage(elapsed_s=90.0, shared_s=30.0, slowdown=2.0)
    end(store, claim, Done(at=100.0), now=100.0, measured_usage=measured)
    assert store.usage_records.usage("train 1").seconds == (50.0,)
    assert read_fair_share_account(store.database.execute, Path("/nowhere"), "test").used == 50.0


def test_status_shows_a_paused_job_and_its_reservations(store: Store, home: Home) -> None:
    job = one(store)
    claimed(store, job)
    before = job_view(job_row(store, job))
    store.job_control.pause([job], lambda _: pause_reason("GPU-0,GPU-1", 10 * GIB, 50.0), 50.0)
    line = job_view(
        job_row(store, job), AttemptProgress(ProgressReport(at=50.0, step=3, total=10, metrics={}))
    )
    assert line.reason.endswith("; 10 GiB on each of its 2 GPUs stays reserved")
    assert line.code is ReasonCode.PAUSED
    (record,) = job_records(home, store, [job_row(store, job)])
    assert record["paused"] == "1970-01-01T00:00:50Z"
    store.job_control.resume([job], 60.0)
    assert job_view(job_row(store, job)) == before
    assert pause_reason("GPU-0", None, 1.0).text.endswith("; its memory on its GPU stays reserved")
    assert ";" not in pause_reason("cpu", None, 1.0).text


# --- jobs that wait for the end of another, however it ends


def two(store: Store) -> list[int]:
    """A job, and one that starts after its end."""
    return put(store, "ab", after_any=CHAIN)


@pytest.mark.parametrize("outcome", [DONE, FAILED])
def test_job_starts_after_any_end_of_another(store: Store, outcome: Outcome) -> None:
    first, second = two(store)
    assert ready(store) == [first]
    end(store, first, outcome)
    assert ready(store) == [second]
    assert (job_row(store, second).state, job_row(store, second).waits) == (State.QUEUED, 0)


@pytest.mark.parametrize("outcome", [STOPPED, Lost(at=2.0, why="a crash")])
def test_attempt_followed_by_a_retry_is_not_the_end_of_a_job(
    store: Store, outcome: Outcome
) -> None:
    first, second = two(store)
    end(store, first, outcome)
    assert (ready(store), job_row(store, second).waits) == ([first], 1)


def test_cancelling_many_jobs_releases_a_job_that_waits_for_all_their_ends(store: Store) -> None:
    *jobs, last = put(store, "abcdL", needs={"b": "a"}, after_any={"L": "abcd"})
    assert job_row(store, last).waits == 4
    store.job_control.cancel([jobs[0], jobs[2]], 2.0)
    assert states(store) == "cancelled skipped cancelled queued queued"
    assert job_row(store, last).waits == 1
    store.job_control.cancel([jobs[3]], 3.0)
    assert ready(store) == [last]


@pytest.mark.parametrize("runs", [False, True])
def test_cancelled_job_blocks_no_job_that_waits_for_its_end(store: Store, runs: bool) -> None:
    first, second = two(store)
    claim = claimed(store, first) if runs else None
    store.job_control.cancel([first], 2.0)
    if claim:
        assert ready(store) == []
        end(store, claim, STOPPED)
    assert states(store) == "cancelled queued"
    assert ready(store) == [second]


def test_skipped_job_blocks_no_job_that_waits_for_its_end(store: Store) -> None:
    a, _, c = put(store, "abc", needs={"b": "a"}, after_any={"c": "b"})
    end(store, a, FAILED)
    assert states(store) == "failed skipped queued"
    assert ready(store) == [c]


def test_new_skipped_job_blocks_no_job_that_waits_for_its_end(store: Store) -> None:
    failed, first, second, third = put(store, "0123", needs={"3": "1"}, after_any={"2": "1"})
    end(store, failed, FAILED)
    with store.database.writing():
        store.set_dependencies(first, [failed], 3.0)
        run, number = (
            store.ensure_run(store.read.jobs()[0].spec.run_folder, "other"),
            store.next_job_number(),
        )
        new = [
            NewJob(spec=a_spec(name="command/1"), dependencies=[failed]),
            NewJob(spec=a_spec(name="command/2"), after_any=[number]),
        ]
        _, awaiting = store.insert_new(run, a_context(), new, 3.0)
    assert [job_row(store, job).state for job in (first, number, third)] == [State.SKIPPED] * 3
    assert sorted(ready(store)) == [second, awaiting]


def test_job_waits_for_all_dependencies_of_both_types(store: Store) -> None:
    a, b, c = put(store, "abc", needs={"c": "a"}, after_any={"c": "ba"})
    assert job_row(store, c).waits == 2, "the end of what must be done is not counted besides"
    end(store, b, FAILED)
    assert (ready(store), job_row(store, c).waits) == ([a], 1)
    assert [job.id for job in store.read.dependencies_of(c)] == [a]
    assert [job.id for job in store.read.awaited_jobs_of(c)] == [b]
    end(store, a, FAILED)
    assert job_row(store, c).state is State.SKIPPED


def test_retried_job_blocks_its_dependents_again(store: Store) -> None:
    first, second = two(store)
    end(store, first, FAILED)
    store.job_control.retry([first], 3.0)
    assert (ready(store), job_row(store, second).waits) == ([first], 1)
    end(store, first)
    assert ready(store) == [second]
    end(store, second, FAILED)
    assert store.job_control.jobs_to_retry([second]) == [second], "of the other only the end counts"


def test_job_that_waits_for_an_end_is_distinguished_and_does_not_prevent_deletion(
    store: Store,
) -> None:
    first, second = two(store)
    assert store.read.dependents_of([first]) == []
    assert [job.id for job in store.read.jobs_awaiting(first)] == [second]
    assert store.read.first_unmet_dependencies([second])[second].name == "command/a"
    assert store.job_control.delete_jobs([first]) == [], "it is open"
    end(store, first, FAILED)
    assert store.read.first_unmet_dependencies([second]) == {}
    assert store.job_control.delete_jobs([first]) == [first]
    assert ready(store) == [second]


def test_new_jobs_wait_for_ends_after_bulk_and_single_insert(store: Store) -> None:
    failed = one(store, "failed")
    end(store, failed, FAILED)
    open_one = one(store, "open")
    with store.database.writing():
        run, first = (
            store.ensure_run(store.read.jobs()[0].spec.run_folder, "other"),
            store.next_job_number(),
        )
        awaited = ([failed], [failed, open_one], [first])
        new = [
            NewJob(spec=a_spec(name=f"command/{n}"), after_any=those)
            for n, those in enumerate(awaited)
        ]
        numbers = store.insert_new(run, a_context(), new, 1.0)
    before = [job_row(store, number).waits for number in numbers]
    assert before == [0, 1, 1]
    store.database.execute("UPDATE jobs SET waits = 9 WHERE id >= ?", (first,))
    with store.database.writing():
        for number, each in zip(numbers, new, strict=True):
            store.set_dependencies(number, each.dependencies, 2.0, after_any=each.after_any)
    assert [job_row(store, number).waits for number in numbers] == before


def test_unreadable_job_counts_as_ended(store: Store) -> None:
    first, second = two(store)
    store.database.execute("UPDATE jobs SET spec = '{' WHERE id = ?", (first,))
    store.ready_jobs.read_ready(10)
    assert store.claims.claim(first, a_seat(), reason="", now=1.0) is None
    assert job_row(store, first).state_reason.code is ReasonCode.UNREADABLE
    assert ready(store) == [second]


def test_unfinished_dependencies_are_listed_first(store: Store) -> None:
    a, b, c, d = put(store, "abcd", needs={"d": "abc"})
    end(store, a)
    assert [job.id for job in store.read.first_dependencies_of(d, 2)] == [b, c]
    assert [job.id for job in store.read.first_dependencies_of(d, 9)] == [b, c, a]
