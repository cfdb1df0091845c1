"""Sweeps of programs: an entry of `command` runs once per combination of the values in its `matrix`.

A matrix of a program can have any names. A value replaces its name between braces in each text of the entry:

    argv: [python, train.py, --lr, "{lr}"]       name train, matrix {lr: [0.1, 0.01]}: train@lr=0.1, train@lr=0.01
    argv: [python, train.py, "{sweep}"]          every value as a word of its own: --lr=0.1
    argv: [python, train.py, "{amp}"]            flags [amp]: --amp or nothing
    argv: [awk, "{{print $1}}", "{file}"]        a brace is written twice

The options `metrics` and `tensorboard` of the entry are filled in the same way.

Values can be drawn: `random: {lr: 1e-4..1e-1:log, hidden: [4, 8]}` with `count: 20` combines each draw with each
combination of the matrix. Each name has a separate random stream, so a larger count keeps the draws of a
smaller one, and an additional name keeps those of other names. Texts of other entries are not changed.
"""

import decimal
import itertools
import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from random import Random
from types import MappingProxyType
from typing import Any, NamedTuple

from launcher.experiments.kind_interface import Kind
from launcher.experiments.kinds import COMMAND
from launcher.experiments.taskfile.domains import (
    IN_FILE,
    Choice,
    InvalidDomain,
    Range,
    choice_of,
    parse_domain,
    text_of,
    value_of,
)
from launcher.experiments.taskfile.entries import PlainVariant, VariantName, variant_name
from launcher.experiments.taskfile.foreign_values import with_decimal_points
from launcher.experiments.taskfile.matrix import (
    MOST_COMBINATIONS,
    Sweep,
    combinations,
    read_matrix,
    read_sweep,
    value_label,
)
from launcher.experiments.taskfile.nodes import (
    GivenSetting,
    GivenSettings,
    MappingNode,
    Node,
    ScalarNode,
    SequenceNode,
    SourceFile,
    as_list,
    is_null,
    node_or_none,
    plain_value,
)
from launcher.experiments.taskfile.path_labels import label_paths
from launcher.experiments.taskfile.settings import (
    ResolvedSettings,
    replace_values,
    resolve_settings,
)
from launcher.experiments.taskfile.value_hints import range_hint, search_hint, value_hint
from launcher.ids import is_variant_value
from launcher.provenance.file_patterns import is_pattern_or_outputs
from launcher.queue.jobs.context import FOLDER_PLACEHOLDERS, INPUTS, OUTPUTS
from launcher.queue.jobs.job import Terms
from launcher.queue.jobs.params import PARAMS, TEMPLATE, parse_number
from launcher.system.environment import SWEEP_VARIABLE
from launcher.system.errors import Problems, TaskFileError, did_you_mean, list_known_names, nearest
from launcher.system.files import Json

SWEEP = "sweep"  # between braces, as a word of argv: all values
FILLED_TERMS = ("tensorboard", "metrics")  # options of a job in which values replace their names
# replaced when an attempt starts
FILLED_AT_START = tuple(folder.strip("{}") for folder in FOLDER_PLACEHOLDERS)
LONGEST_SWEPT_NAME = 240  # characters of the name of a job with its values

_CODE = "braces"
_BRACE = re.compile(r"\{\{|\}\}|\{(?P<name>[^{}]*)\}|[{}]")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")
_MOST_MISSES = 100  # consecutive duplicates, per distinct draw so far
_LARGEST_SEED = 2**63
_EXAMPLE = "lr: 1e-4..1e-1:log"
_PROMPT = "launcher add"  # the name of a command line in errors
_NUMBER = r"[-+]?\d{1,18}(?:\.\d{1,18})?(?:[eE][-+]?\d{1,2})?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?:\.\.({_NUMBER}))?", re.ASCII)
_RANGE_FORMS = "FIRST..LAST or FIRST..LAST..STEP"
_RANGE_EXAMPLE = "for example seed=1..3 or lr=0.1..0.5..0.1"
_LONGEST_NUMBER = 20  # characters of a number that is written without an exponent
_TERM_OPTIONS = tuple(f"--{term}" for term in FILLED_TERMS)
_BRACES_TWICE = "write {{ or }} for a brace in the text"


class _Value(NamedTuple):
    """One value of a sweep."""

    name: str
    text: str  # text as written
    label: str  # in the names of jobs
    value: Json
    is_flag: bool

    @property
    def argument(self) -> list[str]:
        """The words for an argument that contains only its name."""
        return self._flag_words if self.is_flag else [self.text]

    @property
    def option(self) -> list[str]:
        """The words among those of `{sweep}`."""
        return self._flag_words if self.is_flag else [f"--{self.name}={self.text}"]

    @property
    def _flag_words(self) -> list[str]:
        return [f"--{self.name}"] if self.value else []


class SweptCommandLine(NamedTuple):
    """A command line with the values that it contains."""

    name: str | None  # name of the job; None: no name
    argv: tuple[str, ...]
    settings: Mapping[str, Json]  # values and files of the job
    terms: Mapping[str, str] = {}  # options of the job that contain values


