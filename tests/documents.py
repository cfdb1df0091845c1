"""Parts of the project's pages: blocks, commands, links, headings."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TREE = Path(__file__).parents[1]
# run by tests/test_extending.py, each section in a copy of the tree
EXTENDING = tuple(sorted((TREE / "contributing").glob("extending*.md")))
PAGES = (
    TREE / "README.md",
    TREE / "CONTRIBUTING.md",
    TREE / "SECURITY.md",
    *(page for page in sorted((TREE / "contributing").glob("*.md")) if page not in EXTENDING),
    *sorted((TREE / "docs").glob("*.md")),
    *sorted((TREE / "benchmarks").rglob("*.md")),
)

_FENCE = re.compile(r"^```(\w*)(?: title=\"([^\"]+)\")?\s*$")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_QUOTED = re.compile(r"`((?:launcher|trueface) [^`]+)`")
_ALONE = re.compile(r"`(--[^`\n]+)`")
_OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
_FILE = re.compile(r"\b(?:launcher|trueface|tests|benchmarks)/[\w/]+\.py\b")
_DOTTED = re.compile(
    r"\b(?<!hydra\.)(?:launcher|trueface|benchmarks)(?!\.(?:py|conf|md)\b)(?:\.[A-Za-z_]\w*)+"
)
_ASSIGNED = re.compile(r"^([A-Z][A-Z0-9_]*)=(.*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block: its language, title and text, and where it stands."""

    page: Path
    line: int
    language: str
    text: str
    title: str = ""

    def __str__(self) -> str:
        """Return where it stands, for a test's message."""
        return f"{self.page.name}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command as a page shows it."""

    text: str
    words: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    line: int = 1  # in the text


def blocks(page: Path, language: str | None = None) -> Iterator[Block]:
    """Give the fenced blocks of a page, or those of one language.

    Raises:
        ValueError: a block that nobody closes.
    """
    lines: list[str] | None = None
    start, label, title = 0, "", ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if lines is None and fence:
            lines, start, label, title = [], number, fence[1], fence[2] or ""
        elif lines is not None and line == "```":
            if language in (None, label):
                text = "\n".join(lines) + "\n"
                yield Block(page=page, line=start, language=label, text=text, title=title)
            lines = None
        elif lines is not None:
            lines.append(line)
    if lines is not None:
        raise ValueError(f"{page.name}:{start}: the block is not closed")


def commands(text: str) -> Iterator[Command]:
    """Give the commands of a shell's block; `&&` stands between two.

    Raises:
        ValueError: something that only a shell could do, such as a pipe, except to write files with printf.
    """
    number = 1
    for part in re.split(r"(?<!\\)\n", text):
        line, at = part.replace("\\\n", " "), number
        number += part.count("\n") + 1
        if line.startswith("printf "):
            yield _command(["sh", "-c", line], at)
            continue
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
        yield from (_command(words, at) for words in parts if words)


def quoted(page: Path) -> Iterator[str]:
    """Give the commands that a page names within its text and tables."""
    for match in _QUOTED.finditer(_outside(page).replace("\n", " ")):
        yield match[1]


def options(page: Path) -> Iterator[str]:
    """Give the options that a page names by themselves, without their command."""
    for match in _ALONE.finditer(_outside(page)):
        yield from _OPTION.findall(match[1])


def links(page: Path) -> Iterator[tuple[int, str]]:
    """Give the targets of a page's links and pictures, each with its line."""
    text = _outside(page)
    for match in _LINK.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, match[1]


def link_fault(page: Path, link: str) -> str:
    """Return the fault of a link in a page, '' if there is none.

    A link without a heading leads to the top of a page. So a link to the title of a page is a mistake.
    """
    target, _, anchor = link.partition("#")
    path = (page.parent / target).resolve() if target else page
    if not path.exists():
        return f"expected: a file, got: no {path.name}"
    if not anchor or path.suffix != ".md":
        return "" if target else "expected: a heading, got: nothing"
    known = headings(path)
    if anchor not in known:
        return f"expected: a heading of {path.name}, got: none named {anchor}"
    return "expected: a section, got: the title of the page" if anchor == known[0] else ""


def files(page: Path) -> frozenset[str]:
    """Return the source files that a page names, such as launcher/ids.py."""
    return frozenset(_FILE.findall(page.read_text(encoding="utf-8")))


def dotted_names(page: Path) -> frozenset[str]:
    """Return the modules, and names in modules, that a page names, such as launcher.api.plan."""
    return frozenset(_DOTTED.findall(page.read_text(encoding="utf-8")))


def headings(page: Path) -> list[str]:
    """Return the anchors of a page, the part of a link after '#'. The first one is that of its title."""
    titles = (match[1] for match in _HEADING.finditer(_outside(page)))
    return [re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles]


def _outside(page: Path) -> str:
    """Return the text of a page without its fenced blocks."""
    text = page.read_text(encoding="utf-8")
    fenced = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
    return fenced.sub(lambda block: "\n" * block[0].count("\n"), text)


def _command(words: list[str], line: int) -> Command:
    text = shlex.join(words)
    environment = []
    while words and (match := _ASSIGNED.match(words[0])):
        environment.append((match[1], match[2]))
        words = words[1:]
    return Command(text=text, words=tuple(words), environment=tuple(environment), line=line)
