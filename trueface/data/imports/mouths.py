"""The mouths of a data root that was imported with landmarks: `trueface import mouths`.

Each frame with landmarks gives a crop of 96 by 96 pixels, see `data.mouths`. Videos, sources, modifiers, groups and
lists are those of the data root.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from trueface.data.clips import Video, consecutive_runs
from trueface.data.imports.alignment import decode_upright
from trueface.data.imports.arrangement import CLASS_FOLDERS
from trueface.data.imports.registry import ImportedImage, LayoutOptions, register_layout
from trueface.data.imports.video_frames import write_picture
from trueface.data.imports.writing import LANDMARK_RECORD, NAME, read_record
from trueface.data.landmarks import landmark_file, read_landmarks
from trueface.data.mouths import cut_mouth, mouth_cuts
from trueface.data.splits.split_files import read_lists
from trueface.data.vocabulary import MODIFIERS
from trueface.runtime.errors import BadImageError
from trueface.runtime.process_pool import chunks_of, map_chunks

SPLITS = "splits"  # folder of the lists in a data root
SUFFIX = ".png"  # lossless
CHUNK = 4  # videos; a process takes as long to start as it cuts them
LABELS = {folder: label for label, folder in CLASS_FOLDERS.items()}
WORDS = {folders[0]: word for word, folders in MODIFIERS.items()}  # word of a modifier's folder


class _Frame(NamedTuple):
    """A frame, and the picture of its mouth."""

    file: str
    picture: str


@register_layout(
    "mouths",
    summary="the mouths of a data root with landmarks, for lipforensics",
    expects="import.json and landmarks.json, as trueface import --videos --landmarks writes them",
    makes_pictures=True,
)
class Mouths:
    """One crop for each frame that has landmarks."""

    def fits(self, folder: Path) -> bool:
        """Return whether a folder is a data root with landmarks."""
        return (folder / NAME).is_file() and (folder / LANDMARK_RECORD).is_file()

    def images(self, folder: Path, options: LayoutOptions) -> Iterator[ImportedImage]:  # noqa: ARG002  # the record says all
        """Yield the frames that have landmarks.

        Raises:
            DataError: the record, the lists or the landmarks of the data root cannot be read.
        """
        record, lists = read_record(folder), _lists_by_key(folder / SPLITS)
        for above, paths in groupby(record.files, key=lambda path: path.rpartition("/")[0]):
            place, class_folder, source, *below = above.split("/")
            if source not in record.video_folders or not _has_landmarks(folder / above):
                continue
            rows = read_landmarks(folder / above, is_calibrated=False).rows
            for path in paths:
                stem = path.rpartition("/")[2].rpartition(".")[0]
                if stem not in rows:
                    continue
                key = "/".join((source, *below, stem))
                yield ImportedImage(
                    f"{folder}/{path}",
                    LABELS[class_folder],
                    source,
                    "/".join((*below, f"{stem}{SUFFIX}")),
                    modifier=WORDS.get(place, place),
                    ties=(record.groups[key],) if key in record.groups else (),
                    is_frame=True,
                    lists=lists.get(key, ()),
                )

    def write_pictures(
        self, files: Sequence[str], folder: Path
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Write the crops of frames.

        Args:
            files: the frames, as `images` yields them.
            folder: for the pictures. They have any names.

        Returns:
            The picture of each frame, and why each damaged video has none.
        """
        frames = [_Frame(file, f"{folder}/{at}{SUFFIX}") for at, file in enumerate(files)]
        videos = defaultdict[str, list[_Frame]](list)
        for frame in frames:
            videos[frame.file.rpartition("/")[0]].append(frame)
        chunks = chunks_of(list(videos.values()), CHUNK)
        faults = [
            fault
            for each in map_chunks(_cut_videos, chunks, None, doing="cut mouths")
            for fault in each
        ]
        broken = {video: fault for video, fault in zip(videos, faults, strict=True) if fault}
        pictures = {
            frame.file: frame.picture
            for video, each in videos.items()
            if video not in broken
            for frame in each
        }
        return pictures, broken


def _lists_by_key(splits: Path) -> dict[str, tuple[str, ...]]:
    lists = defaultdict[str, list[str]](list)
    for name, keys in read_lists(splits).items() if splits.exists() else ():
        for key in keys:
            lists[key].append(name)
    return {key: tuple(names) for key, names in lists.items()}


def _has_landmarks(folder: Path) -> bool:
    return landmark_file(folder, is_calibrated=False).exists()


def _cut_videos(videos: Sequence[Sequence[_Frame]]) -> list[str]:
    """Write the mouths of some videos; return why each has none, or ''."""
    return [_cut_video(frames) for frames in videos]


def _cut_video(frames: Sequence[_Frame]) -> str:
    by_name = {Path(frame.file).stem: frame for frame in frames}
    folder = Path(frames[0].file).parent
    landmarks = read_landmarks(folder, is_calibrated=False)
    names = Video.from_names(str(folder), by_name).names
    try:
        for numbers in consecutive_runs(sorted(names)):
            run = [names[number] for number in numbers]
            points = landmarks.points[[landmarks.rows[name] for name in run]]
            for name, cut in zip(run, mouth_cuts(points), strict=True):
                pixels = decode_upright(Path(by_name[name].file))
                write_picture(cut_mouth(pixels, cut), Path(by_name[name].picture))
    except BadImageError as error:
        return error.reason
    return ""
