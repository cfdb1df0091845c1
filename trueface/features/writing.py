"""What was computed becomes shards: as far as it is sure what it was computed of, and as there is room."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trueface.features import creation_lock, limit, shard
from trueface.features.file_digests import FileDigests
from trueface.features.folder import LIMIT
from trueface.features.shard import Shard
from trueface.features.wanted import Wanted

MOST_SHARDS = 8  # of a view; more are made one
SMALL_BYTES = 32 << 20  # of a shard that is worth making one with others

log = logging.getLogger(__name__)


def write_piece(
    root: Path, wanted: Wanted, piece: Shard, digests: FileDigests, limit_bytes: int
) -> Shard:
    """Return a piece as a map of the shard that it becomes; as it is where it shall not be stored.

    Args:
        root: of the store, where the caller holds the lock of the view.
        wanted: what the piece was computed for.
        piece: features in memory.
        digests: of the images' files.
        limit_bytes: of all shards.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    good = wanted.unchanged(piece, digests)
    if len(good) < len(piece.keys):
        log.warning(
            "features=not stored images=%d reason=their files changed while they were read",
            len(piece.keys) - len(good),
        )
        if not good:
            return piece
        keys = tuple(piece.keys[row] for row in good)
        rest = piece._replace(keys=keys, features=piece.features[good])
        write_piece(root, wanted, rest, digests, limit_bytes)
        return piece
    need_bytes = shard.size_bytes(*piece.features.shape)
    lock = creation_lock.path_of(root, wanted.stem)
    if not limit.make_room(root, need_bytes, limit_bytes, but=lock):
        log.warning(
            "features=not stored bytes=%d limit=%d reason=they do not fit; set %s higher",
            need_bytes, limit_bytes, LIMIT,
        )  # fmt: skip
        return piece
    return shard.write(root, wanted.stem, wanted.identity, piece)


def merge(root: Path, wanted: Wanted, shards: Sequence[Shard]) -> None:
    """Make one shard of the small ones of a view, where many small jobs left many.

    Args:
        root: of the store, where the caller holds the lock of the view.
        wanted: of the view.
        shards: that lie there.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    small = [each for each in shards if each.features.nbytes < SMALL_BYTES]
    if len(small) <= MOST_SHARDS:
        return
    rows = {
        key: features
        for each in small
        for key, features in zip(each.keys, each.features, strict=True)
    }
    seconds = sum(each.seconds for each in small)
    merged = Shard(None, tuple(rows), np.stack(list(rows.values())), seconds)
    written = shard.write(root, wanted.stem, wanted.identity, merged)
    for each in small:
        if each.path is not None and each.path != written.path:
            each.path.unlink(missing_ok=True)
