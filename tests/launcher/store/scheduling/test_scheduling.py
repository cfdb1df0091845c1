"""Actions of a scheduler on jobs: attempts, lanes, times, retries, and invalid rows."""

import json
import math
import threading
import time
from functools import partial

import pytest

from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.home.paths import Home
from launcher.queue.jobs.context import WorkerEnvironment
from launcher.queue.jobs.job import LONGEST_BACKOFF_S, Resources, Terms
from launcher.queue.jobs.states import (
    ENDED_STATES,
    Done,
    Failed,
    Lost,
    NeverStarted,
    Outcome,
    ReasonCode,
    State,
)
from launcher.queue.jobs.stored_specs import read_spec
from launcher.queue.store.lanes import Lane, read_lane
from launcher.queue.store.queue import Store
from launcher.queue.store.transitions import LOST_LIMIT, RequeueDecision
from launcher.system.files import FileVersion
from launcher.system.stored_fields import Unreadable
from tests.build import (
    a_claim,
    a_context,
    a_reason,
    a_seat,
    a_spec,
    claimed,
    endings,
    enqueue,
    in_state,
    job_row,
    lane_reason_text,
    until,
)
from tests.launcher.conftest import Launcher
from tests.launcher.queued import (
    DONE,
    FAILED,
    LOST,
    STOPPED,
    VOID,
    end,
    one,
    put,
    ready,
    serve,
    states,
    until_done,
    until_in,
)

CHAIN = {"b": "a", "c": "b"}


# --- attempts


def test_attempt_without_a_record_was_not_paused(store: Store) -> None:
    assert store.running_jobs.paused_s(a_claim()) == 0.0


def test_a_job_is_claimed_once(home: Home, store: Store) -> None:
    jobs = put(store, map(str, range(20)))
    won: list[int] = []

    def grab() -> None:
        mine = Store(home, durable=False)
        for job in jobs:
            claim = mine.claims.claim(job, a_seat(), reason="", now=1.0)
            won.extend([claim.job] if claim else [])
        mine.close()

    rivals = [threading.Thread(target=grab) for _ in range(3)]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        rival.join()
    assert sorted(won) == jobs
    assert [len(store.read.attempts([job])) for job in jobs] == [1] * len(jobs)


def test_cancelled_job_is_not_claimed(store: Store) -> None:
    job = one(store)
    store.job_control.cancel([job], 1.0)
    assert store.claims.claim(job, a_seat(), reason="", now=2.0) is None


def test_end_of_an_attempt_is_recorded_once(store: Store) -> None:
    job = one(store)
    claim = claimed(store, job)
    assert end(store, claim) is State.DONE
    assert end(store, claim, FAILED) is None
    assert (endings(store, job), states(store)) == (["done"], "done")


def test_a_done_job_has_its_result_and_the_versions_of_its_files(store: Store) -> None:
    job = one(store)
    done = Done(at=2.0, result={"auc": 0.97})
    outputs = {"/m.pt": (10, 20, "a1"), "/by-an-earlier-version.pt": (10, 20), "/newer.pt": (1,)}
    store.transitions.finish_attempt(claimed(store, job), done, outputs=outputs, now=2.0)
    assert store.read.result_of(job) == {"auc": 0.97}
    assert job_row(store, job).outputs == {
        "/m.pt": FileVersion(10, 20, "a1"),
        "/by-an-earlier-version.pt": FileVersion(10, 20),
    }


@pytest.mark.parametrize(
    ("outcome", "cancel", "state"),
    [
        (DONE, False, "done"),
        (DONE, True, "done"),
        (FAILED, False, "failed"),
        *((outcome, False, "queued") for outcome in (STOPPED, VOID, LOST)),
        *((outcome, True, "cancelled") for outcome in (STOPPED, VOID, LOST)),
        (NeverStarted(at=2.0, why="no process", blamed_on="machine"), True, "cancelled"),
    ],
)
def test_outcome_sets_the_state_of_the_job(
    store: Store, outcome: Outcome, cancel: bool, state: str
) -> None:
    job = one(store)
    claim = claimed(store, job)
    if cancel:
        store.job_control.cancel([job], 1.5)
    assert end(store, claim, outcome) == state
    row = job_row(store, job)
    assert (row.state, row.wish) == (state, "")
    assert row.reason
    assert (row.ended is None) is (state == "queued")


