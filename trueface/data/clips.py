"""Clips: consecutive frames of a video that a detector scores together. No torch here.

A video is a folder of frames below a source of videos.json. The last number in the name of a file is the number
of its frame. A clip has frames of one video, one list of the split and one modifier. Their numbers
are consecutive: a missing frame ends a clip.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from trueface.data.index import Image
from trueface.runtime.errors import DataError
from trueface.runtime.field_types import setting

LEAST_FRAMES = 2  # frames of a clip; a single frame is an image
SHOWN = 3  # videos in a message
EXAMPLE = "clips: {frames: 8}"
_NUMBER = re.compile(r"[0-9]+")
log = logging.getLogger(__name__)


class Clips(BaseModel):
    """The value of the setting `clips`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)

    frames: int = Field(ge=LEAST_FRAMES, description="Frames of a clip")
    stride: int = Field(
        1, ge=1, description="Distance of two frames of a clip, in frames of the video"
    )
    per_video: int = Field(
        0, ge=0, description="Clips of a video, evenly spread. 0 takes all of them"
    )

    @property
    def span(self) -> int:
        """The number of frames of the video from the first frame of a clip to its last."""
        return (self.frames - 1) * self.stride + 1


def parse_clips(value: Any) -> Any:
    """Return clips from a mapping, or from a text such as frames=8,stride=1.

    Raises:
        ValueError: a word is missing, unknown or not a number.
    """
    if value is None or isinstance(value, Clips):
        return value
    if isinstance(value, str):
        value = dict(_pairs(value))
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a mapping, such as {EXAMPLE}")  # noqa: TRY004  # pydantic reports it
    try:
        return Clips.model_validate(dict(value))
    except ValidationError as error:
        raise ValueError("; ".join(map(_fault, error.errors(include_url=False)))) from error


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for pair in text.split(","):
        word, equals, number = pair.partition("=")
        if not equals:
            raise ValueError(f"{text!r}: expected words with numbers, such as frames=8,stride=1")
        yield word.strip(), number.strip()


def _fault(error: Any) -> str:
    word, known = str(error["loc"][0]), ", ".join(Clips.model_fields)
    match error["type"]:
        case "missing":
            return f"{word} is missing. Write {EXAMPLE}"
        case "extra_forbidden":
            return f"unknown word {word!r}. The words are {known}"
        case "greater_than_equal":
            return f"{word} must be at least {error['ctx']['ge']}, got {error['input']}"
    return f"{word} must be a whole number, got {error['input']!r}"


ClipsValue = Annotated[
    Clips | None,
    BeforeValidator(parse_clips),
    PlainSerializer(lambda clips: clips and clips.model_dump(), return_type=dict[str, int] | None),
]


def clips_setting(**facts: Any) -> Any:
    """Return the field of the setting `clips`, with further facts for the launcher."""
    return setting(
        None,
        added=True,
        description="Clips of videos in place of single frames: frames (per clip), stride (distance of two frames, "
        "1 by default) and per_video (clips of each video, evenly spread; 0 takes all, without overlap)",
        **facts,
    )


@dataclass(frozen=True, slots=True)
class ClipSurvey:
    """How many videos a list has, and which of them give no clip."""

    videos: int
    short: tuple[str, ...]  # keys of videos
    clips: Clips

    @property
    def remark(self) -> str:
        """A sentence about the videos that give no clip; '' if all give one."""
        if not self.short:
            return ""
        shown = ", ".join(self.short[:SHOWN]) + ", …" * (len(self.short) > SHOWN)
        return (
            f"{len(self.short)} of {self.videos} videos have no {self.clips.span} consecutive frames and give no "
            f"clip: {shown}"
        )


@dataclass(frozen=True, slots=True)
class Video:
    """The frames of a video in one list, by number."""

    folder: str  # path, or key
    names: Mapping[int, str]  # number → name of the file, without suffix

    @classmethod
    def from_names(cls, folder: str, names: Iterable[str]) -> "Video":
        """Return the frames of a folder.

        Args:
            folder: for messages.
            names: of the files, without suffix.

        Raises:
            DataError: a name has no number, or two names have the same.
        """
        by_number: dict[int, str] = {}
        for name in names:
            number = frame_number(name)
            if number is None:
                raise DataError(
                    f"frame {folder}/{name} has no number in its name, so the order of the video is not known. "
                    "Name its frames 000, 001, …"
                )
            if number in by_number:
                raise DataError(
                    f"frames {by_number[number]} and {name} of {folder} have the same number {number}, so the order "
                    "of the video is not known. Keep one of them, or put the frames of each face into a folder."
                )
            by_number[number] = name
        return cls(folder, by_number)

    def clips(self, clips: Clips) -> list[list[int]]:
        """Return the numbers of the frames of each clip."""
        every = [
            [*range(first, first + clips.span, clips.stride)]
            for run in consecutive_runs(sorted(self.names))
            for first in range(run[0], run[-1] - clips.span + 2, clips.span)
        ]
        if not clips.per_video:
            return every
        return [every[place] for place in spread(len(every), clips.per_video)]


