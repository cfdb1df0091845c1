"""DeepfakeBench: FaceForensics++, Celeb-DF, DFDC and others as frames, with a JSON file a set.

Source: Z. Yan et al., "DeepfakeBench", NeurIPS 2023 Datasets and Benchmarks, arXiv 2307.01426. A
file maps set → label → list → [compression →] video → {label, frames}. There a video is known by
the name of its folder, which two sets may share; here by the path of that folder.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from trueface.data.folders import is_image
from trueface.data.imports.people import people_of_video
from trueface.data.imports.registry import (
    CLASSES,
    FAKE,
    REAL,
    ImportedImage,
    LayoutOptions,
    contents,
    register_layout,
    subfolders,
)
from trueface.data.splits.split_files import NAMES
from trueface.runtime.errors import DataError

COMPRESSIONS = ("c23", "c40", "raw")
JSON_FOLDERS = ("", "dataset_json", "preprocessing/dataset_json", "rgb", "datasets/rgb")
MOST_BYTES = 1 << 30  # bytes of a JSON file; that of the largest set, DFDC, has about 300 MB
_FRAMES = "frames"
_SEQUENCES = frozenset({"original_sequences", "manipulated_sequences"})


@register_layout(
    "deepfakebench",
    summary="FaceForensics++, Celeb-DF, … in the format of DeepfakeBench (JSON and frames)",
    expects="a file such as FaceForensics++.json (set → label → list → video → frames), in the "
    "folder, in dataset_json/ or preprocessing/dataset_json/, or that file itself",
    tables=tuple(f"{place}/*.json".lstrip("/") for place in JSON_FOLDERS),
)
class DeepfakeBench:
    """A label of a file is a source, a compression a modifier, the folder of a video a folder."""

    def fits(self, folder: Path) -> bool:
        """Return whether any file next to the frames describes videos."""
        return any(_is_description(path) for path in _json_files(folder))

    def images(self, folder: Path, options: LayoutOptions) -> Iterator[ImportedImage]:
        """Yield the frames of all files; one that several files name is yielded for each."""
        top = folder.parent if folder.is_file() else folder
        for path in _json_files(folder):
            if _is_description(path):
                yield from _frames(path, _read(path), top, options.real)


def _json_files(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder] if folder.suffix == ".json" else []
    places = [folder / name for name in JSON_FOLDERS]
    return [
        path for folder in places for path in sorted(folder.glob("[!.]*.json")) if path.is_file()
    ]


def _is_description(path: Path) -> bool:
    """Return whether the start of a file, which may be large, is a description of videos."""
    with path.open("rb") as file:
        start = file.read(1 << 16).decode(errors="replace").lstrip("\ufeff")
    return (
        re.match(r'\s*\{\s*"[^"]+"\s*:\s*\{\s*"[^"]+"\s*:\s*\{\s*"(train|val|test)"', start)
        is not None
    )


def _read(path: Path) -> Mapping[str, Any]:
    if path.stat().st_size > MOST_BYTES:
        raise DataError(f"{path} is larger than {MOST_BYTES >> 20} MiB. Import its parts.")
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a JSON object of data sets")
    return content


def _frames(
    path: Path, content: Mapping[str, Any], top: Path, real: Collection[str]
) -> Iterator[ImportedImage]:
    places = _Places(path, top)
    for dataset, label, name, compression, video, entry in _videos(path, content):
        frames = entry.get("frames") if isinstance(entry, dict) else None
        if not isinstance(frames, list):
            raise DataError(f"{path}: video {video} of {label} has no list of frames")
        for frame in frames:
            posix = str(frame).replace("\\", "/")
            file = places.find(posix)
            if file is None or not is_image(posix.rpartition("/")[2]):
                continue
            below, people = _video_of(posix, dataset)
            yield ImportedImage(
                file,
                REAL if label in real or _says_real(label) else FAKE,
                label,
                f"{below}/{posix.rpartition('/')[2]}",
                compression or "pre",
                ties=people,
                is_frame=True,
                lists=(name,),
            )
    places.complain()


def _says_real(label: str) -> bool:
    """Return whether the last word of a label means real: "FF-real", "DFDC_Real", "pristine"."""
    return CLASSES.get(re.split(r"[^a-z]+", label.casefold())[-1]) == REAL


def _videos(
    path: Path, content: Mapping[str, Any]
) -> Iterator[tuple[str, str, str, str, str, Any]]:
    """Yield set, label, list, compression, video and its entry."""
    try:
        for dataset, labels in content.items():
            for label, lists in labels.items():
                for name in NAMES:
                    for key, value in lists.get(name, {}).items():
                        if key in COMPRESSIONS and "frames" not in value:
                            for video, entry in value.items():
                                yield dataset, label, name, key, video, entry
                        elif key not in {"label", "frames"}:  # an entry in the place of a list
                            yield dataset, label, name, "", key, value
    except AttributeError as error:
        raise DataError(
            f"{path} does not describe videos. Expected set → label → list → video → frames."
        ) from error


def _video_of(frame: str, dataset: str) -> tuple[str, tuple[str, ...]]:
    """Return the folder of a frame's video below its source, and the people in it.

    Folders that distinguish videos of one name are kept, such as Celeb-real and YouTube-real: all
    folders between that of the set and `frames`, without compressions.
    """
    parts = [part for part in frame.split("/")[:-1] if part]
    at = max((n for n, part in enumerate(parts) if part == _FRAMES), default=len(parts) - 1)
    video, above = parts[at + 1 :] or parts[-1:], parts[:at]
    if begin := next((n for n, part in enumerate(above, start=1) if part in _SEQUENCES), 0):
        above = above[begin + 1 :]  # manipulated_sequences/Deepfakes: the label says it
    elif dataset in above:
        above = above[len(above) - above[::-1].index(dataset) :]
    else:
        above = above[-1:]
    return "/".join(
        (*(part for part in above if part not in COMPRESSIONS), *video)
    ), people_of_video(video[-1])


class _Places:
    """Finds frames whose paths were written on another machine: their last parts, below `top`."""

    def __init__(self, path: Path, top: Path) -> None:
        self.path, self.top = path, top
        self.cut: tuple[Path, int] | None = None  # folder, and how many parts to leave out
        self.there, self.lacking = 0, list[str]()
        self.tried: set[str] = set()  # folders of frames: one frame of each is looked for
        bases = [top, top.parent, *(top / name for name in subfolders(top)), path.parent]
        self.bases = list(dict.fromkeys(bases))

    def find(self, frame: str) -> str | None:
        """Return the file of a frame; None, and noted, where there is none."""
        parts = [part for part in frame.split("/") if part not in {"", "."}]
        if ".." in parts:
            raise DataError(f"{self.path}: frame {frame} is outside its folder")
        folder = "/".join(parts[:-1])
        if self.cut is None and folder not in self.tried:
            self.tried.add(folder)
            self.cut = next(
                (
                    (base, cut)
                    for cut in range(len(parts))
                    for base in self.bases
                    if base.joinpath(*parts[cut:]).is_file()
                ),
                None,
            )
        if self.cut is not None:
            file = "/".join((str(self.cut[0]), *parts[self.cut[1] :]))
            self.there += 1
            return file
        if frame.startswith("/") and Path(frame).is_file():
            return frame
        self.lacking.append(frame)
        return None

    def complain(self) -> None:
        """Raise where not one frame of a file is there.

        Raises:
            DataError: says where they were looked for.
        """
        if self.lacking and not self.there:
            raise DataError(
                f"no frame of {self.path} was found in {self.top} (contents: "
                f"{contents(self.top)}). The first expected file is {self.lacking[0]}."
            )
