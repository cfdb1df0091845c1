"""What the queue remembers of attempts on GPUs and nodes, and what of that it believes."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.job import Resources, program_signature
from launcher.scheduler.policy.vram_request import (
    AFTER_SHORTAGE,
    settled_request,
    vram_request_of,
)
from launcher.screens.history_view import columns, draw, record
from launcher.states import Done, Failed, Lost, Outcome, OutOfMemory, Shortage, Stopped
from launcher.store.connection import Connection
from launcher.store.history import History, NodeUse, Past, Spent, nodes_of
from launcher.store.opening import bring_up_to_date
from launcher.store.queue import Store
from launcher.store.rows import PILOT
from launcher.store.usage import (
    EARLY_S,
    KEPT,
    LEAST_MARGIN,
    LONGEST_S,
    NEWEST,
    NO_SIMILAR,
    NO_USAGE,
    SIMILAR,
    Measured,
    Run,
    Similar,
    Usage,
    UsageRecords,
    program_by,
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
def database(tmp_path: Path) -> Connection:
    """An empty queue in memory."""
    memory = sqlite3.connect(":memory:", isolation_level=None)
    bring_up_to_date(memory, tmp_path / "queue.db")
    return Connection(memory, tmp_path / "queue.db")


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
    records.record(claim, ended, Measured(**{"peak": 4 * GIB} | measured), certain=certain)


def learn_program(records: UsageRecords, *argv: str, **known: Any) -> None:
    """Let an attempt of a program end, and be recorded."""
    learn(records, program_signature(argv), argv=argv, **known)


def usage(records: UsageRecords, signature: str = "train 1", machine: str = "") -> Usage:
    """What attempts with a signature used, without what similar ones did."""
    return records.usage(signature, machine=machine)._replace(similar=NO_SIMILAR)


def similar(records: UsageRecords, *argv: str, signature: str = "", machine: str = "") -> Similar:
    """What jobs similar to a program used, or to one with a signature."""
    return records.usage(signature or program_signature(argv), program_of(argv), machine).similar


def test_many_durations_are_remembered_and_the_newest_peaks_count(
    records: UsageRecords, database: Connection
) -> None:
    for number in range(KEPT + 6):
        learn(records, seconds=100.0 + number, peak=GIB + number)
    learned = usage(records)
    assert len(learned.seconds) == KEPT
    assert learned.seconds[0] == 105.0 + KEPT
    assert learned.peaks == tuple(GIB + number for number in range(KEPT + 5, KEPT + 5 - NEWEST, -1))
    (rows,) = database.execute("SELECT count(*) FROM lessons").fetchone()
    assert rows == KEPT


def test_the_slowdown_of_many_others_is_stored_as_that_of_one(records: UsageRecords) -> None:
    """Fifteen others slowed a program down 1.6 times; a single one would hardly be noticed."""
    learn(records, seconds=8.0, shared_s=8.0, slowdown=1.6, others=15.0)
    learned = usage(records)
    assert learned.slowdown == pytest.approx(1.6 ** (1 / 15))
    assert learned.seconds == pytest.approx((5.0,)), "as long as it takes alone"


@pytest.mark.parametrize("others", ["15", -1, 0, 1e9, None, True])
def test_a_number_of_others_that_cannot_be_counts_as_one(
    records: UsageRecords, database: Connection, others: Any
) -> None:
    learn(records, seconds=8.0, shared_s=8.0, slowdown=1.6, others=15.0)
    database.execute("UPDATE lessons SET numbers = ?", (json.dumps({"others": others}),))
    records.forget()
    assert usage(records).slowdown == pytest.approx(1.6)


def test_a_duration_beside_others_is_told_as_if_alone_where_the_slowdown_is_known(
    records: UsageRecords,
) -> None:
    learn(records, seconds=100, shared_s=60.0, slowdown=1.5, sm=0.5)
    learn(records, seconds=100, shared_s=60.0)
    learn(records, seconds=100, slowdown=2.0, sm=0.7)
    learned = usage(records)
    assert learned.seconds == pytest.approx((50.0, 100.0, 80.0))
    assert learned.slowdown == pytest.approx(1.75)
    assert learned.alone == ()
    learn(records, seconds=90, shared_s=1.0)
    assert usage(records).alone == (90.0,)
    assert learned.sm == pytest.approx(0.6)


def test_what_never_ran_takes_as_long_as_its_kind_and_says_so(records: UsageRecords) -> None:
    assert usage(records, "train 2") == NO_USAGE
    learn(records, "train 1", seconds=60)
    learn(records, "score 1", seconds=5)
    learned = usage(records, "train 2")
    assert (learned.seconds, learned.own, learned.peaks) == ((60.0,), False, ())
    assert usage(records, "attack 1").seconds == (5.0, 60.0)
    assert usage(records, "train 1").own
    learn(records, "train 3", seconds=70)
    assert usage(records, "train 2").seconds == (70.0, 60.0)
    assert usage(records, "").seconds == ()


@pytest.mark.parametrize(
    "end", [Failed(at=0.0, error="no"), Stopped(at=0.0), Lost(at=0.0, why="the machine crashed")]
)
def test_what_ended_early_teaches_no_duration_and_memory_only_where_it_took_more(
    records: UsageRecords, end: Failed | Stopped | Lost
) -> None:
    early, late = end._replace(at=9.0), end._replace(at=EARLY_S)
    learn(records, end=early, peak=GIB)
    assert usage(records) == NO_USAGE  # it may not have come to its first step
    learn(records, end=late, peak=4 * GIB)
    assert usage(records) == Usage(peaks=(4 * GIB,))
    learn(records, end=early, peak=2 * GIB)
    learn(records, end=early, peak=5 * GIB)
    assert usage(records) == Usage(peaks=(5 * GIB, 4 * GIB))


def test_what_ran_out_of_memory_needs_what_it_was_refused_as_well(records: UsageRecords) -> None:
    short = OutOfMemory(at=9.0, error="no", shortage=Shortage("gpu", 2 * GIB, 5 * GIB))
    learn(records, end=short)
    assert usage(records).peaks == (7 * GIB,)
    learn(records, "train 2", end=short._replace(shortage=Shortage("gpu")))
    assert usage(records, "train 2").peaks == (4 * GIB,)
    learn(records, "train 3", end=short._replace(shortage=short.shortage._replace(where="ram")))
    assert usage(records, "train 3").peaks == (4 * GIB,)


# --- other machines


def test_only_this_machines_memory_counts_where_it_is_known(records: UsageRecords) -> None:
    learn(records, seconds=10, peak=9 * GIB, machine=H100, slowdown=3.0, shared_s=0.0)
    learn(records, seconds=60, peak=4 * GIB, machine=A10)
    records.know([A10])
    assert usage(records) == Usage(seconds=(60.0,), peaks=(4 * GIB,), slowdown=3.0)  # as a fallback
    records.know([H100])
    assert usage(records).seconds == (10.0,)
    assert usage(records, "train 2").seconds == (10.0,)  # of its kind, likewise
    assert usage(records, machine=A10).peaks == (4 * GIB,)
    records.know([])
    assert len(usage(records).seconds) == 2


def test_what_another_card_or_driver_taught_is_marked(records: UsageRecords) -> None:
    learn(records, seconds=10, machine=A10)
    records.know([UPGRADED])
    assert usage(records).elsewhere == "under another driver (535.104)"
    assert usage(records).seconds == (10.0,)
    records.know([H100])
    assert usage(records).elsewhere == "on another GPU (A10)"
    learn(records, seconds=12, machine=UPGRADED)
    records.know([UPGRADED])
    assert usage(records) == Usage(seconds=(12.0, 10.0), peaks=(4 * GIB,))


def test_what_older_launchers_recorded_counts_as_learned_here(records: UsageRecords) -> None:
    learn(records)
    records.know([H100])
    assert usage(records) == Usage(seconds=(60.0,), peaks=(4 * GIB,))


# --- programs


def test_of_a_program_the_numbers_are_remembered_with_what_it_took(records: UsageRecords) -> None:
    for size in (4, 7):
        argv = ("train.py", f"--gib={size}")
        learn(records, program_signature(argv), argv=argv, peak=size * GIB)
    learned = usage(records, program_signature(("train.py", "--gib=9")))
    assert learned.runs == (Run(4 * GIB, ("4",)), Run(7 * GIB, ("7",)))
    learn(records)
    assert usage(records).runs == ()  # a kind's signature is exact


def test_a_waiting_program_comes_with_its_numbers_where_they_decide_its_memory(
    store: Store,
) -> None:
    argv = ("train.py", "--gib=4")
    gpu = Resources(device="cuda")
    signature = program_signature(argv)
    spec = a_spec(*argv, signature=signature, resources=gpu)
    enqueue(store, spec)
    (before,) = store.scheduling.ready(4)
    assert before.numbers is None  # nothing is known that they could decide
    assert before.program == "train.py"
    learn(UsageRecords(Connection(store.database, Path())), signature, argv=argv)
    store.scheduling.forget()  # the lesson was recorded beside it
    (after,) = store.scheduling.ready(4)
    assert after.numbers == ("4",)
    store.database.execute("UPDATE jobs SET spec = '{', rank = rank + 1")
    (damaged,) = store.scheduling.ready(4)
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
        (0.0, 60.0, 7200.0, (60.0,)),  # nobody looked for two hours after its end
        (0.0, 60.0, -1.0, ()),
    ],
)
def test_a_clock_that_jumps_teaches_no_duration(
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
def test_a_damaged_lesson_is_left_out(
    records: UsageRecords, database: Connection, column: str, value: float | str
) -> None:
    learn(records, seconds=50)
    learn(records, seconds=60, shared_s=0.0, slowdown=2.0, sm=0.5)
    database.execute(f"UPDATE lessons SET {column} = {value} WHERE id = 2")
    records.forget()
    learned = usage(records)
    assert set(learned.seconds) <= {50.0, 60.0, 30.0}
    assert set(learned.peaks) == {4 * GIB}
    assert learned.slowdown in {None, 2.0}
    assert learned.sm in {None, 0.5}
    assert usage(records, "train 2").seconds  # of its kind, likewise


@pytest.mark.parametrize(
    "text", ["'{'", "'7'", "'[1]'", "NULL", "'[[]]'", "'{}'", """'{"numbers": 4, "program": []}'"""]
)
def test_numbers_that_cannot_be_read_are_unknown(
    records: UsageRecords, database: Connection, text: str
) -> None:
    argv = ("train.py", "4")
    learn(records, program_signature(argv), argv=argv)
    database.execute(f"UPDATE lessons SET numbers = {text}")
    records.forget()
    assert usage(records, program_signature(argv)).runs == (Run(4 * GIB),)


def test_numbers_that_an_older_launcher_recorded_without_the_program_are_read(
    records: UsageRecords, database: Connection
) -> None:
    learn_program(records, "train.py", "4")
    database.execute("""UPDATE lessons SET numbers = '["4"]'""")
    records.forget()
    assert usage(records, program_signature(["train.py", "9"])).runs == (Run(4 * GIB, ("4",)),)
    assert similar(records, "train.py", "--size", "9") == NO_SIMILAR, "which program ran is unknown"


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
        similar_key(signature, program_by(signature, argv))
        for argv in (one, other)
        for signature in [program_signature(argv)]
    )
    assert (first == second) is alike


def test_jobs_of_the_same_type_are_similar_and_their_command_line_does_not_matter() -> None:
    assert program_by("train 1", PROGRAM) == ""
    assert similar_key("train 1", "") == similar_key("train 2", "") != similar_key("score 1", "")


def test_a_program_of_which_nothing_else_is_known_is_similar_to_itself_alone() -> None:
    first, second = program_signature(["a"]), program_signature(["b"])
    assert similar_key(first, "") == similar_key(first, "") != similar_key(second, "")


def test_what_similar_jobs_took_is_known_whatever_their_settings(records: UsageRecords) -> None:
    assert similar(records, *PROGRAM, "--new") == NO_SIMILAR
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


def test_what_similar_jobs_took_is_read_after_a_restart(
    records: UsageRecords, database: Connection
) -> None:
    learn_program(records, *PROGRAM, "--small", peak=3 * GIB)
    learn_program(records, *PROGRAM, "--large", peak=5 * GIB)
    assert similar(UsageRecords(database), *PROGRAM, "--new").peaks == (5 * GIB, 3 * GIB)


def test_only_the_newest_similar_jobs_count(records: UsageRecords) -> None:
    for number in range(SIMILAR + 2):
        learn_program(records, *PROGRAM, "--" + "x" * number, peak=GIB + number)
    peaks = similar(records, *PROGRAM, "--new").peaks
    assert peaks == tuple(GIB + number for number in range(SIMILAR + 1, 1, -1))


def test_similar_jobs_on_another_gpu_count_only_if_none_ran_on_this_one(
    records: UsageRecords,
) -> None:
    learn_program(records, *PROGRAM, "--a", peak=9 * GIB, sm=0.1, machine=H100)
    records.know([A10])
    assert similar(records, *PROGRAM, "--new") == Similar(peaks=(9 * GIB,), sm=0.1)
    learn_program(records, *PROGRAM, "--b", peak=4 * GIB, machine=UPGRADED)
    assert similar(records, *PROGRAM, "--new") == Similar(peaks=(4 * GIB,), sm=0.1)
    assert similar(records, *PROGRAM, "--new", machine=H100).peaks == (9 * GIB,)
    learn_program(records, *PROGRAM, "--c", sm=0.5, machine=A10)
    assert similar(records, *PROGRAM, "--new").sm == 0.5


def test_a_new_job_takes_as_long_as_similar_ones_else_as_its_type_else_as_all(
    records: UsageRecords,
) -> None:
    learn(records, "train 1", seconds=5)
    seconds = [records.usage(program_signature(PROGRAM), program_of(PROGRAM)).seconds]
    learn_program(records, "./other", seconds=10)
    seconds.append(records.usage(program_signature(PROGRAM), program_of(PROGRAM)).seconds)
    learn_program(records, *PROGRAM, "--a", seconds=20)
    seconds.append(records.usage(program_signature(PROGRAM), program_of(PROGRAM)).seconds)
    assert seconds == [(5.0,), (10.0,), (20.0,)]


def test_what_was_stopped_because_of_its_memory_counts_however_early_it_ended(
    records: UsageRecords,
) -> None:
    stopped = Stopped(at=9.0)
    learn_program(records, *PROGRAM, "--a", end=stopped, peak=3 * GIB)
    assert similar(records, *PROGRAM, "--new").peaks == ()
    learn_program(records, *PROGRAM, "--a", end=stopped, peak=3 * GIB, certain=True)
    assert similar(records, *PROGRAM, "--new").peaks == (3 * GIB,)


@pytest.mark.parametrize("signature", ["train 1", program_signature((*PROGRAM, "--a"))])
def test_what_was_stopped_because_of_its_memory_tells_similar_jobs_alone(
    records: UsageRecords, signature: str
) -> None:
    def known() -> tuple[Usage, tuple[int, ...]]:
        told = records.usage(signature, program_by(signature, PROGRAM))
        return told._replace(similar=NO_SIMILAR), told.similar.peaks

    learn(
        records, signature, argv=(*PROGRAM, "--a"), end=Stopped(at=9.0), peak=3 * GIB, certain=True
    )
    for _ in range(2):
        own, peaks = known()
        assert (own.peaks, own.runs, peaks) == ((), (), (3 * GIB,)), "it is less than it needs"
        records.forget()  # as after a restart
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
def test_what_does_not_say_that_it_was_stopped_early_tells_what_its_like_needs(
    records: UsageRecords, database: Connection, text: str
) -> None:
    for signature in ("train 1", program_signature(["train.py", "4"])):
        learn(records, signature, argv=("train.py", "4"))
    database.execute(f"UPDATE lessons SET numbers = {text}")
    records.forget()
    for signature in ("train 1", program_signature(["train.py", "4"])):
        assert usage(records, signature).peak == 4 * GIB


def test_a_lesson_that_was_rolled_back_is_forgotten_with_similar_jobs(
    records: UsageRecords, database: Connection
) -> None:
    learn_program(records, *PROGRAM, "--a")
    assert similar(records, *PROGRAM, "--new").peaks
    database.execute("DELETE FROM lessons")
    records.forget()
    assert similar(records, *PROGRAM, "--new") == NO_SIMILAR


# --- usage


def taken_by_similar(*gib: float) -> Usage:
    return Usage(similar=Similar(peaks=tuple(int(each * GIB) for each in gib)))


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
def test_a_claim_says_on_what_it_rests(
    asked: int | None, least: int, usage: Usage, claim: int | None, source: str
) -> None:
    assert vram_request_of(asked, least, usage) == (claim, source, claim is None)


@pytest.mark.parametrize(
    ("usage", "estimate", "source"),
    [
        (taken_by_similar(4), 1.3 * 4 + 0.25, "estimated from 1 similar job"),
        (taken_by_similar(2, 4), 1.3 * 4 + 0.25, "estimated from 2 similar jobs"),
        (taken_by_similar(2, 4, 3), 1.2 * 4 + 0.25, "estimated from 3 similar jobs"),
        (taken_by_similar(*[2] * 39, 40), 1.2 * 2 + 0.25, "estimated from 40 similar jobs"),
    ],
)
def test_a_job_that_was_never_measured_gets_a_little_more_than_similar_ones_took(
    usage: Usage, estimate: float, source: str
) -> None:
    request = vram_request_of(None, 0, usage)
    assert request.amount == pytest.approx(estimate * GIB, abs=2)
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
def test_what_similar_jobs_use_that_run_raises_an_estimate_and_never_lowers_it(
    ended: tuple[int, ...], live: tuple[int, ...], estimate: float
) -> None:
    similar = Similar(peaks=tuple(n * GIB for n in ended), live=tuple(n * GIB for n in live))
    request = vram_request_of(None, 0, Usage(similar=similar))
    assert request.amount == pytest.approx(estimate * GIB, abs=2)
    number = len(ended) + len(live)
    assert request.source == f"estimated from {number} similar job{'s' if number > 1 else ''}"


def test_similar_jobs_count_for_nothing_beside_what_is_declared_measured_or_lacked() -> None:
    usage = taken_by_similar(30)
    assert vram_request_of(4 * GIB, 0, usage) == (4 * GIB, "declared", False)
    assert vram_request_of(None, 5 * GIB, usage) == (5 * GIB, AFTER_SHORTAGE, False)
    learned = vram_request_of(None, 0, usage._replace(peaks=TEN.peaks))
    assert learned == (10 * GIB + MARGIN, "learned from 2 runs", False)


def test_numbers_that_were_never_tried_leave_a_program_with_what_similar_runs_took() -> None:
    usage = taken_by_similar(4)._replace(peaks=(4 * GIB,), runs=(Run(4 * GIB, ("4",)),))
    request = vram_request_of(None, 0, usage, exact=False, numbers=("900",))
    assert (request.estimated, request.source) == (True, "estimated from 1 similar job")


@pytest.mark.parametrize(
    ("used", "peaks", "estimate", "request_gib"),
    [
        (4, (), 10, 1.2 * 4 + 0.25),  # it follows the use down
        (20, (), 10, 1.2 * 20 + 0.25),  # and up
        (4, (12, 12, 12), 14, 12),  # but most similar jobs took more in the end
        (4, (12, 12, 12), 8, 8),  # of which no more is kept than was estimated
        (4, (12, 12, 12), None, 1.2 * 4 + 0.25),  # none was known when it started
        (4, (2, 2, 12), 14, 1.2 * 4 + 0.25),  # and here most did not
    ],
)
def test_the_estimate_of_a_running_job_follows_its_use_and_what_most_similar_jobs_took(
    used: int, peaks: tuple[int, ...], estimate: int | None, request_gib: float
) -> None:
    known = tuple(peak * GIB for peak in peaks)
    request = settled_request(used * GIB, known, None if estimate is None else estimate * GIB)
    assert request == pytest.approx(request_gib * GIB, abs=2)


@given(amounts, st.integers(0, 80 * GIB), st.lists(st.integers(0, 80 * GIB), max_size=4))
def test_a_claim_is_never_less_than_anything_that_is_known(
    asked: int | None, least: int, peaks: list[int]
) -> None:
    claim, source, estimated = vram_request_of(asked, least, Usage(peaks=tuple(peaks)))
    assert estimated == (claim is None)
    if claim is None:
        assert (asked, least, peaks, source) == (None, 0, [], "")
    else:
        assert claim >= max(asked or 0, least, *peaks)
        assert source


def test_what_a_program_asks_for_counts_more_than_what_its_like_took_with_other_numbers() -> None:
    usage = Usage(peaks=(11 * GIB,))
    assert vram_request_of(4 * GIB, 0, usage, exact=False)[:2] == (4 * GIB, "declared")
    claim, source, _ = vram_request_of(4 * GIB, 0, usage)
    assert claim is not None
    assert claim > 11 * GIB
    assert "measured" in source


# --- what ran where: by node, also on nodes whose pilots are long gone


HOUR = 3600.0
NOW = 1_795_262_400.0
PLACES = {"": ("local", "desk"), "launcher-1": ("slurm", "n1"), "launcher-2": ("slurm", "n1")}


def attempt(store: Store, pilot: str, outcome: Outcome, device: str = "cpu") -> None:
    job = one(store)
    seat = a_seat(boot=f"{PILOT}{pilot}", device=device, cpus=2) if pilot else a_seat()
    claim = store.scheduling.claim(job, seat, reason="fits", now=outcome.at - HOUR)
    assert claim is not None
    end(store, claim, outcome, now=outcome.at)


def past(store: Store) -> Past:
    return History(store.database, 0.0, NOW).past(PLACES)


def test_attempts_are_summed_up_by_the_node_that_their_pilots_were_on(store: Store) -> None:
    attempt(store, "launcher-1", Done(at=NOW), device="GPU-0,GPU-1")
    attempt(store, "launcher-2", Stopped(at=NOW, by="preempted"))
    attempt(store, "", Done(at=NOW))
    attempt(store, "launcher-9", Done(at=NOW))

    there = {(node.backend, node.node): node for node in past(store).nodes}

    assert there["slurm", "n1"] == NodeUse(
        node="n1", backend="slurm", attempts=2, done=1, gpu_seconds=2 * HOUR, core_seconds=4 * HOUR
    )
    assert there["local", "desk"].core_seconds == HOUR
    assert there["", ""].attempts == 1, "a pilot of which nothing is on record"


def test_one_machine_needs_no_section_of_nodes(store: Store) -> None:
    attempt(store, "", Done(at=NOW))
    shown = "\n".join(line.text for line in draw(past(store), 100))
    assert "NODE" not in shown
    assert "NODE" in "\n".join(line.text for line in draw(past(store), 100, ["node"]))
    assert [row[0] for row in columns(past(store))].count("node") == 0


def test_several_nodes_have_a_section(store: Store) -> None:
    attempt(store, "", Done(at=NOW))
    attempt(store, "launcher-1", Done(at=NOW))
    shown = "\n".join(line.text for line in draw(past(store), 100))
    assert "NODE" in shown
    assert "n1" in shown
    assert ("node", "n1", "slurm", "1", "1", "0.0", "7200.0") in columns(past(store))
    assert [row["node"] for row in record(past(store))["nodes"]] == ["n1", "desk"]  # type: ignore[index,call-overload,union-attr]


def test_nodes_with_most_work_come_first() -> None:
    uses = [
        Spent("test", 0, 0, attempts=1, gpu_s=0, core_s=HOUR, pilot=""),
        Spent("test", 0, 0, attempts=1, gpu_s=0, core_s=2 * HOUR, pilot="launcher-1"),
    ]
    assert [node.node for node in nodes_of(uses, PLACES)] == ["n1", "desk"]
