"""The worker's entry of the job type `function`: load the call, execute it, and store its result."""

import contextlib
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from launcher.experiments.functions.call_results import write_exception, write_value
from launcher.experiments.functions.calls import (
    call_of,
    find_file,
    plain_result,
    read_call,
    read_script,
)
from launcher.experiments.functions.main_module import installed_script
from launcher.experiments.functions.pickling import CannotLoad, name_of
from launcher.queue.home.paths import Attempt
from launcher.queue.workers.job_forks import exit_in_forks
from launcher.queue.workers.process_end import ends_here, interrupted_by_signals
from launcher.queue.workers.worker import print_traceback, write_failure, write_log_line
from launcher.queue.workers.worker_job import Job
from launcher.system.files import Json, write_when_possible


def call(job: Job) -> Mapping[str, Json]:
    """Execute the call of a job. Return the parts of its value that screens and tables can show.

    Raises:
        BaseException: the exception of the function. KeyboardInterrupt if the job was ordered to end.
    """
    attempt = Attempt(job.attempt_folder)
    try:
        made = find_file(call_of(job.settings), attempt)
        script = read_script(made)
        with installed_script(script, Path(made.file), stays=ends_here()):
            with exit_in_forks(), interrupted_by_signals(job.stop):
                _refuse_late_start(job)
                function, arguments, keywords = read_call(made, script.path)
                value = function(*arguments, **keywords)
            write_when_possible(  # computing the result may have taken days
                partial(write_value, attempt.folder, name_of(function), value),
                is_away=attempt.is_away,
                is_over=job.stop.is_set,
                warn=lambda why: write_log_line(
                    f"launcher: the function has returned and waits to write its value: {why}"
                ),
            )
    except BaseException as error:
        # the error's message does not contain the place of the failure
        if isinstance(error, CannotLoad):
            print_traceback(error.__cause__)
        if not job.stop.is_set():  # a job with a stop request is run again, or was cancelled
            with contextlib.suppress(OSError):  # a full disk must not hide the error itself
                write_failure(partial(write_exception, attempt.folder, error), attempt, job.stop)
        raise
    return _with_printed_numbers(plain_result(value), attempt)


def _with_printed_numbers(result: dict[str, Json], attempt: Attempt) -> Mapping[str, Json]:
    """Return the parts of a value; without a number among them also the numbers of the log, as of a program."""
    if any(
        isinstance(each, int | float) and not isinstance(each, bool) for each in result.values()
    ):
        return result
    # the readers of logs, which functions with numbers do not need
    from launcher.queue.workers.progress.attempt_progress import read_last_metrics

    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(
            OSError, ValueError
        ):  # the disk is full, or the function closed the stream
            stream.flush()
    return {**read_last_metrics(attempt), **result}


def _refuse_late_start(job: Job) -> None:
    if job.stop.is_set():  # the signal arrived before
        raise KeyboardInterrupt("the job was asked to end")
