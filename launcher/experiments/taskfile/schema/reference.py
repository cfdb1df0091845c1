"""The reference of task files as Markdown, generated from the schema for editors.

It automatically contains new words of the language and new settings of kinds (name, type, default, description, old
names).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from launcher.experiments.kind_interface import Kind, Role
from launcher.experiments.taskfile.entries import task_file_kinds
from launcher.experiments.taskfile.language import words_of
from launcher.experiments.taskfile.schema.json_schema import old_words, task_schema
from launcher.experiments.taskfile.schema.json_schema_types import Form, values
from launcher.experiments.taskfile.schema.value_descriptions import (
    Setting,
    describe_form,
    settings,
    value_text,
)
from launcher.queue.job_options.registry import job_options

_Cells = tuple[str, ...]

_ROLES = (
    Role.DATA, Role.LABELS, Role.TRAIN, Role.METHOD, Role.TEST, Role.BENCHMARK, Role.FOLDER,
    Role.PLAIN,
)  # fmt: skip
_DEFINED = "#/$defs/"
_TAKES: Mapping[str, str] = {  # by the word
    "defaults": "a mapping of settings",
    "settings": "a mapping of settings",
    "resources": "a mapping of resources",
    "matrix": "a mapping: for each setting, a list of values or a mapping of names to values. Or a list of "
    "mappings of settings that change together",
    "random": "a mapping of names to distributions",
}
_VALUES: Mapping[str, tuple[str, str]] = {  # the article and the name
    "data_id": ("a", "data ID"),
    "model_id": ("a", "model ID"),
    "poison": ("a", "poison"),
    "size": ("an", "amount of memory"),
    "time": ("a", "time"),
    "device": ("a", "device"),
    "variable": ("a", "variable"),
}
_SHORT: Mapping[str, str] = {
    **{
        name: f"{article} {noun}" for name, (article, noun) in _VALUES.items() if name != "variable"
    },
    "resources": "a mapping of resources",
    "words": "a mapping of words to folders",
}
_ORDER = (
    "name", "about", "include", "defaults", "resources", "matrix",
    "phases", "reuse", "share", "notify", "pass_env", "subsets", "modifiers", "autotest",
)  # fmt: skip


def reference(kinds: Mapping[str, Kind]) -> str:
    """Return the reference of task files that use these kinds, as Markdown below a `##` heading."""
    kinds = {kind.name: kind for kind in sorted(task_file_kinds(kinds).values(), key=_place)}
    schema = cast("Form", task_schema(kinds))
    kind_of_row: dict[_Cells, str] = {}
    parts = [
        _file(schema, kinds),
        _values(),
        _resources(),
        *(_kind(kind, schema, kind_of_row) for kind in kinds.values()),
        _old_words_section(schema, kinds),
    ]
    return "\n\n".join(parts) + "\n"


def _place(kind: Kind) -> tuple[int, int, str]:
    """Return the sort key of a kind: the order of the work, then the number of settings."""
    return _ROLES.index(kind.role), -len(kind.settings.model_fields), kind.name


def _file(schema: Form, kinds: Mapping[str, Kind]) -> str:
    words = schema["properties"]
    rows = [_word(name, words[name]) for name in _ORDER]
    for name, kind in kinds.items():
        if kind.role is Role.LABELS:  # trainings request poisons
            continue
        takes = f"a list of entries of [{name}](#{name})"
        if kind.role is Role.METHOD:
            takes += ", or only methods"
        rows.append((f"`{name}`", takes, words[name]["description"]))
    return "\n".join(["### Keys of a file", "", *table(("key", "takes", "meaning"), rows)])


def _values() -> str:
    rows = []
    for name, form in values().items():
        if name == "words":
            continue
        described = form if "description" in form else form["anyOf"][0]
        rows.append((_VALUES[name][1], described["description"]))
    head = ["### Values", "", *table(("value", "meaning"), rows), ""]
    return "\n".join([*head, "Each single value can also be a variable."])


def _resources() -> str:
    rows = [
        (f"`{name}`", option.takes.expected, _code(option.default), _sentence(option.help))
        for name, option in job_options().items()
    ]
    head = ("option", "takes", "default", "meaning")
    return "\n".join(["### Resources", "", *table(head, rows)])


def _kind(kind: Kind, schema: Form, kind_of_row: dict[_Cells, str]) -> str:
    """Return the section of a kind: the words of its entries, then its settings.

    Args:
        kind: Kind to describe.
        schema: Schema of all kinds.
        kind_of_row: Row → the earlier kind with the same row; rows of this kind are added.
    """
    lines = [f"### {kind.name}", "", _sentence(kind.summary)]
    entry = schema["$defs"].get(f"{kind.name}.entry")
    if entry is not None:
        required = entry.get("required", ())
        words = [
            _word(name, entry["properties"][name], is_required=name in required)
            for name in words_of(kind)
        ]
        lines += ["", *table(("key of an entry", "takes", "meaning"), words)]
    else:
        lines += [
            "",
            "It has no section of its own. To create these jobs, write `poison` in an entry of a training.",
        ]
    rows = [_row(setting) for setting in settings(kind)]
    if own := [row for row in rows if row not in kind_of_row]:
        head = ("setting", "takes", "default", "meaning", "old names")
        lines += ["", *table(head, own)]
    same: dict[str, list[str]] = {}
    for row in rows:
        if row in kind_of_row:
            same.setdefault(kind_of_row[row], []).append(row[0])
        kind_of_row.setdefault(row, kind.name)
    for name, shared in same.items():
        lines += ["", f"As in [{name}](#{name}): {', '.join(shared)}."]
    return "\n".join(lines)


def _old_words_section(schema: Form, kinds: Mapping[str, Kind]) -> str:
    """Return the words of the original launcher.py that are read as current words."""
    words = old_words(kinds)
    rows = [
        (f"`{name}`", words[name][0])
        for name, form in schema["properties"].items()
        if name in words and form.get("deprecated")
    ]
    more = "A setting at the top of a file is read as if it were below `defaults`."
    return "\n".join(["### Old names", "", *table(("old name", "write"), rows), "", more])


def _word(name: str, form: Form, *, is_required: bool = False) -> tuple[str, str, str]:
    meaning = form.get("description", "")
    if is_required:
        meaning = f"{meaning} (required)".strip()
    return (f"`{name}`", _TAKES.get(name) or _describe_form(form), meaning)


def _row(setting: Setting) -> _Cells:
    default = "(required)" if setting.required else _code(value_text(setting.default))
    description = setting.description.replace("<", "\\<")
    names = ", ".join(map(_code, setting.old_names))
    return (_code(setting.name), setting.takes, default, description, names)


def _describe_form(form: Form) -> str:
    """Return the description of a form, with the terms of the language for IDs and amounts."""
    if "$ref" in form:
        return _referenced_form(form["$ref"].removeprefix(_DEFINED))
    if "anyOf" in form:
        return _describe_alternatives(form["anyOf"])
    return describe_form(form)


def _describe_alternatives(forms: Sequence[Form]) -> str:
    choices: dict[str, None] = {}  # in order
    many = False
    for form in forms:
        items = form.get("items") if form.get("type") == "array" else None
        each = _describe_form(items) if items else ""
        if each and each in choices:
            many = True
        elif choice := _describe_form(form) if items is None else f"a list, each {each}":
            choices[choice] = None
    words = " or ".join(choices)
    return f"{words}, or a list of them" if many else words


def _referenced_form(name: str) -> str:
    if name in _SHORT:
        return _SHORT[name]
    if name == "variable":
        return ""
    kind, _, part = name.partition(".")
    return f"the same values as `{part}` of [{kind}](#{kind})"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Return the lines of a Markdown table; completely empty columns are omitted."""
    cells = [tuple(str(cell).replace("|", "\\|") for cell in row) for row in rows]
    kept = [index for index in range(len(head)) if any(row[index] for row in cells)]
    lines = [tuple(head[index] for index in kept), tuple("---" for _ in kept)]
    lines += [tuple(row[index] for index in kept) for row in cells]
    return [f"| {' | '.join(line)} |" for line in lines]


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."
