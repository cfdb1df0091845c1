"""NVIDIA's MPS for cards that jobs of ours share: one control daemon a card, started and stopped as it is needed.

A program becomes a client of MPS when it first touches CUDA, or never. So the daemon of a card is
started before the first job that may get company there, and quits when none of ours is left. It lives in a
session of its own: jobs are its clients, and they outlive a scheduler. Who comes next finds it by its
environment, whatever has happened to the one that started it.
"""

import contextlib
import hashlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from launcher.gpu.mps_support import (
    MISSING,
    PROGRAM,
    TROUBLES,
    find_program,
    ourselves,
    too_deep,
    unsupported,
)
from launcher.gpu.snapshot import GpuSnapshot
from launcher.system.files import Json, last_lines, read_bytes, read_json, write_json
from launcher.system.processes import Identity, alive, identity, send, session, start_apart

PIPE, LOG = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
START_S = 5.0  # a daemon that has made no pipe by then does not come up
KEPT_S = 5.0  # one that nobody uses stays so long: the next job is likely to come
QUIT_S = 10.0  # one that lives on so long after it was asked to quit is ended
AGAIN_S = 300.0  # before it is tried again where it came to nothing
LEAVE_S = 2.0  # so long a scheduler that leaves waits for daemons to quit

logger = logging.getLogger(__name__)


class Service(NamedTuple):
    """Whether MPS serves a card now."""

    folders: tuple[str, str] | None = None  # of its pipes and its logs, while a daemon lives
    starting: bool = False
    trouble: str = ""  # why it does not


@dataclass(slots=True)
class _Daemon:
    """The daemon of one card."""

    uuid: str
    folder: Path
    who: Identity
    since: float  # monotonic
    wanted: float  # when it was asked for last, monotonic
    ready: bool = False
    quitting: float | None = None  # since when, monotonic
    asker: subprocess.Popen[bytes] | None = None
    ended: bool = False

    @property
    def pipe(self) -> Path:
        return self.folder / "pipe"

    @property
    def lives(self) -> bool:
        """Whether it does; one that we started and that has ended is no zombie after that."""
        if not self.ended and not alive(self.who):
            self.ended = True
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.who.pid, os.WNOHANG)
        return not self.ended


