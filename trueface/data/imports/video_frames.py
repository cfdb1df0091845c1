"""The frames of the video files of a data set, as images that an import places.

A frame has a path as if its video were a folder: `v/000_003.mp4/012.png`, with DeepfakeBench's names
for frames. Layouts arrange such paths. The pictures are decoded into a folder of their own before
anything else is written, so that a damaged video is left out as a whole.
"""

import os
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import PIL.Image

from trueface.data.image_headers import read_size
from trueface.data.imports.registry import ImportedImage, video_files
from trueface.data.imports.writing import ImportRecord
from trueface.data.video_traits import VideoTraits
from trueface.data.videos import (
    BadVideoError,
    ChosenFrames,
    FrameChoice,
    Pixels,
    choose_frames,
    read_frames,
)
from trueface.runtime.errors import DataError, MachineError

T = TypeVar("T")
Place = tuple[int, str, str, tuple[str, ...], str]  # place of a video's frames in the data root
COMPRESSION = 1  # level of PNG: four times as fast as 6, and the files are a fifth larger


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoSet:
    """The video files of a data set and the frames to read from each."""

    chosen: Mapping[str, ChosenFrames]
    broken: Mapping[str, str]  # file → why it gives no frames
    unread: tuple[str, ...] = ()  # video files without a reader

    @property
    def runs(self) -> tuple[tuple[str, ...], ...]:
        """The runs of consecutive frames of all videos, as paths."""
        return tuple(
            tuple(f"{video}/{frame_name(number)}" for number in run)
            for video, chosen in self.chosen.items()
            for run in chosen.runs
        )

    @property
    def frames(self) -> dict[str, tuple[str, ...]]:
        """The names of the frames of each video."""
        return {
            video: tuple(map(frame_name, chosen.numbers)) for video, chosen in self.chosen.items()
        }


NO_VIDEOS = VideoSet(chosen={}, broken={})


def find_frames(folder: Path, choice: FrameChoice) -> VideoSet:
    """Return the video files below a folder with the frames to read; nothing is decoded.

    Args:
        folder: of the data set.
        choice: frames of each video.
    """
    videos = video_files(folder) if folder.is_dir() else []
    if find_spec("av") is None:
        return VideoSet(chosen={}, broken={}, unread=tuple(videos))
    chosen, broken = _run_for_each(videos, partial(choose_frames, choice=choice))
    return VideoSet(chosen=chosen, broken=broken)


def without_doubles(
    images: Sequence[ImportedImage], videos: VideoSet
) -> tuple[list[ImportedImage], list[str]]:
    """Leave out video files that a folder of frames would share its place with.

    Args:
        images: of the data set.
        videos: its video files.

    Returns:
        The other images, and the video files that are left out, sorted.
    """
    folders, places = set[Place](), dict[str, Place]()
    for image in images if videos.chosen else ():
        above = image.file.rpartition("/")[0]
        below = image.below.rpartition("/")[0]
        key = (image.label, image.source, image.modifier, image.lists, below)
        if above in videos.chosen:
            places[above] = key
        else:
            folders.add(key)
    doubles = {video for video, key in places.items() if key in folders}
    return [each for each in images if each.file.rpartition("/")[0] not in doubles], sorted(doubles)


def videos_to_decode(
    images: Iterable[ImportedImage],
    videos: VideoSet,
    record: ImportRecord,
    left_out: Collection[str] = (),
) -> list[str]:
    """Return the videos of some images that no earlier import has decoded.

    Args:
        images: of the data set.
        videos: its video files.
        record: of earlier imports.
        left_out: frames that an earlier import decoded and left out, as they show no face.

    Raises:
        DataError: an earlier import has taken other frames of a video.
    """
    before: dict[str, set[str]] = {}
    for file, _, _ in record.files.values():
        above, _, name = file.rpartition("/")
        if above in videos.chosen:
            before.setdefault(above, set()).add(name)
    for file in left_out:
        above, _, name = file.rpartition("/")
        if above in before:
            before[above].add(name)
    names = videos.frames
    for video, done in before.items():
        if done != set(names[video]):
            raise DataError(
                f"{len(done)} frames of {video} were imported before, and not these "
                f"{len(names[video])}. Use the same --frames, --clips and --length, or import into a new folder."
            )
    used = dict.fromkeys(image.file.rpartition("/")[0] for image in images)
    return [video for video in used if video in videos.chosen and video not in before]


