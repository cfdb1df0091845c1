"""Submissions on their way into the queue.

A submission is a pickle in the executor's folder, as submitit writes it. The job runs it in processes of its own, whose
output is in that folder and in the log of the job.
"""

import uuid
from collections.abc import Sequence
from pathlib import Path

from submitit.core.job_environment import JobEnvironment
from submitit.core.utils import DelayedSubmission, JobPaths

from launcher.experiments.functions.api import submit_many
from launcher.experiments.functions.calls import REMEDY
from launcher.experiments.functions.pickling import dump, name_of
from launcher.frontends.plugins.submitit.parameters import Options
from launcher.frontends.plugins.submitit.tasks import (
    SubmittedCall,
    TaskPaths,
    place_pickle,
    run_tasks,
)
from launcher.system.errors import UsageError
from launcher.system.units import format_bytes


def submit(
    submissions: Sequence[DelayedSubmission],
    options: Options,
    folder: Path,
    *,
    python: str,
    max_num_timeout: int,
    max_pickle_size_gb: float,
) -> list[int]:
    """Queue submissions, all of them or none; return the numbers of their jobs.

    Args:
        submissions: calls of functions.
        options: options of the jobs.
        folder: folder of pickles and output, with tags such as %j.
        python: interpreter of the jobs.
        max_num_timeout: how often a function with a checkpoint runs again.
        max_pickle_size_gb: the most that all pickles may have.

    Raises:
        UsageError: a function or an argument cannot be pickled, the pickles are too large, or no machine could ever
            run a job.
        MachineError: the queue cannot be used.
    """
    for delayed in submissions:
        delayed.set_timeout(options.timeout_min, max_num_timeout)
    pickles = _write_pickles(submissions, folder, max_pickle_size_gb)
    paths = TaskPaths(*(getattr(JobPaths(folder), name) for name in TaskPaths._fields))
    terms = options.request.terms
    jobs: dict[Path, int] = {}
    try:
        for runs_again in sorted({*map(_has_checkpoint, submissions)}):
            calls = [
                SubmittedCall(
                    folder=str(folder),
                    pickle=path,
                    paths=paths,
                    tasks=options.tasks,
                    python=python,
                    setup=options.setup,
                    joins_stderr=options.joins_stderr,
                    warn_signal=terms.warn_signal
                    if terms.warn_s
                    else f"SIG{JobEnvironment.USR_SIG}",
                    runs_failed_again=bool(terms.retries),
                )
                for path, delayed in zip(pickles, submissions, strict=True)
                if _has_checkpoint(delayed) is runs_again
            ]
            asked = {"name": name_of(submissions[0].function), **options.submit}
            if runs_again:
                if not terms.retries:  # only checkpoints are retried, at once
                    asked.setdefault("backoff", 0)
                asked["retries"] = terms.retries + max_num_timeout
            futures = submit_many(run_tasks, calls, **asked)
            jobs |= {call.pickle: each.job for call, each in zip(calls, futures, strict=True)}
    finally:
        for path in pickles:
            if path not in jobs:
                path.unlink(missing_ok=True)
    for path, number in jobs.items():
        place_pickle(path, paths.for_task(str(number), 0).submitted_pickle)
    return [jobs[path] for path in pickles]


def _write_pickles(
    submissions: Sequence[DelayedSubmission], folder: Path, max_size_gb: float
) -> list[Path]:
    """Write submissions into files; return them."""
    place = JobPaths.get_first_id_independent_folder(folder)
    place.mkdir(parents=True, exist_ok=True)
    paths = [place / f"{uuid.uuid4().hex}.pkl" for _ in submissions]
    try:
        for delayed, path in zip(submissions, paths, strict=True):
            _write_pickle(delayed, path)
            _check_size(paths[0], len(paths), max_size_gb)
    except BaseException:
        for path in paths:
            path.unlink(missing_ok=True)
        raise
    return paths


def _check_size(pickle: Path, pickle_count: int, max_size_gb: float) -> None:
    """Refuse pickles that are too large together; the first stands for all."""
    size = pickle.stat().st_size * pickle_count
    if size > max_size_gb * (1 << 30):
        raise UsageError(
            f"the pickles of the submission have about {format_bytes(size)}, more than "
            f"max_pickle_size_gb={max_size_gb:g}. Pass paths of files instead, or raise "
            "executor.max_pickle_size_gb."
        )


def _has_checkpoint(submission: DelayedSubmission) -> bool:
    names = ("checkpoint", "__submitit_checkpoint__")
    return any(hasattr(submission.function, name) for name in names)


def _write_pickle(submission: DelayedSubmission, path: Path) -> None:
    parts = [
        ("function", submission.function),
        *((f"argument {n}", value) for n, value in enumerate(submission.args, 1)),
        *submission.kwargs.items(),
    ]
    with path.open("wb") as file:
        dump(submission, file, f"a call of {name_of(submission.function)}", REMEDY, parts)
