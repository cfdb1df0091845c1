"""Links or copies in a data root, and their record, which the next import extends.

<root>/import.json    every file with its origin, size and time; the words of its sources
<root>/groups.json    key → group, as `trueface splits --group-by` reads it

`dataset.yaml` and `videos.json` describe the images, see `data.dataset_file`, and `video_traits.json`
the videos of frames, see `data.video_traits`.

The first import appears completely, later ones add images and change none. A killed import leaves a
folder whose name begins with a dot, or images that are in no split. The next import removes the
folder and adds the images to the splits.
"""

import contextlib
import errno
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Collection, Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from trueface.data.dataset_file import quote_yaml, write_dataset_file, write_video_sources
from trueface.data.imports.arrangement import Arrangement, assign_words
from trueface.data.splits.split_files import write_splits
from trueface.data.splits.splitting import Lists
from trueface.data.video_traits import VideoTraits, read_traits, write_traits
from trueface.runtime.artifact import BusyError, hold_lock_if_free, staging_folder
from trueface.runtime.errors import DataError, MachineError, UsageError
from trueface.runtime.files import write_atomic

NAME = "import.json"
GROUPS = "groups.json"
ALIGNMENT = "alignment.json"  # written by `imports.alignment`
LANDMARK_RECORD = "landmarks.json"  # written by `imports.landmark_search`
PAIRS = "pairs.json"  # written by `imports.pairs`
SCHEMA = 1
SHOWN = 3

Origin = tuple[str, int, int]  # file, size in bytes, modification time in ns


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRecord:
    """The imported content of a data root."""

    files: Mapping[str, Origin] = field(default_factory=dict)  # by path below the root
    sources: Mapping[str, int] = field(default_factory=dict)  # folder → label
    words: Mapping[str, str] = field(default_factory=dict)  # folder → word
    modifiers: tuple[str, ...] = ()
    video_folders: frozenset[str] = frozenset()
    groups: Mapping[str, str] = field(default_factory=dict)  # key → group
    origins: tuple[tuple[str, str], ...] = ()  # layout and folder of each import
    video_traits: Mapping[str, VideoTraits] = field(default_factory=dict)  # by folder of frames


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportDifference:
    """The difference between an arrangement and a record."""

    new: Mapping[str, Origin]
    there: int
    missing: tuple[str, ...]  # named paths that do not exist, or are not files

    def without_files(self, files: Collection[str]) -> "ImportDifference":
        """Return the difference without some new image files."""
        new = {path: origin for path, origin in self.new.items() if origin[0] not in files}
        return replace(self, new=new)


def read_record(root: Path) -> ImportRecord:
    """Read the record of a data root; an empty one where nothing was imported.

    Raises:
        DataError: it cannot be read.
    """
    try:
        content = json.loads((root / NAME).read_bytes())
        record = _record(content, json.loads((root / GROUPS).read_bytes()))
        return replace(record, video_traits=read_traits(root))
    except FileNotFoundError:
        return ImportRecord()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise DataError(f"cannot read {root / NAME}: {error}. Import into a new folder.") from error


def _record(content: Mapping[str, Any], groups: Mapping[str, str]) -> ImportRecord:
    if content["schema"] != SCHEMA:
        raise ValueError(f"schema {content['schema']} is unknown")
    return ImportRecord(
        files={path: (o[0], int(o[1]), int(o[2])) for path, o in content["files"].items()},
        sources=dict(content["sources"]),
        words=dict(content["words"]),
        modifiers=tuple(content["modifiers"]),
        video_folders=frozenset(content["videos"]),
        groups=dict(groups),
        origins=tuple((layout, folder) for layout, folder in content["origins"]),
    )


def compare_with_record(
    record: ImportRecord, arrangement: Arrangement, videos: Container[str] = ()
) -> ImportDifference:
    """Return the part of an arrangement that is not in the data root yet.

    Args:
        record: of earlier imports.
        arrangement: of this import.
        videos: paths of video files. A frame has the size and the time of its video.

    Raises:
        DataError: a file differs from the imported one, or its destination is another file.
    """
    new: dict[str, Origin] = {}
    changed, missing, there, count = dict[str, None](), list[str](), 0, 0
    for path, file in arrangement.files.items():
        above = file.rpartition("/")[0]
        try:
            status = os.stat(above if above in videos else file)  # noqa: PTH116  # for each of 200,000
        except OSError:
            missing.append(file)
            continue
        if not stat.S_ISREG(status.st_mode):
            missing.append(file)
            continue
        origin = (file, status.st_size, status.st_mtime_ns)
        before = record.files.get(path)
        if before is None:
            new[path] = origin
        elif before == origin:
            there += 1
        else:
            count += 1
            name, was = (
                (above, before[0].rpartition("/")[0]) if above in videos else (file, before[0])
            )
            changed[name if was == name else f"{name} (was {was})"] = None
    if changed:
        raise DataError(
            f"{count} images have changed since they were imported: "
            f"{', '.join(list(changed)[:SHOWN])}{', …' * (len(changed) > SHOWN)}. Import into a new "
            "folder, so that old and new results are not mixed."
        )
    return ImportDifference(new=new, there=there, missing=tuple(missing))


