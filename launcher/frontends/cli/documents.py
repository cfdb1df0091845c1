"""The pages of the documentation that belong to this installation."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import launcher
from launcher.frontends.cli.other_words import places_of
from launcher.system.errors import MachineError

# pages that exist no longer, and the pages that have their contents
MOVED: Mapping[str, str] = {
    "coverage": "studies",
    "study-fairness": "studies",
    "study-generators": "studies",
    "study-photos": "studies",
    "study-unlearning": "studies",
}
GLOSSARY = "glossary"  # nearly all pages link to the glossary
INDEX = "pages"  # lists all pages in groups
# setup.py copies the pages there for a wheel
_INSTALLED = Path(launcher.__file__).with_name("pages")
_TREE = Path(launcher.__file__).parents[1]  # root of a checkout
_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
_COMMENT = re.compile(r"^<!--.*?-->\n", re.MULTILINE | re.DOTALL)
# README.md is one folder above the other pages, and those for contributors are in a folder next to them
_LINK = re.compile(r"\[([^\]]+)\]\((?:\.\./)?(?:docs/|contributing/)?([\w-]+)\.md(?:#[\w-]*)?\)")
_LINK_WITHIN_PAGE = re.compile(r"\[([^\]]+)\]\(#[\w-]*\)")
_LISTED = re.compile(
    r"^- \[([^\]]+)\]\((?:\.\./)?(?:contributing/)?([\w-]+)\.md\): (.+)$", re.MULTILINE
)
_HEADING = re.compile(r"^#+ (.+)$")
_CELL_BORDER = re.compile(r" *(?<!\\)\| *")
_FENCE = "```"
# groups of pages that explain or measure: their sections follow those for users
LATE_GROUPS = ("Understand how it works", "Measured", "Contribute")
_PICTURE = re.compile(r"^!\[([^\]]*)\]\([^)]*\)\n", re.MULTILINE)


class Document(NamedTuple):
    """A page: the name of its topic, its heading and its text in Markdown, without pictures."""

    topic: str
    title: str
    text: str


class Entry(NamedTuple):
    """A page in the list of all pages: its group, topic, title and subject."""

    group: str
    topic: str
    title: str
    about: str


class Hit(NamedTuple):
    """A section that contains a searched text: its page and heading, and the first line with the text.

    `in_other_words` says that the section is about the text and may call it by another word. `as_words` says that the
    text occurs as whole words, not only as the beginning of a longer one.
    """

    topic: str
    section: str
    line: str
    occurrences: int
    in_heading: bool
    as_words: bool
    in_other_words: bool


@cache
def topics() -> Mapping[str, Path]:
    """Return the file of each topic, in the order of their names.

    Raises:
        MachineError: the pages are missing.
    """
    if _INSTALLED.is_dir():
        files = sorted(_INSTALLED.glob("*.md"))
    else:
        folders = (_TREE / "contributing", _TREE / "docs")
        pages = (page for folder in folders for page in sorted(folder.glob("*.md")))
        files = [_TREE / "README.md", *pages]
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


def entries() -> list[Entry]:
    """Return all pages in the order of the list of all pages.

    Raises:
        MachineError: the list cannot be read.
    """
    found = []
    for part in document(INDEX).text.split("\n## ")[1:]:
        group = part.partition("\n")[0]
        found += [
            Entry(group, topic.lower(), title, about)
            for title, topic, about in _LISTED.findall(part)
        ]
    return found


def search(text: str) -> list[Hit]:
    """Return the sections that contain a text, without regard to case, most relevant first.

    A section that people find with other words is first. Then whole words count more than beginnings of words,
    pages for users more than explanations and measurements, and headings more than text.

    Raises:
        MachineError: a page cannot be read.
    """
    beginning = r"(?<!\w)" + r"\s+".join(map(re.escape, text.split()))
    patterns = [re.compile(beginning + end, re.IGNORECASE) for end in (r"s?(?!\w)", "")]
    meant = {*places_of(text)}
    late = {entry.topic for entry in entries() if entry.group in LATE_GROUPS}
    hits = [
        hit
        for topic in topics()
        if topic != INDEX
        for hit in _hits(document(topic), patterns, meant)
    ]
    return sorted(
        hits,
        key=lambda hit: (
            not hit.in_other_words,
            not hit.as_words,
            hit.topic in late,
            not hit.in_heading,
            -hit.occurrences,
        ),
    )


def _hits(
    page: Document, patterns: Sequence[re.Pattern[str]], meanings: Collection[tuple[str, str]]
) -> Iterator[Hit]:
    """Give the sections of a page that contain one of the patterns, the first of which is the strictest."""
    for heading, lines in _sections(page.text):
        in_other_words = (page.topic, heading) in meanings
        for words in patterns:
            found = [line for line in lines if words.search(line)]
            in_heading = bool(words.search(heading))
            if found or in_heading or in_other_words:
                line = found[0] if found else next(_sentences(lines), "")
                yield Hit(
                    topic=page.topic,
                    section=heading,
                    line=_CELL_BORDER.sub(" | ", _words_of(line).strip("| ")),
                    occurrences=sum(len(words.findall(line)) for line in (heading, *found)),
                    in_heading=in_heading,
                    as_words=words is patterns[0],
                    in_other_words=in_other_words,
                )
                break


def _words_of(line: str) -> str:
    """Return a line in which each link to a page or a section is its words."""
    return _LINK.sub(r"\1", _LINK_WITHIN_PAGE.sub(r"\1", line))


def _sentences(lines: Iterable[str]) -> Iterator[str]:
    """Give the lines of a section that are neither in a code block nor in a table."""
    in_block = False
    for line in lines:
        if line.startswith(_FENCE):
            in_block = not in_block
        elif line and not in_block and not line.startswith("|"):
            yield line


def _sections(text: str) -> Iterator[tuple[str, list[str]]]:
    """Give the heading and the lines of each section; code blocks have no headings."""
    heading, lines, in_block = "", list[str](), False
    for line in text.splitlines():
        if line.startswith(_FENCE):
            in_block = not in_block
            lines.append(line)
        elif not in_block and (match := _HEADING.match(line)):
            yield heading, lines
            heading, lines = match[1], []
        else:
            lines.append(line)
    yield heading, lines


def for_terminal(text: str) -> str:
    """Return Markdown in which links to other pages name the command that prints the page.

    A link within the page becomes its words.
    """

    def link(match: re.Match[str]) -> str:
        words, topic = match[1], match[2].lower()
        if topic == GLOSSARY or topic not in topics():
            return words
        return f"{words} (`launcher help {topic}`)"

    return _LINK.sub(link, _LINK_WITHIN_PAGE.sub(r"\1", text))
