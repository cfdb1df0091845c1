"""Landmarks: 68 points of a face in each frame of a video, stored beside the frames. No torch here.

<video>/landmarks.csv              Points in pixels of the frame.
<video>/calibrated_landmarks.csv   Points of a face of 400 x 400 pixels, smoothed along the video, as (point - 200) / 200.

Both have the columns frame,x0,y0,…,x67,y67. A frame has the name of its file without suffix. The points have the
order of iBUG 300-W. Points 0 to 16 are the jaw, from the left of the picture. Then come brows, nose (27 to 35), eyes (36
to 47) and mouth.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trueface.data.folders import CALIBRATED_LANDMARKS, LANDMARKS
from trueface.runtime.errors import BadImageError
from trueface.runtime.files import write_atomic

POINTS = 68
COLUMNS = ("frame", *(f"{axis}{point}" for point in range(POINTS) for axis in "xy"))
HEADER = ",".join(COLUMNS)
# largest coordinate of a calibrated point. Those of a face end near 1; those in pixels are larger
FARTHEST = 4.0
MOST_FILES = 256  # files that stay in memory; 256 videos of 400 frames have 56 MB

Points = NDArray[np.float32]  # (N, 68, 2): x and y


class Landmarks(NamedTuple):
    """The landmarks of some frames of a video."""

    rows: Mapping[str, int]  # name of a frame → its row
    points: Points


def landmark_file(folder: Path, *, is_calibrated: bool) -> Path:
    """Return the file of the landmarks of a video, which is a folder of frames."""
    return folder / (CALIBRATED_LANDMARKS if is_calibrated else LANDMARKS)


def write_landmarks(
    folder: Path, frames: Sequence[str], points: NDArray[np.floating], *, is_calibrated: bool
) -> None:
    """Write the landmarks of a video.

    Args:
        folder: of the frames.
        frames: their names without suffix.
        points: (N, 68, 2) of each.
        is_calibrated: which of the two files.
    """
    rows = (
        ",".join((name, *(f"{number:.6g}" for number in row.ravel().tolist())))
        for name, row in zip(frames, points, strict=True)
    )
    text = "\n".join((HEADER, *rows))
    # the import syncs all files at its end
    write_atomic(landmark_file(folder, is_calibrated=is_calibrated), text + "\n", durable=False)


def read_landmarks(folder: Path, *, is_calibrated: bool) -> Landmarks:
    """Return the landmarks of a video.

    Args:
        folder: of the frames.
        is_calibrated: which of the two files.

    Raises:
        BadImageError: the file is missing or has a fault; see `find_fault`.
    """
    file = landmark_file(folder, is_calibrated=is_calibrated)
    try:
        status = file.stat()
    except OSError as error:
        raise BadImageError(file, _absent_reason(folder, is_calibrated=is_calibrated)) from error
    return _read(str(file), status.st_size, status.st_mtime_ns, is_calibrated)


def read_points(frames: Sequence[str], *, is_calibrated: bool) -> Points:
    """Return the landmarks of the frames of a clip, (T, 68, 2).

    Args:
        frames: files of one video.
        is_calibrated: which of the two files.

    Raises:
        BadImageError: see `read_landmarks`. Also if a frame has no row.
    """
    folder = Path(frames[0]).parent
    landmarks = read_landmarks(folder, is_calibrated=is_calibrated)
    names = [Path(frame).stem for frame in frames]
    lacking = [name for name in names if name not in landmarks.rows]
    if lacking:
        file = landmark_file(folder, is_calibrated=is_calibrated)
        raise BadImageError(file, f"it has no row for {len(lacking)} frames, such as {lacking[0]}")
    points: Points = landmarks.points[[landmarks.rows[name] for name in names]]
    return points


def find_fault(points: NDArray[np.floating], *, is_calibrated: bool) -> str:
    """Return what is wrong with the landmarks (N, 68, 2) of a video, or ''."""
    if not np.isfinite(points).all():
        row, point, _ = np.argwhere(~np.isfinite(points))[0]
        return f"point {point} in row {row + 1} is not a finite number"
    if is_calibrated and np.abs(points).max() > FARTHEST:
        return (
            f"its largest coordinate is {np.abs(points).max():g}, so its points are pixels without calibration. "
            "Calibrated ones are (point - 200) / 200 of a face of 400 pixels"
        )
    if not _is_ordered(np.median(points, axis=0)):
        return (
            "its points have another order than iBUG 300-W, which begins with the jaw from the left of the picture. The "
            "eyes are 36 to 47, the mouth 48 to 67"
        )
    return ""


def _is_ordered(face: NDArray[np.floating]) -> bool:
    """Return whether the parts of a face (68, 2) are where they belong, whichever way the face is turned."""
    eyes = face[36:42].mean(0), face[42:48].mean(0)
    right = eyes[1] - eyes[0]
    across, down = face @ right, face @ np.array([-right[1], right[0]])
    heights = [
        down[part].mean() for part in (slice(17, 27), slice(36, 48), slice(31, 36), slice(48, 68))
    ]
    is_upright = bool(heights == sorted(heights) and down[8] > heights[-1])
    pairs = ((0, 16), (17, 26), (36, 45), (48, 54))
    return is_upright and all(across[left] < across[right] for left, right in pairs)


def _absent_reason(folder: Path, *, is_calibrated: bool) -> str:
    remedy = "Import the videos with trueface import --landmarks"
    if is_calibrated and landmark_file(folder, is_calibrated=False).exists():
        return (
            "the landmarks of this video are not calibrated, and without calibration a real video looks like a fake. "
            f"{remedy}"
        )
    return f"this video has no landmarks. {remedy}"


@lru_cache(maxsize=MOST_FILES)
def _read(
    file: str, size: int, time: int, is_calibrated: bool
) -> Landmarks:  # positional for the cache
    del size, time  # a changed file is read again
    try:
        with open(file, encoding="utf-8-sig") as text:  # noqa: PTH123  # a path as a text is the cache's key
            header, *lines = text.read().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadImageError(Path(file), f"it cannot be read: {error}") from error
    _refuse_columns(file, header)
    names, rows = list[str](), list[list[str]]()
    for number, line in enumerate(lines, start=2):
        if not line.strip():
            continue
        name, *cells = line.split(",")
        if len(cells) != 2 * POINTS:
            raise BadImageError(
                Path(file), f"line {number} has {len(cells)} numbers in place of {2 * POINTS}"
            )
        names.append(name.strip())
        rows.append(cells)
    try:
        points = np.array(rows, dtype=np.float32).reshape(-1, POINTS, 2)
    except ValueError as error:
        raise BadImageError(Path(file), str(error)) from error
    if not names:
        raise BadImageError(Path(file), "it has no rows")
    if len({*names}) < len(names):
        raise BadImageError(Path(file), "it has two rows of the same frame")
    if fault := find_fault(points, is_calibrated=is_calibrated):
        raise BadImageError(Path(file), fault)
    points.flags.writeable = False  # callers share it
    return Landmarks({name: row for row, name in enumerate(names)}, points)


def _refuse_columns(file: str, header: str) -> None:
    columns = [cell.strip() for cell in header.split(",")]
    if columns == list(COLUMNS):
        return
    count = sum(cell[:1] == "x" for cell in columns)
    reason = f"it has {count} points in place of {POINTS}"
    if count == POINTS:
        reason = "its columns have other names or another order"
    raise BadImageError(Path(file), f"{reason}. Its header must be frame,x0,y0,…,x67,y67")
