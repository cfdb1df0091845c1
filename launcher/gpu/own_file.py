"""Our file in the folder of reservations: its name, which changes, and what schedulers before us left of our home."""

import contextlib
from collections import deque
from collections.abc import Collection, Mapping
from pathlib import Path

from launcher.gpu.publication import Publication
from launcher.gpu.reservation_files import file_name, home_hash, new_name

MOST_NAMES = 64  # of our file that are remembered


class OwnFile:
    """The names under which our home's reservations lie in the folder.

    Attributes:
        name: of our file.
        home: by which files of our home are known.
    """

    def __init__(self, folder: Path, home: Path, uid: int) -> None:
        """Choose a name; nothing is written.

        Args:
            folder: where all publish.
            home: the queue's folder; only one scheduler at a time works for it.
            uid: the user.
        """
        self._folder, self._uid = folder, uid
        self.home, self._old_name = home_hash(home), file_name(uid, home)
        self.name = new_name(uid)
        self._names = deque([self.name], maxlen=MOST_NAMES)
        self._left: set[str] = set()  # files of our home that a predecessor left

    @property
    def names(self) -> Collection[str]:
        """The names of our file, now and before."""
        return self._names

    def rename(self) -> None:
        """Choose another name for what is written next."""
        self.name = new_name(self._uid)
        self._names.append(self.name)

    def find(self, publications: Mapping[str, Publication]) -> set[str]:
        """Return which files are of our home; those that are not our own have been left behind."""
        own = {
            name for name, publication in publications.items() if self._is_ours(name, publication)
        }
        self._left = own - {self.name}
        return own

    def _is_ours(self, name: str, publication: Publication) -> bool:
        """Tell whether a file is of our home: only one scheduler at a time works for it."""
        if name == self.name:
            return True
        if publication.home:
            return publication.home == self.home and name.split(".")[1] == str(self._uid)
        return name == self._old_name

    def remove(self) -> None:
        """Remove our file.

        Raises:
            OSError: it cannot be removed.
        """
        (self._folder / self.name).unlink(missing_ok=True)

    def remove_left(self) -> None:
        """Remove what a predecessor left; what is reserved now stands in our file."""
        for name in self._left:
            with contextlib.suppress(OSError):
                (self._folder / name).unlink(missing_ok=True)
        self._left = set()
