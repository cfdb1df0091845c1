"""What the text of one module says: its top-level elements, wherever it lies.

Nothing here depends on another text, so that what was read once is known by the text's SHA-256;
`code_links` finds what the names of several texts are bound to.
"""

import ast
import builtins
import hashlib
import re
import sys
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from launcher.system.code_forms import (
    IMPORTED,
    ITERATES,
    OWN,
    STAR,
    TEXT,
    Definition,
    Form,
    TreeReader,
    aliases,
    is_constant,
    is_type_checking,
    prefixes,
)

BELOW = ".*"  # ends an import that stands for all modules below a package

_BUILTINS = frozenset(dir(builtins))
_OF_PYTHON = sys.stdlib_module_names | _BUILTINS  # no decorator of these registers anything
_DUNDER = re.compile(r"__\w+__")
# decorators under which a definition does nothing before it is used
_HARMLESS = frozenset(
    {"dataclasses.dataclass", "property", "functools.cache", "contextlib.contextmanager"}
)
_HARMLESS_ON_METHODS = _HARMLESS | {"staticmethod", "classmethod", "abc.abstractmethod"}
_IMPORTS_BY_NAME = frozenset({"import_module", "__import__"})


class Element(NamedTuple):
    """A definition or statement at the top of a module."""

    names: tuple[str, ...]  # that it binds
    form: str  # digest of its tree with holes
    holes: tuple[int, ...]  # for each hole its target, as an index into the text's
    optional: bool = False  # it does nothing unless one of its names is used


class ModuleText(NamedTuple):
    """What the text of a module says, wherever it lies."""

    imports: tuple[str, ...]  # modules that it may need; some may be names in a module
    elements: tuple[Element, ...]
    targets: tuple[str, ...] = ()
    bindings: Mapping[str, str] = MappingProxyType(
        {}
    )  # names that imports bind → targets, see `code_forms`
    stars: tuple[str, ...] = ()  # modules imported with a star
    effects: tuple[str, ...] = ()  # imports of which nothing is used
    words: str = ""  # names, attributes, keywords and words in strings, but those of targets
    is_whole: bool = False  # it may look up any of its names
    registers: bool = False  # a decorator makes one of its definitions known elsewhere
    is_read: bool = True  # False: it is known by its bytes alone


