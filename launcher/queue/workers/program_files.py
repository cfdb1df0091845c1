"""The files and folders of a program: those that it reads as its attempt finds them, and those that it makes.

Their digests are computed by the attempt's supervisor on its host. Its order may have waited for days since it was
planned. Another host may see the old content of a file on a network file system for a minute.
"""

import contextlib
import errno
import hashlib
import itertools
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from launcher.provenance.code_words import code_words
from launcher.provenance.file_digests import (
    ABSENT_DIGEST,
    CHANGED_DIGEST,
    MISSING_DIGEST,
    MOST_READ,
    FileDigests,
    HashingStopped,
    is_stamp,
)
from launcher.provenance.folder_contents import FOLDER_END, folder_stamp
from launcher.queue.home.paths import Attempt
from launcher.queue.jobs.context import (
    INPUTS,
    JOB_FOLDER,
    OUTPUTS,
    folders_above,
    named_files,
    resolve_path,
)
from launcher.queue.jobs.job import Spec
from launcher.queue.jobs.states import Done, Failed
from launcher.queue.workers.attempt_spec import AttemptSpec
from launcher.system.files import ABSENT_ERRORS, FileStamp, FileVersion, file_stamp

# files that a program reads; another file of its command line that changes meanwhile may be what it writes
_CODE_FILE = re.compile(r"(?i).*\.(py|pyw|ipynb|sh|bash|r|jl|m|lua|pl|rb|js|ya?ml|toml|cfg|ini)")

# a word of a command line that names such a file, also if there is none; the script of a shell is another text
_CODE_NAME = re.compile(rf"(?![^\n]*[\s;|&$<>()'\"*?=:]){_CODE_FILE.pattern[4:]}", re.IGNORECASE)

_LONGEST_NAME = 255  # bytes of a file's name on most file systems
_RESERVED_BYTES = len(".") + len(".trash.99")  # around and after a name


def read_files(
    spec: Spec,
    folder: str,
    project: str,
    digests: FileDigests,
    copies: Mapping[str, str] = MappingProxyType({}),
) -> tuple[str, ...]:
    """Return a digest of each file that `named_files` names, `MISSING_DIGEST` where there is none.

    Words of the command line count that name files of the project, but those of its runs.

    Args:
        spec: specification of the program, with the folders that it names instead of their placeholders.
        folder: folder in which the program starts.
        project: the folder in which it was queued.
        digests: digests of files.
        copies: path → the file that the program reads instead.
    """
    names, inputs = named_files(spec), len(spec.settings.get(INPUTS) or ())
    paths = [resolve_path(folder, name) for name in names[:inputs]]
    contents = [
        digests.digest_or_missing(copies.get(os.path.normpath(path), path)) for path in paths
    ]
    for name in names[inputs:]:
        path = _project_file(folder, name, project)
        path = copies.get(path, path)
        contents.append(digests.digest_or_missing(path, MOST_READ) if path else MISSING_DIGEST)
    digests.save()
    return tuple(contents)


def _project_file(folder: str, name: str, project: str) -> str:
    """Return the path of a word of the command line; '' if it is not in the project, or in its runs."""
    path = os.path.normpath(resolve_path(folder, name)) if name else ""
    counts = path.startswith(f"{project}/") and not path.startswith(f"{project}/runs/")
    return path if counts else ""


def missing_input(spec: Spec, folder: str, files: Sequence[str]) -> str:
    """Return the name of an input that does not exist, '' if there is none.

    Args:
        spec: Specification of the program, with the folders that it names instead of their placeholders.
        folder: Folder in which the program starts.
        files: Digests of its files.
    """
    named = zip(spec.settings.get(INPUTS) or (), files, strict=False)
    absent = (name for name, digest in named if digest == MISSING_DIGEST)
    return next((name for name in absent if not os.path.exists(resolve_path(folder, name))), "")  # noqa: PTH110  # as below


