"""The process of a pilot: `python -P -m launcher.pilots FOLDER`, as an engine starts it on a node."""

import json
import logging
import os
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from launcher.backends.channel import TOKEN, Bye, Hello, PilotFolder, PilotSpec, read_pilot_spec
from launcher.backends.node_attempts import make_node_home, remove_node_home
from launcher.backends.node_facts import find_out
from launcher.backends.node_pilot import Outbox, Pilot
from launcher.system.environment import BEFORE, SITE, looks_secret, site_changes
from launcher.system.stored_fields import Unreadable

SPEC_PATIENCE_S = 60.0  # the folder is new, and a network file system may show it later
LOOK_AGAIN_S = 0.1
CANNOT_SERVE = 3
NOT_SHARED = (
    "{} does not see the pilot's folder {}; let `folder` in its table [backends.NAME] of config.toml name a place that "
    "submit host and nodes share"
)

logger = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Serve as the pilot of a folder; return 0 when it was served to the end."""
    began = time.time()
    folder = PilotFolder(Path(argv[0]))
    os.umask(0o077)
    os.chdir("/")
    logging.raiseExceptions = False  # a full disk is no reason to end
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s pilot %(levelname)s %(message)s"
    )
    try:
        spec = _spec(folder)
        _take(folder)
    except FileNotFoundError:
        why = NOT_SHARED.format(socket.gethostname(), folder.folder)
        logger.error("cannot serve: %s", why)  # noqa: TRY400  # a message, not a traceback
        return CANNOT_SERVE
    except (OSError, Unreadable) as error:
        logger.error("cannot serve: %s", error)  # noqa: TRY400  # a message, not a traceback
        return CANNOT_SERVE
    _prepare_environment(spec)
    facts = find_out(folder, spec, os.environ, began)
    try:
        home = make_node_home(folder)
    except OSError as error:
        trouble = f"{socket.gethostname()} has no room for temporary files: {error}"
        return _refuse(folder, facts.hello, trouble)
    try:
        if facts.hello.troubles:
            return _refuse(folder, facts.hello)
        pilot = Pilot(folder, spec, home, facts)
        logger.info("serves on %s, pid %d", facts.hello.host, os.getpid())
        try:
            logger.info("leaves: %s", pilot.serve())
        finally:
            pilot.close()
    finally:
        remove_node_home(home)
    return 0


def _refuse(folder: PilotFolder, hello: Hello, *troubles: str) -> int:
    """Say why we can do nothing, and return the exit code for it."""
    hello = replace(hello, troubles=(*hello.troubles, *troubles))
    why = "; ".join(hello.troubles)
    logger.error("cannot serve: %s", why)
    outbox = Outbox(folder.news)
    outbox.add([hello, Bye(why=why)])
    outbox.send(time.monotonic())
    return CANNOT_SERVE


def _spec(folder: PilotFolder) -> PilotSpec:
    """Return what we are to be.

    Raises:
        OSError: it cannot be read, or is not seen for a minute.
        Unreadable: it is none.
    """
    deadline = time.monotonic() + SPEC_PATIENCE_S
    while True:
        try:
            return read_pilot_spec(folder)
        except FileNotFoundError:
            if not folder.folder.parent.exists() or time.monotonic() > deadline:
                raise
        time.sleep(LOOK_AGAIN_S)


def _prepare_environment(spec: PilotSpec) -> None:
    """Keep what jobs are to have of our environment: what the site's prologue has changed, and no secret."""
    changes = site_changes(os.environ)
    for name in [name for name in os.environ if looks_secret(name) or name == BEFORE]:
        del os.environ[name]
    if changes:
        os.environ[SITE] = json.dumps(changes)
    os.environ[TOKEN] = spec.token


def _take(folder: PilotFolder) -> None:
    """Take the right to be the pilot of a folder: an engine that starts its job again has none.

    Raises:
        FileExistsError: a pilot has been there.
        OSError: the folder cannot be written.
    """
    os.close(os.open(folder.taken, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
