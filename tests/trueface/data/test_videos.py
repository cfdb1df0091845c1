"""Frames of video files: which ones, their pixels, and files that give none."""

import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from tests.trueface.videos import HIGH, LOSSLESS, WIDE, Pixels, av, greys, noise, write_video
from trueface.data.videos import (
    BadVideoError,
    ChosenFrames,
    FrameChoice,
    choose_frames,
    evenly_spaced,
    read_frames,
)

TURN = 1 << 16  # one, in 16.16 fixed point


def read(file: Path, count: int = 1000, **more: Any) -> dict[int, Pixels]:
    chosen = choose_frames(str(file), FrameChoice(count))
    return dict(read_frames(str(file), chosen, stop=threading.Event(), **more))


def brightness(pixels: Pixels) -> int:
    """Return the number of a frame of `greys`."""
    return round((float(pixels.mean()) - 20) / 5)


@pytest.mark.parametrize(
    ("total", "count", "places"),
    [
        (500, 5, (0, 124, 249, 374, 499)),
        (5, 32, (0, 1, 2, 3, 4)),
        (10, 1, (0,)),
        (1, 32, (0,)),
        (33, 2, (0, 32)),
    ],
)
def test_chosen_frames_are_evenly_spaced_with_first_and_last(
    total: int, count: int, places: tuple[int, ...]
) -> None:
    assert evenly_spaced(total, count) == places


@pytest.mark.parametrize(
    ("choice", "total", "numbers", "runs"),
    [
        (FrameChoice(0, 3, 2), 20, [0, 1, 9, 10, 18, 19], [(0, 1), (9, 10), (18, 19)]),
        (FrameChoice(0, 1, 4), 20, [0, 1, 2, 3], [(0, 1, 2, 3)]),
        (FrameChoice(3, 2, 3), 20, [0, 1, 2, 9, 17, 18, 19], [(0, 1, 2), (17, 18, 19)]),
        # runs that touch or overlap have one crop
        (FrameChoice(0, 3, 3), 7, [*range(7)], [(0, 1, 2, 3, 4, 5, 6)]),
        (FrameChoice(0, 4, 8), 5, [*range(5)], [(0, 1, 2, 3, 4)]),
        (FrameChoice(0, 4, 8), 1, [0], []),
        (FrameChoice(2), 9, [0, 8], []),
    ],
)
def test_runs_of_consecutive_frames_are_evenly_spread(
    choice: FrameChoice, total: int, numbers: list[int], runs: list[tuple[int, ...]]
) -> None:
    chosen = choice.numbers(total)
    assert list(chosen) == numbers
    traits: Any = None
    assert list(ChosenFrames(chosen, total, traits).runs) == runs


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {"bf": "3", "g": "12"}),
        ("a.mp4", "mpeg4", {"bf": "2"}),
        ("a.mov", "libx264", {}),
        ("a.mkv", "libx264", {"bf": "2"}),
        ("a.webm", "libvpx-vp9", {}),
        ("a.webm", "libvpx", {}),
        ("a.avi", "mpeg4", {"bf": "2"}),
        ("a.avi", "libx264", {"bf": "3"}),
        ("a.mpg", "mpeg2video", {"bf": "2"}),
        ("a.ts", "libx264", {}),
    ],
)
def test_numbers_of_frames_are_right_in_each_container(
    name: str, codec: str, options: dict[str, str], tmp_path: Path
) -> None:
    rate = {"b": "2000000"} if codec in {"mpeg4", "mpeg2video"} else {}
    file = write_video(tmp_path / name, greys(40), codec=codec, options=options | rate)
    found = read(file, 7)
    assert tuple(found) == evenly_spaced(40, 7)
    assert [brightness(pixels) for pixels in found.values()] == list(found)


