"""Links or copies in a data root: the first import appears whole, later ones add.

An import that was killed leaves a folder whose name begins with a point, which the next one
removes, or images that stand in no list and are taken up by the next one.
"""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from trueface.data.imports.dataset_file import write_dataset_file
from trueface.data.imports.record import NAME, ImportRecord, Origin, write_record
from trueface.data.splits.make_splits import Lists
from trueface.data.splits.splits import write_splits
from trueface.runtime.artifact import BusyError, held_at_once, staged
from trueface.runtime.errors import DataError, MachineError, UsageError

_LOCK = ".import.lock"
_CANNOT_LINK = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


@contextmanager
def opened(root: Path, *, dry: bool) -> Iterator[None]:
    """Hold a data root that was imported before, so that one import at a time adds to it.

    Raises:
        UsageError: the folder is there and holds something else, or another import holds it.
    """
    if not (root / NAME).exists():
        with contextlib.suppress(FileNotFoundError):
            if os.listdir(root):  # noqa: PTH208  # a name is enough
                raise UsageError(
                    f"{root} holds other files; name a new folder, or that of an earlier import"
                )
        yield
        return
    if dry:
        yield
        return
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held_at_once(root / _LOCK))
        except BusyError as error:
            raise UsageError(f"another import writes {root}; wait for its end") from error
        yield


def write_root(
    root: Path,
    record: ImportRecord,
    new: Mapping[str, Origin],
    *,
    split_path: Path,
    lists: Lists | None,
    copy: bool,
) -> None:
    """Bring a data root to what a record says.

    Args:
        root: absolute; made where nothing was imported yet.
        record: of all, once this is done.
        new: what is not there yet.
        split_path: absolute; where the lists go.
        lists: None: they are there already.
        copy: copy the images, instead of linking them.

    Raises:
        MachineError: links cannot be made here, or the disk is full.
        UsageError: another import made the folder meanwhile.
    """
    first = not (root / NAME).exists()
    try:
        with _staged(root) if first else contextlib.nullcontext(root) as folder:
            _place(folder, new, copy=copy)
            inside = folder / split_path.relative_to(root) if _is_in(split_path, root) else None
            if lists is not None and inside is not None:
                write_splits(inside, lists)
            if lists is not None and inside is None and not first:
                write_splits(split_path, lists)
            write_dataset_file(folder, root, split_path, record)
            write_record(folder, record)
            if copy:
                os.sync()  # one call for all: a copy that is named is whole, even after a power cut
        if lists is not None and first and not _is_in(split_path, root):
            write_splits(split_path, lists)
    except OSError as error:
        raise MachineError(f"cannot write {root}: {error}; nothing of it is in use") from error


@contextmanager
def _staged(root: Path) -> Iterator[Path]:
    """Give a new folder that becomes `root` at the end, and is gone after an error."""
    with staged(root) as folder:
        yield folder
        try:
            folder.rename(root)
        except OSError as error:
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                raise UsageError(
                    f"{root} was made meanwhile by another import; run this one again"
                ) from error
            raise


def _place(folder: Path, new: Mapping[str, Origin], *, copy: bool) -> None:
    made: set[str] = set()
    for path, (file, _, _) in new.items():
        target = f"{folder}/{path}"
        above = target.rpartition("/")[0]
        if above not in made:
            os.makedirs(above, exist_ok=True)  # noqa: PTH103  # a Path for each of 200,000 takes longer than its link
            made.add(above)
        if copy:
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
                f"{target} is there already and is no link to {file}; move it away"
            ) from None
    except OSError as error:
        if error.errno in _CANNOT_LINK:
            raise MachineError(
                f"cannot link {target} to {file}: {error.strerror}; --copy copies the images"
            ) from error
        raise


def _is_in(path: Path, root: Path) -> bool:
    return path.is_relative_to(root)
