"""Dockerfiles as values: their instructions, and the files of an image."""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

_CONTINUED = re.compile(r"\\\n")
_ANYWHERE = "**/"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, such as RUN, with what follows it."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """Text after the instruction without its flags."""
        return [word for word in shlex.split(self.text) if not word.startswith("--")]


def instructions(file: Path) -> list[Instruction]:
    """Return the instructions of a Dockerfile.

    Raises:
        ValueError: a line begins with no instruction.
    """
    lines = [
        line
        for line in file.read_text(encoding="utf-8").splitlines(keepends=True)
        if not line.startswith("#")
    ]
    made = []
    for line in _CONTINUED.sub(" ", "".join(lines)).splitlines():
        if line.strip():
            name, _, text = line.partition(" ")
            if not name.isupper():
                raise ValueError(f"{file.name}: no instruction: {line}")
            made.append(Instruction(name, " ".join(text.split())))
    return made


def sent_files(context: Path, ignore: Sequence[str], sources: Sequence[str]) -> Iterator[Path]:
    """Give the files that COPY takes from a folder, relative to it.

    Args:
        context: the folder from which the image is built.
        ignore: the patterns of its .dockerignore; `**/` begins one that holds at any depth.
        sources: files, or `.` for all.

    Raises:
        FileNotFoundError: a source is not there.
    """
    for source in sources:
        if source != ".":
            if not (context / source).is_file():
                raise FileNotFoundError(source)
            yield Path(source)
        else:
            yield from _below(context, Path(), ignore)


def _below(context: Path, folder: Path, ignore: Sequence[str]) -> Iterator[Path]:
    for path in sorted((context / folder).iterdir()):
        inner = folder / path.name
        if any(_matches(inner, pattern) for pattern in ignore):
            continue
        if path.is_dir():
            yield from _below(context, inner, ignore)
        else:
            yield inner


def _matches(path: Path, pattern: str) -> bool:
    if pattern.startswith(_ANYWHERE):
        return fnmatchcase(path.name, pattern.removeprefix(_ANYWHERE))
    return fnmatchcase(path.as_posix(), pattern)
