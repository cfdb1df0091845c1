"""`launcher wait`: come back when jobs have ended."""

import click

from launcher.cli.await_jobs import wait_until_ended
from launcher.cli.jobs import optional_patterns, pattern_command, select
from launcher.cli.option_types import flag, span
from launcher.screens.command_output import print_json
from launcher.screens.job_records import job_records
from launcher.screens.text_table import tab_separated
from launcher.states import State, strip_state_prefix
from launcher.store.client import open_queue, without_own_job
from launcher.store.feed import JobTracker


@pattern_command()
@optional_patterns
@click.option(
    "--timeout", type=span(bare=True), help="Exit with 3 if a job has not ended after this time."
)
@flag("--json", "as_json", help="Print all jobs as one JSON object (schema 1).")
def command(patterns: tuple[str, ...], timeout: float | None, as_json: bool) -> int:
    """Wait until jobs end.

    Without PATTERN, all queued and running jobs. The exit code is 0 if all jobs are done, and 1 if a job
    failed or was cancelled or skipped; these jobs are printed. PATTERN selects the newest job of each name.
    A job that runs this command does not wait for itself.

    \b
    Examples:
      launcher wait
      launcher wait run:quickstart --timeout 1h
    """
    with open_queue() as (home, store):
        last = store.read.last_event()
        jobs = select(store, patterns, newest=True) if patterns else store.read.open_jobs()
        others = set(without_own_job(home, [job.id for job in jobs]))
        jobs = [job for job in jobs if job.id in others]
        followed = JobTracker(home, store, jobs, since=last, is_scheduler_alive=False)
        wait_until_ended(followed, timeout)
        ended = [*followed.rows.values()]
        records = job_records(home, store, ended) if as_json else []
    missed = [job for job in ended if job.state is not State.DONE]
    if as_json:
        print_json({"jobs": records})
    else:
        rows = [(job.id, job.name, job.state, strip_state_prefix(job.reason)) for job in missed]
        click.echo(tab_separated(rows), nl=False)
    return 1 if missed else 0
