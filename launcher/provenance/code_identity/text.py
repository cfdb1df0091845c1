"""The content of one module's text: its top-level statements in their order, each as a digest of its syntax tree.

The trees have no layout and no comments, and names in imports are absolute. Each statement has a second digest that
covers its docstrings, for code that reads them. Sentences for people are left out: texts with a space in `raise`
statements, and in the descriptions of settings and of arguments of click and argparse.
"""

import ast
import builtins
import hashlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

LAUNCHER = "launcher"
BELOW = ".*"  # ends an import that stands for all modules below a package

_DOCUMENTATION = "\0"  # begins the token of a docstring
_SKIPPED = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
_WORD = re.compile(r"[^\W\d]\w*")
_MODULE = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_NAMED_MODULE = re.compile(
    r"(\.+[^\W\d]\w*|[^\W\d]\w*\.[^\W\d]\w*)(?:\.[^\W\d]\w*)*(?::[^\W\d]\w*)?"
)
_DUNDER = re.compile(r"__\w+__")
_STARTED_MODULE = re.compile(r"(?:^|\s)-m\s+([\w.]+)")  # module of a command line in one string
_FORMAT = re.compile(r"[%{]")  # begins a placeholder in a format
_FOR_PEOPLE = frozenset({"description", "help", "summary"})  # arguments that hold sentences
# functions with such arguments, and methods if the text imports argparse
_DESCRIBED = re.compile(r"(?:click|argparse)\..*|pydantic\.Field|launcher\.(?:.*\.)?setting")
_OF_ARGPARSE = re.compile(r"(?:.*\.)?add_(?:argument(?:_group)?|parser|subparsers)")
# functions and attributes that give any name of a module
_LOOKUPS = frozenset({"globals", "eval", "exec", "f_globals", "__globals__", "getmodule"})
_LOOKUPS_WITHOUT_ARGUMENT = frozenset({"vars", "locals", "dir"})
_SELF = frozenset({"__name__", "__file__", "__path__", "__package__", "__spec__"})
# functions that find a module by a name or path that may be in no text
_IMPORTERS = frozenset(
    {
        *("import_module", "__import__", "iter_modules", "walk_packages"),
        *("resolve_name", "run_module", "run_path", "spec_from_file_location"),
    }
)
_BUILTINS = frozenset(dir(builtins))
_OF_PYTHON = sys.stdlib_module_names | _BUILTINS  # no decorator of these modules registers anything
# decorators under which a definition does nothing before it is used
_HARMLESS = frozenset(
    {"dataclasses.dataclass", "property", "functools.cache", "contextlib.contextmanager"}
)
_HARMLESS_ON_METHODS = _HARMLESS | {"staticmethod", "classmethod", "abc.abstractmethod"}

_Import = ast.Import | ast.ImportFrom
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Definition = _Function | ast.ClassDef


class Element(NamedTuple):
    """A statement at the top of a module, or one name that an import there binds."""

    names: tuple[str, ...]  # names that the statement binds
    digest: str  # digest of the statement's tree without docstrings
    documented: str  # digest of the statement's tree with docstrings
    optional: bool = False  # the statement does nothing unless one of its names is used


class ModuleText(NamedTuple):
    """The content of a module's text; the names of modules in it are absolute."""

    imports: tuple[str, ...]  # modules that it may need; some may be names in a module
    elements: tuple[Element, ...]
    bindings: tuple[tuple[str, str], ...] = ()  # name that an import binds, and what to
    typed: tuple[tuple[str, str], ...] = ()  # those of imports for type checkers alone
    stars: tuple[str, ...] = ()  # modules imported with a star
    values: tuple[str, ...] = ()  # imported names, with the attributes that the text reads
    words: str = ""  # names, attributes, keywords and words in strings
    is_whole: bool = False  # the module may look up any of its names
    registers: bool = False  # a decorator makes a definition of the module known elsewhere
    is_read: bool = True  # False: the module is known by its bytes alone


