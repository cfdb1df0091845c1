"""A sweep of Hydra as jobs of the queue: queue them, wait for them, and give their results to the sweeper."""

import logging
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.errors import CompactHydraException

from launcher.experiments.functions.calls import CallLabel, function_identity, plain_value
from launcher.experiments.functions.executor import Executor
from launcher.experiments.functions.future import Future, cancel_jobs, continue_note
from launcher.frontends.plugins.hydra.options import CANCEL, SweepOptions, read_options
from launcher.frontends.plugins.hydra.task import App, TaskResult
from launcher.queue.jobs.job import CALLS_BATCH
from launcher.system.errors import Error, pluralize
from launcher.system.files import Json
from launcher.system.terminal import print_stderr

LOG = logging.getLogger(__name__)
INTERRUPTED = 130  # exit code of a program that Ctrl-C ended


def launch(
    app: App, options: Mapping[str, Any], job_overrides: Sequence[Sequence[str]], first: int
) -> list[JobReturn]:
    """Run a batch of a sweep; return what its jobs returned, in order.

    Args:
        app: The app.
        options: Those of `hydra.launcher`.
        job_overrides: Overrides of each job.
        first: Number of the first job in the sweep.

    Raises:
        CompactHydraException: an option is wrong, the app cannot be pickled, or the queue cannot be used.
        SystemExit: the sweep was interrupted.
    """
    setup_globals()
    configure_log(app.config.hydra.hydra_logging, app.config.hydra.verbose)
    Path(str(app.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
    try:
        sweep = read_options(options)
        futures = _queue(app, sweep, job_overrides, first)
        returned = _wait(futures, job_overrides, sweep)
    except Error as error:
        raise CompactHydraException(f"error: {error}") from error
    configure_log(app.config.hydra.hydra_logging, app.config.hydra.verbose)
    return returned


def _queue(
    app: App, sweep: SweepOptions, job_overrides: Sequence[Sequence[str]], first: int
) -> list[Future[Any]]:
    """Queue a job for each list of overrides."""
    name = sweep.name or app.__name__
    labels = [_label(app, name, overrides) for overrides in job_overrides]
    calls = [(tuple(overrides), index) for index, overrides in enumerate(job_overrides, first)]
    executor = Executor(sweep.max_workers, **sweep.jobs)
    try:
        futures = executor.queue(
            app,
            calls,
            {},
            batch=CALLS_BATCH,
            name=name,
            labels=labels,
        )
    finally:
        executor.shutdown(wait=False)
    LOG.info("Launching %s in the queue", pluralize(len(futures), "job"))
    for (_, index), label, future in zip(calls, labels, futures, strict=True):
        shown = " ".join(f"{key}={value}" for key, value in label.params.items())
        LOG.info("\t#%s : %s : job %s", index, shown, future.job)
    return futures


def _label(app: App, name: str, overrides: Sequence[str]) -> CallLabel:
    """Return what users see of a job: its overrides. Jobs of one app with equal overrides are equal."""
    params: dict[str, Json] = {}
    for override in OverridesParser.create().parse_overrides([*overrides]):
        key = override.key_or_group
        if override.is_delete() or key.startswith(("hydra.", "hydra/")):
            continue
        value = plain_value(override.value())
        params[key] = override.get_value_string() if value is None else value
    function = function_identity(app.task, getattr(sys.modules["__main__"], "__file__", None))
    identity = f"{function} {app.config.hydra.job.config_name} {sorted(params.items())}"
    return CallLabel(name, params, identity if function else "")


def _wait(
    futures: Sequence[Future[Any]], job_overrides: Sequence[Sequence[str]], sweep: SweepOptions
) -> list[JobReturn]:
    try:
        return [
            _job_return(future, overrides)
            for future, overrides in zip(futures, job_overrides, strict=True)
        ]
    except KeyboardInterrupt:
        _interrupt(futures, sweep)
        raise SystemExit(INTERRUPTED) from None


def _job_return(future: Future[Any], overrides: Sequence[str]) -> JobReturn:
    """Wait for a job; return what it returned, or its failure, which the sweeper raises."""
    try:
        error = future.exception()
    except CancelledError as cancelled:
        error = cancelled
    if error is None:
        result: TaskResult = future.result()
        return result.job_return
    failed = JobReturn(overrides=[*overrides], status=JobStatus.FAILED)
    failed.return_value = error
    return failed


def _interrupt(futures: Sequence[Future[Any]], sweep: SweepOptions) -> None:
    """Cancel the jobs that have not ended, or print how to cancel them."""
    left = [future for future in futures if not future.done()]
    if not left:
        return
    if sweep.on_interrupt == CANCEL:
        cancel_jobs(left, cancel_running=True)
        print_stderr(f"note: cancelled {pluralize(len(left), 'job')}")
        return
    print_stderr(continue_note(left))
