"""What `launcher show` says a job is expected to take, and on what that rests."""

import pytest

from launcher.job import Resources, Terms, program_signature
from launcher.screens.job_details import expected_time, facts_of, record_of, result_cells
from launcher.states import Done
from launcher.store.connection import Connection
from launcher.store.queue import Store
from launcher.store.usage import NO_USAGE, Measured, Usage, UsageRecords
from launcher.system.paths import Home
from tests.build import GIB, a_claim, a_spec, enqueue, job_row

MIN = 60.0
RUNS = Usage(seconds=tuple(MIN * minutes for minutes in (90, 58, 72, 70, 95, 50, 58, 90)))


@pytest.mark.parametrize(
    ("usage", "limit", "said"),
    [
        (NO_USAGE, 7200.0, ""),
        (RUNS, None, "1 h 11 m (half of 8 runs took 58 m to 1 h 30 m)"),
        (
            RUNS,
            7200.0,
            "1 h 11 m (half of 8 runs took 58 m to 1 h 30 m; its time limit is 2 h)",
        ),
        (RUNS, MIN, "1 m (half of 8 runs took 58 m to 1 h 30 m; its time limit is 1 m)"),
        (Usage(seconds=(30.0,)), None, "30 s (1 run took 30 s)"),
        (Usage(seconds=(30.0, 50.0)), None, "40 s (2 runs took 30 s to 50 s)"),
        (
            Usage(seconds=(30.0,) * 5, own=False),
            None,
            "30 s (half of 5 runs of others, as nothing like it was done yet, took 30 s)",
        ),
    ],
)
def test_an_expected_duration_says_on_how_many_runs_it_rests(
    usage: Usage, limit: float | None, said: str
) -> None:
    assert expected_time(usage, Terms(time_limit_s=limit)) == said


def facts(home: Home, store: Store, job: int) -> dict[str, str]:
    row = job_row(store, job)
    return dict(facts_of(record_of(home, store, row, []), row))


def test_a_waiting_job_tells_what_it_will_be_promised_and_why(home: Home, store: Store) -> None:
    argv = ("train.py", "--gib=4")
    gpu, signature = Resources(device="cuda"), program_signature(argv)
    spec = a_spec(*argv, signature=signature, resources=gpu)
    other = a_spec("train.py", "--gib=7", name="command/2", signature=signature, resources=gpu)
    plain = a_spec(name="command/3")
    same_job, other_job, plain_job = enqueue(store, spec, other, plain)
    alone = "a GPU without other jobs (nothing like it was measured yet)"
    assert facts(home, store, same_job)["expected memory"] == alone
    records = UsageRecords(Connection(store.database, home.database))
    claim = a_claim(spec, device="GPU-0", claimed=0.0)
    records.record(claim, Done(at=60.0), Measured(peak=4 * GIB))
    same = facts(home, store, same_job)
    assert same["expected memory"] == "4.2 GiB on each GPU (learned from 1 run)"
    assert same["expected time"] == "1 m (1 run took 1 m)"
    untried = "a GPU without other jobs (no run with such numbers was measured yet)"
    assert facts(home, store, other_job)["expected memory"] == untried
    assert "expected memory" not in facts(home, store, plain_job)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1234567891, "0.123457"),
        (12, "12"),
        ([0.5, 1], "0.5 1"),
        ({"auc": 0.9}, '{"auc": 0.9}'),
        ("a\x1bb", "a\\x1bb"),
        (None, "None"),
    ],
)
def test_what_a_job_returned_is_told_alike_on_all_screens(value: object, text: str) -> None:
    assert result_cells({"result": {"name\t": value}}) == [("  name\\t", text)]
    assert result_cells({"result": None}) == []
