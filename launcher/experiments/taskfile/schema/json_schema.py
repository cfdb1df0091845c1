"""The language of task files as a JSON Schema for editors, generated from the settings of the kinds.

It refuses invalid forms: unknown words, wrong types, and IDs that do not follow the grammar. It accepts
faults that only a plan detects, such as an unknown model or subset, or a missing setting.
"""

import json
from collections.abc import Mapping
from typing import cast

from launcher.experiments.kind_interface import Kind, Role
from launcher.experiments.taskfile.entries import kind_of_role, task_file_kinds
from launcher.experiments.taskfile.language import IDS, TOP, words_of
from launcher.experiments.taskfile.legacy_names import LABELS_RATE, OLD_WORDS
from launcher.experiments.taskfile.schema.json_schema_types import (
    PLAIN,
    VALUES,
    WORD,
    Form,
    any_of,
    free_matrix,
    mapping,
    matrix,
    old_name_form,
    one_of,
    one_or_more,
    option_form,
    or_null,
    pattern,
    properties_of,
    ref,
    settings_of,
    sweep,
    types_of,
    values,
)
from launcher.queue.job_options.registry import JobOption, job_options, old_option_names
from launcher.system.files import Json

DIALECT = "https://json-schema.org/draft/2020-12/schema"

# kinds whose settings may be swept
_MAKERS = frozenset({Role.TRAIN, Role.METHOD, Role.LABELS, Role.FOLDER})


def task_schema(kinds: Mapping[str, Kind]) -> dict[str, Json]:
    """Return the JSON Schema (draft 2020-12) of task files that use these kinds."""
    kinds, installed = task_file_kinds(kinds), kinds
    schema = {
        "$schema": DIALECT,
        "title": "task file",
        "description": "Jobs that `launcher run` plans and queues.",
        "type": "object",
        "properties": {
            **_old_words(kinds),  # first: a setting may have the same name as a word
            **_top_forms(kinds, installed),
            **_section_forms(kinds),
        },
        "anyOf": [{"required": [word]} for word in ("name", "run_name", "include")],
        "additionalProperties": False,
        "$defs": {**values(), "resources": mapping(_resources()), **_forms_of_kinds(kinds)},
    }
    return cast("dict[str, Json]", schema)


def _top_forms(kinds: Mapping[str, Kind], installed_kinds: Mapping[str, Kind]) -> Form:
    """Return the top-level words of a file with their forms."""
    makers = {name: kind for name, kind in kinds.items() if kind.role in _MAKERS}
    forms: Form = {
        "phases": or_null(one_or_more(one_of(*kinds))),
        "defaults": mapping(
            {**_setting_forms_by_kind(kinds, "settings"), **_label_change_form(kinds)}
        ),
        "resources": mapping(
            {**_resources(), **{name: ref("resources") for name in installed_kinds}}
        ),
        "matrix": matrix(_setting_forms_by_kind(makers, "matrix", VALUES)),
    }
    return {name: word.form_with_description(forms.get(name)) for name, word in TOP.items()}


def _section_forms(kinds: Mapping[str, Kind]) -> Form:
    """Return the lists of jobs: one section per kind."""
    sections: Form = {}
    for name, kind in kinds.items():
        if kind.role is Role.LABELS:
            continue
        entry = ref(f"{name}.entry")
        section = {"type": ["array", "null"], "items": entry}
        if kind.role is Role.METHOD:  # a list of methods, or one method, is also valid
            method = _method(kind)
            section = any_of({**section, "items": any_of(entry, method)}, method)
        sections[name] = {"description": kind.summary, **section}
    return sections


def old_words(kinds: Mapping[str, Kind]) -> dict[str, tuple[str, Form]]:
    """Return the words of the original launcher.py with their replacement and form."""
    size = any_of(ref("size"), {"type": ["number", "null"]})  # in MiB
    words: dict[str, tuple[str, Form]] = {
        "run_name": ("name", TOP["name"].form_with_description()),
        "device_override": ("resources: {device: …}", or_null(PLAIN)),
        "min_vram": ("resources: {vram: …}", size),
        "clean_run": ("reuse: nothing", {"type": "boolean"}),
        "data_list": ("autotest", or_null(IDS)),
        LABELS_RATE: _share_forms(),
    }
    sections = _section_forms(kinds)
    tests = [form for form in (sections.get("test"), or_null(IDS)) if form is not None]
    words["test_list"] = ("autotest, or test", any_of(*tests))
    if "train" in sections:
        words["train_list"] = ("train", sections["train"])
    for word in OLD_WORDS:  # those that are now options or verbs of the command line
        words.setdefault(word, ("an option of launcher run or of launcher results", {}))
    return words