class _ValueSampler(NamedTuple):
    """Draws the values of a name."""

    key: ScalarNode
    node: ScalarNode | SequenceNode
    domain: Range | Choice

    def draw_text(self, part: float) -> str:
        """Return the text of the value for a number in [0, 1)."""
        return text_of(self.domain.draw(part))

    def as_given_setting(self, text: str) -> GivenSetting:
        """Return a value as if it were written in the file."""
        label = self.domain.labels().get(text) if isinstance(self.domain, Choice) else None
        if isinstance(self.node, ScalarNode):
            return GivenSetting(self.key, replace(self.node, text=text, plain=True), label)
        items = (item for item in self.node.nodes if isinstance(item, ScalarNode))
        return GivenSetting(self.key, next(item for item in items if item.text == text), label)


def sweeps_of_program(
    words: Mapping[str, Node], forced_settings: GivenSettings, problems: Problems
) -> list[Sweep] | None:
    """Read the sweeps of a program; return None and report the errors if they are invalid.

    Args:
        words: Words of its entry, which may include `matrix`, `flags`, `random`, `count` and `seed`.
        forced_settings: Values of the command line.
        problems: List to which problems are added.
    """
    before = len(problems)
    matrix = node_or_none(words.get("matrix"))
    sweeps = [] if matrix is None else _read_free_matrix(matrix, problems)
    flags = [node for node in as_list(words.get("flags")) if not is_null(node)]
    sweeps += _flag_sweeps(flags, sweeps, problems)
    if (drawn := _read_draws(words, problems)) is not None:
        sweeps.append(drawn)
        swept = {said.key.text for sweep in sweeps[:-1] for said in sweep[0]}
        for said in drawn[0]:
            if said.key.text in swept:
                message = f"{said.key.text!r} is given in matrix and in random"
                problems.add_error(said.key, "random", message, "remove one of them")
    sweeps = [_with_forced(sweep, forced_settings, problems) for sweep in sweeps]
    flagged = frozenset() if problems.has_errors(before) else flag_names(words)
    for said in (said for sweep in sweeps for said in _flatten_sweep(sweep)):
        if said.key.text in flagged and not isinstance(plain_value(said.node), bool):
            message = f"{said.key.text} is a flag: expected true or false"
            problems.add_error(said.node, "matrix", message)
    return None if problems.has_errors(before) else sweeps


def flag_names(words: Mapping[str, Node]) -> frozenset[str]:
    """Return the names in the word `flags` of a program's entry."""
    return frozenset(
        node.text for node in as_list(words.get("flags")) if isinstance(node, ScalarNode)
    )


def _flag_sweeps(
    nodes: Iterable[Node], others: Iterable[Sweep], problems: Problems
) -> Iterator[Sweep]:
    """Yield the sweep of each flag, on and off; report invalid names."""
    taken = {said.key.text for sweep in others for said in sweep[0]}
    for node in nodes:
        if not isinstance(node, ScalarNode):
            message = "flags: expected names such as [amp]"
            problems.add_error(node, "matrix", message)
        elif node.text in taken:
            message = f"{node.text!r} is given twice"
            problems.add_error(node, "matrix", message, "remove one of them")
        elif _is_name(node, problems):
            taken.add(node.text)
            yield tuple(
                (GivenSetting(node, replace(node, text=text, plain=True)),)
                for text in ("true", "false")
            )


def _with_forced(sweep: Sweep, forced_settings: GivenSettings, problems: Problems) -> Sweep:
    """Return a sweep with its values replaced by those of the command line, with distinct combinations."""
    for swept in sweep[0]:
        name = swept.key.text
        values = _read_words(forced_settings[name], problems) if name in forced_settings else None
        if values is None or not _are_words(values, problems):
            continue
        problems.add_warning(swept.key, "matrix", f"--set replaces this sweep of {name}")
        once: dict[tuple[str, ...], tuple[GivenSetting, ...]] = {}
        for bundle, (value,) in itertools.product(sweep, values):
            made = tuple(value if said.key.text == name else said for said in bundle)
            once.setdefault(tuple(map(_text, made)), made)
        sweep = tuple(once.values())
    return sweep


def _read_free_matrix(node: Node, problems: Problems) -> list[Sweep]:
    """Read a matrix of free names, each with values that are words."""

    def product(fields: MappingNode) -> list[Sweep]:
        named = [
            GivenSetting(key, values) for key, values in fields.pairs if _is_name(key, problems)
        ]
        read = [_read_words(said, problems) for said in named]
        return [sweep for sweep in read if sweep and _are_words(sweep, problems)]

    return read_matrix(node, product, problems)


def _read_words(given_sweep: GivenSetting, problems: Problems) -> Sweep | None:
    """Read the values of one name as words; None, with the error reported, if there are none."""
    sweep = read_sweep(_as_words(given_sweep), problems)
    return None if sweep is None else label_paths(sweep)


