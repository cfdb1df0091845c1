"""Frames of video files: which ones are read, and their pixels as a player shows them.

A file is read twice. The first time, its packets are counted, without decoding, and its traits are read
from their headers and sizes. The second time, all
frames up to the last chosen one are decoded in order and counted again. Seeking to key frames would give
the same pictures. It saves little in clips of half a minute, and relies on the index of the file.
"""

import os
import stat
import statistics
import threading
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from trueface.data.header_traits import NONE, short_text
from trueface.data.video_traits import VideoTraits
from trueface.runtime.image_files import PIXELS, admit

if TYPE_CHECKING:
    from av import CodecContext, VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

# others, such as playlists, would name further files or addresses to open
FORMATS = "mov,matroska,avi,mpeg,mpegts,asf,flv"
LACKING_S = 0.4  # by which a whole file may be shorter than its header says, in seconds
_HDR = {16: "PQ", 18: "HLG"}  # transfer functions, as ITU-T H.273 numbers them
COPY = 16  # pixels; width and height of a copy that is read only for its side data
UNKNOWN = "unknown"  # the codec of sound without a decoder
# tags of a container or stream that name the program or camera that wrote it
_PROGRAMS = frozenset({"encoder", "com.apple.quicktime.make", "com.apple.quicktime.software"})
_MATRIX = np.dtype("<i4")  # matrix of nine numbers, the first two rows in 16.16 fixed point

Pixels = NDArray[np.uint8]  # (H, W, 3) RGB


class BadVideoError(Exception):
    """A video file gives no frames that can be used; the text is the reason, without the file."""


class FrameChoice(NamedTuple):
    """Which frames of a video are read: some that are evenly spaced, runs of consecutive ones, or both."""

    frames: int = 0  # evenly spaced ones
    clips: int = 0  # runs
    length: int = 0  # frames of a run

    def numbers(self, total: int) -> tuple[int, ...]:
        """Return the places to read of `total` frames; all if there are fewer."""
        single = evenly_spaced(total, self.frames) if self.frames else ()
        last = max(0, total - self.length)  # first frame of the last run
        firsts = evenly_spaced(last + 1, self.clips) if self.clips else ()
        runs = (at for first in firsts for at in range(first, min(total, first + self.length)))
        return tuple(sorted({*single, *runs}))


class ChosenFrames(NamedTuple):
    """The frames to read from a video."""

    numbers: tuple[int, ...]  # places among all frames, in the order in which they are shown
    total: int  # all frames of the video
    traits: VideoTraits

    @property
    def runs(self) -> tuple[tuple[int, ...], ...]:
        """The runs of two or more consecutive numbers. Runs that touch are one."""
        runs: list[list[int]] = []
        for number in self.numbers:
            if runs and runs[-1][-1] == number - 1:
                runs[-1].append(number)
            else:
                runs.append([number])
        return tuple(tuple(run) for run in runs if len(run) > 1)


class _Packets(NamedTuple):
    """The packets of a video stream, in decoding order."""

    size_bytes: int
    times: list[int | None]  # time of each frame, or None if its packet has none
    keys: list[int]  # places of the key frames among them

    def key_distance(self) -> int | None:
        """Return the median distance of key frames as they are shown. None of a single one."""
        places = self.keys
        times = [time for time in self.times if time is not None]
        if len(times) == len(self.times):
            shown = sorted(times)
            places = [bisect_left(shown, times[key]) for key in self.keys]
        gaps = [after - before for before, after in pairwise(places)]
        return statistics.median_low(gaps) if gaps else None


def evenly_spaced(total: int, count: int) -> tuple[int, ...]:
    """Return the places of `count` frames, the first and the last among them; all if there are fewer.

    The formula is DeepfakeBench's: place k is k (total - 1) / (count - 1), rounded down by numpy.
    """
    return tuple(map(int, np.unique(np.linspace(0, total - 1, count, dtype=int))))


def choose_frames(file: str, choice: FrameChoice) -> ChosenFrames:
    """Return which frames of a video to read, and its traits, without decoding it.

    Args:
        file: of the video.
        choice: frames to choose.

    Raises:
        BadVideoError: the file is not a video, has no frames, or is not complete.
    """
    size, end = 0, 0.0
    times: list[int | None] = []
    keys: list[int] = []
    with _open_video(file) as (container, stream):
        start = (container.start_time or 0) / 1e6
        length = (container.duration or 0) / 1e6
        index = stream.index
        for packet in container.demux():
            if packet.is_corrupt:
                raise BadVideoError("it is cut off")
            time = packet.pts
            if time is not None and packet.time_base is not None:
                end = max(end, float((time + (packet.duration or 0)) * packet.time_base))
            # an edit list may hide frames; the last packet of a stream has no data
            if packet.size and packet.stream_index == index and not packet.is_discard:
                if packet.is_keyframe:
                    keys.append(len(times))
                times.append(time)
                size += packet.size
        if not times:
            raise BadVideoError("it has no frames")
        traits = _traits(container, stream, _Packets(size, times, keys))
    if end - start < length - LACKING_S:
        raise BadVideoError(f"it ends after {end - start:.1f} of {length:.1f} s")
    return ChosenFrames(choice.numbers(len(times)), len(times), traits)