def _old_words(kinds: Mapping[str, Kind]) -> Form:
    """Return the words of the original launcher.py, and settings outside of `defaults`."""
    today = {old: now for kind in kinds.values() for old, now in kind.settings.aliases.items()}
    forms = properties_of(list(kinds.values()))
    beside = {
        name: old_name_form(f"defaults: {{{today.get(name, name)}: …}}", form)
        for name, form in forms.items()
        if name not in kinds
    }
    return {**beside, **{word: old_name_form(*old) for word, old in old_words(kinds).items()}}


def _forms_of_kinds(kinds: Mapping[str, Kind]) -> Form:
    """Return per kind: each setting, all settings, their sweeps, and its entry."""
    forms: Form = {}
    for name, kind in kinds.items():
        forms |= types_of(kind)
        for key, form in settings_of(kind).items():
            forms[f"{name}.{key}"] = form
            if kind.role in _MAKERS:
                forms[f"{name}.{key}{VALUES}"] = sweep(ref(f"{name}.{key}"))
        forms[f"{name}.settings"] = mapping(properties_of([kind]))
        if kind.role in _MAKERS:
            forms[f"{name}.matrix"] = matrix(properties_of([kind], VALUES))
        if kind.role is not Role.LABELS:
            forms[f"{name}.entry"] = _entry(kinds, kind)
    return forms


def _entry(kinds: Mapping[str, Kind], kind: Kind) -> Form:
    labeller = kind_of_role(kinds, kind, Role.LABELS) if kind.role is Role.TRAIN else None
    family = [kind] if labeller is None else [kind, labeller]
    own = properties_of(family)
    asked = words_of(kind)["resources"]
    beside = own
    if not kind.entry:  # as on the command line of `launcher add`
        more = ". Each option can also be written directly in the entry"
        asked = asked._replace(about=asked.about + more)
        beside = {**_resources(), **own}
    forms: Form = {
        "method": one_or_more(_method(kind)),
        "matrix": matrix(properties_of(family, VALUES)) if kind.entry else free_matrix(),
        "settings": mapping(own),
    }
    words = {**words_of(kind), "resources": asked}
    told: Form = {}
    for name, word in words.items():
        told[name] = word.form_with_description(forms.get(name))
        if name == "poison":
            told[LABELS_RATE] = old_name_form(*_share_forms())
    required = [name for name, word in words.items() if word.required_text]
    entry = {**mapping({**beside, **told}), "type": "object"}  # an empty entry is a mistake
    return {"description": kind.summary, **entry, **({"required": required} if required else {})}


def _method(kind: Kind) -> Form:
    if "method" in kind.settings.model_fields:
        return ref(f"{kind.name}.method")
    return pattern(WORD, "an unlearning method")


def _resources() -> Form:
    """Return the forms of the resources of a job."""
    options = job_options()
    takes = {name: option_form(option.takes) for name, option in options.items()}
    today = {
        name: {
            "description": option.summary,
            **({"default": _default(option)} if option.default else {}),
            **takes[name],
        }
        for name, option in options.items()
    }
    return {
        **today,
        **{old: old_name_form(now, takes[now]) for old, now in old_option_names().items()},
    }


def _default(option: JobOption) -> Json:
    return option.default if option.takes.is_text else cast("Json", json.loads(option.default))


def _share_forms() -> tuple[str, Form]:
    """Return the replacement and the form of poisons as counted by the original."""
    takes = any_of({"type": "number", "minimum": 0, "maximum": 1}, ref("variable"))
    return "poison, in percent", one_or_more(takes)


def _label_change_form(kinds: Mapping[str, Kind]) -> Form:
    """Return the form of `defaults` below the name of a kind of poisons: its settings, or rates."""
    rates = one_or_more(ref("poison"))
    forms: Form = {
        name: any_of(ref(f"{name}.settings"), rates)
        for name, kind in kinds.items()
        if kind.role is Role.LABELS
    }
    return {**forms, LABELS_RATE: old_name_form(*_share_forms())} if forms else {}


def _setting_forms_by_kind(kinds: Mapping[str, Kind], part: str, suffix: str = "") -> Form:
    """Return all settings for all kinds, and the settings of each kind below its name."""
    forms = properties_of(list(kinds.values()), suffix)
    for name, kind in kinds.items():
        own = {"description": f"Only for {name}: {kind.summary}", **ref(f"{name}.{part}")}
        forms[name] = any_of(own, forms[name]) if name in forms else own
    return forms
