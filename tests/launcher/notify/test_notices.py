from collections.abc import Sequence

import pytest

from launcher.frontends.notify.messages import MOST_TEXT, MOST_TITLE, Message, make_run_message
from launcher.frontends.notify.notices import (
    FIRST_BACKOFF_S,
    LEAST_TRIES,
    LONGEST_BACKOFF_S,
    MOST_DEAD_LETTERS,
    OLDEST_EVENT_S,
    RUN_END_DELAY_S,
    DeadLetter,
    NotificationState,
    due_events,
    is_retry_due,
    mark_failed,
    mark_sent,
    prune,
    with_events,
)
from launcher.frontends.notify.settings import NotifySettings, NotifyTarget
from launcher.queue.job_options.notifications import AS_CONFIGURED, NotifyEvent, RunNotify
from launcher.queue.jobs.states import ReasonCode, State
from launcher.queue.store.run_news import RunEvents, RunFailure
from tests.build import a_reason

DESK = NotifyTarget(name="desk", command=("true",))
SETTINGS = NotifySettings(targets=(DESK,))
NOW = 1_000_000.0
FIRST, SHORT, ENDED = NotifyEvent.FIRST_FAILURE, NotifyEvent.OUT_OF_MEMORY, NotifyEvent.RUN_ENDED


def run_events(
    *, left: int = 1, at: float = NOW, notify: RunNotify = AS_CONFIGURED, run: int = 1, **n: int
) -> RunEvents:
    happened = {SHORT: n.pop("out_of_memory", 0), FIRST: n.pop("failed_now", 0)}
    return RunEvents(
        id=run,
        name="study",
        root="/lab",
        notify=notify,
        since=at,
        after=0,
        last_at=at,
        open=left,
        totals={State(name): number for name, number in n.items()},
        happened=tuple(event for event, number in happened.items() if number),
    )


def after_events(
    notices: NotificationState, *runs: RunEvents, now: float | None = None
) -> NotificationState:
    cursor = notices.cursor or 0
    fresh = [run._replace(after=cursor) for run in runs]
    return with_events(notices, cursor + 10, fresh, runs[-1].last_at if now is None else now)


def first_run(notices: NotificationState) -> RunEvents:
    return next(iter(notices.runs.values()))


def due_at(
    notices: NotificationState,
    at: float,
    target: NotifyTarget = DESK,
    settings: NotifySettings = SETTINGS,
) -> tuple[NotifyEvent, ...]:
    return due_events(first_run(notices), target, settings, at)


def test_running_run_without_a_failure_sends_no_message() -> None:
    notices = after_events(NotificationState(), run_events(left=3, done=2))
    assert notices.cursor == 10
    assert due_at(notices, NOW + 7200) == ()
    assert not notices.has_pending


def test_end_of_a_run_is_reported_once() -> None:
    notices = after_events(NotificationState(), run_events(left=2))
    notices = after_events(notices, run_events(left=0, at=NOW + 60, done=2))
    assert notices.has_pending
    assert due_at(notices, NOW + 60 + RUN_END_DELAY_S - 1) == ()  # more may be queued
    assert due_at(notices, NOW + 60 + RUN_END_DELAY_S) == (ENDED,)
    notices = mark_sent(notices, "desk", first_run(notices), (ENDED,))
    assert prune(notices, SETTINGS, NOW + 100).runs == {}


def test_run_with_new_jobs_within_the_delay_has_not_ended() -> None:
    notices = after_events(NotificationState(), run_events(left=0, done=1))
    notices = after_events(notices, run_events(left=1, at=NOW + 3, done=1))
    assert due_at(notices, NOW + 500) == ()
    notices = after_events(notices, run_events(left=0, at=NOW + 600, done=2))
    assert due_at(notices, NOW + 660) == (ENDED,)
    assert first_run(notices).since == NOW


def test_first_failure_is_reported_immediately_and_with_the_end() -> None:
    notices = after_events(NotificationState(), run_events(left=9, failed_now=2))
    assert due_at(notices, NOW) == (FIRST,)
    notices = mark_sent(notices, "desk", first_run(notices), (FIRST,))
    notices = after_events(notices, run_events(left=8, at=NOW + 70, failed_now=1))
    assert due_at(notices, NOW + 9000) == ()
    notices = after_events(notices, run_events(left=0, at=NOW + 80))
    assert due_at(notices, NOW + 90) == (ENDED, FIRST)


def test_only_the_first_out_of_memory_failure_is_reported() -> None:
    notices = after_events(
        NotificationState(), run_events(left=200, failed_now=100, out_of_memory=100)
    )
    assert due_at(notices, NOW) == (SHORT, FIRST)
    notices = mark_sent(notices, "desk", first_run(notices), (SHORT, FIRST))
    notices = after_events(
        notices, run_events(left=99, at=NOW + 1, failed_now=101, out_of_memory=101)
    )
    assert due_at(notices, NOW + 9000) == ()


