"""The folder of reservations: a file for each scheduler of the machine, read as untrusted input.

One file per publisher, `launcher-claims.<uid>.<random>.json`, directly in /dev/shm, else in /tmp. Such a folder is
root's and sticky, so no user can delete or replace what another user published; the maker of a subfolder could. The
random digits are new each time a file is made, so no other user can take the name before its publisher does.
/dev/shm is preferred: it is memory, empty after a boot, and never a service's private copy as /tmp may be. A file names
its home by a hash of its path, device and inode, so that two homes of one user, or of two containers that share the
folder, are two publishers. What is no plain file of the user whose uid its name bears, too large, or not understood,
does not count, and of each user only the newest few files do.

Anybody can make a hundred thousand files with fitting names, of other users' uids too. Whose a file is does not change
as long as its name and inode stay, so it is asked once, and a few times more in case that an inode was used again. A
user's files beyond the newest few are passed over likewise: a publisher that writes again makes a new inode.

When another scheduler replaces or removes its file, the kernel tells (inotify). Where it does not, as on some network file systems or where a user has no watch left, there is no descriptor,
and the folder is looked at once a second as before.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import re
import stat
import struct
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

from launcher.accounts import Use, Wish, read_use, read_wish
from launcher.system.config import absolute
from launcher.system.files import Json
from launcher.system.processes import Identity, alive, boot_id, login

MOST_BYTES = 64 << 10  # of a file
MOST_RESERVATIONS = 256  # of a file; and how many others it names
MOST_MEASUREMENTS = 8  # of a GPU
_DEVICE = re.compile(r"[!-~]{1,96}")
_LARGEST = 1 << 62  # bytes, or seconds
_LONGEST_FOLDER = 1024  # characters; it is printed in reasons


class Publication(NamedTuple):
    """What one scheduler has reserved, as its file states."""

    serial: str  # of this version of the file
    at: float  # on the clock that all processes of the machine share
    seen: Mapping[str, str]  # file → serial: what its publisher had counted just before
    settled: Mapping[str, int]  # resource → amount: always counts
    fresh: Mapping[str, int]  # resource → amount: new in this version
    user: str = ""  # who owns the file
    within: frozenset[str] = frozenset()  # its publisher's control groups; empty: unknown
    home: str = ""  # the hash of its publisher's home; empty: it is of an earlier version
    # GPU → (when its use was measured, what of `settled` counts for who has looked since), the oldest first
    measured: Mapping[str, tuple[tuple[float, int], ...]] = {}
    wish: Wish | None = None  # what its publisher waits for; None: nothing
    use: Use | None = (
        None  # by its publisher's home until `at`; None: an earlier version's, or unknown
    )
    heads: tuple[Identity, ...] = ()  # processes of its user for whose jobs it reserves
    folder: str = ""  # its publisher's queue folder, for messages; "" if it does not say
    odd: str = ""  # what of the file cannot be, and does not count

    def held(self, device: str, looked_at: float | None = None) -> int:
        """Return what is promised of a resource and not new; of a GPU's memory, what is not in use.

        Args:
            device: the resource.
            looked_at: when the reader last looked at the GPUs; None: unknown.
        """
        amount = self.settled.get(device, 0)
        if looked_at is None:
            return amount
        since = [held for at, held in self.measured.get(device, ()) if at <= looked_at]
        return min(amount, since[-1]) if since else amount


def parse(name: str, data: bytes, user: str = "") -> Publication | None:
    """Read what a file tells; None: it was written before the machine was last started.

    Raises:
        ValueError, RecursionError: it is not what a scheduler publishes under this name.
    """
    if len(data) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES} bytes")
    match json.loads(data):
        case {
            "schema": 1,
            "name": str(own),
            "boot": str(boot),
            "at": int() | float() as at,
            "serial": str(serial),
            "seen": dict(seen),
            "promises": list(promises),
            **more,
        } if own == name and 0 <= at <= _LARGEST and len(promises) <= MOST_RESERVATIONS:
            pass  # (a hard link to an older version bears another name)
        case _:
            raise ValueError("it is not a reservation file of this name")
    if boot != boot_id():
        return None
    settled, fresh = Counter[str](), Counter[str]()
    for promise in promises:
        match promise:
            case [str(device), int(held), int(new)] if _DEVICE.fullmatch(device) and (
                0 <= held <= _LARGEST and 0 <= new <= _LARGEST
            ):
                settled[device] += held
                fresh[device] += new
            case _:
                raise ValueError("it contains an impossible reservation")
    home, within = more.get("home"), more.get("within")
    wish, use = read_wish(more.get("wish")), read_use(more.get("use"))
    measured = _read_measured(more.get("measured"))
    odd = [
        name
        for name, value in (("wish", wish), ("use", use), ("measured", measured))
        if value is None and more.get(name) is not None
    ]
    return Publication(
        serial=serial,
        at=at,
        seen=seen,
        settled=settled,
        fresh=fresh,
        user=user,
        within=frozenset(
            name for name in (within if isinstance(within, list) else ()) if isinstance(name, str)
        ),
        home=home if isinstance(home, str) else "",
        measured=measured or {},
        wish=wish,
        use=use,
        heads=_read_heads(more.get("heads"), boot),
        folder=_read_folder(more.get("folder")),
        odd=f"its {', '.join(odd)} is impossible and is ignored" if odd else "",
    )


def _read_folder(record: object) -> str:
    """Return the queue folder that a file names; '' if it cannot be printed as it is."""
    is_shown = isinstance(record, str) and record.startswith("/") and record.isprintable()
    return str(record) if is_shown and len(str(record)) <= _LONGEST_FOLDER else ""


def _read_heads(record: object, boot: str) -> tuple[Identity, ...]:
    """Return the processes that a file names; what cannot be one is left out."""
    heads = []
    for entry in record[:MOST_RESERVATIONS] if isinstance(record, list) else []:
        match entry:
            case [int(pid), int(ticks), int(namespace)] if 0 < pid < 1 << 31:
                who = Identity(pid=pid, start_ticks=ticks, boot=boot, namespace=namespace)
                heads.append(who)
    return tuple(heads)


def _read_measured(record: object) -> dict[str, tuple[tuple[float, int], ...]] | None:
    """Return what a file tells of measurements; None: that cannot be."""
    if not isinstance(record, dict) or len(record) > MOST_RESERVATIONS:
        return None
    measured = {}
    for device, entries in record.items():
        pairs: list[tuple[float, int]] = []
        for entry in entries if isinstance(entries, list) else [None]:
            match entry:
                case [int() | float() as at, int(amount)] if (
                    0 <= at <= _LARGEST and 0 <= amount <= _LARGEST
                ):
                    pairs.append((float(at), amount))
                case _:
                    return None
        if any(before[0] > after[0] for before, after in pairwise(pairs)):
            return None
        measured[str(device)] = tuple(pairs[-MOST_MEASUREMENTS:])
    return measured


def write_publication(folder: Path, name: str, publication: Publication) -> None:
    """Replace our file so that others read the old one or the new one; nothing is synced.

    Raises:
        OSError: it cannot be written, and the old one is as it was.
        ValueError: others would not count it.
    """
    record: dict[str, Json] = {
        "schema": 1,
        "name": name,
        "boot": boot_id(),
        "at": publication.at,
        "serial": publication.serial,
        "home": publication.home,
        "folder": publication.folder,
        "within": [*sorted(publication.within)],
        # a publisher that is not named takes us for a rival, which does no harm
        "seen": {
            other: publication.seen[other] for other in sorted(publication.seen)[:MOST_RESERVATIONS]
        },
        "promises": [
            [device, publication.settled.get(device, 0), publication.fresh.get(device, 0)]
            for device in sorted({*publication.settled, *publication.fresh})
            if publication.settled.get(device)
            or publication.fresh.get(device)  # else it is all in use by now
        ],
    }
    if publication.measured:
        record["measured"] = {
            device: [[at, held] for at, held in entries[-MOST_MEASUREMENTS:]]
            for device, entries in publication.measured.items()
        }
    if publication.heads:
        record["heads"] = [
            [who.pid, who.start_ticks, who.namespace or 0]
            for who in publication.heads[:MOST_RESERVATIONS]
        ]
    if publication.wish is not None:
        record["wish"] = publication.wish.record()
    if publication.use is not None:
        record["use"] = publication.use._asdict()
    data = json.dumps(record).encode()
    parse(name, data)
    temporary = f"{folder}/.{name}.{os.urandom(8).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(temporary, flags, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fchmod(descriptor, 0o644)  # for all to read, whatever our umask is
        finally:
            os.close(descriptor)
        os.replace(temporary, f"{folder}/{name}")  # noqa: PTH105  # done often; a Path costs 10 µs
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108  # likewise
        raise


SHARED = (Path("/dev/shm"), Path("/tmp"))  # see above
MOST_FILES = 16  # of a user
CLOCK_STEP_NS = 20_000_000  # within it two changes of a folder may bear the same time
ASKED_AGAIN = 256  # files that did not count and are looked at again, at every look
_NAME = re.compile(r"launcher-claims\.(0|[1-9][0-9]{0,9})\.[0-9a-f]{8}\.json")

Complain = Callable[[str, str], None]  # called with a file that does not count, and why


def reservations_folder(environ: Mapping[str, str], shared: Iterable[Path] = SHARED) -> Path:
    """Return where the schedulers of this machine publish: LAUNCHER_CLAIMS, else a shared folder.

    Raises:
        UsageError: LAUNCHER_CLAIMS is a relative path.
    """
    named = environ.get("LAUNCHER_CLAIMS", "")
    if named:
        return absolute("LAUNCHER_CLAIMS", named)
    folders = tuple(shared)
    return next(filter(_keeps_files, folders), folders[-1])


def _keeps_files(folder: Path) -> bool:
    """Tell whether no user can delete in this folder what another one made."""
    try:
        there = folder.stat()
    except OSError:
        return False
    return stat.S_ISDIR(there.st_mode) and bool(there.st_mode & stat.S_ISVTX) and there.st_uid == 0


def is_claims_file(name: str) -> bool:
    """Tell whether a file of this name may be a scheduler's."""
    return _NAME.fullmatch(name) is not None


