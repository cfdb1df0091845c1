"""Synthetic videos: differences of a fake from its real video."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from trueface.data.dataset_file import video_sources
from trueface.data.made.sample_videos import VideoSpec, draw_video, make_sample_videos, mark_frame
from trueface.runtime.errors import DataError

SPEC = VideoSpec(seed=1, size_px=32, frames=6, train=2, val=1, test=1)


def test_fakes_are_the_frames_of_their_real_video_in_another_order_or_marked(
    tmp_path: Path,
) -> None:
    root = tmp_path / "videos"
    done = make_sample_videos(root, SPEC, workers=1)
    assert done["images"] == 3 * 4 * 6
    assert make_sample_videos(root, SPEC, workers=1) == done
    files = {
        source: [(root / f"PreSocial/{folder}/{source}/002/{at:03}.png") for at in range(6)]
        for folder, source in (("Real", "drawn"), ("Fake", "shuffled"), ("Fake", "marked"))
    }
    real, shuffled = ([file.read_bytes() for file in files[name]] for name in ("drawn", "shuffled"))
    assert real != shuffled
    assert sorted(real) == sorted(shuffled)
    pixels = [np.asarray(PIL.Image.open(files[name][0])) for name in ("drawn", "marked")]
    np.testing.assert_array_equal(mark_frame(pixels[0]), pixels[1])
    assert np.array_equal(draw_video("002", SPEC)[0], pixels[0])
    lists = {
        name: json.loads((root / f"splits/{name}.json").read_text()) for name in ("train", "val")
    }
    assert {key.split("/")[1] for key in lists["train"]} == {"000", "001"}
    assert {key.split("/")[0] for key in lists["val"]} == {"drawn", "shuffled", "marked"}
    assert video_sources(root) == {"drawn", "shuffled", "marked"}
    with pytest.raises(DataError, match="other settings"):
        make_sample_videos(root, VideoSpec(seed=2, size_px=32, frames=6, train=2, val=1, test=1))


def test_faces_move_and_the_light_changes() -> None:
    frames = np.stack(
        draw_video("000", VideoSpec(seed=1, size_px=32, frames=32, train=1, val=0, test=0))
    )
    means = frames.mean((1, 2, 3))
    assert means.max() / means.min() > 1.5
    assert len({frame.tobytes() for frame in frames}) == 32