def extend_record(
    record: ImportRecord,
    arrangement: Arrangement,
    difference: ImportDifference,
    origin: tuple[str, str],
    video_traits: Mapping[str, VideoTraits] = MappingProxyType({}),
) -> ImportRecord:
    """Return the record once the difference is in the data root.

    Args:
        record: of earlier imports.
        arrangement: of this import.
        difference: new images of it.
        origin: layout and folder of this import.
        video_traits: of the video files of this import. The earlier ones of a video stay.
    """
    sources = {**record.sources, **arrangement.sources}
    for folder, label in arrangement.sources.items():
        if record.sources.get(folder, label) != label:
            raise DataError(
                f"{folder} has {'real' if label else 'fake'} images in this data root, but "
                f"{'fake' if label else 'real'} ones in the new set. Import into a new folder."
            )
    return ImportRecord(
        files={**record.files, **difference.new},
        sources=dict(sorted(sources.items())),
        words=assign_words(sorted(sources.items()), record.words),
        modifiers=tuple(sorted({*record.modifiers, *arrangement.modifiers})),
        video_folders=record.video_folders | arrangement.video_folders,
        groups={**record.groups, **arrangement.groups},
        origins=tuple(dict.fromkeys((*record.origins, origin))),
        video_traits={
            **{
                path.rpartition("/")[0]: video_traits[video]
                for path, file in arrangement.files.items()
                if (video := file.rpartition("/")[0]) in video_traits
            },
            **record.video_traits,
        },
    )


def write_record(root: Path, record: ImportRecord) -> None:
    """Write its files, the record itself last."""
    write_atomic(root / GROUPS, _text(dict(record.groups)))
    write_traits(root, record.video_traits)
    content = {
        "schema": SCHEMA,
        "origins": record.origins,
        "sources": record.sources,
        "words": record.words,
        "modifiers": record.modifiers,
        "videos": sorted(record.video_folders),
        "files": record.files,
    }
    write_atomic(root / NAME, _text(content))


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, indent=0) + "\n"


def _sections(record: ImportRecord) -> Iterator[str]:
    """Yield the lines of dataset.yaml with the words of all that was imported."""
    own = sorted((word, source) for source, word in record.words.items())
    if own:
        yield "subsets:"
    for word, source in own:
        label = "fake" if record.sources[source] else "real"
        yield f"  {quote_yaml(word)}: [{quote_yaml(source)}]  # {label}"
    if record.modifiers:
        yield "modifiers:"
    for name in record.modifiers:
        yield f"  {quote_yaml(name)}: [{quote_yaml(name)}]"


_LOCK = ".import.lock"
_CANNOT_LINK = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


@contextmanager
def hold_data_root(root: Path, *, dry: bool) -> Iterator[None]:
    """Hold a data root that was imported before, so that one import at a time adds to it.

    Raises:
        UsageError: the folder is there and holds something else, or another import holds it.
    """
    if not (root / NAME).exists():
        with contextlib.suppress(FileNotFoundError):
            if os.listdir(root):  # noqa: PTH208  # a name is enough
                raise UsageError(
                    f"{root} contains other files. Name a new folder or the folder of an earlier "
                    "import."
                )
        yield
        return
    if dry:
        yield
        return
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(hold_lock_if_free(root / _LOCK))
        except BusyError as error:
            raise UsageError(f"another import is writing to {root}. Wait until it ends.") from error
        yield


