"""Small video files, written with PyAV, whose frames can be recognised."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

av = pytest.importorskip("av", reason="the extra `video` is not installed")

Pixels = NDArray[np.uint8]
HIGH, WIDE = 32, 48
RATE = 10
# without loss, in RGB
LOSSLESS: dict[str, Any] = {"codec": "libx264rgb", "pix_fmt": "rgb24", "options": {"qp": "0"}}


def noise(frames: int, seed: int = 0) -> list[Pixels]:
    """Return frames of squares in random colours, each of its own."""
    colours = np.random.default_rng(seed).integers(0, 256, (frames, HIGH // 8, WIDE // 8, 3))
    return [np.kron(each, np.ones((8, 8, 1))).astype(np.uint8) for each in colours]


def greys(frames: int) -> list[Pixels]:
    """Return plain frames; the brightness of frame k is 20 + 5 k, so that lossy ones differ, too."""
    return [np.full((HIGH, WIDE, 3), 20 + 5 * number, np.uint8) for number in range(frames)]


def write_video(
    path: Path,
    frames: Sequence[Pixels],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    matrix: Sequence[int] | None = None,
    times: Sequence[int] | None = None,
    sound: bool = False,
    colours: dict[str, int] | None = None,
) -> Path:
    """Write a video; `times` are those of the frames, in tenths of a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, options=options or {})
        high, wide = frames[0].shape[:2] if frames else (HIGH, WIDE)
        stream.width, stream.height, stream.pix_fmt = wide, high, pix_fmt
        for name, value in (colours or {}).items():
            setattr(stream.codec_context, name, value)
        if matrix is not None:
            stream.set_display_matrix(matrix)
        voice = container.add_stream("aac", rate=8000, layout="mono") if sound else None
        container.start_encoding()  # also if no frame follows
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = (
                number if times is None else times[number],
                Fraction(1, RATE),
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if voice is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            silence.sample_rate = 8000
            container.mux([*voice.encode(silence), *voice.encode()])
    return path
