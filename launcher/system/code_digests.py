"""The code that decides a kind's results: which modules its work imports, and a digest of each.

What a module imports is read from its text; nothing is imported. The digest is of the code alone:
comments, docstrings, blank lines and `__version__` do not count. Texts that were read before are
known by their SHA-256, so that a plan parses only what was changed since the one before it.
"""

import ast
import contextlib
import hashlib
import importlib.util
import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from launcher.system.files import write_atomic

ABSENT = "absent"  # the digest of a module without source text
LAUNCHER = "launcher"
DOOR = "launcher.api"
# of the launcher's own modules those that decide results: which images and models an ID names
DECIDING = frozenset({"launcher.ids"})
SCHEMA = 1  # of the cache
MOST_KNOWN = 4000  # texts in the cache: those of about ten versions of two laboratories

_COMMENT = re.compile(rb"#[^\n]*")
_BLANK = re.compile(rb"[ \t\f\r]*\n(?:[ \t\f\r]*\n)*")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleCode:
    """What the text of one module says."""

    digest: str  # of its code
    imports: tuple[str, ...]  # dotted; some may be names in a module, leading dots are relative


def read_code(text: bytes) -> ModuleCode:
    """Return the digest of a module's code, and what it imports.

    Imports count wherever they stand, in functions too, but for those under `if TYPE_CHECKING`.
    A text that is no Python is digested as it is.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return ModuleCode(digest=_digest(text), imports=())
    imports = dict.fromkeys(name for node in _executed(tree) for name in _imported(node))
    return ModuleCode(digest=_digest(_code_of(text, tree)), imports=tuple(imports))


class CodeIndex:
    """The modules that can be imported, and their code, each as it is when it is first asked for.

    Args:
        cache: a file that keeps what texts say from one process to the next; None: nothing is kept.
    """

    def __init__(self, cache: Path | None = None) -> None:
        self._cache = cache
        self._known: dict[str, ModuleCode] = {} if cache is None else _read_cache(cache)
        self._saved = set(self._known)
        self._packages: dict[str, tuple[Path, ...]] = {}  # top-level package → its folders
        self._files: dict[str, Path | None] = {}
        self._codes: dict[Path, ModuleCode] = {}

    def closure(self, roots: Sequence[str]) -> tuple[str, ...]:
        """Return `roots` and all that they import, directly or not, in the roots' own packages.

        A root that is a package stands for all modules below it. Of the launcher only what decides
        results is counted, see `DECIDING`.

        Args:
            roots: dotted names of modules.
        """
        own = {_top(root) for root in roots} - {LAUNCHER}
        seen = dict.fromkeys(module for root in roots for module in (root, *self._below(root)))
        waiting = list(seen)
        while waiting:
            for module in self._imports(waiting.pop(), own):
                if module not in seen:
                    seen[module] = None
                    waiting.append(module)
        return tuple(sorted(seen))

    def digest(self, module: str) -> str:
        """Return a digest of a module's code; `ABSENT` where it has no source."""
        file = self.file(module)
        return ABSENT if file is None else self._code(file).digest

    def file(self, module: str) -> Path | None:
        """Return the file of a module, of a package its `__init__.py`; None where there is none."""
        if module not in self._files:
            self._files[module] = self._searched(module)
        return self._files[module]

    def save(self) -> None:
        """Keep what was read for the next process, where it can be kept."""
        if self._cache is None or self._saved.issuperset(self._known):
            return
        newest = list(self._known.items())[-MOST_KNOWN:]
        texts = {key: [code.digest, *code.imports] for key, code in newest}
        with contextlib.suppress(OSError):  # a cache: without it the next plan takes longer
            self._cache.parent.mkdir(parents=True, exist_ok=True)
            content = json.dumps({"schema": SCHEMA, "texts": texts})
            write_atomic(self._cache, content, durable=False)
        self._saved = set(self._known)

    def _imports(self, module: str, own: Collection[str]) -> Iterator[str]:
        """Yield the modules that come with one: its packages, and what it imports."""
        file = self.file(module)
        if file is None or _top(module) == LAUNCHER:  # of the launcher only what is named counts
            return
        yield from _packages_of(module)
        package = module if file.name == "__init__.py" else module.rpartition(".")[0]
        for name in self._code(file).imports:
            absolute = _absolute(name, package)
            if _top(absolute) == LAUNCHER:
                yield from self._of_launcher(absolute)
            elif _top(absolute) in own and self.file(absolute) is not None:
                yield absolute

    def _of_launcher(self, name: str) -> Iterator[str]:
        """Yield the module of the launcher that an imported name comes from, if it decides results."""
        door, _, symbol = name.rpartition(".")
        file = self.file(DOOR) if door == DOOR else None
        behind = () if file is None else self._code(file).imports
        homes = {module.rpartition(".")[0] for module in behind if module.endswith(f".{symbol}")}
        yield from sorted(DECIDING & {name, door, *homes})

    def _below(self, module: str) -> Iterator[str]:
        """Yield all modules below a package."""
        file = self.file(module)
        if file is None or file.name != "__init__.py":
            return
        for path in sorted(file.parent.rglob("*.py")):
            parts = path.relative_to(file.parent).with_suffix("").parts
            if parts[-1] == "__init__":
                parts = parts[:-1]
            if parts:
                yield ".".join((module, *parts))

    def _searched(self, module: str) -> Path | None:
        top, *rest = module.split(".")
        if not top:
            return None
        if top not in self._packages:
            self._packages[top] = _places(top)
        for place in self._packages[top]:
            if place.suffix == ".py":  # a module without a package
                return None if rest else place
            path = place.joinpath(*rest)
            for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
                if (rest or file.name == "__init__.py") and file.is_file():
                    return file
        return None

    def _code(self, file: Path) -> ModuleCode:
        if file not in self._codes:
            text = file.read_bytes()
            key = hashlib.sha256(text).hexdigest()
            if key not in self._known:
                self._known[key] = read_code(text)
            self._codes[file] = self._known[key]
        return self._codes[file]


