"""The qualities of a training, `raw, jpeg75, half+jpeg30`, and their list of files.

A quality is a chain of corruptions, as in the setting `corrupt` of tests, or a word of the list of
files of the training. Examples are c23 and c40 of video sets, whose files are on disk. The list has
the format of `data.json` of the original of QAD:

    {"train": {"raw": ["a/001.png", …], "c23": [...], "c40": [...], "labels": [0, …]}, "val": …}

Items are pairs by position: the i-th file of each quality shows the same frame, and their names
without suffix are equal. The images of a training are found by path among those of `raw`. This
module does not import torch.
"""

import json
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueface.corruptions.registry import ALIASES, NONE, RAW, canonical
from trueface.corruptions.registry import missing_programs as missing_for
from trueface.corruptions.registry import plugin_modules as modules_of_chain
from trueface.data.index import Image
from trueface.runtime.errors import DataError, UnknownName
from trueface.runtime.files import file_sha256

SEPARATOR = ","
MOST = 16  # qualities of a training: each is one more pass through the network
SOURCE_ADVICE = "Give the real image that it was made of in quality_list."
_FILES = re.compile(r"[A-Za-z0-9_.-]+")
_MARK = "files:"  # before a quality that is a word of the list of files


def join_qualities(value: Any) -> Any:
    """Return a list of qualities as the text that settings hold; anything else as it is."""
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return SEPARATOR.join(value)
    return value


def split_quality_words(text: str) -> tuple[str, ...]:
    """Return the qualities of a text, in their order; of an empty text none."""
    return tuple(word.strip() for word in text.split(SEPARATOR)) if text.strip() else ()


def canonical_qualities(text: str) -> str:
    """Return qualities in canonical spelling: `none, jpeg050` becomes `raw,jpeg50`.

    A word `files:NAME` means the files under NAME in the list of the training. See `with_files`.

    Raises:
        ValueError: an unknown corruption, a strength outside its range, a repeated quality, or too
        many qualities.
    """
    words = [_normalize_word(word) for word in split_quality_words(text)]
    twice = [word for at, word in enumerate(words) if word in words[:at]]
    if twice:
        raise ValueError(f"quality {twice[0]} is listed twice: leave one of them out")
    if len(words) > MOST:
        raise ValueError(f"{len(words)} qualities are too many: at most {MOST} are allowed")
    return SEPARATOR.join(words)


def with_files(text: str) -> str:
    """Return qualities in which words other than corruptions, such as `c23`, refer to a list."""
    return SEPARATOR.join(_with_files(word) for word in split_quality_words(text))


def files_of(quality: str) -> str | None:
    """Return the word of a quality in the list of files, or None if it is a chain."""
    return quality.removeprefix(_MARK) if quality.startswith(_MARK) else None


def chain_of(quality: str) -> str:
    """Return a quality as a chain of corruptions; that of files is none."""
    return NONE if quality == RAW or files_of(quality) is not None else quality


def plugin_modules(text: str) -> tuple[str, ...]:
    """Return the modules of the kinds of corruption in qualities: they are imported by name."""
    modules = (
        module for word in split_quality_words(text) for module in modules_of_chain(chain_of(word))
    )
    return tuple(dict.fromkeys(modules))


def missing_programs(text: str) -> tuple[str, ...]:
    """Return why some qualities cannot be made on this machine, in words."""
    return tuple(
        reason for word in split_quality_words(text) for reason in missing_for(chain_of(word))
    )


def missing_file_words(text: str, columns: Collection[str]) -> Iterable[str]:
    """Yield the words of files among qualities that a list does not have."""
    names = (files_of(word) for word in split_quality_words(text))
    return (name for name in names if name is not None and name not in columns)


def _with_files(word: str) -> str:
    if word not in ALIASES:
        try:
            canonical(word)
        except ValueError:
            return word if word.startswith(_MARK) else f"{_MARK}{word}"
        return word
    return f"{_MARK}{word}"


