"""The pages of the documentation that belong to this installation."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import launcher
from launcher.errors import MachineError

GLOSSARY = "glossary"  # nearly all pages link to it
_INSTALLED = Path(launcher.__file__).with_name("pages")  # setup.py copies them there for a wheel
_TREE = Path(launcher.__file__).parents[1]  # root of a checkout
_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
_COMMENT = re.compile(r"^<!--.*?-->\n", re.MULTILINE | re.DOTALL)
# README.md is one folder above the other pages
_LINK = re.compile(r"\[([^\]]+)\]\((?:docs/|\.\./)?([\w-]+)\.md(?:#[\w-]*)?\)")
_PICTURE = re.compile(r"^!\[([^\]]*)\]\([^)]*\)\n", re.MULTILINE)


class Document(NamedTuple):
    """A page: the name of its topic, its heading and its text in Markdown, without pictures."""

    topic: str
    title: str
    text: str


@cache
def topics() -> Mapping[str, Path]:
    """Return the file of each topic, in the order of their names.

    Raises:
        MachineError: the pages are missing.
    """
    if _INSTALLED.is_dir():
        files = sorted(_INSTALLED.glob("*.md"))
    else:
        files = [_TREE / "README.md", *sorted((_TREE / "docs").glob("*.md"))]
    found = {file.stem.lower(): file for file in files if file.is_file()}
    if not found:
        raise MachineError(f"the pages are missing in {_INSTALLED}. Install launcher again.")
    return found


def document(topic: str) -> Document:
    """Return the page of a topic.

    Raises:
        KeyError: there is no such topic.
        MachineError: its file cannot be read.
    """
    file = topics()[topic]
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise MachineError(f"cannot read {file}: {error.strerror or error}") from error
    text = _PICTURE.sub("", _COMMENT.sub("", text))
    title = _TITLE.search(text)
    return Document(topic, title[1] if title else topic, text)


def for_terminal(text: str) -> str:
    """Return Markdown in which links to other pages name the command that prints the page."""

    def link(match: re.Match[str]) -> str:
        words, topic = match[1], match[2].lower()
        if topic == GLOSSARY or topic not in topics():
            return words
        return f"{words} (`launcher help {topic}`)"

    return _LINK.sub(link, text)
