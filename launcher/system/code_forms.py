"""The syntax trees of definitions and statements, in a form that no place enters.

A form is a tree without docstrings in which a hole stands for each name from outside of it, and beside it
what these names are bound to, as far as their own text tells. Such a target is one of:

    a.b.c       imported; with leading dots from the package of the text
    :name       of the text itself
    *name       nowhere in the text, and it imports with a star
    !a.b.c      what an import statement names that cannot be left out of the form
    =a.b:c      a string that may name a module, or what is in one
"""

import ast
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

IMPORTED, TEXT, OWN, STAR = "!", "=", ":", "*"
ITERATES = frozenset({"iter_modules", "walk_packages"})  # they go through the modules of a package

_HOLE = "\0"
_SKIPPED = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
# what is evaluated first binds nothing yet: `a = a` in a class reads the name of the module
_ORDER: dict[type[ast.AST], tuple[str, ...]] = {
    ast.Assign: ("value", "targets"),
    ast.AnnAssign: ("annotation", "value", "target", "simple"),
    ast.For: ("iter", "target", "body", "orelse"),
    ast.AsyncFor: ("iter", "target", "body", "orelse"),
}
_FIELDS: dict[type[ast.AST], tuple[str, ...]] = {}
_WORD = re.compile(r"[^\W\d]\w*")
_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)+(?::[^\W\d]\w*)?")
_STARTED = re.compile(r"(?:^|\s)-m\s+([\w.]+)")  # of a command line in one string
_OWN_NAMESPACE = frozenset({"globals", "eval", "exec", "f_globals", "__globals__"})
_NAMESPACE_WITHOUT_ARGUMENT = frozenset({"vars", "locals", "dir"})
_SELF = frozenset({"__name__", "__file__", "__path__", "__package__", "__spec__"})

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Form:
    """The form of an element while it is made: a list of tokens, some of them holes."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.targets: dict[int, str] = {}  # slot → what its hole is bound to
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

    def digest(self) -> str:
        """Return a digest of the tokens."""
        text = "\n".join(filter(None, self.tokens))
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]


# a name whose binding is looked for, from its own scope outwards: with its form, its slot there, and the
# attributes that follow it: ".a.b"
Use = tuple[Form, int, str, str]


class _Import:
    """What an import statement below the top of a module binds."""

    def __init__(self, form: Form, target: str, full: str, *, droppable: bool) -> None:
        self.form, self.slot, self.target, self.full = form, form.slot(), target, full
        self.droppable = droppable

    def keep(self, name: str) -> None:
        """Leave the statement in the form: it does more than the uses of its name say."""
        self.form.fill(self.slot, f"{IMPORTED}{self.full}", f"import {name} ")


class Scope:
    """The names of a function, class, comprehension or module while its body is read."""

    def __init__(self, above: "Scope | None", *, is_class: bool = False) -> None:
        self.above, self.is_class = above, is_class
        self.is_comprehension = False
        self.bound: dict[str, int] = {}  # name → how often
        self.imports: dict[str, _Import] = {}
        self.declared: dict[str, bool] = {}  # name → whether it is global; else nonlocal
        self.uses: list[Use] = []

        # where names are looked for that are not bound here
        self.enclosing: Scope = self
        if above is not None:
            self.enclosing = above.enclosing if above.is_class else above

    def bind(self, name: str) -> None:
        """Note that a name is bound here."""
        self.bound[name] = self.bound.get(name, 0) + 1


class TreeReader:
    """Reads the statements of one text in one pass; a name is settled when the scope that binds it ends.

    What the module itself may bind is left in `uses`, until all of its statements were read.
    """

    def __init__(self) -> None:
        self.named: dict[str, None] = {}  # modules that imports and strings name
        self.stars: dict[str, None] = {}  # modules imported with a star
        self.words: set[str] = set()  # that stand in the text and are no holes
        self.names_itself: set[str] = set()  # such as `__name__`
        self.is_whole = False  # the text may look up any of its names
        self.is_typing = False  # what is read is for type checkers alone
        self._module = self._scope = Scope(None)
        self._form = Form()
        self._in_try = self._in_body = self._in_decorators = False
        self._special: dict[type[ast.AST], Callable[[Any], None]] = {
            ast.AsyncFunctionDef: self._function,
            ast.Attribute: self._attribute,
            ast.Call: self._call,
            ast.ClassDef: self._class,
            ast.Constant: self._constant,
            ast.DictComp: self._comprehension,
            ast.ExceptHandler: self._except,
            ast.Expr: self._expression,
            ast.FunctionDef: self._function,
            ast.GeneratorExp: self._comprehension,
            ast.Global: self._declare,
            ast.If: self._if,
            ast.Import: self._import,
            ast.ImportFrom: self._import,
            ast.JoinedStr: self._joined,
            ast.Lambda: self._lambda,
            ast.ListComp: self._comprehension,
            ast.MatchAs: self._capture,
            ast.MatchMapping: self._capture,
            ast.MatchStar: self._capture,
            ast.Name: self._name,
            ast.NamedExpr: self._walrus,
            ast.Nonlocal: self._declare,
            ast.Pass: self._pass,
            ast.SetComp: self._comprehension,
            ast.Try: self._try,
            ast.TryStar: self._try,
        }

    def form(self, statement: ast.stmt) -> Form:
        """Return the form of a statement at the top of the text."""
        form = self._form = Form()
        self._visit(statement)
        return form

    @property
    def uses(self) -> list[Use]:
        """The names that no function binds."""
        return self._module.uses

    def note_import(self, full: str, name: str) -> None:
        """Note which modules an import may need; `full` may be a name in one."""
        self.words.update({full.rpartition(".")[2]} & ITERATES)
        if not self.is_typing:
            base = full.rpartition(".")[0]
            if base.strip("."):
                self.named[base] = None
            if name != "*":
                self.named[full] = None

    def keep(self, form: Form, slot: int, name: str, attributes: str) -> None:
        """Leave a name in the form: it is bound beside its use, or by Python itself."""
        form.tokens[slot] = f"name {name}{attributes}"
        self.words.add(name)
        self.words.update(attributes.split(".")[1:])

    def _visit(self, node: ast.AST) -> None:
        kind = node.__class__
        if (special := self._special.get(kind)) is not None:
            special(node)
            return
        tokens = self._form.tokens
        names = _FIELDS.get(kind)
        if names is None:
            names = _fields_of(kind)
        tokens.append(f"({kind.__name__}")
        for name in names:
            value = getattr(node, name, None)
            if value is None or value == []:
                continue
            tokens.append(name)
            if isinstance(value, ast.AST):
                self._visit(value)
            elif isinstance(value, list):
                for each in value:
                    self._visit_value(each)
                tokens.append("]")
            else:
                self._visit_value(value)
        tokens.append(")")

    def _visit_value(self, value: object) -> None:
        if isinstance(value, ast.AST):
            self._visit(value)
            return
        if isinstance(value, str):  # a name that is an argument, a keyword, a capture …
            self.words.add(value)
        self._form.tokens.append(repr(value))

    def _visit_all(self, nodes: Sequence[ast.AST], token: str) -> None:
        self._form.tokens.append(token)
        for node in nodes:
            self._visit(node)

    def _bind(self, name: str) -> None:
        scope = self._scope
        if scope is self._module:
            self._form.names[name] = None
        elif scope.declared.get(name) is None:
            scope.bind(name)

    def _use(self, name: str, attributes: str = "") -> None:
        form, scope = self._form, self._scope
        use = form, form.slot(), name, attributes
        if name in _OWN_NAMESPACE:
            self.is_whole = True
        elif name in _SELF:
            self.names_itself.add(name)
        if not scope.is_class:
            scope.uses.append(use)
        elif name in scope.bound:  # a class runs once, from its first line to the last
            self.keep(*use)
        else:
            scope.enclosing.uses.append(use)

    def _pass(self, _: ast.Pass) -> None:
        """Say nothing: a body that is only a docstring has none either."""

    def _expression(self, node: ast.Expr) -> None:
        if not is_constant(node):
            self._form.tokens.append("(Expr")
            self._visit(node.value)
            self._form.tokens.append(")")

    def _name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._bind(node.id)
        self._use(node.id)

    def _attribute(self, node: ast.Attribute) -> None:
        names: list[str] = []
        base: ast.expr = node
        while isinstance(base, ast.Attribute):
            names.append(base.attr)
            base = base.value
        self.is_whole = self.is_whole or not _OWN_NAMESPACE.isdisjoint(names)
        if isinstance(base, ast.Name):
            self._use(base.id, "".join(f".{name}" for name in reversed(names)))
        else:
            self._visit(base)
            self._form.tokens += [f".{name}" for name in reversed(names)]
            self.words.update(names)

    def _call(self, node: ast.Call) -> None:
        function = node.func
        name = function.id if isinstance(function, ast.Name) else ""
        if name in _NAMESPACE_WITHOUT_ARGUMENT and not node.args and not node.keywords:
            self.is_whole = True
        self._act()
        self._form.tokens.append("(Call")
        self._visit(function)
        for argument in node.args:
            self._visit(argument)
        for keyword in node.keywords:
            self._form.tokens.append(f"{keyword.arg}=")
            if keyword.arg is not None:
                self.words.add(keyword.arg)
            self._visit(keyword.value)
        self._form.tokens.append(")")

    def _act(self) -> None:
        """Note that something is called, and not only by who uses the definition."""
        if not self._in_body and not self._in_decorators:
            self._form.acts = True

    def _constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, str):
            for started in _STARTED.findall(value):
                self.named[started] = None
            if _DOTTED.fullmatch(value):
                self.named[value.partition(":")[0]] = None
                self._form.fill(self._form.slot(), f"{TEXT}{value}")
                return
        self._literal(value)

    def _literal(self, value: object) -> None:
        self._form.tokens.append(repr(value))
        if isinstance(value, str):
            self.words.update(_WORD.findall(value))
        elif isinstance(value, bytes):
            self.words.update(_WORD.findall(value.decode("latin-1")))

    def _joined(self, node: ast.JoinedStr) -> None:
        self._form.tokens.append("(JoinedStr")
        for part in node.values:
            if isinstance(part, ast.Constant):
                self._literal(part.value)
            else:
                self._visit(part)
        self._form.tokens.append(")")

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        """Read an import below the top: what it binds is said where it is used."""
        for name, target, full in aliases(node):
            self.note_import(full, name)
            if name == "*":
                self.stars[target] = None
            scope, statement = (
                self._scope,
                _Import(self._form, target, full, droppable=not self._in_try),
            )
            before = scope.imports.get(name)
            if before is None or before.target != target:
                self._bind(name)
            if before is not None or scope.is_class or scope is self._module:
                statement.keep(name)
            else:
                scope.imports[name] = statement

    def _if(self, node: ast.If) -> None:
        tokens = self._form.tokens
        is_typing, checked = self.is_typing, is_type_checking(node.test)
        tokens.append("(If")
        self._visit(node.test)
        self.is_typing = is_typing or checked
        self._visit_all(node.body, "body")
        self.is_typing = is_typing
        self._visit_all(node.orelse, "orelse")
        tokens.append(")")

    def _try(self, node: ast.Try) -> None:
        in_try, self._in_try = self._in_try, True
        self._form.tokens.append(f"({node.__class__.__name__}")
        self._visit_all(node.body, "body")
        self._in_try = in_try
        self._visit_all(node.handlers, "handlers")
        self._visit_all(node.orelse, "orelse")
        self._visit_all(node.finalbody, "finalbody")
        self._form.tokens.append(")")

    def _except(self, node: ast.ExceptHandler) -> None:
        self._form.tokens.append(f"(except {node.name}")
        if node.type is not None:
            self._visit(node.type)
        if node.name is not None:
            self._bind(node.name)
        self._visit_all(node.body, "body")
        self._form.tokens.append(")")

    def _capture(self, node: ast.MatchAs | ast.MatchStar | ast.MatchMapping) -> None:
        name = node.rest if isinstance(node, ast.MatchMapping) else node.name
        if name is not None:
            self._bind(name)
        tokens = self._form.tokens
        tokens.append(f"({node.__class__.__name__} {name}")
        if isinstance(node, ast.MatchMapping):
            self._visit_all(node.keys, "keys")
            self._visit_all(node.patterns, "patterns")
        elif isinstance(node, ast.MatchAs) and node.pattern is not None:
            self._visit(node.pattern)
        tokens.append(")")

    def _declare(self, node: ast.Global | ast.Nonlocal) -> None:
        is_global = isinstance(node, ast.Global)
        self._form.tokens.append(f"({node.__class__.__name__} {' '.join(node.names)})")
        self.words.update(node.names)
        if self._scope is not self._module:
            self._scope.declared |= dict.fromkeys(node.names, is_global)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        tokens = self._form.tokens
        tokens.append(f"({node.__class__.__name__} {node.name}")
        self._decorators(node)
        self._visit_all(getattr(node, "type_params", []), "type_params")
        self._visit(node.args)
        if node.returns is not None:
            self._visit_all([node.returns], "returns")
        self._bind(node.name)
        self._inside(node.args, node.body)
        tokens.append(")")

    def _decorators(self, node: Definition) -> None:
        was, self._in_decorators = self._in_decorators, True
        self._visit_all(node.decorator_list, "decorators")
        self._in_decorators = was

    def _lambda(self, node: ast.Lambda) -> None:
        self._form.tokens.append("(Lambda")
        self._visit(node.args)
        self._inside(node.args, [node.body])
        self._form.tokens.append(")")

    def _inside(self, arguments: ast.arguments, body: Sequence[ast.AST]) -> None:
        """Read the body of a function in a scope of its own."""
        scope = self._scope = Scope(self._scope)
        was = self._in_try, self._in_body
        self._in_try, self._in_body = False, True
        for argument in _arguments(arguments):
            scope.bind(argument.arg)
        self._visit_all(body, "body")
        self._in_try, self._in_body = was
        self._leave()

    def _class(self, node: ast.ClassDef) -> None:
        self._form.tokens.append(f"(ClassDef {node.name}")
        self._decorators(node)
        self._visit_all(getattr(node, "type_params", []), "type_params")
        self._visit_all(node.bases, "bases")
        self._visit_all(node.keywords, "keywords")
        self._bind(node.name)
        self._scope = Scope(self._scope, is_class=True)
        self._visit_all(node.body, "body")
        self._leave()
        self._form.tokens.append(")")

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp
    ) -> None:
        """Read a comprehension; only its first iterable is outside of its scope."""
        self._form.tokens.append(f"({node.__class__.__name__}")
        first = node.generators[0]
        self._visit(first.iter)
        self._scope = Scope(self._scope)
        self._scope.is_comprehension = True
        for generator in node.generators:
            self._form.tokens.append(f"for {generator.is_async}")
            if generator is not first:
                self._visit(generator.iter)
            self._visit(generator.target)
            self._visit_all(generator.ifs, "ifs")
        values = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        self._visit_all(values, "values")
        self._leave()
        self._form.tokens.append(")")

    def _walrus(self, node: ast.NamedExpr) -> None:
        self._act()
        self._form.tokens.append("(NamedExpr")
        self._visit(node.value)
        scope = self._scope
        while self._scope.is_comprehension and self._scope.above is not None:
            self._scope = self._scope.above
        self._bind(node.target.id)
        self._use(node.target.id)
        self._scope = scope
        self._form.tokens.append(")")

    def _leave(self) -> None:
        """End a scope: settle the names that it binds, and hand on the others."""
        scope = self._scope
        self._scope = scope.above or self._module
        used: set[tuple[str, str]] = set()
        outside, bound, imports, declared = (
            scope.enclosing,
            scope.bound,
            scope.imports,
            scope.declared,
        )
        for use in scope.uses:
            form, slot, name, attributes = use
            if name in declared:
                (self._module if declared[name] else outside).uses.append(use)
            elif name not in bound:
                outside.uses.append(use)
            elif name in imports and bound[name] == 1:
                target = f"{imports[name].target}{attributes}"
                used.update((name, prefix) for prefix in prefixes(target))
                form.fill(slot, target)
            else:
                self.keep(form, slot, name, attributes)
        for name, statement in scope.imports.items():
            if not (statement.droppable and (name, statement.full) in used):
                statement.keep(name)


def _fields_of(kind: type[ast.AST]) -> tuple[str, ...]:
    order = _ORDER.get(kind, kind._fields)
    _FIELDS[kind] = tuple(name for name in order if name not in _SKIPPED)
    return _FIELDS[kind]


def aliases(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str, str]]:
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
    """Yield a dotted name, and what is left of it without its last words."""
    while target:
        yield target
        target = target.rpartition(".")[0]


def _arguments(arguments: ast.arguments) -> Iterator[ast.arg]:
    yield from (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    yield from (each for each in (arguments.vararg, arguments.kwarg) if each is not None)


def is_constant(statement: ast.stmt) -> bool:
    """Tell whether a statement does nothing, as a docstring does."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def is_type_checking(test: ast.expr) -> bool:
    """Tell whether a condition holds for type checkers alone."""
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return bool(name == "TYPE_CHECKING")
