"""A snapshot as an attempt uses it: variables by which Python follows it, and notes of what could not be held."""

import contextlib
import os
import sys
from collections.abc import Iterable, Mapping
from functools import cached_property, lru_cache
from pathlib import Path

from launcher.provenance.snapshots.copies import (
    MANIFEST,
    Manifest,
    Snapshot,
    changed_file,
    read_manifest,
)
from launcher.provenance.snapshots.programs import StartedProgram, relative_name, runs_python
from launcher.provenance.snapshots.reference import SnapshotReference
from launcher.provenance.snapshots.startup.launcher_snapshot import follow
from launcher.provenance.snapshots.startup.launcher_snapshot.held_files import INDEX, HeldFiles
from launcher.provenance.snapshots.startup.launcher_snapshot.notes import (
    ABSENT,
    COMMIT_VARIABLE,
    CURRENT,
    ENDED,
    NOTES,
    OFF,
    PROGRAM,
    PYTHON_PATH,
    QUEUED,
    STARTED,
    VARIABLE,
    Notes,
    coarse_now,
)
from launcher.system.files import FileStamp, file_stamp

STARTUP_FOLDER = str(Path(__file__).with_name("startup"))  # in PYTHONPATH of jobs
_NOTHING = Manifest("", "", "", {}, {})


class CodeCopy:
    """The copy from which the code of an attempt comes."""

    def __init__(self, queue_folder: str, reference: SnapshotReference) -> None:
        """Begin without having read it.

        Args:
            queue_folder: The queue folder, as this machine sees it.
            reference: The snapshot.
        """
        self.key, self.path = reference.key, f"{queue_folder}/{reference.copy}"
        self.top, self._commit = reference.top, reference.commit
        self._queued_at, self._uncommitted = reference.queued_at, reference.uncommitted
        self._folder = os.path.dirname(self.path)  # noqa: PTH120  # a text

    @cached_property
    def _manifest(self) -> Manifest:
        folder = Path(self._folder)
        return _read_manifest_once(folder, file_stamp(f"{folder}/{MANIFEST}")) or _NOTHING

    def find(self, path: str) -> str:
        """Return the path of a file in the copy; '' if it was not copied."""
        name = relative_name(path, self.top)
        return f"{self.path}/{name}" if name is not None and name in self._manifest else ""

    def original(self, path: str) -> str:
        """Return the original path of a file of the copy; other paths are returned unchanged."""
        return f"{self.top}{path[len(self.path) :]}" if path.startswith(f"{self.path}/") else path

    def find_uncommitted(self, paths: Iterable[str]) -> list[str] | None:
        """Return which files of the copy were not committed when it was made; None if it is unknown."""
        if self._uncommitted is None:
            return None
        names = {*self._uncommitted}
        return [path for path in paths if relative_name(path, self.top) in names]

    def path_in_copy(self, path: str) -> str:
        """Return the path of a folder or file in the copy; '' if it is outside of the tree, or is not there."""
        name = relative_name(path, self.top)
        place = f"{self.path}/{name}".rstrip("/")
        return place if name is not None and os.path.lexists(place) else ""

    def fault(self) -> str:
        """Return why no program can run from the copy; '' if one can."""
        present = "To run the present code: launcher retry --snapshot"
        if self._manifest is _NOTHING:
            return f"its snapshot {self.key} is not in {self._folder}"
        if not os.path.exists(f"{self._folder}/{INDEX}"):  # noqa: PTH110  # a text
            return f"its snapshot {self.key} was made by another version of launcher. {present}"
        if name := changed_file(Snapshot(Path(self._folder), self._manifest)):
            return f"{name} of its snapshot {self.key} was changed by a program. {present}"
        return ""

    def variables(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return the variables by which Python follows the snapshot; none if the environment turns it off.

        Args:
            environment: The environment without these variables.
        """
        if environment.get(VARIABLE) == OFF:
            return {}
        before = environment.get(PYTHON_PATH)
        return {
            PYTHON_PATH: f"{STARTUP_FOLDER}{os.pathsep}{before}" if before else STARTUP_FOLDER,
            VARIABLE: self._folder,
            **({COMMIT_VARIABLE: self._commit} if self._commit else {}),
        }

    def begin(self, attempt: str, program: StartedProgram, written_names: Iterable[str]) -> None:
        """Write the first notes of an attempt that starts now.

        Args:
            attempt: Folder of the attempt.
            program: The program; of a function, one without words.
            written_names: Absolute paths of files that the job reads as they are: declared inputs and outputs.

        Raises:
            OSError: The notes cannot be written.
        """
        self._note_lost_changes(Path(attempt))
        lines = [(STARTED, str(coarse_now())), (QUEUED, str(self._queued_at))]
        names = (relative_name(path.rstrip("/"), self.top) for path in written_names)
        held = {*self._manifest.files}
        for name in filter(None, names):
            lines += [
                (CURRENT, each) for each in held if each == name or each.startswith(f"{name}/")
            ]
        if program.environment.get(VARIABLE) == OFF:
            lines.append((OFF, ""))
        if program.argv and not runs_python(program):
            lines.append((PROGRAM, program.argv[0]))
        lines += [(ABSENT, name) for name in sorted(self._absent_names(held))]
        text = "".join(f"{kind}\t{each}\n" for kind, each in lines)
        Path(attempt, NOTES).write_text(text, encoding="utf-8", errors="surrogateescape")

    def _note_lost_changes(self, attempt: Path) -> None:
        """Note what the attempts of the job before this one have written, if nobody saw their ends."""
        job, _, number = attempt.name.rpartition("-")
        for earlier in range(1, int(number) if number.isdigit() else 0):
            notes = Notes(f"{attempt.parent}/{job}-{earlier}")
            # an attempt of another queueing wrote before the present copy was made
            if (
                notes.started < sys.maxsize
                and notes.queued == self._queued_at
                and not notes.texts(ENDED)
            ):
                self.note_changes(f"{attempt.parent}/{job}-{earlier}")

    def _absent_names(self, held_names: Iterable[str]) -> set[str]:
        """Return copied files that are not in the working folder now; of a missing folder, its own name alone."""
        found = set[str]()
        for name in held_names:
            absent = ""
            while name and not os.path.lexists(f"{self.top}/{name}"):  # a text
                absent, name = name, name.rpartition("/")[0]  # up to a folder that exists
            if absent:
                found.add(absent)
        return found

    def held_files(self, attempt: str) -> HeldFiles | None:
        """Return the files that an attempt reads from the copy; None if it is gone, or is not followed."""
        notes = Notes(attempt)
        if notes.texts(OFF):
            return None
        try:
            return HeldFiles(self._folder, notes)
        except (OSError, ValueError):
            return None

    def follow(self, attempt: str) -> None:
        """Let this process follow the snapshot."""
        held = self.held_files(attempt)
        if held is not None:
            follow(held, STARTUP_FOLDER)

    def note_changes(self, attempt: str) -> None:
        """Note the files of the project that programs other than Python have written in an attempt."""
        held = self.held_files(attempt)
        if held is not None:
            with contextlib.suppress(OSError):  # the copy is being deleted
                held.note_changes()


# an attempt needs the manifest several times, and a supervisor runs many attempts
@lru_cache(maxsize=2)
def _read_manifest_once(folder: Path, _stamp: FileStamp | None) -> Manifest | None:
    return read_manifest(folder)
