"""What the image files of a training and its tests tell: headers of a sample, and equal bytes.

Bounded: a few hundred headers a class, and as many bytes as there is time for. Files of different
sizes cannot be equal, so that of large sets few are read.
"""

import hashlib
import os
import random
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trueface.audit.run_facts import Survey
from trueface.data.file_headers import Header, sample_headers

SEED = 42  # of the order in which test files are compared


@dataclass(slots=True, kw_only=True)
class Surveyor:
    """Looks at image files until its time is over; each set is looked at once."""

    seconds: float
    clock: Callable[[], float] = time.monotonic
    _spent: float = 0.0
    _digests: dict[str, str] = field(default_factory=dict)
    _looked: dict[str, tuple[tuple[Header, ...], int]] = field(default_factory=dict)
    _sizes: dict[str, Mapping[int, Sequence[str]]] = field(default_factory=dict)
    _compared: dict[tuple[str, tuple[str, ...]], tuple[tuple[tuple[str, str], ...], int]] = field(
        default_factory=dict
    )

    def survey(self, name: str, trained: Mapping[str, int], tested: Sequence[str]) -> Survey:
        """Return what the files tell.

        Args:
            name: of the training set; what was found of it once is told again.
            trained: training file → label.
            tested: test files.
        """
        if name not in self._looked:
            self._looked[name] = sample_headers(trained)
        looks, unreadable = self._looked[name]
        pair = name, tuple(tested)
        if pair not in self._compared:
            began = self.clock()
            self._compared[pair] = self._copies(name, trained, tested)
            self._spent += self.clock() - began
        copies, left = self._compared[pair]
        return Survey(
            looks=looks,
            unreadable=unreadable,
            copies=copies,
            trained=len(trained),
            tested=len(tested),
            left=left,
        )

    def _copies(
        self, name: str, trained: Mapping[str, int], tested: Sequence[str]
    ) -> tuple[tuple[tuple[str, str], ...], int]:
        """Return pairs of equal files, and how many test files were not compared."""
        until = self.clock() + self.seconds - self._spent
        if name not in self._sizes:
            sizes: dict[int, list[str]] = defaultdict(list)
            for file in trained:
                if self.clock() > until:
                    return (), len(tested)
                sizes[_size(file)].append(file)
            sizes.pop(-1, None)
            self._sizes[name] = sizes
        by_size = self._sizes[name]
        pairs: list[tuple[str, str]] = []
        # in an order of chance, so that those for which there is time are a fair sample
        order = random.Random(SEED).sample(list(tested), len(tested))
        for place, file in enumerate(order):
            if self.clock() > until:
                return tuple(sorted(pairs)), len(order) - place
            for other in by_size.get(_size(file), ()):
                if other != file and self._digest(other) == self._digest(file):
                    pairs.append((other, file))
                    break
        return tuple(sorted(pairs)), 0

    def _digest(self, file: str) -> str:
        if file not in self._digests:
            try:
                with Path(file).open("rb") as stream:
                    self._digests[file] = hashlib.file_digest(stream, "sha256").hexdigest()
            except OSError:
                self._digests[file] = f"unreadable {file}"  # equal to no other
        return self._digests[file]


def _size(file: str) -> int:
    try:
        return os.stat(file).st_size  # noqa: PTH116  # a Path for each of 200,000 files takes longer
    except OSError:
        return -1
