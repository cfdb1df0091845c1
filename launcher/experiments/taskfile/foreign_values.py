"""Ranges and lists as other programs write them, such as `loguniform(1e-5, 1e-1)`, and how they are written here.

Known are the calls and mappings of W&B, Optuna, Ray Tune, Hydra, hyperopt, scikit-optimize, KerasTuner, NNI, Ax and
NumPy, and ranges such as `1e-5:1e-1`.
"""

import ast
import contextlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from launcher.system.lazy_regex import compile_lazily

LOG = ":log"
LEAST_RATIO = 1000  # two bounds without a scale and with this ratio mean a logarithmic range
LARGEST_EXPONENT = 100.0  # a larger bound is not the exponent of e
DIGITS = 4  # significant digits of a computed bound

_NUMBER = r"[-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{1,3})?"
_BETWEEN = compile_lazily(
    rf"(?P<before>log[:=(]\s*)?(?P<low>{_NUMBER})"
    rf"(?P<dots>\.\.(?!\.))?(?(dots)|(?:\s*(?::|\.\.=|\.\.\.|->|→|~|–|—|-)\s*|\s+to\s+))(?P<high>{_NUMBER})"
    rf"(?(dots)|(?:\s*:\s*(?P<step>{_NUMBER}))?)(?P<after>[:,;\s]\s*log)?\)?",
    re.ASCII,
)
_WORDS = compile_lazily(r"choice\(\s*([\w.+-]+(?:\s*,\s*[\w.+-]+)*)\s*\)", re.ASCII)
_CALLED = compile_lazily(r"[A-Za-z_][\w.]*\s*\(|[\[({<]|[A-Za-z_]+\s*=")
_WHOLE = compile_lazily(r"[-+]?\d+", re.ASCII)
_COMMA_RANGE = compile_lazily(r"-?\d+,\d+\.\.-?\d+,\d+(?:\.\.\d+,\d+)?(?::log)?", re.ASCII)

_LISTS = frozenset(
    [
        "choice",
        "choices",
        "categorical",
        "categoricaldistribution",
        "suggestcategorical",
        "gridsearch",
        "orderedchoice",
        "values",
        "oneof",
        "sampledfrom",
    ]
)
_AROUND = frozenset(
    ["tag", "int", "float", "sort", "shuffle", "gridsearch", "log", "sweep"]
)  # calls around another call
_INTEGERS = frozenset(
    [
        "randint",
        "qrandint",
        "lograndint",
        "qlograndint",
        "int",
        "integer",
        "suggestint",
        "intdistribution",
        "intuniform",
        "qintuniform",
        "uniformint",
        "uniforminteger",
        "uniformintdistribution",
        "intloguniformdistribution",
        "loguniformint",
        "range",
    ]
)
# the modules whose functions differ from others of their names, and those that leave out HIGH
_MODULES = frozenset({"tune", "np", "numpy", "hp"})
_WITHOUT_END = frozenset({"tune.randint", "tune.lograndint", "np.randint", "numpy.randint", "hp.randint"})  # fmt: skip
# calls of hyperopt, whose bounds are those of log(x)
_EXPONENTS = frozenset({"hp.loguniform", "hp.qloguniform"})
_SHUFFLED = frozenset({"sort", "shuffle"})
_LOW = ("low", "min", "lower", "start", "minvalue", "from", "a")
_HIGH = ("high", "max", "upper", "stop", "end", "maxvalue", "to", "b")
_STEP = ("step", "q")
_SCALES = ("log", "logscale", "prior", "sampling", "scale", "sampler")
_UNKNOWN = frozenset(
    [
        "normal",
        "lognormal",
        "randn",
        "qrandn",
        "qnormal",
        "qlognormal",
        "lognormalvalues",
        "qlognormalvalues",
        "truncnorm",
        "gauss",
        "beta",
        "samplefrom",
    ]
)  # distributions that no range has


class OwnSpelling(NamedTuple):
    """Values as they are written here."""

    text: str  # 1e-5..1e-1:log, or relu,gelu; '' if there is no such range
    other: str = ""  # the same values as a list, if both may be meant
    is_list: bool = False

    def advice(self, name: str, equals: str = "=") -> str:
        """Return what to write for the values of a name.

        Args:
            name: Name of the values.
            equals: What is between a name and its values. If it is a colon, a list has brackets, as YAML has it.
        """
        named = f"{name}{equals}"

        def spell_list(text: str) -> str:
            return text if equals == "=" else f"[{text.replace(',', ', ')}]"

        if not self.text:
            ranges = f"Write {named}LOW..HIGH, {named}LOW..HIGH:log"
            return f"{ranges} or {named}{spell_list('VALUE,VALUE')}"
        if self.other:
            values = f"{named}{spell_list(self.other)}"
            return f"Write {named}{self.text} for a range, or {values} for these values"
        return f"Write {named}{spell_list(self.text) if self.is_list else self.text}"


