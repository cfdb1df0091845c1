"""Hints for values of a sweep that are written as in another program: `1-3`, `1:3`, `[0.1, 0.01]`, `0.1, 0.01`."""

import re

from launcher.experiments.taskfile.foreign_values import own_spelling
from launcher.ids import is_variant_value
from launcher.system.lazy_regex import compile_lazily

_NUMBER = r"[-+]?\d{1,18}(?:\.\d{1,18})?"
_EXPONENT_NUMBER = rf"{_NUMBER}(?:[eE][-+]?\d{{1,3}})?"
_DASHED = compile_lazily(r"(\d{1,18})-(\d{1,18})", re.ASCII)
# a slice, or the range of another language
_FOREIGN = compile_lazily(
    rf"({_NUMBER})(?::|\.\.=|\.\.\.|–|—)({_NUMBER})(?::({_NUMBER}))?",
    re.ASCII,
)
_LOGARITHMIC = compile_lazily(rf"{_EXPONENT_NUMBER}\.\.{_EXPONENT_NUMBER}:log", re.ASCII)
_CALL = compile_lazily(r"[A-Za-z_][\w.]*\(|\{")
_SEARCH = "--search METRIC --trials 60"
_BRACKETS = "[](){}"


def range_hint(name: str, text: str, *, is_typed: bool) -> str:
    """Return how the range is written that a text such as `1-3` or `1:3` probably means; '' for other texts.

    Args:
        name: Name of the swept value.
        text: Value as written.
        is_typed: Whether the sweep is an option of a command line; task files have lists instead of ranges.
    """
    match = _DASHED.fullmatch(text)
    if match is not None and int(match[1]) >= int(match[2]):
        return ""  # a range begins with its smaller number
    match = match or _FOREIGN.fullmatch(text)
    if match is None:
        return ""
    if not is_typed:
        return "for a range write a list of values such as [1, 2, 3]"
    step = f"..{match[3]}" if match.lastindex == 3 else ""
    return f"for a range write {name}={match[1]}..{match[2]}{step}"


def search_hint(name: str, text: str) -> str:
    """Return the remedy for values of `--sweep` that need a search, or that are a call; '' for other texts."""
    if _LOGARITHMIC.fullmatch(text):
        return f"such a range needs a search: add {_SEARCH}"
    own = own_spelling(text) if _CALL.match(text) else None
    if own is None:
        return ""
    has_step = own.text.count("..") > 1
    if own.is_list or has_step or re.fullmatch(r"-?\d+\.\.-?\d+", own.text):
        return f"write {name}={own.text}"
    return f"only a search draws values: add {_SEARCH}, and write {name}={own.text or 'LOW..HIGH'}"


def _draw_hint(name: str, text: str) -> str:
    """Return how a task file draws the values of a matrix that are a range or a call; '' for other texts."""
    own = own_spelling(text) if _CALL.match(text) else None
    if own is not None and own.is_list:
        return own.advice(name, ": ").replace("Write", "write")
    drawn = text if _LOGARITHMIC.fullmatch(text) else "" if own is None else own.text
    return drawn and f"write {name}: {drawn} below random instead of matrix, and add a count"


def value_hint(name: str, text: str, *, is_typed: bool) -> str:
    """Return the remedy for a value that cannot be part of a job name; the arguments are those of `range_hint`."""
    if hint := range_hint(name, text, is_typed=is_typed):
        return hint
    if not is_typed and (hint := _draw_hint(name, text)):
        return hint
    bare = text.strip().strip(_BRACKETS).strip()
    if bare != text and is_variant_value(bare):
        what = "the space" if text.strip() == bare else "the brackets"
        return f"remove {what}: {bare}"
    words = bare.split()
    if is_typed and len(words) > 1 and all(map(is_variant_value, words)):
        return f"separate values by commas: {name}={','.join(words)}"
    return f"name the values in a task file: {name}: {{first: …, second: …}}"  # prose: ok, YAML
