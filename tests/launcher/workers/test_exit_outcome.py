"""How a program ended, from its exit status, its own word and its log: the exception that it tells of."""

from pathlib import Path

import pytest

from launcher.states import Failed, OutOfMemory, outcome_record, read_outcome
from launcher.system.files import write_json
from launcher.system.paths import Attempt
from launcher.workers.exit_outcome import Circumstances, judge

EXIT_1 = 1 << 8


@pytest.mark.parametrize(
    ("last", "exception"),
    [
        ("FileNotFoundError: [Errno 2] No such file", "FileNotFoundError: [Errno 2] No such file"),
        ("yaml.constructor.ConstructorError: no tag", "ConstructorError: no tag"),
        ("line 7: yaml.constructor.ConstructorError: no tag", "line 7: ConstructorError: no tag"),
        ("KeyError", "KeyError"),
        ("KeyErrors: 7", ""),
        ("all is well", ""),
        ("", ""),
    ],
)
def test_an_exception_in_a_programs_last_line_is_told_without_its_module(
    tmp_path: Path, last: str, exception: str
) -> None:
    attempt = Attempt(tmp_path)
    attempt.log.write_text(f"begun\n{last}\n" if last else "")
    outcome = judge(EXIT_1, attempt, Circumstances(), 5.0)
    assert isinstance(outcome, Failed)
    assert outcome.exception == exception
    assert outcome.error == f"ended with exit code 1: {last}" if last else "ended with exit code 1"
    assert read_outcome(outcome_record(outcome)) == outcome


def test_a_worker_that_lacked_memory_tells_its_exception_and_what_it_used(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path)
    error, shortage = "MemoryError: no room", {"where": "ram"}
    write_json(attempt.result, {"schema": 1, "ok": False, "error": error, "shortage": {**shortage}})
    outcome = judge(EXIT_1, attempt, Circumstances(max_rss=1 << 30), 5.0)
    assert isinstance(outcome, OutOfMemory)
    assert outcome.exception == outcome.error == "MemoryError: no room (used 1 GiB of main memory)"
    assert read_outcome(outcome_record(outcome)) == outcome


def test_a_program_that_reached_its_time_limit_has_that_on_record(tmp_path: Path) -> None:
    outcome = judge(EXIT_1, Attempt(tmp_path), Circumstances(over_limit_s=3.0), 5.0)
    assert isinstance(outcome, Failed)
    assert outcome.over_limit
    assert read_outcome(outcome_record(outcome)) == outcome
