"""The folder of reservations: one file per scheduler of the machine, read as untrusted input.

Each publisher has one file, `launcher-claims.<uid>.<random>.json`, directly in /dev/shm, otherwise
in /tmp. Such a folder belongs to root and is sticky, so no user can delete or replace the file of
another user. The creator of a subfolder could do that. The random digits are new each time a file
is created, so no other user can take the name before its publisher does. The folder /dev/shm is
preferred because it is memory, empty after a boot, and never private to a service, as /tmp may be.
A file names its queue folder by a hash of path, device and inode. Two queues of one user, or of two
containers that share the folder, are therefore two publishers. A file counts only if it is a
regular file of the user whose uid is in its name. Only the newest few files of each user count.

A file that is too large or not in our form may be that of a scheduler of another version. It counts
against us: each GPU that it names is reserved as a whole, as long as a readable file would count. A
file that cannot be opened, or that names no GPU, reserves nothing. All of them are logged.

Any user can create a hundred thousand files with valid names, also with uids of other users. The
owner of a file does not change while its name and inode stay. It is therefore read once, and a few
times more in case an inode was reused. Files of a user beyond the newest few are skipped in the
same way: a publisher that writes again creates a new inode.
"""

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path

from launcher.queue.gpu.publication import (
    MOST_BYTES,
    Publication,
    parse_publication,
    salvage_publication,
)
from launcher.queue.jobs.accounts import ResourceUsage
from launcher.system.config_tables import absolute_path
from launcher.system.lazy_regex import compile_lazily
from launcher.system.processes import is_alive, login_name

SHARED = (Path("/dev/shm"), Path("/tmp"))  # see above
MOST_FILES = 16  # files of a user
CLOCK_STEP_NS = 20_000_000  # within this span two changes of a folder may bear the same time
UNREADABLE = "the GPUs that it names count as reserved while it is renewed or its processes live"
RECHECKED_FILES = 256  # files that did not count and are checked again at every reading
_NAME = compile_lazily(r"launcher-claims\.(0|[1-9][0-9]{0,9})\.[0-9a-f]{8}\.json")

Complain = Callable[[str, str], None]  # called with a file that is not in order, and why


def reservations_folder(
    environ: Mapping[str, str], shared_folders: Iterable[Path] = SHARED
) -> Path:
    """Return the folder for publications: LAUNCHER_CLAIMS if set, otherwise a shared folder.

    Raises:
        UsageError: LAUNCHER_CLAIMS is a relative path.
    """
    named = environ.get("LAUNCHER_CLAIMS", "")
    if named:
        return absolute_path("LAUNCHER_CLAIMS", named)
    folders = tuple(shared_folders)
    return next(filter(_is_protected, folders), folders[-1])


def _is_protected(folder: Path) -> bool:
    """Whether no user can delete the files of another user in this folder."""
    try:
        there = folder.stat()
    except OSError:
        return False
    return stat.S_ISDIR(there.st_mode) and bool(there.st_mode & stat.S_ISVTX) and there.st_uid == 0


def is_claims_file(name: str) -> bool:
    """Whether a file of this name may belong to a scheduler."""
    return _NAME.fullmatch(name) is not None


def new_file_name(uid: int) -> str:
    """Return a name for a file in which a user's queue publishes, that cannot be guessed before."""
    return f"launcher-claims.{uid}.{os.urandom(4).hex()}.json"


def home_hash(home: Path) -> str:
    """Return the hash by which a file names its publisher's queue folder."""
    where = str(home)
    with contextlib.suppress(OSError):
        there = home.stat()  # two containers may call theirs alike
        where += f" {there.st_dev} {there.st_ino}"
    return hashlib.sha256(where.encode(errors="surrogateescape")).hexdigest()[:32]


def remove_abandoned(folder: Path, uid: int, now: float, silent_s: float) -> list[str]:
    """Remove a user's files that are no longer renewed. Return their names.

    A file remains when its scheduler is killed and no other one starts in its queue folder. Such
    files do not count. A scheduler that was only suspended publishes again under a new name.

    Args:
        folder: Folder of all publications.
        uid: The user.
        now: Time on the clock that all processes of the machine share.
        silent_s: Age in seconds after which a file is abandoned. Much more than the time for which
            a file counts.
    """
    removed = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        names = [entry.name for entry in entries if _NAME.fullmatch(entry.name)]
        for name in names:
            if int(name.split(".")[1]) == uid and _is_abandoned(folder, name, uid, now, silent_s):
                with contextlib.suppress(OSError):
                    os.unlink(f"{folder}/{name}")  # noqa: PTH108  # as above, without a Path for each
                    removed.append(name)
    return removed


def _is_abandoned(folder: Path, name: str, uid: int, now: float, silent_s: float) -> bool:
    """Whether a file was last written long ago or before the last boot.

    The usage of its user counts for longer. The file stays until almost nothing of that usage is left.
    """
    try:
        publication = parse_publication(name, _read_owned_file(f"{folder}/{name}", uid)[0])
    except (OSError, ValueError):  # the file is gone, or no scheduler has written it
        return False
    if publication is None:
        return True
    if any(map(is_alive, publication.supervisors)):  # jobs of the queue still run
        return False
    age_s = now - publication.at
    return age_s > silent_s and not (publication.usage or ResourceUsage()).decay(age_s).is_notable


