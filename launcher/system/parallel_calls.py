"""Questions to programs and libraries that may hang, each with a time limit."""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from launcher.system.background_query import BackgroundQuery
from launcher.system.units import format_seconds

QuestionResult = TypeVar("QuestionResult")


def read_program_output(argv: Sequence[str], timeout_s: float) -> str:
    """Return a program's output within a time limit; its error output if it prints nothing else."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {format_seconds(timeout_s)}"
    except OSError as error:
        return error.strerror or str(error)
    return done.stdout or done.stderr


def run_questions_with_timeout(
    questions: Mapping[str, Callable[[], QuestionResult]], timeout_s: float
) -> Mapping[str, QuestionResult]:
    """Return the results of functions that run in parallel, by name; one that hangs is abandoned after a time."""
    queries = {name: BackgroundQuery[QuestionResult](name, expected_error=()) for name in questions}
    for name, query in queries.items():
        query.begin(questions[name])
    end = time.monotonic() + timeout_s
    for query in queries.values():
        query.join(max(0.0, end - time.monotonic()))
    return {name: query.answer for name, query in queries.items() if query.answer is not None}