def test_attempt_that_could_not_start_after_a_pause_leaves_no_start_event(store: Store) -> None:
    job = one(store)
    claim = claimed(store, job)
    store.job_control.pause([job], lambda _: a_reason("paused", ReasonCode.PAUSED), 1.5)
    end(store, claim, NeverStarted(at=2.0, why="no process", blamed_on="machine"))
    codes = [reason.code for _, _, reason in store.read.events_of(job)]
    assert ReasonCode.STARTED not in codes


def test_repeatedly_lost_job_fails_finally(store: Store) -> None:
    job = one(store)
    seen = [end(store, job, Lost(at=2.0, why="it was killed")) for _ in range(LOST_LIMIT)]
    assert seen == [State.QUEUED] * (LOST_LIMIT - 1) + [State.FAILED]
    assert (
        job_row(store, job).reason
        == f"failed: lost {LOST_LIMIT} times, most recently (it was killed)"
    )


def test_result_text_with_the_word_lost_is_not_a_lost_attempt(store: Store) -> None:
    job = one(store)
    for _ in range(LOST_LIMIT):
        end(store, job, Done(at=2.0, result={"lost": 1, "ending": "lost"}))
        one(store)
    assert end(store, job, LOST) is State.QUEUED


def test_dependents_of_a_failed_job_are_skipped(store: Store) -> None:
    a, _, c, _ = put(store, "abcd", needs=CHAIN)
    end(store, a, FAILED)
    assert states(store) == "failed skipped skipped queued"
    assert job_row(store, c).reason == f"skipped: job {a} command/a failed"


@pytest.mark.parametrize("text", ["\ud800", "a\x00b", "\x1b[31m", "line\nline", "x" * 100_000])
def test_any_output_text_of_a_program_can_be_recorded(store: Store, text: str) -> None:
    assert end(store, one(store), Failed(at=2.0, error=text)) is State.FAILED
    assert states(store) == "failed"


def test_stored_outcome_equals_the_recorded_one(store: Store) -> None:
    job = one(store)
    end(store, job, Failed(at=2.0, error="ended with exit code 3", exit_code=3))
    (attempt,) = store.read.attempts([job])
    assert (attempt.outcome or {})["exit_code"] == 3
    record = attempt.to_json()
    assert json.loads(json.dumps(record)) == record


# --- lanes


def test_ready_jobs_of_all_lanes_are_merged_in_one_order(store: Store) -> None:
    many = put(store, map(str, range(50)), priority=9, cpus=4)
    late = one(store, "late", cpus=2, priority=-1)
    first = one(store, "first")
    second = one(store, "second", cpus=2)
    urgent = one(store, "urgent", cpus=3, priority=10)
    for each in (1, 3):
        assert ready(store, each) == [urgent, *many[:each], first, second, late]


def test_ready_jobs_can_be_read_inside_and_outside_of_a_transaction(store: Store) -> None:
    job = one(store)
    assert ready(store) == [job]
    with store.database.writing():  # the question before left none open
        store.job_control.hold([job], 1.0)
        assert ready(store) == []
        store.job_control.release([job], 2.0)
    assert ready(store) == [job]


def test_jobs_with_equal_requests_share_a_lane(store: Store) -> None:
    a, b, c, d = enqueue(
        store,
        a_spec("true", name="command/a"),
        a_spec("false", name="command/b", priority=3),
        a_spec(name="command/c", cpus=2),
        a_spec(name="command/d", terms=Terms(group="downloads")),
    )
    jobs = {job.id: job for job in store.ready_jobs.read_ready(10)}
    assert jobs[a].lane_id == jobs[b].lane_id
    assert len({job.lane_id for job in jobs.values()}) == 3
    assert (jobs[c].lane.group, jobs[d].lane.group) == ("", "downloads")


def test_waiting_reason_of_a_lane_is_shown_with_each_of_its_jobs(store: Store) -> None:
    a, b = one(store, "a", cpus=4), one(store, "b")
    lanes = {job.id: job.lane_id for job in store.ready_jobs.read_ready(1)}
    full = a_reason("waiting for 4 CPU cores: 1 of 8 free")
    store.ready_jobs.record_lane_reasons({lanes[a]: full, lanes[b]: None})
    assert job_row(store, a).lane_reason == full
    assert [lane_reason_text(job_row(store, job)) for job in (a, b)] == [full.text, ""]
    store.ready_jobs.record_lane_reasons({lanes[a]: None})
    assert lane_reason_text(job_row(store, a)) == ""


# --- times