def _normalize_word(word: str) -> str:
    name = files_of(word)
    if name is not None:
        if not _FILES.fullmatch(name):
            raise ValueError(
                f"{word!r}: after files: expected a name of the list, such as files:c23"
            )
        return word
    if not word:
        raise ValueError("a quality is missing between two commas: write, for example, raw, jpeg75")
    try:
        chain = canonical(word)
    except ValueError as error:
        match error.args:
            case [UnknownName() as unknown]:
                advice = f"If {word} is in a data.json, set quality_list to it."
                raise ValueError(
                    UnknownName(unknown.what, unknown.name, unknown.known, advice=advice)
                ) from error
        raise
    return RAW if chain == NONE else chain


LABELS = "labels"


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityList:
    """One list of a `data.json`, such as its `train`."""

    path: Path
    name: str  # name of the list in the file
    files: Mapping[str, tuple[Path, ...]]  # by quality, absolute; all of one length
    labels: tuple[int, ...] | None  # 1 fake, 0 real; None: the file has none

    @classmethod
    def read(cls, path: Path, name: str = "train") -> "QualityList":
        """Read a list, and check that its qualities form pairs.

        Relative paths are below the folder of the file.

        Raises:
            DataError: the file has another format, lists differ in length or items, or a label is
            not 0 or 1. The message names the first pair that does not match.
        """
        content = _content(path, name)
        labels = content.pop(LABELS, None)
        columns = {
            word: tuple(_absolute(path, each) for each in _texts(path, name, word, values))
            for word, values in content.items()
        }
        if RAW not in columns:
            raise DataError(
                f"{path}: {name} has no list {RAW!r}, which is needed to find the training "
                f"images. Its lists: {', '.join(columns) or 'none'}."
            )
        quality_list = cls(path=path, name=name, files=columns, labels=_labels(path, name, labels))
        quality_list._check_pairs()
        return quality_list

    def partners(self, images: Sequence[Image], quality: str) -> dict[str, Path]:
        """Return the file of each image in a quality, by the image's name.

        Raises:
            DataError: the list has no such quality, or lacks an image, or has it with another
            label.
        """
        if quality not in self.files:
            raise DataError(
                f"{self.path}: {self.name} has no list {quality!r}. Its lists: "
                f"{', '.join(self.files)}."
            )
        raw = self.files[RAW]
        places = {os.fspath(file): at for at, file in enumerate(raw)}
        if any(os.path.normpath(image.file) not in places for image in images):
            # the folder of the list, or of the images, may be reached through a link
            places |= {os.path.realpath(file): at for at, file in enumerate(raw)}
        partners = {}
        for image in images:
            at = places.get(os.path.normpath(image.file))
            if at is None:
                at = places.get(os.path.realpath(image.file))
            if at is None:
                raise DataError(
                    f"{self.path}: {image.file} is not in the list {RAW!r} of {self.name}. Add it "
                    "with its other qualities, or leave it out of the split."
                )
            if self.labels is not None and self.labels[at] != image.label:
                raise DataError(
                    f"{self.path}: {LABELS} of {self.name} has {self.labels[at]} for "
                    f"{image.file}, but its folder means {image.label} (1 is fake)"
                )
            partners[image.name] = self.files[quality][at]
        return partners

    def has_sources(self, quality: str) -> bool:
        """Return whether a fake has another file in a quality. Without labels, each image may be a fake."""
        fakes = {file for file, label in zip(self.files[RAW], self._labels, strict=True) if label}
        return len(self._own_files(quality)) < len(fakes)

    def own_source(self, images: Sequence[Image], quality: str) -> Image | None:
        """Return the first fake whose file in a quality is its own, None if each fake has another one."""
        own = self._own_files(quality)
        if not own:
            return None
        own |= {os.path.realpath(file) for file in own}
        return next(
            (
                image
                for image in images
                if image.label
                and not own.isdisjoint((os.path.normpath(image.file), os.path.realpath(image.file)))
            ),
            None,
        )

    def _own_files(self, quality: str) -> set[str]:
        """Return the files of fakes that are also their files in a quality."""
        rows = zip(self.files[RAW], self.files[quality], self._labels, strict=True)
        return {os.fspath(file) for file, source, label in rows if label and file == source}

    @property
    def _labels(self) -> Sequence[int]:
        return (1,) * len(self.files[RAW]) if self.labels is None else self.labels

    def _check_pairs(self) -> None:
        """Refuse lists that do not form pairs."""
        raw = self.files[RAW]
        for word, files in self.files.items():
            if len(files) != len(raw):
                raise DataError(
                    f"{self.path}: {self.name} has {len(files)} files of {word!r} but {len(raw)} "
                    f"of {RAW!r}. They are paired by position{_describe_first_mismatch(raw, files)}."
                )
            for at, (first, other) in enumerate(zip(raw, files, strict=True)):
                if first.stem != other.stem:
                    raise DataError(
                        f"{self.path}: pair {at + 1} of {self.name} shows different items: {RAW} "
                        f"{first}, {word} {other}. The names without suffix must be equal."
                    )
        if self.labels is not None and len(self.labels) != len(raw):
            raise DataError(
                f"{self.path}: {self.name} has {len(self.labels)} {LABELS} but {len(raw)} files "
                f"of {RAW!r}"
            )
        self._refuse_unlike_twins()

    def _refuse_unlike_twins(self) -> None:
        """Refuse a repeated file with different partners, because the choice is ambiguous."""
        first_at: dict[Path, int] = {}
        for at, file in enumerate(self.files[RAW]):
            first = first_at.setdefault(file, at)
            columns: list[Sequence[object]] = [*self.files.values(), self.labels or ()]
            if first != at and any(each[first] != each[at] for each in columns if each):
                raise DataError(
                    f"{self.path}: {file} is in entries {first + 1} and {at + 1} of {RAW!r} of "
                    f"{self.name}, with different files or labels. Keep one of them."
                )