def new_name(uid: int) -> str:
    """Return a name for a file in which a user's queue publishes, that cannot be guessed before."""
    return f"launcher-claims.{uid}.{os.urandom(4).hex()}.json"


def home_hash(home: Path) -> str:
    """Return by what a file names its publisher's home."""
    where = str(home)
    with contextlib.suppress(OSError):
        there = home.stat()  # two containers may call theirs alike
        where += f" {there.st_dev} {there.st_ino}"
    return hashlib.sha256(where.encode(errors="surrogateescape")).hexdigest()[:32]


def file_name(uid: int, home: Path) -> str:
    """Return the name of the file in which version 0.2 published for a user's queue."""
    return f"launcher-claims.{uid}.{home_hash(home)[:8]}.json"


def remove_abandoned(folder: Path, uid: int, now: float, silent_s: float) -> list[str]:
    """Remove a user's files that nobody renews any more; return their names.

    A file is left when its scheduler is killed and none follows in its home. Such files count for nobody.
    A scheduler that only stood still for so long publishes again, under a new name, when it goes on.

    Args:
        folder: where all publish.
        uid: the user.
        now: on the clock that all processes of the machine share.
        silent_s: who was silent for longer is gone; much more than the time for which a file counts.
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
    """Tell whether a file was last written long ago, or before the machine was last started.

    What its user has used counts for longer, and the file stays until next to nothing of that is left.
    """
    try:
        publication = parse(name, _content(f"{folder}/{name}", uid))
    except (OSError, ValueError, RecursionError):  # it is gone, or no scheduler has written it
        return False
    if publication is None:
        return True
    if any(map(alive, publication.heads)):  # its jobs run on
        return False
    age_s = now - publication.at
    return age_s > silent_s and not (publication.use or Use()).after(age_s).is_notable


class ReservationReader:
    """Reads the folder of reservations repeatedly, and caches the owners of its files."""

    def __init__(self, folder: Path, complain: Complain) -> None:
        """Begin without having looked.

        Args:
            folder: where all publish.
            complain: called with what does not count.
        """
        self.asked = 0  # how often it was asked whose a file is
        self._folder, self._complain = folder, complain
        self._passed: dict[str, int] = {}  # files that do not count → inode, since when first
        self._theirs: dict[int, set[str]] = {}  # owner → files that may count
        self._seen = 0  # when the folder had changed last, of all that was there then

    def read(self, own: str) -> dict[str, Publication]:
        """Return what is published, by file; without what an earlier boot left.

        Args:
            own: our own file, which is never left out.

        Raises:
            OSError: the folder cannot be read.
        """
        publications = {}
        for name, uid in self._files(own):
            try:
                publication = parse(name, _content(f"{self._folder}/{name}", uid), login(uid))
            except FileNotFoundError:
                continue  # its publisher has just removed it
            except (OSError, ValueError, RecursionError) as error:
                self._complain(name, getattr(error, "strerror", None) or str(error))
                continue
            if publication is not None:
                publications[name] = publication
        return publications

    def _files(self, own: str) -> list[tuple[str, int]]:
        """Return the files that may count, each with its owner: of each user ours and the newest."""
        new = self._new()
        for name in list(islice(self._passed, ASKED_AGAIN)):
            del self._passed[name]
            new.add(name)
        for name in new:
            self._sort_in(name)
        files = []
        for uid, names in self._theirs.items():
            ages = {name: there.st_mtime_ns for name in names if (there := self._ask(name, uid))}
            newest = sorted(ages, key=lambda name: (name == own, ages[name], name), reverse=True)
            if len(names) > MOST_FILES:
                self._complain(f"files of {login(uid)}", f"there are more than {MOST_FILES}")
            for name in newest[MOST_FILES:]:
                self._passed[name] = self._inode(name)
            self._theirs[uid] = set(newest[:MOST_FILES])
            files += [(name, uid) for name in newest[:MOST_FILES]]
        return files

    def _new(self) -> set[str]:
        """Return the files of fitting names that have not been checked yet."""
        new: set[str] = set()
        passed, there = self._passed, None
        for _ in range(2):  # one that is replaced while a long folder is read may be left out
            changed = os.stat(self._folder).st_mtime_ns  # noqa: PTH116  # at every look
            if changed == self._seen:  # strangers may have left tens of thousands of files
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
            self._seen = changed if began - changed > CLOCK_STEP_NS else 0
        if there is not None and len(passed) > 2 * there + ASKED_AGAIN:  # most of them are gone
            passed.clear()
        return new

    def _sort_in(self, name: str) -> None:
        """Put a file with those of its owner, or with those that do not count."""
        uid = int(name.split(".")[1])
        if self._ask(name, uid) is not None:
            self._passed.pop(name, None)
            self._theirs.setdefault(uid, set()).add(name)

    def _ask(self, name: str, uid: int) -> os.stat_result | None:
        """Return how a file is, None where it is no plain file of a user, or is gone."""
        self.asked += 1
        try:
            there = os.lstat(f"{self._folder}/{name}")
        except OSError:
            self._passed.pop(name, None)
            return None
        if stat.S_ISREG(there.st_mode) and there.st_uid == uid:
            return there
        self._complain(name, "it is not a regular file of the user in its name")
        self._passed[name] = there.st_ino
        return None

    def _inode(self, name: str) -> int:
        try:
            return os.lstat(f"{self._folder}/{name}").st_ino
        except OSError:
            return 0


def _content(path: str, uid: int) -> bytes:
    """Read another user's file if it is one: nothing that blocks, leads elsewhere or is endless.

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
        return os.read(descriptor, MOST_BYTES + 1)
    finally:
        os.close(descriptor)


