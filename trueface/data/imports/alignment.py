"""The faces that `trueface import --align` cuts out of the pictures of a data set, and their record.

<root>/alignment.json    detector, size and margin; the pictures without a face, with several, and unreadable ones

Each picture is read twice: to find its face before the lists are made, and to write it. Processes share the
work. The same pictures give the same bytes with any number of processes.
"""

import io
import json
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageOps
from PIL import ExifTags

from trueface.data.face_alignment import (
    DetectedFace,
    Geometry,
    Pixels,
    crop,
    describe_models,
    face_models,
    reaches_beyond,
)
from trueface.data.image_formats import is_turned
from trueface.data.imports.passed_over import Reason
from trueface.data.imports.registry import ImportedImage
from trueface.data.imports.writing import ALIGNMENT, Origin
from trueface.data.loading.decoding import decode_array
from trueface.runtime.errors import BadImageError, DataError, UsageError
from trueface.runtime.files import write_atomic
from trueface.runtime.image_files import open_image
from trueface.runtime.process_pool import chunks_of, map_chunks, process_in_chunks

SCHEMA = 1
SUFFIX = ".png"  # lossless: a JPEG would add equal traces to both classes, and hide others
CHUNK = 32  # pictures; half a second of work at 256 x 256 pixels

Progress = Callable[[int], None]  # called with the number of further pictures


class Search(NamedTuple):
    """The result of a search in one picture."""

    face: DetectedFace | None
    beyond: bool = False  # the crop reaches beyond the edge of the picture
    fault: str = ""  # why the picture cannot be read


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignmentRecord:
    """How the images of a data root were aligned, and which pictures need a look."""

    geometry: Geometry
    versions: Mapping[str, str]  # detector and models
    no_face: frozenset[str] = frozenset()  # files that were left out
    several_faces: Mapping[str, int] = field(default_factory=dict)  # file → faces
    unreadable: Mapping[str, str] = field(default_factory=dict)  # file → reason

    @property
    def left_out(self) -> frozenset[str]:
        """The files that gave no image."""
        return self.no_face | self.unreadable.keys()


class FoundFaces(NamedTuple):
    """The faces of the new pictures of an import."""

    record: AlignmentRecord  # record with the earlier pictures, too
    searches: Mapping[str, Search]  # by file

    def with_shared_crops(self, runs: Iterable[Sequence[str]]) -> "tuple[FoundFaces, list[str]]":
        """Give all frames of a run the crop of its first frame, so that a clip does not jump.

        Args:
            runs: the frames of each run of consecutive frames.

        Returns:
            The faces, and the first frame of each run that is left out, because a frame has no face.
        """
        searches, without = dict(self.searches), list[str]()
        for run in runs:
            known = {frame: self.searches[frame] for frame in run if frame in self.searches}
            if not known:
                continue
            first = next(iter(known.values()))
            if all(each.face for each in known.values()):
                # a frame with several faces is still reported
                searches |= {
                    frame: first._replace(face=first.face._replace(faces=each.face.faces))
                    for frame, each in known.items()
                    if first.face and each.face
                }
                continue
            fault = next((each.fault for each in known.values() if each.fault), "")
            searches |= dict.fromkeys(run, Search(None, fault=fault))
            without.append(run[0])
        changed = {file: each for file, each in searches.items() if file in self.searches}
        return FoundFaces(_extend_record(self.record, changed), changed), without

    def left_out(self) -> dict[str, Reason]:
        """Return the files that give no image, with the reason."""
        return {
            file: Reason.UNREADABLE if each.fault else Reason.NO_FACE
            for file, each in self.searches.items()
            if each.face is None
        }

    def files_with_several_faces(self, files: Iterable[str]) -> tuple[str, ...]:
        """Return those of some files that have several faces, sorted."""
        return tuple(sorted(self.record.several_faces.keys() & set(files)))

    def is_recorded(self, root: Path) -> bool:
        """Return whether the record of a data root is already this one."""
        return read_alignment(root) == self.record

    def fraction_beyond_edge(self, files: Iterable[str]) -> float | None:
        """Return the fraction of the faces of some files whose crop reaches beyond the picture.

        Only new files count. None if no new file has a face.
        """
        found = [self.searches[file] for file in files if file in self.searches]
        faces = [each for each in found if each.face is not None]
        return sum(each.beyond for each in faces) / len(faces) if faces else None


