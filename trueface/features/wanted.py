"""What a job wants of the store: rows, what they depend on, which are missing, how they are computed."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import PIL
import simplejpeg

from trueface.data.dataset import Batch, ImageSet
from trueface.data.loaders import Pass
from trueface.features.body import FrozenBody
from trueface.features.file_digests import FileDigests
from trueface.features.matrix import Cost, FeatureMatrix, Features
from trueface.features.shard import BODY_DIGITS, FLOAT, Shard
from trueface.runtime.artifact import FileMark
from trueface.runtime.errors import BadImageError, DataError
from trueface.runtime.files import Json, code_digest

SHARD_BYTES = 256 << 20  # of features that are computed before they are handed over


SCHEMA = 1
# what makes pixels and features; and packages of which a setting names the modules
CODE = (
    "trueface.features.bank:Bank",
    "trueface.corruptions.kinds",
    "trueface.data.augmentations",
    "trueface.data.forging.types",
    "trueface.data.qualities",
    "trueface.models.architectures",
)

# by position: the key of the row, and the status of its file; None: it may change without a trace
Rows = dict[int, tuple[FileMark | None, bytes]]


def identity_of(body: FrozenBody, image_set: ImageSet, view: int) -> dict[str, Json]:
    """Return what every row of a shard depends on.

    Args:
        body: that the images pass.
        image_set: decodes and transforms them.
        view: which of its transform's views.
    """
    facts: dict[str, Json] = {
        "schema": SCHEMA,
        **body.identity,
        "code_sha256": code_digest(*CODE),
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "simplejpeg": str(getattr(simplejpeg, "__version__", "")),
        "transform": dict(image_set.transform.id.of_view),
        "scale_to": image_set.scale_to,
        "view": view,
    }
    plain: dict[str, Json] = json.loads(json.dumps(facts))  # as a shard's header holds it
    return plain


def stem_of(identity: Mapping[str, Json]) -> str:
    """Return what the names of a view's files begin with: of the body, of all, and the view."""
    text = json.dumps(identity, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{str(identity['body_sha256'])[:BODY_DIGITS]}-{digest[:32]}-v{identity['view']}"


def row_keys(
    image_set: ImageSet, positions: Sequence[int], hashes: Sequence[bytes]
) -> tuple[bytes, ...]:
    """Return what rows depend on besides their shard's identity, as 32 bytes each.

    Args:
        image_set: of the images.
        positions: of the images in the set.
        hashes: the SHA-256 of each image's file.
    """
    # random numbers follow from an image's name; where there are none, only its bytes count
    transform = image_set.transform.id
    keys = []
    for position, sha256 in zip(positions, hashes, strict=True):
        name = image_set.images[position].name
        own = transform.of_row.get(name, "")
        facts = f"{'' if transform.is_test else name}\n{position in image_set.stamped:d}\n{own}"
        keys.append(hashlib.sha256(facts.encode(errors="surrogateescape") + sha256).digest())
    return tuple(keys)


def add_rows(
    rows: Rows, image_set: ImageSet, positions: Sequence[int], digests: FileDigests
) -> None:
    """Look at the files of images that `rows` lacks, and add their keys."""
    new = [position for position in positions if position not in rows]
    marks: list[FileMark | None] = []
    hashes: list[bytes] = []
    for position in new:
        try:
            mark, sha256, is_sure = digests.of(image_set.images[position].file)
        except OSError:  # decoding it will say why
            # whatever it will hold, it is the row of no other image
            mark, sha256, is_sure = None, f"unreadable/{position}".encode(), False
        marks.append(mark if is_sure else None)
        hashes.append(sha256)
    keys = row_keys(image_set, new, hashes)
    rows.update(zip(new, zip(marks, keys, strict=True), strict=True))


@dataclass(frozen=True)
class Wanted:
    """What a job wants of the store: one view of images of a feed."""

    body: FrozenBody
    feed: Pass
    view: int
    positions: tuple[int, ...]  # of the images in the feed's set, rising
    marks: tuple[FileMark | None, ...]  # of their files; None: it says nothing
    keys: tuple[bytes, ...]  # of their rows

    @classmethod
    def of(
        cls, body: FrozenBody, feed: Pass, view: int, positions: Sequence[int], rows: Rows
    ) -> "Wanted":
        """Return the rows of images at some positions; `rows` has them, see `add_rows`."""
        marks = tuple(rows[position][0] for position in positions)
        keys = tuple(rows[position][1] for position in positions)
        return cls(body, feed, view, tuple(positions), marks, keys)

    @cached_property
    def identity(self) -> dict[str, Json]:
        """What all rows depend on."""
        return identity_of(self.body, self.feed.image_set, self.view)

    @cached_property
    def stem(self) -> str:
        """What the names of the view's files begin with."""
        return stem_of(self.identity)

    def missing_from(self, shards: Sequence[Shard]) -> list[int]:
        """Return the positions whose rows no shard has."""
        there = {key for shard in shards for key in shard.keys}
        pairs = zip(self.positions, self.keys, strict=True)
        return [position for position, key in pairs if key not in there]

    def computed(
        self, positions: Sequence[int], stop: threading.Event, report: Callable[[int], None]
    ) -> Iterator[Shard]:
        """Pass images through the body; yield pieces that lie in memory, until stopped.

        Args:
            positions: of the images.
            stop: ends the pass after a batch.
            report: called after each batch with how many images are done.

        Raises:
            DataError: not one image of the feed could be read, or it stops at bad ones.
        """
        most = max(SHARD_BYTES // (self.body.width * FLOAT.itemsize), 1)
        features: list[Features] = []
        rows: list[int] = []
        done, began = 0, time.monotonic()
        for batch in self._batches(positions):
            features.append(self.body(batch.images).cpu().numpy())
            rows += batch.indices.tolist()
            report(done + len(rows))
            if len(rows) >= most or stop.is_set():
                yield self._shard(features, rows, time.monotonic() - began)
                done, began = done + len(rows), time.monotonic()
                features, rows = [], []
            if stop.is_set():
                return
        if rows:
            yield self._shard(features, rows, time.monotonic() - began)

    def unchanged(self, piece: Shard, digests: FileDigests) -> list[int]:
        """Return the rows of a piece whose files hold what they held when their keys were made."""
        positions = {key: position for position, key in enumerate(self.keys)}
        return [row for row, key in enumerate(piece.keys) if self._holds(positions[key], digests)]

    def matrix(self, shards: Sequence[Shard], computed: Sequence[Shard]) -> FeatureMatrix:
        """Return the wanted rows of shards, and of what was computed now."""
        pieces = (*shards, *computed)
        places = {
            key: (number, row) for number, piece in enumerate(pieces)
            for row, key in enumerate(piece.keys)
        }  # fmt: skip
        pairs = zip(self.positions, self.keys, strict=True)
        there = [(position, *places[key]) for position, key in pairs if key in places]
        positions, part, row = np.array(there, dtype=np.int64).reshape(-1, 3).T
        used = np.bincount(part, minlength=len(pieces))
        seconds = [
            piece.seconds * count / len(piece.keys)
            for piece, count in zip(pieces, used.tolist(), strict=True)
        ]
        new = sum(len(piece.keys) for piece in computed)
        cost = Cost(
            read=len(positions) - new,
            computed=new,
            seconds=sum(seconds),
            saved_s=sum(seconds[: len(shards)]),
        )
        parts = tuple(piece.features for piece in pieces)
        return FeatureMatrix(parts, part, row, positions, cost)

    def _batches(self, positions: Sequence[int]) -> Iterator[Batch]:
        """Yield the images at some positions in their order; bad ones are noted in the set."""
        unshuffled = replace(self.feed, shuffle_seed=None)
        try:
            yield from unshuffled.over(positions, self.view)
        except BadImageError:
            raise
        except DataError:
            bad = self.feed.image_set.bad
            if len(positions) == len(self.positions) or any(at not in bad for at in positions):
                raise
            # those that could be read are stored

    def _shard(self, features: list[Features], rows: list[int], seconds: float) -> Shard:
        keys = dict(zip(self.positions, self.keys, strict=True))
        return Shard(None, tuple(keys[row] for row in rows), np.concatenate(features), seconds)

    def _holds(self, place: int, digests: FileDigests) -> bool:
        mark, position = self.marks[place], self.positions[place]
        file = self.feed.image_set.images[position].file
        try:
            if mark is not None and FileMark.of(file) == mark:
                return True
            sha256 = digests.of(file)[1]
        except OSError:
            return False
        return row_keys(self.feed.image_set, [position], [sha256]) == (self.keys[place],)