def read_text(text: bytes, package: str = "") -> ModuleText:
    """Return the content of a module's text; if it is not Python, a digest of its bytes.

    Args:
        text: text of the module.
        package: package to which its relative imports refer.
    """
    try:
        return _TextReader(package).read(ast.parse(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return opaque_text(text)


def opaque_text(content: bytes) -> ModuleText:
    """Return the content of a module of which only the bytes are known."""
    digest = hashlib.sha256(content).hexdigest()[:32]
    return ModuleText((), (Element((), digest, digest),), is_whole=True, is_read=False)


def digest_of(*parts: str) -> str:
    """Return a digest of some texts."""
    text = "\n".join(parts).encode(errors="surrogatepass")
    return hashlib.sha256(text).hexdigest()[:32]


class _TextReader(ast.NodeVisitor):
    """Reads a text in one pass."""

    def __init__(self, package: str) -> None:
        self._special: dict[type[ast.AST], Callable[[Any], None]] = {
            getattr(ast, name.removeprefix("visit_")): getattr(self, name) for name in _SPECIAL
        }
        self._package = package
        self._elements: list[tuple[Element, ast.stmt | None]] = []
        self._imports: dict[str, None] = {}
        self._named: dict[str, None] = {}  # modules that strings name
        self._below: dict[str, None] = {}  # packages of which any module may be imported
        self._bindings: dict[str, dict[str, None]] = {}  # name that an import binds → what to
        self._typed: dict[str, dict[str, None]] = {}  # the same of imports for type checkers alone
        self._stars: dict[str, None] = {}
        self._chains: dict[str, None] = {}  # names with their attributes
        self._words: set[str] = set()
        self._itself: set[str] = set()  # such as `__name__`
        self._is_whole = False  # the text may look up any name of the module
        self._is_typing = False  # the current node is only for type checkers
        self._is_sentence = False  # the current node is a message or a description
        self._is_inner = False  # the current node binds no name of the module
        self._is_late = False  # the current node is executed only when a function is called
        self._tokens: list[str] = []  # tokens of the current element
        self._names: dict[str, None] = {}  # names that the module binds
        self._acts = False  # executing the module calls something

    def read(self, module: ast.Module) -> ModuleText:
        """Return the content of a tree."""
        self._read_top(module.body)
        values = {value: None for chain in self._chains for value in self._meanings(chain)}
        self._note_computed_imports(values)
        by_words = (_LOOKUPS - _BUILTINS) & self._words or _LOOKUPS & self._chains.keys()
        if by_words or any(value.startswith("sys.modules") for value in values):
            self._is_whole = True
            values |= self._imports  # code may look up a module that the text imports
        bound = self._typed | self._bindings
        meanings = {name: " ".join(targets) for name, targets in bound.items()}
        own = {name for element, node in self._elements if node for name in element.names}
        meanings |= {name: f":{name}" for name in own}
        return ModuleText(
            imports=(*(self._imports | self._named), *(f"{name}{BELOW}" for name in self._below)),
            elements=tuple(
                element._replace(optional=element.optional and _is_harmless(node, meanings))
                for element, node in self._elements
            ),
            bindings=_pairs(self._bindings),
            typed=_pairs(self._typed),
            stars=tuple(self._stars),
            values=tuple(values | self._named),
            words=" ".join(sorted(self._words)),
            is_whole=self._is_whole,
            registers=any(_registers(node, meanings) for _, node in self._elements),
        )

    def _read_top(self, statements: Sequence[ast.stmt]) -> None:
        for statement in statements:
            if isinstance(statement, _Import):
                for name, target in self._aliases(statement):
                    self._names[name] = None
                    self._tokens.append(f"import {target} {name}")
                    self._end_element(None, optional=self._is_typing)
            elif isinstance(statement, ast.If) and _is_type_checking(statement.test):
                self._is_typing = True
                self._read_top(statement.body)
                self._is_typing = False
                self._read_top(statement.orelse)
            elif _single_bound_name(statement) != "__version__":
                self.visit(statement)
                self._end_element(statement, optional=isinstance(statement, _Definition))

    def _end_element(self, node: ast.stmt | None, *, optional: bool) -> None:
        if self._tokens:
            plain = [token for token in self._tokens if token[0] != _DOCUMENTATION]
            self._elements.append(
                (
                    Element(
                        tuple(self._names),
                        digest_of(*plain) if plain else "",
                        digest_of(*self._tokens),
                        optional=optional and not self._acts,
                    ),
                    node,
                )
            )
        self._tokens, self._names, self._acts = [], {}, False

    def _meanings(self, chain: str) -> Iterator[str]:
        """Yield what a name with its attributes may be, if an import may bind it."""
        name, dot, attributes = chain.partition(".")
        bound = self._bindings.get(name, {})
        if not bound and name not in _BUILTINS:
            bound = {f"{star}.{name}": None for star in self._stars}
        for target in bound:
            yield f"{target}{dot}{attributes}"

    def _note_computed_imports(self, values: dict[str, None]) -> None:
        """Note the packages of which any module may be imported."""
        of_modules = [value.partition(".__") for value in values if ".__" in value]
        packages = [name for name, _, attribute in of_modules if attribute.startswith("path__")]
        itself = "__path__" in self._itself
        if not _IMPORTERS.isdisjoint(self._words):
            packages += [*self._named, *(name for name, _, _ in of_modules)]
            itself = itself or bool(self._itself)
            self._is_whole = self._is_whole or itself
        self._below |= dict.fromkeys([*packages, *([self._package] if itself else [])])
        self._below.pop("", None)

    # --- the tokens of nodes

    def _add_tokens(self, *parts: str | ast.AST | Sequence[ast.AST] | None) -> None:
        """Add tokens, and those of nodes."""
        for part in parts:
            if isinstance(part, str):
                self._tokens.append(part)
            elif isinstance(part, ast.AST):
                self.visit(part)
            else:
                for node in part or ():
                    self.visit(node)

    def visit(self, node: ast.AST) -> None:
        """Read a node by the method for its kind, or field by field."""
        special = self._special.get(node.__class__)
        if special is None:
            self._read_fields(node)
        else:
            special(node)

    def _read_fields(self, node: ast.AST) -> None:
        """Read a node field by field; empty fields differ between versions of Python."""
        tokens = self._tokens
        tokens.append(f"({node.__class__.__name__}")
        for name in node._fields:
            value = getattr(node, name, None)
            if value is None or value == [] or name in _SKIPPED:
                continue
            tokens.append(name)
            for each in value if isinstance(value, list) else (value,):
                if isinstance(each, ast.AST):
                    self.visit(each)
                    continue
                if isinstance(each, str):  # a name that is an argument, a capture …
                    self._words.add(each)
                tokens.append(repr(each))
            tokens.append("]")
        tokens.append(")")

    def _bind(self, name: str | None) -> None:
        if name is not None and not self._is_inner:
            self._names[name] = None

    def visit_Pass(self, _: ast.Pass) -> None:
        """Emit nothing: a body that is only a docstring has no statement either."""

    def visit_Expr(self, node: ast.Expr) -> None:
        if not _is_constant(node):
            self._read_fields(node)
        elif isinstance(node.value.value, str):  # type: ignore[attr-defined]  # a constant
            self._add_tokens(f"{_DOCUMENTATION}{node.value.value!r}")  # type: ignore[attr-defined]

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._bind(node.id)
        self._note_chain(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        base, attributes = _attribute_chain(node)
        names = attributes.split(".")[1:]
        self._is_whole = self._is_whole or not _LOOKUPS.isdisjoint(names)
        self._words.update(names)
        if isinstance(base, ast.Name):
            self._note_chain(f"{base.id}{attributes}")
        else:
            self._add_tokens(base, attributes)

    def _note_chain(self, chain: str) -> None:
        name = chain.partition(".")[0]
        self._add_tokens(f"name {chain}")
        self._chains[chain] = None
        self._words.add(name)
        self._itself |= {name} & _SELF

    def visit_Call(self, node: ast.Call) -> None:
        base, attributes = _attribute_chain(node.func)
        name = f"{getattr(base, 'id', '')}{attributes}"
        if name in _LOOKUPS_WITHOUT_ARGUMENT and not node.args and not node.keywords:
            self._is_whole = True
        self._acts = self._acts or not self._is_late
        itself = set(self._itself)
        self._add_tokens("(Call", node.func)
        if attributes == ".format":
            self._note_beginning(base)
        self._add_tokens(node.args)
        if attributes.endswith("getLogger"):
            self._itself = itself
        for keyword in node.keywords:
            self._add_tokens(f"{keyword.arg}=")
            self._words.update(filter(None, [keyword.arg]))
            is_sentence = keyword.arg in _FOR_PEOPLE and self._is_described(name)
            self._read_sentence(keyword.value, is_sentence=is_sentence)
        self._add_tokens(")")

    def _is_described(self, function: str) -> bool:
        """Return whether texts in the arguments of a function are sentences for people."""
        if _OF_ARGPARSE.fullmatch(function):
            return any(name.partition(".")[0] == "argparse" for name in self._imports)
        meanings = [*self._meanings(function)]
        return bool(meanings) and all(map(_DESCRIBED.fullmatch, meanings))

    def visit_Compare(self, node: ast.Compare) -> None:
        itself = set(self._itself)  # `__name__ == "__main__"` finds no module
        self._read_fields(node)
        self._itself = itself

    def visit_Raise(self, node: ast.Raise) -> None:
        self._add_tokens("(Raise")
        self._read_sentence(node.exc, is_sentence=True)
        self._add_tokens(node.cause, ")")

    def _read_sentence(self, node: ast.AST | None, *, is_sentence: bool) -> None:
        """Read a node; if it is a message or a description, its texts are left out."""
        was, self._is_sentence = self._is_sentence, self._is_sentence or is_sentence
        self._add_tokens(node)
        self._is_sentence = was

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if self._is_sentence and isinstance(value, str) and " " in value:
            self._add_tokens("(sentence)")
            return
        self._add_tokens(f"constant {value!r}")
        if isinstance(value, str):
            self._note_module(value)
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        if isinstance(text, str):
            self._words.update(_WORD.findall(text))

    def _note_module(self, text: str) -> None:
        """Note the modules that a string names."""
        names = _STARTED_MODULE.findall(text)
        if _NAMED_MODULE.fullmatch(text) or text == self._package.partition(".")[0]:
            names.append(text.partition(":")[0])
        for name in names:
            rest = name.lstrip(".")
            self._named[self._absolute(len(name) - len(rest), rest)] = None

    def _note_beginning(self, node: ast.AST) -> None:
        """Note the package with which a computed text may begin, as in `"lab.methods." + name`."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not self._is_sentence:
            package, dot, _ = _FORMAT.split(node.value)[0].rpartition(".")
            if _MODULE.fullmatch(package):
                self._below[package] = None
            elif dot and not package.strip("."):
                self._itself.add("__package__")

    def visit_BinOp(self, node: ast.BinOp) -> None:
        self._note_beginning(node.left)
        self._read_fields(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        self._add_tokens("(JoinedStr")
        if node.values:
            self._note_beginning(node.values[0])
        for part in node.values:
            if not isinstance(part, ast.Constant):
                self.visit(part)
            # Python 3.12.1 adds an empty text after `{width}` in `{value:{width}}`
            elif part.value and not self._is_sentence:
                self._add_tokens(f"constant {part.value!r}")
                self._words.update(_WORD.findall(str(part.value)))
        self._add_tokens(")")

    # --- imports and their absolute names

    def visit_Import(self, node: _Import) -> None:
        for name, target in self._aliases(node):
            self._bind(name)
            self._add_tokens(f"import {target} {name}")

    visit_ImportFrom = visit_Import  # noqa: N815  # as `NodeVisitor` asks for it

    def _aliases(self, node: _Import) -> Iterator[tuple[str, str]]:
        """Yield each name that an import binds and the name that it loads; note both."""
        base = ""
        if isinstance(node, ast.ImportFrom):
            base = self._absolute(node.level, node.module or "")
        for alias in node.names:
            full = f"{base}.{alias.name}" if base else alias.name
            self._words.add(full.rpartition(".")[2])
            if not self._is_typing:
                self._imports |= dict.fromkeys(filter(None, [base, full.removesuffix(BELOW)]))
            if alias.name == "*":
                self._stars[base] = None
            # modules of the launcher may move
            target = f"{LAUNCHER}.{alias.name}" if _is_of_launcher(base) else full
            bound = full if base or alias.asname else full.partition(".")[0]
            name = alias.asname or (alias.name if base else bound)
            known = self._typed if self._is_typing else self._bindings
            known.setdefault(name, {})[target if base else bound] = None
            yield name, target

    def _absolute(self, level: int, name: str) -> str:
        if not level:
            return name
        above = self._package.split(".")
        above = above[: len(above) - level + 1]
        return ".".join((*above, name) if name else above)

    # --- scopes

    def visit_If(self, node: ast.If) -> None:
        was = self._is_typing
        self._add_tokens("(If", node.test)
        self._is_typing = was or _is_type_checking(node.test)
        self._add_tokens("body", node.body)
        self._is_typing = was
        self._add_tokens("orelse", node.orelse, ")")

    def visit_FunctionDef(self, node: _Definition | ast.Lambda) -> None:
        """Read a definition: its header is executed now, the body of a function when it is called."""
        acts, is_inner, is_late = self._acts, self._is_inner, self._is_late
        self._add_tokens(f"({node.__class__.__name__}")
        if isinstance(node, _Definition):
            self._bind(node.name)
            self._add_tokens(node.name, "decorators", node.decorator_list)
            self._acts = acts  # see `_is_harmless`
            self._add_tokens("type_params", getattr(node, "type_params", []))
        if isinstance(node, ast.ClassDef):
            self._add_tokens("bases", node.bases, "keywords", node.keywords)
        else:
            self._add_tokens(node.args, "returns", getattr(node, "returns", None))
            self._is_late = True
        self._is_inner = True
        self._add_tokens("body", node.body, ")")
        self._is_inner, self._is_late = is_inner, is_late

    visit_AsyncFunctionDef = visit_ClassDef = visit_Lambda = visit_FunctionDef  # noqa: N815  # as `NodeVisitor` asks for it

    def visit_ListComp(self, node: ast.expr) -> None:
        was, self._is_inner = self._is_inner, True
        self._read_fields(node)
        self._is_inner = was

    visit_SetComp = visit_GeneratorExp = visit_DictComp = visit_ListComp  # noqa: N815  # as `NodeVisitor` asks for it

    def visit_ExceptHandler(self, node: ast.ExceptHandler | ast.MatchAs | ast.MatchStar) -> None:
        self._bind(node.name)
        self._read_fields(node)

    visit_MatchAs = visit_MatchStar = visit_ExceptHandler  # noqa: N815  # as `NodeVisitor` asks for it


_SPECIAL = tuple(name for name in vars(_TextReader) if name.startswith("visit_"))


def _pairs(bindings: Mapping[str, Mapping[str, None]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, target) for name, targets in bindings.items() for target in targets)


def _is_of_launcher(module: str) -> bool:
    return module.partition(".")[0] == LAUNCHER


def _attribute_chain(node: ast.expr) -> tuple[ast.expr, str]:
    """Return the base of an attribute chain, and the attributes: ".a.b"."""
    attributes = ""
    while isinstance(node, ast.Attribute):
        attributes = f".{node.attr}{attributes}"
        node = node.value
    return node, attributes


def _is_constant(statement: ast.stmt) -> bool:
    """Return whether a statement does nothing, as a docstring does."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _is_type_checking(test: ast.expr) -> bool:
    """Return whether a condition holds only for type checkers."""
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return bool(name == "TYPE_CHECKING")


def _single_bound_name(statement: ast.stmt) -> str:
    """Return the one name that an assignment binds; empty for other statements."""
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name
    return ""


# --- definitions that do nothing before they are used; `meanings` has what names are bound to


def _is_harmless(node: ast.stmt | None, meanings: Mapping[str, str]) -> bool:
    """Return whether a definition has no effect when it is executed, apart from calls in it."""
    if not isinstance(node, _Definition):
        return node is None
    if _DUNDER.fullmatch(node.name) or not _has_only(_HARMLESS, node, meanings):
        return False
    if not isinstance(node, ast.ClassDef):
        return True
    if node.bases or node.keywords:  # the effect of bases and keywords on a subclass is unknown
        return False
    return all(
        _has_only(_HARMLESS_ON_METHODS, statement, meanings)
        if isinstance(statement, _Function)
        else isinstance(statement, ast.Assign | ast.AnnAssign | ast.Pass) or _is_constant(statement)
        for statement in node.body
    )


def _registers(node: ast.stmt | None, meanings: Mapping[str, str]) -> bool:
    """Return whether a decorator of a definition may make it known elsewhere."""
    decorators = node.decorator_list if isinstance(node, _Definition) else []
    return any(
        _decorator_name(each, meanings).partition(".")[0] not in _OF_PYTHON for each in decorators
    )


def _has_only(harmless: frozenset[str], node: _Definition, meanings: Mapping[str, str]) -> bool:
    """Return whether a definition has only these decorators, with constants as arguments."""
    for decorator in node.decorator_list:
        if _decorator_name(decorator, meanings) not in harmless:
            return False
        if isinstance(decorator, ast.Call):
            arguments = [*decorator.args, *(keyword.value for keyword in decorator.keywords)]
            if not all(isinstance(argument, ast.Constant) for argument in arguments):
                return False
    return True


def _decorator_name(node: ast.expr, meanings: Mapping[str, str]) -> str:
    """Return the full name of a decorator, or of the function that returns it; empty if it has none."""
    base, attributes = _attribute_chain(node.func if isinstance(node, ast.Call) else node)
    return f"{meanings.get(base.id, base.id)}{attributes}" if isinstance(base, ast.Name) else ""
