"""The content of one module's text: its top-level elements, each in a form that does not depend on its place.

A form is a syntax tree without docstrings. In it, a hole replaces each name that is defined outside of it. A hole has a
target: the definition to which its name is bound, as far as the text shows. Targets are written as follows:

    "a.b.c" is imported; with leading dots, from the package of the text.
    ":name" is defined in the text itself.
    "*name" is nowhere in the text, and the text imports with a star.
    "!a.b.c" is named by an import statement that cannot be left out of the form.
    "=a.b:c" is a string that may name a module, or a definition in one.

Sentences for people do not decide results and are left out, as docstrings are. They are texts with a space in `raise`
statements, and in the arguments `description`, `help` and `summary`.

Nothing here depends on another text, so results are cached by the text's SHA-256;
`links` finds the definitions to which the names of several texts are bound.
"""

import ast
import builtins
import hashlib
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

IMPORTED, TEXT, OWN, STAR = "!", "=", ":", "*"
BELOW = ".*"  # ends an import that stands for all modules below a package

_HOLE = "\0"
_SKIPPED = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
# parts evaluated first bind nothing yet: `a = a` in a class reads the name of the module
_ORDER: dict[type[ast.AST], tuple[str, ...]] = {
    ast.Assign: ("value", "targets"),
    ast.AnnAssign: ("annotation", "value", "target", "simple"),
    ast.For: ("iter", "target", "body", "orelse"),
    ast.AsyncFor: ("iter", "target", "body", "orelse"),
}
_WORD = re.compile(r"[^\W\d]\w*")
_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)+(?::[^\W\d]\w*)?")
_DUNDER = re.compile(r"__\w+__")
_STARTED_MODULE = re.compile(r"(?:^|\s)-m\s+([\w.]+)")  # module of a command line in one string
_FOR_PEOPLE = frozenset({"description", "help", "summary"})  # arguments that hold sentences
_OWN_NAMESPACE = frozenset({"globals", "eval", "exec", "f_globals", "__globals__"})
_NAMESPACE_WITHOUT_ARGUMENT = frozenset({"vars", "locals", "dir"})
_SELF = frozenset({"__name__", "__file__", "__path__", "__package__", "__spec__"})
_ITERATES = frozenset({"iter_modules", "walk_packages"})  # they go through the modules of a package
_IMPORTS_BY_NAME = frozenset({"import_module", "__import__"})
_BUILTINS = frozenset(dir(builtins))
_OF_PYTHON = sys.stdlib_module_names | _BUILTINS  # no decorator of these registers anything
# decorators under which a definition does nothing before it is used
_HARMLESS = frozenset(
    {"dataclasses.dataclass", "property", "functools.cache", "contextlib.contextmanager"}
)
_HARMLESS_ON_METHODS = _HARMLESS | {"staticmethod", "classmethod", "abc.abstractmethod"}

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Definition = _Function | ast.ClassDef


class Element(NamedTuple):
    """A definition or statement at the top of a module."""

    names: tuple[str, ...]  # names that it binds
    form: str  # digest of its tree with holes
    holes: tuple[int, ...]  # for each hole its target, as an index into the text's
    optional: bool = False  # it does nothing unless one of its names is used


class ModuleText(NamedTuple):
    """The content of a module's text, independent of its location."""

    imports: tuple[str, ...]  # modules that it may need; some may be names in a module
    elements: tuple[Element, ...]
    targets: tuple[str, ...] = ()
    bindings: Mapping[str, str] = MappingProxyType({})  # names that imports bind → targets
    stars: tuple[str, ...] = ()  # modules imported with a star
    effects: tuple[str, ...] = ()  # imports of which nothing is used
    words: str = ""  # names, attributes, keywords and words in strings, except those of targets
    is_whole: bool = False  # it may look up any of its names
    registers: bool = False  # a decorator makes one of its definitions known elsewhere
    is_read: bool = True  # False: it is known by its bytes alone