def with_absent_inputs(spec: Spec, folder: str, files: Sequence[str]) -> tuple[str, ...]:
    """Return the digests of a program's files, with a value of their own for inputs that cannot be read.

    A folder that is named without a slash at the end has no digest.
    """
    inputs = len(spec.settings.get(INPUTS) or ())
    named = zip(named_files(spec)[:inputs], files[:inputs], strict=True)
    known = (
        ABSENT_DIGEST
        if digest == MISSING_DIGEST and not os.path.isdir(resolve_path(folder, name))  # noqa: PTH112  # as below
        else digest
        for name, digest in named
    )
    return (*known, *files[inputs:])


def read_files_of(order: AttemptSpec, attempt: Attempt, digests: FileDigests) -> tuple[str, ...]:
    """Return the digests of `read_files` for an attempt; of files that it reads from its snapshot, those there."""
    copies = dict[str, str]()
    copy = order.code_copy
    if copy is not None and (held := copy.held_files(str(attempt.folder))) is not None:
        for name in named_files(order.spec):
            path = os.path.normpath(_absolute_path(order, name))
            if name and (place := held.find(path)):
                copies[path] = place
    return read_files(order.spec, order.context.folder, order.project, digests, copies)


def files_read_now(order: AttemptSpec) -> list[str]:
    """Return the files that a job with a snapshot reads as they are: its outputs, and inputs that no word names."""
    named = {os.path.normpath(_absolute_path(order, word)) for word in code_words(order.spec.argv)}
    inputs = order.spec.settings.get(INPUTS) or ()
    paths = (os.path.normpath(_absolute_path(order, name)) for name in inputs)
    outputs = [os.path.normpath(_absolute_path(order, name)) for name in _output_names(order)]
    return [*outputs, *(path for path in paths if path not in named)]


def move_outputs_aside(order: AttemptSpec) -> None:
    """Rename existing files and folders at a program's outputs; `restore_or_delete_outputs` later restores or deletes them.

    No file is deleted or replaced. Each attempt has its own names.

    Raises:
        OSError: that cannot be done; `filename` is the output's name.
    """
    for name in _output_names(order):
        path = _absolute_path(order, name).rstrip(FOLDER_END)
        try:
            if _is_folder(path):
                _check_can_move(path, name, order.context.folder)
            elif not os.path.lexists(path):
                continue
            os.rename(path, _free_name(_aside_path(path, order.job, order.number)))  # noqa: PTH104  # done for every attempt
        except OSError as error:
            if error.errno not in ABSENT_ERRORS:
                raise OSError(error.errno, error.strerror, name) from error


def _check_can_move(path: str, name: str, start_folder: str) -> None:
    """Refuse to rename a folder that is declared as a file, or that contains the folder in which the program starts.

    Raises:
        OSError: always in these cases.
    """
    if not name.endswith(FOLDER_END):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    inner, outer = (os.path.normpath(each) for each in (start_folder, path))
    if outer in {inner, *folders_above(inner)}:
        raise OSError(errno.EBUSY, "the program starts in it")


class NotDeletedError(OSError):
    """An output has the right content, but the replaced content cannot be deleted; `filename` is its path."""


def restore_or_delete_outputs(
    outputs: Iterable[str], job: int, attempt_number: int, *, is_done: bool
) -> None:
    """Delete the files that an attempt renamed at a job's outputs if the job is done; otherwise restore them.

    It can be repeated. The scheduler calls it when it records an end from any source, also if a supervisor was killed.
    An output that fails does not prevent the others.

    Args:
        outputs: Paths.
        job: Job number.
        attempt_number: Number of the attempt.
        is_done: Whether the attempt is done.

    Raises:
        NotDeletedError: All outputs that could be checked are right, but something cannot be deleted now.
        OSError: An output cannot be restored now; `filename` is the renamed one, `filename2` the output.
    """
    errors: list[OSError] = []
    for output in outputs:
        path = output.rstrip(FOLDER_END)
        aside = _aside_path(path, job, attempt_number)
        trash = f"{aside}.trash"
        shown, kind = aside, OSError
        try:
            if is_done:
                kind = NotDeletedError
                _discard_all(aside, trash)
            elif os.path.lexists(aside):
                _restore(aside, path, trash)
            kind = NotDeletedError
            for shown in reversed(_existing_numbered_paths(trash)):
                _delete(shown)
        except OSError as error:
            if error.errno not in ABSENT_ERRORS:
                errors.append(kind(error.errno, error.strerror, shown, None, path))
    if errors:
        raise min(errors, key=lambda error: isinstance(error, NotDeletedError))


