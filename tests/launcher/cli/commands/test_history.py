"""`launcher history`: past attempts by day, run, cause and memory."""

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from launcher.frontends.cli.commands.past_jobs import parse_since
from launcher.frontends.screens.history_view import columns, draw, headline
from launcher.queue.jobs.job import Resources
from launcher.queue.jobs.states import (
    Done,
    Failed,
    Lost,
    NeverStarted,
    OomReport,
    Outcome,
    OutOfMemory,
    ReasonCode,
    State,
    Stopped,
)
from launcher.queue.store.failure_groups import AttemptFailures, FailureGroup, group_failures
from launcher.queue.store.history import HistoryQueries
from launcher.queue.store.history_report import (
    DaySummary,
    EndCount,
    HistoryReport,
    MemorySummary,
    ReservationUsage,
    RunSummary,
    UsageTotal,
    summarize_days,
    summarize_memory,
    summarize_runs,
)
from launcher.queue.store.queue import Store
from launcher.queue.store.transitions import RequeueDecision
from launcher.queue.store.usage import MeasuredUsage
from launcher.system.text_table import width_of
from tests.build import GIB, a_reason, a_spec, claimed, enqueue
from tests.launcher.conftest import Launcher
from tests.screens import texts_of
from tests.terminal import in_a_terminal

GOLDEN = Path(__file__).parents[3] / "data" / "golden"
HOUR = 3600.0
NOON = datetime(2026, 11, 20, 12).astimezone().timestamp()


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A zone whose clocks go back an hour on 25 October 2026."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def local(text: str) -> float:
    return datetime.fromisoformat(text).astimezone().timestamp()


def attempt(
    store: Store,
    job: int,
    outcome: Outcome,
    seconds: float,
    *,
    peak: int | None = None,
    requeue: RequeueDecision | None = None,
    **seat: Any,
) -> None:
    """Let a job have an attempt that ends when its outcome says."""
    begun = outcome.at - seconds
    claim = claimed(store, job, begun, **seat)
    store.transitions.finish_attempt(
        claim,
        outcome,
        outputs={},
        now=outcome.at,
        measured_usage=MeasuredUsage(peak=peak),
        requeue=requeue,
    )


def a_training(name: str, *, asked: int | None = 24 * GIB, signature: str = "train 1") -> Any:
    resources = Resources(device="cuda", vram=asked)
    return a_spec(name=name, kind="train", signature=signature, resources=resources)


def the_past(store: Store, *, begin: float = 0.0, now: float = NOON, **more: Any) -> HistoryReport:
    return HistoryQueries(store.database, begin, now, more.get("jobs")).build_report(
        {"": ("local", "")}
    )


# --- by day