def read_text(text: bytes) -> ModuleText:
    """Return the content of a module's text; if it is not Python, a digest of its bytes."""
    try:
        return _TextReader().read(ast.parse(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return opaque_text(text)


def opaque_text(content: bytes) -> ModuleText:
    """Return the content of a module of which only the bytes are known."""
    form = hashlib.sha256(content).hexdigest()[:32]
    return ModuleText((), (Element((), form, ()),), is_whole=True, is_read=False)


class _ElementForm:
    """The form of an element while it is made: a list of tokens, some of them holes."""

    def __init__(self, node: ast.stmt | None = None) -> None:
        self.node = node
        self.tokens: list[str] = []
        self.targets: dict[int, str] = {}  # slot → target of its hole
        self.names: dict[str, None] = {}
        self.acts = False  # something is called when it is made
        self.optional = False

    def slot(self) -> int:
        """Return the place of a token that is known later."""
        self.tokens.append("")
        return len(self.tokens) - 1

    def fill(self, slot: int, target: str, before: str = "") -> None:
        """Make a hole of a slot."""
        self.tokens[slot] = f"{before}{_HOLE}"
        self.targets[slot] = target

    def element(self, numbers: dict[str, int]) -> Element:
        """Return the finished element; `numbers` are those of the targets of the text."""
        text = "\n".join(filter(None, self.tokens)).encode(errors="surrogatepass")
        holes = (numbers.setdefault(each, len(numbers)) for _, each in sorted(self.targets.items()))
        form = hashlib.sha256(text).hexdigest()[:32]
        return Element(tuple(self.names), form, tuple(holes), optional=self.optional)


class _NameUse(NamedTuple):
    """A name whose binding is searched, from its own scope outwards."""

    form: _ElementForm
    slot: int
    name: str
    attributes: str  # attributes that follow the name: ".a.b"


class _NestedImport(NamedTuple):
    """The binding that an import statement below the top of a module makes."""

    form: _ElementForm
    slot: int
    target: str
    loaded_name: str  # the module or name that it loads
    droppable: bool

    def keep_in_form(self, name: str) -> None:
        """Leave the statement in the form: it does more than the uses of its name say."""
        self.form.fill(self.slot, f"{IMPORTED}{self.loaded_name}", f"import {name} ")


class _Scope:
    """The names of a function, class, comprehension or module while its body is read."""

    def __init__(
        self, above: "_Scope | None", *, is_class: bool = False, is_comprehension: bool = False
    ) -> None:
        self.above, self.is_class, self.is_comprehension = above, is_class, is_comprehension
        self.bound = Counter[str]()  # name → how often
        self.imports: dict[str, _NestedImport] = {}
        self.declared: dict[str, bool] = {}  # name → whether it is global; else nonlocal
        self.uses: list[_NameUse] = []
        # scope in which names that are not bound here are searched
        self.enclosing: _Scope = above or self
        if above is not None and above.is_class:
            self.enclosing = above.enclosing


class _TextReader(ast.NodeVisitor):
    """Reads a text in one pass; a name is settled when the scope that binds it ends.

    What the module itself may bind is left in its scope's uses until all of its statements were read.
    """

    def __init__(self) -> None:
        self._special: dict[type[ast.AST], Callable[[Any], None]] = {
            getattr(ast, name.removeprefix("visit_")): getattr(self, name) for name in _SPECIAL
        }
        self._forms: list[_ElementForm] = []
        self._top_imports: dict[str, dict[str, None]] = {}  # name → targets of imports at the top
        self._typing_imports: dict[str, str] = {}  # the same of imports that only type checkers use
        self._loaded_names: dict[str, None] = {}  # full names in imports at the top
        self._named_modules: dict[str, None] = {}  # modules that imports and strings name
        self._stars: dict[str, None] = {}  # modules imported with a star
        self._words: set[str] = set()  # words in the text that are not holes
        self._names_itself: set[str] = set()  # such as `__name__`
        self._is_whole = False  # the text may look up any of its names
        self._is_typing = False  # the current node is only for type checkers
        self._in_try = self._in_body = self._in_decorators = False
        self._in_sentence = False  # the current node is a message or a description
        self._module = self._scope = _Scope(None)
        self._form = _ElementForm()

    def read(self, module: ast.Module) -> ModuleText:
        """Return the content of a tree."""
        self._read_top(module.body)
        bindings = self._bindings()
        own = {name for form in self._forms for name in form.names}
        self._fill_free_names(bindings, own)
        registers = self._mark_optional({**{name: f"{OWN}{name}" for name in own}, **bindings})
        numbers: dict[str, int] = {}
        elements = tuple(form.element(numbers) for form in self._forms)
        targets = tuple(numbers)
        used = {prefix for target in targets for prefix in prefixes(target)}
        return ModuleText(
            imports=(
                *self._named_modules,
                *(f"{package}{BELOW}" for package in self._iterated_packages(targets)),
            ),
            elements=elements,
            targets=targets,
            bindings=bindings,
            stars=tuple(self._stars),
            # imports at the top of which nothing is used: they may do something
            effects=tuple(
                full for full in self._loaded_names if full not in used and full[0] != "."
            ),
            words=" ".join(sorted(self._words)),
            is_whole=self._is_whole or self._asks_for_modules(targets),
            registers=registers,
        )

    # --- the top of the text

    def _read_top(self, statements: Sequence[ast.stmt]) -> None:
        for statement in statements:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                self._import_at_top(statement)
            elif isinstance(statement, ast.If) and _is_type_checking(statement.test):
                self._is_typing = True
                self._read_top(statement.body)
                self._is_typing = False
                self._read_top(statement.orelse)
            elif (
                not _is_constant(statement)
                and (name := _single_bound_name(statement)) != "__version__"
            ):
                form = self._form = _ElementForm(statement)
                self.visit(statement)
                form.optional = name == "__all__"
                self._forms.append(form)

    def _import_at_top(self, statement: ast.Import | ast.ImportFrom) -> None:
        for name, target, full in _aliases(statement):
            self._note_import(name, target, full)
            if name == "*":
                continue
            if self._is_typing:
                self._typing_imports.setdefault(name, target)
            else:
                self._top_imports.setdefault(name, {})[target] = None
                self._loaded_names[full] = None

    def _note_import(self, name: str, target: str, full: str) -> None:
        """Note which modules an import may need; `full` may be a name in one."""
        base, _, last = full.rpartition(".")
        self._words.update({last} & _ITERATES)
        if name == "*":
            self._stars[target] = None
        if not self._is_typing:
            if base.strip("."):
                self._named_modules[base] = None
            if name != "*":
                self._named_modules[full] = None

    def _bindings(self) -> dict[str, str]:
        """Return the targets of the names at the top that are bound only by imports.

        An import of a name that is bound in another way, too, becomes an element.
        """
        bound = {name for form in self._forms for name in form.names}
        bindings = self._typing_imports | {
            name: next(iter(each)) for name, each in self._top_imports.items()
        }
        for name, targets in self._top_imports.items():
            if name in bound or len(targets) > 1:
                bound.add(name)
                for target in targets:
                    form = _ElementForm()
                    form.names[name] = None
                    form.fill(form.slot(), f"{IMPORTED}{target}", "import ")
                    self._forms.append(form)
        return {name: target for name, target in bindings.items() if name not in bound}

    def _fill_free_names(self, bindings: Mapping[str, str], own: set[str]) -> None:
        """Fill the holes of all names that no function binds."""
        for use in self._module.uses:
            form, slot, name, attributes = use
            if name in own:
                form.fill(slot, f"{OWN}{name}{attributes}")
            elif name in bindings:
                form.fill(slot, f"{bindings[name]}{attributes}")
            elif self._stars and name not in _BUILTINS:
                form.fill(slot, f"{STAR}{name}{attributes}")
            else:
                self._emit_name(use)

    def _iterated_packages(self, targets: tuple[str, ...]) -> list[str]:
        """Return the packages whose modules the text goes through; "" is its own."""
        packages = [target.partition(".__path__")[0] for target in targets if ".__path__" in target]
        iterates = not self._words.isdisjoint(_ITERATES) or any(
            target.rpartition(".")[2] in _ITERATES for target in targets
        )
        if "__path__" in self._names_itself or (iterates and self._names_itself):
            packages.append("")
        if iterates:
            packages += [target[1:] for target in targets if target[0] == TEXT]
        return [name for name in dict.fromkeys(packages) if name[:1] not in {OWN, STAR, IMPORTED}]

    def _asks_for_modules(self, targets: tuple[str, ...]) -> bool:
        """Return whether the text may get itself as a module."""
        if any(target.startswith("sys.modules") for target in targets):
            return True
        named = {full.rpartition(".")[2] for full in self._named_modules}
        by_name = not _IMPORTS_BY_NAME.isdisjoint(self._words | named)
        return by_name and "__name__" in self._names_itself

    def _mark_optional(self, meanings: Mapping[str, str]) -> bool:
        """Mark the definitions that do nothing by themselves; return whether one is registered."""
        registers = False
        for form in self._forms:
            node = form.node
            if not isinstance(node, _Definition):
                continue
            form.optional = (
                not form.acts
                and not _DUNDER.fullmatch(node.name)
                and _has_only(_HARMLESS, node, meanings)
                and _is_plain(node, meanings)
            )
            tops = {
                _decorator_name(each, meanings).partition(".")[0] for each in node.decorator_list
            }
            registers = registers or not tops <= _OF_PYTHON
        return registers

    # --- names

    def _bind(self, name: str) -> None:
        if self._scope is self._module:
            self._form.names[name] = None
        elif name not in self._scope.declared:
            self._scope.bound[name] += 1

    def _use(self, name: str, attributes: str = "") -> None:
        scope, use = self._scope, _NameUse(self._form, self._form.slot(), name, attributes)
        if name in _OWN_NAMESPACE:
            self._is_whole = True
        elif name in _SELF:
            self._names_itself.add(name)
        if not scope.is_class:
            scope.uses.append(use)
        elif name in scope.bound:  # a class runs once, from its first line to the last
            self._emit_name(use)
        else:
            scope.enclosing.uses.append(use)

    def _emit_name(self, use: _NameUse) -> None:
        """Leave a name in the form: it is bound beside its use, or by Python itself."""
        use.form.tokens[use.slot] = f"name {use.name}{use.attributes}"
        self._words.update((use.name, *use.attributes.split(".")[1:]))

    def _close_scope(self) -> None:
        """End a scope: settle the names that it binds, and hand on the others."""
        scope = self._scope
        self._scope = scope.above or self._module
        used: set[tuple[str, str]] = set()
        for use in scope.uses:
            form, slot, name, attributes = use
            if name in scope.declared:
                (self._module if scope.declared[name] else scope.enclosing).uses.append(use)
            elif name not in scope.bound:
                scope.enclosing.uses.append(use)
            elif name in scope.imports and scope.bound[name] == 1:
                target = f"{scope.imports[name].target}{attributes}"
                used.update((name, prefix) for prefix in prefixes(target))
                form.fill(slot, target)
            else:
                self._emit_name(use)
        for name, statement in scope.imports.items():
            if not (statement.droppable and (name, statement.loaded_name) in used):
                statement.keep_in_form(name)

    # --- the forms of nodes

    def _emit(self, *parts: str | ast.AST | Sequence[ast.AST] | None) -> None:
        """Add tokens to the form, and the forms of nodes."""
        for part in parts:
            if isinstance(part, str):
                self._form.tokens.append(part)
            elif isinstance(part, ast.AST):
                self.visit(part)
            else:
                for node in part or ():
                    self.visit(node)

    def visit(self, node: ast.AST) -> None:
        """Read a node by the method for its kind, or field by field; one method only, for speed."""
        kind = node.__class__
        if (special := self._special.get(kind)) is not None:
            special(node)
            return
        tokens = self._form.tokens
        tokens.append(f"({kind.__name__}")
        for name in _fields_of(kind):  # type: ignore[arg-type]  # a class can be hashed
            value = getattr(node, name, None)
            if value is None or value == []:
                continue
            tokens.append(name)
            for each in value if isinstance(value, list) else (value,):
                if isinstance(each, ast.AST):
                    self.visit(each)
                    continue
                if isinstance(each, str):  # a name that is an argument, a keyword, a capture …
                    self._words.add(each)
                tokens.append(repr(each))
            if isinstance(value, list):
                tokens.append("]")
        tokens.append(")")

    def visit_Pass(self, _: ast.Pass) -> None:
        """Say nothing: a body that is only a docstring has none either."""

    def visit_Expr(self, node: ast.Expr) -> None:
        if not _is_constant(node):
            self._emit("(Expr", node.value, ")")

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._bind(node.id)
        self._use(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        base, attributes = _attribute_chain(node)
        names = attributes.split(".")[1:]
        self._is_whole = self._is_whole or not _OWN_NAMESPACE.isdisjoint(names)
        if isinstance(base, ast.Name):
            self._use(base.id, attributes)
        else:
            self._emit(base, *(f".{name}" for name in names))
            self._words.update(names)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in _NAMESPACE_WITHOUT_ARGUMENT and not node.args and not node.keywords:
            self._is_whole = True
        self._note_call()
        self._emit("(Call", node.func, node.args)
        for keyword in node.keywords:
            self._emit(f"{keyword.arg}=")
            self._words.update(filter(None, [keyword.arg]))
            self._read_sentence(keyword.value, keyword.arg in _FOR_PEOPLE)
        self._emit(")")

    def visit_Raise(self, node: ast.Raise) -> None:
        self._emit("(Raise")
        self._read_sentence(node.exc, True)
        self._emit(node.cause, ")")

    def _read_sentence(self, node: ast.AST | None, is_one: bool) -> None:
        """Read a node; if it is a message or a description, its texts are left out."""
        was, self._in_sentence = self._in_sentence, self._in_sentence or is_one
        self._emit(node)
        self._in_sentence = was

    def _note_call(self) -> None:
        """Note a call that is executed with the definition, not only when the definition is used."""
        if not self._in_body and not self._in_decorators:
            self._form.acts = True

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if self._in_sentence and isinstance(value, str) and " " in value:
            self._emit("(sentence)")
            return
        if isinstance(value, str):
            self._named_modules |= dict.fromkeys(_STARTED_MODULE.findall(value))
            if _DOTTED.fullmatch(value):
                self._named_modules[value.partition(":")[0]] = None
                self._form.fill(self._form.slot(), f"{TEXT}{value}")
                return
        self._literal(value)

    def _literal(self, value: object) -> None:
        self._emit(repr(value))
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        if isinstance(text, str):
            self._words.update(_WORD.findall(text))

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        if self._in_sentence:
            self._emit(
                "(sentence)", [part for part in node.values if isinstance(part, ast.FormattedValue)]
            )
            return
        self._emit("(JoinedStr")
        for part in node.values:
            if not isinstance(part, ast.Constant):
                self.visit(part)
            elif (
                part.value
            ):  # Python 3.12.1 adds an empty text after `{width}` in `{value:{width}}`
                self._literal(part.value)
        self._emit(")")

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        """Read an import below the top; each use of a name that it binds is replaced by its target."""
        scope = self._scope
        for name, target, full in _aliases(node):
            self._note_import(name, target, full)
            statement = _NestedImport(self._form, self._form.slot(), target, full, not self._in_try)
            before = scope.imports.get(name)
            if before is None or before.target != target:
                self._bind(name)
            if before is not None or scope.is_class or scope is self._module:
                statement.keep_in_form(name)
            else:
                scope.imports[name] = statement

    visit_ImportFrom = visit_Import  # noqa: N815  # as `NodeVisitor` asks for it

    def visit_If(self, node: ast.If) -> None:
        was = self._is_typing
        self._emit("(If", node.test)
        self._is_typing = was or _is_type_checking(node.test)
        self._emit("body", node.body)
        self._is_typing = was
        self._emit("orelse", node.orelse, ")")

    def visit_Try(self, node: ast.Try | ast.TryStar) -> None:
        was, self._in_try = self._in_try, True
        self._emit(f"({node.__class__.__name__}", "body", node.body)
        self._in_try = was
        self._emit("handlers", node.handlers, "orelse", node.orelse, "finalbody", node.finalbody)
        self._emit(")")

    visit_TryStar = visit_Try  # noqa: N815  # as `NodeVisitor` asks for it

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        self._emit(f"(except {node.name}", node.type)
        if node.name is not None:
            self._bind(node.name)
        self._emit("body", node.body, ")")

    def visit_MatchAs(self, node: ast.MatchAs | ast.MatchStar | ast.MatchMapping) -> None:
        name = node.rest if isinstance(node, ast.MatchMapping) else node.name
        if name is not None:
            self._bind(name)
        self._emit(f"({node.__class__.__name__} {name}")
        if isinstance(node, ast.MatchMapping):
            self._emit("keys", node.keys, "patterns", node.patterns)
        elif isinstance(node, ast.MatchAs):
            self._emit(node.pattern)
        self._emit(")")

    visit_MatchStar = visit_MatchMapping = visit_MatchAs  # noqa: N815  # as `NodeVisitor` asks for it

    def visit_Global(self, node: ast.Global | ast.Nonlocal) -> None:
        self._emit(f"({node.__class__.__name__} {' '.join(node.names)})")
        self._words.update(node.names)
        if self._scope is not self._module:
            self._scope.declared |= dict.fromkeys(node.names, isinstance(node, ast.Global))

    visit_Nonlocal = visit_Global  # noqa: N815  # as `NodeVisitor` asks for it

    def visit_FunctionDef(self, node: _Function) -> None:
        self._emit_header(node)
        self._emit(node.args, *(("returns", node.returns) if node.returns is not None else ()))
        self._bind(node.name)
        self._read_function(node.args, node.body)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815  # as `NodeVisitor` asks for it

    def _emit_header(self, node: _Definition) -> None:
        """Emit the first tokens of a definition."""
        was, self._in_decorators = self._in_decorators, True
        self._emit(f"({node.__class__.__name__} {node.name}", "decorators", node.decorator_list)
        self._in_decorators = was
        self._emit("type_params", getattr(node, "type_params", []))

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._emit("(Lambda", node.args)
        self._read_function(node.args, [node.body])

    def _read_function(self, arguments: ast.arguments, body: Sequence[ast.AST]) -> None:
        """Read the body of a function in a scope of its own."""
        scope = self._scope = _Scope(self._scope)
        was = self._in_try, self._in_body
        self._in_try, self._in_body = False, True
        named = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
        for argument in (*named, arguments.vararg, arguments.kwarg):
            if argument is not None:
                scope.bound[argument.arg] += 1
        self._emit("body", body)
        self._in_try, self._in_body = was
        self._close_scope()
        self._emit(")")

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._emit_header(node)
        self._emit("bases", node.bases, "keywords", node.keywords)
        self._bind(node.name)
        self._scope = _Scope(self._scope, is_class=True)
        self._emit("body", node.body)
        self._close_scope()
        self._emit(")")

    def visit_ListComp(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp
    ) -> None:
        """Read a comprehension; only its first iterable is outside of its scope."""
        first = node.generators[0]
        self._emit(f"({node.__class__.__name__}", first.iter)
        self._scope = _Scope(self._scope, is_comprehension=True)
        for generator in node.generators:
            self._emit(f"for {generator.is_async}", None if generator is first else generator.iter)
            self._emit(generator.target, "ifs", generator.ifs)
        values = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        self._emit("values", values)
        self._close_scope()
        self._emit(")")

    visit_SetComp = visit_GeneratorExp = visit_DictComp = visit_ListComp  # noqa: N815  # as `NodeVisitor` asks for it

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self._note_call()
        self._emit("(NamedExpr", node.value)
        scope = self._scope
        while self._scope.is_comprehension and self._scope.above is not None:
            self._scope = self._scope.above
        self._bind(node.target.id)
        self._use(node.target.id)
        self._scope = scope
        self._emit(")")


_SPECIAL = tuple(name for name in vars(_TextReader) if name.startswith("visit_"))


@cache
def _fields_of(kind: type[ast.AST]) -> tuple[str, ...]:
    return tuple(name for name in _ORDER.get(kind, kind._fields) if name not in _SKIPPED)


def _aliases(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str, str]]:
    """Yield each name that an import binds, what to, and the module or name that it loads."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            top = alias.name.partition(".")[0]
            yield (alias.asname, alias.name, alias.name) if alias.asname else (top, top, alias.name)
        return
    base = "." * node.level + (node.module or "")
    for alias in node.names:
        full = f"{base}.{alias.name}" if node.module else f"{base}{alias.name}"
        if alias.name == "*":
            yield "*", base, f"{base}.*"
        else:
            yield alias.asname or alias.name, full, full


def prefixes(target: str) -> Iterator[str]:
    """Yield a dotted name, then the name without its last word, and so on."""
    while target:
        yield target
        target = target.rpartition(".")[0]


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


def _is_plain(node: _Definition, meanings: Mapping[str, str]) -> bool:
    """Return whether a definition has no effect when it is executed, apart from calls."""
    if not isinstance(node, ast.ClassDef):
        return True
    if node.bases or node.keywords:  # their effect on a subclass is unknown
        return False
    return all(
        _has_only(_HARMLESS_ON_METHODS, statement, meanings)
        if isinstance(statement, _Function)
        else isinstance(statement, ast.Assign | ast.AnnAssign | ast.Pass) or _is_constant(statement)
        for statement in node.body
    )
