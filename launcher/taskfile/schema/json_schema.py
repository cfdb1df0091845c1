"""The language of task files as a JSON Schema, for editors: made from the settings of the kinds.

It refuses what is wrong in form: unknown words, wrong types, IDs that the grammar refuses. What only a
plan finds, such as a model that no entry makes, a subset that the laboratory lacks or a setting that is
missing, it lets pass.
"""

import json
from collections.abc import Mapping
from typing import cast

from launcher.job_options.registry import JobOption, job_options, renamed_options
from launcher.job_options.value_types import SHARE
from launcher.kind_interface import Kind, Role
from launcher.system.files import Json
from launcher.taskfile.entries import companion, written
from launcher.taskfile.header import MOST_NAME_BYTES, Reuse
from launcher.taskfile.legacy_names import LABELS_RATE, OLD_WORDS
from launcher.taskfile.schema.json_schema_types import (
    NAME,
    PLAIN,
    VALUES,
    WORD,
    Form,
    any_of,
    mapping,
    matrix,
    notify_form,
    old_name,
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

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_MAKERS = frozenset(
    {Role.TRAIN, Role.METHOD, Role.LABELS, Role.FOLDER}
)  # their settings may be swept
_IDS = one_or_more(ref("data_id"))


def task_schema(kinds: Mapping[str, Kind]) -> dict[str, Json]:
    """Return the JSON Schema (draft 2020-12) of task files that use these kinds."""
    kinds, installed = written(kinds), kinds
    schema = {
        "$schema": DIALECT,
        "title": "task file",
        "description": "What `launcher run` plans and queues.",
        "type": "object",
        "properties": {
            **_old_words(kinds),  # first: a setting may have the name of a word
            **_head(),
            **_general(kinds, installed),
            **_sections(kinds),
        },
        "anyOf": [{"required": [word]} for word in ("name", "run_name", "include")],
        "additionalProperties": False,
        "$defs": {**values(), "resources": mapping(_resources()), **_of_kinds(kinds)},
    }
    return cast("dict[str, Json]", schema)


def _head() -> Form:
    """Return the words that stand at the top of a file."""
    return {
        "name": {
            **pattern(NAME, "name of the run, and of its folder below runs/"),
            "type": ["string", "number"],
            "maxLength": MOST_NAME_BYTES,
        },
        "about": {
            "description": "what the run is about, in one line",
            "type": [*PLAIN["type"], "null"],
        },
        "include": {
            "description": "other task files whose sections come first; relative to this one",
            **or_null(one_or_more(PLAIN)),
        },
    }


def _general(kinds: Mapping[str, Kind], installed: Mapping[str, Kind]) -> Form:
    """Return the words that hold for the whole file."""
    makers = {name: kind for name, kind in kinds.items() if kind.role in _MAKERS}
    return {
        "phases": {
            "description": "only these kinds of jobs, and what they need",
            **or_null(one_or_more(one_of(*kinds))),
        },
        "reuse": {
            "description": "results: what is done already does not run again; weights: all runs "
            "again, trainings go on from their own weights; nothing: all runs anew",
            "default": "results",
            **or_null(one_of(*map(str, Reuse))),
        },
        "share": {
            "description": "the run's part of the machine while other runs wait, too: one with 3 gets "
            "three times as much as one with 1",
            "default": 1,
            **or_null(option_form(SHARE)),
        },
        "notify": {"description": "what its owner is told of the run", **or_null(notify_form())},
        "pass_env": {
            "description": "variables that the jobs remember though they look like secrets",
            **or_null(one_or_more(PLAIN)),
        },
        "subsets": {"description": "words of your own for data IDs: folders", **ref("words")},
        "modifiers": {"description": "words of your own for data IDs: folders", **ref("words")},
        "defaults": {
            "description": "settings of every kind that knows them; below a kind's name of it alone",
            **mapping({**_by_kind(kinds, "settings"), **_label_changes(kinds)}),
        },
        "resources": {
            "description": "what every job asks for; below a kind's name what its jobs ask for",
            **mapping({**_resources(), **{name: ref("resources") for name in installed}}),
        },
        "matrix": {
            "description": "the whole file once for every combination of these values",
            **matrix(_by_kind(makers, "matrix", VALUES)),
        },
    }


def _sections(kinds: Mapping[str, Kind]) -> Form:
    """Return the lists of jobs: one section for each kind, and the tests of all models."""
    data = {"description": "test every model of this file on these", **or_null(_IDS)}
    sections: Form = {"autotest": data}
    for name, kind in kinds.items():
        if kind.role is Role.LABELS:
            continue
        entry = ref(f"{name}.entry")
        section = {"type": ["array", "null"], "items": entry}
        if kind.role is Role.METHOD:  # or the methods alone, or one
            method = _method(kind)
            section = any_of({**section, "items": any_of(entry, method)}, method)
        sections[name] = {"description": kind.summary, **section}
    return sections


def old_words(kinds: Mapping[str, Kind]) -> dict[str, tuple[str, Form]]:
    """Return the words of the original launcher.py: what to write today, and what each takes."""
    size = any_of(ref("size"), {"type": ["number", "null"]})  # in MiB
    words: dict[str, tuple[str, Form]] = {
        "run_name": ("name", _head()["name"]),
        "device_override": ("resources: {device: …}", or_null(PLAIN)),
        "min_vram": ("resources: {vram: …}", size),
        "clean_run": ("reuse: nothing", {"type": "boolean"}),
        "data_list": ("autotest", or_null(_IDS)),
        LABELS_RATE: _share(),
    }
    sections = _sections(kinds)
    tests = [form for form in (sections.get("test"), or_null(_IDS)) if form is not None]
    words["test_list"] = ("autotest, or test", any_of(*tests))
    if "train" in sections:
        words["train_list"] = ("train", sections["train"])
    for word in OLD_WORDS:  # those that are options or verbs of the command line today
        words.setdefault(word, ("an option of launcher run, or launcher results", {}))
    return words


def _old_words(kinds: Mapping[str, Kind]) -> Form:
    """Return the words of the original launcher.py, and settings outside of `defaults`."""
    today = {old: now for kind in kinds.values() for old, now in kind.settings.aliases.items()}
    forms = properties_of(list(kinds.values()))
    beside = {
        name: old_name(f"defaults: {{{today.get(name, name)}: …}}", form)
        for name, form in forms.items()
        if name not in kinds
    }
    return {**beside, **{word: old_name(*old) for word, old in old_words(kinds).items()}}


def _of_kinds(kinds: Mapping[str, Kind]) -> Form:
    """Return for each kind its settings one by one, all of them, their sweeps, and its entry."""
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
    labeller = companion(kinds, kind, Role.LABELS) if kind.role is Role.TRAIN else None
    family = [kind] if labeller is None else [kind, labeller]
    own = properties_of(family)
    words, required = _words(kind)
    if kind.role in {Role.TRAIN, Role.METHOD, Role.FOLDER}:
        sweeps = matrix(properties_of(family, VALUES))
        words["matrix"] = {"description": "this entry once for every combination", **sweeps}
    if kind.role is not Role.LABELS:
        words |= _followed()
    asked, beside = "what its jobs ask for", own
    if not kind.entry:  # as on the command line of `launcher add`
        asked += "; each option may also stand right in the entry"
        beside = {**_resources(), **own}
    words["resources"] = {"description": asked, **ref("resources")}
    words["settings"] = {
        "description": "settings that have the name of a word, or any other",
        **mapping(own),
    }
    entry = {**mapping({**beside, **words}), "type": "object"}  # an entry of nothing is a slip
    return {"description": kind.summary, **entry, **({"required": required} if required else {})}


def _followed() -> Form:
    """Return the words that name the jobs before those of an entry."""
    names = or_null(one_or_more(PLAIN))
    named = "by name, glob, or model ID"
    return {
        "after": {"description": f"jobs that must be done before: {named}", **names},
        "after_any": {
            "description": f"jobs that must have ended before, done or not: {named}",
            **names,
        },
    }


def _words(kind: Kind) -> tuple[Form, list[str]]:
    """Return the words of the language in an entry of this kind, and which must stand there."""
    model, data = ref("model_id"), ref("data_id")
    match kind.role:
        case Role.TRAIN:
            start = {"description": "the model to fine-tune; null: a new one", **or_null(model)}
            rates = {"description": "how many labels are wrong", **one_or_more(ref("poison"))}
            old = {LABELS_RATE: old_name(*_share())}
            return {"model": start, "data": data, "poison": rates, **old}, ["data"]
        case Role.METHOD:
            base = any_of(model, {"const": "poisoned"})
            start = {"description": "what forgets; poisoned: each poisoned model", **base}
            method = {"description": "how it forgets", **one_or_more(_method(kind))}
            return {"model": start, "method": method}, ["model", "method"]
        case Role.TEST:
            return {"model": model, "data": _IDS}, ["model", "data"]
        case Role.BENCHMARK:
            named = {
                "description": "which models; none: every model of the file",
                **one_or_more(model),
            }
            tested = {"description": "the images that each is scored on", **_IDS}
            return {"model": named, "test": tested}, ["test"]
        case Role.FOLDER:
            return {"name": _named("name of the folder, for others to start from it")}, []
        case Role.DATA | Role.PLAIN | Role.LABELS | Role.SHARED:
            return {"name": _named("name of the job")}, []


def _named(description: str) -> Form:
    takes = {"type": ["string", "number", "null"], "maxLength": 100}
    return {**pattern(WORD, description), **takes}


def _method(kind: Kind) -> Form:
    if "method" in kind.settings.model_fields:
        return ref(f"{kind.name}.method")
    return pattern(WORD, "an unlearning method")


def _resources() -> Form:
    """Return what a job may ask for."""
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
    return {**today, **{old: old_name(now, takes[now]) for old, now in renamed_options().items()}}


def _default(option: JobOption) -> Json:
    return option.default if option.takes.is_text else cast("Json", json.loads(option.default))


def _share() -> tuple[str, Form]:
    """Return what to write for poisons as the original counts them, and the form of those."""
    takes = any_of({"type": "number", "minimum": 0, "maximum": 1}, ref("variable"))
    return "poison, which counts in percent", one_or_more(takes)


def _label_changes(kinds: Mapping[str, Kind]) -> Form:
    """Return what `defaults` takes below the name of a kind that poisons: its settings, or rates."""
    rates = one_or_more(ref("poison"))
    forms: Form = {
        name: any_of(ref(f"{name}.settings"), rates)
        for name, kind in kinds.items()
        if kind.role is Role.LABELS
    }
    return {**forms, LABELS_RATE: old_name(*_share())} if forms else {}


def _by_kind(kinds: Mapping[str, Kind], part: str, suffix: str = "") -> Form:
    """Return all settings for all kinds, and below the name of each kind its own."""
    forms = properties_of(list(kinds.values()), suffix)
    for name, kind in kinds.items():
        own = {"description": f"of {name} alone: {kind.summary}", **ref(f"{name}.{part}")}
        forms[name] = any_of(own, forms[name]) if name in forms else own
    return forms