def _discard_all(aside_path: str, trash: str) -> None:
    """Delete files that an attempt renamed; rename folders to names from which nothing is restored.

    Raises:
        OSError: That cannot be done.
    """
    for each in reversed(_existing_numbered_paths(aside_path)):
        if _is_folder(each):
            os.rename(each, _free_name(trash))  # noqa: PTH104  # as above
        else:
            _delete(each)


def _restore(aside_path: str, path: str, trash: str) -> None:
    """Rename an earlier output to its path; a folder there, or a file that a folder replaces, becomes trash.

    Raises:
        OSError: That cannot be done. The path keeps its content.
    """
    if not os.path.lexists(path) or not (_is_folder(aside_path) or _is_folder(path)):
        os.replace(aside_path, path)  # noqa: PTH105  # as above
        return
    replaced = _free_name(trash)
    os.rename(path, replaced)  # noqa: PTH104  # as above
    try:
        os.replace(aside_path, path)  # noqa: PTH105  # as above
    except OSError:
        with contextlib.suppress(OSError):
            os.rename(replaced, path)  # noqa: PTH104  # as above
        raise


def _aside_path(path: str, job: int, attempt_number: int) -> str:
    return _hidden_path(path, f".launcher-{job}-{attempt_number}")


def _hidden_path(path: str, end: str) -> str:
    """Return a hidden path in the same folder; a long name is replaced by its hash."""
    folder, _, name = path.rpartition("/")
    if len(os.fsencode(name)) + len(end) + _RESERVED_BYTES > _LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return f"{folder}/.{name}{end}"


def _iterate_numbered_paths(path: str) -> Iterator[str]:
    yield path
    yield from (f"{path}.{count}" for count in itertools.count(2))


def _free_name(path: str) -> str:
    """Return a path, or one with a number at its end, where nothing is."""
    return next(name for name in _iterate_numbered_paths(path) if not os.path.lexists(name))


def _existing_numbered_paths(path: str) -> list[str]:
    """Return the paths that `_free_name` has returned for a path and that still exist."""
    return [*itertools.takewhile(os.path.lexists, _iterate_numbered_paths(path))]


def _is_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)  # noqa: PTH112, PTH114  # as above