_MOVED_TO, _DELETE, _OVERFLOW, _IGNORED = 0x80, 0x200, 0x4000, 0x8000  # <sys/inotify.h>
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, bytes of the name that follows
_BYTES = 1 << 16
NONE = -1


class ReservationWatch:
    """A descriptor that is readable when something has changed in the folder of reservations."""

    def __init__(self, folder: Path | None) -> None:
        """Begin to watch; where that cannot be, or no folder is given, `descriptor` is NONE."""
        self.descriptor = NONE
        if folder is not None:
            with contextlib.suppress(OSError, AttributeError):
                self.descriptor = _watch(folder)

    def changed(self, own: Collection[str]) -> bool:
        """Take in what happened; tell whether a file of another scheduler has changed.

        Args:
            own: the names of our own file, now and before.
        """
        if self.descriptor == NONE:
            return False
        changed = False
        while True:
            try:
                events = os.read(self.descriptor, _BYTES)
            except BlockingIOError:
                return changed
            except OSError:  # it cannot be watched any more
                self.close()
                return True
            changed = _tells_of_others(events, own) or changed
            if _mask(events) & _IGNORED:  # the folder was deleted
                self.close()
                return True

    def close(self) -> None:
        """Watch no more."""
        if self.descriptor != NONE:
            os.close(self.descriptor)
            self.descriptor = NONE


def _watch(folder: Path) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    descriptor = int(library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    path = os.fsencode(folder)
    if library.inotify_add_watch(descriptor, path, ctypes.c_uint32(_MOVED_TO | _DELETE)) < 0:
        number = ctypes.get_errno()
        os.close(descriptor)
        raise OSError(number, "inotify_add_watch")
    return descriptor


def _tells_of_others(events: bytes, own: Collection[str]) -> bool:
    at = 0
    while at + _EVENT.size <= len(events):
        _, mask, _, length = _EVENT.unpack_from(events, at)
        name = os.fsdecode(events[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0"))
        at += _EVENT.size + length
        if mask & _OVERFLOW or (is_claims_file(name) and name not in own):
            return True
    return False


def _mask(events: bytes) -> int:
    """Return the bits of all events together."""
    at, mask = 0, 0
    while at + _EVENT.size <= len(events):
        _, bits, _, length = _EVENT.unpack_from(events, at)
        mask |= bits
        at += _EVENT.size + length
    return mask
