"""Sweeps of programs: an entry of `command` runs once for each combination of the values in its `matrix`.

A matrix has any names there. A value goes to wherever its name stands between braces, in each text of the entry:

    {name: train, argv: [python, train.py, --lr, "{lr}"], matrix: {lr: [0.1, 0.01]}}    train@lr=0.1, train@lr=0.01
    argv: [python, train.py, "{sweep}"]          every value as a word of its own: --lr=0.1
    argv: [awk, "{{print $1}}", "{file}"]        a brace is written twice

Texts of other entries stay to the letter.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from launcher.errors import Problems, known_words, nearest, question
from launcher.ids import is_variant_value, is_word
from launcher.kind_interface import Kind
from launcher.params import PARAMS
from launcher.system.files import Json
from launcher.taskfile.entries import Name, PlainVariant, variant_name
from launcher.taskfile.language import LONGEST_NAME
from launcher.taskfile.matrix import Sweep, combinations, label, read_matrix, read_sweep
from launcher.taskfile.settings import Settled, with_values
from launcher.taskfile.yaml_tree import Fields, Given, Node, Said, Scalar, is_null, listed

SWEEP = "sweep"  # between braces, as a word of argv: every value
LATER = ("run_folder", "job_folder")  # between braces: filled in when an attempt starts
LONGEST_SWEPT_NAME = 240  # of a job with its values, in characters

_CODE = "braces"
_BRACE = re.compile(r"\{\{|\}\}|\{(?P<name>[^{}]*)\}|[{}]")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")
_BRACES_TWICE = "a brace of the text is written {{ or }}"


class _Value(NamedTuple):
    """One value of a sweep."""

    name: str
    text: str  # as it is written
    label: str  # in the names of jobs
    value: Json


def sweeps_of_program(node: Node | None, problems: Problems) -> list[Sweep]:
    """Read the matrix of a program: free names, each with values that are words; nothing where one is wrong."""

    def product(fields: Fields) -> list[Sweep]:
        named = [Said(key, values) for key, values in fields.pairs if _is_name(key, problems)]
        read = [read_sweep(said, problems) for said in named]
        return [sweep for sweep in read if sweep and _are_words(sweep, problems)]

    before = len(problems)
    sweeps = [] if node is None else read_matrix(node, product, problems)
    return [] if problems.has_errors(before) else sweeps


def _is_name(key: Scalar, problems: Problems) -> bool:
    """Tell whether a word can be the name of a value, and blame it if it cannot."""
    if key.text in (SWEEP, *LATER):
        message = f"matrix: {{{key.text}}} means something already"
        problems.blame(key, "matrix", message, "give it another name")
        return False
    if _NAME.fullmatch(key.text):
        return True
    message = "matrix: a name has letters, digits and _.- only, and begins with a letter"
    problems.blame(key, "matrix", message)
    return False


def _are_words(sweep: Sweep, problems: Problems) -> bool:
    """Tell whether a program can get each value as a word, and a name can hold it; blame the first that cannot."""
    for (said,) in sweep:
        node, name = said.node, said.key.text
        if not isinstance(node, Scalar) or is_null(node):
            message = f"matrix: a value of {name} is a number or a text"
            problems.blame(node, "matrix", message, 'an empty one is written ""')
            return False
        if said.label is None and node.text and not is_variant_value(node.text):
            message = (
                f"matrix: {node.text!r} cannot stand in the name of a job: "
                "letters, digits and _.+- only"
            )
            hint = f"name the values: {name}: {{first: …, second: …}}"
            problems.blame(node, "matrix", message, hint)
            return False
    return True


def are_quoted(name: Node | None, own: Given, problems: Problems) -> bool:
    """Tell whether no text of an entry lacks its quotes: YAML takes {lr} for a mapping; blame those that do."""
    sound = True
    for node in (*listed(name), *_texts(own)):
        if isinstance(node, Fields) and len(node.pairs) == 1 and is_null(node.pairs[0][1]):
            word = f"{{{node.pairs[0][0].text}}}"
            message = f"{word} without quotes is a mapping to YAML"
            at = node.source.place(node.line, node.column, len(word))
            problems.blame(at, _CODE, message, f'write "{word}"')
            sound = False
    return sound


def swept_programs(
    kind: Kind,
    name: Scalar | None,
    settled: Settled,
    own: Given,
    sweeps: Sequence[Sweep],
    problems: Problems,
) -> tuple[PlainVariant, ...]:
    """Return each way in which a program is run; none where something is wrong, with the errors reported.

    Args:
        kind: of the program.
        name: of its entry, with braces where it has some; None: it has no name.
        settled: its settings, braces in their texts.
        own: those that the entry says itself: in these braces mean something.
        sweeps: of its matrix.
        problems: where complaints are added.
    """
    before = len(problems)
    chosen = combinations(sweeps, problems)
    swept = {said.key.text: said.key for said in chosen[0]}
    used = {found for node in _texts(own) for found in _named(node, swept, own, problems)}
    in_name = set() if name is None else {*_named(name, swept, own, problems)}
    # one that is misspelt between braces seems to be unused
    for unused in () if problems.has_errors(before) else swept.keys() - used:
        message = f"matrix: no argument uses {unused}"
        hint = f'write "{{{unused}}}" in argv, env or cwd, or "{{{SWEEP}}}" for every value'
        problems.blame(swept[unused], "matrix", message, hint)
    if problems.has_errors(before):
        return ()
    values = {id(said): _value(said) for sweep in sweeps for said in _flat(sweep)}
    variants = []
    for combination in chosen:
        these = [values[id(said)] for said in combination]
        pairs = tuple((value.name, value.label) for value in these)
        full = None
        if name is not None:
            full = variant_name(
                _filled_in(name.text, dict(pairs)),
                tuple(pair for pair in pairs if pair[0] not in in_name),
            )
        variants.append(PlainVariant(full, pairs, _settings(kind, settled, own, these)))
    return tuple(variants) if name is None or _have_names(name, variants, problems) else ()


def _flat(sweep: Sweep) -> Iterator[Said]:
    return (said for bundle in sweep for said in bundle)


def _value(said: Said) -> _Value:
    assert isinstance(said.node, Scalar), "a program's values are words"
    value = said.node.value
    return _Value(said.key.text, said.node.text, label(said, value), value)


def _texts(own: Given) -> Iterator[Node]:
    """Give what stands for each text of an entry's settings."""
    for name, said in own.items():
        if name == "env" and isinstance(said.node, Fields):
            yield from (value for _, value in said.node.pairs)
        else:
            yield from listed(said.node)