def test_a_job_does_not_start_before_its_time(store: Store) -> None:
    job = one(store, not_before=100.0)
    assert ready(store) == []
    assert store.ready_jobs.release_due_timers(99.9) == 100.0
    assert ready(store) == []
    assert store.ready_jobs.release_due_timers(100.0) is None
    assert ready(store) == [job]


def test_a_job_with_a_time_and_needs_waits_for_both(store: Store) -> None:
    specs = a_spec(name="command/a"), a_spec(name="command/b", terms=Terms(not_before=100.0))
    a, b = enqueue(store, *specs, needs={"command/b": ["command/a"]})
    assert job_row(store, b).waits == 2
    store.ready_jobs.release_due_timers(200.0)
    assert ready(store) == [a]
    end(store, a)
    assert ready(store) == [b]


def test_next_start_time_is_returned(store: Store) -> None:
    assert store.ready_jobs.release_due_timers(1.0) is None
    for name, at in (("a", 30.0), ("b", 10.0), ("c", 20.0)):
        one(store, name, not_before=at)
    told = [store.ready_jobs.release_due_timers(now) for now in (5.0, 15.0, 25.0, 35.0)]
    assert told == [10.0, 20.0, 30.0, None]


# --- running again


def test_a_job_that_failed_runs_again_after_pauses_that_double(store: Store) -> None:
    job = one(store, retries=2, backoff_s=10.0)
    failed = Failed(at=2.0, error="no network")
    assert end(store, job, failed, now=100.0) is State.QUEUED
    row = job_row(store, job)
    assert (row.starts_at, row.failures) == (110.0, 1)
    assert row.reason == "waiting for retry 1 of 2 after 10 s: no network"
    assert ready(store) == []
    store.ready_jobs.release_due_timers(110.0)
    assert end(store, job, failed, now=200.0) is State.QUEUED
    assert job_row(store, job).starts_at == 220.0
    store.ready_jobs.release_due_timers(220.0)
    assert end(store, job, failed, now=300.0) is State.FAILED
    row = job_row(store, job)
    assert (row.reason, row.attempts, row.starts_at) == ("failed: no network", 3, None)


def test_pause_is_at_most_an_hour(store: Store) -> None:
    job = one(store, retries=1000, backoff_s=3000.0)
    for _ in range(3):
        end(store, job, FAILED, now=100.0)
        assert (job_row(store, job).starts_at or 0.0) - 100.0 <= LONGEST_BACKOFF_S
        store.ready_jobs.release_due_timers(1e9)


def test_clock_set_back_extends_no_pause_and_changes_no_start_time(
    store: Store,
) -> None:
    one(store, "2", not_before=1_000_000.0)
    job = one(store, retries=1)
    end(store, job, FAILED, now=1_000_000.0)
    store.ready_jobs.release_due_timers(50.0)
    assert ready(store) == [job]


def test_dependents_wait_for_retries(store: Store) -> None:
    a, b = put(store, "ab", needs=CHAIN, retries=1)
    end(store, a, FAILED)
    assert job_row(store, b).state is State.QUEUED
    store.ready_jobs.release_due_timers(1e9)
    end(store, a, FAILED)
    assert job_row(store, b).state is State.SKIPPED


def test_lost_attempts_are_counted_separately_from_failures(store: Store) -> None:
    job = one(store, retries=1)
    end(store, job, LOST)
    end(store, job, FAILED)
    store.ready_jobs.release_due_timers(1e9)
    row = job_row(store, job)
    assert (row.state, row.lost, row.failures) == (State.QUEUED, 1, 1)


def test_non_repeatable_job_fails_when_it_is_lost(store: Store) -> None:
    a, _ = put(store, "ab", needs=CHAIN, rerun="never", retries=5)
    assert end(store, a, VOID) is State.QUEUED, "what never started was not lost"
    assert (job_row(store, a).lost, ready(store)) == (0, [a])
    assert end(store, a, Lost(at=2.0, why="power cut")) is State.FAILED
    assert job_row(store, a).reason == "failed: lost (power cut), not queued again (rerun: never)"
    assert states(store) == "failed skipped"


def test_repeatedly_failing_start_is_retried_once_a_second(store: Store) -> None:
    job = one(store)
    for now, waits in ((10.0, 0), (11.0, 1)):
        end(store, claimed(store, job, now), NeverStarted(at=now), now=now)
        assert job_row(store, job).waits == waits
        assert len(ready(store)) == 1 - waits
    assert store.ready_jobs.release_due_timers(11.5) == 12.0
    store.ready_jobs.release_due_timers(12.0)
    assert ready(store) == [job]


