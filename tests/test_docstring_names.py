"""Docstrings and comments refer to names that exist: a name between backticks is defined or used somewhere in the code."""

import ast
import builtins
import gc
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
DOCUMENTED = ("launcher", "trueface")
PACKAGES = (*DOCUMENTED, "benchmarks", "tests")
_REFERENCE = re.compile(r"(?<![`\w])`([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?:\(\))?`(?!`)")
_COMMENT_WITH_REFERENCE = re.compile("#.*`")
_ARGUMENTS = re.compile(r"^Args:\n((?:    .*\n?|\n)+)", re.MULTILINE)
_ARGUMENT = re.compile(r"^    (\w+):", re.MULTILINE)
_FILE_SUFFIXES = frozenset(
    {"cc", "csv", "db", "json", "md", "npz", "proto", "pt", "py", "toml", "yaml"}
)
_SUFFIXES_OF_CODE = frozenset({".py", ".sql", ".js", ".html", ".css"})
_WORD = re.compile(r"[A-Za-z_]\w*")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_DEFINED = re.compile(r"^ *(?:async )?(?:def (\w+)\(|class (\w+)[(:])", re.MULTILINE)


@cache
def read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def names_of_code(text: str) -> set[str]:
    """Return the identifiers of a module's code, and the words of its texts except docstrings."""
    docstrings = set[int]()
    names = set[str]()
    for node in ast.walk(ast.parse(text)):  # a module before its docstring
        if isinstance(node, _DOCUMENTED):
            match node.body:
                case [ast.Expr(value=ast.Constant(value=str()) as docstring), *_]:
                    docstrings.add(id(docstring))
        match node:
            case ast.expr_context():
                pass
            case ast.Name(id=word) | ast.Attribute(attr=word):
                names.add(word)
            case ast.Constant(value=str() as words):
                if id(node) not in docstrings:
                    names.update(_WORD.findall(words))
            case ast.Import() | ast.ImportFrom():
                for alias in node.names:
                    names.update(alias.name.split("."))
                names.update((getattr(node, "module", None) or "").split("."))
            case _:
                for field in ("arg", "name"):
                    if isinstance(value := getattr(node, field, None), str):
                        names.add(value)
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


def referenced_words(text: str) -> set[str]:
    """Return the parts of all names between backticks, in texts of the code too."""
    names = [match[1].split(".") for match in _REFERENCE.finditer(text)]
    return {word for parts in names if parts[-1] not in _FILE_SUFFIXES for word in parts}


@pytest.fixture(scope="module")
def no_garbage_collection() -> Iterator[None]:
    """Stop the garbage collection, which takes longer than the parsing of many small objects."""
    gc.disable()
    yield
    gc.enable()


def missing_words(words: set[str]) -> set[str]:
    """Return the words that are not a name of the code, of Python, of files or of settings.

    A module is parsed only if it contains one of the words outside references.
    """
    missing = words - {*keyword.kwlist, *dir(builtins), *sys.stdlib_module_names}
    files = [file for package in PACKAGES for file in sorted((TREE / package).rglob("*"))]
    for file in files:
        missing.difference_update(file.relative_to(TREE).with_suffix("").parts)
    texts = [(file.suffix, read(file)) for file in files if file.suffix in _SUFFIXES_OF_CODE]
    for _, text in texts:  # most words are defined, and found fast
        missing.difference_update(*_DEFINED.findall(text))
    for suffix, text in texts:
        found = missing.intersection(_WORD.findall(_REFERENCE.sub("", text)))
        if found:
            missing -= names_of_code(text) if suffix == ".py" else found
    return missing


def unknown_references(text: str, missing: set[str]) -> list[tuple[int, str]]:
    """Return the references of a module of which any part is missing."""
    if missing.isdisjoint(referenced_words(text)):
        return []
    return [
        (line, name)
        for line, name in references(text)
        if not missing.isdisjoint(parts := name.split(".")) and parts[-1] not in _FILE_SUFFIXES
    ]


@pytest.mark.usefixtures("no_garbage_collection")
def test_names_in_docstrings_and_comments_exist() -> None:
    files = [file for package in DOCUMENTED for file in sorted((TREE / package).rglob("*.py"))]
    missing = missing_words({word for file in files for word in referenced_words(read(file))})
    problems = [
        f"{file.relative_to(TREE)}:{line}: `{name}` does not exist"
        for file in files
        for line, name in unknown_references(read(file), missing)
    ]
    assert not problems, "\n".join(problems)


def unknown_arguments(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line of each function or class, and each name below Args of its docstring that it does not take."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        described = _ARGUMENTS.search(ast.get_docstring(node) or "")
        makers = [node] if not isinstance(node, ast.ClassDef) else node.body
        taken = {
            each.arg
            for made in makers
            if isinstance(made, (ast.FunctionDef, ast.AsyncFunctionDef))
            if made is node or made.name in {"__init__", "__new__"}
            for each in ast.walk(made.args)
            if isinstance(each, ast.arg)
        }
        if described is None or not taken:  # fields of a data class are arguments
            continue
        for name in _ARGUMENT.findall(described[1]):
            if name not in taken:
                yield node.lineno, name


@pytest.mark.usefixtures("no_garbage_collection")
def test_described_arguments_exist() -> None:
    problems = [
        f"{file.relative_to(TREE)}:{line}: it does not take {name!r}"
        for package in DOCUMENTED
        for file in sorted((TREE / package).rglob("*.py"))
        if "Args:" in read(file)
        for line, name in unknown_arguments(read(file))
    ]
    assert not problems, "\n".join(problems)


def test_described_argument_that_is_not_taken_is_reported() -> None:
    text = '''
class Table:
    """A table.

    Args:
        rows: all of them.
        gone: was renamed.

    Raises:
        x: y.
    """
    def __init__(self, rows, *more): ...
def read(path):
    """Read.

    Args:
        file: the path.
    """
'''
    assert [*unknown_arguments(text)] == [(2, "gone"), (13, "file")]


def test_reference_to_a_missing_name_is_reported() -> None:
    text = '''
def read_rows(path):
    """Read rows; see `write_rows`, `Table.gone`, `a-b`, ``literal`` and `read_rows()`.

    The table: `Missing`.
    """
    return path  # as `absent` does
'''
    missing = referenced_words(text) - {"read_rows", "Table", "path"}
    assert unknown_references(text, missing) == [
        (3, "write_rows"),
        (3, "Table.gone"),
        (5, "Missing"),
        (7, "absent"),
    ]


def test_names_of_code_include_definitions_arguments_and_strings() -> None:
    text = 'import a.b as c\n"""Module `d`."""\ndef f(x, *, y=1):\n    """See `g`."""\n    return x.z(key="word two")\n'
    assert names_of_code(text) >= {"a", "b", "f", "x", "y", "z", "key", "word", "two"}
    assert not names_of_code(text) & {"g"}
