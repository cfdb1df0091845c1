"""DFDC in its own folders: parts with videos and metadata.json.

Source: B. Dolhansky et al., "The DeepFake Detection Challenge (DFDC) Dataset", arXiv 2006.07397. A file maps the name
of each video next to it → {label, split, original}; `original` is the real video that a fake was made of. All public
parts have the split "train", so lists are drawn. A fake is in the list of its real video. Sources have DeepfakeBench's
names.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trueface.data.imports.registry import (
    CLASSES,
    REAL,
    FolderImages,
    ImportedImage,
    LayoutOptions,
    image_folders,
    register_layout,
    subfolders,
)
from trueface.runtime.errors import DataError

METADATA = "metadata.json"
SOURCES = ("DFDC_Real", "DFDC_Fake")  # by label
MOST_BYTES = 1 << 26  # bytes of a file; those of the set have 0.5 MB


@register_layout(
    "dfdc",
    summary="DFDC in its own folders (videos and metadata.json)",
    reads_videos=True,
    expects="a file metadata.json next to the videos, in the folder or in folders such as dfdc_train_part_0/",
    tables=(METADATA, f"*/{METADATA}"),
)
class Dfdc:
    """A class is a source, a video a folder of frames."""

    def fits(self, folder: Path) -> bool:
        """Return whether a file describes videos as DFDC does."""
        return any(_is_description(path) for path in _files(folder))

    def images(self, folder: Path, options: LayoutOptions) -> Iterator[ImportedImage]:
        """Yield the frames of all videos that a file describes.

        Raises:
            DataError: a file cannot be read.
        """
        for path in _files(folder):
            if not _is_description(path):
                continue
            entries = {Path(name).stem: entry for name, entry in _read(path).items()}
            for video in image_folders(path.parent, frames=options.frames):
                if len(video.parts) == 1 and (entry := entries.get(video.parts[0])) is not None:
                    yield from _frames(path, video, entry)


def _frames(path: Path, video: FolderImages, entry: Any) -> Iterator[ImportedImage]:
    name = video.parts[0]
    try:
        label = CLASSES[str(entry["label"]).casefold()]
        original = Path(str(entry.get("original") or "")).stem
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: {name} has no label FAKE or REAL. Use the file of the set."
        ) from error
    for frame in video.names:
        yield ImportedImage(
            f"{video.path}/{frame}",
            label,
            SOURCES[label],
            f"{name}/{frame}",
            ties=(f"DFDC {name if label == REAL else original or name}",),
            is_frame=True,
            original="" if label == REAL or not original else f"{path.parent}/{original}",
        )


def _files(folder: Path) -> list[Path]:
    places = [folder, *(folder / name for name in subfolders(folder))]
    return [path for each in places if (path := each / METADATA).is_file()]


def _is_description(path: Path) -> bool:
    """Return whether the start of a file describes a video."""
    with path.open("rb") as file:
        start = file.read(1 << 10).decode(errors="replace")
    return re.match(r'\s*\{\s*"[^"]+"\s*:\s*\{[^{}]*"label"\s*:\s*"(FAKE|REAL)"', start) is not None


def _read(path: Path) -> Mapping[str, Any]:
    if path.stat().st_size > MOST_BYTES:
        raise DataError(f"{path} is larger than {MOST_BYTES >> 20} MiB. Use the file of the set.")
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot read {path}: {error}. Use the file of the set.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a JSON object of videos. Use the file of the set.")
    return content