def test_job_cancelled_during_its_pause_has_no_timer(store: Store) -> None:
    job = one(store)
    for now in (10.0, 11.0):
        end(store, claimed(store, job, now), NeverStarted(at=now), now=now)
    assert job_row(store, job).waits == 1
    store.job_control.cancel([job], 11.5)
    assert job_row(store, job).waits == 0


def test_stored_memory_need_of_a_job_only_grows(store: Store) -> None:
    job = one(store)
    needs = []
    for request, alone in ((None, True), (8, False), (4, False)):
        requeue = RequeueDecision(reason=a_reason("full"), vram=request, exclusive=alone)
        assert end(store, claimed(store, job), FAILED, requeue=requeue) is State.QUEUED
        lane = store.ready_jobs.lane_of_job(job)
        needs.append((lane.least_vram, lane.made_exclusive))
    assert needs == [(0, True), (8, True), (8, True)]


def test_infinite_number_in_a_result_can_be_read_later(store: Store) -> None:
    job = one(store)
    end(store, job, Done(at=1.0, result={"loss": math.nan}), now=1.0)
    store.job_control.retry([job], 2.0)
    for now in (3.0, 4.0):
        assert end(store, claimed(store, job, now), NeverStarted(at=now), now=now) is State.QUEUED


# --- rows that cannot be understood: a newer version wrote them, or something broke them


def change(store: Store, table: str, column: str, row: int, text: str) -> None:
    """Write a text where ours would have written another."""
    store.database.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (text, row))


def spec_with(part: str, **fields: object) -> str:
    """A job's spec in which a part has more fields, as a newer version may write it."""
    record = a_spec().to_json()
    return json.dumps({**record, part: {**record[part], **fields}})  # type: ignore[dict-item]  # a record


def lane_of(store: Store, job: int) -> int:
    (lane,) = store.database.execute("SELECT lane FROM jobs WHERE id = ?", (job,)).fetchone()
    return int(lane)


def break_rows(store: Store) -> dict[int, str]:
    """Queue jobs and break each in another way; return job → what its reason names."""
    jobs = enqueue(
        store,
        *(a_spec(name=f"command/{n}") for n in range(4)),
        *(a_spec(name=f"lane/{n}", terms=Terms(group=f"g{n}")) for n in range(6)),
    )
    (lost,) = enqueue(store, a_spec(name="command/lost"), context=a_context("/somewhere"))
    specs = (spec_with("resources", hosts=2), spec_with("terms", deadline=9.0), "{", "[]")
    for job, spec in zip(jobs, specs, strict=False):
        change(store, "jobs", "spec", job, spec)
    record = json.loads(store.database.execute("SELECT key FROM lanes").fetchone()[0])
    odd = {"group": "", "resources": {**record["resources"], "hosts": 2}, "breed": ["", [], ""]}
    keys = (
        *(json.dumps(one) for one in (odd, {**record, "host": "a"})),
        *("no JSON", "{}"),
        *(json.dumps({**record, **more}) for more in ({"least": {"a": 1}}, {"visible": 3})),
    )
    for job, key in zip(jobs[4:], keys, strict=True):
        change(store, "lanes", "key", lane_of(store, job), key)
    change(store, "contexts", "body", 2, '{"folder": "/"}')
    told = [
        *("'hosts'", "'deadline'", "is not JSON", "is not a JSON object"),
        *("'hosts'", "'host'", "is not JSON", "settings of the job are incomplete"),
        *("'least'", "'visible'"),
    ]
    return {**dict(zip(jobs, told, strict=True)), lost: "its environment"}


def test_unreadable_jobs_fail_and_all_others_run(
    home: Home, store: Store, launcher: Launcher
) -> None:
    broken = break_rows(store)
    below = one(store, "below")
    store.database.execute("INSERT INTO needs (job, need) VALUES (?, ?)", (below, min(broken)))
    store.database.execute("UPDATE jobs SET waits = 1 WHERE id = ?", (below,))
    good = one(store, "good")
    assert launcher("status").code == 0
    serve(home)

    until_done(store, good)
    for job, word in broken.items():
        until(partial(in_state, store, job, *ENDED_STATES), f"job {job} has ended")
        row = job_row(store, job)
        assert row.state is State.FAILED, row
        assert word in row.reason, row.reason
        assert "newer launcher" in row.reason
        shown = launcher("show", str(job))
        assert shown.code == 0, shown
    assert job_row(store, below).state is State.SKIPPED
    assert scheduler_pid(home) is not None
    for words in (("status", "--json"), ("status", "*"), ("history",), ("results", "test")):
        assert launcher(*words).code in {0, 2}, words
        assert "Traceback" not in launcher(*words).err