def spread(total: int, count: int) -> list[int]:
    """Return `count` of the places 0 … total - 1, evenly spaced, the first and the last among them. All if there are fewer."""
    if total <= count:
        return [*range(total)]
    return [place * (total - 1) // max(1, count - 1) for place in range(count)]


def frame_number(name: str) -> int | None:
    """Return the last number in the name of a frame, without suffix. None if it has none."""
    numbers = _NUMBER.findall(name)
    return int(numbers[-1]) if numbers else None


def consecutive_runs(numbers: Sequence[int]) -> Iterator[list[int]]:
    """Yield runs of consecutive numbers."""
    run: list[int] = []
    for number in numbers:
        if run and number != run[-1] + 1:
            yield run
            run = []
        run.append(number)
    if run:
        yield run


def make_clips(
    images: Sequence[Image], clips: Clips, sources: frozenset[str]
) -> tuple[tuple[Image, ...], ClipSurvey]:
    """Return the clips of the frames of a list as images with `frames`, and the videos that give none.

    A clip has the key of its video, with the names of its first and last frame. Its file is that of the first.

    Args:
        images: frames in the defined order. Videos keep that order.
        clips: setting.
        sources: sources whose folders are videos.

    Raises:
        DataError: an image is not a frame of a video, the order of a video is not known, or no video gives a clip.
    """
    folders: dict[str, list[Image]] = {}
    for image in images:
        if image.method not in sources:
            raise DataError(describe_no_videos(image.method or image.key, sources))
        folders.setdefault(image.file.rpartition("/")[0], []).append(image)
    made: list[Image] = []
    short: list[str] = []
    for folder, frames in folders.items():
        named = {_stem(frame.file): frame for frame in frames}
        if len(named) < len(frames):
            raise DataError(
                f"two files of video {folder} have the same name in different formats. Keep one of them."
            )
        video = Video.from_names(folder, named)
        chosen = video.clips(clips)
        made += (_clip([named[video.names[number]] for number in numbers]) for numbers in chosen)
        if not chosen:
            short.append(frames[0].key.rpartition("/")[0])
    survey = ClipSurvey(len(folders), tuple(short), clips)
    if not made:
        raise DataError(describe_no_clip(clips, len(folders)))
    return tuple(made), survey


def survey_keys(keys: Iterable[str], clips: Clips) -> ClipSurvey:
    """Return which videos of a list give no clip, by the keys of their frames.

    Args:
        keys: of frames, such as FF-DF/000_003/012.
        clips: setting.

    Raises:
        DataError: the order of a video is not known.
    """
    folders: dict[str, list[str]] = {}
    for key in sorted(keys):
        folder, _, name = key.rpartition("/")
        folders.setdefault(folder, []).append(name)
    videos = (Video.from_names(folder, names) for folder, names in folders.items())
    short = tuple(video.folder for video in videos if not video.clips(clips))
    return ClipSurvey(len(folders), short, clips)


def describe_no_videos(source: str, sources: Iterable[str]) -> str:
    """Return why images of a source have no clips."""
    known = ", ".join(sorted(sources)) or "none"
    return (
        f"clips need frames of videos, but {source} is not a source of videos (videos.json names {known}). Import the "
        "videos with trueface import --videos, or leave out clips."
    )


def describe_no_clip(clips: Clips, videos: int) -> str:
    """Return why a list has no clip at all."""
    return (
        f"none of the {videos} videos has {clips.span} consecutive frames, which a clip of {clips.frames} frames with "
        f"stride {clips.stride} needs. Import the videos with --clips 4 --length {clips.span}."
    )


def list_clips(
    images: Sequence[Image], clips: Clips, sources: frozenset[str], name: str
) -> tuple[Image, ...]:
    """Return the clips of a list, and log how many there are.

    Args:
        images: see `make_clips`.
        clips: see `make_clips`.
        sources: see `make_clips`.
        name: of the list.

    Raises:
        DataError: see `make_clips`.
    """
    made, survey = make_clips(images, clips, sources)
    log.info(
        "split=%s clips=%d videos=%d without_clip=%d",
        name, len(made), survey.videos, len(survey.short),
    )  # fmt: skip
    if survey.remark:
        log.warning("split=%s %s", name, survey.remark)
    return made


def _clip(frames: Sequence[Image]) -> Image:
    first, last = frames[0], frames[-1]
    key = f"{first.key}-{_stem(last.file)}"
    return first._replace(key=key, frames=tuple(frame.file for frame in frames))


def _stem(file: str) -> str:
    return file.rpartition("/")[2].rpartition(".")[0]
