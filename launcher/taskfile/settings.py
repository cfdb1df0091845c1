"""A kind's settings as a task file gives them: completed and checked by pydantic, whose complaints get a place and words."""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from launcher.errors import (
    Place,
    Problem,
    Problems,
    UnknownName,
    UsageError,
    counted,
    known_words,
    nearest,
    question,
)
from launcher.kind_interface import Kind
from launcher.system.files import Json
from launcher.taskfile.nodes import Given, Items, Node, Said, Scalar, plain_value

LONGEST_VALUE = 60  # characters of a value in a message
ALL_WORDS = "launcher schema --markdown"  # lists every word and setting there is

_PLAIN_WORD = re.compile(r"-{0,2}[\w./+=][\w./+=-]*", re.ASCII)  # needs no quotes in a YAML list

# What each of pydantic's complaints expected; in braces what pydantic tells besides.
_EXPECTED: Mapping[str, str] = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a string",
    "none_required": "null",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "missing": "more values",
    "too_short": "at least {length}",
    "too_long": "at most {length}",
    "literal_error": "one of {words}",
    "enum": "one of {words}",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
}


class Settled(NamedTuple):
    """Settings that a kind accepts: every value, and where those of the file stand."""

    values: Mapping[str, Json]
    given: Given
    text: str  # what of the values can change a result, as JSON


class Known(NamedTuple):
    """The settings of one kind or of several, by which the keys of a mapping are judged."""

    kinds: tuple[Kind, ...]
    names: Collection[str]
    old: Mapping[str, str]  # earlier names of settings, each with that of today
    where: str  # what lists them all

    def today(self, key: Scalar, problems: Problems) -> Scalar:
        """Return the key of a setting by its name of today; note that there is one if it was old."""
        if key.text in self.names or key.text not in self.old:
            return key
        problems.note(key, "old-name", f"{key.text} is now called {self.old[key.text]}")
        return key.named(self.old[key.text])

    def among(
        self,
        pairs: Iterable[tuple[Scalar, Node]],
        problems: Problems,
        refuse: Callable[[Scalar], Problem],
        twice: str = "twice",
    ) -> dict[str, Said]:
        """Return what is said of settings, by their names of today.

        Args:
            pairs: keys and their values.
            problems: where complaints are added.
            refuse: returns what is wrong with a key that is none of the settings.
            twice: how one is given that is there by two of its names.
        """
        said: dict[str, Said] = {}
        for key, node in pairs:
            now = self.today(key, problems)
            if now.text in said:
                blame_twice(key, now.text, twice, problems)
            elif now.text in self.names:
                said[now.text] = Said(now, node)
            else:
                problems.append(refuse(now))
        return said

    def unknown(
        self, key: Scalar, what: str, hint: str = "", *, nearby: Iterable[str] = ()
    ) -> Problem:
        """Return the problem of a key that is none of the settings; see `unknown_key`."""
        return unknown_key(
            key, what, self.names, nearby=nearby, hint=hint, where=self.where, old=self.old
        )


TWO_NAMES = "twice, under its name and an old name"


def blame_twice(key: Scalar, name: str, how: str, problems: Problems) -> None:
    """Blame the key of what is given elsewhere, too."""
    message = f"{name!r} is given {how}"
    problems.blame(key, "duplicate-key", message, "remove one of them")


def known(kinds: Iterable[Kind], where: str = "") -> Known:
    """Return the settings of some kinds; of several, `where` lists them all, if not a list of these kinds."""
    those = tuple(kinds)
    names, old = dict[str, object](), dict[str, str]()
    for kind in reversed(those):  # the first kind tells what an old name means
        names |= kind.settings.model_fields
        old |= kind.settings.aliases
    return Known(those, names, old, (len(those) > 1 and where) or all_settings(*those))


def complaints_of(
    kind: Kind, error: ValidationError, given: Given, where: Place
) -> Iterable[Problem]:
    """Yield a problem for each setting that pydantic refuses.

    Args:
        kind: whose settings.
        error: of pydantic.
        given: what the file says.
        where: the entry, for what has no better place.
    """
    by_name: dict[str, list[Any]] = {}
    for detail in error.errors(include_url=False):
        by_name.setdefault(str(detail["loc"][0]) if detail["loc"] else "", []).append(detail)
    lacking = [name for name, errors in by_name.items() if errors[0]["type"] == "missing"]
    lacking = [f"'{name}'" for name in lacking if name not in given]
    if lacking:
        message = f"{kind.name} needs a value for {' and '.join(lacking)}"
        hint = "write it here or under defaults"
        yield Problem(code="missing-setting", message=message, place=where, hint=hint)
    for name, errors in by_name.items():
        if name in given:
            yield _complaint(name, errors, given[name].node)
        elif errors[0]["type"] != "missing":
            message = f"{name}: {_said(errors[0])}" if name else _said(errors[0])
            yield Problem(code="setting", message=message, place=where)


