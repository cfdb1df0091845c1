"""The words of the language: at the top of a file, and in an entry by the role of its kind.

Reader, JSON schema and reference are generated from these two tables. A form of None depends on the kinds; the
schema generates it.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from launcher.experiments.kind_interface import Kind, Role
from launcher.experiments.taskfile.legacy_names import OLD_WORDS
from launcher.experiments.taskfile.nodes import GivenSetting, Node, ScalarNode
from launcher.experiments.taskfile.schema.json_schema_types import (
    NAME,
    PLAIN,
    PROGRAM_NAME,
    WORD,
    Form,
    any_of,
    notify_form,
    one_of,
    one_or_more,
    option_form,
    or_null,
    pattern,
    ref,
)
from launcher.experiments.taskfile.settings import TWO_NAMES, KnownSettings
from launcher.queue.job_options.registry import job_options, old_option_names
from launcher.queue.job_options.value_types import SHARE
from launcher.queue.jobs.job import MOST_RUN_NAME
from launcher.system.errors import Problem, Problems

ALL_POISONED = "poisoned"  # instead of a model: every model with changed training labels
LONGEST_NAME = 100  # characters of a job's name
_MODEL, _DATA = ref("model_id"), ref("data_id")
IDS = one_or_more(_DATA)
_NAMES = or_null(one_or_more(PLAIN))
_RUN_NAME = {
    **pattern(NAME, "the name of the run and of its folder below runs/"),
    "type": ["string", "number"],
    "maxLength": MOST_RUN_NAME,
}
# For an option that is written in a wrong place.
RESOURCE_HINTS: Mapping[str, str] = {
    **{name: f"write it below resources: {{{name}: …}}" for name in job_options()},
    **{old: f"write resources: {{{now}: …}}" for old, now in old_option_names().items()},
}


class Reuse(StrEnum):
    """The parts of earlier runs that are used again."""

    RESULTS = "results"  # jobs that are done with the same hash do not run again
    WEIGHTS = "weights"  # all jobs run again; trainings start from the weights in their folder
    NOTHING = "nothing"  # all jobs run again from scratch


class Word(NamedTuple):
    """A word of the language."""

    about: str  # the word's meaning; '': clear from its name
    form: Form | None = None  # the valid values
    required_text: str = ""  # the error text if an entry lacks the word; '': optional

    def form_with_description(self, form: Form | None = None) -> Form:
        """Return its form with its description; `form` replaces a form that depends on the kinds."""
        return {**({"description": self.about} if self.about else {}), **(self.form or form or {})}


TOP: Mapping[str, Word] = {
    "name": Word("", _RUN_NAME),
    "about": Word("Description of the run, in one line", {"type": [*PLAIN["type"], "null"]}),
    "include": Word(
        "Other task files, relative to this one. Their sections are read before those of this file",
        _NAMES,
    ),
    "phases": Word(
        "Run only jobs of these types, with the data, poison and programs that they need"
    ),
    "reuse": Word(
        "With results, finished jobs do not run again. With weights, all jobs run again and trainings "
        "start from their own weights. With nothing, all jobs run again from the start",
        {"default": "results", **or_null(one_of(*map(str, Reuse)))},
    ),
    "share": Word(
        "Share of the machine while other runs wait. A run with share 3 gets three times the GPU time "
        "of a run with share 1",
        {"default": 1, **or_null(option_form(SHARE))},
    ),
    "notify": Word("Events of the run for which a message is sent", or_null(notify_form())),
    "pass_env": Word(
        "Environment variables to store for the jobs although they look like secrets", _NAMES
    ),
    "subsets": Word("Your own subsets for data IDs, each with its folders", ref("words")),
    "modifiers": Word("Your own modifiers for data IDs, each with its folders", ref("words")),
    "defaults": Word(
        "Settings of all job types that have them. Below the name of a job type, its settings only"
    ),
    "resources": Word(
        "Resources of all jobs. Below the name of a job type, those of its jobs only"
    ),
    "matrix": Word("Use the whole file once per combination of these values"),
    "autotest": Word("Data IDs on which every model of this file is tested", or_null(IDS)),
}

_SEARCH = {
    "search": Word(
        "Choose values by results. Keys are metric, trials and values, with a range such as 1e-5..1e-1:log or "
        "a list for each name. Further keys are parallel, sampler, pruner, repeat and seed",
        {"type": ["object", "null"]},
    )
}
_MATRIX = {"matrix": Word("Use this entry once per combination of these values"), **_SEARCH}
_COMMON = {
    "after": Word("Jobs that must be done first, by name, pattern or model ID", _NAMES),
    "after_any": Word(
        "Jobs that must have ended first, done or not, by name, pattern or model ID", _NAMES
    ),
    "resources": Word("Resources of these jobs", ref("resources")),
    "settings": Word("Settings, also those with the name of another key"),
}


def _name_word(meaning: str, letters: str = WORD) -> Mapping[str, Word]:
    takes = {"type": ["string", "number", "null"], "maxLength": LONGEST_NAME}
    return {"name": Word("", {**pattern(letters, meaning), **takes})}


def _whole_number(**limits: int) -> Form:
    return or_null(any_of({"type": "integer", **limits}, ref("variable")))


_JOB = {**_name_word("the name of the job"), **_COMMON}
WORDS: Mapping[Role, Mapping[str, Word]] = {
    Role.DATA: _JOB,
    Role.TRAIN: {
        "model": Word("Model to fine-tune. null: a new model", or_null(_MODEL)),
        "data": Word("", _DATA, "a data ID"),
        "poison": Word("Percentage of labels to flip", one_or_more(ref("poison"))),
        **_MATRIX,
        **_COMMON,
    },
    Role.METHOD: {
        "model": Word(
            "Model to unlearn. poisoned: every poisoned model",
            any_of(_MODEL, {"const": ALL_POISONED}),
            "a model ID",
        ),
        "method": Word("Unlearning method", None, "a method"),
        **_MATRIX,
        **_COMMON,
    },
    Role.TEST: {
        "model": Word("", _MODEL, "a model ID"),
        "data": Word("", IDS, "a data ID"),
        **_COMMON,
    },
    Role.BENCHMARK: {
        "model": Word("Models to score. Default: every model of the file", one_or_more(_MODEL)),
        "test": Word("Images on which each model is scored", IDS, "a data ID"),
        **_COMMON,
    },
    Role.FOLDER: {
        **_name_word("the name of the folder, from which other jobs can start"),
        "matrix": _MATRIX["matrix"],
        **_COMMON,
    },
    Role.PLAIN: _JOB,
}

_OF_PROGRAMS: Mapping[str, Word] = {
    **_name_word("the name of the job", PROGRAM_NAME),
    "matrix": Word(
        "Use this entry once per combination of these values. {NAME} in its texts is replaced by the value"
    ),
    **_SEARCH,
    "flags": Word(
        "Flags with and without which this entry is used. {NAME} as an argument is --NAME or nothing",
        or_null(one_or_more(pattern(r"[A-Za-z_][A-Za-z0-9_.\-]*", "the name of a flag"))),
    ),
    "random": Word(
        "Values drawn at random, alone or together with matrix. Write NAME: LOW..HIGH, LOW..HIGH..STEP, "
        "LOW..HIGH:log or [VALUE, VALUE]",
        {"type": ["object", "null"], "additionalProperties": one_or_more(PLAIN)},
    ),
    "count": Word("Number of draws", _whole_number(minimum=1, maximum=10_000)),
    "seed": Word(
        "Seed of the draws. A larger count keeps the draws of a smaller one",
        _whole_number(minimum=0),
    ),
}


def words_of(kind: Kind) -> Mapping[str, Word]:
    """Return the words of an entry of a kind."""
    return WORDS[kind.role] if kind.entry else {**WORDS[kind.role], **_OF_PROGRAMS}


def settings_among(
    pairs: Iterable[tuple[ScalarNode, Node]],
    known_settings: KnownSettings,
    subject: str,
    problems: Problems,
    *,
    nearby: Iterable[str] = (),
    hints: Mapping[str, str] | None = None,
) -> dict[str, GivenSetting]:
    """Return the settings among `pairs`, outside of entries; report unknown ones.

    Args:
        pairs: Keys and their values.
        known_settings: Valid settings.
        subject: Completes "'modle' is not …".
        problems: List to which problems are added.
        nearby: Further valid words, which a message does not list.
        hints: Remedies for names that are not settings here.
    """

    def refuse(key: ScalarNode) -> Problem:
        hint = RESOURCE_HINTS.get(key.text, "")
        if not hint and (key.text in OLD_WORDS or key.text in TOP):
            hint = "it is not a setting; write it at the top of the file"
        hint = hint or (hints or {}).get(key.text, "")
        return known_settings.unknown_key_problem(
            key, subject, hint, nearby=nearby if len(known_settings.kinds) > 1 else ()
        )

    return known_settings.read_given(pairs, problems, refuse, TWO_NAMES)
