"""The settings of jobs, and in which of them the jobs of a run differ."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from launcher.job import FUNCTION, PROGRAM, Spec
from launcher.kind_interface import Kind

ARGV = "argv"  # the setting of a program: its words
ARGUMENTS = "arguments"  # that of a function: those of its arguments that are numbers, truths or short texts


def settings_of(spec: Spec) -> Mapping[str, Any]:
    """Return the settings of a job; of a program the options on its command line, of a function its arguments."""
    if spec.kind == PROGRAM:
        return options_of(spec.argv or tuple(spec.settings.get(ARGV, ())))
    if spec.kind == FUNCTION:
        arguments = spec.settings.get(ARGUMENTS)
        return arguments if isinstance(arguments, dict) else {}
    return spec.settings


def options_of(argv: Sequence[str]) -> dict[str, str | bool]:
    """Return the options of a command line: `--lr 0.1`, `--lr=0.1` and `lr=0.1`, True of a flag.

    What follows an option is its value unless it is an option itself: a flag before an argument
    takes that for its value, as no one but the program knows better.
    """
    options: dict[str, str | bool] = {}
    waiting = ""  # an option whose value may follow
    for word in argv[1:]:
        name, equals, value = word.lstrip("-").partition("=")
        if word.startswith("--") and len(word) > 2:
            options[name] = value if equals else True
            waiting = "" if equals else name
        elif waiting:
            options[waiting], waiting = word, ""
        elif equals and name.replace(".", "_").isidentifier():
            options[name] = value
    return options


def swept(specs: Iterable[Spec], kinds: Mapping[str, Kind]) -> dict[str, tuple[str, ...]]:
    """Return kind → names of the settings in which its jobs differ, in the order of the settings.

    Settings that cannot change a result, such as a number of threads, are none of them.

    Args:
        specs: of the jobs of a run.
        kinds: by name, those that are installed.
    """
    by_kind: dict[str, list[Mapping[str, Any]]] = {}
    for spec in specs:
        by_kind.setdefault(spec.kind, []).append(settings_of(spec))
    return {
        name: tuple(key for key in varying(those) if key not in _neutral(kinds.get(name)))
        for name, those in by_kind.items()
    }


def varying(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the settings that have not the same value in all of these."""
    first = settings[0]
    # most jobs of a run agree in all of them
    others = [each for each in settings if each != first]
    names = dict.fromkeys(name for each in (first, *others) for name in each)
    return [name for name in names if any(each.get(name) != first.get(name) for each in others)]


def _neutral(kind: Kind | None) -> frozenset[str]:
    return frozenset() if kind is None else kind.settings.neutral


def scalar(value: Any) -> str | int | float | None:
    """Return the value of a setting as the cell of a table: numbers as they are, lists as JSON.

    A text that is a number is one: a program's options are texts.
    """
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, str):
        return number(value)
    return json.dumps(value, default=str)


def number(text: str) -> str | int | float:
    """Return the number that a text writes out, else the text."""
    if not text or not (text[0].isdigit() or text[0] in "+-."):
        return text
    for read in (int, float):
        try:
            return read(text) if "_" not in text else text
        except ValueError:
            continue
    return text
