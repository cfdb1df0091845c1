"""Properties of video files that reveal the class of their frames.

The frames of a set are images without loss, so their own headers are equal in both classes. The
compression of the videos is in the pixels all the same. Each video counts once. A video whose traits
are not known counts nowhere, because it may differ from the others.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from trueface.data.dataset_file import video_sources
from trueface.data.image_headers import (
    LEAST,
    VIDEOS,
    HeaderProperty,
    Shortcut,
    sample_headers,
    shortcut,
    shortcuts_in,
)
from trueface.data.video_traits import VideoTraits, read_traits
from trueface.runtime.errors import DataError

CLASS_FOLDERS = ("Real", "Fake")
STEPS = (
    2  # ranges of bits per pixel in an octave; the content changes the bits of one quality by more
)
EARLY = 0.1  # fraction of the videos with one key frame that may be too short to compare


class VideoHeader(NamedTuple):
    """The traits of one video of a class."""

    label: int  # 1 fake, 0 real
    traits: VideoTraits
    key_frames: str  # their distance, in words

    @property
    def format(self) -> str:
        """The codec, which decides the profiles that a video can have."""
        return self.traits.codec


VideoProperty = HeaderProperty[VideoHeader]


def _rate(header: VideoHeader) -> str:
    rate = header.traits.frame_rate
    return "" if rate is None else f"{rate:g}"


def _bits(header: VideoHeader) -> str:
    """Return a range of bits per pixel: two videos of one quality have different numbers."""
    bits = header.traits.bits_per_pixel
    if not bits:
        return ""
    step = math.floor(math.log2(bits) * STEPS)
    low, high = (2.0 ** (each / STEPS) for each in (step, step + 1))
    return f"{low:.2g} to {high:.2g} bits"


CODEC = VideoProperty(
    "the video codec", lambda header: header.traits.codec, of_format=False, unit=VIDEOS
)
PROFILE = VideoProperty("the video profile", lambda header: header.traits.profile, unit=VIDEOS)
PIXEL_FORMAT = VideoProperty(
    "the video pixel format",
    lambda header: header.traits.pixel_format,
    of_format=False,
    unit=VIDEOS,
)
VIDEO_SIZE = VideoProperty(
    "the video size", lambda header: header.traits.size, of_format=False, unit=VIDEOS
)
BITS = VideoProperty("the video bit rate per pixel", _bits, of_format=False, unit=VIDEOS)
KEY_FRAMES = VideoProperty(
    "the distance of key frames", lambda header: header.key_frames, of_format=False, unit=VIDEOS
)
FRAME_RATE = VideoProperty(
    "the frame rate", _rate, of_format=False, shapes_pixels=False, unit=VIDEOS
)
CONTAINER = VideoProperty(
    "the video container",
    lambda header: header.traits.container,
    of_format=False,
    shapes_pixels=False,
    unit=VIDEOS,
)
ENCODER = VideoProperty(
    "the recorded video encoder",
    lambda header: header.traits.encoder,
    of_format=False,
    shapes_pixels=False,
    unit=VIDEOS,
)
SOUND = VideoProperty(
    "the sound of the video",
    lambda header: header.traits.sound,
    of_format=False,
    shapes_pixels=False,
    unit=VIDEOS,
)
VIDEO_PROPERTIES = (
    CODEC, PROFILE, PIXEL_FORMAT, VIDEO_SIZE, BITS, KEY_FRAMES, FRAME_RATE, CONTAINER, ENCODER, SOUND,
)  # fmt: skip


class VideoSurvey(NamedTuple):
    """The videos of some images."""

    headers: tuple[VideoHeader, ...] = ()  # the videos with known traits
    unknown: tuple[int, int] = (0, 0)  # real and fake videos whose traits are not known

    @property
    def unknown_reason(self) -> str:
        """A sentence on the videos that are not known; "" if there are none."""
        count = sum(self.unknown)
        if not count:
            return ""
        total = count + len(self.headers)
        return (
            f"the traits of {count} of {total} videos are not known, because their frames were imported "
            "without the video files or by an earlier version. Import the video files again"
        )


def survey_videos(
    labels: Mapping[str, int], videos: Mapping[str, VideoTraits], sources: frozenset[str]
) -> VideoSurvey:
    """Return the videos of some frames.

    If a class has fewer videos than a statement needs, all videos of the same sources count.

    Args:
        labels: path of an image below its data root → label. Only frames count.
        videos: what is known, by the folder of the frames.
        sources: sources whose folders are videos.
    """
    folders = {path.rpartition("/")[0]: label for path, label in labels.items()}
    known = {folder: label for folder, label in folders.items() if folder in videos}
    unknown = [0, 0]
    for folder, label in folders.items():
        source = _source(folder)
        if folder not in known and source != folder and source.rpartition("/")[2] in sources:
            unknown[label] += 1
    if known and min(list(known.values()).count(label) for label in (0, 1)) < LEAST:
        of_source = {_source(folder): label for folder, label in known.items()}
        known = {
            folder: of_source[source]
            for folder in videos
            if (source := _source(folder)) in of_source
        }
    return VideoSurvey(tuple(_headers(known, videos)), (unknown[0], unknown[1]))


def survey_data_root(root: Path, labels: Mapping[str, int]) -> VideoSurvey:
    """Return the videos of some frames in a data root.

    Args:
        root: the data root.
        labels: image file, its path beginning with that of the data root → label.
    """
    videos, sources = read_traits(root), frozenset[str]()
    with suppress(DataError):
        sources = video_sources(root)
    if not (videos or sources):
        return VideoSurvey()
    top = str(root / "_")[:-1]  # also where it is /
    return survey_videos(
        {file.removeprefix(top): label for file, label in labels.items()}, videos, sources
    )


def video_shortcuts(headers: Sequence[VideoHeader]) -> tuple[Shortcut, ...]:
    """Return the properties of videos that reveal the class."""
    return tuple(filter(None, (shortcut(headers, each) for each in VIDEO_PROPERTIES)))


def shortcuts_of(labels: Mapping[str, int], root: Path) -> tuple[Shortcut, ...]:
    """Return the properties of image files and of their videos that reveal the class.

    Args:
        labels: file → label. The headers of a sample are read.
        root: data root of the files.
    """
    return (
        *shortcuts_in(sample_headers(labels)[0]),
        *video_shortcuts(survey_data_root(root, labels).headers),
    )


def _source(folder: str) -> str:
    """Return the part of a path that ends with the source: the folder below Real/ or Fake/."""
    parts = folder.split("/")
    place = next((at for at, part in enumerate(parts) if part in CLASS_FOLDERS), len(parts))
    return "/".join(parts[: place + 2])


def _headers(labels: Mapping[str, int], videos: Mapping[str, VideoTraits]) -> Iterator[VideoHeader]:
    """Yield the traits of videos with the distance of their key frames in comparable words.

    The distance in a video with one key frame is not known, only that its frames are fewer. So
    distances are compared up to the length of these videos.
    """
    single = sorted(
        traits.frames for traits in map(videos.__getitem__, labels) if traits.key_frames == 1
    )
    longest = single[int(EARLY * len(single))] if single else math.inf
    for folder, label in labels.items():
        traits = videos[folder]
        yield VideoHeader(label, traits, _key_frames(traits, longest))


def _key_frames(traits: VideoTraits, longest: float) -> str:
    """Return the distance of the key frames in words, as far as all videos can show it."""
    most = 2 ** int(math.log2(longest)) if longest < math.inf else math.inf
    distance = traits.frames if traits.key_frames == 1 else traits.key_distance
    if distance is None or most < 2:
        return ""
    if distance >= most:
        return f"{most} frames or more"
    if traits.key_frames == 1:
        return ""
    step = int(math.log2(distance))
    first, last = 2**step, 2 ** (step + 1) - 1
    return "each frame" if last == 1 else f"{first} to {last} frames"