def _delete(path: str) -> None:
    """Delete a file or link, or a folder with everything in it, also if its folders are read-only.

    Raises:
        OSError: that cannot be done.
    """
    if not _is_folder(path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108  # as above
        return
    try:
        try:
            shutil.rmtree(path)
        except PermissionError:
            _make_writable(path)
            shutil.rmtree(path)
    except RecursionError as error:
        raise OSError(errno.ELOOP, "its folders are nested too deeply") from error


def _make_writable(path: str) -> None:
    """Let the owner of a folder, and of those in it, delete what they contain."""
    os.chmod(path, stat.S_IRWXU)  # noqa: PTH101  # as above
    for folder, below, _ in os.walk(path):
        for inner in (f"{folder}/{name}" for name in below):
            if _is_folder(inner):
                os.chmod(inner, stat.S_IRWXU)  # noqa: PTH101  # as above


def with_file_digests(
    outcome: Done,
    order: AttemptSpec,
    attempt: Attempt,
    digests: FileDigests,
    digests_at_start: tuple[str, ...],
) -> Done | Failed:
    """Return the end of a successful program, with the digests of its files; it must have made its outputs.

    Args:
        outcome: its end.
        order: order with the folders that it names, instead of their names.
        attempt: the attempt.
        digests: digests of the files that the program reads.
        digests_at_start: those at its start.
    """
    end = with_output_stamps(outcome, order)
    if isinstance(end, Failed):
        return end
    files, outputs = digests_at_start, end.outputs
    with contextlib.suppress(HashingStopped):  # files without digests are compared by their stamps
        files = _digests_at_end(order, attempt, digests, digests_at_start)
        outputs = [
            digests.read_file_version(_absolute_path(order, name)) or version
            for name, version in zip(_output_names(order), end.outputs, strict=True)
        ]
        if order.spec.hash or outputs:  # nothing else is ever compared
            files = _with_large_file_digests(files, order, digests)
    digests.save()
    return end._replace(files=files, outputs=outputs)


def with_output_stamps(outcome: Done, order: AttemptSpec) -> Done | Failed:
    """Return the end of a program that ended well, with the stamps of its outputs, all of which it must have made."""
    outputs: list[FileVersion] = []
    for name in _output_names(order):
        path = _absolute_path(order, name)
        at = stamp_of_output(path)
        if at is None:
            error = f"the output {name} {_output_fault(path.rstrip(FOLDER_END), name)}"
            return Failed(at=outcome.at, error=error, exit_code=0)
        outputs.append(FileVersion(*at))
    return outcome._replace(outputs=outputs)


def stamp_of_output(path: str) -> FileStamp | None:
    """Return the stamp of an output; a path that ends with a slash is a folder. None if it is not there."""
    if path.endswith(FOLDER_END):
        return folder_stamp(path) if _is_folder(path.rstrip(FOLDER_END)) else None
    return file_stamp(path) if os.path.isfile(path) else None  # noqa: PTH113  # as above


def _output_fault(path: str, name: str) -> str:
    """Return why a program has not made an output, after its name."""
    if not name.endswith(FOLDER_END):
        if not os.path.isdir(path):  # noqa: PTH112  # as above
            return "is missing (exit code 0)"
        fault = "is a folder, not a file (exit code 0)"
        return f"{fault}. Write folders to {JOB_FOLDER}, or add / to the name of the output."
    if os.path.islink(path):  # noqa: PTH114  # as above
        return "is a link, not a folder (exit code 0). Let the program make a folder."
    if os.path.isfile(path):  # noqa: PTH113  # as above
        return "is a file, not a folder (exit code 0). Remove the / at the end of its name."
    return f"{'cannot be read' if os.path.isdir(path) else 'is missing'} (exit code 0)"  # noqa: PTH112  # as above


def _digests_at_end(
    order: AttemptSpec, attempt: Attempt, digests: FileDigests, digests_at_start: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the digests of a program's files at its end, given those at its start."""
    names, inputs = named_files(order.spec), len(order.spec.settings.get(INPUTS) or ())
    absent = {
        place
        for place, name in enumerate(names)
        if _CODE_NAME.fullmatch(name) and _project_file(order.context.folder, name, order.project)
    }
    if not any(digests_at_start) and not inputs and not absent:
        return digests_at_start  # there were none
    known = []
    after = read_files_of(order, attempt, digests)
    for place, (was, now) in enumerate(zip(digests_at_start, after, strict=True)):
        if was == now == MISSING_DIGEST and place in absent:
            known.append(ABSENT_DIGEST)
        elif was == now or (was == MISSING_DIGEST and place >= inputs):
            # the program may have made the file
            known.append(was)
        else:
            counts = place < inputs or (
                now != MISSING_DIGEST and _is_code(_absolute_path(order, names[place]))
            )
            known.append(CHANGED_DIGEST if counts else MISSING_DIGEST)
    return with_absent_inputs(order.spec, order.context.folder, known)


def _with_large_file_digests(
    files: tuple[str, ...], order: AttemptSpec, digests: FileDigests
) -> tuple[str, ...]:
    """Return digests in the place of the stamps of large files, which did not delay the start.

    Raises:
        HashingStopped: one of them is not wanted any more.
    """
    names = named_files(order.spec)
    known = []
    for name, digest in zip(names, files, strict=True):
        path = _absolute_path(order, name)
        if is_stamp(digest):
            found = digests.digest_or_missing(path)
            # the same file that was there at the start
            digest = (
                found if found and digests.digest_or_missing(path, MOST_READ) == digest else digest
            )
        known.append(digest)
    return tuple(known)


def _output_names(order: AttemptSpec) -> Sequence[str]:
    """Return the names of the files that a program makes."""
    return order.spec.settings.get(OUTPUTS) or ()


def _absolute_path(order: AttemptSpec, name: str) -> str:
    return resolve_path(order.context.folder, name)


def _is_code(path: str) -> bool:
    return _CODE_FILE.fullmatch(path) is not None or os.access(path, os.X_OK)
