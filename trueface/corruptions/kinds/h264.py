"""Frames of H.264 video, by ffmpeg: the effect of a video of this rate factor.

It approximates the qualities c23 and c40 of video sets. A frame that is coded alone does not use
motion compensation, so it has a slightly better quality than most frames of such a video. The frames of a
clip are coded as one video, in their order.
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
    frames="together",
)
def h264(pixels: Tensor, strength: float, rng: random.Random) -> Tensor:
    """Return the image or the frames of a clip as libx264 leaves them, with colour at half resolution.

    Args:
        pixels: (3, H, W), or (T, 3, H, W) for a clip.
        strength: rate factor.
        rng: not used.

    Raises:
        JobError: ffmpeg is not installed, has no libx264, or does not end.
    """
    del rng
    height, width = pixels.shape[-2:]
    # an even number of rows and columns, and a whole macroblock: borders are repeated
    down, right = (max(LEAST, side + side % 2) - side for side in (height, width))
    borders = [(0, 0)] * (pixels.ndim - 3) + [(0, down), (0, right), (0, 0)]
    video = np.pad(pixels.movedim(-3, -1).numpy(), borders, mode="edge")
    count = len(video) if video.ndim > 3 else 1
    size = ("-s", f"{width + right}x{height + down}")
    coder = ("-c:v", "libx264", "-crf", f"{strength:g}", "-pix_fmt", "yuv420p")
    coded = pipe_through(
        (*_QUIET, *_RAW, *size, "-i", "-", "-frames:v", f"{count}", *coder, "-f", "h264", "-"),
        video.tobytes(),
    )
    decoded = pipe_through((*_QUIET, "-f", "h264", "-i", "-", *_RAW, "-"), coded)
    if len(decoded) != video.size:
        raise JobError(
            f"ffmpeg returned {len(decoded)} bytes for a frame of {video.size} bytes, so its H.264 decoder "
            "does not work. Install another ffmpeg."
        )
    whole = np.frombuffer(decoded, dtype=np.uint8).reshape(video.shape)
    return torch.from_numpy(whole[..., :height, :width, :].copy()).movedim(-1, -3).contiguous()