def test_unreadable_records_of_ended_jobs_break_no_screen(
    home: Home, store: Store, launcher: Launcher
) -> None:
    odd, strange, noted = put(store, "abc")
    for job in (odd, strange, noted):
        store.transitions.finish_attempt(
            claimed(store, job), Done(at=2.0), outputs={}, now=time.time()
        )
    change(store, "jobs", "outputs", odd, '{"/a": 1, "/b": ')
    change(store, "jobs", "state", strange, "parked")
    store.database.execute("UPDATE attempts SET outcome = '{' WHERE job = ?", (noted,))
    store.database.execute("UPDATE events SET state = 'parked' WHERE job = ?", (strange,))
    for words in (("status",), ("status", "--json"), ("top", "--once"), ("show", str(noted))):
        said = launcher(*words)
        assert said.code == 0, said
    assert job_row(store, strange).state is State.FAILED
    assert home.exists()


def test_running_job_of_a_newer_version_is_watched_and_recorded(home: Home, store: Store) -> None:
    (job,) = enqueue(store, a_spec("sleep", "0.3"))
    serve(home)
    until_in(store, State.RUNNING, job)
    change(store, "jobs", "spec", job, spec_with("terms", deadline=9.0, grace_s=7.0))
    (claim,) = store.claims.open_claims()
    assert claim.spec.terms == Terms(grace_s=7.0)
    assert "deadline" in claim.spec_error
    until_done(store, job)


@pytest.mark.parametrize(
    ("part", "fields", "named"),
    [
        ("resources", {"hosts": 1}, "'hosts' of resources is unknown"),
        ("resources", {"cpus": "four"}, "'cpus' of resources has the wrong type: 'four'"),
        ("terms", {"grace_s": None}, "'grace_s' of terms has the wrong type: 'None'"),
        ("terms", {"later": True}, "'later' of terms is unknown"),
        ("resources", {"cpus": -3}, "'cpus' of resources is '-3'"),
        ("resources", {"gpus": 65}, "'gpus' of resources is '65'"),
        ("resources", {"ram": -1}, "'ram' of resources"),
        ("resources", {"device": "tpu"}, "'device' of resources is 'tpu'"),
        ("terms", {"rerun": "sometimes"}, "'rerun' of terms is 'sometimes'"),
        ("terms", {"warn_signal": "SIGMORE"}, "'warn_signal' of terms is 'SIGMORE'"),
        ("terms", {"grace_s": math.nan}, "'grace_s' of terms is 'nan'"),
        ("terms", {"time_limit_s": -1}, "'time_limit_s' of terms is '-1'"),
        ("terms", {"retries": -1}, "'retries' of terms is '-1'"),
    ],
)
def test_field_that_affects_scheduling_is_decoded_completely_or_refused(
    part: str, fields: dict[str, object], named: str
) -> None:
    with pytest.raises(Unreadable, match=named):
        read_spec(json.loads(spec_with(part, **fields)))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("least", {"a": 1}),
        ("least", None),
        ("least", -1),
        ("alone", 1),
        ("alone", None),
        ("visible", 3),
        ("visible", [1]),
        ("signature", ["a"]),
        ("breed", ["", [1], ""]),
        ("resources", {"cpus": -3}),
    ],
)
def test_lane_is_decoded_completely_or_refused(field: str, value: object) -> None:
    whole = Lane(
        group="g",
        resources=Resources(device="cuda"),
        environment=WorkerEnvironment(),
        least_vram=7,
        made_exclusive=True,
    )
    assert read_lane(whole.key) == whole
    with pytest.raises(Unreadable, match="cpus" if field == "resources" else field):
        read_lane(json.dumps({**json.loads(whole.key), field: value}))


def test_descriptive_field_may_be_of_a_newer_version() -> None:
    record = a_spec(resources=Resources(cpus=3), terms=Terms(backoff_s=1)).to_json()
    spec = read_spec(json.loads(json.dumps({**record, "author": "somebody"})))
    assert (spec.resources.cpus, spec.terms.backoff_s) == (3, 1)
    with pytest.raises(Unreadable, match="'argv'"):
        read_spec({**record, "argv": [1]})
    with pytest.raises(Unreadable, match="has no 'name'"):
        read_spec({})