def own_spelling(text: str) -> OwnSpelling | None:
    """Return how values are written here that a text has in the spelling of another program; None for other texts."""
    text = text.strip()
    if match := _BETWEEN.fullmatch(text):
        return _parse_between(match)
    # also words that Python does not read, such as 007 and 3d
    if (match := _WORDS.fullmatch(text)) and ".." not in text:
        return OwnSpelling(",".join(match[1].replace(",", " ").split()), is_list=True)
    if not _CALLED.match(text):
        return None
    for code in (text, f"dict({text})"):
        if (node := _parse_expression(code)) is not None:
            with contextlib.suppress(ArithmeticError, ValueError):  # numbers of hundreds of digits
                return _spelling(_Source(code), node)
    return None


def with_decimal_points(text: str) -> str:
    """Return a range such as `0,1..0,2` with points; '' for other texts."""
    return text.replace(",", ".") if _COMMA_RANGE.fullmatch(text) else ""


def repr_of(values: object) -> str:
    """Return an object of another program, such as a distribution, as the call that makes it."""
    low, high, names = (getattr(values, name, None) for name in ("lower", "upper", "categories"))
    if isinstance(names, Sequence):
        return f"choice({[*names]!r})"
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return repr(values)
    kind = "randint" if isinstance(low, int) and isinstance(high, int) else "uniform"
    is_log = "log" in type(getattr(values, "sampler", None)).__name__.lower()
    return f"tune.{'log' if is_log else ''}{kind}({low!r}, {high!r})"


def _parse_between(match: re.Match[str]) -> OwnSpelling | None:
    low, high, step = match["low"], match["high"], match["step"]
    is_log = bool(match["before"] or match["after"])
    if match["dots"] and (not is_log or match[0] == f"{low}..{high}{LOG}"):
        return None  # the value is valid as it is written
    if Decimal(low) >= Decimal(high):
        return None
    if step:
        return OwnSpelling(f"{low}..{high}..{step}")
    return OwnSpelling(f"{low}..{high}{LOG if is_log or _is_wide(low, high) else ''}")


def _is_wide(low: str, high: str) -> bool:
    return 0 < Decimal(low) * LEAST_RATIO <= Decimal(high)


class _Source(NamedTuple):
    """Reads the parts of a text."""

    text: str

    def word(self, node: ast.expr) -> str:
        """Return a number or a word as it is typed."""
        match node:
            case ast.Constant(value=str(value)):
                return value
            case ast.Constant(value=value):
                is_number = isinstance(value, int | float) and not isinstance(value, bool)
                return self._read_typed_text(node) if is_number else str(value).lower()
            case ast.Name(id=name):
                return name
            case ast.Attribute(value=value, attr=name):
                return f"{self.word(value)}.{name}"
        return self._read_typed_text(node)

    def _read_typed_text(self, node: ast.expr) -> str:
        return ast.get_source_segment(self.text, node) or ast.unparse(node)

    def number(self, node: ast.expr) -> str | None:
        """Return a number as it is typed, None for anything else."""
        sign = ""
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            sign, node = "-", node.operand
        is_number = isinstance(node, ast.Constant) and type(node.value) in {int, float}
        return f"{sign}{self.word(node)}" if is_number else None


class _Call(NamedTuple):
    """A call, or a mapping with the name of a distribution."""

    name: str  # in small letters, without underscores
    module: str
    words: Sequence[ast.expr]
    keywords: Mapping[str, ast.expr]


def _parse_expression(text: str) -> ast.expr | None:
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _spelling(source: _Source, node: ast.expr, *, log: bool = False) -> OwnSpelling | None:
    match node:
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
            return _spell_items(source, items)
        case ast.Dict():
            return _spell_call(source, _call_of_mapping(source, node), log=log)
        case ast.Call(func=function, args=words, keywords=keywords):
            full = source.word(function)
            call = _Call(
                _normalize_name(full.rpartition(".")[2]),
                next((part for part in full.split(".") if part in _MODULES), ""),
                words,
                {_normalize_name(each.arg or ""): each.value for each in keywords},
            )
            return _spell_call(source, call, log=log)
    return None


def _call_of_mapping(source: _Source, node: ast.Dict) -> _Call:
    pairs = {
        _normalize_name(source.word(key)): value
        for key, value in zip(node.keys, node.values, strict=True)
        if key is not None
    }
    named = next((pairs[key] for key in ("distribution", "type") if key in pairs), None)
    name = "" if named is None else _normalize_name(source.word(named)).replace("range", "")
    listed = next((pairs[key] for key in ("values", "choices", "options") if key in pairs), None)
    if listed is not None:
        return _Call("values", "", [listed], {})
    words = [pairs[key] for key in ("value", "bounds") if key in pairs]
    return _Call(name, "", words, pairs)


