"""`launcher notify`: the targets of messages, what waits to be sent, and a test message to every target."""

import json
import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import click

from launcher.errors import MachineError, UsageError, counted
from launcher.notify.messages import of_test
from launcher.notify.sending import Answer, send_now
from launcher.notify.settings import NotifySettings, Quiet, Target, configured_notify, shown
from launcher.notify.state import Notices, read_notices
from launcher.screens.format import clock, columns, harmless, tabbed
from launcher.system.files import Json
from launcher.system.paths import Home, find_home
from launcher.system.processes import lock_holder
from launcher.units import format_seconds

NOBODY = "no message is sent: config.toml has no table [notify]; see docs/notify.md"


@click.command()
@click.option("--test", is_flag=True, help="Send a test message to every target, at once.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schema 1).")
def command(test: bool, as_json: bool) -> int:
    """Show the targets of messages, and which messages wait to be sent.

    The targets stand in [notify] of config.toml. With --test each of them gets a message, quiet
    hours or not; the exit code is 3 where one did not. In a pipe: what it is (target, waiting, given
    up), its target, and more, separated by tabs.

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
    return 0


def _test(settings: NotifySettings | None, *, as_json: bool) -> int:
    if settings is None or not settings.targets:
        raise UsageError(NOBODY)
    host, now = socket.gethostname(), time.time()

    def tried(target: Target) -> Answer:
        (delivery,) = of_test(target.name, host, now).to([target.name], quiet=False)
        return send_now(target, delivery, os.environ)

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
        "quiet": None if settings is None else _quiet(settings.quiet) or None,
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
                "target": delivery.target,
                "title": delivery.title,
                "at": delivery.at,
                "tries": delivery.tries,
                "answer": delivery.answer or None,
            }
            for delivery in notices.outbox
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
    for delivery in notices.outbox:
        yield "waiting", delivery.target, delivery.title, harmless(delivery.answer) or "-"
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
    quiet = _quiet(settings.quiet)
    hours = f"; quiet hours {quiet}" if quiet else ""
    click.echo(f"\nbundled for {format_seconds(settings.bundle_s)}{hours}")


def _draw_messages(notices: Notices) -> None:
    if notices.outbox:
        click.echo(f"\n{counted(len(notices.outbox), 'message')} waiting:")
        for delivery in notices.outbox:
            more = "; quiet hours" if delivery.quiet else ""
            if delivery.tries:
                more = f"; tried {counted(delivery.tries, 'time')}: {delivery.answer}"
            line = f"  {clock(delivery.at)}  {delivery.target}: {delivery.title}{more}"
            click.echo(harmless(line))
    for each in notices.given_up:
        line = f"  {clock(each.at)}  not sent to {each.target}: {each.title}; {each.why}"
        click.echo(harmless(line))


def _quiet(quiet: Quiet | None) -> str:
    return "" if quiet is None else f"{quiet.begins:%H:%M}-{quiet.ends:%H:%M}"
