"""What the project's pages hold: blocks, commands, links, headings."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TREE = Path(__file__).parents[1]
PAGES = (TREE / "README.md", *sorted((TREE / "docs").glob("*.md")))

_FENCE = re.compile(r"^```(\w*)\s*$")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_QUOTED = re.compile(r"`((?:launcher|trueface) [^`]+)`")
_ALONE = re.compile(r"`(--[^`\n]+)`")
_OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
_ASSIGNED = re.compile(r"^([A-Z][A-Z0-9_]*)=(.*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block: its language and text, and where it stands."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        """Return where it stands, for a test's message."""
        return f"{self.page.name}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command as a page shows it."""

    text: str
    words: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]


def blocks(page: Path, language: str | None = None) -> Iterator[Block]:
    """Give the fenced blocks of a page, or those of one language.

    Raises:
        ValueError: a block that nobody closes.
    """
    found: list[str] | None = None
    begun, said = 0, ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if found is None and fence:
            found, begun, said = [], number, fence[1]
        elif found is not None and line == "```":
            if language in (None, said):
                text = "\n".join(found) + "\n"
                yield Block(page=page, line=begun, language=said, text=text)
            found = None
        elif found is not None:
            found.append(line)
    if found is not None:
        raise ValueError(f"{page.name}:{begun}: the block is not closed")


def commands(text: str) -> Iterator[Command]:
    """Give the commands of a shell's block; `&&` stands between two.

    Raises:
        ValueError: something that only a shell could do, such as a pipe.
    """
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        parts: list[list[str]] = [[]]
        for word in lexer:
            if word == "&&":
                parts.append([])
            elif set(word) <= set("&|<>();"):
                raise ValueError(f"'{word}' needs a shell: {line}")
            else:
                parts[-1].append(word)
        yield from (_command(words) for words in parts if words)


def told(page: Path) -> Iterator[str]:
    """Give the commands that a page names within its text and tables."""
    text = page.read_text(encoding="utf-8")
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for found in _QUOTED.finditer(outside.replace("\n", " ")):
        yield found[1]


def options(page: Path) -> Iterator[str]:
    """Give the options that a page names by themselves, without their command."""
    text = page.read_text(encoding="utf-8")
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for found in _ALONE.finditer(outside):
        yield from _OPTION.findall(found[1])


def links(page: Path) -> Iterator[str]:
    """Give the targets of a page's links and pictures."""
    text = page.read_text(encoding="utf-8")
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for found in _LINK.finditer(outside):
        yield found[1]


def anchors(page: Path) -> frozenset[str]:
    """Return what can stand behind '#' in a link to a page."""
    text = page.read_text(encoding="utf-8")
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = (found[1] for found in _HEADING.finditer(outside))
    return frozenset(
        re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles
    )


def between(text: str, begin: str, end: str) -> str:
    """Return what stands between two lines of a page.

    Raises:
        ValueError: they are not there, once and in this order.
    """
    _, start, rest = text.partition(f"{begin}\n")
    inner, stop, after = rest.partition(end)
    if not start or not stop or begin in rest or end in after:
        raise ValueError(f"expected one {begin} and one {end}")
    return inner


def _command(words: list[str]) -> Command:
    text = shlex.join(words)
    environment = []
    while words and (found := _ASSIGNED.match(words[0])):
        environment.append((found[1], found[2]))
        words = words[1:]
    return Command(text=text, words=tuple(words), environment=tuple(environment))
