"""The forms of single values in a task file, as parts of a JSON Schema.

Words of the language follow patterns. Settings follow their kind's pydantic model, in the notation of
files: a text without quotes may look like a number, and a variable can replace any value.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import BeforeValidator, PlainValidator, WrapValidator

from launcher.experiments.kind_interface import Kind, Settings
from launcher.queue.job_options.notifications import NotifyEvent
from launcher.queue.job_options.value_types import ValueType

VALUES = ".values"  # suffix of the name of a setting's sweep

Form = dict[str, Any]  # a piece of JSON

# The grammar of launcher.ids as ECMA 262 patterns; a test compares both.
WORD = r"[A-Za-z0-9][A-Za-z0-9_.+\-]*"
_PERCENT = r"(?:100(?:\.0{1,6})?|0?[0-9]{1,2}(?:\.[0-9]{1,6})?)"
_LABELS = rf"(?:[a-z][a-z0-9]*-)?{_PERCENT}"
_VALUE = r"[A-Za-z0-9_.+\-]+"
_PAIR = rf"[A-Za-z_][A-Za-z0-9_.]*={_VALUE}"
_DATA = rf"{WORD}:{WORD}(?:&{WORD}:{WORD})*"
_STAGE = rf"{_DATA}(?:%{_LABELS})?(?:~{WORD})*(?:@{_PAIR}(?:,{_PAIR})*)?"
# Amounts and times as launcher.system.units reads them.
_SIZE = r"\s*(?:[0-9]{1,15}(?:\.[0-9]{1,9})? ?(?:[KkMmGgTt][Ii])?[Bb]|0(?:\.0{1,9})?)\s*"
_NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,9})?"
_TIME = r"\s*(?=[0-9])" + "".join(rf"(?:{_NUMBER} ?{unit} ?)?" for unit in "dhms") + r"\s*"
NAME = r"(?![-.\s])[^/\\]*[^/\\\s]"
_OF_NAME = r"@,:/\\*?\[\]\"'\x00-\x1f\x7f"  # not in a program's name: sweeps, patterns and IDs use these characters
# the name of a program, with names of values in braces
PROGRAM_NAME = rf"(?![-.\s])[^{_OF_NAME}]*[^{_OF_NAME}\s]"

_VARIABLE = r"\$\{"

PLAIN: Form = {"type": ["string", "number", "boolean"]}  # the YAML types of words without quotes

ANNOTATIONS = frozenset({"description", "default", "examples"})
_SCALARS = frozenset({"string", "integer", "number", "boolean"})
_ASKING_MORE = frozenset({"enum", "const", "pattern", "minLength", "maxLength", "format"})


def settings_of(kind: Kind) -> dict[str, Form]:
    """Return the form of each setting of a kind, with its description and default."""
    schema = _model(kind.settings, kind.name)
    forms = {
        name: _setting(kind, name, form) for name, form in schema.get("properties", {}).items()
    }
    return {
        name: _form_with_list(form) if name in kind.settings.conditions else form
        for name, form in forms.items()
    }


def _form_with_list(form: Form) -> Form:
    """Return the form of a condition of tests: one value, or a list with one test per value."""
    about, takes = _split_description(form)
    return about | one_or_more(takes)


def _split_description(form: Form) -> tuple[Form, Form]:
    """Return the annotations of a form, and its constraints."""
    about: Form = {key: value for key, value in form.items() if key in ANNOTATIONS}
    return about, {key: value for key, value in form.items() if key not in about}


def types_of(kind: Kind) -> dict[str, Form]:
    """Return the definitions that `settings_of` refers to, by name."""
    schema = _model(kind.settings, kind.name)
    return {
        f"{kind.name}.types.{key}": _widen_for_files(form)
        for key, form in schema.get("$defs", {}).items()
    }


def values() -> Form:
    """Return the definitions of single words, such as an ID or an amount; `ref` refers to them."""
    return {
        "variable": {
            "description": "Value of an environment variable: ${NAME}, or ${NAME:-default}",
            "type": "string",
            "pattern": _VARIABLE,
        },
        "data_id": pattern(_DATA, "a data ID, such as gan2:pre&real:pre"),
        "model_id": pattern(rf"{_STAGE}(?:#{_STAGE})*", "a model ID, such as gan2:pre%20~relabel"),
        "poison": {
            **pattern(_LABELS, "the percentage of labels to flip: 20, 2.5, or f2r-20"),
            "type": ["string", "number", "null"],
            "minimum": 0,
            "maximum": 100,
        },
        "size": any_of(pattern(_SIZE, "an amount of memory, such as 16GiB"), {"const": 0}),
        "time": pattern(_TIME, "a time, such as 8h or 1h30m"),
        "device": pattern(
            "(?:auto|cpu|cuda(?::[0-9]{1,3}){0,2}|(?:GPU|MIG)-[0-9A-Za-z][0-9A-Za-z/-]{3,95})",
            "a device: auto, cpu, cuda, cuda:0, or the UUID of a GPU",
        ),
        "words": {
            "type": ["object", "null"],
            "propertyNames": {"pattern": f"^{WORD}$"},
            "additionalProperties": one_or_more(PLAIN),
        },
    }


def ref(name: str) -> Form:
    """Return a reference to the definition of this name."""
    return {"$ref": f"#/$defs/{name}"}


def any_of(*forms: Form) -> Form:
    """Return a form that accepts the values of any of several forms, without duplicates."""
    flat: list[Form] = []
    for form in forms:
        flat += form["anyOf"] if set(form) == {"anyOf"} else [form]
    once = list({json.dumps(form, sort_keys=True): form for form in flat}.values())
    return once[0] if len(once) == 1 else {"anyOf": once}


def or_null(form: Form) -> Form:
    """Return a form that also accepts null."""
    return any_of(form, {"type": "null"})


def one_or_more(form: Form) -> Form:
    """Return a form of one value or a list of them."""
    return any_of(form, {"type": "array", "items": form})


def one_of(*words: str) -> Form:
    """Return the form of a choice of words, or a variable."""
    return any_of({"enum": list(words)}, ref("variable"))


def option_form(value_type: ValueType) -> Form:
    """Return the form of a job option; alternatives list all valid values."""
    form = {**value_type.form}
    return form if "anyOf" in form else _widen_for_files(form)


def notify_form() -> Form:
    """Return the form of the notification settings of a run."""
    events = one_or_more(one_of(*NotifyEvent))
    whole_form = mapping({"events": or_null(events), "to": or_null(one_or_more(PLAIN))})
    return any_of({"type": "boolean"}, events, {**whole_form, "type": "object", "minProperties": 1})


def pattern(text: str, description: str) -> Form:
    """Return the form of a text that follows a pattern, or contains a variable."""
    return {
        "description": description[:1].upper() + description[1:],
        "type": "string",
        "pattern": f"^{text}$|{_VARIABLE}",
        "patternErrorMessage": f"expected {description}",  # shown by editors, ignored by other programs
    }


def mapping(properties: Form) -> Form:
    """Return the form of a mapping with only these keys; null is also valid."""
    return {"type": ["object", "null"], "properties": properties, "additionalProperties": False}


def matrix(properties: Form) -> Form:
    """Return the form of a matrix: sweeps by setting, or a list of combinations of settings."""
    sweeps = mapping(properties)
    item = {**sweeps, "type": "object", "minProperties": 1}
    return {**sweeps, "type": ["object", "array", "null"], "items": item, "minItems": 1}


def free_matrix() -> Form:
    """Return the form of a matrix with any names."""
    sweeps = {"type": "object", "additionalProperties": sweep(PLAIN), "minProperties": 1}
    return {**sweeps, "type": ["object", "array", "null"], "items": sweeps, "minItems": 1}


def sweep(form: Form) -> Form:
    """Return the form of the values of a swept setting."""
    labelled = {
        "type": "object",
        "propertyNames": {"pattern": f"^{_VALUE}$"},
        "additionalProperties": form,
        "minProperties": 1,
    }
    return any_of({"type": "array", "items": form, "minItems": 1}, labelled, form)


def old_name_form(current_name: str, form: Form) -> Form:
    """Return a property under its old name, which editors mark as deprecated and do not suggest."""
    message = f"old name; write {current_name}"
    # next to a reference, the editor would ignore the message and suggest the name
    inner = {"allOf": [form]} if "$ref" in form else form
    return {**inner, "description": message, "deprecated": True, "deprecationMessage": message}


def _setting(kind: Kind, name: str, schema: Form) -> Form:
    """Return the form of one setting in a task file."""
    takes = _widen_for_files(schema)
    field = kind.settings.model_fields[name]
    before = BeforeValidator | PlainValidator | WrapValidator
    items = schema.get("prefixItems") or [schema.get("items", {})]
    if schema.get("type") == "array" and any(
        isinstance(validator, before) for validator in field.metadata
    ):
        # pydantic does not know the input of a validator that makes a list; these validators accept one value
        about, core = _split_description(takes)
        takes = {**about, **any_of(_widen_for_files(items[0]), {**core, "minItems": 1})}
    return takes


@cache
def _model(settings: type[Settings], kind: str) -> Form:
    return settings.model_json_schema(ref_template=f"#/$defs/{kind}.types.{{model}}")


def _widen_for_files(schema: Form) -> Form:
    """Return pydantic's schema for files: texts without quotes, and variables for single values."""
    annotations, core = _split_description(schema)
    core.pop("title", None)
    for key in ("anyOf", "oneOf"):
        if key in core:  # a variable matches each of them, which oneOf would not allow
            return {**annotations, **any_of(*(_widen_for_files(form) for form in core[key]))}
    for key in ("items", "additionalProperties", "contains"):
        if isinstance(core.get(key), dict):
            core[key] = _widen_for_files(core[key])
    for key in ("prefixItems", "allOf"):
        if key in core:
            core[key] = [_widen_for_files(form) for form in core[key]]
    if "properties" in core:
        core["properties"] = {
            key: _widen_for_files(form) for key, form in core["properties"].items()
        }
    if core.get("type") == "string" and not _ASKING_MORE & set(core):
        return {**annotations, **core, **PLAIN}
    if core.get("type") in _SCALARS or "enum" in core or "const" in core:
        return {**annotations, **any_of(core, ref("variable"))}
    return {**annotations, **core}


