"""`trueface import --videos --clips` of unusual videos: each gives its runs, or a sentence says why not."""

import json
from collections import Counter
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from launcher.api import Words, parse_data
from tests.trueface.commands import Command
from tests.trueface.videos import HIGH, RATE, WIDE, Pixels, noise, write_video
from trueface.data.clips import Clips, make_clips
from trueface.data.dataset_file import video_sources
from trueface.data.index import survey
from trueface.data.vocabulary import BUILT_IN

HOURS = 72_000  # tenths of a second
QUARTER = [0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30]  # display matrix, in fixed point
VOCABULARY = BUILT_IN.with_words(Words(subsets={"fakes": ("v",), "reals": ("realV",)}))
RUNS = ["000", "001", "010", "011"]  # --clips 2 --length 2 of 12 frames


def write_growing_video(path: Path, frames: list[Pixels]) -> None:
    """Write a stream whose second half has frames of twice the side."""
    path.parent.mkdir(parents=True, exist_ok=True)
    large = [np.kron(each, np.ones((2, 2, 1))).astype(np.uint8) for each in frames]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDE, HIGH, "yuv420p"
        second = av.VideoCodecContext.create("mpeg4", "w")
        second.width, second.height, second.pix_fmt = 2 * WIDE, 2 * HIGH, "yuv420p"
        second.time_base, second.framerate = Fraction(1, RATE), Fraction(RATE)
        packets = []
        for number, pixels in enumerate((*frames, *large)):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            packets += (stream if number < len(frames) else second).encode(frame)
            if number == len(frames) - 1:
                packets += stream.encode()
        for packet in (*packets, *second.encode()):
            packet.stream = stream
            container.mux(packet)


def pixels_of(root: Path, name: str) -> NDArray[np.float64]:
    (path,) = root.rglob(f"{name}.png")
    with PIL.Image.open(path) as image:
        return np.asarray(image, np.float64)


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Return a folder with a video of each unusual kind."""
    top = tmp_path / "v"
    fake, real = top / "fake", top / "real"
    write_video(real / "plain.mp4", noise(12))
    write_video(fake / "plain_fake.mp4", noise(12, 1))  # the same names of frames
    wide = [np.full((2160, 3840, 3), 20 + 9 * number, np.uint8) for number in range(2)]
    write_video(fake / "4k.mp4", wide, codec="mpeg4")
    write_video(fake / "long.mp4", noise(12, 2), times=range(0, HOURS + 1, HOURS // 11))
    write_video(real / "turned.mp4", noise(12, 3), matrix=QUARTER)
    write_video(real / "uneven.mkv", noise(12, 4), times=[number**2 for number in range(12)])
    write_video(real / "one.mp4", noise(1, 5))
    write_growing_video(fake / "grows.ts", noise(6, 6))
    for name in ("cut.mp4", "cut.mkv"):
        content = write_video(real / name, noise(40, 7)).read_bytes()
        (real / name).write_bytes(content[: len(content) * 2 // 3])
    gap = fake / "gap"  # frames that someone has extracted, one of them missing
    gap.mkdir()
    for number in (0, 1, 2, 4, 5):
        PIL.Image.new("RGB", (WIDE, HIGH), (number, 0, 0)).save(gap / f"{number:03}.png")
    return top


def test_unusual_videos_give_runs_or_a_sentence(
    odd: Path, tmp_path: Path, command: Command
) -> None:
    root = tmp_path / "vi"
    words: list[str | Path] = [
        "import",
        "folders",
        odd,
        "--videos",
        "--clips",
        "2",
        "--length",
        "2",
        "--out",
        root,
    ]
    printed = command(*words, "--json")
    remarks = " ".join(printed.json["remarks"])
    broken = {Path(file).name: reason for file, reason in printed.json["broken_videos"].items()}
    assert broken.pop("grows.ts") == "frame 10 has 96 by 64 pixels, and the first one has 48 by 32"
    assert broken.pop("cut.mkv").startswith("it ends after ")
    assert broken.pop("cut.mp4").startswith("it is not a video, or it is damaged")
    assert not broken
    assert "3 video files cannot be read, such as " in remarks
    assert f"1 of 7 videos have fewer than 2 frames, such as {odd}/real/one.mp4 with 1." in remarks
    assert "They give no clip." in remarks
    frames: dict[str, list[str]] = {}
    for path in sorted(root.rglob("*.png")):
        frames.setdefault(path.parent.name, []).append(path.stem)
    assert frames.pop("4k") == RUNS[:2]
    assert frames.pop("one") == RUNS[:1]
    assert frames.pop("gap") == [f"{number:03}" for number in (0, 1, 2, 4, 5)]
    assert frames == dict.fromkeys(("plain", "plain_fake", "long", "turned", "uneven"), RUNS)
    shapes = [pixels_of(root, name).shape[:2] for name in ("4k/001", "turned/011")]
    assert shapes == [(2160, 3840), (WIDE, HIGH)]
    turned = np.rot90(noise(12, 3)[11], -1)
    assert np.abs(pixels_of(root, "turned/011") - turned).mean() < 20  # another turn: more than 50
    images = [
        image
        for data in ("fakes:pre", "reals:pre")
        for image in survey(root, parse_data(data), VOCABULARY).images
    ]
    clips, found = make_clips(images, Clips(frames=2), video_sources(root))
    assert found.short == ("realV/one",)
    counts = Counter(clip.key.split("/")[1] for clip in clips)
    assert counts == {**dict.fromkeys(frames, 2), "4k": 1, "gap": 2}  # a missing frame ends a clip
    for clip in clips:
        folders = {Path(file).parent for file in clip.frames}
        numbers = [int(Path(file).stem) for file in clip.frames]
        assert len(folders) == 1
        assert numbers == [*range(numbers[0], numbers[0] + 2)]
    assert json.loads((root / "videos.json").read_text())["sources"] == ["realV", "v"]