def _complaint(name: str, errors: Sequence[Any], node: Node) -> Problem:
    """Make one problem of all that pydantic says of one setting (a union says it per branch)."""
    deep = [error for error in errors if any(isinstance(step, int) for step in error["loc"][1:])]
    if isinstance(node, Items) and deep:
        errors = deep
        step = next(step for step in deep[0]["loc"][1:] if isinstance(step, int))
        node = node.nodes[step] if step < len(node.nodes) else node
    elif isinstance(node, Scalar):
        errors = [error for error in errors if error not in deep] or errors
    if (unknown := unknown_name(errors[0])) is not None:
        return Problem(
            code="setting",
            message=f"{name}: unknown {unknown.what} {unknown.name!r}",
            place=node.place,
            hint=question(unknown.suggestion),
            notes=(unknown.listing,),
        )
    wanted = list(dict.fromkeys(_expected(error) for error in errors if error["type"] in _EXPECTED))
    if wanted:
        message = f"{name}: expected {' or '.join(wanted)}, got {_shown(plain_value(node))}"
    else:
        message = f"{name}: {_said(errors[0])}"
    hint = ""
    if isinstance(node, Scalar) and errors[0]["type"] in ("literal_error", "enum"):
        hint = question(nearest(node.text, _quoted(errors[0]["ctx"]["expected"])))
    elif isinstance(node, Scalar) and wanted == ["a list"]:
        hint = _as_list(node.text)
    return Problem(code="setting", message=message, place=node.place, hint=hint)


def _as_list(text: str) -> str:
    """Return the hint that writes the words of a text as a list; '' if they need quotes."""
    words = text.split()
    plain = all(_PLAIN_WORD.fullmatch(word) for word in words)
    return f"write [{', '.join(words)}]" if words and plain else ""


def unknown_name(error: Mapping[str, Any]) -> UnknownName | None:
    """Return the unknown name that a validator complained of; None where it is another complaint."""
    cause = error.get("ctx", {}).get("error") if error["type"] == "value_error" else None
    inner = cause.args[0] if isinstance(cause, ValueError) and cause.args else None
    return inner if isinstance(inner, UnknownName) else None


def fault_text(error: Mapping[str, Any]) -> str:
    """Return the expected value of a failed validation, in the words of task files."""
    return f"expected {_expected(error)}" if error["type"] in _EXPECTED else _said(error)


def _expected(error: Mapping[str, Any]) -> str:
    context = error.get("ctx", {})
    length = context.get("min_length", context.get("max_length", 0))
    words = _listed(context.get("expected", ""))
    return _EXPECTED[error["type"]].format(**context, length=counted(length, "value"), words=words)


def _said(error: Mapping[str, Any]) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    message = str(error["msg"])
    return message[:1].lower() + message[1:]


def _quoted(expected: str) -> list[str]:
    return re.findall(r"'([^']*)'", expected)


def _listed(expected: str) -> str:
    return ", ".join(_quoted(expected)) or expected


