"""Declarations of plug-ins, read from the text of their files: nothing of them is imported.

A plug-in registers itself with a decorator, `@register_method("ng", summary=..., needs=...)`, in a
file that imports torch. Plans and help texts need what the decorator says, and must not wait for
torch. So a file is parsed. Only the decorator's arguments are evaluated, with the names they use:
constants and classes of the file, and imports from an allowed module.

Plug-ins that may take a number are called by `name<number>+…`, one after another.
"""

import ast
import importlib
import importlib.util
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from trueface.runtime.errors import DeclarationError

Built = TypeVar("Built")
Plugin = TypeVar("Plugin", bound=Callable[..., object])
_AT_THE_MARGIN = re.compile(r"\n[^\s)#]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """Arguments of one decorator, and the function or class it decorates."""

    name: str  # the decorator's first argument
    arguments: Mapping[str, Any]  # its keyword arguments, evaluated
    module: str  # dotted, of the file
    attribute: str  # the decorated function or class
    path: Path
    line: int

    def pass_to(self, function: Callable[..., Built]) -> Built:
        """Call `function` with the name and the arguments.

        Raises:
            DeclarationError: the function does not take them; says file, line and reason.
        """
        try:
            return function(self.name, **self.arguments)
        except (TypeError, ValueError) as error:
            raise DeclarationError(self.path, self.line, str(error)) from error

    def load(self) -> Any:
        """Import the module and return the decorated function or class."""
        return getattr(importlib.import_module(self.module), self.attribute)


class Declared:
    """A decorator that declares facts of a function or class and returns it unchanged."""

    __slots__ = ()

    def __call__(self, plugin: Plugin) -> Plugin:
        """Return what is decorated."""
        return plugin


class Registry(Mapping[str, Built]):
    """Declarations of one decorator in the files of a package, by name in file order. No file is imported."""

    def __init__(
        self,
        package: str,
        register: Callable[..., Built],
        *,
        decorator: str = "",
        modules: Collection[str] = (),
    ) -> None:
        """Read the files; see `read_declarations`.

        Args:
            package: dotted.
            register: the decorator, which returns the facts of a name.
            decorator: its name in the files, where that is not its own.
            modules: those that a declaration may take names from.
        """
        decorator = decorator or register.__name__
        self.declared = read_declarations(package, decorator, modules=modules)
        self._built = {
            name: self.declared[name].pass_to(register) for name in sorted(self.declared)
        }

    def __getitem__(self, name: str) -> Built:
        """Return the declared facts of a name."""
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, in their order."""
        return iter(self._built)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._built)

    def load(self, name: str) -> Any:
        """Import the file of a name and return the decorated function or class."""
        return self.declared[name].load()

    def module(self, name: str) -> str:
        """Return the module of a name, dotted."""
        return self.declared[name].module

    def modules(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the modules of names, each once: they are imported by name, no import statement says so."""
        return tuple(dict.fromkeys(map(self.module, names)))


def read_declarations(
    package: str, decorator: str, *, modules: Collection[str]
) -> dict[str, Declaration]:
    """Return what `@decorator(...)` declares in the files of a package, by name, in their order.

    Args:
        package: dotted; its parents are imported, the package itself and its modules are not.
        decorator: name of the function, as in `register_method`.
        modules: dotted names of those that a declaration may take names from; they are imported.

    Raises:
        DeclarationError: a declaration cannot be read, or a name is declared twice.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"no package {package}")
    return read_folder(
        Path(spec.submodule_search_locations[0]), package, decorator, modules=modules
    )


def read_folder(
    folder: Path, package: str, decorator: str, *, modules: Collection[str]
) -> dict[str, Declaration]:
    """Return the same of a folder whose files would be imported as modules of `package`."""
    declarations: dict[str, Declaration] = {}
    for path in sorted(folder.rglob("*.py")):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise DeclarationError(path, 1, f"not in UTF-8: {error.reason}") from error
        if decorator not in text:
            continue
        parts = path.relative_to(folder).with_suffix("").parts
        module = ".".join((package, *(part for part in parts if part != "__init__")))
        for declaration in _declarations(path, text, module, decorator, modules):
            earlier = declarations.setdefault(declaration.name, declaration)
            if earlier is not declaration:
                raise DeclarationError(
                    declaration.path,
                    declaration.line,
                    f"{decorator}({declaration.name!r}) is already in {earlier.path}:{earlier.line}. Give "
                    "one of them another name.",
                )
    return declarations