def decode_videos(
    videos: Sequence[str],
    frames: Mapping[str, ChosenFrames],
    folder: Path,
    *,
    of_clips: bool = False,
) -> tuple[dict[str, str], dict[str, str]]:
    """Write the chosen frames of videos as pictures.

    Args:
        videos: paths.
        frames: the frames of each.
        folder: for the pictures. They have any names.
        of_clips: a video whose frames change their size is broken. One crop would not fit a run of its frames.

    Returns:
        The picture of each frame, and why each damaged video has none.

    Raises:
        MachineError: the pictures cannot be written.
    """
    stop = threading.Event()
    cores = len(os.sched_getaffinity(0))
    threads = max(1, cores // max(1, len(videos)))

    def decode(video: str) -> dict[str, str]:
        video_folder = folder / str(numbers[video])
        video_folder.mkdir()
        pictures, first = {}, None
        for number, pixels in read_frames(video, frames[video], stop=stop, threads=threads):
            first = pixels.shape if first is None else first
            if of_clips and pixels.shape != first:
                raise BadVideoError(
                    f"frame {number} has {pixels.shape[1]} by {pixels.shape[0]} pixels, and the first one has "
                    f"{first[1]} by {first[0]}"
                )
            pictures[f"{video}/{frame_name(number)}"] = write_picture(
                pixels, video_folder / frame_name(number)
            )
        return pictures

    numbers = {video: number for number, video in enumerate(videos)}
    try:
        done, broken = _run_for_each(videos, decode, stop)
    except OSError as error:
        raise MachineError(
            f"cannot write the frames: {error}. The import had no effect."
        ) from error
    return {frame: picture for each in done.values() for frame, picture in each.items()}, broken


def collect_traits(videos: VideoSet, decoded_files: Mapping[str, str]) -> dict[str, VideoTraits]:
    """Return the traits of videos by file, with the upright sizes of those that were decoded.

    Args:
        videos: the video files.
        decoded_files: the picture of each decoded frame.
    """
    pictures = {frame.rpartition("/")[0]: picture for frame, picture in decoded_files.items()}
    sizes = {video: read_size(picture) for video, picture in pictures.items()}
    return {
        video: chosen.traits._replace(size=f"{size.width}×{size.height}")
        if (size := sizes.get(video))
        else chosen.traits
        for video, chosen in videos.chosen.items()
    }


def write_picture(pixels: Pixels, path: Path) -> str:
    """Write a decoded frame without loss; return its path."""
    PIL.Image.fromarray(pixels).save(path, "PNG", compress_level=COMPRESSION)
    return str(path)


def _run_for_each(
    videos: Sequence[str], function: Callable[[str], T], stop: threading.Event | None = None
) -> tuple[dict[str, T], dict[str, str]]:
    """Return what a function returns for each video, or why the video is broken."""

    def attempt(video: str) -> T | BadVideoError:
        try:
            return function(video)
        except BadVideoError as error:
            return error

    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    try:
        results = dict(zip(videos, pool.map(attempt, videos), strict=True))
    finally:
        if stop is not None:
            stop.set()
        pool.shutdown(cancel_futures=True)
    broken = {v: str(result) for v, result in results.items() if isinstance(result, BadVideoError)}
    done = {v: result for v, result in results.items() if not isinstance(result, BadVideoError)}
    return done, broken


def frame_name(number: int) -> str:
    """Return the name of the file of a frame."""
    return f"{number:03d}.png"