def digests(files: Iterable[Path]) -> dict[Path, str]:
    """Return the SHA-256 of each file, or its name if unreadable: decoding reports the error."""
    return {file: _digest(file) for file in files}


def _digest(file: Path) -> str:
    try:
        return file_sha256(file)
    except OSError:
        return f"unreadable {file}"


def _content(path: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}. Set quality_list to a data.json.") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not valid JSON: {error.msg}") from error
    except ValueError as error:
        raise DataError(f"{path}: not a text file: {error}") from error
    lists = content.get(name) if isinstance(content, dict) else None
    if not isinstance(lists, dict):
        shown = (
            ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        )
        raise DataError(f"{path}: expected lists by quality in {name!r}, found {shown}")
    return dict(lists)


def _texts(path: Path, name: str, word: str, values: Any) -> Sequence[str]:
    if not isinstance(values, list):
        raise DataError(f"{path}: {word!r} of {name} is not a list of paths")
    for at, value in enumerate(values):
        if not isinstance(value, str) or not value:
            raise DataError(
                f"{path}: entry {at + 1} of {word!r} of {name} is not a path: {value!r}"
            )
    return values


def _labels(path: Path, name: str, values: Any) -> tuple[int, ...] | None:
    if values is None:
        return None
    if not isinstance(values, list):
        raise DataError(f"{path}: {LABELS} of {name} is not a list of numbers")
    for at, value in enumerate(values):
        if isinstance(value, bool) or value not in (0, 1):  # a list has no hash
            raise DataError(
                f"{path}: entry {at + 1} of {LABELS} of {name} is {value!r}, expected 1 (fake) or "
                "0 (real)"
            )
    return tuple(int(value) for value in values)


def _absolute(path: Path, text: str) -> Path:
    return Path(os.path.normpath(path.resolve().parent / text))


def _describe_first_mismatch(raw: Sequence[Path], files: Sequence[Path]) -> str:
    for at, (first, other) in enumerate(zip(raw, files, strict=False)):
        if first.stem != other.stem:
            return f". The first different pair is {at + 1}: {first}, {other}"
    longer = raw if len(raw) > len(files) else files
    at = min(len(raw), len(files))
    return f", and {longer[at]} (entry {at + 1}) has no partner"
