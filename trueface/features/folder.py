"""Where the feature store lies, and how large it may become: what a plan asks, without numpy."""

import os
import shutil
from pathlib import Path

from trueface.runtime import cache_folder

FOLDER = "features"  # in the cache folder
LIMIT = "TRUEFACE_FEATURES_LIMIT"  # environment variable: "20GiB"
MOST_BYTES = 20 << 30
SHARE = 10  # the store takes a tenth of a disk at most


def store_folder() -> Path | None:
    """Return the folder of the user's store, which need not be there; None where there is no home."""
    folder = cache_folder.cache_folder()
    return None if folder is None else folder / FOLDER


def limit_bytes(folder: Path) -> int:
    """Return how many bytes a store in `folder` may take.

    Raises:
        UsageError: the environment holds no size.
    """
    there = next(path for path in (folder, *folder.parents) if path.exists())
    most = min(MOST_BYTES, shutil.disk_usage(there).total // SHARE)
    return cache_folder.limit_bytes(LIMIT, os.environ, most)