def properties_of(kinds: Sequence[Kind], suffix: str = "") -> Form:
    """Return the properties of the settings of several kinds, old names last.

    Args:
        kinds: Kinds; a shared setting accepts the values of any of them.
        suffix: `VALUES` for sweeps.
    """
    names = dict.fromkeys(name for kind in kinds for name in kind.settings.model_fields)
    taken = {kind.name: settings_of(kind) for kind in kinds}
    forms: Form = {name: _refer_to_forms(kinds, taken, name, suffix) for name in names}
    for kind in kinds:
        for old, now in kind.settings.aliases.items():
            if old not in forms and now in names:
                forms[old] = old_name_form(now, forms[now])
    return forms


def _refer_to_forms(
    kinds: Iterable[Kind], taken_names: Mapping[str, Mapping[str, Form]], name: str, suffix: str
) -> Form:
    """Return references to the distinct forms of a setting."""
    knowing = [kind for kind in kinds if name in kind.settings.model_fields]
    # a kind with its own reader for a value of all kinds does not define its form
    plainly = [kind for kind in knowing if name not in kind.settings.shared]
    forms: list[Form] = []
    refs: list[Form] = []
    for kind in plainly or knowing:
        _, form = _split_description(taken_names[kind.name][name])
        if form not in forms:
            forms.append(form)
            refs.append(ref(f"{kind.name}.{name}{suffix}"))
    return any_of(*refs)