def read_alignment(root: Path) -> AlignmentRecord | None:
    """Read the record of a data root, or None if its images are not aligned.

    Raises:
        DataError: it cannot be read.
    """
    try:
        content = json.loads((root / ALIGNMENT).read_bytes())
        return _record(content)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"cannot read {root / ALIGNMENT}: {error}. Import into a new folder."
        ) from error


def _record(content: Mapping[str, Any]) -> AlignmentRecord:
    if content["schema"] != SCHEMA:
        raise ValueError(f"schema {content['schema']} is unknown")
    return AlignmentRecord(
        geometry=Geometry(int(content["size"]), float(content["margin"])),
        versions={name: str(content[name]) for name in ("detector", "models")},
        no_face=frozenset(content["no_face"]),
        several_faces={file: int(faces) for file, faces in content["several_faces"].items()},
        unreadable=dict(content["unreadable"]),
    )


def write_alignment(root: Path, record: AlignmentRecord) -> None:
    """Write the record of a data root."""
    content = {
        "schema": SCHEMA,
        **record.versions,
        "size": record.geometry.size,
        "margin": record.geometry.margin,
        "eyes": record.geometry.eyes(),
        "no_face": sorted(record.no_face),
        "several_faces": dict(sorted(record.several_faces.items())),
        "unreadable": dict(sorted(record.unreadable.items())),
    }
    write_atomic(root / ALIGNMENT, json.dumps(content, ensure_ascii=False, indent=0) + "\n")


def check_alignment(root: Path, geometry: Geometry | None, *, is_new: bool) -> None:
    """Reject an import that would mix images that are aligned differently.

    Args:
        root: the data root.
        geometry: size and margin of this import, or None if it does not align.
        is_new: nothing was imported into the data root yet.

    Raises:
        UsageError: the images of the data root were aligned in another way.
    """
    stored = read_alignment(root)
    if is_new or (stored is None and geometry is None):
        return
    if stored is None:
        raise UsageError(
            f"{root} contains images that are not aligned. Import into a new folder, or leave out --align."
        )
    if geometry != stored.geometry:
        size, margin = stored.geometry
        raise UsageError(
            f"{root} contains faces with size {size} and margin {margin:g}. Import into a new folder, or "
            f"use --align --align-size {size} --align-margin {margin:g}."
        )


def name_aligned(images: Iterable[ImportedImage]) -> list[ImportedImage]:
    """Return the images with the suffix of the files that are written."""
    return [each._replace(below=each.below.rpartition(".")[0] + SUFFIX) for each in images]


def find_faces(
    files: Sequence[str],
    geometry: Geometry,
    earlier_record: AlignmentRecord | None,
    progress: Progress,
    *,
    are_all: bool,
    decoded_files: Mapping[str, str] = MappingProxyType({}),
    videos: Container[str] = (),
    workers: int | None = None,
) -> FoundFaces:
    """Search faces in the new pictures of an import.

    Args:
        files: the pictures.
        geometry: size and margin.
        earlier_record: of an earlier import into the same data root.
        progress: called with the pictures that were searched.
        are_all: no picture of this import is in the data root yet.
        decoded_files: the decoded picture of each new frame.
        videos: video files. Frames that were not decoded now have the result of the earlier import.
        workers: number of processes, or None for one per available core.

    Raises:
        UsageError: an earlier import used another version of the detector.
        DataError: all pictures are new, and none has a face.
    """
    versions = describe_models()
    if earlier_record is not None and files and earlier_record.versions != versions:
        old, new = (", ".join(each.values()) for each in (earlier_record.versions, versions))
        raise UsageError(
            f"the faces of this data root were aligned with {old}, and {new} is installed here. Import "
            "into a new folder, or install the earlier versions."
        )
    found = {
        file: Search(
            None, fault="" if earlier_record is None else earlier_record.unreadable.get(file, "")
        )
        for file in files
        if file not in decoded_files and file.rpartition("/")[0] in videos
    }
    pictures = [(file, decoded_files.get(file, file)) for file in files if file not in found]
    chunks = chunks_of(pictures, CHUNK)
    search = partial(_search_all, geometry=geometry)
    for results in map_chunks(search, chunks, workers, doing="searched faces"):
        found.update(results)
        progress(len(results))
    record = _extend_record(
        earlier_record or AlignmentRecord(geometry=geometry, versions=versions), found
    )
    if are_all and files and not any(each.face for each in found.values()):
        raise DataError(_none_sentence(record.versions, found))
    return FoundFaces(record, found)


