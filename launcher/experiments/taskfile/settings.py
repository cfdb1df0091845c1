"""A kind's settings in a task file: completed and checked by pydantic, with locations and texts for its errors."""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from launcher.experiments.kind_interface import Kind, NamesConstants
from launcher.experiments.taskfile.nodes import (
    GivenSetting,
    GivenSettings,
    Node,
    ScalarNode,
    SequenceNode,
    plain_value,
)
from launcher.system.errors import (
    Problem,
    Problems,
    SourceLocation,
    UnknownName,
    UsageError,
    did_you_mean,
    list_known_names,
    nearest,
    pluralize,
)
from launcher.system.files import Json
from launcher.system.lazy_regex import compile_lazily

LONGEST_VALUE = 60  # characters of a value in a message
ALL_WORDS = "launcher schema --markdown"  # lists every word and setting

# valid without quotes in a YAML list
_PLAIN_WORD = compile_lazily(r"-{0,2}[\w./+=][\w./+=-]*", re.ASCII)

# The expected form per error of pydantic; braces contain keys of the error's context.
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


class ResolvedSettings(NamedTuple):
    """Settings that a kind accepts: every value, and the locations of those in the file."""

    values: Mapping[str, Json]
    given: GivenSettings
    text: str  # the values that can change a result, as JSON
    idle: Mapping[str, str]  # settings without effect, each with the reason


class KnownSettings(NamedTuple):
    """The settings of one or several kinds, against which the keys of a mapping are checked."""

    kinds: tuple[Kind, ...]
    names: Collection[str]
    current_by_old_name: Mapping[str, str]  # earlier name of a setting → current name
    listing_command: str  # the command that lists all of them
    constants: Mapping[str, str]  # former setting → the constant that replaced it, and its value

    def current_key(self, key: ScalarNode, problems: Problems) -> ScalarNode:
        """Return the key of a setting with its current name; note an old name."""
        if key.text in self.names or key.text not in self.current_by_old_name:
            return key
        problems.add_warning(
            key, "old-name", f"{key.text} is now called {self.current_by_old_name[key.text]}"
        )
        return key.with_text(self.current_by_old_name[key.text])

    def read_given(
        self,
        pairs: Iterable[tuple[ScalarNode, Node]],
        problems: Problems,
        refuse: Callable[[ScalarNode], Problem],
        twice: str = "twice",
    ) -> dict[str, GivenSetting]:
        """Return the given values of settings by their current names.

        Args:
            pairs: Keys and their values.
            problems: List to which problems are added.
            refuse: Returns the problem of an unknown key.
            twice: Text for a setting that is given under two of its names.
        """
        said: dict[str, GivenSetting] = {}
        for key, node in pairs:
            now = self.current_key(key, problems)
            if now.text in said:
                report_duplicate_key(key, now.text, twice, problems)
            elif now.text in self.names:
                said[now.text] = GivenSetting(now, node)
            else:
                problems.append(refuse(now))
        return said

    def unknown_key_problem(
        self, key: ScalarNode, subject: str, hint: str = "", *, nearby: Iterable[str] = ()
    ) -> Problem:
        """Return the problem of an unknown key; see `unknown_key`."""
        return unknown_key(
            key,
            subject,
            self.names,
            nearby=nearby,
            hint=hint,
            place=self.listing_command,
            old=self.current_by_old_name,
            constants=self.constants,
        )


TWO_NAMES = "twice, under its name and an old name"


def report_duplicate_key(key: ScalarNode, name: str, how: str, problems: Problems) -> None:
    """Report the key of a value that is also given elsewhere."""
    message = f"{name!r} is given {how}"
    problems.add_error(key, "duplicate-key", message, "remove one of them")


def known_settings(kinds: Iterable[Kind], place: str = "") -> KnownSettings:
    """Return the settings of some kinds. For several kinds, `place` names the command that lists all of them."""
    those = tuple(kinds)
    names, old, constants = dict[str, object](), dict[str, str](), dict[str, str]()
    for kind in reversed(those):  # the first kind defines an old name
        names |= kind.settings.model_fields
        old |= kind.settings.aliases
        constants |= kind.constants if isinstance(kind, NamesConstants) else {}
    listing = (len(those) > 1 and place) or all_settings(*those)
    return KnownSettings(those, names, old, listing, constants)