def _named(node: Node, swept: Collection[str], own: Given, problems: Problems) -> Iterator[str]:
    """Give the names between the braces of a text; blame what is none."""
    if not isinstance(node, Scalar):
        return
    for brace in _BRACE.finditer(node.text):
        name = brace["name"]
        if brace[0] in ("{{", "}}") or name in LATER:
            continue
        if name in swept:
            yield name
            continue
        if name == SWEEP:
            if node.text == brace[0] and "argv" in own and node in listed(own["argv"].node):
                yield from swept
                continue
            message, hint = f"{{{SWEEP}}} stands for several words", "let it be a word of argv"
        elif name is None:
            message, hint = f"this {brace[0]!r} has no partner", _BRACES_TWICE
        elif not name:
            message, hint = "there is no name between these braces", _BRACES_TWICE
        else:
            message = f"no value is called {name!r}"
            hint = question(nearest(name, swept)) or _BRACES_TWICE
        notes = (known_words(name, swept),) if name else ()
        problems.blame(node.part(brace.start(), len(brace[0])), _CODE, message, hint, *notes)


def _filled_in(text: str, values: Mapping[str, str]) -> str:
    """Return a text with values in the place of their names."""

    def fill(brace: re.Match[str]) -> str:
        return values.get(brace["name"], brace[0]) if brace["name"] else brace[0][0]

    return _BRACE.sub(fill, text)


def _settings(kind: Kind, settled: Settled, own: Given, values: Iterable[_Value]) -> Settled:
    """Return the settings of a program under some values, and these beside them."""
    texts = {value.name: value.text for value in values}
    words = [f"--{name}={text}" for name, text in texts.items()]
    filled = {
        name: _with_braces_filled(settled.values[name], texts, words)
        for name in own
        if name in settled.values
    }
    params = {value.name: value.value for value in values}
    return with_values(kind, settled, {**filled, PARAMS: params})


def _with_braces_filled(value: Json, texts: Mapping[str, str], words: Sequence[str]) -> Json:
    match value:
        case str():
            return _filled_in(value, texts) if "{" in value or "}" in value else value
        case list():
            each = [words if item == f"{{{SWEEP}}}" else [item] for item in value]
            return [_with_braces_filled(item, texts, ()) for items in each for item in items]
        case dict():
            return {name: _with_braces_filled(inner, texts, ()) for name, inner in value.items()}
    return value


def _have_names(name: Scalar, variants: Iterable[PlainVariant], problems: Problems) -> bool:
    """Tell whether each variant can have its name and no other one has it; blame the first that cannot."""
    taken: dict[str | None, Name] = {}
    for variant in variants:
        full = variant.name or ""
        first = full.partition("@")[0]
        other = taken.setdefault(full, variant.swept)
        message, hint = "", ""
        if other is not variant.swept:
            message = f"two combinations would both be called {full!r}"
            hint = "write something between the values"
        elif not is_word(first) or len(first) > LONGEST_NAME:
            message = f"{first!r} is no name of at most {LONGEST_NAME} letters, digits and ._+-"
        elif len(full) > LONGEST_SWEPT_NAME:
            message = f"a job would have a name of {len(full)} characters"
            hint = f"at most {LONGEST_SWEPT_NAME}; give long values short names"
        if message:
            problems.blame(name, "name", message, hint)
            return False
    return True
