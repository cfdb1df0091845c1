"""`search`, as `launcher.api` offers it: values of a program are chosen by its results."""

import os
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Unpack

from launcher.experiments.functions.options import JobOptions, check_request, read_request
from launcher.experiments.functions.program_start import read_variables
from launcher.experiments.functions.programs import SubmitRequest, check_name
from launcher.experiments.functions.shared_files import IN_PYTHON
from launcher.experiments.search.submission import (
    commit_search,
    program_search,
    search_warnings,
    with_request,
)
from launcher.experiments.search.words import TPE, SearchWords
from launcher.experiments.taskfile.domains import choice_of, text_of, value_of
from launcher.experiments.taskfile.foreign_values import OwnSpelling, own_spelling, repr_of
from launcher.queue.backends.eligibility import with_default_backends
from launcher.queue.backends.settings import read_configured_backends
from launcher.queue.home.daemon_control import wake
from launcher.queue.jobs.job import PROGRAM, PROGRAM_RUN, Spec, run_name_fault
from launcher.queue.store.client import (
    context_to_store,
    ensure_scheduler_alive,
    ensure_scheduler_with_note,
    note_if_stopped,
    open_queue,
    queue_stopped_error,
)
from launcher.queue.store.searches import CANCELLED, SearchRow, end_text
from launcher.system.errors import UsageError
from launcher.system.terminal import print_stderr
from launcher.system.text import sanitize_terminal

_DIRECTIONS = ("direction", "directions", "mode", "goal", "maximize", "minimize")
_ELSEWHERE: Mapping[str, str] = {  # options of other programs
    **dict.fromkeys(("n_trials", "num_samples", "max_trials", "count", "n_iter"), "trials=60"),
    **dict.fromkeys(("n_jobs", "max_concurrent", "max_concurrent_trials"), "parallel=4"),
    **dict.fromkeys(
        ("space", "search_space", "config", "params"), "sweep={'lr': '1e-5..1e-1:log'}"
    ),
    **dict.fromkeys(("random_state", "search_seed"), "seed=1"),
    "scheduler": "pruner='median'",
    "seeds": "repeat='seed=1..3'",
    "study_name": "run='tune'",
}
POLL_S = 0.1  # seconds between two looks at the queue