def _extend_record(record: AlignmentRecord, searches: Mapping[str, Search]) -> AlignmentRecord:
    return replace(
        record,
        no_face=(record.no_face - searches.keys())
        | {file for file, each in searches.items() if not (each.face or each.fault)},
        several_faces={
            **record.several_faces,
            **{file: e.face.faces for file, e in searches.items() if e.face and e.face.faces > 1},
        },
        unreadable={
            **{file: why for file, why in record.unreadable.items() if file not in searches},
            **{file: each.fault for file, each in searches.items() if each.fault},
        },
    )


def _none_sentence(versions: Mapping[str, str], searches: Mapping[str, Search]) -> str:
    readable = [file for file, each in searches.items() if not each.fault]
    if not readable:
        first = min(searches)
        return f"none of the {len(searches)} images can be read, such as {first}: {searches[first].fault}"
    return (
        f"{versions['detector']} finds no face in the {len(readable)} images that can be read, such as "
        f"{min(readable)}. Check that faces have at least 80 pixels and are upright, or import without --align."
    )


def _search_all(
    pictures: Sequence[tuple[str, str]], geometry: Geometry
) -> list[tuple[str, Search]]:
    return [(file, _search(picture, geometry)) for file, picture in pictures]


def _search(picture: str, geometry: Geometry) -> Search:
    try:
        pixels = decode_upright(Path(picture))
    except BadImageError as error:
        return Search(None, fault=error.reason)
    try:
        face = face_models().find(pixels)
    except RuntimeError as error:  # dlib's; one picture does not end the import
        return Search(None, fault=f"dlib cannot search it: {error}")
    return Search(face, face is not None and reaches_beyond(pixels, face, geometry))


def decode_upright(path: Path) -> Pixels:
    """Return the pixels of a file after the rotation that its EXIF data ask for.

    Raises:
        BadImageError: it cannot be decoded.
    """
    pixels = decode_array(path)
    with open_image(path) as image:
        if not is_turned(image):
            return pixels
        flag = image.getexif()[ExifTags.Base.Orientation]
    picture = PIL.Image.fromarray(pixels)
    picture.getexif()[ExifTags.Base.Orientation] = flag
    return np.asarray(PIL.ImageOps.exif_transpose(picture)).copy()


class FaceCrop(NamedTuple):
    """A face to cut out of a picture, and the file to write."""

    picture: str
    target: str
    face: DetectedFace


def write_faces(
    folder: Path,
    new_images: Mapping[str, Origin],
    faces: FoundFaces,
    progress: Progress,
    *,
    decoded_files: Mapping[str, str] = MappingProxyType({}),
    workers: int | None = None,
) -> None:
    """Write the faces of an import, and the record.

    Args:
        folder: of the data root.
        new_images: path below it → picture.
        faces: those of the pictures.
        progress: called with the faces that were written.
        decoded_files: the decoded picture of each new frame.
        workers: as `find_faces` has it.

    Raises:
        OSError: the disk is full.
        DataError: a picture cannot be read any more.
    """
    crops = [
        FaceCrop(decoded_files.get(file, file), f"{folder}/{path}", face)
        for path, (file, _, _) in new_images.items()
        if (face := faces.searches[file].face) is not None
    ]
    write_crops(crops, faces.record.geometry, progress, workers=workers)
    write_alignment(folder, faces.record)


def write_crops(
    crops: Sequence[FaceCrop],
    geometry: Geometry,
    progress: Progress = lambda _: None,
    *,
    workers: int | None = None,
) -> None:
    """Write crops as PNG files.

    Args:
        crops: faces, and where they go.
        geometry: size and margin.
        progress: called with the crops that were written.
        workers: as `find_faces` has it.

    Raises:
        OSError: the disk is full.
        DataError: a picture cannot be read any more.
    """
    for above in {Path(each.target).parent for each in crops}:
        above.mkdir(parents=True, exist_ok=True)
    process_in_chunks(
        partial(_write_all, geometry=geometry),
        crops,
        CHUNK,
        workers,
        doing="wrote faces",
        total=len(crops),
        progress=_differences(progress),
    )


def _differences(progress: Progress) -> Callable[[int, int], None]:
    """Return a function for counts so far that passes on the further ones."""
    last = 0

    def report(count: int, _: int) -> None:
        nonlocal last
        progress(count - last)
        last = count

    return report


def _write_all(works: Sequence[FaceCrop], geometry: Geometry) -> None:
    for work in works:
        content = io.BytesIO()
        face = crop(decode_upright(Path(work.picture)), work.face, geometry)
        PIL.Image.fromarray(face).save(content, "PNG")
        # the import syncs all files at its end
        write_atomic(Path(work.target), content.getvalue(), durable=False)
