"""`launcher notify`: the targets of messages, what waits to be sent, and a test message to every target."""

import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import click

from launcher.cli.option_types import flag, json_option
from launcher.cli.output import Answer, tell
from launcher.errors import MachineError, UsageError, counted
from launcher.notify.notices import Notices, of_test, read_notices
from launcher.notify.sending import Answer as Sent
from launcher.notify.sending import send_now
from launcher.notify.settings import NotifySettings, Target, configured_notify, shown
from launcher.screens.format import clock, columns, harmless
from launcher.system.files import Json
from launcher.system.paths import find_home
from launcher.system.processes import lock_holder

NOBODY = "no message is sent: config.toml has no table [notify]; see docs/notify.md"
_NO_PROCESS = "none lives; the scheduler starts it with the next job"


@click.command()
@flag("--test", help="Send a test message to every target, at once.")
@json_option
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
    known = settings or NotifySettings()
    notices, process = read_notices(home), lock_holder(home.notify_lock)
    targets = [(target.name, shown(target), known.events_of(target)) for target in known.targets]

    def drawn(_: int) -> str:
        lines = [NOBODY]
        if settings is not None:
            rows = [(name, harmless(to), ", ".join(events)) for name, to, events in targets]
            lines = columns([("TARGET", "WHERE TO", "EVENTS"), *rows])
            is_there = f"pid {process}" if process else _NO_PROCESS
            lines.append(f"process: {is_there}")
        return "\n".join([*lines, *map(harmless, _unsent(notices))])

    answer = Answer(
        record=lambda: {
            "configured": settings is not None,
            "process": process,
            "quiet": None,  # hours without messages, of earlier versions
            "targets": [
                {"name": name, "to": to, "events": [*events]} for name, to, events in targets
            ],
            **_record(notices),
        },
        tabs=lambda: [
            *(("target", name, to, ",".join(events)) for name, to, events in targets),
            *(("waiting", name, each.title, each.answer) for name, each in notices.failing.items()),
            *(("given up", each.target, each.title, each.why) for each in notices.given_up),
        ],
        drawn=drawn,
    )
    tell(answer, as_json=as_json)
    for note in known.notes:
        click.echo(note, err=True)
    return 0


def _test(settings: NotifySettings | None, *, as_json: bool) -> int:
    if settings is None or not settings.targets:
        raise UsageError(NOBODY)
    host = socket.gethostname()

    def tried(target: Target) -> Sent:
        return send_now(target, of_test(target.name, host), os.environ)

    with ThreadPoolExecutor(max_workers=len(settings.targets)) as threads:
        names = [target.name for target in settings.targets]
        tries = [*zip(names, threads.map(tried, settings.targets), strict=True)]
    rows = [(name, "sent" if each.sent else "failed", harmless(each.text)) for name, each in tries]
    answer = Answer(
        record=lambda: {
            "results": [
                {"target": name, "sent": each.sent, "answer": each.text} for name, each in tries
            ]
        },
        tabs=lambda: rows,
        drawn=lambda _: "\n".join(columns(rows)),
    )
    tell(answer, as_json=as_json)
    return 0 if all(each.sent for _, each in tries) else MachineError.exit_code


def _record(notices: Notices) -> dict[str, Json]:
    return {
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


def _unsent(notices: Notices) -> Iterator[str]:
    """Give the messages that wait, and those that were given up."""
    if notices.failing:
        yield ""
        yield f"{counted(len(notices.failing), 'message')} waiting:"
    for name, failing in notices.failing.items():
        tries = f"tried {counted(failing.tries, 'time')}: {failing.answer}"
        yield f"  {clock(failing.at)}  {name}: {failing.title}; {tries}"
    for each in notices.given_up:
        yield f"  {clock(each.at)}  not sent to {each.target}: {each.title}; {each.why}"
