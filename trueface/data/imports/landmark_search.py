"""The landmarks that `trueface import --landmarks` finds in the frames of videos, and their record.

<root>/landmarks.json    models, and the videos whose frames show no face or several

A run of consecutive frames is followed and calibrated on its own. Processes share the runs. The same frames give the
same landmarks with any number of processes. With --align, landmarks.csv has pixels of the aligned frames. The calibrated
landmarks are those of the whole frames.
"""

import json
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trueface.data.clips import Video, consecutive_runs
from trueface.data.face_alignment import DetectedFace, Geometry, Pixels, place_in_crop
from trueface.data.face_points import FoundPoints, describe_point_models, follow_face
from trueface.data.imports.alignment import decode_upright
from trueface.data.imports.writing import LANDMARK_RECORD
from trueface.data.landmark_calibration import calibrate
from trueface.data.landmarks import write_landmarks
from trueface.data.videos import BadVideoError, ChosenFrames, read_frames
from trueface.runtime.errors import BadImageError, DataError, UsageError
from trueface.runtime.files import write_atomic
from trueface.runtime.process_pool import chunks_of, map_chunks

SCHEMA = 1
LEAST_FOUND = (
    0.5  # fraction of a run's frames in which the face is found; of other runs nothing is stored
)
MOST_BYTES = 256 << 20  # pixels of a video that a process keeps; it decodes further frames twice
SHOWN = 3

Progress = Callable[[int], None]  # called with the number of further frames


@dataclass(frozen=True, slots=True, kw_only=True)
class LandmarkRecord:
    """How the landmarks of a data root were found, and which videos need a look."""

    versions: Mapping[str, str]  # detector, models and calibration
    no_face: frozenset[str] = frozenset()  # videos without landmarks in a run of frames
    # video → most faces in a frame
    several_faces: Mapping[str, int] = field(default_factory=dict)


class PointFrame(NamedTuple):
    """A frame of a video whose landmarks are searched."""

    name: str  # its file, without suffix
    picture: str  # the whole frame, if the video is a folder of pictures
    # face and geometry of its aligned crop; None: the frame is stored as it is
    crop: tuple[DetectedFace, Geometry] | None = None


class PointVideo(NamedTuple):
    """A video whose landmarks are searched."""

    folder: str  # below the data root
    frames: tuple[PointFrame, ...]
    file: str = (
        ""  # a video file, whose frames have the numbers in their names; "": a folder of pictures
    )
    chosen: ChosenFrames | None = None  # the frames that are read from the video file

    def runs(self) -> list[list[PointFrame]]:
        """Return the runs of consecutive frames.

        Raises:
            DataError: their order is not known.
        """
        by_name = {frame.name: frame for frame in self.frames}
        names = Video.from_names(self.folder, by_name).names
        return [
            [by_name[names[number]] for number in numbers]
            for numbers in consecutive_runs(sorted(names))
        ]


class _RunPoints(NamedTuple):
    """The landmarks of a run; none if its face is lost in most frames."""

    video: str
    names: tuple[str, ...]
    points: NDArray[np.float64]  # (N, 68, 2) pixels of the stored frames
    calibrated: NDArray[np.float64]  # (N, 68, 2)
    faces: int  # most faces in a frame


class FoundLandmarks(NamedTuple):
    """The landmarks of the new videos of an import."""

    record: LandmarkRecord  # record with the earlier videos, too
    runs: Sequence[_RunPoints]

    def write(self, folder: Path) -> None:
        """Write the files of all videos below the folder of a data root, and the record.

        Raises:
            OSError: the disk is full.
        """
        videos: dict[str, list[_RunPoints]] = defaultdict(list)
        for run in self.runs:
            videos[run.video].append(run)
        for video, runs in videos.items():
            names = [name for run in runs for name in run.names]
            for is_calibrated in (False, True):
                points = [run.calibrated if is_calibrated else run.points for run in runs]
                write_landmarks(
                    folder / video, names, np.concatenate(points), is_calibrated=is_calibrated
                )
        write_record(folder, self.record)

    @property
    def remarks(self) -> Iterator[str]:
        """Sentences about videos whose landmarks need a look."""
        if no_face := sorted(self.record.no_face):
            yield (
                f"{len(no_face)} videos have runs of frames without landmarks, because most frames show no face: "
                f"{', '.join(no_face[:SHOWN])}{', …' * (len(no_face) > SHOWN)}"
            )
        if several := sorted(self.record.several_faces):
            yield (
                f"{len(several)} videos show several faces: {', '.join(several[:SHOWN])}{', …' * (len(several) > SHOWN)}. "
                "Their landmarks follow the largest face of the first frame. Check that it is the forged one"
            )