def read_text(text: bytes) -> ModuleText:
    """Return what a module's text says; of one that is no Python, a digest of its bytes."""
    try:
        tree = ast.parse(text)
        return _TextReader().read(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return opaque(text)


def opaque(content: bytes) -> ModuleText:
    """Return what stands for a module of which only the bytes are known."""
    form = hashlib.sha256(content).hexdigest()[:32]
    return ModuleText((), (Element((), form, ()),), is_whole=True, is_read=False)


class _TextReader:
    """Reads the top of a text: its elements, and what its imports bind."""

    def __init__(self) -> None:
        self._tree = TreeReader()
        self._forms: list[Form] = []
        self._definitions: list[tuple[Form, Definition]] = []
        self._at_top: dict[str, dict[str, None]] = {}  # name → targets of imports at the top
        self._typed: dict[str, str] = {}  # the same of imports for type checkers alone
        self._loaded: dict[str, None] = {}  # what imports at the top name, in full

    def read(self, module: ast.Module) -> ModuleText:
        """Return what the text of a tree says."""
        for statement in module.body:
            self._read_top(statement)
        bindings = self._bindings()
        self._settle(bindings)
        registers = self._judge(bindings)
        numbers: dict[str, int] = {}
        elements = tuple(_element(form, numbers) for form in self._forms)
        targets, tree = tuple(numbers), self._tree
        return ModuleText(
            imports=(*tree.named, *(f"{package}{BELOW}" for package in self._below(targets))),
            elements=elements,
            targets=targets,
            bindings=bindings,
            stars=tuple(tree.stars),
            effects=tuple(self._effects(targets)),
            words=" ".join(sorted(tree.words)),
            is_whole=tree.is_whole or self._asks_for_modules(targets),
            registers=registers,
        )

    def _read_top(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            self._import(statement)
        elif isinstance(statement, ast.If) and is_type_checking(statement.test):
            self._tree.is_typing = True
            for each in statement.body:
                self._read_top(each)
            self._tree.is_typing = False
            for each in statement.orelse:
                self._read_top(each)
        elif not is_constant(statement) and (name := _bound_alone(statement)) != "__version__":
            form = self._tree.form(statement)
            form.optional = name == "__all__"
            self._forms.append(form)
            if isinstance(statement, Definition):
                self._definitions.append((form, statement))

    def _import(self, statement: ast.Import | ast.ImportFrom) -> None:
        for name, target, full in aliases(statement):
            self._tree.note_import(full, name)
            if name == "*":
                self._tree.stars[target] = None
            elif self._tree.is_typing:
                self._typed.setdefault(name, target)
            else:
                self._at_top.setdefault(name, {})[target] = None
                self._loaded[full] = None

    def _bindings(self) -> dict[str, str]:
        """Return what each name at the top is bound to by an import and by nothing else.

        An import of a name that is bound in another way, too, becomes an element.
        """
        by_elements = {name for form in self._forms for name in form.names}
        for name, targets in self._at_top.items():
            if name in by_elements or len(targets) > 1:
                for target in targets:
                    form = Form()
                    form.names[name] = None
                    form.fill(form.slot(), f"{IMPORTED}{target}", "import ")
                    self._forms.append(form)
                by_elements.add(name)
        imported = {name: next(iter(targets)) for name, targets in self._at_top.items()}
        bindings = self._typed | imported
        return {name: target for name, target in bindings.items() if name not in by_elements}

    def _settle(self, bindings: Mapping[str, str]) -> None:
        """Fill the holes of all names that no function binds."""
        by_elements = {name for form in self._forms for name in form.names}
        for form, slot, name, attributes in self._tree.uses:
            if name in by_elements:
                form.fill(slot, f"{OWN}{name}{attributes}")
            elif name in bindings:
                form.fill(slot, f"{bindings[name]}{attributes}")
            elif self._tree.stars and name not in _BUILTINS:
                form.fill(slot, f"{STAR}{name}{attributes}")
            else:
                self._tree.keep(form, slot, name, attributes)

    def _effects(self, targets: tuple[str, ...]) -> Iterator[str]:
        """Yield the imports at the top of which nothing is used: they may do something."""
        used = {prefix for target in targets for prefix in prefixes(target)}
        yield from (full for full in self._loaded if full not in used and full[0] != ".")

    def _below(self, targets: tuple[str, ...]) -> list[str]:
        """Return the packages whose modules the text goes through; "" is its own."""
        packages = [target.partition(".__path__")[0] for target in targets if ".__path__" in target]
        iterates = not self._tree.words.isdisjoint(ITERATES) or any(
            target.rpartition(".")[2] in ITERATES for target in targets
        )
        itself = self._tree.names_itself
        if "__path__" in itself or (iterates and itself):
            packages.append("")
        if iterates:
            packages += [target[1:] for target in targets if target[0] == TEXT]
        return [name for name in dict.fromkeys(packages) if name[:1] not in {OWN, STAR, IMPORTED}]

    def _asks_for_modules(self, targets: tuple[str, ...]) -> bool:
        """Tell whether the text may get itself as a module."""
        if any(target.startswith("sys.modules") for target in targets):
            return True
        by_name = not self._tree.words.isdisjoint(_IMPORTS_BY_NAME) or any(
            full.rpartition(".")[2] in _IMPORTS_BY_NAME for full in self._tree.named
        )
        return by_name and "__name__" in self._tree.names_itself

    def _judge(self, bindings: Mapping[str, str]) -> bool:
        """Mark the definitions that do nothing by themselves; tell whether one is registered."""
        own = {name: f"{OWN}{name}" for form in self._forms for name in form.names}
        meanings, registers = {**own, **bindings}, False
        for form, node in self._definitions:
            form.optional = (
                not form.acts
                and not _DUNDER.fullmatch(node.name)
                and _has_only(_HARMLESS, node, meanings)
                and _is_plain(node, meanings)
            )
            tops = {_dotted(each, meanings).partition(".")[0] for each in node.decorator_list}
            registers = registers or not tops <= _OF_PYTHON
        return registers


def _element(form: Form, numbers: dict[str, int]) -> Element:
    """Return a finished form; `numbers` are those of the targets of the text."""
    holes = (numbers.setdefault(target, len(numbers)) for _, target in sorted(form.targets.items()))
    return Element(tuple(form.names), form.digest(), tuple(holes), optional=form.optional)


def _bound_alone(statement: ast.stmt) -> str:
    """Return the one name that an assignment binds; '' of all else."""
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name
    return ""


def _has_only(harmless: frozenset[str], node: Definition, meanings: Mapping[str, str]) -> bool:
    """Tell whether a definition has no decorators but those, with constants as arguments."""
    for decorator in node.decorator_list:
        if _dotted(decorator, meanings) not in harmless:
            return False
        if isinstance(decorator, ast.Call):
            arguments = [*decorator.args, *(keyword.value for keyword in decorator.keywords)]
            if not all(isinstance(argument, ast.Constant) for argument in arguments):
                return False
    return True


def _dotted(node: ast.expr, meanings: Mapping[str, str]) -> str:
    """Return the full name of a decorator, or of what is called to make it; '' of none."""
    if isinstance(node, ast.Call):
        node = node.func
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join((meanings.get(node.id, node.id), *reversed(names)))


def _is_plain(node: Definition, meanings: Mapping[str, str]) -> bool:
    """Tell whether a definition consists of what does nothing when it is made, calls aside."""
    if not isinstance(node, ast.ClassDef):
        return True
    if node.bases or node.keywords:  # what they do with a subclass is not known
        return False
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            if not _has_only(_HARMLESS_ON_METHODS, statement, meanings):
                return False
        elif not isinstance(statement, ast.Assign | ast.AnnAssign | ast.Pass) and not is_constant(
            statement
        ):
            return False
    return True