def _as_words(given_sweep: GivenSetting) -> GivenSetting:
    """Return the values of a name; a number with an unusual spelling, such as 1e3 or 0.10, becomes a text."""
    return given_sweep._replace(node=_as_word(given_sweep.node))


def _as_word(node: Node) -> Node:
    match node:
        case ScalarNode():
            return replace(node, plain=False) if _is_text(node) else node
        case SequenceNode():
            return replace(node, nodes=tuple(map(_as_word, node.nodes)))
        case MappingNode():
            return replace(node, pairs=tuple((key, _as_word(value)) for key, value in node.pairs))


def _is_text(node: ScalarNode) -> bool:
    is_number = isinstance(node.value, int | float) and not isinstance(node.value, bool)
    return is_number and isinstance(parse_number(node.text), str)


def _is_name(key: ScalarNode, problems: Problems) -> bool:
    """Return whether a word can be the name of a value; report it if it cannot."""
    if key.text in (SWEEP, *FILLED_AT_START):
        message = f"matrix: the name {{{key.text}}} is reserved"
        problems.add_error(key, "matrix", message, "use another name")
        return False
    if _NAME.fullmatch(key.text):
        return True
    message = "matrix: expected a name of letters, digits and _.- that begins with a letter"
    bare = key.text.lstrip("-")
    hint = f"write {bare}" if bare != key.text and _NAME.fullmatch(bare) else "for example lr"
    problems.add_error(key, "matrix", message, hint)
    return False


def _are_words(sweep: Sweep, problems: Problems) -> bool:
    """Return whether each value is valid as an argument and in a name; report the first invalid one."""
    for (said,) in sweep:
        node, name = said.node, said.key.text
        if not isinstance(node, ScalarNode) or is_null(node):
            message = f"matrix: each value of {name} must be a number or a string"
            hint = 'write "" for an empty value' if is_null(node) else ""
            problems.add_error(node, "matrix", message, hint)
            return False
        if said.label is None and node.plain and ".." in node.text and _RANGE.fullmatch(node.text):
            message = f"matrix: {node.text} is text here, not a range"
            hint = (
                f"write a list of values such as [1, 2, 3], or '{node.text}' in quotes for the text"
            )
            problems.add_error(node, "matrix", message, hint)
            return False
        if said.label is None and node.text and not is_variant_value(node.text):
            message = (
                f"matrix: {node.text!r} cannot be part of a job name, "
                "which contains only letters, digits and _.+-"
            )
            hint = value_hint(name, node.text, is_typed=node.source.file == _PROMPT)
            problems.add_error(node, "matrix", message, hint)
            return False
    _warn_of_range_as_text(sweep, problems)
    return True


def _warn_of_range_as_text(sweep: Sweep, problems: Problems) -> None:
    """Report a single value such as 1-3 that is probably meant as a range."""
    said = sweep[0][0]
    node, name = said.node, said.key.text
    if len(sweep) > 1 or said.label is not None:
        return
    if not isinstance(node, ScalarNode) or not node.plain:
        return
    if hint := range_hint(name, node.text, is_typed=node.source.file == _PROMPT):
        message = f"matrix: {node.text} is one value, not a range"
        problems.add_warning(node, "matrix", message, hint)


def _read_draws(words: Mapping[str, Node], problems: Problems) -> Sweep | None:
    """Draw `count` distinct combinations of `random`, None if no values are drawn."""
    node = node_or_none(words.get("random"))
    if node is None:
        for word in ("count", "seed"):
            if not is_null(words.get(word)):
                message = f"{word} needs random: {{{_EXAMPLE}}}"
                problems.add_error(words[word], "random", message)
        return None
    if not isinstance(node, MappingNode) or not node.pairs:
        problems.add_error(node, "random", f"random: expected names such as {{{_EXAMPLE}}}")
        return None
    count = _read_whole_number(words.get("count"), "count", node, problems)
    seed = (
        0
        if is_null(words.get("seed"))
        else _read_whole_number(words["seed"], "seed", node, problems)
    )
    drawers = [
        drawer
        for key, value in node.pairs
        if _is_name(key, problems) and (drawer := _read_sampler(key, value, problems)) is not None
    ]
    if count is None or seed is None or len(drawers) < len(node.pairs):
        return None
    streams = [Random(f"{seed}/{drawer.key.text}") for drawer in drawers]
    drawn: dict[tuple[str, ...], tuple[GivenSetting, ...]] = {}
    misses = 0
    while len(drawn) < count and misses < _MOST_MISSES * (len(drawn) + 1):
        # only the method `random` of a stream is equal in every version of Python
        parts = [stream.random() for stream in streams]
        texts = tuple(drawer.draw_text(part) for drawer, part in zip(drawers, parts, strict=True))
        misses = misses + 1 if texts in drawn else 0
        if not misses:
            drawn[texts] = tuple(map(_ValueSampler.as_given_setting, drawers, texts))
    if len(drawn) == count:
        return tuple(drawn.values())
    message = f"random: count is {count:,}, but only {len(drawn):,} different draws were found"
    problems.add_error(words["count"], "random", message, "draw from more values")
    return None


