"""Descriptions of the valid values of settings."""

import json
from collections.abc import Mapping
from typing import NamedTuple

from launcher.experiments.kind_interface import Kind
from launcher.experiments.taskfile.schema.json_schema_types import Form, settings_of
from launcher.system.files import Json

_SINGLE: Mapping[str, str] = {
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
    "object": "a mapping",
}
_MANY: Mapping[str, str] = {
    "a string": "strings",
    "a whole number": "whole numbers",
    "a number": "numbers",
}
_BOUNDS: Mapping[str, str] = {
    "minimum": "at least",
    "exclusiveMinimum": "more than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
}


class Setting(NamedTuple):
    """The description of one setting of a kind."""

    name: str
    takes: str
    default: Json
    required: bool
    description: str
    old_names: tuple[str, ...]

    def cells(self) -> tuple[str, ...]:
        """Return the setting as a row: name, valid values, default, description, old names."""
        default = "(required)" if self.required else value_text(self.default)
        old = ", ".join(self.old_names)
        return (self.name, self.takes, default, self.description, old)

    def to_json(self) -> dict[str, Json]:
        """Return the setting as JSON."""
        return {
            "name": self.name,
            "type": self.takes,
            "required": self.required,
            "default": self.default,
            "description": self.description,
            "old_names": list(self.old_names),
        }


def settings(kind: Kind) -> tuple[Setting, ...]:
    """Return the settings of a kind in the order of their declaration."""
    old: dict[str, list[str]] = {}
    for name, now in kind.settings.aliases.items():
        old.setdefault(now, []).append(name)
    return tuple(
        Setting(
            name=name,
            takes=describe_form(form),
            default=form.get("default"),
            required=kind.settings.model_fields[name].is_required(),
            description=form.get("description", ""),
            old_names=tuple(old.get(name, ())),
        )
        for name, form in settings_of(kind).items()
    )


def describe_form(form: Form) -> str:
    """Return the description of a form, without variables."""
    if "anyOf" in form:
        choices = dict.fromkeys(describe_form(choice) for choice in form["anyOf"])
        return " or ".join(choice for choice in choices if choice)
    if "enum" in form:
        return " or ".join(map(value_text, form["enum"]))
    if "const" in form:
        return value_text(form["const"])
    kind = form.get("type")
    if kind == "array":
        return _describe_list(form)
    if isinstance(kind, list):  # a text that may look like another type
        return "a string"
    if kind is None:
        if form.get("$ref", "").endswith("/variable"):
            return ""
        return "a mapping" if {"$ref", "allOf"} & set(form) else "anything"
    return _SINGLE[kind] + _bounds(form)


def _describe_list(form: Form) -> str:
    items = [describe_form(prefix) for prefix in form.get("prefixItems", ())]
    if len(set(items)) > 1:
        return f"a list of {', '.join(items)}"
    item = items[0] if items else describe_form(form.get("items", {}))
    many = _MANY.get(item)
    count = (
        f" {len(items)}" if items else f" {form['minItems']} or more" if "minItems" in form else ""
    )
    if count:
        return f"a list of{count} {many}" if many else f"a list of{count}, each {item}"
    return f"a list of {many}" if many else f"a list, each {item}"


def _bounds(form: Form) -> str:
    if "minimum" in form and "maximum" in form:
        return f" from {form['minimum']:g} to {form['maximum']:g}"
    bounds = [f"{words} {form[key]:g}" for key, words in _BOUNDS.items() if key in form]
    return f", {' and '.join(bounds)}" if bounds else ""


def value_text(value: Json) -> str:
    """Return a value as written in a task file."""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