def validation_problems(
    kind: Kind, error: ValidationError, given_settings: GivenSettings, place: SourceLocation
) -> Iterable[Problem]:
    """Yield a problem for each setting that pydantic refuses.

    Args:
        kind: Kind of the settings.
        error: Error of pydantic.
        given_settings: Values in the file.
        place: Location of the entry, for problems without a better location.
    """
    by_name: dict[str, list[Any]] = {}
    for detail in error.errors(include_url=False):
        by_name.setdefault(str(detail["loc"][0]) if detail["loc"] else "", []).append(detail)
    lacking = [name for name, errors in by_name.items() if errors[0]["type"] == "missing"]
    lacking = [f"'{name}'" for name in lacking if name not in given_settings]
    if lacking:
        message = f"{kind.name} needs a value for {' and '.join(lacking)}"
        hint = "write it here or under defaults"
        yield Problem(code="missing-setting", message=message, place=place, hint=hint)
    for name, errors in by_name.items():
        if name in given_settings:
            yield _validation_problem(name, errors, given_settings[name].node)
        elif errors[0]["type"] != "missing":
            message = f"{name}: {_error_text(errors[0])}" if name else _error_text(errors[0])
            yield Problem(code="setting", message=message, place=place)


def _validation_problem(name: str, errors: Sequence[Any], node: Node) -> Problem:
    """Merge the errors of pydantic about one setting (a union has one per branch) into one problem."""
    deep = [error for error in errors if any(isinstance(step, int) for step in error["loc"][1:])]
    if isinstance(node, SequenceNode) and deep:
        errors = deep
        step = next(step for step in deep[0]["loc"][1:] if isinstance(step, int))
        node = node.nodes[step] if step < len(node.nodes) else node
    elif isinstance(node, ScalarNode):
        errors = [error for error in errors if error not in deep] or errors
    if (unknown := unknown_name(errors[0])) is not None:
        return Problem(
            code="setting",
            message=f"{name}: unknown {unknown.what} {unknown.name!r}",
            place=node.place,
            hint=did_you_mean(unknown.suggestion),
            notes=(unknown.listing, *([unknown.advice] if unknown.advice else ())),
        )
    wanted = list(
        dict.fromkeys(_describe_expected(error) for error in errors if error["type"] in _EXPECTED)
    )
    if wanted:
        message = f"{name}: expected {' or '.join(wanted)}, got {_format_value(plain_value(node))}"
    else:
        message = f"{name}: {_error_text(errors[0])}"
    hint = ""
    if isinstance(node, ScalarNode) and errors[0]["type"] in ("literal_error", "enum"):
        hint = did_you_mean(nearest(node.text, _quoted_words(errors[0]["ctx"]["expected"])))
    elif isinstance(node, ScalarNode) and wanted == ["a list"]:
        hint = _as_list(node.text)
    return Problem(code="setting", message=message, place=node.place, hint=hint)


def _as_list(text: str) -> str:
    """Return the hint that writes the words of a text as a list; '' if they need quotes."""
    words = text.split()
    plain = all(_PLAIN_WORD.fullmatch(word) for word in words)
    return f"write [{', '.join(words)}]" if words and plain else ""


def unknown_name(error: Mapping[str, Any]) -> UnknownName | None:
    """Return the unknown name of a validator's error, None for another error."""
    cause = error.get("ctx", {}).get("error") if error["type"] == "value_error" else None
    inner = cause.args[0] if isinstance(cause, ValueError) and cause.args else None
    return inner if isinstance(inner, UnknownName) else None


def fault_text(error: Mapping[str, Any]) -> str:
    """Return the expected value of a failed validation, in the words of task files."""
    return (
        f"expected {_describe_expected(error)}"
        if error["type"] in _EXPECTED
        else _error_text(error)
    )


