"""Stored usage of attempts on GPUs and nodes, and which records are used."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.frontends.screens.history_view import columns, draw, history_to_json
from launcher.queue.jobs.job import Resources
from launcher.queue.jobs.signatures import program_signature
from launcher.queue.jobs.states import Done, Failed, Lost, OomReport, Outcome, OutOfMemory, Stopped
from launcher.queue.scheduler.policy.vram_request import (
    AFTER_SHORTAGE,
    choose_vram_request,
    steady_request,
)
from launcher.queue.store.connection import Connection
from launcher.queue.store.history import HistoryQueries
from launcher.queue.store.history_report import (
    HistoryReport,
    NodeSummary,
    UsageTotal,
    summarize_nodes,
)
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import PILOT_PREFIX
from launcher.queue.store.schema import migrate
from launcher.queue.store.usage import (
    LEAST_MARGIN,
    LONGEST_S,
    NEWEST_PEAKS,
    NO_SIMILAR_USAGE,
    NO_USAGE,
    AttemptPeak,
    MeasuredUsage,
    SimilarUsage,
    Usage,
)
from launcher.queue.store.usage_records import (
    EARLY_END_S,
    SAMPLES_KEPT,
    SIMILAR_SAMPLES,
    UsageRecords,
    program_of_signature,
    similar_key,
)
from launcher.system.executables import program_of
from tests.build import GIB, a_claim, a_seat, a_spec, enqueue
from tests.launcher.queued import end, one

# --- what the queue remembers of attempts on GPUs, and what of that it believes


A10 = "NVIDIA A10, 24576 MiB, driver 535.104"
UPGRADED = "NVIDIA A10, 24576 MiB, driver 550.54"
H100 = "NVIDIA H100, 81559 MiB, driver 550.54"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Connection]:
    """An empty queue in memory."""
    with closing(Connection(tmp_path / "queue.db", ":memory:", 0.0)) as memory:
        migrate(memory, memory.path)
        yield memory


@pytest.fixture
def records(database: Connection) -> UsageRecords:
    return UsageRecords(database)


def learn(
    records: UsageRecords,
    signature: str = "train 1",
    *,
    began: float = 0.0,
    end: Outcome | None = None,
    argv: tuple[str, ...] = (),
    seconds: float = 60.0,
    certain: bool = False,
    **measured: Any,
) -> None:
    """Let an attempt on a GPU end, and be recorded."""
    spec = a_spec(*argv, signature=signature)
    claim = a_claim(spec, device="GPU-0", claimed=began)
    ended = end or Done(at=began + seconds)
    records.record(claim, ended, MeasuredUsage(**{"peak": 4 * GIB} | measured), certain=certain)


def learn_program(records: UsageRecords, *argv: str, **known: Any) -> None:
    """Let an attempt of a program end, and be recorded."""
    learn(records, program_signature(argv), argv=argv, **known)


def usage(records: UsageRecords, signature: str = "train 1", machine: str = "") -> Usage:
    """Usage of attempts with a signature, without that of similar ones."""
    return records.usage(signature, machine=machine)._replace(similar=NO_SIMILAR_USAGE)


def similar(
    records: UsageRecords, *argv: str, signature: str = "", machine: str = ""
) -> SimilarUsage:
    """Usage of jobs similar to a program or to a job with a signature."""
    return records.usage(signature or program_signature(argv), program_of(argv), machine).similar


def test_many_durations_are_stored_and_only_the_newest_peaks_count(
    records: UsageRecords, database: Connection
) -> None:
    for number in range(SAMPLES_KEPT + 6):
        learn(records, seconds=100.0 + number, peak=GIB + number)
    learned = usage(records)
    assert len(learned.seconds) == SAMPLES_KEPT
    assert learned.seconds[0] == 105.0 + SAMPLES_KEPT
    assert learned.peaks == tuple(
        GIB + number for number in range(SAMPLES_KEPT + 5, SAMPLES_KEPT + 5 - NEWEST_PEAKS, -1)
    )
    (rows,) = database.execute("SELECT count(*) FROM lessons").fetchone()
    assert rows == SAMPLES_KEPT


def test_slowdown_by_several_jobs_is_stored_per_job(records: UsageRecords) -> None:
    """Fifteen others slowed a program down 1.6 times; a single one would hardly be noticed."""
    learn(records, seconds=8.0, shared_s=8.0, slowdown=1.6, others=15.0)
    learned = usage(records)
    assert learned.slowdown == pytest.approx(1.6 ** (1 / 15))
    assert learned.seconds == pytest.approx((5.0,)), "as long as it takes alone"


@pytest.mark.parametrize("others", ["15", -1, 0, 1e9, None, True])
def test_impossible_number_of_co_located_jobs_counts_as_one(
    records: UsageRecords, database: Connection, others: Any
) -> None:
    learn(records, seconds=8.0, shared_s=8.0, slowdown=1.6, others=15.0)
    database.execute("UPDATE lessons SET numbers = ?", (json.dumps({"others": others}),))
    database.invalidate_caches()
    assert usage(records).slowdown == pytest.approx(1.6)


def test_shared_duration_is_corrected_by_a_known_slowdown(
    records: UsageRecords,
) -> None:
    learn(records, seconds=100, shared_s=60.0, slowdown=1.5, sm=0.5)
    learn(records, seconds=100, shared_s=60.0)
    learn(records, seconds=100, slowdown=2.0, sm=0.7)
    learned = usage(records)
    assert learned.seconds == pytest.approx((50.0, 100.0, 80.0))
    assert learned.slowdown == pytest.approx(1.75)
    assert learned.seconds_alone == ()
    learn(records, seconds=90, shared_s=1.0)
    assert usage(records).seconds_alone == (90.0,)
    assert learned.sm == pytest.approx(0.6)


def test_duration_of_a_new_job_comes_from_its_type_and_names_that_source(
    records: UsageRecords,
) -> None:
    assert usage(records, "train 2") == NO_USAGE
    learn(records, "train 1", seconds=60)
    learn(records, "score 1", seconds=5)
    learned = usage(records, "train 2")
    assert (learned.seconds, learned.is_own, learned.peaks) == ((60.0,), False, ())
    assert usage(records, "attack 1").seconds == (5.0, 60.0)
    assert usage(records, "train 1").is_own
    learn(records, "train 3", seconds=70)
    assert usage(records, "train 2").seconds == (70.0, 60.0)
    assert usage(records, "").seconds == ()


@pytest.mark.parametrize(
    "end", [Failed(at=0.0, error="no"), Stopped(at=0.0), Lost(at=0.0, why="the machine crashed")]
)
def test_early_end_stores_no_duration_and_only_a_higher_memory_peak(
    records: UsageRecords, end: Failed | Stopped | Lost
) -> None:
    early, late = end._replace(at=9.0), end._replace(at=EARLY_END_S)
    learn(records, end=early, peak=GIB)
    assert usage(records) == NO_USAGE  # it may not have come to its first step
    learn(records, end=late, peak=4 * GIB)
    assert usage(records) == Usage(peaks=(4 * GIB,))
    learn(records, end=early, peak=2 * GIB)
    learn(records, end=early, peak=5 * GIB)
    assert usage(records) == Usage(peaks=(5 * GIB, 4 * GIB))


def test_refused_allocation_is_added_to_the_memory_peak(records: UsageRecords) -> None:
    short = OutOfMemory(at=9.0, error="no", report=OomReport("gpu", 2 * GIB, 5 * GIB))
    learn(records, end=short)
    assert usage(records).peaks == (7 * GIB,)
    learn(records, "train 2", end=short._replace(report=OomReport("gpu")))
    assert usage(records, "train 2").peaks == (4 * GIB,)
    learn(records, "train 3", end=short._replace(report=short.report._replace(where="ram")))
    assert usage(records, "train 3").peaks == (4 * GIB,)


# --- other machines


def test_memory_of_this_machine_takes_precedence(records: UsageRecords) -> None:
    learn(records, seconds=10, peak=9 * GIB, machine=H100, slowdown=3.0, shared_s=0.0)
    learn(records, seconds=60, peak=4 * GIB, machine=A10)
    records.set_local_machines([A10])
    assert usage(records) == Usage(seconds=(60.0,), peaks=(4 * GIB,), slowdown=3.0)  # as a fallback
    records.set_local_machines([H100])
    assert usage(records).seconds == (10.0,)
    assert usage(records, "train 2").seconds == (10.0,)  # the usage of its type, too
    assert usage(records, machine=A10).peaks == (4 * GIB,)
    records.set_local_machines([])
    assert len(usage(records).seconds) == 2


def test_peak_from_another_gpu_or_driver_is_marked(records: UsageRecords) -> None:
    learn(records, seconds=10, machine=A10)
    records.set_local_machines([UPGRADED])
    assert usage(records).other_gpu_note == "under another driver (535.104)"
    assert usage(records).seconds == (10.0,)
    records.set_local_machines([H100])
    assert usage(records).other_gpu_note == "on another GPU (A10)"
    learn(records, seconds=12, machine=UPGRADED)
    records.set_local_machines([UPGRADED])
    assert usage(records) == Usage(seconds=(12.0, 10.0), peaks=(4 * GIB,))


def test_records_without_a_machine_count_for_this_machine(records: UsageRecords) -> None:
    learn(records)
    records.set_local_machines([H100])
    assert usage(records) == Usage(seconds=(60.0,), peaks=(4 * GIB,))


# --- programs


def test_numeric_arguments_of_a_program_are_stored_with_its_peak(records: UsageRecords) -> None:
    for size in (4, 7):
        argv = ("train.py", f"--gib={size}")
        learn(records, program_signature(argv), argv=argv, peak=size * GIB)
    learned = usage(records, program_signature(("train.py", "--gib=9")))
    assert learned.attempt_peaks == (AttemptPeak(4 * GIB, ("4",)), AttemptPeak(7 * GIB, ("7",)))
    learn(records)
    assert usage(records).attempt_peaks == ()  # a kind's signature is exact


def test_waiting_program_has_the_numeric_arguments_that_determine_its_memory(
    store: Store,
) -> None:
    argv = ("train.py", "--gib=4")
    gpu = Resources(device="cuda")
    signature = program_signature(argv)
    spec = a_spec(*argv, signature=signature, resources=gpu)
    enqueue(store, spec)
    (before,) = store.ready_jobs.read_ready(4)
    assert before.numbers is None  # nothing is known that they could decide
    assert before.program == "train.py"
    learn(UsageRecords(store.database), signature, argv=argv)
    store.database.invalidate_caches()  # the record was stored with it
    (after,) = store.ready_jobs.read_ready(4)
    assert after.numbers == ("4",)
    store.database.execute("UPDATE jobs SET spec = '{', rank = rank + 1")
    (damaged,) = store.ready_jobs.read_ready(4)
    assert damaged.numbers == ()


# --- what cannot be true


@pytest.mark.parametrize(
    ("began", "seconds", "elapsed_s", "learned"),
    [
        (1000.0, 60.0, None, (60.0,)),
        (1000.0, -60.0, None, ()),  # the clock was set back
        (0.0, LONGEST_S + 1, None, ()),  # it began in 1970, or ends in 2040
        (0.0, 3600.0, 60.0, (60.0,)),  # set forward by an hour meanwhile
        (0.0, LONGEST_S + 1, 60.0, (60.0,)),
        (0.0, 60.0, 7200.0, (60.0,)),  # the end was recorded two hours late
        (0.0, 60.0, -1.0, ()),
    ],
)
def test_clock_jump_stores_no_duration(
    records: UsageRecords,
    began: float,
    seconds: float,
    elapsed_s: float | None,
    learned: tuple[float, ...],
) -> None:
    learn(records, began=began, seconds=seconds, elapsed_s=elapsed_s)
    assert usage(records) == Usage(seconds=learned, peaks=(4 * GIB,))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("seconds", -1.0),
        ("seconds", "9e999"),
        ("seconds", "-9e999"),
        ("seconds", 1e12),
        ("peak", -GIB),
        ("peak", 0),
        ("peak", 1 << 62),
        ("slowdown", 0.0),
        ("slowdown", "9e999"),
        ("shared", -5.0),
        ("sm", 7.0),
        ("sm", -1.0),
    ],
)
def test_damaged_usage_record_is_ignored(
    records: UsageRecords, database: Connection, column: str, value: float | str
) -> None:
    learn(records, seconds=50)
    learn(records, seconds=60, shared_s=0.0, slowdown=2.0, sm=0.5)
    database.execute(f"UPDATE lessons SET {column} = {value} WHERE id = 2")
    database.invalidate_caches()
    learned = usage(records)
    assert set(learned.seconds) <= {50.0, 60.0, 30.0}
    assert set(learned.peaks) == {4 * GIB}
    assert learned.slowdown in {None, 2.0}
    assert learned.sm in {None, 0.5}
    assert usage(records, "train 2").seconds  # the usage of its type, too


@pytest.mark.parametrize(
    "text", ["'{'", "'7'", "'[1]'", "NULL", "'[[]]'", "'{}'", """'{"numbers": 4, "program": []}'"""]
)
def test_unreadable_numeric_arguments_are_unknown(
    records: UsageRecords, database: Connection, text: str
) -> None:
    argv = ("train.py", "4")
    learn(records, program_signature(argv), argv=argv)
    database.execute(f"UPDATE lessons SET numbers = {text}")
    database.invalidate_caches()
    assert usage(records, program_signature(argv)).attempt_peaks == (AttemptPeak(4 * GIB),)


# --- what similar jobs used


PROGRAM = ("python", "train.py")


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (("python", "train.py", "--lr", "1"), ("python", "train.py", "--big"), True),
        (("python", "train.py"), ("nice", "python", "-u", "train.py"), True),
        (("python", "train.py"), ("python", "score.py"), False),
        (("./train", "a"), ("./train", "b"), True),
        (("./train",), ("./score",), False),
        (("python", "-m", "lab.train", "a"), ("python", "-m", "lab.train", "b"), True),
        (("python", "-m", "lab.train"), ("python", "-m", "lab.score"), False),
    ],
)
def test_jobs_of_the_same_program_are_similar(
    one: tuple[str, ...], other: tuple[str, ...], alike: bool
) -> None:
    first, second = (
        similar_key(signature, program_of_signature(signature, argv))
        for argv in (one, other)
        for signature in [program_signature(argv)]
    )
    assert (first == second) is alike


def test_jobs_of_the_same_type_are_similar_and_their_command_line_does_not_matter() -> None:
    assert program_of_signature("train 1", PROGRAM) == ""
    assert similar_key("train 1", "") == similar_key("train 2", "") != similar_key("score 1", "")


def test_program_without_further_facts_is_similar_only_to_itself() -> None:
    first, second = program_signature(["a"]), program_signature(["b"])
    assert similar_key(first, "") == similar_key(first, "") != similar_key(second, "")


def test_peaks_of_similar_jobs_are_known_for_all_settings(records: UsageRecords) -> None:
    assert similar(records, *PROGRAM, "--new") == NO_SIMILAR_USAGE
    learn_program(records, *PROGRAM, "--small", peak=3 * GIB, sm=0.2)
    learn_program(records, *PROGRAM, "--large", peak=5 * GIB, sm=0.4)
    learn_program(records, "python", "score.py", peak=9 * GIB, sm=0.9)
    learn(records, "train 1", peak=7 * GIB)
    learned = similar(records, *PROGRAM, "--new")
    assert learned.peaks == (5 * GIB, 3 * GIB)
    assert learned.sm == pytest.approx(0.3)
    assert similar(records, signature="train 2").peaks == (7 * GIB,)
    new = records.usage(program_signature([*PROGRAM, "--new"]), program_of(PROGRAM))
    assert (new.peaks, new.sm, new.expected_sm) == ((), None, learned.sm)
    assert usage(records, "train 1").peaks == (7 * GIB,)


def test_peaks_of_similar_jobs_are_read_after_a_restart(
    records: UsageRecords, database: Connection
) -> None:
    learn_program(records, *PROGRAM, "--small", peak=3 * GIB)
    learn_program(records, *PROGRAM, "--large", peak=5 * GIB)
    assert similar(UsageRecords(database), *PROGRAM, "--new").peaks == (5 * GIB, 3 * GIB)


def test_only_the_newest_similar_jobs_count(records: UsageRecords) -> None:
    for number in range(SIMILAR_SAMPLES + 2):
        learn_program(records, *PROGRAM, "--" + "x" * number, peak=GIB + number)
    peaks = similar(records, *PROGRAM, "--new").peaks
    assert peaks == tuple(GIB + number for number in range(SIMILAR_SAMPLES + 1, 1, -1))


def test_similar_jobs_on_another_gpu_count_only_if_none_ran_on_this_one(
    records: UsageRecords,
) -> None:
    learn_program(records, *PROGRAM, "--a", peak=9 * GIB, sm=0.1, machine=H100)
    records.set_local_machines([A10])
    assert similar(records, *PROGRAM, "--new") == SimilarUsage(peaks=(9 * GIB,), sm=0.1)
    learn_program(records, *PROGRAM, "--b", peak=4 * GIB, machine=UPGRADED)
    assert similar(records, *PROGRAM, "--new") == SimilarUsage(peaks=(4 * GIB,), sm=0.1)
    assert similar(records, *PROGRAM, "--new", machine=H100).peaks == (9 * GIB,)
    learn_program(records, *PROGRAM, "--c", sm=0.5, machine=A10)
    assert similar(records, *PROGRAM, "--new").sm == 0.5


def test_duration_of_a_new_job_comes_from_similar_jobs_then_its_type_then_all_jobs(
    records: UsageRecords,
) -> None:
    learn(records, "train 1", seconds=5)
    seconds = [records.usage(program_signature(PROGRAM), program_of(PROGRAM)).seconds]
    learn_program(records, "./other", seconds=10)
    seconds.append(records.usage(program_signature(PROGRAM), program_of(PROGRAM)).seconds)
    learn_program(records, *PROGRAM, "--a", seconds=20)
    seconds.append(records.usage(program_signature(PROGRAM), program_of(PROGRAM)).seconds)
    assert seconds == [(5.0,), (10.0,), (20.0,)]


def test_job_stopped_because_of_its_memory_counts_even_after_a_short_run(
    records: UsageRecords,
) -> None:
    stopped = Stopped(at=9.0)
    learn_program(records, *PROGRAM, "--a", end=stopped, peak=3 * GIB)
    assert similar(records, *PROGRAM, "--new").peaks == ()
    learn_program(records, *PROGRAM, "--a", end=stopped, peak=3 * GIB, certain=True)
    assert similar(records, *PROGRAM, "--new").peaks == (3 * GIB,)


@pytest.mark.parametrize("signature", ["train 1", program_signature((*PROGRAM, "--a"))])
def test_peak_of_a_job_stopped_because_of_its_memory_counts_only_for_similar_jobs(
    records: UsageRecords, database: Connection, signature: str
) -> None:
    def known() -> tuple[Usage, tuple[int, ...]]:
        told = records.usage(signature, program_of_signature(signature, PROGRAM))
        return told._replace(similar=NO_SIMILAR_USAGE), told.similar.peaks

    learn(
        records, signature, argv=(*PROGRAM, "--a"), end=Stopped(at=9.0), peak=3 * GIB, certain=True
    )
    for _ in range(2):
        own, peaks = known()
        assert (own.peaks, own.attempt_peaks, peaks) == ((), (), (3 * GIB,)), (
            "it is less than it needs"
        )
        database.invalidate_caches()  # as after a restart
    learn(records, signature, argv=(*PROGRAM, "--a"), peak=5 * GIB)
    own, peaks = known()
    assert (own.peaks, peaks) == ((5 * GIB,), (5 * GIB, 3 * GIB))


@pytest.mark.parametrize(
    "text",
    [
        "NULL",
        """'["4"]'""",
        """'{"program": "train.py", "numbers": ["4"]}'""",
        """'{"cut_short": "yes"}'""",
        """'{"cut_short": null}'""",
    ],
)
def test_record_without_an_early_stop_counts_for_similar_jobs(
    records: UsageRecords, database: Connection, text: str
) -> None:
    for signature in ("train 1", program_signature(["train.py", "4"])):
        learn(records, signature, argv=("train.py", "4"))
    database.execute(f"UPDATE lessons SET numbers = {text}")
    database.invalidate_caches()
    for signature in ("train 1", program_signature(["train.py", "4"])):
        assert usage(records, signature).peak == 4 * GIB


def test_rolled_back_usage_record_is_removed_from_similar_jobs(
    records: UsageRecords, database: Connection
) -> None:
    learn_program(records, *PROGRAM, "--a")
    assert similar(records, *PROGRAM, "--new").peaks
    database.execute("DELETE FROM lessons")
    database.invalidate_caches()
    assert similar(records, *PROGRAM, "--new") == NO_SIMILAR_USAGE


# --- usage


def usage_of_similar(*gib: float) -> Usage:
    return Usage(similar=SimilarUsage(peaks=tuple(int(each * GIB) for each in gib)))


TEN = Usage(peaks=(9 * GIB, 10 * GIB))
MARGIN = round(0.05 * 10 * GIB)
amounts = st.none() | st.integers(0, 80 * GIB)


@pytest.mark.parametrize(
    ("asked", "least", "usage", "claim", "source"),
    [
        (None, 0, NO_USAGE, None, ""),
        (8 * GIB, 0, NO_USAGE, 8 * GIB, "declared"),
        (12 * GIB, 0, TEN, 12 * GIB, "declared"),
        (10 * GIB, 0, TEN, 10 * GIB, "declared"),
        (None, 0, TEN, 10 * GIB + MARGIN, "learned from 2 runs"),
        (None, 0, Usage(peaks=(GIB,)), GIB + LEAST_MARGIN, "learned from 1 run"),
        (8 * GIB, 0, TEN, 10 * GIB + MARGIN, "declared 8 GiB, measured 10 GiB"),
        (None, 14 * GIB, NO_USAGE, 14 * GIB, "raised after it ran out of memory"),
        (8 * GIB, 14 * GIB, NO_USAGE, 14 * GIB, "raised after it ran out of memory"),
        (None, 14 * GIB, TEN, 14 * GIB, "raised after it ran out of memory"),
        (16 * GIB, 14 * GIB, TEN, 16 * GIB, "declared"),
    ],
)
def test_vram_request_names_its_source(
    asked: int | None, least: int, usage: Usage, claim: int | None, source: str
) -> None:
    assert choose_vram_request(asked, least, usage) == (claim, source, claim is None)


@pytest.mark.parametrize(
    ("usage", "estimate", "source"),
    [
        (usage_of_similar(4), 1.3 * 4 + 0.25, "estimated from 1 similar job"),
        (usage_of_similar(2, 4), 1.3 * 4 + 0.25, "estimated from 2 similar jobs"),
        (usage_of_similar(2, 4, 3), 1.2 * 4 + 0.25, "estimated from 3 similar jobs"),
        (usage_of_similar(*[2] * 39, 40), 1.2 * 2 + 0.25, "estimated from 40 similar jobs"),
    ],
)
def test_unmeasured_job_requests_slightly_more_than_similar_jobs_used(
    usage: Usage, estimate: float, source: str
) -> None:
    request = choose_vram_request(None, 0, usage)
    assert request.vram == pytest.approx(estimate * GIB, abs=2)
    assert (request.source, request.estimated) == (source, True)


@pytest.mark.parametrize(
    ("ended", "live", "estimate"),
    [
        ((), (4,), 1.3 * 4 + 0.25),
        ((10,), (2, 2, 2), 1.3 * 10 + 0.25),  # they may still grow
        ((10, 10, 10), (2,) * 60, 1.2 * 10 + 0.25),
        ((2, 2, 2), (20,), 1.3 * 20 + 0.25),
    ],
)
def test_running_similar_jobs_can_only_raise_an_estimate(
    ended: tuple[int, ...], live: tuple[int, ...], estimate: float
) -> None:
    similar = SimilarUsage(
        peaks=tuple(n * GIB for n in ended), running_bytes=tuple(n * GIB for n in live)
    )
    request = choose_vram_request(None, 0, Usage(similar=similar))
    assert request.vram == pytest.approx(estimate * GIB, abs=2)
    number = len(ended) + len(live)
    assert request.source == f"estimated from {number} similar job{'s' if number > 1 else ''}"


def test_declared_measured_or_missing_memory_overrides_similar_jobs() -> None:
    usage = usage_of_similar(30)
    assert choose_vram_request(4 * GIB, 0, usage) == (4 * GIB, "declared", False)
    assert choose_vram_request(None, 5 * GIB, usage) == (5 * GIB, AFTER_SHORTAGE, False)
    learned = choose_vram_request(None, 0, usage._replace(peaks=TEN.peaks))
    assert learned == (10 * GIB + MARGIN, "learned from 2 runs", False)


def test_program_with_new_arguments_requests_what_similar_runs_used() -> None:
    usage = usage_of_similar(4)._replace(
        peaks=(4 * GIB,), attempt_peaks=(AttemptPeak(4 * GIB, ("4",)),)
    )
    request = choose_vram_request(None, 0, usage, exact=False, numbers=("900",))
    assert (request.estimated, request.source) == (True, "estimated from 1 similar job")


@pytest.mark.parametrize(
    ("used", "peaks", "estimate", "request_gib"),
    [
        (4, (), 10, 1.2 * 4 + 0.25),  # it follows the use down
        (20, (), 10, 1.2 * 20 + 0.25),  # and up
        (4, (12, 12, 12), 14, 12),  # but most similar jobs took more in the end
        (4, (12, 12, 12), 8, 8),  # no more is kept than was estimated
        (4, (12, 12, 12), None, 1.2 * 4 + 0.25),  # none was known when it started
        (4, (2, 2, 12), 14, 1.2 * 4 + 0.25),  # and here most did not
    ],
)
def test_estimate_of_a_running_job_follows_its_usage_and_similar_jobs(
    used: int, peaks: tuple[int, ...], estimate: int | None, request_gib: float
) -> None:
    known = tuple(peak * GIB for peak in peaks)
    request = steady_request(used * GIB, known, None if estimate is None else estimate * GIB)
    assert request == pytest.approx(request_gib * GIB, abs=2)


@given(amounts, st.integers(0, 80 * GIB), st.lists(st.integers(0, 80 * GIB), max_size=4))
def test_vram_request_is_never_below_a_known_need(
    asked: int | None, least: int, peaks: list[int]
) -> None:
    claim, source, estimated = choose_vram_request(asked, least, Usage(peaks=tuple(peaks)))
    assert estimated == (claim is None)
    if claim is None:
        assert (asked, least, peaks, source) == (None, 0, [], "")
    else:
        assert claim >= max(asked or 0, least, *peaks)
        assert source


def test_declared_memory_overrides_peaks_with_other_arguments() -> None:
    usage = Usage(peaks=(11 * GIB,))
    assert choose_vram_request(4 * GIB, 0, usage, exact=False)[:2] == (4 * GIB, "declared")
    claim, source, _ = choose_vram_request(4 * GIB, 0, usage)
    assert claim is not None
    assert claim > 11 * GIB
    assert "measured" in source


# --- what ran where: by node, also on nodes whose pilots are long gone


HOUR = 3600.0
NOW = 1_795_262_400.0
PLACES = {"": ("local", "desk"), "launcher-1": ("slurm", "n1"), "launcher-2": ("slurm", "n1")}


def attempt(store: Store, pilot: str, outcome: Outcome, device: str = "cpu") -> None:
    job = one(store)
    seat = a_seat(boot=f"{PILOT_PREFIX}{pilot}", device=device, cpus=2) if pilot else a_seat()
    claim = store.claims.claim(job, seat, reason="fits", now=outcome.at - HOUR)
    assert claim is not None
    end(store, claim, outcome, now=outcome.at)


def history_report(store: Store) -> HistoryReport:
    return HistoryQueries(store.database, 0.0, NOW).build_report(PLACES)


def test_attempts_are_summed_by_node(store: Store) -> None:
    attempt(store, "launcher-1", Done(at=NOW), device="GPU-0,GPU-1")
    attempt(store, "launcher-2", Stopped(at=NOW, by="preempted"))
    attempt(store, "", Done(at=NOW))
    attempt(store, "launcher-9", Done(at=NOW))

    there = {(node.backend, node.node): node for node in history_report(store).nodes}

    assert there["slurm", "n1"] == NodeSummary(
        node="n1", backend="slurm", attempts=2, done=1, gpu_seconds=2 * HOUR, core_seconds=4 * HOUR
    )
    assert there["local", "desk"].core_seconds == HOUR
    assert there["", ""].attempts == 1, "a pilot of which nothing is on record"


def test_single_machine_has_no_section_of_nodes(store: Store) -> None:
    attempt(store, "", Done(at=NOW))
    shown = "\n".join(line.text for line in draw(history_report(store), 100))
    assert "NODE" not in shown
    assert "NODE" in "\n".join(line.text for line in draw(history_report(store), 100, ["node"]))
    assert [row[0] for row in columns(history_report(store))].count("node") == 0


def test_several_nodes_have_a_section(store: Store) -> None:
    attempt(store, "", Done(at=NOW))
    attempt(store, "launcher-1", Done(at=NOW))
    shown = "\n".join(line.text for line in draw(history_report(store), 100))
    assert "NODE" in shown
    assert "n1" in shown
    assert ("node", "n1", "slurm", "1", "1", "0.0", "7200.0") in columns(history_report(store))
    nodes = history_to_json(history_report(store))["nodes"]
    assert [row["node"] for row in nodes] == ["n1", "desk"]  # type: ignore[index,call-overload,union-attr]


def test_nodes_with_most_work_come_first() -> None:
    uses = [
        UsageTotal("test", 0, 0, attempts=1, gpu_s=0, core_s=HOUR, pilot=""),
        UsageTotal("test", 0, 0, attempts=1, gpu_s=0, core_s=2 * HOUR, pilot="launcher-1"),
    ]
    assert [node.node for node in summarize_nodes(uses, PLACES)] == ["n1", "desk"]
