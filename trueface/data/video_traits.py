"""Traits of video files beside their pixels, and their record in a data root.

`<root>/video_traits.json`   `{"schema": 1, "videos": {"c23/Fake/FF-DF/000_003": {"codec": "h264", …}}}`

The keys are the folders of the frames. A video without an entry is not known: its frames were
imported without the video file, or by an earlier version.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from trueface.runtime.files import write_atomic

FILE = "video_traits.json"
SCHEMA = 1


class VideoTraits(NamedTuple):
    """The coding of one video file. A text is "", and a number None, if it is not known."""

    codec: str  # "h264"
    profile: str  # "High"
    pixel_format: str  # "yuv420p"
    size: str  # "1080×1920", upright; known of videos that were decoded
    frame_rate: float | None  # frames per second
    container: str  # "mov (isom)"
    encoder: str  # recorded programs, or "none"
    sound: str  # codecs of its sound, or "none"
    bits_per_pixel: float | None  # from the sizes of all packets
    frames: int
    key_frames: int
    key_distance: int | None  # median distance of key frames in frames; None of a single one

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "VideoTraits":
        """Read the fields as a record has them.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        rate, bits, distance = map(content.get, ("frame_rate", "bits_per_pixel", "key_distance"))
        return cls(
            codec=str(content["codec"]),
            profile=str(content["profile"]),
            pixel_format=str(content["pixel_format"]),
            size=str(content["size"]),
            frame_rate=None if rate is None else float(rate),
            container=str(content["container"]),
            encoder=str(content["encoder"]),
            sound=str(content["sound"]),
            bits_per_pixel=None if bits is None else float(bits),
            frames=int(content["frames"]),
            key_frames=int(content["key_frames"]),
            key_distance=None if distance is None else int(distance),
        )


def read_traits(root: Path) -> dict[str, VideoTraits]:
    """Return the traits of the videos of a data root by the folder of their frames.

    None is known if the record is missing or damaged.
    """
    try:
        content = json.loads((root / FILE).read_bytes())
        if content["schema"] != SCHEMA:
            return {}
        videos = content["videos"].items()
        return {folder: VideoTraits.from_json(traits) for folder, traits in videos}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def write_traits(root: Path, videos: Mapping[str, VideoTraits]) -> None:
    """Write the record of a data root; without any video nothing is written."""
    if videos:
        content = {
            "schema": SCHEMA,
            "videos": {folder: traits._asdict() for folder, traits in sorted(videos.items())},
        }
        write_atomic(root / FILE, json.dumps(content, ensure_ascii=False, indent=0) + "\n")
