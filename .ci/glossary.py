"""Checks that a page explains or links a term of docs/glossary.md where it uses it first.

python .ci/glossary.py [PAGE…]    without PAGE: README.md and all pages of contributing/ and docs/

A term is explained where it is bold or italic, and linked where it is part of a link's text. Headings, code and
tables of generated pages are not read. Exit code 1 if a page uses a term without either.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

TREE = Path(__file__).parents[1]
GLOSSARY = TREE / "docs" / "glossary.md"
MOST_TERMS = 50
# Terms that are also everyday words: the glossary explains them, and no page is searched for them.
EVERYDAY = {"frozen", "group of people", "hash", "run", "share", "threshold"}
GENERATED = re.compile(r"generated (?:by|from)", re.IGNORECASE)
_TERM = re.compile(r"^### (.+)$", re.MULTILINE)
_CODE = re.compile(r"^```.*?^```$|^ {4}[^\n]*$|`[^`\n]*`|<!--.*?-->", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#.*$", re.MULTILINE)
_MARKED = re.compile(r"\[[^\]]+\]\([^)]+\)|\*\*[^*]+\*\*|(?<!\*)\*[^*\n]+\*(?!\*)")


def terms() -> list[str]:
    """Return the terms of the glossary, in its order."""
    return _TERM.findall(GLOSSARY.read_text(encoding="utf-8"))


def unexplained(text: str, words: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield line and term for each term whose first use is neither explained nor linked.

    Args:
        text: the page.
        words: the terms to look for.
    """
    blank = _blanked(text, _CODE)
    blank = _blanked(blank, _HEADING)
    marked = [match.span() for match in _MARKED.finditer(blank)]
    for word in words:
        first = _pattern(word).search(blank)
        if first and not any(start <= first.start() < end for start, end in marked):
            yield text.count("\n", 0, first.start()) + 1, word


def _blanked(text: str, pattern: re.Pattern[str]) -> str:
    """Return the text with matches replaced by spaces, so that places stay the same."""
    return pattern.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def _pattern(word: str) -> re.Pattern[str]:
    words = r"\s+".join(re.escape(part) for part in word.split())
    return re.compile(rf"(?<![\w-]){words}s?(?![\w-])", re.IGNORECASE)


def pages(names: Sequence[str]) -> list[Path]:
    """Return the pages to read: those that are named, or all."""
    if names:
        return [Path(name).resolve() for name in names]
    folders = (TREE / "contributing", TREE / "docs")
    every = [
        TREE / "README.md",
        *(page for folder in folders for page in sorted(folder.glob("*.md"))),
    ]
    return [page for page in every if page != GLOSSARY and not _is_generated(page)]


def _is_generated(page: Path) -> bool:
    return bool(GENERATED.search(page.read_text(encoding="utf-8")[:400]))


def main(names: Sequence[str]) -> int:
    """Print each term that a page does not explain; return the exit code."""
    every = terms()
    if len(every) > MOST_TERMS:
        print(f"{GLOSSARY}: {len(every)} terms; at most {MOST_TERMS} are allowed")
        return 1
    words = [word for word in every if word not in EVERYDAY]
    found = 0
    for page in pages(names):
        for line, word in unexplained(page.read_text(encoding="utf-8"), words):
            found += 1
            print(
                f"{page}:{line}: explain '{word}', or link it: [{word}](glossary.md#{word.lower().replace(' ', '-')})"
            )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
