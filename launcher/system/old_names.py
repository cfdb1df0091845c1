"""Names of definitions before they were renamed, so that no finished job runs again because of a rename.

A package can have a module `old_names` that contains one table:

    OLD_NAMES = {"train_detector": "fit", "TrainOptions": "Options"}

Its keys are identifiers of the package's code today, its values are the identifiers before. The digest of a job's code
is computed from the code of the package as if nothing had been renamed. Two conditions make this exact:

- A key was not an identifier of the package before the rename. So each use of it means the renamed definition.
- A key has one old name. Several keys may have the same one.
"""

import ast
import re
from collections.abc import Mapping
from pathlib import Path

from launcher.errors import UsageError

MODULE = "old_names"  # in a package
TABLE = "OLD_NAMES"  # in this module
_WORD = re.compile(r"[^\W\d]\w*")


def read_old_names(text: bytes, file: Path) -> Mapping[str, str]:
    """Return the table of a module, new names → old names; the module is not executed.

    Raises:
        UsageError: the module has no table of texts.
    """
    try:
        for statement in ast.parse(text).body:
            match statement:
                case (
                    ast.Assign(targets=[ast.Name(id=name)], value=value)
                    | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
                ) if name == TABLE:
                    table = ast.literal_eval(value)
                    if all(isinstance(word, str) for pair in table.items() for word in pair):
                        return dict(table)
    except (SyntaxError, ValueError, AttributeError):
        pass
    raise UsageError(
        f'{file} has no table of old names. Write {TABLE} = {{"new_name": "old_name"}}.'
    )


def restore_old_names(tree: ast.Module, old_names: Mapping[str, str]) -> None:
    """Replace all renamed identifiers of a module by their old names, in place.

    A text is replaced if it is a renamed identifier, or ends with one, such as `package.module:function`.
    """
    for node in ast.walk(tree):
        match node:
            case ast.Name():
                node.id = old_names.get(node.id, node.id)
            case ast.Attribute():
                node.attr = old_names.get(node.attr, node.attr)
            case ast.ClassDef():
                node.name = old_names.get(node.name, node.name)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                node.name = old_names.get(node.name, node.name)
                _restore_in_annotation(node.returns, old_names)
            case ast.arg():
                node.arg = old_names.get(node.arg, node.arg)
                _restore_in_annotation(node.annotation, old_names)
            case ast.AnnAssign():
                _restore_in_annotation(node.annotation, old_names)
            case ast.keyword(arg=str() as name):
                node.arg = old_names.get(name, name)
            case ast.ImportFrom():
                for alias in node.names:
                    alias.name = old_names.get(alias.name, alias.name)
                    alias.asname = old_names.get(alias.asname or "", alias.asname)
            case ast.Global() | ast.Nonlocal():
                node.names = [old_names.get(name, name) for name in node.names]
            case ast.ExceptHandler(name=str() as name) | ast.MatchStar(name=str() as name):
                node.name = old_names.get(name, name)
            case ast.MatchAs(name=str() as name):
                node.name = old_names.get(name, name)
            case ast.MatchMapping(rest=str() as name):
                node.rest = old_names.get(name, name)
            case ast.MatchClass():
                node.kwd_attrs = [old_names.get(name, name) for name in node.kwd_attrs]
            case ast.Constant(value=str() as text):
                node.value = _old_text(text, old_names)


def _restore_in_annotation(annotation: ast.expr | None, old_names: Mapping[str, str]) -> None:
    """Replace names in quoted annotations, such as `"Table | None"`."""
    for node in ast.walk(annotation) if annotation is not None else ():
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = _WORD.sub(lambda word: old_names.get(word[0], word[0]), node.value)


def _old_text(text: str, old_names: Mapping[str, str]) -> str:
    if text in old_names:
        return old_names[text]
    for separator in (":", "."):
        before, found, name = text.rpartition(separator)
        if found and name in old_names and before.replace(".", "").replace(":", "").isidentifier():
            return f"{before}{separator}{old_names[name]}"
    return text