def _read_whole_number(
    node: Node | None, word: str, parent_node: Node, problems: Problems
) -> int | None:
    """Return the integer value of a word; report it if it is invalid."""
    value = node.value if isinstance(node, ScalarNode) else None
    least, most = (1, MOST_COMBINATIONS) if word == "count" else (0, _LARGEST_SEED)
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return value
    limits = f"from 1 to {most:,}" if word == "count" else "from 0"
    problems.add_error(
        parent_node if node is None else node, "random", f"{word}: expected a number {limits}"
    )
    return None


def _read_sampler(key: ScalarNode, node: Node, problems: Problems) -> _ValueSampler | None:
    """Return the sampler of a name; report an invalid one."""
    try:
        if isinstance(node, SequenceNode):
            words = [value_of(_word_of(key, item)) for item in node.nodes]
            return _ValueSampler(key, node, choice_of(key.text, words))
        text = node.text if isinstance(node, ScalarNode) else str(plain_value(node))
        domain = parse_domain(key.text, "" if is_null(node) else text, IN_FILE)
    except InvalidDomain as error:
        remedy = f"{error.remedy[:1].lower()}{error.remedy[1:]}"
        problems.add_error(node, "random", f"{key.text}: {error.fault}", remedy)
        return None
    return _ValueSampler(key, node, domain) if isinstance(node, ScalarNode) else None


def _word_of(key: ScalarNode, item: Node) -> str:
    """Return the text of an item of a list.

    Raises:
        InvalidDomain: it has none.
    """
    if isinstance(item, ScalarNode) and not is_null(item):
        return item.text
    word = item.text if isinstance(item, ScalarNode) else ""
    remedy = f'Write "{word}" in quotes for the text' if word else f"Write {key.text}: [1, 2]"
    raise InvalidDomain(key.text, "expected a list of numbers and words", remedy)


def are_quoted(name: Node | None, own_settings: GivenSettings, problems: Problems) -> bool:
    """Return whether all texts of an entry are quoted, and report others: YAML reads {lr} as a mapping."""
    sound = True
    for node in (*as_list(name), *_texts(own_settings)):
        if isinstance(node, MappingNode) and len(node.pairs) == 1 and is_null(node.pairs[0][1]):
            word = f"{{{node.pairs[0][0].text}}}"
            message = f"YAML reads {word} without quotes as a mapping"
            at = node.source.place(node.line, node.column, len(word))
            problems.add_error(at, _CODE, message, f'write "{word}"')
            sound = False
    return sound


def swept_programs(
    kind: Kind,
    name: ScalarNode | None,
    resolved_settings: ResolvedSettings,
    own_settings: GivenSettings,
    sweeps: Sequence[Sweep],
    problems: Problems,
    flags: Collection[str] = (),
    *,
    may_repeat: bool = False,
    terms: Mapping[str, ScalarNode] = MappingProxyType({}),
) -> tuple[PlainVariant, ...]:
    """Return the variants of a program; empty, with the errors reported, if something is invalid.

    Args:
        kind: Kind of the program.
        name: Name of its entry, which may contain braces; None for no name.
        resolved_settings: Its settings with braces in their texts.
        own_settings: Settings of the entry itself, in which braces are replaced.
        sweeps: Sweeps of its matrix.
        problems: List to which problems are added.
        flags: Names of swept flags.
        may_repeat: Whether a value that no text uses is only a warning: the program finds it in its environment.
        terms: The `FILLED_TERMS` of its request that contain braces.
    """
    before = len(problems)
    chosen = combinations(sweeps, problems)
    if problems.has_errors(before):
        return ()
    swept = {said.key.text: said.key for said in chosen[0]}
    used = {
        found
        for node in _texts(own_settings)
        for found in _names_in_braces(node, swept, own_settings, problems)
    }
    program = as_list(own_settings["argv"].node)[0] if "argv" in own_settings else None
    if isinstance(program, ScalarNode) and program.text in {f"{{{flag}}}" for flag in flags}:
        message = f"{program.text} is a flag and cannot be the program"
        problems.add_error(program, _CODE, message, "write the program before its flags")
    for term, node in terms.items():
        for _ in _names_in_braces(node, swept, {}, problems, subject=f"{term}: "):
            pass
    in_name = set() if name is None else {*_names_in_braces(name, swept, own_settings, problems)}
    # a name that is misspelt between braces seems to be unused
    for unused in () if problems.has_errors(before) else swept.keys() - used:
        message = f"matrix: no argument uses {unused}"
        hint = f'write "{{{unused}}}" in argv, env or cwd, or "{{{SWEEP}}}" for all values'
        if may_repeat and unused not in flags:
            problems.add_warning(
                swept[unused], "matrix", message, f"{hint} (or read {SWEEP_VARIABLE})"
            )
        else:
            problems.add_error(swept[unused], "matrix", message, hint)
    if problems.has_errors(before):
        return ()
    values = {id(said): _value(said, flags) for sweep in sweeps for said in _flatten_sweep(sweep)}
    variants = []
    for combination in chosen:
        these = [values[id(said)] for said in combination]
        pairs = tuple((value.name, value.label) for value in these)
        full = None
        if name is not None:
            full = variant_name(
                _fill_names(name.text, dict(pairs)),
                tuple(pair for pair in pairs if pair[0] not in in_name),
            )
        written = None if name is None else name.text
        texts = {term: node.text for term, node in terms.items()}
        filled = _fill_settings(kind, resolved_settings, own_settings, these, written, texts)
        variants.append(PlainVariant(full, pairs, filled, _fill_terms(texts, these)))
    return tuple(variants) if name is None or _have_names(name, variants, problems) else ()