def _spell_items(source: _Source, items: Sequence[ast.expr]) -> OwnSpelling:
    words = [source.word(item) for item in items]
    numbers = [number for item in items if (number := source.number(item))]
    listed = ",".join(words)
    scales = [word for word in words if "uniform" in word or word == "log"]
    if len(numbers) != 2 or len(numbers) + len(scales) != len(words):
        return OwnSpelling(listed, is_list=True)
    low, high = numbers
    if Decimal(low) >= Decimal(high):
        return OwnSpelling(listed, is_list=True)
    log = any("log" in word for word in scales) or (not scales and _is_wide(low, high))
    return OwnSpelling(f"{low}..{high}{LOG if log else ''}", "" if scales else listed)


def _spell_call(source: _Source, call: _Call, *, log: bool) -> OwnSpelling | None:
    if call.name in _AROUND and call.words:
        *tags, last = call.words
        is_log = log or call.name == "log" or any(source.word(tag) == "log" for tag in tags)
        if isinstance(last, ast.Call | ast.List) and (inner := _spelling(source, last, log=is_log)):
            whole = call.name == "int" and inner.text.endswith(LOG)
            return OwnSpelling(inner.text.replace(".0", ""), inner.other) if whole else inner
    if call.name in _LISTS | _SHUFFLED:
        listed = [call.keywords[key] for key in ("choices", "categories") if key in call.keywords]
        return _spell_items_of_list(source, [*call.words, *listed])
    if call.name in {"boolean", "bool"}:
        return OwnSpelling("true,false", is_list=True)
    if call.name in _UNKNOWN:
        return OwnSpelling("")
    return _spell_bounds(source, call, log=log)


def _spell_items_of_list(source: _Source, words: Sequence[ast.expr]) -> OwnSpelling:
    inner = next((word for word in words if isinstance(word, ast.List | ast.Tuple)), None)
    items = words if inner is None else inner.elts
    return OwnSpelling(",".join(map(source.word, items)), is_list=True)


def _spell_bounds(source: _Source, call: _Call, *, log: bool) -> OwnSpelling | None:
    """Return the range between two bounds."""
    pairs = [word for word in call.words if isinstance(word, ast.List | ast.Tuple)]
    words = pairs[0].elts if pairs else call.words
    numbers = [number for word in words if (number := source.number(word))]
    low = _keyword(source, call, _LOW) or (numbers.pop(0) if numbers else None)
    high = _keyword(source, call, _HIGH) or (numbers.pop(0) if numbers else None)
    if high is None and call.name in {"range", "arange"} and low is not None:
        low, high = "0", low
    step = _keyword(source, call, _STEP) or (numbers.pop(0) if numbers else None)
    if low is None or high is None:
        return None
    scales = [source.word(call.keywords[key]) for key in _SCALES if key in call.keywords]
    scales += [word for word in map(source.word, call.words) if "log" in word]
    log = log or call.name.startswith(("log", "qlog", "intlog", "suggestlog", "reverselog"))
    log = log or any("log" in scale.lower() or scale == "true" for scale in scales)
    if call.name in {"linspace", "logspace", "geomspace"}:
        return _spell_spaced_numbers(call.name, float(low), float(high), int(float(step or 50)))
    full = f"{call.module}.{call.name}" if call.module else call.name
    if log and (full in _EXPONENTS or float(low) <= 0) and float(high) < LARGEST_EXPONENT:
        low, high = (f"{math.exp(float(each)):.{DIGITS}g}" for each in (low, high))
    both_whole = all(_WHOLE.fullmatch(each) for each in (low, high))
    is_whole = call.name in _INTEGERS or (
        both_whole and not log and call.name in {"", "interval", "dict", "arange"}
    )
    if call.name in {"range", "arange"} or full in _WITHOUT_END:
        width, span = Decimal(step or 1), Decimal(high) - Decimal(low)
        high = _text(Decimal(low) + width * (math.ceil(span / width) - 1)) if width > 0 else high
    if not is_whole and both_whole and not (step and not _WHOLE.fullmatch(step)):
        low, high = f"{low}.0", f"{high}.0"
    if Decimal(low) >= Decimal(high):
        return OwnSpelling(low if Decimal(low) == Decimal(high) else "")
    if log:
        return OwnSpelling(f"{low}..{high}{LOG}")
    has_step = step and not (is_whole and Decimal(step) == 1)
    return OwnSpelling(f"{low}..{high}..{step}" if has_step else f"{low}..{high}")


def _spell_spaced_numbers(name: str, low: float, high: float, count: int) -> OwnSpelling:
    """Return the numbers of NumPy between two bounds."""
    if name == "linspace" and count > 1:
        return OwnSpelling(f"{low:g}..{high:g}..{(high - low) / (count - 1):.12g}")
    first, last = (10**low, 10**high) if name == "logspace" else (low, high)
    return OwnSpelling(f"{first:g}..{last:g}{LOG}")


def _keyword(source: _Source, call: _Call, names: Iterable[str]) -> str | None:
    for name in names:
        if name in call.keywords and (number := source.number(call.keywords[name])):
            return number
    return None


def _normalize_name(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def _text(number: Decimal) -> str:
    return f"{number.normalize() + 0:f}"
