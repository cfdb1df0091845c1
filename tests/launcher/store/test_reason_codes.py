"""The code and the data of a reason decide its consequences, for any text."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from launcher.frontends.screens.job_records import job_records, record_of
from launcher.frontends.screens.job_view import JobView, view_of_end
from launcher.frontends.screens.queue_view import recent_table, waiting_table
from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import (
    Done,
    Failed,
    Lost,
    NeverStarted,
    OomReport,
    Outcome,
    OutOfMemory,
    Reason,
    ReasonCode,
    State,
    Stopped,
)
from launcher.queue.store.failure_groups import group_failures
from launcher.queue.store.history import HistoryQueries
from launcher.queue.store.job_queries import CompletionEvent
from launcher.queue.store.queue import Store
from launcher.queue.store.transitions import REQUEUE_LIMIT, RequeueDecision
from tests.build import a_reason, a_spec, claimed, enqueue, job_row
from tests.launcher.queued import end, one, put
from tests.screens import NOW, a_line, an_idle_screen

FAULT = a_reason("cuda:0 fell", ReasonCode.GPU_FAULT, fault="cuda:0 fell")
CROWDED = a_reason("crowded", ReasonCode.OUT_OF_MEMORY, where="gpu", whose="neighbour")
SHORT = OutOfMemory(at=9.0, error="no room", report=OomReport("gpu"))
ENDS: list[tuple[Outcome, RequeueDecision | None, ReasonCode, dict[str, Any]]] = [
    (Done(at=9.0), None, ReasonCode.DONE, {}),
    (Failed(at=9.0, error="boom"), None, ReasonCode.FAILED, {}),
    (Failed(at=9.0, error="boom", over_limit=True), None, ReasonCode.TIME_LIMIT, {}),
    (SHORT, None, ReasonCode.OUT_OF_MEMORY, {"where": "gpu"}),
    (Lost(at=9.0, why="gone"), None, ReasonCode.LOST, {"requeued": True}),
    (Stopped(at=9.0), None, ReasonCode.STOPPED, {"requeued": True}),
    (Stopped(at=9.0, by="SIGTERM"), None, ReasonCode.STOPPED, {"by": "SIGTERM", "requeued": True}),
    (NeverStarted(at=9.0), None, ReasonCode.NOT_STARTED, {}),
    (
        SHORT,
        RequeueDecision(reason=CROWDED),
        ReasonCode.OUT_OF_MEMORY,
        {**CROWDED.data, "requeued": True},
    ),
    (SHORT, RequeueDecision(reason=FAULT), ReasonCode.GPU_FAULT, {**FAULT.data, "requeued": True}),
    (
        SHORT,
        RequeueDecision(reason=FAULT, is_unsatisfiable=True),
        ReasonCode.GPU_FAULT,
        {**FAULT.data},
    ),
]


SCREENS = Path(__file__).parents[3] / "docs" / "scripting.md"


def groups(store: Store) -> list[tuple[ReasonCode, str, int]]:
    failed = HistoryQueries(store.database).attempt_failures()
    return sorted((one.reason_code, one.detail, one.attempts) for one in group_failures(failed))


@pytest.mark.parametrize(("outcome", "requeue", "code", "data"), ENDS)
def test_attempt_job_and_event_have_the_same_reason_code(
    store: Store,
    outcome: Outcome,
    requeue: RequeueDecision | None,
    code: ReasonCode,
    data: dict[str, Any],
) -> None:
    job = one(store)
    end(store, job, outcome, requeue=requeue)

    (attempt,) = store.read.attempts([job])
    why, (_, _, event) = job_row(store, job).state_reason, store.read.events_of(job)[-1]

    assert attempt.reason_code is why.code is event.code is code
    assert dict(why.data) == dict(event.data) == data


def test_failure_group_and_next_state_depend_only_on_the_reason_code(
    store: Store,
) -> None:
    texts = ("out of memory, its own: 3 GiB; queued again", "reached its time limit of 2 h", "")
    jobs = put(store, map(str, range(6)))
    for number, job in enumerate(jobs):
        reason = (CROWDED if number < 3 else FAULT)._replace(text=texts[number % 3])
        end(store, job, SHORT, requeue=RequeueDecision(reason=reason))

    assert {job_row(store, job).state for job in jobs} == {State.QUEUED}
    assert groups(store) == [
        (ReasonCode.GPU_FAULT, "cuda:# fell", 3),
        (ReasonCode.OUT_OF_MEMORY, "GPU memory, usage of others", 3),
    ]


def test_requested_end_is_cancelled_for_every_outcome(
    store: Store,
) -> None:
    job = one(store)
    claim = claimed(store, job)
    store.job_control.cancel([job], 8.0)
    failed = Failed(at=9.0, error="KeyboardInterrupt")
    end(store, claim, failed, now=9.0)
    assert groups(store) == [(ReasonCode.CANCELLED, "", 1)]


def test_reason_of_a_retry_has_its_number_and_the_exception(
    store: Store,
) -> None:
    job = one(store, retries=2)
    error, exception = "ended with exit code 1: torch.X.YError: no", "YError: no"
    end(store, job, Failed(at=9.0, error=error, exception=exception))
    why = job_row(store, job).state_reason
    assert why.text == f"waiting for retry 1 of 2 after 10 s: {error}"
    assert why.data == {
        "retry": 1,
        "retries": 2,
        "pause_s": 10.0,
        "short": "retry 1 of 2 after 10 s: YError: no",
    }


def test_job_that_is_never_at_fault_fails_finally_and_keeps_the_code(store: Store) -> None:
    job = one(store)
    store.database.execute("UPDATE jobs SET excused = ?", (REQUEUE_LIMIT - 1,))
    requeue = RequeueDecision(reason=FAULT._replace(data={**FAULT.data, "short": "XError"}))
    end(store, job, SHORT, requeue=requeue)
    row = job_row(store, job)
    assert (row.state, row.state_reason.code) == (State.FAILED, ReasonCode.GPU_FAULT)
    assert row.state_reason.data["short"] == f"XError ({REQUEUE_LIMIT} times)"
    assert "requeued" not in row.state_reason.data


def test_skipped_job_names_the_job_that_it_needs(store: Store) -> None:
    below = a_spec(name="command/2")
    first, second = enqueue(store, a_spec(), below, needs={"command/2": ["command/1"]})
    store.job_control.cancel([first], 1.0)
    why = job_row(store, second).state_reason
    assert (why.code, why.data) == (
        ReasonCode.NEED_FAILED,
        {"need": first, "state": "cancelled"},
    )


def test_reason_code_of_a_newer_launcher_is_unknown_and_its_text_is_kept(store: Store) -> None:
    job = one(store)
    store.database.execute("UPDATE jobs SET reason_code = 'teleported', reason = 'beamed up'")
    assert job_row(store, job).state_reason == Reason(code=ReasonCode.UNKNOWN, text="beamed up")


def test_every_code_is_documented() -> None:
    documented = set(re.findall(r"`([a-z-]+)`", SCREENS.read_text(encoding="utf-8")))
    assert {str(code) for code in ReasonCode} <= documented


# --- screens


def screen_text(one: JobView) -> str:
    return " ".join(
        line.text
        for line in recent_table(an_idle_screen()._replace(recent=(one,))).to_lines(140)[1:]
    )


@pytest.mark.parametrize("text", ["crowded; queued again", "anything else"])
def test_data_of_a_reason_states_whether_the_job_is_queued_again(text: str) -> None:
    line = a_line(44, "train/a", State.QUEUED)
    silent = CompletionEvent(NOW, 44, State.FAILED, CROWDED._replace(text=text, data={}))
    says = silent._replace(reason=CROWDED._replace(text=text, data={"requeued": True}))
    assert screen_text(view_of_end(line, says)).endswith(text)
    assert screen_text(view_of_end(line, silent)).endswith(f"{text} (queued again)")


@pytest.mark.parametrize("note", ["held by its owner", "wait for new crops"])
def test_code_of_a_reason_states_whether_the_job_is_held(note: str) -> None:
    lines = (
        a_line(1, "train/a", State.HELD, note, code=ReasonCode.HELD),
        a_line(2, "train/b", State.HELD, f"{note}!", code=ReasonCode.NEW),
    )
    _, first, second = waiting_table(an_idle_screen()._replace(waiting=lines)).to_lines(140)
    assert "held by its owner (" not in first.text
    assert f"held by its owner ({note}!)" in second.text


def test_json_output_has_the_code_with_each_reason(home: Home, store: Store) -> None:
    failed, waits = enqueue(store, a_spec(), a_spec(name="command/2"))
    end(store, failed, Failed(at=9.0, error="boom"))
    (ready,) = store.ready_jobs.read_ready(1)
    store.ready_jobs.record_lane_reasons(
        {ready.lane_id: a_reason("cores are in use", ReasonCode.NO_ROOM)}
    )

    record = record_of(home, store, job_row(store, failed), [])
    (waiting_one,) = job_records(home, store, [job_row(store, waits)])
    (group,) = group_failures(HistoryQueries(store.database).attempt_failures())

    assert (record["reason"], record["reason_code"], record["note_code"]) == (
        "failed: boom",
        *["failed"] * 2,
    )
    assert [one["reason_code"] for one in record["attempts"]] == ["failed"]
    assert [one["reason_code"] for one in record["events"]] == ["new", "started", "failed"]
    assert (waiting_one["note"], waiting_one["note_code"]) == ("cores are in use", "no-room")
    assert waiting_one["reason_code"] == "new"
    assert (group.cause, group.reason_code) == ("failed", "failed")
    assert '"reason_code": "failed"' in json.dumps(record)
