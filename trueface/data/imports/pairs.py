"""The same frame of the real video for each frame of a fake video: `trueface import --pairs`.

<root>/sources/     real frames, each below the folders of its fake, such as c23/FF-DF/000_003/012.png

<root>/pairs.json   the images of each list and their real frames, as `quality_list` reads it, see `data.qualities`.
                    `left_out` has the fakes without a real frame, with the reason.

The numbers of frames are those of the fake, also if its real video is longer. If faces are aligned, the crop of the
fake serves both. A fake without its real frame is left out.
"""

import filecmp
import json
import shutil
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from trueface.corruptions.registry import RAW
from trueface.data.attributes import class_of
from trueface.data.image_headers import read_size
from trueface.data.imports.alignment import FaceCrop, FoundFaces, write_crops
from trueface.data.imports.people import real_video_of
from trueface.data.imports.registry import FAKE, REAL, ImportedImage, is_video
from trueface.data.imports.video_frames import frame_name
from trueface.data.imports.writing import PAIRS, Origin
from trueface.data.qualities import LABELS
from trueface.data.videos import ChosenFrames
from trueface.runtime.errors import DataError, UsageError
from trueface.runtime.files import Json

SCHEMA = 1
SOURCES = "sources"  # folder of the real frames in a data root
SOURCE = "source"  # the quality of them in pairs.json
MOST_REASONS = 3  # in the warning about fakes that are left out


class Lack(StrEnum):
    """Why a fake has no real frame; stored in pairs.json."""

    NAMELESS = "nameless"
    MISSING = "missing"
    SEVERAL = "several"
    SHORT = "short"
    FRAME = "frame"
    SIZE = "size"
    EQUAL = "equal"


_WORDS: Mapping[Lack, str] = {
    Lack.NAMELESS: "its name does not show the real video",
    Lack.MISSING: "its real video is missing or cannot be read",
    Lack.SEVERAL: "several real videos have the name of its real video",
    Lack.SHORT: "its real video has fewer frames",
    Lack.FRAME: "its real frame is missing or cannot be read",
    Lack.SIZE: "its real frame has another size",
    Lack.EQUAL: "it is equal to its real frame",
}
_OF_FRAMES = frozenset(
    {Lack.FRAME, Lack.SIZE, Lack.EQUAL}
)  # other frames of the video may have a real frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """The real frames of the fakes of an import."""

    real_frames: Mapping[
        str, str
    ]  # file of a fake → file of its real frame, with the path of its video if it has one
    left_out: Mapping[str, Lack]  # fake video, or file of a fake

    def without_left_out(self, images: Iterable[ImportedImage]) -> list[ImportedImage]:
        """Return the images whose file and video are not left out."""
        return [
            each for each in images if not {each.file, _folder_of(each.file)} & self.left_out.keys()
        ]

    def real_numbers(self, files: Collection[str]) -> dict[str, tuple[int, ...]]:
        """Return the numbers of the frames of real video files that some fakes need."""
        numbers = defaultdict[str, set[int]](set)
        for fake, real in self.real_frames.items():
            video = _folder_of(real)
            if fake in files and is_video(_name(video)):
                numbers[video].add(int(_stem(real)))
        return {video: tuple(sorted(each)) for video, each in numbers.items()}

    def drop_unfit(
        self, decoded_files: Mapping[str, str], broken_files: Collection[str]
    ) -> "Pairing":
        """Leave out new fakes whose real frame cannot be read, has another size, or is equal.

        Args:
            decoded_files: the decoded picture of each new frame. Other frames of video files are not checked.
            broken_files: videos that give no frames.
        """
        real_frames, left_out = dict[str, str](), dict(self.left_out)
        for fake, real in self.real_frames.items():
            pictures = [decoded_files.get(file, file) for file in (fake, real)]
            lack = None
            if _folder_of(real) in broken_files:
                lack = Lack.MISSING
            elif not any(is_video(_name(_folder_of(picture))) for picture in pictures):
                lack = _difference(*pictures)
            if lack is None:
                real_frames[fake] = real
            else:
                left_out[_place_of_lack(fake, lack)] = lack
        return Pairing(real_frames=real_frames, left_out=left_out)


