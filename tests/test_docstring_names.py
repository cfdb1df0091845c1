"""Docstrings and comments refer to names that exist: a name between backticks is defined or used somewhere in the code."""

import ast
import builtins
import io
import keyword
import re
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

TREE = Path(__file__).parents[1]
PACKAGES = ("launcher", "trueface", "benchmarks", "tests")
_REFERENCE = re.compile(r"(?<![`\w])`([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?:\(\))?`(?!`)")
_COMMENT_WITH_REFERENCE = re.compile("#.*`")
_FILE_SUFFIXES = frozenset(
    {"cc", "csv", "db", "json", "md", "npz", "proto", "pt", "py", "toml", "yaml"}
)
_WORD = re.compile(r"[A-Za-z_]\w*")


def names_of_code(text: str) -> set[str]:
    """Return the identifiers of a module's code, and the words of its texts except docstrings."""
    tree = ast.parse(text)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None
        if isinstance(node.body[0], ast.Expr)
    }
    names = set[str]()
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str() as words) if id(node) not in docstrings:
                names.update(_WORD.findall(words))
            case ast.Import() | ast.ImportFrom():
                for alias in node.names:
                    names.update(alias.name.split("."))
                names.update((getattr(node, "module", None) or "").split("."))
            case _:
                for field in ("id", "attr", "arg", "name"):
                    if isinstance(word := getattr(node, field, None), str):
                        names.add(word)
    return names


def references(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of each reference in docstrings and comments of a module."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Expr(value=ast.Constant(value=str() as words)):
                for found in _REFERENCE.finditer(words):
                    yield node.lineno + words.count("\n", 0, found.start()), found[1]
    if _COMMENT_WITH_REFERENCE.search(text) is None:  # it takes long to find the tokens
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield from ((token.start[0], found[1]) for found in _REFERENCE.finditer(token.string))


@cache
def known_names() -> frozenset[str]:
    """Return all names that a reference may have: of the code, of Python, of files and of settings."""
    names = {*keyword.kwlist, *dir(builtins), *sys.stdlib_module_names}
    for package in PACKAGES:
        for file in (TREE / package).rglob("*"):
            names.update(file.relative_to(TREE).with_suffix("").parts)
            if file.suffix == ".py":
                names |= names_of_code(file.read_text(encoding="utf-8"))
            elif file.suffix in {".sql", ".js", ".html", ".css"}:
                names.update(_WORD.findall(file.read_text(encoding="utf-8")))
    return frozenset(names)


def unknown_references(text: str, known: frozenset[str]) -> list[tuple[int, str]]:
    """Return the references of a module of which any part is unknown."""
    return [
        (line, name)
        for line, name in references(text)
        if not known.issuperset(parts := name.split(".")) and parts[-1] not in _FILE_SUFFIXES
    ]


@pytest.mark.parametrize("package", ["launcher", "trueface"])
def test_names_in_docstrings_and_comments_exist(package: str) -> None:
    problems = [
        f"{file.relative_to(TREE)}:{line}: `{name}` does not exist"
        for file in sorted((TREE / package).rglob("*.py"))
        for line, name in unknown_references(file.read_text(encoding="utf-8"), known_names())
    ]
    assert not problems, "\n".join(problems)


def test_reference_to_a_missing_name_is_reported() -> None:
    text = '''
def read_rows(path):
    """Read rows; see `write_rows`, `Table.gone`, `a-b`, ``literal`` and `read_rows()`.

    The table: `Missing`.
    """
    return path  # as `absent` does
'''
    known = frozenset({"read_rows", "Table", "path"})
    assert unknown_references(text, known) == [
        (3, "write_rows"),
        (3, "Table.gone"),
        (5, "Missing"),
        (7, "absent"),
    ]


def test_names_of_code_include_definitions_arguments_and_strings() -> None:
    text = 'import a.b as c\n"""Module `d`."""\ndef f(x, *, y=1):\n    """See `g`."""\n    return x.z(key="word two")\n'
    assert names_of_code(text) >= {"a", "b", "f", "x", "y", "z", "key", "word", "two"}
    assert not names_of_code(text) & {"g"}