class ReservationReader:
    """Reads the folder of reservations repeatedly, and caches the owners of its files."""

    def __init__(
        self, folder: Path, complain: Complain, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Create a reader. Nothing is read yet.

        Args:
            folder: Folder of all publications.
            complain: Called with each file that is not in order and the reason.
            clock: Seconds, the same for all processes of the machine.
        """
        self.stat_calls = 0  # number of queries for the owner of a file
        self._folder, self._complain, self._clock = folder, complain, clock
        self._ignored: dict[str, int] = {}  # files that do not count → inode, since when first
        self._files_by_owner: dict[int, set[str]] = {}  # owner → files that may count
        self._folder_mtime_ns = 0  # time of the folder's last change when it was read

    def read(self, own_name: str) -> dict[str, Publication]:
        """Return what is published, by file; without what an earlier boot left.

        Args:
            own_name: our own file, which is never left out.

        Raises:
            OSError: the folder cannot be read.
        """
        publications = {}
        for name, uid in self._select_files(own_name):
            try:
                data, age_s = _read_owned_file(f"{self._folder}/{name}", uid)
            except FileNotFoundError:
                continue  # the publisher has just removed the file
            except (OSError, ValueError) as error:
                self._complain(name, getattr(error, "strerror", None) or str(error))
                continue
            try:
                publication = parse_publication(name, data, login_name(uid))
            except ValueError as error:
                publication = salvage_publication(data, login_name(uid), self._clock() - age_s)
                effect = UNREADABLE if publication else "it reserves nothing"
                self._complain(name, f"{error}: {effect}")
            if publication is not None:
                publications[name] = publication
        return publications

    def _select_files(self, own_name: str) -> list[tuple[str, int]]:
        """Return the files that may count with their owners: our own and the newest of each user."""
        new = self._find_new_files()
        for name in list(islice(self._ignored, RECHECKED_FILES)):
            del self._ignored[name]
            new.add(name)
        for name in new:
            self._classify(name)
        files = []
        for uid, names in self._files_by_owner.items():
            ages = {
                name: there.st_mtime_ns
                for name in names
                if (there := self._stat_owned_file(name, uid))
            }
            newest = sorted(
                ages, key=lambda name: (name == own_name, ages[name], name), reverse=True
            )
            if len(names) > MOST_FILES:
                self._complain(f"files of {login_name(uid)}", f"there are more than {MOST_FILES}")
            for name in newest[MOST_FILES:]:
                self._ignored[name] = self._inode(name)
            self._files_by_owner[uid] = set(newest[:MOST_FILES])
            files += [(name, uid) for name in newest[:MOST_FILES]]
        return files

    def _find_new_files(self) -> set[str]:
        """Return the files of fitting names that have not been checked yet."""
        new: set[str] = set()
        passed, there = self._ignored, None
        for _ in range(2):  # one that is replaced while a long folder is read may be left out
            changed = os.stat(self._folder).st_mtime_ns  # noqa: PTH116  # at every look
            if (
                changed == self._folder_mtime_ns
            ):  # other users may have left tens of thousands of files
                break
            there, began = 0, time.time_ns()
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    there += 1
                    name = entry.name
                    if (inode := passed.get(name)) is None:
                        if _NAME.fullmatch(name):
                            new.add(name)
                    elif inode != entry.inode():
                        new.add(name)
            self._folder_mtime_ns = changed if began - changed > CLOCK_STEP_NS else 0
        # most of the listed files are gone
        if there is not None and len(passed) > 2 * there + RECHECKED_FILES:
            passed.clear()
        return new

    def _classify(self, name: str) -> None:
        """Add a file to those of its owner or to those that do not count."""
        uid = int(name.split(".")[1])
        if self._stat_owned_file(name, uid) is not None:
            self._ignored.pop(name, None)
            self._files_by_owner.setdefault(uid, set()).add(name)

    def _stat_owned_file(self, name: str, uid: int) -> os.stat_result | None:
        """Return the status of a file, None if it is missing or not a regular file of a user."""
        self.stat_calls += 1
        try:
            there = os.lstat(f"{self._folder}/{name}")
        except OSError:
            self._ignored.pop(name, None)
            return None
        if stat.S_ISREG(there.st_mode) and there.st_uid == uid:
            return there
        self._complain(name, "it is not a regular file of the user in its name")
        self._ignored[name] = there.st_ino
        return None

    def _inode(self, name: str) -> int:
        try:
            return os.lstat(f"{self._folder}/{name}").st_ino
        except OSError:
            return 0


def _read_owned_file(path: str, uid: int) -> tuple[bytes, float]:
    """Return content and age in seconds of a user's file. Nothing that blocks, leads elsewhere or is endless is read.

    Raises:
        OSError: it is gone, a link, or not for us.
        ValueError: something else has taken its place.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    try:
        there = os.fstat(descriptor)
        if not stat.S_ISREG(there.st_mode) or there.st_uid != uid:
            raise ValueError("it is not a regular file of the user in its name")
        # a time ahead of the clock is as wrong as one behind it
        return os.read(descriptor, MOST_BYTES + 1), abs(time.time() - there.st_mtime)
    finally:
        os.close(descriptor)