def swept_command(
    asked_words: Sequence[str],
    name: str | None,
    argv: Sequence[str],
    settings: Mapping[str, Any] = MappingProxyType({}),
    flags: Sequence[str] = (),
    *,
    may_repeat: bool = True,
    terms: Mapping[str, str] = MappingProxyType({}),
) -> tuple[list[SweptCommandLine], Problems]:
    """Return the variants of a program for `launcher add --sweep` and `--sweep-flag`, and the warnings.

    Args:
        asked_words: `lr=0.1,0.01` and `seed=1..3`, as typed.
        name: Name of the job, which may contain braces; None for no name.
        argv: Program and arguments with braces.
        settings: `inputs`, `outputs`, `cwd` and `env` with braces, if they are given.
        flags: Names of swept flags.
        may_repeat: As of `swept_programs`.
        terms: As `terms_with_braces` returns them.

    Raises:
        TaskFileError: contains all mistakes with their locations in the command line.
    """
    options = [
        *(("--sweep", each) for each in asked_words),
        *(("--sweep-flag", each) for each in flags),
        *(("--input", each) for each in settings.get(INPUTS, ())),
        *(("--output", each) for each in settings.get(OUTPUTS, ())),
        *(("--env", f"{key}={text}") for key, text in settings.get("env", {}).items()),
        *([("--cwd", settings["cwd"])] if "cwd" in settings else ()),
        *((f"--{term}", text) for term, text in terms.items()),
        *([] if name is None else [("--name", name)]),
    ]
    typed = [word for option in options for word in option]
    words, problems = _words_with_locations([*typed, "--", *argv]), Problems()
    pairs: dict[str, tuple[ScalarNode, Node]] = {}
    for word in words[1 : 2 * len(asked_words) : 2]:
        key, values = _read_pair(word, problems)
        if key.text in pairs:
            problems.add_error(key, "matrix", f"{key.text!r} is given twice", "remove one of them")
        pairs[key.text] = key, values
    program = words[len(words) - len(argv) :]
    given = {
        option: tuple(words[2 * at + 1] for at, (each, _) in enumerate(options) if each == option)
        for option in ("--sweep-flag", "--input", "--output", "--env", "--cwd", *_TERM_OPTIONS)
    }
    flagged = [  # without the quote that may stand before the word
        replace(word, column=word.column + 1, plain=True) for word in given["--sweep-flag"]
    ]
    own = {"argv": _items(program)}
    for setting, files in ((INPUTS, given["--input"]), (OUTPUTS, given["--output"])):
        if files:
            own[setting] = _items(files)
    if variables := given["--env"]:
        own["env"] = GivenSetting(variables[0], _variables(variables))
    for folder in given["--cwd"]:
        own["cwd"] = GivenSetting(folder, folder)
    matrix = MappingNode(program[0].source, 0, 0, tuple(pairs.values()))
    sweeps = [] if problems else _read_free_matrix(matrix, problems)
    sweeps += [] if problems.has_errors() else _flag_sweeps(flagged, sweeps, problems)
    settled = resolve_settings(COMMAND, own, program[0].place, problems)
    if problems.has_errors() or settled is None:
        raise TaskFileError(problems)
    named = None if name is None else words[len(typed) - 1]
    variants = swept_programs(
        COMMAND,
        named,
        settled,
        own,
        sweeps,
        problems,
        flags,
        may_repeat=may_repeat,
        terms={term: given[f"--{term}"][0] for term in terms},
    )
    if problems.has_errors():
        raise TaskFileError(problems)
    kept = (PARAMS, TEMPLATE, *settings)
    return [_command(each, kept) for each in variants], problems


class SweptJob(NamedTuple):
    """A job of a sweep with other values."""

    name: str | None  # name of the job, without its kind; None: the entry has no name
    variant: VariantName  # all values, as names of jobs have them
    settings: Mapping[str, Json]  # those in which values stand, with the values
    stored: Mapping[str, Json]  # values of the job, and their template
    terms: Mapping[str, str] = {}  # options of the job in which values stand, with the values


def has_template(settings: Mapping[str, Any]) -> bool:
    """Return whether the settings of a job store how the values of its sweep are used."""
    match settings.get(TEMPLATE), settings.get(PARAMS):
        case {
            "settings": dict(),
            "texts": dict() as texts,
            "labels": dict() as labels,
        }, dict() as params:
            return texts.keys() == labels.keys() == params.keys()
    return False