def _declarations(
    path: Path, text: str, module: str, decorator: str, modules: Collection[str]
) -> Iterator[Declaration]:
    try:
        tree = _parse(text, decorator)
    except SyntaxError as error:
        raise DeclarationError(path, error.lineno or 1, f"not valid Python: {error.msg}") from error
    source = _Source(path, module, modules, _bindings(tree))
    read = set[ast.Call]()
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and _last_name(call.func) == decorator:
                read.add(call)
                name, arguments = source.arguments(call, decorator)
                yield Declaration(
                    name=name,
                    arguments=arguments,
                    module=module,
                    attribute=node.name,
                    path=path,
                    line=call.lineno,
                )
    call_or_alias = rf"(?<!def )\b{decorator}(?:\s*\(|\s+as\b)"
    bare = rf"@(?:\w+\.)*{decorator}\b(?!\s*\()"
    # some of them may be mere mentions: only the syntax tree shows that
    if len(re.findall(f"{call_or_alias}|{bare}", text)) > len(read):
        _refuse_unread(path, tree, decorator, read)


def _refuse_unread(
    path: Path, tree: ast.Module, decorator: str, read: Collection[ast.Call]
) -> None:
    """Reject a declaration that the reader does not find, and would otherwise ignore silently."""
    for node in ast.walk(tree):
        for above in getattr(node, "decorator_list", ()):
            if _last_name(above) == decorator:
                raise DeclarationError(
                    path, above.lineno, f'{decorator} takes a name: @{decorator}("…", …)'
                )
        if isinstance(node, ast.ImportFrom) and any(
            alias.name == decorator and alias.asname for alias in node.names
        ):
            raise DeclarationError(
                path,
                node.lineno,
                f"declarations are found by the name {decorator!r}. Do not rename it.",
            )
        if isinstance(node, ast.Call) and _last_name(node.func) == decorator and node not in read:
            raise DeclarationError(
                path,
                node.lineno,
                f"{decorator} is read only above a function or a class at the top level of a file",
            )


def _parse(text: str, decorator: str) -> ast.Module:
    """Parse a file down to the statement below the last mention: what follows only costs time."""
    statement = re.compile(r"\n(?:async def|def|class) ").search(text, text.rfind(decorator))
    below = _AT_THE_MARGIN.search(text, statement.end()) if statement else None
    if below:
        try:
            return ast.parse(text[: below.start()])
        except SyntaxError:  # the line was part of a string
            pass
    return ast.parse(text)


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _bindings(tree: ast.Module) -> dict[str, ast.stmt]:
    """Return the statements of the top level by the names that they bind."""
    bindings: dict[str, ast.stmt] = {}
    for node in tree.body:
        match node:
            case ast.Import() | ast.ImportFrom():
                names = [alias.asname or alias.name.partition(".")[0] for alias in node.names]
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names = [node.name]
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                names = [name]
            case _:
                names = []
        bindings.update(dict.fromkeys(names, node))
    return bindings


