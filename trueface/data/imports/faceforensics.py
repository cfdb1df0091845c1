"""FaceForensics++ in its own folders, as videos or as one folder of frames per video.

Source: A. Rössler et al., "FaceForensics++", ICCV 2019, arXiv 1901.08971. The files of the official
split, train.json, val.json and test.json, list pairs of people: [["071", "054"], …]. Both videos of a
pair and all swaps between them are in the list. Sources have DeepfakeBench's names.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from trueface.data.imports.people import people_of_video
from trueface.data.imports.registry import (
    FAKE,
    REAL,
    ImportedImage,
    LayoutOptions,
    image_folders,
    register_layout,
    subfolders,
)
from trueface.runtime.errors import DataError

SEQUENCES: Mapping[str, int] = {"original_sequences": REAL, "manipulated_sequences": FAKE}
# folders of the set, and the label that DeepfakeBench gives them
_SOURCES: Mapping[str, str] = {
    "youtube": "FF-real",
    "actors": "DFD_real",
    "Deepfakes": "FF-DF",
    "Face2Face": "FF-F2F",
    "FaceSwap": "FF-FS",
    "NeuralTextures": "FF-NT",
    "FaceShifter": "FF-FH",
    "DeepFakeDetection": "DFD_fake",
}
_COMPRESSIONS: Mapping[str, str] = {"c0": "raw", "raw": "raw", "c23": "c23", "c40": "c40"}
_CONTENTS = frozenset({"videos", "frames"})
SPLITS = ("train", "val", "test")
SPLIT_FOLDERS = ("", "splits", "dataset/splits")
_MOST_BYTES = 1 << 24  # bytes that are read from a split file; the official ones have 10 KB


@register_layout(
    "faceforensics",
    summary="FaceForensics++ in its own folders (videos or frames)",
    reads_videos=True,
    expects="original_sequences/SOURCE/c23/videos/ and manipulated_sequences/METHOD/c23/videos/ "
    "(also c40, raw, and frames/ instead of videos/)",
    tables=tuple(f"{place}/{name}.json".lstrip("/") for place in SPLIT_FOLDERS for name in SPLITS),
)
class FaceForensics:
    """A manipulation is a source, a compression a modifier, a video a folder of frames."""

    def fits(self, folder: Path) -> bool:
        """Return whether any source of any sequence has a folder of a compression."""
        return any(
            set(subfolders(folder / sequence / source)) & _COMPRESSIONS.keys()
            for sequence in SEQUENCES
            for source in subfolders(folder / sequence)
        )

    def images(self, folder: Path, options: LayoutOptions) -> Iterator[ImportedImage]:
        """Yield the frames of all videos, with the official lists if their files are there."""
        lists = _official_lists(folder)
        for path, parts, names in image_folders(folder, frames=options.frames):
            if len(parts) != 5 or parts[0] not in SEQUENCES or parts[3] not in _CONTENTS:
                continue
            compression = _COMPRESSIONS.get(parts[2])
            if compression is None:
                continue
            video = parts[4]
            for name in names:
                yield ImportedImage(
                    f"{path}/{name}",
                    SEQUENCES[parts[0]],
                    _SOURCES.get(parts[1], parts[1]),
                    f"{video}/{name}",
                    compression,
                    ties=people_of_video(video),
                    is_frame=True,
                    lists=lists.get(video, ()),
                )


def _official_lists(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return the list of each video; {} without split files.

    Raises:
        DataError: a file is not a list of pairs, or a person is in several lists.
    """
    splits = next(
        (folder / name for name in SPLIT_FOLDERS if (folder / name / "train.json").is_file()), None
    )
    if splits is None:
        return {}
    lists: dict[str, tuple[str, ...]] = {}
    of_person: dict[str, str] = {}
    for name in SPLITS:
        for first, second in _pairs(splits / f"{name}.json"):
            for person in (first, second):
                if of_person.setdefault(person, name) != name:
                    raise DataError(
                        f"{splits}: {person} is in {of_person[person]}.json and in {name}.json. Use "
                        "the official files, or remove them to draw lists."
                    )
            for video in (first, second, f"{first}_{second}", f"{second}_{first}"):
                lists[video] = (name,)
    return lists


def _pairs(path: Path) -> list[tuple[str, str]]:
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(_MOST_BYTES))
        pairs = [(str(first), str(second)) for first, second in content]
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise DataError(
            f"cannot read {path}: {error}. Expected pairs of people, such as "
            '[["071", "054"], …]. Remove train.json, val.json and test.json to draw lists.'
        ) from error
    return pairs