def change_swept_values(
    settings: Mapping[str, Any], given_settings: GivenSettings, problems: Problems
) -> SweptJob | None:
    """Return a job of a sweep with some other values; None, with the errors reported, if one is invalid.

    Args:
        settings: Its settings, which have a template.
        given_settings: The other values.
        problems: List to which problems are added.
    """
    template, params = settings[TEMPLATE], settings[PARAMS]
    flags = template.get("flags", [])
    values = {
        name: _Value(name, text, template["labels"][name], params[name], is_flag=name in flags)
        for name, text in template["texts"].items()
    }
    before = len(problems)
    for name, said in ((name, _as_words(said)) for name, said in given_settings.items()):
        ((said,),) = label_paths(((said,),))
        if not _are_words(((said,),), problems):
            continue
        if not _text(said):
            problems.add_error(said.key, "set", f"{name} has no value")
        elif name in flags and not isinstance(plain_value(said.node), bool):
            problems.add_error(said.node, "set", f"{name} is a flag: expected true or false")
        values[name] = _value(said, flags)
    if problems.has_errors(before):
        return None
    chosen = [*values.values()]
    pairs = tuple((value.name, value.label) for value in chosen)
    written, name = template["settings"], template.get("name")
    if name is not None:
        in_name = {brace["name"] for brace in _BRACE.finditer(name)}
        rest = tuple(pair for pair in pairs if pair[0] not in in_name)
        name = variant_name(_fill_names(name, dict(pairs)), rest)
    texts = {value.name: value.text for value in chosen}
    stored = {**template, "texts": texts, "labels": dict(pairs)}
    filled = _fill_braces(written, chosen)
    patterns = [text for text in map(str, written.get(INPUTS, ())) if is_pattern_or_outputs(text)]
    for said in given_settings.values():
        if any(f"{{{said.key.text}}}" in text for text in patterns):
            message = f"{said.key.text} is part of a pattern in inputs"
            problems.add_error(said.key, "set", message, "queue a new sweep with the value")
    if patterns:  # the files that were found when the job was queued
        filled[INPUTS] = settings[INPUTS]
    of_terms = template.get("terms") or {}
    changed = _fill_terms({term: str(text) for term, text in of_terms.items()}, chosen)
    return SweptJob(name, pairs, filled, {PARAMS: _params(chosen), TEMPLATE: stored}, changed)


def fill_template(
    settings: Mapping[str, Any],
    texts: Mapping[str, str],
    labels: Mapping[str, str] = MappingProxyType({}),
) -> SweptJob:
    """Return a job of a sweep with other values, which were checked before.

    Args:
        settings: Its settings, which have a template.
        texts: Name → text of each value.
        labels: Name → text in the names of jobs, if that text differs.
    """
    source, problems = SourceFile(file=_PROMPT, lines=("",)), Problems()
    nodes = {
        name: replace(node, plain=node.value is not None)  # null and None are words of a program
        for name, text in texts.items()
        for node in (ScalarNode(source, 0, 0, len(text), text, plain=True),)
    }
    given = {
        name: GivenSetting(replace(node, text=name), node, label=labels.get(name))
        for name, node in nodes.items()
    }
    swept = change_swept_values(settings, given, problems)
    if swept is None:
        raise TaskFileError(problems)
    return swept


def _variables(words: Sequence[ScalarNode]) -> MappingNode:
    """Return `KEY=VALUE` words as a mapping."""
    pairs: list[tuple[ScalarNode, Node]] = []
    for word in words:
        name, equals, text = word.text.partition("=")
        key = replace(word, text=name, length=len(name))
        column = word.column + len(name) + len(equals)
        pairs.append((key, replace(word, column=column, text=text, length=len(text))))
    return MappingNode(words[0].source, 0, words[0].column, tuple(pairs))


def _items(words: tuple[ScalarNode, ...]) -> GivenSetting:
    return GivenSetting(words[0], SequenceNode(words[0].source, 0, 0, words))


def _command(variant: PlainVariant, kept_words: Iterable[str]) -> SweptCommandLine:
    values = variant.settings.values
    argv = values["argv"]
    assert isinstance(argv, list)
    return SweptCommandLine(
        variant.name,
        tuple(map(str, argv)),
        {name: values[name] for name in kept_words},
        variant.terms,
    )


def _words_with_locations(words: Iterable[str]) -> tuple[ScalarNode, ...]:
    """Return words of a command line with their locations."""
    quoted = [shlex.quote(word) for word in words]
    source, column = SourceFile(file=_PROMPT, lines=(" ".join(quoted),)), 0
    nodes = []
    for text in quoted:
        (word,) = shlex.split(text)
        start = column - (text == word)  # a quoted word begins one column later, behind the quote
        nodes.append(ScalarNode(source, 0, start, len(text), word, plain=False))
        column += len(text) + 1
    return tuple(nodes)