@pytest.mark.parametrize(
    ("zone", "first", "hours"),
    [
        ("Africa/Cairo", "2024-04-25", [24, 23, 24]),  # no midnight: 1 o'clock follows 23:59
        ("America/Havana", "2024-11-02", [24, 25, 24]),  # two midnights
        ("Europe/Berlin", "2026-10-24", [24, 25, 24]),
    ],
)
def test_day_length_follows_daylight_saving_time(
    monkeypatch: pytest.MonkeyPatch, zone: str, first: str, hours: list[int]
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        begun = local(first)
        ended = begun + sum(hours) * HOUR
        spent = UsageTotal(
            run="a", begun=begun, ended=ended, attempts=1, gpu_s=ended - begun, core_s=0.0
        )
        days = summarize_days([], [spent], [])
    time.tzset()

    assert [round(day.gpu_seconds / HOUR, 6) for day in reversed(days)] == hours


def test_gpu_hours_are_assigned_to_the_day_of_use(store: Store, berlin: None) -> None:
    (job,) = enqueue(store, a_spec())
    attempt(store, job, Done(at=local("2026-11-20T06:00")), 12 * HOUR, device="GPU-0,GPU-1", cpus=3)

    newest, older = the_past(store, now=local("2026-11-21")).days

    assert newest == DaySummary(
        day="2026-11-20",
        done=1,
        gpu_seconds=12 * HOUR,
        core_seconds=18 * HOUR,
        median_seconds=12 * HOUR,
    )
    assert (older.day, older.done) == ("2026-11-19", 0)
    assert older.gpu_seconds == pytest.approx(12 * HOUR)


def test_days_are_in_local_time(store: Store, berlin: None) -> None:
    first, second = enqueue(store, "command/1", "command/2")
    attempt(store, first, Done(at=local("2026-11-19T23:59")), 60)
    attempt(store, second, Done(at=local("2026-11-20T00:01")), 30)

    assert [day.day for day in the_past(store).days] == ["2026-11-20", "2026-11-19"]


@pytest.mark.parametrize(("spans", "expected"), [((10, 2, 3), 3), ((10, 2, 3, 5), 4)])
def test_median_duration_counts_only_done_attempts(
    store: Store, spans: tuple[int, ...], expected: float
) -> None:
    specs = [a_spec(name=f"command/{number}") for number in range(len(spans) + 1)]
    bad, *jobs = enqueue(store, *specs)
    attempt(store, bad, Failed(at=NOON, error="no"), 1000)
    for job, span in zip(jobs, spans, strict=True):
        attempt(store, job, Done(at=NOON, result={"loss": float("nan")}), span)

    (day,) = the_past(store).days

    assert (day.median_seconds, day.failed, day.done) == (expected, 1, len(spans))


def test_running_attempts_count_until_now(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    claimed(store, job, NOON - HOUR, device="GPU-0", cpus=2)

    past = the_past(store)

    assert (past.days[0].gpu_seconds, past.days[0].core_seconds) == pytest.approx((HOUR, 2 * HOUR))
    assert past.days[0].median_seconds is None
    assert past.runs == (
        RunSummary(run="test", attempts=1, gpu_seconds=HOUR, core_seconds=2 * HOUR),
    )


# --- by run


def test_runs_are_reported_with_all_their_attempts(store: Store) -> None:
    good, bad = enqueue(store, "command/1", "command/2", run="old")
    (other,) = enqueue(store, "command/1", run="new")
    attempt(store, good, Stopped(at=NOON - 3 * HOUR), HOUR, device="GPU-0")
    attempt(store, good, Done(at=NOON - 2 * HOUR), HOUR, device="GPU-0", cpus=4)
    attempt(store, bad, Failed(at=NOON - HOUR, error="no"), HOUR)
    attempt(store, other, Done(at=NOON), HOUR)

    new, old = the_past(store).runs

    assert (new.run, new.jobs, new.done, new.attempts) == ("new", 1, 1, 1)
    assert (old.run, old.jobs, old.done, old.failed, old.attempts) == ("old", 2, 1, 1, 3)
    assert (old.gpu_seconds, old.core_seconds) == pytest.approx((2 * HOUR, 6 * HOUR))


def test_runs_with_the_same_name_are_combined() -> None:
    ends = [EndCount(run="a", day="2026-11-20", state=State.DONE, jobs=n) for n in (2, 3)]

    assert summarize_runs(ends, []) == (RunSummary(run="a", jobs=5, done=5),)


# --- by cause


def failed(code: ReasonCode, **changes: Any) -> AttemptFailures:
    return AttemptFailures(code=code, job=1, at=NOON, **changes)


@pytest.mark.parametrize(
    ("attempts", "name", "detail"),
    [
        (failed(ReasonCode.FAILED, error="ValueError: bad image 7 of 12"), "failed", "ValueError: bad image # of #"),
        (failed(ReasonCode.FAILED, error="ended with exit code 137: line 8"), "failed", "ended with exit code 137: line #"),
        (failed(ReasonCode.FAILED, error="ended with exit code 1: Signal 9 (SIGKILL) received by PID 13605"), "failed", "ended with exit code 1: Signal # (SIGKILL) received by PID #"),
        (failed(ReasonCode.LOST, error="OSError: [Errno 28] No space left on device: 'ckpt_120.pt'"), "lost", "OSError: [Errno 28] No space left on device: 'ckpt_#.pt'"),
        (failed(ReasonCode.FAILED, error="GET https://example.org:8443/v2/17 gave HTTP 503 after 30 s"), "failed", "GET https://example.org:8443/v2/17 gave HTTP 503 after # s"),
        (failed(ReasonCode.FAILED, error="HTTP Error 404: file 12"), "failed", "HTTP Error 404: file #"),
        (failed(ReasonCode.FAILED, error="status code 429, CUDA error 700, try 3"), "failed", "status code 429, CUDA error 700, try #"),
        (failed(ReasonCode.FAILED, error="at 0xdeadbeef, 1.5e-3 s\nmore"), "failed", "at #, # s"),
        (failed(ReasonCode.TIME_LIMIT, error="in any words"), "time limit", ""),
        (failed(ReasonCode.GPU_FAULT, error="CUDA error", fault="cuda:1 Xid 79"), "GPU fault", "cuda:# Xid #"),
        (failed(ReasonCode.OUT_OF_MEMORY, memory_kind="ram"), "out of memory", "main memory"),
        (failed(ReasonCode.OUT_OF_MEMORY, memory_kind="ram", blamed_on="machine"), "out of memory", "main memory, whole machine"),
        (failed(ReasonCode.OUT_OF_MEMORY, memory_kind="gpu", blamed_on="ours"), "out of memory", "GPU memory, own usage"),
        (failed(ReasonCode.OUT_OF_MEMORY, memory_kind="gpu", blamed_on="neighbour"), "out of memory", "GPU memory, usage of others"),
        (failed(ReasonCode.LOST, error="pid 77 is gone"), "lost", "pid # is gone"),
        (failed(ReasonCode.NOT_STARTED), "not started", ""),
        (failed(ReasonCode.CANCELLED), "cancelled", ""),
        (failed(ReasonCode.CANCELLED, error="killed"), "cancelled", ""),
        (failed(ReasonCode.STOPPED, requeued=True), "stopped", "when the queue stopped"),
        (failed(ReasonCode.STOPPED), "stopped", ""),
        (failed(ReasonCode.UNKNOWN), "unknown", ""),
    ],
)  # fmt: skip
def test_unsuccessful_attempts_are_grouped_by_cause(
    attempts: AttemptFailures, name: str, detail: str
) -> None:
    (group,) = group_failures([attempts])
    assert (group.cause, group.detail) == (name, detail)


def test_failure_groups_are_sorted_by_cost(store: Store) -> None:
    specs = [a_spec(name=f"command/{number}") for number in range(7)]
    first, second, third, lost, void, small, gone = enqueue(store, *specs)
    attempt(store, first, Failed(at=NOON - 9, error="bad image 1"), HOUR)
    attempt(store, second, Failed(at=NOON - 8, error="bad image 2"), 2 * HOUR)
    attempt(store, third, Failed(at=NOON - 10, error="bad image 3"), HOUR)
    attempt(store, lost, Lost(at=NOON, why="its supervisor is gone"), HOUR)
    attempt(store, void, NeverStarted(at=NOON), 0)
    short = OutOfMemory(at=NOON, error="CUDA out of memory", report=OomReport("gpu"))
    crowded = a_reason("in any words", ReasonCode.OUT_OF_MEMORY, where="gpu", whose="neighbour")
    requeue = RequeueDecision(reason=crowded)
    attempt(store, small, short, 1800, device="GPU-0", requeue=requeue)
    claim = claimed(store, gone, NOON - 60)
    store.job_control.cancel([gone], NOON - 30)
    store.transitions.finish_attempt(claim, Stopped(at=NOON), outputs={}, now=NOON + 0.1)

    groups = the_past(store, now=NOON + 1).causes

    assert [(one.cause, one.detail, one.attempts, one.job) for one in groups] == [
        ("failed", "bad image #", 3, second),
        ("lost", "its supervisor is gone", 1, lost),
        ("out of memory", "GPU memory, usage of others", 1, small),
        ("cancelled", "", 1, gone),
        ("not started", "", 1, void),
    ]
    assert groups[0].seconds == pytest.approx(4 * HOUR)


def test_error_texts_that_are_not_utf8_are_shown_partially(store: Store) -> None:
    first, second = enqueue(store, "command/1", "command/2")
    attempt(store, first, Failed(at=NOON, error="no file caf\udce9"), HOUR)
    attempt(store, second, Failed(at=NOON - 1, error="cut\x00off"), 1)

    groups = the_past(store).causes

    assert [one.attempts for one in groups] == [1, 1]
    assert groups[0].detail.startswith("no file caf")
    assert groups[0].detail.encode()


# --- by memory


def test_unused_memory_requests_are_reported_with_a_better_request(store: Store) -> None:
    first, second = enqueue(store, a_training("train/a"), a_training("train/b"))
    for job, peak in ((first, 10 * GIB), (second, 12 * GIB)):
        attempt(
            *(store, job, Done(at=NOON), 2 * HOUR),
            peak=peak,
            device="GPU-0",
            vram=24 * GIB,
        )

    (memory,) = the_past(store).memory

    assert (memory.name, memory.job, memory.attempts) == ("train/b", second, 2)
    assert (memory.asked, memory.peak, memory.beyond) == (24 * GIB, 12 * GIB, 0)
    assert memory.wasted_gib_hours == pytest.approx(2 * 14 + 2 * 12)
    assert memory.hint == "request 12.6 GiB instead of 24 GiB"


def a_memory(asked: float, peak: float, *, beyond: int = 0, declared: bool = True) -> MemorySummary:
    amounts: dict[str, Any] = {"peak": round(peak * GIB), "exceeded": beyond, "declared": declared}
    (memory,) = summarize_memory(
        [
            ReservationUsage(
                "a",
                "train/a",
                1,
                vram=round(asked * GIB),
                attempts=1,
                wasted_byte_s=0,
                **amounts,
            )
        ]
    )
    return memory


@pytest.mark.parametrize(
    ("memory", "hint"),
    [
        (a_memory(24, 11.3), "request 11.9 GiB instead of 24 GiB"),
        (a_memory(12, 11.3), ""),  # it fits
        (a_memory(10, 11.3, beyond=1), "request 11.9 GiB instead of 10 GiB"),
        (a_memory(24, 11.3, declared=False), ""),  # nobody asked: the next claim is smaller anyway
        (a_memory(2, 0.5), "request 819 MiB instead of 2 GiB"),
    ],
)
def test_hint_is_given_when_a_better_request_exists(memory: MemorySummary, hint: str) -> None:
    assert memory.hint == hint


def a_usage(
    claim: int, *, attempts: int = 1, job: int = 1, beyond: int = 0, **more: Any
) -> ReservationUsage:
    values: dict[str, Any] = {"signature": "train 1", "name": f"train/{job}", "declared": True}
    values |= {"peak": 4 * GIB, "wasted_byte_s": 0.0} | more
    return ReservationUsage(vram=claim * GIB, attempts=attempts, job=job, exceeded=beyond, **values)


def test_median_reservation_is_weighted_by_attempts() -> None:
    (memory,) = summarize_memory(
        [a_usage(20, attempts=1, job=9), a_usage(8, attempts=3), a_usage(10)]
    )

    assert (memory.asked // GIB, memory.attempts, memory.name) == (8, 5, "train/9")


def test_exceeded_reservations_are_listed_first() -> None:
    wasteful = a_usage(24, signature="a", wasted_byte_s=1e18)
    greedy = a_usage(2, signature="b", beyond=1)

    assert [one.beyond for one in summarize_memory([wasteful, greedy])] == [1, 0]


def test_attempts_on_cpu_or_without_measurements_are_omitted(store: Store) -> None:
    first, second = enqueue(store, a_spec(), a_training("train/a"))
    attempt(store, first, Done(at=NOON), HOUR)
    attempt(store, second, Done(at=NOON), HOUR, device="GPU-0", vram=GIB)

    assert the_past(store).memory == ()


# --- which part of it


def test_only_attempts_within_the_time_range_count(store: Store) -> None:
    old, long, new = enqueue(store, *(f"command/{n}" for n in range(3)))
    attempt(store, old, Failed(at=NOON - 10 * HOUR, error="no"), HOUR, device="GPU-0")
    attempt(store, long, Done(at=NOON - HOUR), 8 * HOUR, device="GPU-0")
    attempt(store, new, Done(at=NOON), HOUR, device="GPU-0")

    past = the_past(store, begin=NOON - 2 * HOUR)

    assert past.runs[0].gpu_seconds == pytest.approx(2 * HOUR)
    assert (past.runs[0].jobs, past.causes) == (2, ())


def test_a_pattern_narrows_every_section(store: Store) -> None:
    first, second = enqueue(store, a_training("train/a"), a_training("train/b", signature="t 2"))
    attempt(store, first, Done(at=NOON), HOUR, peak=GIB, device="GPU-0", vram=2 * GIB)
    attempt(store, second, Failed(at=NOON, error="no"), HOUR, peak=GIB, device="GPU-0", vram=GIB)

    past = the_past(store, jobs=[first])

    assert (past.days[0].done, past.days[0].failed, past.causes) == (1, 0, ())
    assert [one.name for one in past.memory] == ["train/a"]
    assert past.runs[0].attempts == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2h", NOON - 2 * HOUR), ("7d", NOON - 168 * HOUR), ("2026-11-20T11:00", NOON - HOUR)],
)
def test_since_accepts_a_duration_or_a_moment(text: str, expected: float) -> None:
    assert parse_since(text, NOON) == expected


# --- the command


def test_history_of_an_empty_queue_is_no_error(
    launcher: Launcher, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answer = launcher.well("history")
    assert answer.out == ""
    assert answer.err == "no job has run or ended yet\n"

    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "none"))
    told = launcher.json("history")
    assert told == {
        "schema": 1,
        "since": None,
        "days": [],
        "runs": [],
        "causes": [],
        "memory": [],
        "nodes": [],
    }
    assert launcher("history", "train/a").code == 2
    assert not (tmp_path / "none").exists()


def test_pipe_lines_start_with_their_section(launcher: Launcher, store: Store) -> None:
    good, bad = enqueue(store, a_training("train/a"), "command/\x1b[2J")
    now = time.time()
    attempt(store, good, Done(at=now), HOUR, peak=GIB, device="GPU-0", vram=24 * GIB)
    attempt(store, bad, Failed(at=now, error="no\tfile"), 1.5)

    answer = launcher("history")

    rows = [line.split("\t") for line in answer.out.splitlines()]
    assert {(row[0], len(row)) for row in rows} == {
        *{("day", 9), ("run", 8), ("cause", 6), ("memory", 10)},
    }
    (cause,) = (row for row in rows if row[0] == "cause")
    assert cause == ["cause", "failed", r"no\tfile", "1", "1.5", str(bad)]
    (memory,) = (row for row in rows if row[0] == "memory")
    assert memory[:7] == [
        *("memory", "train/a", str(good), "1", "yes", str(24 * GIB), str(GIB)),
    ]
    assert memory[7:9] == ["0", "23.0"]


def test_one_section_can_be_selected(launcher: Launcher, store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    attempt(store, job, Done(at=time.time()), 1)

    told = launcher.json("history", "--by", "run", "--since", "1h")

    assert set(told) == {"schema", "since", "runs"}
    assert told["runs"][0]["run"] == "test"
    assert launcher("history", "--by", "cause").out == ""


def test_terminal_shows_a_headline_and_tables(launcher: Launcher, store: Store) -> None:
    good, bad = enqueue(store, "command/1", "command/2")
    attempt(store, good, Done(at=time.time()), 1)
    attempt(store, bad, Failed(at=time.time(), error="no such file"), HOUR)

    drawn = in_a_terminal("history", columns=80)

    assert drawn.startswith("1 done · 1 failed · 1.0 core-hours · on ")
    assert "failed: no such file" in drawn
    assert f"launcher show {bad}" in drawn


# --- drawn


def a_past() -> HistoryReport:
    """A few days of a queue that many would rather forget."""
    days = [
        DaySummary(
            day=f"2026-11-{20 - number:02}",
            done=1044 - 70 * number,
            failed=3 if number % 3 == 0 else 0,
            cancelled=number // 5,
            gpu_seconds=191.26 * HOUR / (number + 1),
            core_seconds=HOUR * (0.031 if number == 15 else 764.8 - 40 * number),
            median_seconds=None if number == 15 else 41.3 + 200 * number,
        )
        for number in range(16)
    ]
    runs = (
        RunSummary(
            run="quick\x1b[2J", jobs=9, done=8, failed=1, attempts=12, gpu_seconds=3.2 * HOUR
        ),
        RunSummary(run="blend-of-everything-with-everything-else-again", jobs=900, done=900),
    )
    failures = (
        FailureGroup(
            cause="failed",
            reason_code=ReasonCode.FAILED,
            detail="ended with exit code 1: FileNotFoundError: no folder called data/TrueFace in /data",
            attempts=12,
            seconds=44.12 * HOUR,
            job=39,
        ),
        FailureGroup(
            cause="out of memory", reason_code=ReasonCode.OUT_OF_MEMORY, detail="GPU memory, own usage", attempts=3, seconds=4.5 * HOUR, job=44
        ),
        FailureGroup(cause="cancelled", reason_code=ReasonCode.CANCELLED, detail="", attempts=1, seconds=14.4, job=45),
    )  # fmt: skip
    memory = (
        a_memory(10, 11.3, beyond=2),
        a_memory(24, 11.3),
        a_memory(12, 11.3),
        a_memory(24, 11.3, declared=False),
    )
    return HistoryReport(days=tuple(days), runs=runs, causes=failures, memory=memory)


@pytest.mark.parametrize("width", [80, 120])
def test_a_screen_shows_every_section(width: int) -> None:
    drawn = "\n".join([headline(a_past()), "", *texts_of(draw(a_past(), width)), ""])

    assert drawn == (GOLDEN / f"history-{width}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [40, 200])
def test_no_line_is_wider_than_the_screen(width: int) -> None:
    assert max(width_of(one.text) for one in draw(a_past(), width)) <= width


def test_named_section_is_shown_completely() -> None:
    short, whole = draw(a_past(), 80), draw(a_past(), 80, ["day"])

    assert "2 more: launcher history --by day" in texts_of(short)
    assert len(whole) == 17


def test_names_contain_no_terminal_control_sequences() -> None:
    assert "\x1b" not in "".join(texts_of(draw(a_past(), 80)))
    assert "\x1b" not in "".join(text for row in columns(a_past()) for text in row)


def test_run_is_summarized_by_show(store: Store, launcher: Launcher) -> None:
    names = [f"train/{number}" for number in range(8)]
    jobs = enqueue(store, *names, run="grid 1")
    enqueue(store, "other", run="else")
    store.job_control.change_tags(jobs[:3], ["paper"], [])
    for job in jobs[:7]:
        attempt(store, job, Failed(at=NOON, error="boom"), 1.0)
    for word in ("run:grid 1", "grid 1"):
        shown = launcher.well("show", word).out
        assert shown.startswith("run grid 1\n1 queued · 7 failed\n")
        assert "\ntags    paper (3)\n" in shown
        assert shown.count("boom") == 5
        assert "\n  and 2 more\n" in shown
        assert "launcher status 'run:grid 1'\n" in shown
    answer = launcher.json("show", "grid 1")
    (record,) = answer["runs"]
    assert (record["counts"], record["tags"]) == ({"failed": 7, "queued": 1}, {"paper": 3})
    assert (record["failed"], answer["searches"]) == (jobs[6:1:-1], [])
