"""`launcher notify`: the targets of messages, what waits to be sent, and a test message to every target."""

import json
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import click

from launcher.errors import MachineError, UsageError, counted
from launcher.notify.messages import of_test
from launcher.notify.notices import Notices, read_notices
from launcher.notify.sending import Answer, send_now
from launcher.notify.settings import NotifySettings, Target, configured_notify, shown
from launcher.screens.format import clock, columns, harmless, tabbed
from launcher.system.files import Json
from launcher.system.paths import Home, find_home
from launcher.system.processes import lock_holder

NOBODY = "no message is sent: config.toml has no table [notify]; see docs/notify.md"


@click.command()
@click.option("--test", is_flag=True, help="Send a test message to every target, at once.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schema 1).")
def command(test: bool, as_json: bool) -> int:
    """Show the targets of messages, and which messages wait to be sent.

    The targets stand in [notify] of config.toml. With --test each of them gets a message;
    the exit code is 3 where one did not. In a pipe: what it is (target, waiting, given up), its
    target, and more, separated by tabs.

    \b
    Examples:
      launcher notify
      launcher notify --test
    """
    settings = configured_notify(os.environ)
    if test:
        return _test(settings, as_json=as_json)
    home = find_home(os.environ)
    notices = read_notices(home)
    if as_json:
        click.echo(json.dumps(_record(home, settings, notices)))
    elif not sys.stdout.isatty():
        for row in _rows(settings, notices):
            click.echo(tabbed([row]))
    else:
        _draw(home, settings, notices)
    for note in () if settings is None else settings.notes:
        click.echo(note, err=True)
    return 0


def _test(settings: NotifySettings | None, *, as_json: bool) -> int:
    if settings is None or not settings.targets:
        raise UsageError(NOBODY)
    host = socket.gethostname()

    def tried(target: Target) -> Answer:
        return send_now(target, of_test(target.name, host), os.environ)

    with ThreadPoolExecutor(max_workers=len(settings.targets)) as threads:
        answers = dict(
            zip(
                (target.name for target in settings.targets),
                threads.map(tried, settings.targets),
                strict=True,
            )
        )
    if as_json:
        results: list[Json] = [
            {"target": name, "sent": answer.sent, "answer": answer.text}
            for name, answer in answers.items()
        ]
        click.echo(json.dumps({"schema": 1, "results": results}))
    else:
        rows = [
            (name, "sent" if answer.sent else "failed", harmless(answer.text))
            for name, answer in answers.items()
        ]
        click.echo("\n".join(columns(rows)) if sys.stdout.isatty() else tabbed(rows))
    return 0 if all(answer.sent for answer in answers.values()) else MachineError.exit_code


def _record(home: Home, settings: NotifySettings | None, notices: Notices) -> dict[str, Json]:
    targets = [] if settings is None else settings.targets
    return {
        "schema": 1,
        "configured": settings is not None,
        "process": lock_holder(home.notify_lock),
        "quiet": None,  # hours without messages, of earlier versions
        "targets": [
            {
                "name": target.name,
                "to": shown(target),
                "events": [*settings.events_of(target)] if settings is not None else [],
            }
            for target in targets
        ],
        "waiting": [
            {
                "target": name,
                "title": each.title,
                "at": each.at,
                "tries": each.tries,
                "answer": each.answer,
            }
            for name, each in notices.failing.items()
        ],
        "given_up": [
            {"target": each.target, "title": each.title, "at": each.at, "answer": each.why}
            for each in notices.given_up
        ],
    }


def _rows(settings: NotifySettings | None, notices: Notices) -> Iterator[tuple[str, ...]]:
    for target in () if settings is None else settings.targets:
        events = "" if settings is None else ",".join(settings.events_of(target))
        yield "target", target.name, harmless(shown(target)), events
    for name, failing in notices.failing.items():
        yield "waiting", name, failing.title, harmless(failing.answer)
    for each in notices.given_up:
        yield "given up", each.target, each.title, harmless(each.why)


def _draw(home: Home, settings: NotifySettings | None, notices: Notices) -> None:
    if settings is None:
        click.echo(NOBODY)
    else:
        _draw_targets(settings)
        pid = lock_holder(home.notify_lock)
        process = f"pid {pid}" if pid else "none lives; the scheduler starts it with the next job"
        click.echo(f"process: {process}")
    _draw_messages(notices)


def _draw_targets(settings: NotifySettings) -> None:
    rows: list[Sequence[str]] = [("TARGET", "WHERE TO", "EVENTS")]
    rows += [
        (target.name, harmless(shown(target)), ", ".join(settings.events_of(target)))
        for target in settings.targets
    ]
    click.echo("\n".join(columns(rows)))


def _draw_messages(notices: Notices) -> None:
    if notices.failing:
        click.echo(f"\n{counted(len(notices.failing), 'message')} waiting:")
    for name, failing in notices.failing.items():
        tries = f"tried {counted(failing.tries, 'time')}: {failing.answer}"
        click.echo(harmless(f"  {clock(failing.at)}  {name}: {failing.title}; {tries}"))
    for each in notices.given_up:
        line = f"  {clock(each.at)}  not sent to {each.target}: {each.title}; {each.why}"
        click.echo(harmless(line))