def _read_pair(word: ScalarNode, problems: Problems) -> tuple[ScalarNode, SequenceNode]:
    """Read `NAME=VALUE,…`, in which a value may be a range such as `1..3`; report invalid values."""
    name, equals, rest = word.text.partition("=")
    key = ScalarNode(word.source, 0, word.column + 1, len(name), name, plain=True)
    values: list[Node] = []
    column = key.column + len(name) + len(equals)
    if hint := search_hint(name, rest):
        value = ScalarNode(word.source, 0, column, len(rest), rest, plain=True)
        problems.add_error(value, "matrix", f"{rest} is not a list of values", hint)
        return key, SequenceNode(word.source, 0, key.column, (value,))
    for text in rest.split(","):
        value = ScalarNode(word.source, 0, column, len(text), text, plain=True)
        column += len(text) + 1
        if not text:
            message = f"expected NAME=VALUE,VALUE,… or NAME={_RANGE_FORMS}"
            hint = "for example lr=0.1,0.01 or seed=1..3, without spaces"
            problems.add_error(value, "matrix", message, hint)
        elif ".." in text and "/" not in text:  # a path is refused as other paths are
            numbers = _read_range(name, value, problems, with_decimal_points(rest))
            values += map(value.with_text, numbers)
        else:
            values.append(replace(value, plain=value.value is not None))
    return key, SequenceNode(word.source, 0, key.column, tuple(values))


def _read_range(name: str, node: ScalarNode, problems: Problems, marked_text: str) -> list[str]:
    """Return the numbers of `1..3` or `0.1..0.5..0.1`, ends included; report an invalid range.

    Args:
        name: Name of the values.
        node: The range.
        problems: List to which problems are added.
        marked_text: All values with decimal points in place of commas; '' if they cannot be meant so.
    """
    text, ends = node.text, _RANGE.fullmatch(node.text)
    if ends is None:
        message = f"{text} is not a range; a range is {_RANGE_FORMS}"
        hint = range_hint(name, text, is_typed=True) or _RANGE_EXAMPLE
        problems.add_error(node, "matrix", message, hint)
        return []
    with decimal.localcontext(prec=200):  # sums of 18 digits with two-digit exponents are exact
        first, last, step = Decimal(ends[1]), Decimal(ends[2]), Decimal(ends[3] or 1)
        whole = first == first.to_integral_value() and last == last.to_integral_value()
        count = (last - first) / step + 1 if step > 0 else Decimal(0)
        message, hint = "", _RANGE_EXAMPLE
        if step <= 0:
            message = f"the step of {text} is not greater than zero"
        elif last < first:
            message = f"{text} ends before it begins"
            hint = f"write the smaller number first: {ends[2]}..{ends[1]}"
            if marked_text:
                hint = f"write {name}={marked_text}{'..STEP' * (marked_text.count('..') == 1)}"
        elif ends[3] is None and not whole:
            message = f"{text} has no step, and its numbers are not whole"
            hint = "add a step: lr=0.1..0.5..0.1"
        elif count > MOST_COMBINATIONS:
            exact = f"{int(count):,}" if count < 10**12 else f"{count:.0e}"
            message = f"{exact} values; the limit is {MOST_COMBINATIONS:,}"
            hint = "write a larger step, or queue several sweeps"
        if message:
            problems.add_error(node, "matrix", message, hint)
            return []
        return [_number_text(first + index * step) for index in range(int(count))]


def _number_text(number: Decimal) -> str:
    """Return a number without trailing zeros; its exponent only if it is very small."""
    text = f"{number.normalize() + 0:f}"
    return text if len(text) <= _LONGEST_NUMBER else f"{number.normalize():e}"


def _flatten_sweep(sweep: Sweep) -> Iterator[GivenSetting]:
    return (said for bundle in sweep for said in bundle)


def _value(given_sweep: GivenSetting, flags: Collection[str]) -> _Value:
    value, name = plain_value(given_sweep.node), given_sweep.key.text
    return _Value(
        name, _text(given_sweep), value_label(given_sweep, value), value, is_flag=name in flags
    )


def _text(given_sweep: GivenSetting) -> str:
    assert isinstance(given_sweep.node, ScalarNode), "a program's values are words"
    return given_sweep.node.text


def _texts(own_settings: GivenSettings) -> Iterator[Node]:
    """Yield the node of each text of an entry's settings."""
    for name, said in own_settings.items():
        if name == "env" and isinstance(said.node, MappingNode):
            yield from (value for _, value in said.node.pairs)
        else:
            yield from as_list(said.node)