def _describe_expected(error: Mapping[str, Any]) -> str:
    context = error.get("ctx", {})
    length = context.get("min_length", context.get("max_length", 0))
    words = _join_quoted(context.get("expected", ""))
    return _EXPECTED[error["type"]].format(
        **context, length=pluralize(length, "value"), words=words
    )


def _error_text(error: Mapping[str, Any]) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    message = str(error["msg"])
    return message[:1].lower() + message[1:]


def _quoted_words(text: str) -> list[str]:
    return re.findall(r"'([^']*)'", text)


def _join_quoted(text: str) -> str:
    return ", ".join(_quoted_words(text)) or text


def _format_value(value: Any) -> str:
    """Print a value as YAML, shortened if it is long."""
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


def accepted_value(kind: Kind, name: str, value: str) -> str | None:
    """Return a valid value of a setting: the given one, or the suggestion of its check."""
    try:
        kind.settings.model_validate({name: value})
    except ValidationError as error:
        refusals = [
            detail for detail in error.errors(include_url=False) if detail["loc"][:1] == (name,)
        ]
        unknown = unknown_name(refusals[0]) if refusals else None
        return value if not refusals else None if unknown is None else unknown.suggestion
    return value


def shorten_pair(first: str, second: str, longest: int = LONGEST_VALUE) -> tuple[str, str]:
    """Return two different texts shortened so that their first difference is visible."""
    pairs = enumerate(zip(first, second, strict=False))
    differs = next((at for at, (a, b) in pairs if a != b), min(len(first), len(second)))
    begin = max(0, differs - longest // 3)  # a third for the common prefix
    return _cut_around(first, begin, longest), _cut_around(second, begin, longest)


def _cut_around(text: str, begin: int, longest: int) -> str:
    if len(text) <= longest:
        return text
    begin = min(begin, len(text) - longest + 1)
    text = f"…{text[begin + 1 :]}" if begin > 0 else text
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def format_pair(first: Json, second: Json) -> tuple[str, str]:
    """Return two values of a setting as JSON, which YAML also reads, shortened if they are long."""
    return shorten_pair(
        json.dumps(first, ensure_ascii=False), json.dumps(second, ensure_ascii=False)
    )


def resolve_settings(
    kind: Kind, given_settings: GivenSettings, place: SourceLocation, problems: Problems
) -> ResolvedSettings | None:
    """Complete and check a kind's settings; on failure add to `problems` and return None.

    Args:
        kind: Kind of the settings, which include every key of `given_settings`.
        given_settings: Values in the file merged with defaults.
        place: Location of the entry, for problems without a better location.
        problems: List to which problems are added.
    """
    values = {name: _value_as_written(said.node) for name, said in given_settings.items()}
    try:
        try:
            made = kind.settings.model_validate(values)
        except ValidationError as error:
            as_text = _plain_texts(error, given_settings)
            if not as_text:
                raise
            made = kind.settings.model_validate(values | as_text)
    except ValidationError as error:
        reported = {problem.message for problem in problems if problem.code == "missing-setting"}
        problems += [
            complaint
            for complaint in validation_problems(kind, error, given_settings, place)
            if complaint.message not in reported
        ]  # a setting that every entry lacks is missing in the defaults: report it once
        return None
    except UsageError as error:  # a check of the plugin package
        problems.add_error(place, "setting", str(error))
        return None
    dumped = made.model_dump(mode="json")
    return complete_settings(kind, dumped, given_settings)


def complete_settings(
    kind: Kind, values: Mapping[str, Json], given_settings: GivenSettings
) -> ResolvedSettings:
    """Return complete and checked settings."""
    decisive, idle = kind.settings.decisive(values), kind.settings.without_effect(values)
    return ResolvedSettings(values, given_settings, json.dumps(decisive, sort_keys=True), idle)


def unknown_key(
    key: ScalarNode,
    subject: str,
    words: Iterable[str],
    other_sections: Sequence[str] = (),
    *,
    nearby: Iterable[str] = (),
    hint: str = "",
    place: str = ALL_WORDS,
    old: Mapping[str, str] | None = None,
    constants: Mapping[str, str] | None = None,
) -> Problem:
    """Return the problem of an unknown key.

    Args:
        key: Key as written.
        subject: Completes "'modle' is not …": "a setting of train".
        words: Valid keys.
        other_sections: Kinds that have the setting.
        nearby: Further valid words, which the message does not list.
        hint: Remedy, if a better one is known.
        place: Command that lists all of `words`.
        old: Earlier names of some of `words` → current names.
        constants: Former settings → the constants that replaced them, with their values.
    """
    if constants and key.text in constants:
        message = f"{key.text!r} is no longer a setting: it is the constant {constants[key.text]}"
        return Problem(code="unknown-key", message=message, place=key.place)
    names = sorted(words)
    old = old or {}
    close = nearest(key.text, [name for name in (*names, *nearby, *old) if name != key.text])
    close = old.get(close or "", close)
    before, colon, _ = key.text.partition(":")
    hint = hint or did_you_mean(close)
    if "=" in key.text:
        hint = "put quotes around an ID that contains a comma"
    elif colon and before in names:
        hint = f"write a space after ':', as in {before}: …"
    elif not hint and other_sections:
        hint = f"it is a setting of {' and '.join(other_sections)}"
    return Problem(
        code="unknown-key",
        message=f"{key.text!r} is not {subject}",
        place=key.place,
        hint=hint,
        notes=(list_known_names(key.text, names, place),),
    )


def _value_as_written(node: Node) -> Any:  # the border to pydantic: any YAML value
    """Return a node's value with booleans as written: pydantic accepts true as the number 1."""
    if isinstance(node, ScalarNode):
        return node.text if isinstance(node.value, bool) else node.value
    if isinstance(node, SequenceNode):
        return [_value_as_written(node) for node in node.nodes]
    return {key.text: _value_as_written(value) for key, value in node.pairs}


def _plain_texts(error: ValidationError, given_settings: GivenSettings) -> dict[str, Json]:
    """Return the written texts of settings that expect texts and got plain numbers."""
    wanting = {
        detail["loc"]
        for detail in error.errors(include_url=False, include_context=False, include_input=False)
        if detail["type"] == "string_type"
    }
    texts: dict[str, Json] = {}
    for name, said in given_settings.items():
        node = said.node
        if (name,) in wanting and isinstance(node, ScalarNode) and node.value is not None:
            texts[name] = node.text
        elif isinstance(node, SequenceNode) and any(
            (name, i) in wanting for i in range(len(node.nodes))
        ):
            texts[name] = [
                node.text
                if isinstance(node, ScalarNode) and node.value is not None
                else plain_value(node)
                for node in node.nodes
            ]
    return texts


def is_default(kind: Kind, name: str, values: Mapping[str, Json]) -> bool:
    """Return whether a setting has its default among these values, which must contain it."""
    field = kind.settings.model_fields.get(name)  # None for the revisions of a job
    return field is not None and not field.is_required() and default_value(field) == values[name]


def default_value(field: FieldInfo) -> Json:
    """Return a default as JSON gives it back."""
    default = field.get_default(call_default_factory=True)
    return cast(Json, json.loads(json.dumps(default, default=str)))


def replace_values(
    kind: Kind, resolved_settings: ResolvedSettings, values: Mapping[str, Json]
) -> ResolvedSettings:
    """Return a kind's settings with some values replaced by those of a plan."""
    if not values:
        return resolved_settings
    return complete_settings(kind, {**resolved_settings.values, **values}, resolved_settings.given)


def differences(old_settings: Mapping[str, Json], new_settings: Mapping[str, Json]) -> list[str]:
    """Return short texts about the settings in which two jobs differ."""
    return [
        f"{name}: {' and '.join(format_pair(old_settings.get(name), value))}"
        for name, value in new_settings.items()
        if old_settings.get(name) != value
    ]
