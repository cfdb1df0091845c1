"""Facts about all sources. A module is parsed if its text alone does not answer the question, and its tree is not kept."""

import ast
import functools
import gc
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("launcher", "trueface", "tests", "benchmarks")
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_IMPORTED = re.compile(r"^ *(?:from (\w+)[\w.]* import|import (.+))", re.MULTILINE)
# statements without indentation that bind names: definitions, imports, assignments
_BINDING = re.compile(
    r"^(?:(?:async def|def|class) (?P<defined>\w+)"
    r"|(?:from \S+ )?import (?:\((?P<lines>[^)]*)\)|(?P<imported>.+))"
    r"|(?P<annotated>\w+): .+"
    r"|(?P<targets>[\w(][^:=\n]*(?: = [\w(][^:=\n]*)*) = )",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One module as its text has it."""

    path: Path
    docstring: str
    imports: frozenset[
        str
    ]  # full names of the modules that it imports, in functions too; none relative to it
    names: frozenset[str]  # names that are bound at its top, under conditions too
    doubles: tuple[str, ...]  # those that are bound twice without a condition
    strings: tuple[tuple[int, str], ...]  # its constants with their lines, without docstrings
    starts: bool  # does something when it is run with `-m`


@functools.cache
def texts(package: str) -> Mapping[str, str]:
    """Return the texts of the modules of one of the packages by their dotted names."""
    paths = sorted((ROOT / package).rglob("*.py"))
    return {_dotted(path): path.read_text(encoding="utf-8") for path in paths}


@functools.cache
def module(dotted: str) -> Module:
    """Return a module or package by its dotted name."""
    path = ROOT.joinpath(*dotted.split("."))
    return read(path / "__init__.py" if path.is_dir() else path.with_suffix(".py"))


@functools.cache
def exists(dotted: str) -> bool:
    """Return whether `package.module`, `package.module.name` or `package.module:name` is there."""
    parts = dotted.replace(":", ".").split(".")
    if parts[0] not in PACKAGES:
        return False
    for cut in range(len(parts), 0, -1):
        name = ".".join(parts[:cut])
        if name in texts(parts[0]):
            return cut == len(parts) or parts[cut] in module(name).names
    return False


def imported_packages(package: str) -> frozenset[str]:
    """Return the top-level packages that the modules of a package import, in functions too."""
    found = set[str]()
    for dotted, text in texts(package).items():
        if not _names_of_imports(text) <= found:
            found.update(name.partition(".")[0] for name in module(dotted).imports)
    return frozenset(found)


def modules_with_doubles(package: str) -> Mapping[str, tuple[str, ...]]:
    """Return the names that modules of a package bind twice, by module."""
    suspects = [name for name, text in texts(package).items() if may_have_doubles(text)]
    return {name: found for name in suspects if (found := module(name).doubles)}


def _names_of_imports(text: str) -> set[str]:
    """Return the top-level packages that a text imports, in its strings too."""
    names = set[str]()
    for package, several in _IMPORTED.findall(text):
        names.update([package] if package else re.findall(r"(?:^|, )(\w+)", several))
    return names


def may_have_doubles(text: str) -> bool:
    """Return whether two lines of a text seem to bind the same name."""
    names: list[str] = []
    for match in _BINDING.finditer(text):
        one = match["defined"] or match["annotated"]
        several = match["lines"] or match["imported"] or match["targets"] or ""
        parts = [part.split() for part in re.split(",| = ", re.sub("#.*", "", several))]
        names += [one] if one else [words[-1].strip("()") for words in parts if words]
    return len(set(names)) < len(names)


def _dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read(path: Path) -> Module:
    """Parse a file."""
    was_on = gc.isenabled()
    gc.disable()  # it takes four times as long as the parsing: trees are many small objects
    try:
        return _read(path)
    finally:
        if was_on:
            gc.enable()


def _read(path: Path) -> Module:
    tree = ast.parse(path.read_bytes())
    docstrings: set[int] = set()
    imports: set[str] = set()
    constants: list[ast.Constant] = []
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str() | bytes()):
                constants.append(node)
            case ast.Expr(value=ast.Constant() as constant):
                docstrings.add(id(constant))
            case ast.Import():
                imports.update(alias.name for alias in node.names)
            case ast.ImportFrom(module=str() as module, level=0):
                imports.add(module)
    return Module(
        path=path,
        docstring=ast.get_docstring(tree) or "",
        imports=frozenset(imports),
        names=frozenset(name for node in _conditional(tree) for name in _bound(node)),
        doubles=_doubles(tree),
        strings=tuple(
            (node.lineno, node.value if isinstance(node.value, str) else repr(node.value))
            for node in constants
            if id(node) not in docstrings
        ),
        starts=any(_asks_for_main(node) for node in tree.body),
    )


def _conditional(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the statements at the top, and those below their conditions."""
    pending: list[ast.AST] = [*tree.body]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.stmt):
            yield node
        if isinstance(node, ast.If | ast.Try | ast.With | ast.For | ast.ExceptHandler):
            pending.extend(ast.iter_child_nodes(node))


def _bound(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
        case ast.Import():
            yield from (alias.asname or alias.name for alias in node.names)
        case ast.ImportFrom():
            yield from (alias.asname or alias.name for alias in node.names)
        case ast.Assign():
            yield from (name for target in node.targets for name in _targets(target))
        case ast.AnnAssign() if node.value is not None:
            yield from _targets(node.target)


def _targets(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Name():
            yield node.id
        case ast.Tuple() | ast.List():
            for element in node.elts:
                yield from _targets(element)


def _doubles(tree: ast.Module) -> tuple[str, ...]:
    """Return the names that the module binds twice; alternatives under conditions and overloads are none."""
    statements = [node for node in tree.body if not _is_overload(node)]
    counts = Counter(name for node in statements for name in _bound(node) if name != "_")
    return tuple(name for name, count in counts.items() if count > 1)


def _is_overload(node: ast.stmt) -> bool:
    decorators = node.decorator_list if isinstance(node, Definition) else []
    return any(ast.unparse(one).rpartition(".")[2] == "overload" for one in decorators)


def _asks_for_main(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