def _names_in_braces(
    node: Node,
    swept_names: Collection[str],
    own_settings: GivenSettings,
    problems: Problems,
    *,
    subject: str = "",
) -> Iterator[str]:
    """Yield the names between the braces of a text; report invalid ones, with a subject before the message."""
    if not isinstance(node, ScalarNode):
        return
    for folder in FOLDER_PLACEHOLDERS:
        if (at := node.text.find(f"{{{folder}}}")) >= 0:
            message = f"{folder} cannot be written literally; it is replaced when an attempt starts"
            hint = f"write {folder} for the folder itself"
            place = node.part_place(at, len(folder) + 2)
            problems.add_error(place, _CODE, subject + message, hint)
    for brace in _BRACE.finditer(node.text):
        name = brace["name"]
        if brace[0] in ("{{", "}}") or name in FILLED_AT_START:
            continue
        if name in swept_names:
            yield name
            continue
        if name == SWEEP:
            if (
                node.text == brace[0]
                and "argv" in own_settings
                and node in as_list(own_settings["argv"].node)
            ):
                yield from swept_names
                continue
            message, hint = (
                f"{{{SWEEP}}} stands for several arguments",
                "write it as an item of argv",
            )
        elif name is None:
            message, hint = f"this {brace[0]!r} has no matching brace", _BRACES_TWICE
        elif not name:
            message, hint = "these braces contain no name", _BRACES_TWICE
        else:
            message = f"no value is named {name!r}"
            hint = did_you_mean(nearest(name, swept_names)) or _BRACES_TWICE
        notes = (list_known_names(name, swept_names),) if name else ()
        place = node.part_place(brace.start(), len(brace[0]))
        problems.add_error(place, _CODE, subject + message, hint, *notes)


def _fill_names(text: str, values: Mapping[str, str]) -> str:
    """Return a text with names replaced by their values."""

    def fill(brace: re.Match[str]) -> str:
        return values.get(brace["name"], brace[0]) if brace["name"] else brace[0][0]

    return _BRACE.sub(fill, text)


def _fill_settings(
    kind: Kind,
    resolved_settings: ResolvedSettings,
    own_settings: GivenSettings,
    values: Sequence[_Value],
    name: str | None,
    terms: Mapping[str, str],
) -> ResolvedSettings:
    """Return the settings of a program with some values, the values themselves, and their template."""
    written = {
        key: resolved_settings.values[key]
        for key in own_settings
        if key in resolved_settings.values
    }
    template: dict[str, Json] = {
        "name": name,
        "settings": written,
        "texts": {value.name: value.text for value in values},
        "labels": {value.name: value.label for value in values},
        "flags": [value.name for value in values if value.is_flag],
    }
    template |= {"terms": dict(terms)} if terms else {}
    return replace_values(
        kind,
        resolved_settings,
        {**_fill_braces(written, values), PARAMS: _params(values), TEMPLATE: template},
    )


def terms_with_braces(terms: Terms) -> dict[str, str]:
    """Return the `FILLED_TERMS` that contain braces, by name."""
    texts = {term: str(getattr(terms, term)) for term in FILLED_TERMS}
    return {term: text for term, text in texts.items() if "{" in text or "}" in text}


def _fill_terms(terms: Mapping[str, str], values: Sequence[_Value]) -> dict[str, str]:
    texts = {value.name: value.text for value in values}
    return {term: _fill_names(text, texts) for term, text in terms.items()}


def _params(values: Iterable[_Value]) -> dict[str, Json]:
    return {value.name: value.value for value in values}


def _fill_braces(template: Mapping[str, Json], values: Sequence[_Value]) -> dict[str, Json]:
    """Return settings with names in braces replaced by values."""
    texts = {value.name: value.text for value in values}
    words = {f"{{{value.name}}}": value.argument for value in values}
    words[f"{{{SWEEP}}}"] = [word for value in values for word in value.option]
    return {
        name: _fill_value(value, texts, words if name == "argv" else {})
        for name, value in template.items()
    }


def _fill_value(value: Json, texts: Mapping[str, str], words: Mapping[str, Sequence[str]]) -> Json:
    """Return a setting with names replaced by their values.

    Args:
        value: Value of the setting.
        texts: Text of each name.
        words: The words for an item that contains only a name in braces.
    """
    match value:
        case str():
            return _fill_names(value, texts) if "{" in value or "}" in value else value
        case list():
            filled: list[Json] = []
            for item in value:
                own = words.get(item) if isinstance(item, str) else None
                filled += [_fill_value(item, texts, {})] if own is None else own
            return filled
        case dict():
            return {name: _fill_value(inner, texts, {}) for name, inner in value.items()}
    return value


def _have_names(name: ScalarNode, variants: Iterable[PlainVariant], problems: Problems) -> bool:
    """Return whether the names of all variants are valid and distinct; report the first that is not."""
    taken: dict[str | None, VariantName] = {}
    for variant in variants:
        full = variant.name or ""
        other = taken.setdefault(full, variant.swept)
        message, hint = "", ""
        if other is not variant.swept:
            message = f"two combinations would both be called {full!r}"
            hint = "separate the values, as in {a}-{b}"
        elif len(full) > LONGEST_SWEPT_NAME:
            message = f"the name of a job would have {len(full)} characters"
            hint = f"the limit is {LONGEST_SWEPT_NAME}; give long values short names"
        if message:
            problems.add_error(name, "name", message, hint)
            return False
    return True