def check_pairs(root: Path, *, with_pairs: bool, is_new: bool) -> None:
    """Reject an import that would add fakes without real frames to those with real frames, or the reverse.

    Raises:
        UsageError: it would.
    """
    has_pairs = (root / PAIRS).exists()
    if is_new or with_pairs == has_pairs:
        return
    has, remedy = ("no pairs", "leave out --pairs") if with_pairs else ("pairs", "add --pairs")
    raise UsageError(f"the fakes of {root} have {has}. Import into a new folder, or {remedy}.")


def read_left_out(root: Path) -> dict[str, Lack]:
    """Return the fakes that earlier imports left out.

    Raises:
        DataError: pairs.json cannot be read.
    """
    try:
        return _left_out(json.loads((root / PAIRS).read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"cannot read {root / PAIRS}: {error}. Import into a new folder."
        ) from error


def _left_out(content: Mapping[str, Any]) -> dict[str, Lack]:
    if content["schema"] != SCHEMA:
        raise ValueError(f"schema {content['schema']} is unknown")
    return {file: Lack(why) for file, why in content["left_out"].items()}


def match_frames(
    images: Sequence[ImportedImage],
    videos: Mapping[str, ChosenFrames] = MappingProxyType({}),
    earlier_left_out: Mapping[str, Lack] = MappingProxyType({}),
) -> Pairing:
    """Return the real frame of each fake, by names and numbers.

    Args:
        images: of a data set.
        videos: its video files. Those of real images give any of their frames.
        earlier_left_out: files of fakes that an earlier import left out of a video.
    """
    reals = _RealVideos(images, videos)
    real_frames, left_out = dict[str, str](), dict[str, Lack]()
    for image in images:
        if image.label != FAKE:
            continue
        found = earlier_left_out.get(image.file) or reals.find(image)
        if isinstance(found, Lack):
            left_out[_place_of_lack(image.file, found)] = found
        else:
            real_frames[image.file] = found
    return Pairing(real_frames=real_frames, left_out=left_out)


class _RealVideos:
    """Finds the frames of real videos."""

    def __init__(self, images: Iterable[ImportedImage], videos: Mapping[str, ChosenFrames]) -> None:
        self.videos = videos
        self.frames = defaultdict[str, dict[str, str]](dict)  # video → number of a frame → its file
        self.named = defaultdict[tuple[str, str], set[str]](set)  # modifier and name → videos
        for image in images:
            if image.label != REAL or not image.is_frame:
                continue
            video = _folder_of(image.file)
            self.frames[video][_stem(image.file)] = image.file
            self.named[image.modifier, _video_name(video)].add(video)
            self.named[image.modifier, _without_suffix(video)].add(video)

    def find(self, fake: ImportedImage) -> str | Lack:
        """Return the file of the real frame of a fake, or why it has none."""
        own = _folder_of(fake.file)
        name = fake.original or (real_video_of(_video_name(own)) if fake.is_frame else "")
        if not name:
            return Lack.NAMELESS
        found = self.named.get((fake.modifier, name), set())
        if len(found) != 1:
            return Lack.SEVERAL if found else Lack.MISSING
        (video,) = found
        stem = _stem(fake.file)
        if video not in self.videos:
            return self.frames[video].get(stem, Lack.FRAME)
        total = self.videos[video].total
        if own in self.videos and self.videos[own].total > total:
            return Lack.SHORT
        is_there = stem.isdecimal() and int(stem) < total and frame_name(int(stem)) == f"{stem}.png"
        return f"{video}/{stem}.png" if is_there else Lack.FRAME


def source_path(path: str) -> str:
    """Return the path of the real frame of a fake, both below the data root."""
    top, _, below = path.split("/", 2)
    return f"{SOURCES}/{top}/{below}"


def pairs_text(
    files: Iterable[str], lists: Mapping[str, Collection[str]], left_out: Mapping[str, Lack]
) -> str:
    """Return the content of pairs.json.

    Args:
        files: paths of all images below the data root. Each fake has a real frame.
        lists: keys of each list.
        left_out: fakes without a real frame.
    """
    by_key = defaultdict[str, list[str]](list)
    for path in files:
        by_key[path.split("/", 2)[2].rpartition(".")[0].replace("\\", "/")].append(path)
    content: dict[str, Json] = {"schema": SCHEMA}
    for name, keys in lists.items():
        paths = sorted(path for key in keys for path in by_key.get(key, ()))
        labels = [class_of(path) for path in paths]
        sources = [
            source_path(path) if label == FAKE else path
            for path, label in zip(paths, labels, strict=True)
        ]
        content[name] = {RAW: list(paths), SOURCE: list(sources), LABELS: list(labels)}
    content["left_out"] = {file: str(left_out[file]) for file in sorted(left_out)}
    return json.dumps(content, ensure_ascii=False, indent=0) + "\n"


def write_sources(
    folder: Path,
    new_images: Mapping[str, Origin],
    real_frames: Mapping[str, str],
    *,
    decoded_files: Mapping[str, str],
    faces: FoundFaces | None,
    copy: bool,
) -> None:
    """Write the real frames of new fakes.

    Args:
        folder: of the data root.
        new_images: path below it → picture.
        real_frames: as `Pairing` has them.
        decoded_files: the decoded picture of each new frame.
        faces: those of the fakes, whose crops are taken. None if frames are whole.
        copy: copy files instead of linking them.

    Raises:
        OSError: the disk is full.
        DataError: a picture cannot be read any more.
    """
    pictures = {
        f"{folder}/{source_path(path)}": (file, real_frames[file])
        for path, (file, _, _) in new_images.items()
        if file in real_frames
    }
    for above in {Path(target).parent for target in pictures}:
        above.mkdir(parents=True, exist_ok=True)
    if faces is not None:
        crops = [
            FaceCrop(decoded_files.get(real, real), target, face)
            for target, (fake, real) in pictures.items()
            if (face := faces.searches[fake].face) is not None
        ]
        write_crops(crops, faces.record.geometry)
        return
    for target, (_, real) in pictures.items():
        _place(real, decoded_files.get(real), target, copy=copy)


def _place(real: str, picture: str | None, target: str, *, copy: bool) -> None:
    part = Path(f"{_folder_of(target)}/.{_name(target)}.part")
    part.unlink(missing_ok=True)
    if picture is not None:
        try:
            part.hardlink_to(picture)  # several fakes may have the same real frame
        except OSError:
            shutil.copyfile(picture, part)
    elif copy:
        shutil.copy2(real, part)
    else:
        part.symlink_to(real)
    part.replace(target)


def left_out_sentence(left_out: Mapping[str, Lack]) -> str:
    """Return in words which fakes are left out."""
    by_reason = defaultdict[Lack, list[str]](list)
    for file, lack in sorted(left_out.items()):
        by_reason[lack].append(file)
    often = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    shown = "; ".join(
        f"{files[0]}: {_WORDS[lack]}{f' ({len(files)})' if len(often) > 1 else ''}"
        for lack, files in often[:MOST_REASONS]
    )
    many = len(left_out) > 1
    return (
        f"{len(left_out)} fake video{'s' * many} or frame{'s' * many} without the real frame {'are' if many else 'is'} "
        f"left out, such as {shown}{'; …' * (len(often) > MOST_REASONS)}"
    )


def _difference(fake: str, real: str) -> Lack | None:
    """Return why the pictures of a fake and of its real frame are not a pair."""
    size = read_size(real)
    if size is None:
        return Lack.FRAME
    if size != read_size(fake):
        return Lack.SIZE
    # frames of videos are PNG files of one encoder, so equal pixels are equal bytes
    return Lack.EQUAL if filecmp.cmp(fake, real, shallow=False) else None


def _place_of_lack(file: str, lack: Lack) -> str:
    """Return the file of a fake, or its video file if all frames of it lack the same."""
    video = _folder_of(file)
    return video if lack not in _OF_FRAMES and is_video(_name(video)) else file


def _folder_of(file: str) -> str:
    return file.rpartition("/")[0]


def _name(file: str) -> str:
    return file.rpartition("/")[2]


def _stem(file: str) -> str:
    return _name(file).rpartition(".")[0]


def _without_suffix(video: str) -> str:
    """Return the path of a video without its suffix; a folder of frames has none."""
    return video.rpartition(".")[0] if is_video(_name(video)) else video


def _video_name(video: str) -> str:
    return _name(_without_suffix(video))