class Search(NamedTuple):
    """A search in the queue."""

    number: int
    run: str
    name: str  # name of the search's jobs without values

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the search has ended. Return whether it has, and print why if it failed.

        Args:
            timeout: Seconds; None: as long as it takes.

        Raises:
            MachineError: the queue is stopped.
        """
        end = None if timeout is None else time.monotonic() + timeout
        with open_queue() as (home, store):
            while (row := store.searches.read(self.number)) is not None and row.is_open:
                if end is not None and time.monotonic() > end:
                    return False
                if not ensure_scheduler_alive(home, store):
                    raise queue_stopped_error()
                time.sleep(POLL_S)
        if row is not None and row.failed:
            print_stderr(end_text(row))
        return True

    def trials(self) -> list[dict[str, Any]]:
        """Return the jobs of all trials: number, job, state and values."""
        with open_queue() as (_, store):
            rows = store.searches.trials(self.number)
        return [
            {"trial": row.number, "job": row.job, "state": str(row.state), **row.values}
            for row in rows
        ]

    def best(self) -> list[dict[str, Any]]:
        """Return the best trial with its parameters; of several metrics those of which none is better in each.

        If the search failed without one, print why.
        """
        row = self._row()
        best = row.progress.get("best")
        if row.failed and not best:
            print_stderr(end_text(row))
        found = [each for each in best if isinstance(each, dict)] if isinstance(best, list) else []
        with open_queue() as (_, store):
            rows = store.searches.trials(self.number)
        params = {str(row.job): dict(row.values) for row in rows}
        return [{**each, "params": params.get(str(each["job"]), {})} for each in found]

    def reason(self) -> str:
        """Return why the search ended."""
        return self._row().reason

    def cancel(self) -> None:
        """End the search, and cancel its jobs."""
        with open_queue() as (home, store):
            store.searches.end(self.number, CANCELLED, has_failed=False)
            store.job_control.cancel(store.searches.open_jobs([self.number]), time.time())
            wake(home)

    def _row(self) -> SearchRow:
        with open_queue() as (_, store):
            row = store.searches.read(self.number)
        if row is None:
            raise UsageError(f"the search of run {self.run!r} was deleted by launcher clean")
        return row


def search(
    words: Sequence[str | Path],
    metric: str,
    *,
    trials: int,
    sweep: Mapping[str, str | Iterable[Any]],
    sweep_flag: Sequence[str] = (),
    parallel: int | None = None,
    sampler: str = TPE,
    pruner: str | None = None,
    repeat: str | Mapping[str, str | Iterable[Any]] | None = None,
    seed: int = 0,
    name: str | None = None,
    run: str = PROGRAM_RUN,
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    **options: Unpack[JobOptions],
) -> Search:
    """Search for the values of a program with the best results, as `launcher add --search` does.

    Args:
        words: Program and arguments with `{sweep}` or names in braces.
        metric: Reported number, such as "acc", "loss:min" or "acc:max,loss:min". A name that does not say which
            values are better needs `:min` or `:max`.
        trials: Number of settings to try.
        sweep: Name → range such as "1e-5..1e-1:log", or a list of values.
        sweep_flag: Names of flags.
        parallel: Jobs at once; None: as many as fit.
        sampler: tpe, random, grid or cmaes.
        pruner: median, hyperband or none; None: median for one metric.
        repeat: Parameter with several values per setting, such as "seed=1..3" or {"seed": [1, 2, 3]}.
        seed: Seed of the sampler.
        name: Name of the jobs.
        run: Their run.
        cwd: Folder in which the program starts.
        env: Its variables.
        options: Options of the jobs, such as gpus=1.

    Raises:
        UsageError: an option is wrong, `words` is a function, or Optuna is not installed.
        TaskFileError: the braces do not fit.
        MachineError: the queue cannot be used.
    """
    if fault := run_name_fault(run):
        raise UsageError(f"run: {run!r} {fault}")
    _check_call(words, metric, options)
    typed = [f"{name}={_read_values(name, values)}" for name, values in sweep.items()]
    settings: dict[str, Any] = {} if cwd is None else {"cwd": os.fspath(cwd)}
    if env:
        settings["env"] = read_variables([f"{key}={text}" for key, text in env.items()])
    request, backends = read_request(dict(options)), read_configured_backends(os.environ)
    request = request._replace(terms=with_default_backends(request.terms, backends))
    sought = program_search(
        SearchWords(
            metric, trials, parallel, sampler, pruner, _read_repeat(repeat), seed, "metric='{}'"
        ),
        typed,
        sweep_flag,
        check_name(name),
        tuple(os.fspath(word) for word in words),
        settings,
        request.terms,
    )
    context = context_to_store()
    with open_queue(make=True) as (home, store):
        check_request(home, store, request, backends)
        spec = Spec(
            name="",
            kind=PROGRAM,
            role="plain",
            run=run,
            root=str(home.folder) if run == PROGRAM_RUN else context.folder,
            resources=request.resources,
            terms=request.terms,
            priority=request.priority,
        )
        sought = with_request(sought, store, SubmitRequest(spec, context))
        row, _ = commit_search(store, context, sought)
        wake(home)
    if not note_if_stopped(home):
        ensure_scheduler_with_note(home)
    for warning in search_warnings(sought.definition, context.folder, IN_PYTHON):
        print_stderr(warning)
    return Search(row.id, row.run, row.name)


def _check_call(words: object, metric: str, options: Mapping[str, Any]) -> None:
    """Refuse a function, a command line in one text, and options of other programs.

    Raises:
        UsageError: there is one.
    """
    example = "['python', 'train.py', '{sweep}']"
    if isinstance(words, str | Path):
        listed = shlex.split(str(words))
        raise UsageError(f"words: expected a list of words. Write {listed or example}.")
    if callable(words):
        name = getattr(words, "__name__", "it")
        raise UsageError(
            f"words: search() starts a program, and got the function {name!r}. Save a script that reads its "
            f"values from its arguments, and write {example}."
        )
    for name, value in options.items():
        if name in _DIRECTIONS:
            word = "min" if "min" in str(value).lower() else "max"
            raise UsageError(
                f"{name}={value!r}: the direction belongs to the metric. Write '{metric}:{word}'."
            )
        if name in _ELSEWHERE:
            raise UsageError(f"{name}: unknown option. Write {_ELSEWHERE[name]}.")


def _read_repeat(repeat: object) -> str | None:
    """Return the repeated parameter as it is typed on a command line.

    Raises:
        UsageError: it has another form.
    """
    match repeat:
        case None | str():
            return repeat
        case Mapping() if len(repeat) == 1:
            ((name, values),) = repeat.items()
            return f"{name}={_read_values(str(name), values, 'repeat')}"
    raise UsageError(
        f"repeat={repeat!r}: expected one name with its values. Write repeat='seed=1..3' or repeat={{'seed': [1, 2, 3]}}."
    )


def _read_values(name: str, values: object, option: str = "sweep") -> str:
    """Return the values of a name as they are typed on a command line.

    Raises:
        UsageError: they are written as in another program.
    """
    if isinstance(values, str):
        return values
    own = None
    if isinstance(values, tuple | Mapping) or not isinstance(values, Iterable):
        own = own_spelling(repr_of(values))
        if not isinstance(values, tuple) or (own is not None and not own.is_list):
            raise UsageError(f"{option}: {name}: {_values_advice(values, own)}")
    assert isinstance(values, Iterable)
    texts = [text_of(value) for value in values]
    choice_of(name, [value_of(text) for text in texts])
    return ",".join(texts)


def _values_advice(values: object, spelling: OwnSpelling | None) -> str:
    """Return what is wrong with the values of a name, and what to write."""
    what = f"{sanitize_terminal(repr(values)[:80])} is not a range or a list here."
    if spelling is None or not spelling.text:
        return f"{what} Write a range such as '1e-5..1e-1:log', '0.0..0.5' or '2..6', or a list."
    if spelling.is_list:
        return f"{what} Write {spelling.text.split(',')}."
    also = (
        f" for a range, or [{spelling.other.replace(',', ', ')}] for these values"
        if spelling.other
        else ""
    )
    return f"{what} Write '{spelling.text}'{also}."
