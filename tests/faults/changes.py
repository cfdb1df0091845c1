"""The faults that can be planted into a module. Each replaces one expression in a function by another one.

A comparison is turned, a number is one higher, a constant is flipped, or `and` becomes `or`. A condition is negated, an
operator is another one, two arguments are swapped, a call is left out, or None is returned.
"""

import ast
import copy
import hashlib
import random
from collections.abc import Iterator
from typing import NamedTuple

RETURNED = "returned"  # possible nearly everywhere and found easily: drawn only if nothing else is possible
PAIRS: tuple[tuple[type[ast.cmpop], type[ast.cmpop]], ...] = (
    (ast.Lt, ast.LtE),
    (ast.Gt, ast.GtE),
    (ast.Eq, ast.NotEq),
    (ast.In, ast.NotIn),
    (ast.Is, ast.IsNot),
)
TURNED = {**dict(PAIRS), **{other: one for one, other in PAIRS}}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
}
_Function = ast.FunctionDef | ast.AsyncFunctionDef


class Change(NamedTuple):
    """A fault that can be planted."""

    function: str
    kind: str
    old: ast.expr
    new: ast.expr
    lines: range  # lines of the statement; of a compound statement, those of its head

    @property
    def position(self) -> str:
        """Line and column."""
        return f"{self.old.lineno}:{self.old.col_offset}"

    @property
    def text(self) -> str:
        """The change in words."""
        return f"{self.kind}: {ast.unparse(self.old)} -> {ast.unparse(self.new)}"


def text_digest(text: str) -> str:
    """Return a short digest of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def find_changes(text: str) -> list[list[Change]]:
    """Return the possible changes in a module, by function."""
    return [
        [
            Change(function.name, kind, old, new, _lines(statement))
            for statement in _statements(function)
            for kind, old, new in _changes(statement)
        ]
        for function in ast.walk(ast.parse(text))
        if isinstance(function, _Function)
    ]


def draw(functions: list[list[Change]], rng: random.Random) -> Iterator[Change]:
    """Draw changes until none is left: every function is equally likely, and every kind in it.

    The second change of a function comes after the first one of each other function.
    """
    while functions := [changes for changes in functions if changes]:
        rng.shuffle(functions)
        for changes in functions:
            kinds = sorted({change.kind for change in changes})
            kind = rng.choice([kind for kind in kinds if kind != RETURNED] or kinds)
            change = rng.choice([change for change in changes if change.kind == kind])
            changes.remove(change)
            yield change


def plant(text: str, change: Change) -> str | None:
    """Return the changed text of a module, None if the place is not known exactly, as in an f-string."""
    old, lines = change.old, text.encode().splitlines(keepends=True)
    begin = sum(map(len, lines[: old.lineno - 1])) + old.col_offset
    end = sum(map(len, lines[: (old.end_lineno or 0) - 1])) + (old.end_col_offset or 0)
    whole = b"".join(lines)
    try:
        replaced = ast.parse(b"(" + whole[begin:end] + b")", mode="eval").body
        planted = whole[:begin] + f"({ast.unparse(change.new)})".encode() + whole[end:]
        ast.parse(planted)
    except (SyntaxError, ValueError):
        return None
    return planted.decode() if ast.dump(replaced) == ast.dump(old) else None


def with_harmless_changes(text: str) -> str:
    """Return a module with a `pass` in its functions, on the same lines: another code that does the same."""
    lines = text.encode().splitlines(keepends=True)
    places: list[tuple[int, int, bytes]] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, _Function):
            first = node.body[0]
            if ast.get_docstring(node) is not None:
                places.append((first.end_lineno or 0, first.end_col_offset or 0, b"; pass"))
            elif not any(map(_holds_statements, ast.iter_child_nodes(first))):
                places.append((first.lineno, first.col_offset, b"pass; "))
    for line, column, addition in sorted(places, reverse=True):
        before = lines[line - 1]
        lines[line - 1] = before[:column] + addition + before[column:]
    return b"".join(lines).decode()


def _holds_statements(node: ast.AST) -> bool:
    return isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case)


def _statements(block: ast.AST) -> Iterator[ast.stmt]:
    """Return the statements in a block, but not those of functions and classes in it."""
    for child in ast.iter_child_nodes(block):
        if _holds_statements(child) and not isinstance(child, _Function | ast.ClassDef):
            if isinstance(child, ast.stmt):
                yield child
            yield from _statements(child)


def _lines(statement: ast.stmt) -> range:
    inner = [
        node.lineno
        for child in ast.iter_child_nodes(statement)
        for node in ast.walk(child)
        if isinstance(node, ast.stmt)
    ]
    last = min(inner) - 1 if inner else statement.end_lineno or 0
    return range(statement.lineno, max(last, statement.lineno) + 1)


def _changes(statement: ast.stmt) -> Iterator[tuple[str, ast.expr, ast.expr]]:
    """Return kind, expression and new expression for the changes in one statement."""
    match statement:
        case ast.If(test=old) | ast.While(test=old):
            yield "negated", old, ast.UnaryOp(ast.Not(), old)
        case ast.Expr(value=ast.Call() as old):
            yield "left out", old, ast.Constant(None)
        case ast.Return(value=ast.expr() as old) if not isinstance(old, ast.Constant):
            yield RETURNED, old, ast.Constant(None)
    nodes = [child for child in ast.iter_child_nodes(statement) if not _holds_statements(child)]
    if isinstance(statement, ast.AnnAssign):
        nodes.remove(statement.annotation)
    for child in nodes:
        for node in ast.walk(child):
            if isinstance(node, ast.expr):
                yield from ((kind, node, new) for kind, new in _replacements(node))


def _replacements(node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    new = copy.copy(node)
    match new:
        case ast.Compare(ops=[operator, *others]) if type(operator) in TURNED:
            new.ops = [TURNED[type(operator)](), *others]
            yield "turned", new
        case ast.Constant(value=bool(value)):
            yield "flipped", ast.Constant(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield "moved", ast.Constant(value + 1)
        case ast.BoolOp():
            new.op = ast.Or() if isinstance(new.op, ast.And) else ast.And()
            yield "and-or", new
        case ast.IfExp():
            new.test = ast.UnaryOp(ast.Not(), new.test)
            yield "negated", new
        case ast.BinOp() if type(new.op) in OPERATORS and not isinstance(new.left, ast.Constant):
            new.op = OPERATORS[type(new.op)]()
            yield "sum", new
        case ast.Call(args=[first, second, *others]) if ast.dump(first) != ast.dump(second):
            if not isinstance(first, ast.Starred) and not isinstance(second, ast.Starred):
                new.args = [second, first, *others]
                yield "swapped", new
