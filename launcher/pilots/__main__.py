"""The process of a pilot: `python -P -m launcher.pilots FOLDER`, as an engine starts it on a node."""

import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from launcher.pilots.folder import TOKEN, PilotFolder, PilotSpec, read_pilot_spec
from launcher.pilots.messages import Bye
from launcher.pilots.node_facts import find_out
from launcher.pilots.node_home import make_node_home, remove_node_home
from launcher.pilots.node_news import Outbox
from launcher.pilots.pilot import Pilot
from launcher.system.environment import looks_secret
from launcher.system.stored_fields import Unreadable

SPEC_PATIENCE_S = 60.0  # the folder is new, and a network file system may show it later
LOOK_AGAIN_S = 0.1
CANNOT_SERVE = 3

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
    except (OSError, Unreadable) as error:
        logger.error("cannot serve: %s", error)  # noqa: TRY400  # a message, not a traceback
        return CANNOT_SERVE
    for name in [name for name in os.environ if looks_secret(name)]:
        del os.environ[name]  # no program of a job has any use of it
    os.environ[TOKEN] = spec.token
    facts = find_out(folder, spec, os.environ, began)
    if facts.hello.troubles:
        why = "; ".join(facts.hello.troubles)
        logger.error("cannot serve: %s", why)
        outbox = Outbox(folder.news)
        outbox.add([facts.hello, Bye(why=why)])
        outbox.send(time.monotonic())
        return CANNOT_SERVE
    home = make_node_home(folder)
    try:
        pilot = Pilot(folder, spec, home, facts)
        logger.info("serves on %s, pid %d", facts.hello.host, os.getpid())
        try:
            logger.info("leaves: %s", pilot.serve())
        finally:
            pilot.close()
    finally:
        remove_node_home(home)
    return 0


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


def _take(folder: PilotFolder) -> None:
    """Take the right to be the pilot of a folder: an engine that starts its job again has none.

    Raises:
        FileExistsError: a pilot has been there.
        OSError: the folder cannot be written.
    """
    descriptor = os.open(
        folder.folder / "taken", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
    )
    os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