def _shown(value: Any) -> str:
    """Print a value as YAML would, cut where it is long."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case list():
            return "a list" if len(value) != 0 else "an empty list"
        case dict():
            return "a mapping"
    shown = repr(value)
    return shown if len(shown) <= LONGEST_VALUE else f"{shown[: LONGEST_VALUE - 3]}…"


def all_settings(*kinds: Kind) -> str:
    """Return the command line that lists the settings of some kinds."""
    return f"launcher kinds {' '.join(kind.name for kind in kinds)}"


def accepted(kind: Kind, name: str, value: str) -> str | None:
    """Return a value that a setting takes: the given one, or what its check suggests instead."""
    try:
        kind.settings.model_validate({name: value})
    except ValidationError as error:
        refusals = [
            detail for detail in error.errors(include_url=False) if detail["loc"][:1] == (name,)
        ]
        unknown = unknown_name(refusals[0]) if refusals else None
        return value if not refusals else None if unknown is None else unknown.suggestion
    return value


def shortened(first: str, second: str, longest: int = LONGEST_VALUE) -> tuple[str, str]:
    """Return two different texts cut to a length in which their first difference is visible."""
    pairs = enumerate(zip(first, second, strict=False))
    differs = next((at for at, (a, b) in pairs if a != b), min(len(first), len(second)))
    begin = max(0, differs - longest // 3)  # a third for what both begin with
    return _cut(first, begin, longest), _cut(second, begin, longest)


def _cut(text: str, begin: int, longest: int) -> str:
    if len(text) <= longest:
        return text
    begin = min(begin, len(text) - longest + 1)
    text = f"…{text[begin + 1 :]}" if begin > 0 else text
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def spelt_pair(first: Json, second: Json) -> tuple[str, str]:
    """Return two values of a setting as JSON, which YAML also reads, shortened if they are long."""
    return shortened(json.dumps(first, ensure_ascii=False), json.dumps(second, ensure_ascii=False))


def settle(kind: Kind, given: Given, where: Place, problems: Problems) -> Settled | None:
    """Complete and check a kind's settings; on failure add to `problems` and return None.

    Args:
        kind: whose settings; every key of `given` is one of them.
        given: what the file says, defaults merged in.
        where: the entry, for what has no better place.
        problems: where complaints are added.
    """
    values = {name: _said_value(said.node) for name, said in given.items()}
    try:
        try:
            made = kind.settings.model_validate(values)
        except ValidationError as error:
            as_text = _texts(error, given)
            if not as_text:
                raise
            made = kind.settings.model_validate(values | as_text)
    except ValidationError as error:
        reported = {problem.message for problem in problems if problem.code == "missing-setting"}
        problems += [
            complaint
            for complaint in complaints_of(kind, error, given, where)
            if complaint.message not in reported
        ]  # a setting that every entry lacks is missing in the defaults: once is enough
        return None
    except UsageError as error:  # a laboratory's own check
        problems.blame(where, "setting", str(error))
        return None
    dumped = made.model_dump(mode="json")
    for name, reason in kind.settings.without_effect(dumped).items():
        # defaults serve other entries, too: nothing is said of them
        if name in given and given[name].key.place.line >= where.line:
            message = f"{name} has no effect here: {reason}"
            problems.note(given[name].key, "no-effect", message, "remove it")
    return completed(kind, dumped, given)


def completed(kind: Kind, values: Mapping[str, Json], given: Given) -> Settled:
    """Return settings of which every value is known, and was checked."""
    decisive = kind.settings.decisive(values)
    return Settled(values, given, json.dumps(decisive, sort_keys=True))


def unknown_key(
    key: Scalar,
    what: str,
    words: Iterable[str],
    elsewhere: Sequence[str] = (),
    *,
    nearby: Iterable[str] = (),
    hint: str = "",
    where: str = ALL_WORDS,
    old: Mapping[str, str] | None = None,
) -> Problem:
    """Return the problem of an unknown key.

    Args:
        key: the key as written.
        what: completes "'modle' is not …": "a setting of train".
        words: the keys that may stand there.
        elsewhere: kinds that do know it.
        nearby: words that could stand there, too, but go without saying.
        hint: what to do, where that is known better.
        where: what lists all of `words`.
        old: earlier names of some of `words`, and their names of today.
    """
    names = sorted(words)
    old = old or {}
    close = nearest(key.text, [name for name in (*names, *nearby, *old) if name != key.text])
    close = old.get(close or "", close)
    before, colon, _ = key.text.partition(":")
    hint = hint or question(close)
    if "=" in key.text:
        hint = "put quotes around an ID that contains a comma"
    elif colon and before in names:
        hint = f"write a space after ':', as in {before}: …"
    elif not hint and elsewhere:
        hint = f"it is a setting of {' and '.join(elsewhere)}"
    return Problem(
        code="unknown-key",
        message=f"{key.text!r} is not {what}",
        place=key.place,
        hint=hint,
        notes=(known_words(key.text, names, where),),
    )


def _said_value(node: Node) -> Any:  # the border to pydantic: any YAML value
    """Return a node's value with truths as they are written: pydantic takes true for the number 1."""
    if isinstance(node, Scalar):
        return node.text if isinstance(node.value, bool) else node.value
    if isinstance(node, Items):
        return [_said_value(node) for node in node.nodes]
    return {key.text: _said_value(value) for key, value in node.pairs}


def _texts(error: ValidationError, given: Given) -> dict[str, Json]:
    """Return what was written for settings that want texts and got plain numbers."""
    wanting = {
        detail["loc"]
        for detail in error.errors(include_url=False, include_context=False, include_input=False)
        if detail["type"] == "string_type"
    }
    texts: dict[str, Json] = {}
    for name, said in given.items():
        node = said.node
        if (name,) in wanting and isinstance(node, Scalar) and node.value is not None:
            texts[name] = node.text
        elif isinstance(node, Items) and any((name, i) in wanting for i in range(len(node.nodes))):
            texts[name] = [
                node.text
                if isinstance(node, Scalar) and node.value is not None
                else plain_value(node)
                for node in node.nodes
            ]
    return texts


def with_values(kind: Kind, settled: Settled, values: Mapping[str, Json]) -> Settled:
    """Return a kind's settings of which some values are those that a plan found out."""
    if not values:
        return settled
    return completed(kind, {**settled.values, **values}, settled.given)


def differences(before: Mapping[str, Json], after: Mapping[str, Json]) -> list[str]:
    """Return in a few words each in which settings two jobs differ."""
    return [
        f"{name}: {' and '.join(spelt_pair(before.get(name), value))}"
        for name, value in after.items()
        if before.get(name) != value
    ]