@dataclass(slots=True)
class _Source:
    """One file, and the values of those of its names that declarations use."""

    path: Path
    module: str
    modules: Collection[str]
    bindings: Mapping[str, ast.stmt]
    namespace: dict[str, Any] = field(default_factory=dict)
    visited: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.namespace["__name__"] = self.module  # the `__module__` of classes

    def arguments(self, call: ast.Call, decorator: str) -> tuple[str, dict[str, Any]]:
        if len(call.args) != 1 or any(keyword.arg is None for keyword in call.keywords):
            raise self._declaration_error(
                call, f"{decorator} takes the name first, and everything else by keyword"
            )
        name = self._value(call.args[0])
        if not isinstance(name, str) or not name:
            raise self._declaration_error(call, f"{decorator} takes a name first, not {name!r}")
        return name, {str(word.arg): self._value(word.value) for word in call.keywords}

    def _value(self, node: ast.expr) -> Any:
        self._bind_names_in(node)
        return self._run(node, ast.Expression(node), eval)

    def _bind_names_in(self, node: ast.AST) -> None:
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load):
                self._bind(inner)

    def _bind(self, name: ast.Name) -> None:
        """Give a name its value; one that the file does not bind is a built-in, or a local one."""
        if name.id in self.visited:
            return
        self.visited.add(name.id)
        match self.bindings.get(name.id):
            case None:
                return
            case ast.Import() | ast.ImportFrom() as node:
                self.namespace[name.id] = self._find_imported(name, node)
            case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
                self.namespace[name.id] = self._value(value)
            case ast.ClassDef() as node:
                self._bind_names_in(node)
                self._run(node, ast.Module([node], []), exec)
            case _:
                raise self._declaration_error(
                    name, f"the value of {name.id!r} is unknown without importing this file"
                )

    def _find_imported(self, name: ast.Name, node: ast.Import | ast.ImportFrom) -> Any:
        for alias in node.names:
            top = alias.name.partition(".")[0]
            if name.id != (alias.asname or top):
                continue
            if isinstance(node, ast.Import):
                if alias.name in self.modules:
                    return importlib.import_module(alias.name if alias.asname else top)
            elif node.module in self.modules:
                return getattr(importlib.import_module(str(node.module)), alias.name)
            elif f"{node.module}.{alias.name}" in self.modules:
                return importlib.import_module(f"{node.module}.{alias.name}")
        raise self._declaration_error(name, f"{name.id!r} is imported from another module")

    def _run(
        self, node: ast.stmt | ast.expr, tree: ast.Expression | ast.Module, run_node: Any
    ) -> Any:
        try:
            return run_node(compile(tree, str(self.path), run_node.__name__), self.namespace)
        except Exception as error:  # the file may be a user's plugin
            raise self._declaration_error(node, f"{type(error).__name__}: {error}") from error

    def _declaration_error(self, node: ast.stmt | ast.expr, reason: str) -> DeclarationError:
        allowed = ", ".join(sorted(self.modules))
        return DeclarationError(
            self.path,
            node.lineno,
            f"{reason}\n  a declaration may use literals, built-ins, constants and classes of its "
            f"file, and names imported from {allowed}",
        )


@dataclass(frozen=True, slots=True)
class Numbered(Declared, ABC):
    """A plug-in that may take a number within a range, without its code."""

    name: str  # lower-case letters before the number
    _: KW_ONLY
    summary: str  # a few words for lists
    low: float = 0.0  # the smallest number
    high: float = 0.0  # the largest
    whole: bool = False  # whether the number has no decimals
    draws: bool = False  # whether images of other names come out otherwise

    @property
    @abstractmethod
    def number(self) -> str:
        """Meaning and unit of the number; "" if the method takes none."""

    def refuse_range(self) -> None:
        """Refuse a range that makes no sense.

        Raises:
            ValueError: it falls, or there is no number that it could be of.
        """
        if self.low > self.high or (not self.number and (self.low, self.high) != (0.0, 0.0)):
            raise ValueError(
                f"{self.name}: {self.low:g} to {self.high:g} is not a valid range of its number"
            )

    @property
    def example(self) -> str:
        """How it is written: `jpeg<1…100>`."""
        return f"{self.name}<{self.low:g}…{self.high:g}>" if self.number else self.name

    def value(self, number: str | None, word: str) -> float | None:
        """Return the number after the name, or None if the method takes none.

        Args:
            number: as it is written; None: there is none.
            word: the complete text, for messages.

        Raises:
            ValueError: it is missing, superfluous, outside its range, or has decimals that it must not.
        """
        if not self.number:
            if number is not None:
                raise ValueError(f"{word}: {self.name} does not take a number")
            return None
        if number is None:
            raise ValueError(f"{word}: the {self.number} is missing. Write {self.example}")
        value = float(number)
        if not math.isfinite(value) or not self.low <= value <= self.high:
            raise ValueError(f"{word}: expected {self.number} from {self.low:g} to {self.high:g}")
        if self.whole and value != int(value):
            raise ValueError(f"{word}: expected a whole number for {self.number}")
        return float(f"{value:g}")  # as it will be written: six digits


def words_of(text: str, most: int, too_many: str) -> list[str]:
    """Return the words between the signs +.

    Raises:
        ValueError: more than `most`; `too_many` says so, with {count} and {most}.
    """
    words = text.split("+")
    if len(words) > most:
        raise ValueError(too_many.format(count=len(words), most=most))
    return words
