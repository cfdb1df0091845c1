"""The process between Ray and a pilot, on its node: `python -P -m launcher.queue.backends.ray_guard FOLDER`.

Its standard input is a socket whose other end the actor holds: the guard writes how the pilot ended, and sees when the
actor is gone. As long as the actor lives, Ray keeps the GPUs for the pilot. So the guard ends only when nothing of the
pilot lives any more; and when the actor is gone, it ends all that lives.
"""

import contextlib
import ctypes
import logging
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from launcher.queue.backends.pilot_folder import PilotFolder
from launcher.queue.backends.pilot_processes import find_pids, kill_all
from launcher.system.processes import Identity, identity, is_alive
from launcher.system.waiting import wait_until

RAYLET = "LAUNCHER_RAYLET"  # the process that started the actor
RAYLET_TIMEOUT_S = 2.0  # a node that goes down kills its actors first, then its raylet
NODE_SHUTDOWN_GRACE_S = 30.0  # time for trainings to save on a node that goes down
POLL_S = 0.25
PR_SET_PDEATHSIG = 1
ACTOR = 0  # standard input
EXIT_ACTOR_GONE = 1  # exit code if the actor is gone

logger = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Run the pilot of a folder in a process that is not a child of the actor: Ray kills an actor's children."""
    if os.fork():
        return 0
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s guard %(levelname)s %(message)s"
    )
    code = _run_guard(PilotFolder(Path(argv[0])))
    with contextlib.suppress(OSError):
        os.write(ACTOR, f"{code}".encode())
    return code


def _run_guard(folder: PilotFolder) -> int:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # Ray's actors block SIGINT
    raylet = _process(os.environ.pop(RAYLET, ""))
    pilot = subprocess.Popen(
        [sys.executable, "-P", "-m", "launcher.pilots", str(folder.folder)],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_die_with_parent,  # this process has no threads
    )
    who = identity(pilot.pid)
    if _await_pilot(folder, pilot, who):
        return pilot.returncode if pilot.returncode >= 0 else 128 - pilot.returncode
    logger.warning("its actor is gone; its jobs are ended")
    if pilot.poll() is None:
        pilot.send_signal(signal.SIGTERM)  # trainings save
    ended = _ends_within(RAYLET_TIMEOUT_S, folder, pilot, who)
    if not ended and (raylet is None or not is_alive(raylet)):
        _ends_within(NODE_SHUTDOWN_GRACE_S, folder, pilot, who)
    kill_all(folder, who)
    return EXIT_ACTOR_GONE


def _await_pilot(
    folder: PilotFolder, pilot: "subprocess.Popen[bytes]", process_identity: Identity | None
) -> bool:
    """Wait until no process of a pilot lives. Return False if the actor ends before."""
    poll = select.poll()
    poll.register(ACTOR, select.POLLIN)
    while True:
        if poll.poll(POLL_S * 1000):
            return False
        if pilot.poll() is not None and not find_pids(folder, process_identity):
            return True


def _ends_within(
    time_s: float,
    folder: PilotFolder,
    pilot: "subprocess.Popen[bytes]",
    process_identity: Identity | None,
) -> bool:
    """Wait for the end of all of a pilot for some time."""
    return wait_until(
        lambda: pilot.poll() is not None and not find_pids(folder, process_identity), time_s, POLL_S
    )


def _process(pid: str) -> Identity | None:
    return identity(int(pid)) if pid.isdecimal() else None


def _die_with_parent() -> None:
    """Have the kernel end us when our parent ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