def user_cache() -> Path | None:
    """Return where a person's cache of read texts is kept; None for one without a home folder."""
    folder = platformdirs.user_cache_path("launcher", appauthor=False)
    return folder / "code.json" if folder.is_absolute() else None


def _read_cache(path: Path) -> dict[str, ModuleCode]:
    """Return what an earlier process read; nothing where the file is absent or not ours."""
    try:
        content = json.loads(path.read_bytes())
        texts = content["texts"] if content["schema"] == SCHEMA else {}
        return {
            str(key): ModuleCode(digest=str(digest), imports=tuple(map(str, imports)))
            for key, (digest, *imports) in texts.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _places(top: str) -> tuple[Path, ...]:
    """Return the folders of a top-level package, or the file of a module."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return ()
    if spec is None:
        return ()
    if spec.submodule_search_locations is not None:
        return tuple(map(Path, spec.submodule_search_locations))
    origin = Path(spec.origin or "")
    return (origin,) if origin.suffix == ".py" else ()


def _top(module: str) -> str:
    return module.partition(".")[0]


def _packages_of(module: str) -> Iterator[str]:
    """Yield the packages that importing a module imports first, the outermost first."""
    parts = module.split(".")
    for end in range(1, len(parts)):
        yield ".".join(parts[:end])


def _absolute(name: str, package: str) -> str:
    """Return an imported name as an absolute one."""
    rest = name.lstrip(".")
    level = len(name) - len(rest)
    if not level:
        return name
    above = package.split(".")[: len(package.split(".")) - level + 1]
    return ".".join((*above, rest) if rest else above)


def _executed(tree: ast.AST) -> Iterator[ast.stmt]:
    """Yield every statement but those that only a type checker reads."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            for statement in node.orelse:
                yield statement
                yield from _executed(statement)
        elif isinstance(node, ast.stmt):
            yield node
            yield from _executed(node)
        elif isinstance(node, ast.excepthandler | ast.match_case):
            yield from _executed(node)


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return bool(name == "TYPE_CHECKING")


def _imported(node: ast.stmt) -> Iterator[str]:
    """Yield the modules that an import may mean: those named, and names that may be modules."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = "." * node.level + (node.module or "")
        if node.module:
            yield base
        joint = "." if node.module else ""
        yield from (f"{base}{joint}{alias.name}" for alias in node.names if alias.name != "*")


def _code_of(text: bytes, tree: ast.Module) -> bytes:
    """Return a text without comments, docstrings, blank lines and `__version__`."""
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))

    def place(line: int, column: int) -> int:
        return starts[line - 1] + column

    dropped = {id(node) for node in _dropped(tree)}
    spans = sorted(
        (place(node.lineno, node.col_offset), -place(node.end_lineno, node.end_col_offset), node)
        for node in _opaque(tree, dropped)
        if node.end_lineno is not None and node.end_col_offset is not None
    )
    pieces, code, at = [], b"", 0
    for start, end, node in spans:
        if start < at:  # inside the one before it
            continue
        code += text[at:start]
        if id(node) not in dropped:
            pieces += [_bare(code), text[start:-end]]
            code = b""
        at = -end
    return b"".join([*pieces, _bare(code + text[at:])]).strip()


def _bare(code: bytes) -> bytes:
    """Return code that holds no string without comments and blank lines."""
    return _BLANK.sub(b"\n", _COMMENT.sub(b"", code))


def _opaque(tree: ast.AST, dropped: Collection[int]) -> Iterator[ast.stmt | ast.expr]:
    """Yield the strings of a tree, in which `#` begins no comment, and what is dropped."""
    for node in ast.iter_child_nodes(tree):
        text = isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
        if isinstance(node, ast.stmt | ast.expr) and (
            text or isinstance(node, ast.JoinedStr) or id(node) in dropped
        ):
            yield node  # what is inside an f-string has no place of its own before Python 3.12
        else:
            yield from _opaque(node, dropped)


def _dropped(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the docstrings of a tree, and the line that says which version it is."""
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and node.body:
            first = node.body[0]
            value = first.value if isinstance(first, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield first
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and [
            target.id for target in statement.targets if isinstance(target, ast.Name)
        ] == ["__version__"]:
            yield statement


def _digest(code: bytes) -> str:
    return hashlib.sha256(code).hexdigest()[:16]