def read_frames(
    file: str, frames: ChosenFrames, *, stop: threading.Event, threads: int = 1
) -> Iterator[tuple[int, Pixels]]:
    """Yield the number and the upright pixels of each chosen frame, in order.

    Args:
        file: of the video.
        frames: what `choose_frames` returned for it.
        stop: ends the reading early, at the next frame.
        threads: of the decoder; the pixels are the same with any number.

    Raises:
        BadVideoError: the file is damaged before its last chosen frame.
    """
    numbers, done = frozenset(frames.numbers), -1
    with _open_video(file) as (container, stream):
        context = stream.codec_context
        context.thread_count = threads
        context.thread_type = "AUTO" if threads > 1 else "NONE"
        # otherwise a decoder fills what it cannot read with grey or with other frames
        context.options = {"err_detect": "explode", "max_pixels": str(PIXELS)}
        for done, frame in enumerate(container.decode(stream)):
            if stop.is_set():
                return
            if done in numbers:
                if frame.is_corrupt:
                    raise BadVideoError(f"frame {done} is damaged")
                yield done, _turn_upright(frame)
            if done == frames.numbers[-1]:
                return
    raise BadVideoError(f"only {done + 1} of its {frames.total} frames can be decoded")


@contextmanager
def _open_video(file: str) -> Iterator[tuple["InputContainer", "VideoStream"]]:
    """Open a video file and choose its stream; change what PyAV raises into BadVideoError."""
    import av  # an extra
    from av.stream import Disposition

    source = -1
    try:
        source = os.open(file, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait for a writer
        if not stat.S_ISREG(os.fstat(source).st_mode):
            raise BadVideoError("it is not a regular file")
        # any name can be opened so, also one that is not UTF-8, and no name is taken as an address
        with av.open(
            f"file:/proc/self/fd/{source}",
            metadata_errors="replace",
            container_options={"format_whitelist": FORMATS, "protocol_whitelist": "file"},
        ) as container:
            stream: Any = container.streams.best("video")
            if stream is None or stream.disposition & Disposition.attached_pic:
                raise BadVideoError("it has no video, only other streams")
            _admit(stream)
            yield container, stream
    except av.EOFError as error:
        raise BadVideoError("it has no frames, or it is cut off") from error
    except av.FFmpegError as error:
        reason = error.strerror or type(error).__name__
        raise BadVideoError(f"it is not a video, or it is damaged: {reason}") from error
    except OSError as error:
        raise BadVideoError(error.strerror or str(error)) from error
    finally:
        if source >= 0:
            os.close(source)


def _admit(stream: "VideoStream") -> None:
    """Refuse a video whose frames are too large or would have wrong colours."""
    context: Any = stream.codec_context
    if context is None:
        raise BadVideoError("its codec has no decoder here. Convert it to H.264")
    admit(context.width, context.height)
    if curve := _HDR.get(context.color_trc):
        raise BadVideoError(f"it has HDR colours ({curve}). Convert it to SDR")


def _traits(container: "InputContainer", stream: "VideoStream", packets: _Packets) -> VideoTraits:
    """Return what the headers and packets of a video say of its coding. Its upright size needs pixels."""
    context = stream.codec_context
    rate = stream.average_rate or stream.guessed_rate
    area = context.width * context.height
    codecs = [cast("CodecContext | None", each.codec_context) for each in container.streams.audio]
    sound = sorted({each.codec.canonical_name if each else UNKNOWN for each in codecs})
    tags = [
        (name.lower(), short_text(text))
        for metadata in (container.metadata, stream.metadata)
        for name, text in metadata.items()
    ]
    programs = (text for name, text in tags if name in _PROGRAMS and text)
    brand = dict(tags).get("major_brand", "")
    return VideoTraits(
        codec=context.codec.canonical_name,
        profile=context.profile or "",
        pixel_format=context.pix_fmt or "",
        size="",
        frame_rate=round(float(rate), 2) if rate else None,
        container=container.format.name.partition(",")[0] + (f" ({brand})" if brand else ""),
        encoder=", ".join(dict.fromkeys(programs)) or NONE,
        sound=", ".join(sound) or NONE,
        bits_per_pixel=8 * packets.size_bytes / (len(packets.times) * area) if area else None,
        frames=len(packets.times),
        key_frames=len(packets.keys),
        key_distance=packets.key_distance(),
    )


def _turn_upright(frame: "VideoFrame") -> Pixels:
    """Return the pixels of a frame, turned and mirrored as its display matrix says."""
    admit(frame.width, frame.height)
    pixels: Any = frame.reformat(format="rgb24", threads=1).to_ndarray()
    # PyAV's side data and its frame refer to each other, so the frame stays until Python's garbage
    # collection; a small copy has the same side data
    copy = frame.reformat(COPY, COPY, "gray", interpolation="POINT", threads=1)
    side_data: Any = copy.side_data
    matrix = next((each for each in side_data if each.type.name == "DISPLAYMATRIX"), None)
    if matrix is None:
        return np.ascontiguousarray(pixels)
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(matrix), _MATRIX)[:5])
    # a point (x, y) is shown at (a x + c y, b x + d y)
    if abs(a) + abs(d) < abs(b) + abs(c):
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
