"""Questions to programs and libraries that may hang, each with a time limit."""

import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from launcher.units import format_seconds

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
    answers: dict[str, QuestionResult] = {}

    def run_question(name: str) -> None:
        answers[name] = questions[name]()

    # daemon threads, which do not delay the exit: a question may never return
    threads = [
        threading.Thread(target=run_question, args=(name,), daemon=True) for name in questions
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + timeout_s
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return answers.copy()
