"""Where the folders of a backend's pilots lie, and whose they are: two queues in one folder are refused."""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from launcher.backends.settings import BackendSettings
from launcher.errors import MachineError
from launcher.pilots.folder import PilotFolder
from launcher.scheduler.remote.pilot_records import is_token
from launcher.system.files import Json, read_json, write_json
from launcher.system.home_checks import file_system, is_remote, machine, without_links
from launcher.system.paths import Home

OWNER = "owner.json"
_TRIES = 3


class FolderTaken(MachineError):
    """The folder of a backend belongs to another queue."""


def backend_folder(settings: BackendSettings, home: Home, user: Path, mountinfo: str) -> Path:
    """Return the folder in which each pilot of a backend gets one.

    It is the configured one, else the home's own, unless that lies on a local disk and the user's home directory
    does not: nodes see that one.

    Args:
        settings: the backend's.
        home: the queue's.
        user: the user's home directory.
        mountinfo: the text of /proc/self/mountinfo.
    """
    if settings.folder is not None:
        return settings.folder
    own = home.folder / "pilots"
    if settings.kind == "local" or is_remote(file_system(mountinfo, without_links(home.folder))):
        return own
    if is_remote(file_system(mountinfo, without_links(user))):
        mark = hashlib.sha256(f"{machine()} {home.folder}".encode()).hexdigest()[:16]
        return user / ".local/state/launcher/pilots" / mark
    return own


def take_folder(folder: Path, home: Home) -> None:
    """See that a folder of pilots is this queue's; one that is nobody's becomes so.

    Raises:
        FolderTaken: it is another queue's, of this machine or of another one.
        OSError: it cannot be made or written.
    """
    record = folder / OWNER
    mine: dict[str, Json] = {
        "schema": 1,
        "machine": machine(),
        "host": os.uname().nodename,
        "home": str(home.folder),
    }
    for _ in range(_TRIES):
        owner = read_json(record)
        if owner is not None:
            if _is_ours(owner, home):
                return
            raise FolderTaken(
                f"the folder of pilots {folder} belongs to the queue {owner.get('home')} of host "
                f"{owner.get('host')!r}; name another `folder` in config.toml, or delete {record} if that "
                "queue is no more"
            )
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _give(record, mine)
    raise FolderTaken(f"{record} cannot be understood; delete it if no other queue uses {folder}")


def is_there(folder: Path) -> bool:
    """Tell whether a folder of pilots is seen; it may lie on a file system that is not mounted yet.

    Raises:
        OSError: that cannot be found out now.
    """
    return (folder / OWNER).exists()


def _is_ours(owner: Mapping[str, Json], home: Home) -> bool:
    return (owner.get("machine"), owner.get("home")) == (machine(), str(home.folder))


def _give(record: Path, owner: dict[str, Json]) -> None:
    """Write whose a folder is, unless that is written: of two that try at once, a link lets one through."""
    whole = record.with_name(f".{secrets.token_hex(8)}.tmp")
    write_json(whole, owner, mode=0o600)
    try:
        with contextlib.suppress(FileExistsError):
            os.link(whole, record)
    finally:
        whole.unlink()


def clear_folder(folder: PilotFolder) -> bool:
    """Delete the folder of a pilot that has ended; False while attempts that are kept lie in it."""
    try:
        with contextlib.suppress(FileNotFoundError):
            folder.attempts.rmdir()
        with contextlib.suppress(FileNotFoundError):
            for path in folder.folder.iterdir():
                path.unlink(missing_ok=True)  # an engine may have put down something, too
            folder.folder.rmdir()
    except OSError:
        return False
    return True


def clear_leftovers(root: Path, home: Home, is_known: Callable[[str], bool]) -> None:
    """Delete the folders of pilots that ended while attempts lay in them, which are deleted by now.

    Args:
        root: where the folders lie; nothing is deleted in that of another queue, whose pilots may live.
        home: the queue's.
        is_known: tells whether there is a record of a pilot.
    """
    with contextlib.suppress(OSError):
        owner = read_json(root / OWNER)
        if owner is None or not _is_ours(owner, home):
            return
        for path in root.iterdir():
            if is_token(path.name) and not is_known(path.name):
                clear_folder(PilotFolder(path))