def read_landmark_record(root: Path) -> LandmarkRecord | None:
    """Return the record of a data root, or None if it has no landmarks.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return _record(json.loads((root / LANDMARK_RECORD).read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"cannot read {root / LANDMARK_RECORD}: {error}. Import into a new folder."
        ) from error


def _record(content: Mapping[str, Any]) -> LandmarkRecord:
    if content["schema"] != SCHEMA:
        raise ValueError(f"schema {content['schema']} is unknown")
    return LandmarkRecord(
        versions={name: str(text) for name, text in content["versions"].items()},
        no_face=frozenset(content["no_face"]),
        several_faces={video: int(count) for video, count in content["several_faces"].items()},
    )


def write_record(root: Path, record: LandmarkRecord) -> None:
    """Write the record of a data root."""
    content = {
        "schema": SCHEMA,
        "versions": dict(record.versions),
        "no_face": sorted(record.no_face),
        "several_faces": dict(sorted(record.several_faces.items())),
    }
    write_atomic(root / LANDMARK_RECORD, json.dumps(content, ensure_ascii=False, indent=0) + "\n")


def check_landmarks(root: Path, *, with_landmarks: bool, is_new: bool) -> None:
    """Reject an import that would add videos without landmarks to those with landmarks, or the reverse.

    Raises:
        UsageError: it would, or other versions found the landmarks of the data root.
    """
    stored = read_landmark_record(root)
    if is_new:
        return
    if with_landmarks != (stored is not None):
        has, remedy = (
            ("no landmarks", "leave out --landmarks")
            if with_landmarks
            else ("landmarks", "add --landmarks")
        )
        raise UsageError(f"the videos of {root} have {has}. Import into a new folder, or {remedy}.")
    if stored is not None and stored.versions != (now := describe_point_models()):
        old, new = (", ".join(each.values()) for each in (stored.versions, now))
        raise UsageError(
            f"the landmarks of {root} were found with {old}, and {new} is installed here. Import into a new folder, "
            "or install the earlier versions."
        )


def find_landmarks(
    videos: Sequence[PointVideo],
    earlier_record: LandmarkRecord | None,
    progress: Progress,
    *,
    workers: int | None = None,
) -> FoundLandmarks:
    """Find and calibrate the landmarks of videos.

    Args:
        videos: new ones of an import.
        earlier_record: of an earlier import into the same data root.
        progress: called with the frames that were searched.
        workers: number of processes, or None for one per available core.

    Raises:
        DataError: the order of a video is not known.
    """
    chunks = chunks_of(videos, 1)
    found = list[_RunPoints]()
    for video, runs in zip(
        videos, map_chunks(_search_videos, chunks, workers, doing="searched landmarks"), strict=True
    ):
        found += runs
        progress(len(video.frames))
    record = earlier_record or LandmarkRecord(versions=describe_point_models())
    record = LandmarkRecord(
        versions=record.versions,
        no_face=record.no_face | {run.video for run in found if not run.names},
        several_faces={**record.several_faces, **_most_faces(found)},
    )
    return FoundLandmarks(record, [run for run in found if run.names])


def _most_faces(runs: Iterable[_RunPoints]) -> dict[str, int]:
    """Return the most faces in a frame of each video that shows several."""
    most: dict[str, int] = {}
    for run in runs:
        if run.faces > 1:
            most[run.video] = max(run.faces, most.get(run.video, 0))
    return most


def _search_videos(videos: Sequence[PointVideo]) -> list[_RunPoints]:
    return [run for video in videos for run in _search_video(video)]


def _search_video(video: PointVideo) -> list[_RunPoints]:
    """Return the landmarks of the runs of a video. Frames before the first face of a run have none."""
    runs = video.runs()
    reader = _FrameReader(video, [frame for run in runs for frame in run])
    empty = np.empty((0, 0, 2))
    try:
        pictures = reader.read()
        searches = [list(follow_face(islice(pictures, len(run)))) for run in runs]
        pictures = reader.read()
        return [
            _calibrated_run(video, run, islice(pictures, len(run)), found)
            for run, found in zip(runs, searches, strict=True)
        ]
    except (BadImageError, BadVideoError, RuntimeError):  # the last is dlib's
        return [_RunPoints(video.folder, (), empty, empty, 0)]


def _calibrated_run(
    video: PointVideo,
    run: Sequence[PointFrame],
    pictures: Iterator[Pixels],
    searches: Sequence[FoundPoints],
) -> _RunPoints:
    faces = max(each.faces for each in searches)
    points = [each.points for each in searches if each.points is not None]
    found = len(points) - sum(each.is_repeated for each in searches)
    empty = np.empty((0, 0, 2))
    if found < LEAST_FOUND * len(run):
        deque(pictures, maxlen=0)  # the next run begins after them
        return _RunPoints(video.folder, (), empty, empty, faces)
    first = len(run) - len(points)
    placed = [
        each if frame.crop is None else place_in_crop(each, *frame.crop)
        for frame, each in zip(run[first:], points, strict=True)
    ]
    calibrated = calibrate(islice(pictures, first, None), points)
    names = tuple(frame.name for frame in run[first:])
    return _RunPoints(video.folder, names, np.stack(placed), calibrated, faces)


class _FrameReader:
    """Decodes the frames of a video, and keeps the first ones for a second reading."""

    def __init__(self, video: PointVideo, frames: Sequence[PointFrame]) -> None:
        self._video, self._frames = video, frames
        self._kept: list[Pixels] = []
        self._is_full = False

    def read(self) -> Iterator[Pixels]:
        """Yield the pixels of all frames.

        Raises:
            BadImageError: a frame cannot be decoded, or has another size than the first one.
            BadVideoError: the video cannot be decoded.
        """
        kept = len(self._kept)
        yield from self._kept
        if kept == len(self._frames):
            return
        for at, pixels in enumerate(self._decode(kept), start=kept):
            if self._kept and pixels.shape != self._kept[0].shape:
                path = Path(self._video.file or self._frames[at].picture)
                raise BadImageError(path, "its size is not that of the first frame")
            self._is_full |= (at + 1) * pixels.nbytes > MOST_BYTES
            if at == len(self._kept) and not (self._is_full and at):
                self._kept.append(pixels)
            yield pixels

    def _decode(self, first: int) -> Iterator[Pixels]:
        frames, chosen = self._frames[first:], self._video.chosen
        if chosen is None:
            yield from (decode_upright(Path(frame.picture)) for frame in frames)
            return
        chosen = chosen._replace(numbers=tuple(int(frame.name) for frame in frames))
        for _, pixels in read_frames(self._video.file, chosen, stop=threading.Event()):
            yield pixels