def test_restarted_run_is_reported_again() -> None:
    notices = after_events(NotificationState(), run_events(left=0, failed=1, failed_now=1))
    ended = first_run(notices)
    notices = mark_sent(notices, "desk", ended, due_at(notices, NOW + 10))
    again = after_events(notices, run_events(left=0, at=NOW + 60, done=1))
    assert due_at(again, NOW + 70)[0] is ENDED
    # a run that started again while its end was being sent
    late = mark_sent(
        after_events(NotificationState(runs={1: ended}), run_events(left=0, at=NOW + 60)),
        "desk",
        ended,
        (ENDED, FIRST),
    )
    assert due_at(late, NOW + 70) == (ENDED, FIRST)
    # a new event after all events were reported
    fresh = after_events(
        prune(notices, SETTINGS, NOW + 100), run_events(left=1, at=NOW + 100, failed_now=1)
    )
    assert due_at(fresh, NOW + 100) == (FIRST,)
    assert first_run(fresh).since == NOW + 100


@pytest.mark.parametrize(
    ("notify", "target", "expected"),
    [
        (AS_CONFIGURED, DESK, (ENDED, SHORT, FIRST)),
        (AS_CONFIGURED, DESK._replace(events=(FIRST,)), (FIRST,)),
        (AS_CONFIGURED, DESK._replace(events=()), ()),
        (RunNotify(events=()), DESK, ()),
        (RunNotify(events=(ENDED,)), DESK._replace(events=(FIRST,)), (ENDED,)),
        (RunNotify(to=("phone",)), DESK, ()),
        (RunNotify(to=("phone", "desk")), DESK._replace(events=(SHORT,)), (SHORT,)),
        (RunNotify(events=(FIRST,), to=("phone",)), DESK._replace(name="phone"), (FIRST,)),
    ],
)
def test_run_selects_its_events_and_targets(
    notify: RunNotify, target: NotifyTarget, expected: tuple[NotifyEvent, ...]
) -> None:
    run = run_events(left=0, notify=notify, failed_now=1, out_of_memory=1)
    settings = SETTINGS._replace(targets=(target,))
    notices = after_events(NotificationState(), run)
    assert due_at(notices, NOW + 10, target, settings) == expected
    assert bool(prune(notices, settings, NOW + 10).runs) is bool(expected)


def test_successful_target_does_not_wait_for_a_failing_one() -> None:
    hook = NotifyTarget(name="hook", command=("false",))
    both = NotifySettings(targets=(DESK, hook))
    notices = after_events(NotificationState(), run_events(left=0, done=1))
    notices = mark_sent(notices, "desk", first_run(notices), (ENDED,))
    notices = prune(notices, both, NOW + 60)
    assert due_at(notices, NOW + 60) == ()
    assert due_at(notices, NOW + 60, hook) == (ENDED,)
    assert prune(notices, SETTINGS, NOW + 60).runs == {}  # a target that is gone keeps nothing


def after_failed_delivery(notices: NotificationState, now: float) -> NotificationState:
    """Return the state after a failed delivery of an event at NOW."""
    lost = DeadLetter(now, "desk", "study ended", "no route")
    been_told = notices._replace(failing={})
    return mark_failed(notices, been_told, lost, event_time=NOW, retry_s=SETTINGS.retry_s)


def test_clock_set_back_delays_no_message() -> None:
    ended = after_events(NotificationState(), run_events(left=0, done=1))
    assert due_at(ended, NOW - 86_400) == (ENDED,)
    failing = after_failed_delivery(NotificationState(), NOW)
    assert is_retry_due(failing.failing["desk"], NOW - 86_400)


def test_runs_that_ended_days_ago_are_not_reported() -> None:
    notices = after_events(
        NotificationState(), run_events(left=0, done=3, at=NOW - OLDEST_EVENT_S - 1), now=NOW
    )
    assert (notices.cursor, notices.runs) == (10, {})
    assert after_events(
        NotificationState(), run_events(left=1, at=NOW - OLDEST_EVENT_S - 1), now=NOW
    ).runs


def test_failed_message_is_retried_with_backoff_for_a_day() -> None:
    notices, pauses = (
        after_failed_delivery(after_events(NotificationState(), run_events(left=0, done=1)), NOW),
        [],
    )
    now, failing = NOW, notices.failing["desk"]
    while not notices.given_up:
        failing = notices.failing["desk"]
        assert not is_retry_due(failing, now)
        assert is_retry_due(failing, failing.next)
        pauses.append(failing.next - now)
        now = failing.next
        notices = after_failed_delivery(notices, now)
    assert pauses[:3] == [FIRST_BACKOFF_S, 2 * FIRST_BACKOFF_S, 4 * FIRST_BACKOFF_S]
    assert pauses[-1] == LONGEST_BACKOFF_S
    assert SETTINGS.retry_s <= now - NOW <= SETTINGS.retry_s + LONGEST_BACKOFF_S
    assert notices.failing == {}
    for _ in range(MOST_DEAD_LETTERS + 5):
        notices = after_failed_delivery(notices._replace(failing={"desk": failing}), now)
    assert len(notices.given_up) == MOST_DEAD_LETTERS
    assert notices.given_up[-1] == DeadLetter(now, "desk", "study ended", "no route")
    gone = notices._replace(failing={"desk": failing})
    assert prune(gone, SETTINGS._replace(targets=()), now).failing == {}


