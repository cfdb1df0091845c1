"""Which names of rows a benchmark prints, by the strings in its source."""

import ast
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

TREE = Path(__file__).parents[1]
SHARED = {"benchmarks.measured", "benchmarks.table"}  # their strings name no row
PACKAGES = ("benchmarks", "tests.chaos", "tests.powercut")
FIGURE = re.compile(r"\d[\d,.]*")  # such as the size of a workload

Template = tuple[str | None, ...]  # parts of a string; None: a value that is inserted


def sources(command: str) -> list[Path]:
    """Return the modules that commands run, and the modules of benchmarks that these import."""
    found: dict[Path, None] = {}
    waiting = [_module(part.split()) for part in command.split("; ")]
    while waiting:
        for file in _files(waiting.pop()):
            if file not in found:
                found[file] = None
                waiting += _imports(file)
    return list(found)


def is_printed(name: str, files: Sequence[Path]) -> bool:
    """Return whether a name is a string of these modules, or a format string with figures and such strings."""
    templates = frozenset[Template]().union(*map(_templates, files))
    plain = {"".join(map(str, each)) for each in templates if None not in each}
    formats = [each for each in templates if None in each and len("".join(filter(None, each))) > 1]

    @cache
    def is_made(text: str) -> bool:
        if text in plain or FIGURE.fullmatch(text):
            return True
        return any(fits(text, each) for each in formats if _pattern(each).fullmatch(text))

    @cache
    def fits(text: str, template: Template) -> bool:
        if not template:
            return not text
        first, *rest = template
        if first is not None:
            return text.startswith(first) and fits(text.removeprefix(first), tuple(rest))
        ends = range(len(text) + 1)
        return any(fits(text[end:], tuple(rest)) and is_made(text[:end]) for end in ends)

    return is_made(name) and not FIGURE.fullmatch(name)


@cache
def _pattern(template: Template) -> re.Pattern[str]:
    """Return a pattern that a text of a template has; others need no search for its values."""
    parts = (".*" if part is None else re.escape(part) for part in template)
    return re.compile("".join(parts), re.DOTALL)


def _module(words: Sequence[str]) -> str:
    """Return the module that a command runs, or the first one of a target of the Makefile."""
    if words[0] == "make":
        makefile = (TREE / "Makefile").read_text(encoding="utf-8")
        words = makefile.partition(f"\n{words[1]}:")[2].split()
    return words[words.index("-m") + 1]


def _files(module: str) -> list[Path]:
    path = TREE.joinpath(*module.split("."))
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


@cache
def _imports(file: Path) -> frozenset[str]:
    """Return the modules of the packages that a module imports."""
    found = set[str]()
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGES):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(each for each in [node.module or "", *names] if each not in SHARED)
    return frozenset(filter(_is_module, found))


def _is_module(name: str) -> bool:
    return TREE.joinpath(*name.split(".")).with_suffix(".py").exists()


@cache
def _templates(file: Path) -> frozenset[Template]:
    """Return the strings and format strings of a module."""
    found = set[Template]()
    for node in ast.walk(_tree(file)):
        match node:
            case ast.JoinedStr():
                found.add(tuple(_constant(part) for part in node.values))
            case ast.Constant(value=str(text)):
                found.add((text,))
    return frozenset(found)


def _constant(part: ast.expr) -> str | None:
    return str(part.value) if isinstance(part, ast.Constant) else None


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))
