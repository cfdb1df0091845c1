"""`launcher logs`: what a job wrote."""

import codecs
import time
from pathlib import Path

import click

from launcher.cli.selection import HELP, only_job
from launcher.cli.session import open_queue
from launcher.errors import UsageError
from launcher.states import State
from launcher.store.store import Store
from launcher.views import harmless

CHUNK_BYTES = 1 << 16
FOLLOW_EVERY_S = 0.1


@click.command(epilog=f"JOB: {HELP}")
@click.argument("job")
@click.option("-n", "--lines", type=click.IntRange(min=1), help="Only the last lines.")
@click.option("-f", "--follow", is_flag=True, help="Go on as the job writes, until it ends.")
@click.option("--attempt", type=click.IntRange(min=1), help="An earlier attempt than the newest.")
def command(job: str, lines: int | None, follow: bool, attempt: int | None) -> None:
    """Print the standard output and error of JOB's newest attempt.

    \b
    Examples:
      launcher logs 12 -f
      launcher logs train/gan2:pre -n 20 --attempt 1
    """
    with open_queue() as (home, store):
        row = only_job(store, job)
        number = attempt or row.attempts
        if row.attempts == 0:
            raise UsageError(f"{row.name} has not run yet: {row.reason}")
        if number > row.attempts:
            raise UsageError(f"{row.name} has {row.attempts} attempts, not {number}")
        log = home.attempt(row.id, number).log
        _print(log, lines, (store, row.id, number) if follow else None)


def _print(log: Path, lines: int | None, follow: tuple[Store, int, int] | None) -> None:
    while not log.exists() and follow is not None and _goes_on(*follow):
        time.sleep(FOLLOW_EVERY_S)
    try:
        file = log.open("rb")
    except FileNotFoundError:
        raise UsageError(f"there is no log at {log}; its attempt was never started") from None
    # a character may be cut in two where one reading ends
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    with file:
        if lines is not None:
            file.seek(_tail_offset(log, lines))
        goes_on = True
        while goes_on:
            goes_on = follow is not None and _goes_on(*follow)
            while chunk := file.read(CHUNK_BYTES):
                _say(decoder.decode(chunk))
            if goes_on:
                time.sleep(FOLLOW_EVERY_S)


def _goes_on(store: Store, job: int, number: int) -> bool:
    (row,) = store.read.jobs_by_id({job})
    return row.state is State.RUNNING and row.attempts == number


def _say(text: str) -> None:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    click.echo("\n".join("\t".join(map(harmless, line.split("\t"))) for line in lines), nl=False)


def _tail_offset(log: Path, lines: int) -> int:
    """Return where the last `lines` lines begin, reading backwards in blocks."""
    with log.open("rb") as file:
        position = end = file.seek(0, 2)
        found = 0
        while position > 0:
            size = min(CHUNK_BYTES, position)
            position -= size
            file.seek(position)
            block = file.read(size)
            for offset in range(size - 1, -1, -1):
                if block[offset] == 0x0A and position + offset != end - 1:
                    found += 1
                    if found == lines:
                        return position + offset + 1
    return 0
