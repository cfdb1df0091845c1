"""A synthetic set of videos as folders of frames, whose fakes differ from the real videos by one property.

`<root>/PreSocial/Real/drawn/000/000.png`       A drawn face that moves, under a light that rises and falls.
`<root>/PreSocial/Fake/shuffled/000/000.png`    All frames of the real video of this name, in one random order.
`<root>/PreSocial/Fake/marked/000/000.png`      The real video of this name, with a pattern in each frame.

Each video has calibrated landmarks of a face that moves smoothly. They are made, not found in the frames. Those of
`shuffled` have the order of its frames.

A detector of single images cannot tell `shuffled` from `drawn`: their files are equal. A detector of clips can. A
video and its fakes are in one list. The same seed gives the same files, with any number of processes.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from trueface.data.dataset_file import write_dataset_file, write_video_sources
from trueface.data.landmarks import write_landmarks
from trueface.data.made.moving_points import move_points
from trueface.data.splits.split_files import write_splits
from trueface.runtime import paths
from trueface.runtime.artifact import Artifact
from trueface.runtime.files import Json
from trueface.runtime.process_pool import process_in_chunks
from trueface.runtime.rng import numpy_rng

SCHEMA = 1
RECIPE = 2  # to be raised whenever the same spec would give other frames
REAL, SHUFFLED, MARKED = "drawn", "shuffled", "marked"  # sources
FAKES = (SHUFFLED, MARKED)
WORDS: Mapping[str, str] = {
    "realDrawn": REAL,
    SHUFFLED: SHUFFLED,
    MARKED: MARKED,
}  # word of data IDs → source
CHUNK = 4  # videos between two reports
PNG_LEVEL = 1  # level of at most 9
MARGIN = 1.5  # side of a portrait, in sides of a frame
FINE = 4  # times as many pixels while a portrait is drawn, for soft edges
# parts of a portrait: (left, top, right, bottom) in sides of it, and the least and largest levels of their colours
PARTS = (
    ((0.26, 0.08, 0.74, 0.9), (20, 90)),  # hair
    ((0.2, 0.82, 0.8, 1.4), (40, 200)),  # shoulders
    ((0.43, 0.6, 0.57, 0.9), (150, 210)),  # neck
    ((0.31, 0.2, 0.69, 0.76), (160, 230)),  # face
    ((0.38, 0.4, 0.45, 0.45), (20, 80)),  # eyes
    ((0.55, 0.4, 0.62, 0.45), (20, 80)),
    ((0.43, 0.61, 0.57, 0.65), (80, 150)),  # mouth
)
STEP = (0.01, 0.05)  # motion of the face from frame to frame, in sides of a frame
LIGHT = 0.35  # amplitude of the light
PERIOD = (24, 48)  # frames of a period of the light
NOISE = 2.0  # deviation of the pixels' noise, in grey levels
MARK = 12  # grey levels that the mark adds or takes

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoSpec:
    """The parameters of a set. Each list has the same number of real videos and of videos of each kind of fake."""

    seed: int
    size_px: int
    frames: int  # number of frames per video
    train: int  # real videos of the training list
    val: int
    test: int

    @property
    def videos(self) -> dict[str, list[str]]:
        """The names of the videos of each list."""
        names, first = dict[str, list[str]](), 0
        for split in ("train", "val", "test"):
            number = getattr(self, split)
            names[split] = [f"{video:03d}" for video in range(first, first + number)]
            first += number
        return names


class _Work(NamedTuple):
    video: str
    folders: Mapping[str, str]  # source → folder of its frames


def make_sample_videos(
    root: Path,
    spec: VideoSpec,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Json]:
    """Make a set of videos, completely or not at all, and return the content of its marker file.

    Args:
        root: missing, empty, or with a complete set of the same spec.
        spec: parameters of the set.
        workers: processes. None uses one for each available core.
        progress: called with the number of videos made and their total.

    Raises:
        DataError: the folder holds something else, or cannot be written.
        MachineError: a process was killed.
    """
    keys = {split: list(_keys(spec, videos)) for split, videos in spec.videos.items()}
    count = sum(map(len, keys.values()))
    mark: dict[str, Json] = {"schema": SCHEMA, "recipe": RECIPE, "spec": asdict(spec)}
    done: dict[str, Json] = {**mark, "synthetic": True, "images": count}
    artifact = Artifact("sample", root, paths.SAMPLE_MARK, mark)
    with artifact.lock_place(progress):
        files = (
            f"PreSocial/{_class_folder(key.partition('/')[0])}/{key}.png"
            for each in keys.values()
            for key in each
        )
        if artifact.is_complete(files, _other):
            return done
        with artifact.create_folder(done) as folder:
            works = [
                _Work(video, _folders(video)) for each in spec.videos.values() for video in each
            ]
            make, doing = partial(_make_chunk, folder, spec), f"made videos in {root}"
            process_in_chunks(
                make, works, CHUNK, workers, doing=doing, total=len(works), progress=progress
            )
            write_splits(folder / "splits", keys)
            write_video_sources(folder, (REAL, *FAKES))
            words = ", ".join(f"{word}: [{source}]" for word, source in WORDS.items())
            write_dataset_file(folder, root, root / "splits", "sample", [f"subsets: {{{words}}}"])
    return done


def _other(_key: str, stored_identity: Mapping[str, Json]) -> str:
    spec = json.dumps(stored_identity.get("spec"))
    return f"a sample with other settings ({spec}, recipe {stored_identity.get('recipe')})"


def _class_folder(source: str) -> str:
    return "Real" if source == REAL else "Fake"


def _folders(video: str) -> dict[str, str]:
    return {
        source: f"PreSocial/{_class_folder(source)}/{source}/{video}" for source in (REAL, *FAKES)
    }


def _keys(spec: VideoSpec, videos: Sequence[str]) -> Iterator[str]:
    for source in (REAL, *FAKES):
        for video in videos:
            yield from (f"{source}/{video}/{frame:03d}" for frame in range(spec.frames))


def _make_chunk(root: Path, spec: VideoSpec, works: Sequence[_Work]) -> None:
    for work in works:
        frames = draw_video(work.video, spec)
        order = numpy_rng(f"sample/video/{work.video}/order", spec.seed).permutation(spec.frames)
        points = move_points(numpy_rng(f"sample/video/{work.video}/points", spec.seed), spec.frames)
        names = [f"{number:03d}" for number in range(spec.frames)]
        shown = {
            REAL: frames,
            SHUFFLED: [frames[place] for place in order],
            MARKED: [mark_frame(frame) for frame in frames],
        }
        for source, folder in work.folders.items():
            (root / folder).mkdir(parents=True)
            rows = points[order] if source == SHUFFLED else points
            write_landmarks(root / folder, names, rows, is_calibrated=True)
            for name, pixels in zip(names, shown[source], strict=True):
                path = root / folder / f"{name}.png"
                Image.fromarray(pixels).save(path, "PNG", compress_level=PNG_LEVEL)


def draw_video(video: str, spec: VideoSpec) -> list[Pixels]:
    """Return the frames of a real video, (size, size, 3) each, a function of seed and name."""
    rng = numpy_rng(f"sample/video/{video}", spec.seed)
    wide = round(spec.size_px * MARGIN)
    portrait = _draw_portrait(rng, wide)
    side = wide / MARGIN
    room = wide - side
    angle, step = rng.uniform(0, 2 * np.pi), side * rng.uniform(*STEP)
    motion = step * np.array([np.cos(angle), np.sin(angle)])
    place = rng.uniform(0, room, 2)
    period, phase = rng.uniform(*PERIOD), rng.uniform(0, 2 * np.pi)
    frames = []
    for number in range(spec.frames):
        left, top = place
        shown = portrait.resize(
            (spec.size_px, spec.size_px),
            Image.Resampling.BILINEAR,
            box=(left, top, left + side, top + side),
        )
        light = 1 + LIGHT * np.sin(2 * np.pi * number / period + phase)
        levels = np.asarray(shown) * light + rng.normal(0, NOISE, (*shown.size[::-1], 3))
        frames.append(np.rint(levels.clip(0, 255)).astype(np.uint8))
        motion = np.where((place + motion < 0) | (place + motion > room), -motion, motion)
        place = (place + motion).clip(0, room)
    return frames


def _draw_portrait(rng: np.random.Generator, size_px: int) -> Image.Image:
    """Return a face in front of a plain background, in random colours and proportions."""
    fine = size_px * FINE
    picture = Image.new("RGB", (fine, fine), _colour(rng, 60, 220))
    draw = ImageDraw.Draw(picture)
    stretch = rng.uniform(0.85, 1.15, 2)
    for (left, top, right, bottom), levels in PARTS:
        box = [
            fine * (0.5 + (place - 0.5) * stretch[at % 2])
            for at, place in enumerate((left, top, right, bottom))
        ]
        draw.ellipse(box, fill=_colour(rng, *levels))
    return picture.resize((size_px, size_px), Image.Resampling.BOX)


def _colour(rng: np.random.Generator, low: int, high: int) -> tuple[int, int, int]:
    red, green, blue = map(int, rng.integers(low, high, 3))
    return red, green, blue


def mark_frame(pixels: Pixels) -> Pixels:
    """Return a frame with stripes of one pixel, as the upsampling of a generator leaves them."""
    stripes = np.where(np.arange(pixels.shape[1]) % 2, MARK, -MARK)[None, :, None]
    return (pixels.astype(np.int16) + stripes).clip(0, 255).astype(np.uint8)