@pytest.mark.parametrize(
    ("name", "more", "traits"),
    [
        ("a.avi", {"codec": "rawvideo"}, {
            "codec": "rawvideo", "profile": "", "pixel_format": "yuv420p", "container": "avi", "encoder": "none",
            "sound": "none", "bits_per_pixel": 12.0, "frames": 30, "key_frames": 30, "key_distance": 1,
        }),
        ("a.mov", {"options": {"g": "12", "sc_threshold": "0", "bf": "3"}, "sound": True}, {
            "codec": "h264", "profile": "High", "frame_rate": 10.0, "container": "mov (qt)", "sound": "aac",
            "key_frames": 3, "key_distance": 12,
        }),
        ("a.mkv", {"options": {"x264-params": "keyint=infinite"}}, {
            "container": "matroska", "frames": 30, "key_frames": 1, "key_distance": None,
        }),
    ],
)  # fmt: skip
def test_traits_are_those_of_the_file(
    name: str, more: dict[str, Any], traits: dict[str, Any], tmp_path: Path
) -> None:
    file = write_video(tmp_path / name, greys(30), **more)
    found = choose_frames(str(file), FrameChoice(3)).traits._asdict()
    assert {trait: found[trait] for trait in traits} == traits


def test_bits_per_pixel_count_the_packets_of_the_pictures_alone(tmp_path: Path) -> None:
    file = write_video(tmp_path / "a.mp4", noise(20), sound=True)
    with av.open(str(file)) as container:
        size = sum(packet.size for packet in container.demux(video=0))
    bits = choose_frames(str(file), FrameChoice(3)).traits.bits_per_pixel
    assert bits == pytest.approx(8 * size / (20 * WIDE * HIGH))
    file.write_bytes(file.read_bytes().replace(b"mp4a", b"zzzz").replace(b"esds", b"zzzz"))
    assert choose_frames(str(file), FrameChoice(3)).traits.sound == "unknown"


@pytest.mark.parametrize(
    ("matrix", "turned"),
    [
        ((1, 0, 0, 1), lambda image: image),
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
        ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ((0, -1, 1, 0), lambda image: np.rot90(image, 1)),
        ((-1, 0, 0, 1), np.fliplr),
        ((1, 0, 0, -1), np.flipud),
        ((0, 1, 1, 0), lambda image: image.transpose(1, 0, 2)),
        ((0, -1, -1, 0), lambda image: np.rot90(image, 2).transpose(1, 0, 2)),
    ],
)
def test_frames_are_upright(
    matrix: tuple[int, int, int, int], turned: Callable[[Pixels], Pixels], tmp_path: Path
) -> None:
    a, b, c, d = (TURN * value for value in matrix)
    whole = [a, b, 0, c, d, 0, 0, 0, 1 << 30]
    frames = noise(2)
    file = write_video(tmp_path / "a.mp4", frames, matrix=whole, **LOSSLESS)
    np.testing.assert_array_equal(read(file)[1], turned(frames[1]))


def test_frames_are_freed_without_garbage_collection(tmp_path: Path) -> None:
    file = write_video(tmp_path / "a.mp4", noise(30), matrix=[0, TURN, 0, -TURN, *[0] * 4, 1 << 30])
    gc.collect()
    gc.disable()
    try:
        assert len(read(file)) == 30
        frames = [each for each in gc.get_objects() if isinstance(each, av.VideoFrame)]
        assert [frame for frame in frames if frame.width == WIDE] == []
    finally:
        gc.enable()


def test_ten_bits_become_eight(tmp_path: Path) -> None:
    file = write_video(tmp_path / "a.mp4", greys(20), pix_fmt="yuv420p10le")
    found = read(file, 4)
    assert {pixels.dtype for pixels in found.values()} == {np.dtype(np.uint8)}
    assert [brightness(pixels) for pixels in found.values()] == list(found)


def cut(file: Path, part: float) -> Path:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * part)])
    return file


def _text(folder: Path) -> Path:
    (folder / "a.mp4").write_text("no video")
    return folder / "a.mp4"


def _empty(folder: Path) -> Path:
    (folder / "a.mp4").touch()
    return folder / "a.mp4"


def _list_of_files(folder: Path) -> Path:
    write_video(folder / "b.mp4", greys(3))
    (folder / "a.mp4").write_text("ffconcat version 1.0\nfile b.mp4\n")
    return folder / "a.mp4"


