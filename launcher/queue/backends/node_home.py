"""The temporary home of a pilot on its node, for its fork servers, its supervisors and unpacked code archives.

The pilot deletes it when it leaves. It does not contain a queue. Files that must stay are in the pilot's own folder,
which submit host and nodes share.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
import zipfile
from pathlib import Path

from launcher.queue.backends.pilot_folder import PilotFolder
from launcher.queue.home.paths import Home
from launcher.system.locks import is_in_use, mark_in_use

PREFIX = "launcher-pilot-"
STALE_S = 300.0  # a folder without live processes is deleted after this time: its pilot was killed
_ARCHIVE = ".zip"


class NodeHome(Home):
    """A folder without a queue, whose processes write into the log that the engine gave the pilot."""

    def __init__(self, folder: Path, pilot: PilotFolder) -> None:
        """Use a folder that is there.

        Args:
            folder: folder on the node's own disk.
            pilot: the folder of the pilot, whose log is written to.
        """
        super().__init__(folder)
        self.__dict__["scheduler_log"] = pilot.log


def make_node_home(pilot: PilotFolder, parent: Path | None = None) -> NodeHome:
    """Make the folder; those that killed pilots have left are deleted.

    Args:
        pilot: pilot that uses the folder.
        parent: the folder that contains it. None for the folder of temporary files.

    Raises:
        OSError: there is no room for it.
    """
    where = Path(tempfile.gettempdir()) if parent is None else parent
    _remove_stale(where)
    home = NodeHome(Path(tempfile.mkdtemp(prefix=PREFIX, dir=where)), pilot)
    mark_in_use(home.folder)
    return home


def remove_node_home(home: Home) -> None:
    """Delete the folder. Processes that still live there have its files in memory."""
    shutil.rmtree(home.folder, ignore_errors=True)


def unpack_code(python_path: str, home: Home) -> str:
    """Return a search path for modules in which each archive is a folder on the node's disk.

    The plugin package's code is sent as an archive. Unpacked it also has its data files, and is faster to import.

    Args:
        python_path: search path as PYTHONPATH has it.
        home: the folder in which archives are unpacked, each once.

    Raises:
        OSError: an archive cannot be read, or there is no room.
        zipfile.BadZipFile: the file is not an archive.
    """
    entries = python_path.split(os.pathsep)
    return os.pathsep.join(
        _unpack(Path(entry), home) if entry.endswith(_ARCHIVE) else entry for entry in entries
    )


def _unpack(archive: Path, home: Home) -> str:
    if not archive.is_file():
        raise FileNotFoundError(2, "the code archive is missing on this node", str(archive))
    name = hashlib.sha256(os.fsencode(archive)).hexdigest()[:16]
    target = home.folder / "code" / name
    if not target.exists():
        partial = target.with_suffix(".part")
        shutil.rmtree(partial, ignore_errors=True)
        with zipfile.ZipFile(archive) as file:
            file.extractall(partial)
        partial.rename(target)
    return str(target)


def _remove_stale(parent: Path) -> None:
    with contextlib.suppress(OSError):
        for folder in parent.glob(f"{PREFIX}*"):
            with contextlib.suppress(OSError):
                there = folder.lstat()
                old = time.time() - there.st_mtime > STALE_S
                if there.st_uid == os.geteuid() and old and not is_in_use(folder):
                    shutil.rmtree(folder, ignore_errors=True)
