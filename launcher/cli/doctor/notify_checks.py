"""The check of the targets of messages: whether each can be used, and what was not sent."""

from collections.abc import Iterator

from launcher.cli.doctor.facts import Facts, NotifyTarget
from launcher.cli.doctor.findings import Finding, ok, trouble, warning
from launcher.errors import counted


def check_notify(facts: Facts) -> Iterator[Finding]:
    """Check each target, and whether messages were given up."""
    yield from map(_target, facts.targets)
    if facts.unsent:
        yield warning(
            "messages",
            f"{counted(len(facts.unsent), 'message')} not sent, the last: {facts.unsent[-1]}",
            "`launcher notify` lists them; `launcher notify --test` tries every target now",
        )


def _target(target: NotifyTarget) -> Finding:
    name = f"notify {target.name}"
    table = f"[notify.{target.name}]"
    if target.problem:
        return trouble(name, target.problem, f"mend {table} of config.toml, or what it names")
    if target.exposed:
        return warning(
            name,
            "other users may read config.toml, where its address stands",
            f"chmod 600 the file, or name a file of mode 600 with url_file in {table}",
        )
    return ok(name, "can be used; `launcher notify --test` sends a message")
