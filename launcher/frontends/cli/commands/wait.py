"""`launcher wait`: come back when jobs have ended, or run."""

import click

from launcher.frontends.cli.await_jobs import (
    FAILED_STATES,
    WaitGoal,
    print_failed_searches,
    print_paused_groups,
    print_paused_searches,
    wait_until,
)
from launcher.frontends.cli.job_selection import (
    failed_searches,
    optional_patterns,
    pattern_command,
    select_with_searches,
)
from launcher.frontends.cli.option_types import flag, span
from launcher.frontends.screens.command_output import print_json
from launcher.frontends.screens.job_records import job_records
from launcher.queue.jobs.states import State, strip_state_prefix
from launcher.queue.store.client import open_queue, without_own_job
from launcher.queue.store.feed import JobTracker
from launcher.queue.texts import failure_hold_texts
from launcher.system.errors import UsageError
from launcher.system.terminal import print_stderr
from launcher.system.text_table import tab_separated


@pattern_command(
    heading="Watch",
    place=60,
    summary="Wait until jobs end or run; the exit code says how.",
    offered_states=(State.RUNNING, State.QUEUED, State.HELD),
    other_names={"JOB": "-w"},
)
@optional_patterns
@click.option(
    "--for",
    "goal",
    type=click.Choice([*map(str, WaitGoal)]),
    default=str(WaitGoal.ENDED),
    show_default=True,
    help="Wait until jobs have ended, or until they run or have ended.",
)
@flag("--first-failure", help="Also come back when the first job fails, is cancelled or skipped.")
@click.option("--timeout", type=span(), help="Exit with 3 if it takes longer.")
@flag("--json", "as_json", help="Print all jobs as one JSON object (schema 1).")
def command(
    patterns: tuple[str, ...],
    goal: str,
    first_failure: bool,
    timeout: float | None,
    as_json: bool,
) -> int:
    """Wait until jobs end or run.

    Without PATTERN, all queued and running jobs. The exit code is 1 if a job failed or was cancelled or
    skipped, otherwise 0; these jobs are printed. Jobs that are held because others failed are not waited for
    and count as failed. PATTERN selects the newest job of each name. A run with a search ends with the search.
    If the search failed, its reason is printed and the exit code is 1.
    A job that runs this command does not wait for itself.

    \b
    Examples:
      launcher wait
      launcher wait run:quickstart --timeout 1h
      launcher wait run:quickstart --first-failure
      launcher wait 12 --for running
    """
    with open_queue() as (home, store):
        last = store.read.last_event()
        if patterns:
            jobs, searches = select_with_searches(store, patterns)
        else:
            jobs, searches = (
                [*store.read.open_jobs()],
                [each for each in store.searches.all() if each.is_open],
            )
        others = set(without_own_job(home, [job.id for job in jobs]))
        jobs = [job for job in jobs if job.id in others]
        if first_failure and not (jobs or searches):
            raise UsageError(
                "--first-failure: no job waits or runs, so none can fail. Name the jobs, such as "
                "launcher wait run:NAME --first-failure"
            )
        print_paused_groups(store, jobs)
        print_paused_searches(searches)
        numbers = [each.id for each in searches]
        ended_before = [each.id for each in failed_searches(store, patterns)]
        followed = JobTracker(
            home, store, jobs, first_event=last, is_scheduler_alive=False, searches=numbers
        )
        wait_until(followed, WaitGoal(goal), first_failure=first_failure, timeout_s=timeout)
        ended = [*followed.rows.values()]
        records = job_records(home, store, ended) if as_json else []
        failed = print_failed_searches(store, dict.fromkeys([*ended_before, *numbers]))
    missed = [job for job in ended if job.state in FAILED_STATES or job.is_held_by_failures]
    for text in failure_hold_texts(ended):
        print_stderr(f"note: {text}")
    if as_json:
        print_json({"jobs": records})
    else:
        rows = [(job.id, job.name, job.state, strip_state_prefix(job.reason)) for job in missed]
        click.echo(tab_separated(rows), nl=False)
    return 1 if missed or failed else 0