def _picture(folder: Path) -> Path:
    PIL.Image.new("RGB", (WIDE, HIGH)).save(folder / "a.png")
    return (folder / "a.png").rename(folder / "a.mp4")


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "a.mp4")
    return folder / "a.mp4"


def _sound_only(folder: Path) -> Path:
    import av

    with av.open(str(folder / "a.mp4"), "w") as container:
        voice: Any = container.add_stream("aac", rate=8000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.sample_rate = 8000
        container.mux([*voice.encode(silence), *voice.encode()])
    return folder / "a.mp4"


def _no_frames(folder: Path) -> Path:
    return write_video(folder / "a.mkv", [], codec="ffv1")


def _without_end(folder: Path) -> Path:
    return cut(write_video(folder / "a.mp4", noise(20)), 0.6)


def _cut_matroska(folder: Path) -> Path:
    return cut(write_video(folder / "a.mkv", noise(20), codec="ffv1", pix_fmt="bgr0"), 0.5)


def _cut_avi(folder: Path) -> Path:
    return cut(write_video(folder / "a.avi", noise(20), codec="ffv1", pix_fmt="bgr0"), 0.5)


def _hdr(folder: Path) -> Path:
    return write_video(folder / "a.mp4", greys(3), pix_fmt="yuv420p10le", colours={"color_trc": 16})


def _unknown_codec(folder: Path) -> Path:
    file = write_video(folder / "a.mp4", greys(3))
    file.write_bytes(file.read_bytes().replace(b"avc1", b"zzzz"))
    return file


def _absent(folder: Path) -> Path:
    return folder / "a.mp4"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_text, "it is not a video, or it is damaged"),
        (_empty, "it is not a video, or it is damaged"),
        (_picture, "it is not a video, or it is damaged"),
        (_list_of_files, "it is not a video, or it is damaged"),
        (_without_end, "it is not a video, or it is damaged"),
        (_pipe, "it is not a regular file"),
        (_sound_only, "it has no video, only other streams"),
        (_no_frames, "it has no frames"),
        (_cut_matroska, "it ends after "),
        (_cut_avi, "it is cut off"),
        (_hdr, r"it has HDR colours \(PQ\). Convert it to SDR"),
        (_unknown_codec, "its codec has no decoder here. Convert it to H.264"),
        (_absent, "No such file"),
    ],
)
def test_unusable_videos_say_why(make: Callable[[Path], Path], reason: str, tmp_path: Path) -> None:
    file = make(tmp_path)
    with pytest.raises(BadVideoError, match=reason):
        read(file)


def test_video_is_broken_if_any_frame_before_the_last_chosen_one_is_damaged(tmp_path: Path) -> None:
    # a decoder would fill the damaged frame from others, and the frames after it would be wrong
    file = write_video(tmp_path / "a.mkv", noise(20), codec="mpeg4")
    content = bytearray(file.read_bytes())
    at = len(content) // 2
    content[at : at + 20] = bytes(255 - value for value in content[at : at + 20])
    file.write_bytes(content)
    with pytest.raises(BadVideoError, match="it is damaged"):
        read(file, 2)


def test_too_large_frames_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_video(tmp_path / "a.mp4", greys(3))
    monkeypatch.setattr("trueface.runtime.image_files.PIXELS", 1000)
    with pytest.raises(BadVideoError, match="48 x 32: more than 1,000 pixels"):
        choose_frames(str(file), FrameChoice(3))


def test_reading_stops_when_asked(tmp_path: Path) -> None:
    file = write_video(tmp_path / "a.mp4", greys(20))
    stop = threading.Event()
    frames = read_frames(str(file), choose_frames(str(file), FrameChoice(20)), stop=stop)
    next(frames)
    stop.set()
    assert list(frames) == []


def test_names_that_are_not_utf8_or_look_like_addresses_are_files(tmp_path: Path) -> None:
    for name in (b"a\xff.mp4", b"http:x.mp4"):
        file = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)))  # noqa: PTH118
        write_video(tmp_path / "a.mp4", greys(3)).rename(file)
        assert list(read(file)) == [0, 1, 2]