class Mps:
    """The daemons of one scheduler; nothing is started before `serve`."""

    def __init__(
        self,
        folder: Path,
        *,
        find: Callable[[], str | None] = find_program,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin without daemons; `adopt` takes over those of a scheduler before us.

        Args:
            folder: of the home, for their pipes and logs.
            find: returns where the program is, None where there is none.
            clock: tells the time in seconds.
        """
        self._folder, self._find, self._clock = folder, find, clock
        self._daemons: dict[str, _Daemon] = {}  # by UUID
        self.settling = False  # one of them is to quit, or quits
        self._refused: dict[str, tuple[float, str]] = {}  # UUID → until when, why

    def adopt(self) -> None:
        """Take over the daemons that an earlier scheduler left; those that served nobody quit at the next `keep`."""
        now = self._clock()
        self._tell()  # what another scheduler met may be mended
        for card in self._folder.glob("*/card.json"):
            with contextlib.suppress(OSError):
                uuid = (read_json(card) or {}).get("uuid")
                living = next(_serving(card.parent / "pipe"), None)
                if isinstance(uuid, str) and living is not None:
                    logger.info("mps gpu=%s pid=%d adopted", uuid, living.pid)
                    daemon = _Daemon(uuid, card.parent, living, now, now - KEPT_S, ready=True)
                    self._daemons[uuid] = daemon

    def serve(self, gpu: GpuSnapshot) -> Service:
        """Return how a card is served; a daemon is started where that can be."""
        now = self._clock()
        daemon = self._daemons.get(gpu.uuid)
        if daemon is not None and daemon.quitting is None:
            daemon.wanted = now
            return self._state(daemon, gpu, now)
        until, why = self._refused.get(gpu.uuid, (0.0, ""))
        if why and now < until:
            return Service(trouble=why)
        if daemon is not None:  # it quits: another one starts when that has ended
            self._end(daemon, now)
            if gpu.uuid in self._daemons:
                return Service(starting=True)
        if why := unsupported(gpu, ourselves()):  # as it is now: looked at again each time
            return Service(trouble=f"{gpu.label} {why}")
        return self._start(gpu, now)

    def folders(self, uuid: str) -> tuple[str, str] | None:
        """Return the folders of a card's pipes and logs, while its daemon serves."""
        daemon = self._daemons.get(uuid)
        if daemon is None or not daemon.ready or daemon.quitting is not None:
            return None
        return _folders(daemon.folder) if daemon.lives else None

    def keep(self, uuids: Collection[str]) -> None:
        """Let the daemons of all other cards quit: no job of ours is left there."""
        self._keep(uuids, self._clock() - KEPT_S)

    def _keep(self, uuids: Collection[str], since: float) -> None:
        for daemon in [*self._daemons.values()]:
            unused = daemon.uuid not in uuids
            if daemon.quitting is not None or (unused and daemon.wanted <= since):
                self._end(daemon, self._clock())
        self.settling = any(
            daemon.quitting is not None or daemon.uuid not in uuids
            for daemon in self._daemons.values()
        )

    def leave(self, uuids: Collection[str]) -> None:
        """Let them quit, but those whose clients run on: who comes next adopts these."""
        deadline = self._clock() + LEAVE_S
        self._keep(uuids, deadline)
        while any(daemon.quitting is not None for daemon in self._daemons.values()):
            if self._clock() > deadline:
                return
            time.sleep(0.01)
            self._keep(uuids, deadline)

    @property
    def pids(self) -> list[int]:
        """The daemons: the servers below them are ours on the cards."""
        return [daemon.who.pid for daemon in self._daemons.values()]

    def troubles(self) -> dict[str, str]:
        """Return why cards are not served, by UUID."""
        now = self._clock()
        return {uuid: why for uuid, (until, why) in self._refused.items() if now < until}

    # --- one daemon

    def _start(self, gpu: GpuSnapshot, now: float) -> Service:
        folder = self._folder / _short(gpu.uuid)
        program = self._find()
        if program is None:
            return self._refuse(gpu.uuid, MISSING)
        pipe, log = _folders(folder)
        if why := too_deep(folder / "pipe"):
            return self._refuse(gpu.uuid, why)
        try:
            for path in (self._folder, folder, Path(pipe), Path(log)):
                path.mkdir(mode=0o700, exist_ok=True)
            (folder / "pipe" / "control").unlink(missing_ok=True)  # of one that was killed
            write_json(folder / "card.json", {"uuid": gpu.uuid}, mode=0o600, durable=False)
            added = {"CUDA_VISIBLE_DEVICES": gpu.uuid, PIPE: pipe, LOG: log}
            pid = start_apart([program, "-f"], folder / "daemon.log", environment=added)
        except OSError as error:
            return self._refuse(gpu.uuid, f"{program} cannot be started: {error}")
        who = identity(pid) or Identity(pid=pid, start_ticks=0, boot="")
        logger.info("mps gpu=%s pid=%d starts", gpu.uuid, pid)
        self._daemons[gpu.uuid] = _Daemon(gpu.uuid, folder, who, now, now)
        return Service(starting=True)

    def _state(self, daemon: _Daemon, gpu: GpuSnapshot, now: float) -> Service:
        if not daemon.lives:
            del self._daemons[daemon.uuid]
            last_words = last_lines(daemon.folder / "daemon.log", 1)
            words = f": {last_words[0]}" if last_words else ""
            return self._refuse(daemon.uuid, f"the MPS daemon of {gpu.label} has ended{words}")
        daemon.ready = daemon.ready or (daemon.pipe / "control").exists()
        if daemon.ready:
            if self._refused.pop(daemon.uuid, None):
                self._tell()
            return Service(folders=_folders(daemon.folder))
        if now - daemon.since <= START_S:
            return Service(starting=True)
        self._kill(daemon, now)
        return self._refuse(daemon.uuid, f"the MPS daemon of {gpu.label} does not come up")

    def _refuse(self, uuid: str, why: str) -> Service:
        logger.warning("mps gpu=%s trouble=%r", uuid, why)
        self._refused[uuid] = (self._clock() + AGAIN_S, why)
        self._tell()
        return Service(trouble=why)

    def _tell(self) -> None:
        """Write down why cards are not served, for who looks at the machine."""
        if self._folder.is_dir():
            troubles: dict[str, Json] = {uuid: why for uuid, (_, why) in self._refused.items()}
            with contextlib.suppress(OSError):
                write_json(self._folder / TROUBLES, troubles, mode=0o600, durable=False)

    def _end(self, daemon: _Daemon, now: float) -> None:
        """Ask a daemon to quit, and end one that does not; nothing here waits."""
        if daemon.asker is not None and daemon.asker.poll() is not None:
            daemon.asker = None
        if not daemon.lives:
            if daemon.asker is not None:
                daemon.asker.kill()
                daemon.asker.wait()
            logger.info("mps gpu=%s pid=%d has quit", daemon.uuid, daemon.who.pid)
            del self._daemons[daemon.uuid]
        elif daemon.quitting is None:
            daemon.quitting = now
            daemon.asker = _ask_to_quit(self._find(), daemon.folder)
        elif now - daemon.quitting > QUIT_S:
            self._kill(daemon, now)

    def _kill(self, daemon: _Daemon, now: float) -> None:
        logger.warning("mps gpu=%s pid=%d is killed", daemon.uuid, daemon.who.pid)
        for pid in session(daemon.who.pid):  # its servers, too
            send(pid, signal.SIGKILL)
        if daemon.asker is not None:
            daemon.asker.kill()
            daemon.asker.wait()
            daemon.asker = None
        daemon.quitting = now  # it is seen to end at the next call


def _short(uuid: str) -> str:
    """Return a folder's name for a card: sockets below it have short paths only."""
    return hashlib.sha256(uuid.encode()).hexdigest()[:8]


def _folders(folder: Path) -> tuple[str, str]:
    return str(folder / "pipe"), str(folder / "log")


def _ask_to_quit(program: str | None, folder: Path) -> subprocess.Popen[bytes] | None:
    """Tell a daemon to quit, as its own program does that; None where that cannot be started."""
    if program is None:
        return None
    pipe, log = _folders(folder)
    with contextlib.suppress(OSError):
        asker = subprocess.Popen(
            [program],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {PIPE: pipe, LOG: log},
            start_new_session=True,
        )
        if asker.stdin is not None:
            with contextlib.suppress(BrokenPipeError), asker.stdin as words:
                words.write(b"quit\n")
        return asker
    return None


def _serving(pipe: Path) -> Iterator[Identity]:
    """Yield the control daemons of ours that have their pipes in a folder."""
    wanted = os.fsencode(f"{PIPE}={pipe}")
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = read_bytes(str(entry / "cmdline")).split(b"\0")
            if not any(word.endswith(os.fsencode(PROGRAM)) for word in words[:2]):
                continue  # the folder is known to its clients, too
            if b"-f" in words and wanted in read_bytes(str(entry / "environ")).split(b"\0"):
                who = identity(int(entry.name))
                if who is not None:
                    yield who
        except OSError:
            continue  # another user's, or it ended
