"""The words of the language: at the top of a file, and in an entry by the role of its kind.

Reader, JSON schema and reference are made from these two tables. A form of None is made by the schema: it depends
on the kinds.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from launcher.errors import Problem, Problems
from launcher.job import MOST_RUN_NAME
from launcher.job_options.registry import job_options, renamed_options
from launcher.job_options.value_types import SHARE
from launcher.kind_interface import Kind, Role
from launcher.taskfile.legacy_names import OLD_WORDS
from launcher.taskfile.schema.json_schema_types import (
    NAME,
    PLAIN,
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
from launcher.taskfile.settings import TWO_NAMES, Known
from launcher.taskfile.yaml_tree import Node, Said, Scalar

MISLABELLED = "poisoned"  # in place of a model: every one of which training labels were wrong
LONGEST_NAME = 100  # of a job, in characters


class Reuse(StrEnum):
    """What of earlier runs is used again."""

    RESULTS = "results"  # what is done with the same hash is not done again
    WEIGHTS = "weights"  # all is done again; trainings start from the weights in their folder
    NOTHING = "nothing"  # all is done again, from the beginning


class Word(NamedTuple):
    """A word of the language."""

    about: str  # what it means; '': its name says it
    form: Form | None = None  # what it takes
    needed: str = ""  # what is missing where an entry has not got it; '': it may be left out

    def told(self, form: Form | None = None) -> Form:
        """Return what it takes, with what it means; `form` where that depends on the kinds."""
        return {**({"description": self.about} if self.about else {}), **(self.form or form or {})}


_MODEL, _DATA = ref("model_id"), ref("data_id")
IDS = one_or_more(_DATA)
_NAMES = or_null(one_or_more(PLAIN))
_RUN_NAME = {
    **pattern(NAME, "name of the run, and of its folder below runs/"),
    "type": ["string", "number"],
    "maxLength": MOST_RUN_NAME,
}

TOP: Mapping[str, Word] = {
    "name": Word("", _RUN_NAME),
    "about": Word("what the run is about, in one line", {"type": [*PLAIN["type"], "null"]}),
    "include": Word("other task files whose sections come first; relative to this one", _NAMES),
    "phases": Word("only these kinds of jobs, and what they need"),
    "reuse": Word(
        "results: what is done already does not run again; weights: all runs again, trainings go on "
        "from their own weights; nothing: all runs anew",
        {"default": "results", **or_null(one_of(*map(str, Reuse)))},
    ),
    "share": Word(
        "the run's part of the machine while other runs wait, too: one with 3 gets three times as "
        "much as one with 1",
        {"default": 1, **or_null(option_form(SHARE))},
    ),
    "notify": Word("what its owner is told of the run", or_null(notify_form())),
    "pass_env": Word("variables that the jobs remember though they look like secrets", _NAMES),
    "subsets": Word("words of your own for data IDs: folders", ref("words")),
    "modifiers": Word("words of your own for data IDs: folders", ref("words")),
    "defaults": Word("settings of every kind that knows them; below a kind's name of it alone"),
    "resources": Word("what every job asks for; below a kind's name what its jobs ask for"),
    "matrix": Word("the whole file once for every combination of these values"),
    "autotest": Word("test every model of this file on these", or_null(IDS)),
}

_MATRIX = {"matrix": Word("this entry once for every combination")}
_COMMON = {
    "after": Word("jobs that must be done before: by name, glob, or model ID", _NAMES),
    "after_any": Word(
        "jobs that must have ended before, done or not: by name, glob, or model ID", _NAMES
    ),
    "resources": Word("what its jobs ask for", ref("resources")),
    "settings": Word("settings that have the name of a word, or any other"),
}


def _named(about: str, letters: str = WORD) -> Mapping[str, Word]:
    takes = {"type": ["string", "number", "null"], "maxLength": LONGEST_NAME}
    return {"name": Word("", {**pattern(letters, about), **takes})}


def _whole(**limits: int) -> Form:
    return or_null(any_of({"type": "integer", **limits}, ref("variable")))


_JOB = {**_named("name of the job"), **_COMMON}
WORDS: Mapping[Role, Mapping[str, Word]] = {
    Role.DATA: _JOB,
    Role.TRAIN: {
        "model": Word("the model to fine-tune; null: a new one", or_null(_MODEL)),
        "data": Word("", _DATA, "a data ID"),
        "poison": Word("how many labels are wrong", one_or_more(ref("poison"))),
        **_MATRIX,
        **_COMMON,
    },
    Role.METHOD: {
        "model": Word(
            "what forgets; poisoned: each poisoned model",
            any_of(_MODEL, {"const": MISLABELLED}),
            "a model ID",
        ),
        "method": Word("how it forgets", None, "a method"),
        **_MATRIX,
        **_COMMON,
    },
    Role.TEST: {
        "model": Word("", _MODEL, "a model ID"),
        "data": Word("", IDS, "a data ID"),
        **_COMMON,
    },
    Role.BENCHMARK: {
        "model": Word("which models; none: every model of the file", one_or_more(_MODEL)),
        "test": Word("the images that each is scored on", IDS, "a data ID"),
        **_COMMON,
    },
    Role.FOLDER: {
        **_named("name of the folder, for others to start from it"),
        **_MATRIX,
        **_COMMON,
    },
    Role.PLAIN: _JOB,
}

_OF_PROGRAMS: Mapping[str, Word] = {
    **_named("name of the job", r"[A-Za-z0-9{][A-Za-z0-9_.+\-{}]*"),
    "matrix": Word(
        "this entry once for every combination of values of any names; {NAME} in its texts is the value"
    ),
    "random": Word(
        "values drawn instead of listed, or beside matrix: NAME: uniform(LOW, HIGH), loguniform(LOW, HIGH), "
        "randint(FIRST, LAST) or choice(VALUE, …)",
        {"type": ["object", "null"], "additionalProperties": {"type": ["string", "null"]}},
    ),
    "count": Word("how many draws", _whole(minimum=1, maximum=10_000)),
    "seed": Word("of the draws; a larger count keeps those of a smaller one", _whole(minimum=0)),
}


def words_of(kind: Kind) -> Mapping[str, Word]:
    """Return the words of an entry of a kind."""
    return WORDS[kind.role] if kind.entry else {**WORDS[kind.role], **_OF_PROGRAMS}


# For an option that is written where it is none.
RESOURCE_HINTS: Mapping[str, str] = {
    **{name: f"it goes below resources: {{{name}: …}}" for name in job_options()},
    **{old: f"it is resources: {{{now}: …}} today" for old, now in renamed_options().items()},
}


def settings_among(
    pairs: Iterable[tuple[Scalar, Node]],
    of: Known,
    what: str,
    problems: Problems,
    *,
    nearby: Iterable[str] = (),
    hints: Mapping[str, str] | None = None,
) -> dict[str, Said]:
    """Return the settings among `pairs`, outside of entries; blame what is none.

    Args:
        pairs: keys and their values.
        of: the settings that may stand there.
        what: completes "'modle' is not …".
        problems: where complaints are added.
        nearby: words that could stand there, too, but go without saying.
        hints: what to do with names that are no settings there.
    """

    def refuse(key: Scalar) -> Problem:
        hint = RESOURCE_HINTS.get(key.text, "")
        if not hint and (key.text in OLD_WORDS or key.text in TOP):
            hint = "it is no setting: write it at the top of the file"
        hint = hint or (hints or {}).get(key.text, "")
        return of.unknown(key, what, hint, nearby=nearby if len(of.kinds) > 1 else ())

    return of.among(pairs, problems, refuse, TWO_NAMES)
