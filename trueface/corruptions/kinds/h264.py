"""One frame of H.264 video, by ffmpeg: the effect of a video of this rate factor.

It approximates the qualities c23 and c40 of video sets. A frame that is coded alone does not use
motion compensation, so it has a slightly better quality than most frames of such a video.
"""

import random

import numpy as np
import torch
from torch import Tensor

from trueface.corruptions.chain import pipe_through
from trueface.corruptions.registry import register_corruption
from trueface.runtime.errors import JobError

LEAST = 16  # pixels of a side: a macroblock
_QUIET = ("ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "error", "-threads", "1")
_RAW = ("-f", "rawvideo", "-pix_fmt", "rgb24")


@register_corruption(
    "h264-",
    summary="one frame of H.264 video with this constant rate factor, by ffmpeg (c23 is h264-23, c40 "
    "is h264-40)",
    strength="rate factor",
    low=0,
    high=51,
    whole=True,
    program="ffmpeg",
)
def h264(pixels: Tensor, strength: float, rng: random.Random) -> Tensor:
    """Return the image as libx264 leaves it, with colour at half resolution.

    Raises:
        JobError: ffmpeg is not installed, has no libx264, or does not end.
    """
    del rng
    height, width = pixels.shape[-2:]
    # an even number of rows and columns, and a whole macroblock: borders are repeated
    down, right = (max(LEAST, side + side % 2) - side for side in (height, width))
    frame = np.pad(pixels.permute(1, 2, 0).numpy(), ((0, down), (0, right), (0, 0)), mode="edge")
    size = ("-s", f"{width + right}x{height + down}")
    coder = ("-c:v", "libx264", "-crf", f"{strength:g}", "-pix_fmt", "yuv420p")
    coded = pipe_through(
        (*_QUIET, *_RAW, *size, "-i", "-", "-frames:v", "1", *coder, "-f", "h264", "-"),
        frame.tobytes(),
    )
    decoded = pipe_through((*_QUIET, "-f", "h264", "-i", "-", *_RAW, "-"), coded)
    if len(decoded) != frame.size:
        raise JobError(
            f"ffmpeg returned {len(decoded)} bytes for a frame of {frame.size} bytes, so its H.264 decoder "
            "does not work. Install another ffmpeg."
        )
    whole = np.frombuffer(decoded, dtype=np.uint8).reshape(frame.shape)
    return torch.from_numpy(whole[:height, :width].copy()).permute(2, 0, 1).contiguous()
