"""The parameters of a job that runs a program: swept values and values of its command line.

Parameters of a command line are `--lr 0.1`, `--lr=0.1`, `lr=0.1`, a flag such as `--amp` (True), and `-n 5`. An
option with one dash needs a number after it. A value with a slash, or with a leading brace, is not a parameter.
Neither is a value that looks like a secret.
"""

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

from launcher.system.lazy_regex import compile_lazily
from launcher.system.secret_arguments import is_secret_option
from launcher.system.text import sanitize_terminal

PARAMS = "params"  # the setting that stores the values of a sweep; it is not part of any hash
# the setting that stores how the values of a sweep are used, so that one can be changed; not part of any hash
TEMPLATE = "template"

LONGEST_VALUE = 24  # characters of a value in a line

ParamValue = str | int | float | bool | None

_OPTION = compile_lazily(r"(--?)([A-Za-z_][\w.-]*)(?:=(.*))?", re.DOTALL)
# 1e-4, a usual spelling of 0.0001. They share one name of a job, so as two values they would run finished jobs again.
_SMALL = compile_lazily(r"-?[1-9](?:\.\d*[1-9])?[eE]-0?[1-9]\d*")
_PAIR = compile_lazily(r"\+{0,2}([^\W\d][\w.]*)=(.*)", re.DOTALL)  # with the prefix of Hydra


def params_of(settings: Mapping[str, Any], argv: Sequence[str]) -> dict[str, ParamValue]:
    """Return the parameters of a job, swept values first; swept values override others of the same name.

    Args:
        settings: Stored settings.
        argv: Command line.
    """
    own, read = swept_values(settings), parse_options(tuple(argv))
    return {**own, **read, **own}


def swept_values(settings: Mapping[str, Any]) -> dict[str, ParamValue]:
    """Return the swept values of a job; empty if it is not part of a sweep."""
    swept = settings.get(PARAMS)
    if not isinstance(swept, Mapping):
        return {}
    return {str(name): to_param_value(value) for name, value in swept.items()}


def filled_options(settings: Mapping[str, Any]) -> Mapping[str, ParamValue]:
    """Return the other options of a swept job whose values contain swept values, such as `--name y{seed}`.

    Each has a value that is equal for jobs in which it is written alike.
    """
    template, swept = settings.get(TEMPLATE), settings.get(PARAMS)
    if not isinstance(template, Mapping) or not isinstance(swept, Mapping):
        return {}
    written = template.get("settings")
    argv = written.get("argv") if isinstance(written, Mapping) else None
    if not isinstance(argv, Sequence):
        return {}
    return _filled_options(tuple(map(str, argv)), tuple(swept))


@lru_cache(maxsize=1 << 10)  # the jobs of a sweep have the same template
def _filled_options(argv: tuple[str, ...], names: tuple[str, ...]) -> Mapping[str, ParamValue]:
    braces = re.compile("|".join(re.escape(f"{{{name}}}") for name in names) or r"(?!)")
    one, other = (
        parse_options(tuple(braces.sub(digit, word) for word in argv)) for digit in ("7", "8")
    )
    return {
        name: value for name, value in one.items() if other.get(name) != value and name not in names
    }


@lru_cache(
    maxsize=1 << 14
)  # a table of results calls the function three times for each of thousands of programs
def parse_options(argv: tuple[str, ...]) -> Mapping[str, ParamValue]:
    """Return the parameters of a command line; for a repeated one, the last value.

    The word after an option is its value unless it is an option itself. A flag before an argument
    therefore takes the argument as its value: only the program can distinguish them.
    """
    read: dict[str, ParamValue] = {}
    waiting, flag = "", False  # an option whose value may follow; a flag has none
    for word in argv[1:]:
        if waiting and _is_value(word):
            if flag or read_number(word) is not None:
                read[waiting] = parse_number(word)
            waiting = ""
        elif match := _OPTION.fullmatch(word):
            dashes, name, text = match.groups()
            flag, waiting = dashes == "--", name if text is None else ""
            if flag:
                read[name] = True if text is None else parse_number(text)
        elif match := _PAIR.fullmatch(word):
            read[match[1]], waiting = parse_number(match[2]), ""
        else:
            waiting = ""
    return {
        name: value
        for name, value in read.items()
        if not _is_path(value) and not is_secret_option(name, str(value))
    }


