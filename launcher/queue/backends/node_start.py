"""The start of a pilot on its node: it reads its specification, takes its folder, prepares its environment and serves."""

import json
import logging
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from launcher.queue.backends.node_facts import read_node_facts
from launcher.queue.backends.node_home import make_node_home, remove_node_home
from launcher.queue.backends.node_pilot import NodePilot
from launcher.queue.backends.outbox import Outbox
from launcher.queue.backends.pilot_folder import TOKEN, PilotFolder, PilotSpec, read_pilot_spec
from launcher.queue.backends.pilot_messages import Deregistered, Registered
from launcher.system.environment import SITE_VARIABLE
from launcher.system.prologue import BEFORE_SITE_VARIABLE, site_changes
from launcher.system.remembered_variables import is_likely_secret
from launcher.system.stored_fields import Unreadable
from launcher.system.waiting import wait_until

logger = logging.getLogger(__name__)

SPEC_TIMEOUT_S = 60.0  # the folder is new, and a network file system may show it later
SPEC_POLL_S = 0.1
EXIT_CANNOT_SERVE = 3
NOT_SHARED = (
    "{} does not see the pilot's folder {}. Set `folder` in its table [backends.NAME] of config.toml to a folder that "
    "the submit host and all nodes see."
)


def main(argv: Sequence[str]) -> int:
    """Serve as the pilot of a folder; return 0 when it was served to the end."""
    began = time.time()
    folder = PilotFolder(Path(argv[0]))
    os.umask(0o077)
    os.chdir("/")
    logging.raiseExceptions = False  # a full disk must not end the pilot
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s pilot %(levelname)s %(message)s"
    )
    try:
        spec = _await_spec(folder)
        _acquire_folder(folder)
    except FileNotFoundError:
        why = NOT_SHARED.format(socket.gethostname(), folder.folder)
        logger.error("cannot serve: %s", why)  # noqa: TRY400  # a message, not a traceback
        return EXIT_CANNOT_SERVE
    except (OSError, Unreadable) as error:
        logger.error("cannot serve: %s", error)  # noqa: TRY400  # a message, not a traceback
        return EXIT_CANNOT_SERVE
    _prepare_environment(spec)
    facts = read_node_facts(folder, spec, os.environ, began)
    try:
        home = make_node_home(folder)
    except OSError as error:
        trouble = f"{socket.gethostname()} cannot make a temporary folder: {error}"
        return _refuse(folder, facts.registration, trouble)
    try:
        if facts.registration.troubles:
            return _refuse(folder, facts.registration)
        pilot = NodePilot(folder, spec, home, facts)
        logger.info("started on %s, pid %d", facts.registration.host, os.getpid())
        try:
            logger.info("ends: %s", pilot.serve())
        finally:
            pilot.close_fork_servers()
    finally:
        remove_node_home(home)
    return 0


def _refuse(folder: PilotFolder, registration: Registered, *troubles: str) -> int:
    """Report why this pilot cannot work, and return the exit code for it."""
    registration = registration._replace(troubles=(*registration.troubles, *troubles))
    why = "; ".join(registration.troubles)
    logger.error("cannot serve: %s", why)
    outbox = Outbox(folder.messages_file)
    outbox.add([registration, Deregistered(why=why)])
    outbox.send(time.monotonic())
    return EXIT_CANNOT_SERVE


def _await_spec(folder: PilotFolder) -> PilotSpec:
    """Return the specification of this pilot.

    Raises:
        OSError: it cannot be read, or is not seen for a minute.
        Unreadable: it is not a specification, or another version of launcher wrote it.
    """

    def read() -> PilotSpec | None:
        try:
            return read_pilot_spec(folder)
        except FileNotFoundError:
            if not folder.folder.parent.exists():
                raise
        return None

    return wait_until(read, SPEC_TIMEOUT_S, SPEC_POLL_S) or read_pilot_spec(folder)


def _prepare_environment(spec: PilotSpec) -> None:
    """Delete secrets from our environment, and record the changes of the site's prologue for jobs."""
    changes = site_changes(os.environ)
    for name, value in list(os.environ.items()):
        if is_likely_secret(name, value) or name == BEFORE_SITE_VARIABLE:
            del os.environ[name]
    if changes:
        os.environ[SITE_VARIABLE] = json.dumps(changes)
    os.environ[TOKEN] = spec.token


def _acquire_folder(folder: PilotFolder) -> None:
    """Acquire the folder for this pilot. This fails if an engine starts its job again.

    Raises:
        FileExistsError: a pilot has been there.
        OSError: the folder cannot be written.
    """
    os.close(
        os.open(folder.started_marker, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    )
