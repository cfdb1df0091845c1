"""`launcher wait`: come back when jobs have ended."""

import time

import click

from launcher.cli.selection import HELP, select
from launcher.cli.session import keep_going, open_queue, stopped
from launcher.errors import MachineError
from launcher.states import OPEN, State
from launcher.store.store import Store
from launcher.views import harmless

LOOK_EVERY_S = 0.05
CHECK_EVERY_S = 5.0  # a scheduler that died for good must not be waited for


@click.command(epilog=f"PATTERN: {HELP}")
@click.argument("patterns", nargs=-1, metavar="[PATTERN]…")
@click.option("--timeout", type=float, help="Give up after this many seconds, with exit code 3.")
def command(patterns: tuple[str, ...], timeout: float | None) -> int:
    """Wait until the jobs have ended; all open ones when none is named.

    Exit code 0 when all are done, 1 when one failed, was cancelled or skipped.

    \b
    Examples:
      launcher wait
      launcher wait run:quickstart --timeout 3600
    """
    with open_queue() as (home, store):
        chosen = select(store, patterns) if patterns else store.read.jobs_open()
        waited = {job.id for job in chosen}
        deadline = None if timeout is None else time.monotonic() + timeout
        checked = seen = 0.0
        while True:
            version = store.read.data_version()
            if version != seen and not _still_open(store, waited):
                break
            seen = version
            now = time.monotonic()
            if deadline is not None and now > deadline:
                raise MachineError(f"still not ended after {timeout:g} s; the jobs go on")
            if now - checked > CHECK_EVERY_S:
                checked = now
                if not keep_going(home) and _still_open(store, waited):
                    raise stopped()
            time.sleep(LOOK_EVERY_S)
        ended = [job for job in store.read.jobs_by_id(waited) if job.state is not State.DONE]
    for job in ended:
        click.echo(f"{job.id}\t{harmless(job.name)}\t{job.state}\t{harmless(job.reason)}")
    return 1 if ended else 0


def _still_open(store: Store, waited: set[int]) -> bool:
    return any(job.state in OPEN for job in store.read.jobs_by_id(waited))