def words_before_options(argv: Sequence[str]) -> list[str]:
    """Return the words of a command line before the first option that is read as a parameter.

    A word with one dash, such as `-m`, is such an option only if a number follows.
    """
    for at, word in enumerate(argv[1:], 1):
        match = _OPTION.fullmatch(word)
        has_number = read_number("".join(argv[at + 1 : at + 2])) is not None
        if _PAIR.fullmatch(word) or (match and (match[1] == "--" or has_number)):
            return [*argv[:at]]
    return [*argv]


def with_option(argv: Sequence[str], name: str, value: str) -> list[str]:
    """Return a command line in which each option of a name has another value."""
    words = list(argv)
    for at, word in enumerate(argv[1:], 1):
        match = _OPTION.fullmatch(word) or _PAIR.fullmatch(word)
        before, equals, _ = word.partition("=")
        if match is None or before.lstrip("-+") != name:
            continue
        if equals:
            words[at] = f"{before}={value}"
        elif at + 1 < len(words) and _is_value(words[at + 1]):
            words[at + 1] = value
        elif before.startswith("--"):  # a flag
            words[at] = f"{before}={value}"
    return words


def _is_value(word: str) -> bool:
    """Return whether the word after an option is its value: not an option, or a negative number."""
    return not word.startswith("-") or read_number(word) is not None


def _is_path(value: ParamValue) -> bool:
    return isinstance(value, str) and ("/" in value or value.startswith("{"))


def varying_names(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of settings whose values differ between some jobs; at least one job must be given."""
    first = settings[0]
    # most jobs of a run agree in all settings
    others = [each for each in settings if not _same_settings(each, first)]
    names = dict.fromkeys(name for each in (first, *others) for name in each)
    return [
        name
        for name in names
        if any(not same_param(each.get(name), first.get(name)) for each in others)
    ]


def _same_settings(settings: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    return settings == others and all(
        value.__class__ is others[name].__class__ for name, value in settings.items()
    )


def format_params(params: Mapping[str, Any], names: Collection[str]) -> str:
    """Return parameters as one line, `lr=0.1 amp`: numbers have four digits, long texts are cut."""
    return " ".join(_format_param(name, params[name]) for name in params if name in names)


def _format_param(name: str, value: Any) -> str:
    if value is True:
        return sanitize_terminal(name)
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return sanitize_terminal(
        f"{name}={text if len(text) <= LONGEST_VALUE else f'{text[: LONGEST_VALUE - 1]}…'}"
    )


def params_in_job_name(name: str) -> dict[str, ParamValue]:
    """Return the swept values in the name of a job, such as `train@lr=0.1,seed=2`."""
    parts = (part.partition("=") for part in name.partition("@")[2].split(","))
    return {key: parse_number(value) for key, equals, value in parts if equals}


def to_param_value(value: Any) -> ParamValue:
    """Return the value of a setting as a table cell: numbers unchanged, lists as JSON.

    A text that is the usual spelling of a number becomes this number, because a program's options are texts.
    """
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, str):
        return parse_number(value)
    return json.dumps(value, default=str)


def parse_number(text: str) -> str | int | float:
    """Return the number of a text if the text is its usual spelling, such as 7, 0.1 or 1e-4; otherwise the text.

    Other spellings stay apart: 007 and 7 may be two patients, and 12e4567 may be a commit.
    """
    value = read_number(text)
    is_usual = value is not None and (str(value) == text or (value and _SMALL.fullmatch(text)))
    return value if value is not None and is_usual else text


def read_number(text: str) -> int | float | None:
    """Return the number of a text in any spelling, for comparisons; None if it is not a finite number."""
    if not text or "_" in text or not (text[0].isdigit() or text[0] in "+-."):
        return None
    for read in (int, float):
        try:
            value = read(text)
        except ValueError:
            continue
        return value if math.isfinite(value) else None
    return None


def same_param(value: Any, other: Any) -> bool:
    """Return whether two values have the same text: unlike in Python, 1 differs from 1.0 and from True."""
    return value == other and value.__class__ is other.__class__
