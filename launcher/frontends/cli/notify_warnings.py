"""Warnings of requested messages that no target receives."""

import sys
from collections.abc import Mapping
from importlib.util import find_spec

from launcher.frontends.notify.sending import MISSING
from launcher.frontends.notify.settings import read_configured_notify
from launcher.system.errors import UsageError
from launcher.system.installation import install_command
from launcher.system.text import sanitize_terminal


def no_target_warning(option: str, environ: Mapping[str, str]) -> str:
    """Return the warning that no message about a job is sent; '' if config.toml has targets that can work.

    Args:
        option: The option or key that asks for the message, as it is written.
        environ: Environment, which determines the user's file.
    """
    try:
        settings = read_configured_notify(environ)
    except UsageError as error:
        return sanitize_terminal(f"warning: {option}: no message is sent: {error}")
    if settings is not None and settings.targets:
        services = [target.name for target in settings.targets if not target.command]
        if not services or find_spec("apprise") is not None:
            return ""
        missing = MISSING.format(python=sys.executable, command=install_command("notify"))
        return f"warning: {option}: no message is sent to {', '.join(services)}, because {missing}"
    return (
        f"warning: {option}: no message is sent. Add a table [notify.NAME] to config.toml "
        "(launcher help messages)."
    )