def test_clock_jump_ahead_keeps_the_minimum_number_of_tries() -> None:
    notices = NotificationState()
    for turn in range(LEAST_TRIES):
        notices = after_failed_delivery(notices, NOW + turn * 1e7)
        assert bool(notices.given_up) is (turn == LEAST_TRIES - 1)


def failure(job: int = 7, code: ReasonCode = ReasonCode.FAILED, text: str = "boom") -> RunFailure:
    return RunFailure(job=job, name=f"train/{job}", reason=a_reason(text, code), similar_failures=1)


def message(
    run: RunEvents,
    *failures: RunFailure,
    counts: dict[State, int] | None = None,
    now: float = NOW + 60,
) -> Message:
    watch = first_run(after_events(after_events(NotificationState(), run_events()), run))
    events: Sequence[NotifyEvent] = due_events(watch, DESK, SETTINGS, now)
    return make_run_message(watch, events, failures, counts or {}, host="gpubox", now=now)


def test_end_message_contains_counts_and_duration() -> None:
    counts = {State.DONE: 108, State.FAILED: 2}
    sent = message(
        run_events(left=0, at=NOW + 60, done=108, failed=2, failed_now=2),
        failure(),
        counts=counts,
        now=NOW + 90,
    )
    assert sent.title == "study ended: 108 done, 2 failed in 1 m"
    assert "108 done, 2 failed; started " in sent.text
    assert "The whole run" not in sent.text
    assert "first failure: train/7 (job 7)\n  boom\n  launcher logs 7" in sent.text
    assert sent.text.endswith("\n\nfolder: /lab/runs/study\nmachine: gpubox")
    facts = sent.variables
    assert facts["LAUNCHER_EVENT"] == "run-ended"
    assert facts["LAUNCHER_EVENTS"] == "run-ended,first-failure"
    assert (facts["LAUNCHER_DONE"], facts["LAUNCHER_FAILED"]) == ("108", "2")
    assert (facts["LAUNCHER_SECONDS"], facts["LAUNCHER_FOLDER"]) == ("60", "/lab/runs/study")
    assert (facts["LAUNCHER_JOB"], facts["LAUNCHER_REASON"]) == ("7", "boom")


def test_end_message_separates_earlier_jobs_from_new_ones() -> None:
    sent = message(run_events(left=0, done=100, failed=1), counts={State.DONE: 3})
    assert sent.title.startswith("study ended: 3 done in ")
    assert "The whole run: 100 done, 1 failed." in sent.text
    assert "LAUNCHER_JOB" not in sent.variables


def test_failure_message_contains_the_progress_of_the_run() -> None:
    sent = message(run_events(left=9, failed=1, failed_now=1), failure())
    assert sent.title == "study: train/7 failed, the first failure of this run"
    assert sent.text.startswith("study continues: 1 failed, 9 jobs left.\n\nfirst failure: train/7")
    gone = message(run_events(left=9, failed=1, failed_now=1))  # the job was removed meanwhile
    assert gone.title == "study: a job failed, the first failure of this run"


def test_many_out_of_memory_failures_are_one_message() -> None:
    short = [
        failure(job, ReasonCode.OUT_OF_MEMORY, "needs 80 GiB")._replace(similar_failures=100)
        for job in range(1, 11)
    ]
    sent = message(run_events(left=200, failed_now=100, out_of_memory=100), *short)
    assert sent.title == "study: train/1 ran out of memory, and 99 more"
    assert "first failure and out of memory: train/1" in sent.text
    assert "and 90 more jobs out of memory" in sent.text
    one = message(
        run_events(left=1, failed_now=1, out_of_memory=1), short[0]._replace(similar_failures=1)
    )
    assert one.title == "study: train/1 ran out of memory"
    assert "more" not in one.text


def test_message_id_is_stable_across_retries_and_unique_per_message() -> None:
    goes_on = run_events(left=9, failed_now=1)
    ended = [run_events(left=0, at=NOW + second, done=1) for second in (20, 20, 30)]
    ids = [message(run, failure(), counts={State.DONE: 1}).id for run in (goes_on, goes_on, *ended)]
    assert [ids.index(each) for each in ids] == [0, 0, 2, 2, 4]


def test_names_and_errors_are_sanitized_in_messages() -> None:
    evil = failure(1, text="\x1b[2J" + "x" * 9000)._replace(name="a\r\nBcc: you")
    sent = message(run_events(left=1, failed_now=1), evil)
    assert "\n" not in sent.title
    assert "\r" not in sent.title + sent.text
    assert "\x1b" not in sent.text
    assert (len(sent.title) <= MOST_TITLE, len(sent.text) <= MOST_TEXT) == (True, True)
