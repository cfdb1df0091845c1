"""Words that users have stored stay as they are: a word that is gone or new is found by a comparison with a file.

`python -m tests.test_stored_words --write` adds new words to the file. Words that are gone on purpose are deleted there
by hand.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nvml.standin import compile_library
from tests.stored_words import Words, collect

FILE = Path(__file__).parent / "data" / "stored_words.json"
KEEP = "Users have stored this word: keep it, or give the new word an alias."
WRITE = "python -m tests.test_stored_words --write"


def removed_words(stored: Words, found: Words) -> Iterator[str]:
    """Yield a sentence for each word that is gone."""
    for section, words in stored.items():
        for word in words:
            if word not in found.get(section, ()):
                yield f"{section}: {word!r} is gone. {KEEP}"


def new(stored: Words, found: Words) -> Iterator[str]:
    """Yield a sentence for each word that is not in the file yet."""
    for section, words in found.items():
        for word in words:
            if word not in stored.get(section, ()):
                yield f"{section}: {word!r} is new. Users will store this word. Record it: {WRITE}"


def read_words() -> Words:
    """Return the words of the file."""
    words: Words = json.loads(FILE.read_text(encoding="utf-8"))
    return words


def test_stored_words_are_unchanged(tmp_path: Path, nvml_library: Path) -> None:
    pytest.importorskip("sqlite_utils")  # a package of `launcher results --db`
    stored, found = read_words(), collect(tmp_path, nvml_library)
    problems = [*removed_words(stored, found), *new(stored, found)]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    ("now", "problems"),
    [
        (["held", "queued"], []),
        (["held"], [f"states of jobs: 'queued' is gone. {KEEP}"]),
        (
            ["held", "waiting"],
            [
                f"states of jobs: 'queued' is gone. {KEEP}",
                f"states of jobs: 'waiting' is new. Users will store this word. Record it: {WRITE}",
            ],
        ),
    ],
)
def test_renamed_word_is_reported_with_its_meaning(now: list[str], problems: list[str]) -> None:
    stored = {"states of jobs": ["held", "queued"]}
    assert [
        *removed_words(stored, {"states of jobs": now}),
        *new(stored, {"states of jobs": now}),
    ] == problems


def test_removed_section_is_reported_with_its_words() -> None:
    assert len([*removed_words({"poisons": ["flip", "f2r"]}, {})]) == 2


def write() -> None:
    """Add new words to the file, unless a word is gone."""
    with tempfile.TemporaryDirectory() as made:
        library, folder = Path(made, "library"), Path(made, "queue")
        library.mkdir()
        folder.mkdir()
        found = collect(folder, compile_library(library))
    if FILE.is_file() and (gone := [*removed_words(read_words(), found)]):
        sys.exit("\n".join([*gone, f"{FILE} was not changed. Delete words there that may go."]))
    text = json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True)
    FILE.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(f"usage: {WRITE}")
    write()
