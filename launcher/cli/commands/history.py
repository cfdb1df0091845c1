"""`launcher history`: what the queue did, what that took, and why some of it failed."""

import os
import time
from datetime import datetime
from textwrap import wrap

import click

from launcher.backends.pilots_file import past_pilots
from launcher.cli.jobs import of_jobs, select, some
from launcher.cli.option_types import json_option
from launcher.cli.output import Answer, tell
from launcher.errors import UsageError
from launcher.screens.format import iso, moment
from launcher.screens.history_view import SECTIONS, columns, draw, headline, record
from launcher.screens.pilots import HERE
from launcher.screens.text_table import Line, Tone, line
from launcher.store.client import open_queue
from launcher.store.history import History, Past
from launcher.system.paths import Home, find_home
from launcher.units import parse_seconds

NOTHING = "nothing has ended or run yet"


@of_jobs()
@some
@click.option(
    "--since",
    metavar="WHEN",
    help="Count only jobs since then: 7d, 12h, or a day such as 2026-11-01.",
)
@click.option(
    "--by",
    "sections",
    type=click.Choice(SECTIONS),
    multiple=True,
    help="Print only this section, in full; repeatable.",
)
@json_option
def command(
    patterns: tuple[str, ...], since: str | None, sections: tuple[str, ...], as_json: bool
) -> None:
    """Summarize past jobs: all, or those that match PATTERN.

    By day and by run: jobs by outcome, GPU-hours and core-hours. By cause: attempts that were not
    done. By memory: VRAM requested and used, and what to request next time. By node, where there are
    several: what ran there. In a pipe, one line each, separated by tabs, in seconds and bytes:

    \b
    day     date done failed cancelled skipped gpu-seconds core-seconds median
    run     name jobs done failed attempts gpu-seconds core-seconds
    cause   cause detail attempts seconds newest-job
    memory  name newest-job attempts declared asked peak beyond wasted ask
    node    name backend attempts done gpu-seconds core-seconds

    `beyond` counts attempts that used more than their reservation; `wasted` is in GiB-hours.

    \b
    Examples:
      launcher history
      launcher history --since 7d --by cause
      launcher history run:quickstart --json
    """
    now = time.time()
    begin = 0.0 if since is None else begin_of(since, now)
    home = find_home(os.environ)
    if home.exists():
        with open_queue() as (_, store):
            jobs = {job.id for job in select(store, patterns)} if patterns else None
            with store.reading():
                past = History(store.database, begin, now, jobs).past(places_by_token(home))
    elif patterns:
        with open_queue():  # which says that there is no queue
            return
    else:
        past = Past()
    beginning = f" since {moment(begin)}" if since else ""

    def drawn(width: int) -> list[Line]:
        head = [line(text, Tone.STRONG) for text in wrap(headline(past) + beginning, width)]
        return [*head, line(""), *draw(past, width, sections)]

    if past.days or as_json:
        answer = Answer(
            record=lambda: {"since": iso(begin) if since else None, **record(past, sections)},
            tabs=lambda: columns(past, sections),
            drawn=drawn,
        )
        tell(answer, as_json=as_json)
    else:
        click.echo(f"{NOTHING}{beginning}", err=True)


def places_by_token(home: Home) -> dict[str, tuple[str, str]]:
    """Return backend and node of each pilot, and of this machine by ''."""
    places = {token: (past.backend, past.node) for token, past in past_pilots(home).items()}
    return places | {"": (HERE, os.uname().nodename)}


def begin_of(text: str, now: float) -> float:
    """Return the time that a person means: so long ago, or a local day or moment.

    Raises:
        UsageError: it is neither, or still to come.
    """
    try:
        at = datetime.fromisoformat(text.strip()).astimezone().timestamp()
    except (ValueError, OverflowError):
        try:
            at = now - parse_seconds(text)
        except UsageError as error:
            raise UsageError(
                f"--since takes a time such as 7d or 12h, or a day such as 2026-11-01, not {text!r}"
            ) from error
    if at > now:
        raise UsageError(
            f"--since {text} is still to come; give an earlier day, or a span such as 7d"
        )
    return max(at, 0.0)