@contextmanager
def frame_staging(root: Path, *, dry: bool) -> Iterator[Path]:
    """Give a folder on the file system of a data root for pictures, which are moved from there.

    A dry run gets a temporary folder, so that it writes nothing next to the data root.

    Raises:
        MachineError: it cannot be made.
    """
    parent = root / "frames" if (root / NAME).exists() else root
    try:
        with tempfile.TemporaryDirectory() if dry else staging_folder(parent) as folder:
            yield Path(folder)
    except OSError as error:
        written = tempfile.gettempdir() if dry else root
        raise MachineError(f"cannot write {written}: {error}. The import had no effect.") from error


def write_root(
    root: Path,
    record: ImportRecord,
    new_images: Mapping[str, Origin],
    *,
    split_path: Path,
    lists: Lists | None,
    copy: bool,
    write_faces: Callable[[Path], None] | None = None,
    write_landmarks: Callable[[Path], None] | None = None,
    write_pairs: Callable[[Path], None] | None = None,
    decoded_files: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Bring a data root to what a record says.

    Args:
        root: absolute; made where nothing was imported yet.
        record: of all, once this is done.
        new_images: what is not there yet.
        split_path: absolute; where the lists go.
        lists: None: they are there already.
        copy: copy the images, instead of linking them.
        write_faces: writes the new images below a folder, instead of linking or copying them.
        write_landmarks: writes the landmarks of the new videos below a folder.
        write_pairs: writes the real frames of the new fakes below a folder.
        decoded_files: the picture that was made for an image, such as a frame. It is moved to its place.

    Raises:
        MachineError: links cannot be made here, or the disk is full.
        UsageError: another import made the folder meanwhile.
    """
    first = not (root / NAME).exists()
    try:
        with _stage_root(root) if first else contextlib.nullcontext(root) as folder:
            if write_pairs is not None:  # before decoded files are moved
                write_pairs(folder)
            if write_faces is None:
                _place_images(folder, new_images, copy=copy, decoded_files=decoded_files)
            else:
                write_faces(folder)
            if write_landmarks is not None:
                write_landmarks(folder)
            inside = folder / split_path.relative_to(root) if _is_in(split_path, root) else None
            if lists is not None and inside is not None:
                write_splits(inside, lists)
            if lists is not None and inside is None and not first:
                write_splits(split_path, lists)
            write_video_sources(folder, record.video_folders)
            write_dataset_file(folder, root, split_path, "import", _sections(record))
            write_record(folder, record)
            if copy or decoded_files or write_faces is not None:
                os.sync()  # one call for all: a copy that is named is whole, even after a power cut
        if lists is not None and first and not _is_in(split_path, root):
            write_splits(split_path, lists)
    except OSError as error:
        raise MachineError(f"cannot write {root}: {error}. The import had no effect.") from error


@contextmanager
def _stage_root(root: Path) -> Iterator[Path]:
    """Give a new folder that becomes `root` at the end, and is gone after an error."""
    with staging_folder(root) as folder:
        yield folder
        try:
            folder.rename(root)
        except OSError as error:
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                raise UsageError(
                    f"another import has created {root} in the meantime. Run this import again."
                ) from error
            raise


def _place_images(
    folder: Path, new_images: Mapping[str, Origin], *, copy: bool, decoded_files: Mapping[str, str]
) -> None:
    folders: set[str] = set()
    for path, (file, _, _) in new_images.items():
        target = f"{folder}/{path}"
        above = target.rpartition("/")[0]
        if above not in folders:
            os.makedirs(above, exist_ok=True)  # noqa: PTH103  # a Path for each of 200,000 takes longer than its link
            folders.add(above)
        if picture := decoded_files.get(file):
            os.replace(picture, target)  # noqa: PTH105  # likewise
        elif copy:
            part = f"{above}/.{secrets.token_hex(6)}.part"
            try:
                shutil.copy2(file, part)
                os.replace(part, target)  # noqa: PTH105  # likewise
            except BaseException:
                Path(part).unlink(missing_ok=True)
                raise
        else:
            _link(file, target)


def _link(file: str, target: str) -> None:
    try:
        os.symlink(file, target)  # noqa: PTH211  # likewise
    except FileExistsError:
        # an import that was killed may have made it
        if not os.path.islink(target) or os.readlink(target) != file:  # noqa: PTH114,PTH115  # likewise
            raise DataError(
                f"{target} already exists and is not a link to {file}. Move it away."
            ) from None
    except OSError as error:
        if error.errno in _CANNOT_LINK:
            raise MachineError(
                f"cannot link {target} to {file}: {error.strerror}. Use --copy to copy the images."
            ) from error
        raise


def _is_in(path: Path, root: Path) -> bool:
    return path.is_relative_to(root)
