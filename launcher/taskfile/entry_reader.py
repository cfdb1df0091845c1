"""An entry of a section with its keys sorted: words of the language, settings, its own matrix.

Words of the language (`model`, `data`, `poison`, `method`, `matrix`, `name`, `after`, `resources`) stand beside
the kind's own settings; a setting that has such a name is given under `settings:`. Beside the settings of a
program stand the options of a job, too, as on the command line of `launcher add`. An entry is done in several ways:
variants of a model by a sweep, conditions of a test.
"""

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from launcher.errors import Place
from launcher.ids import ModelId, is_word
from launcher.job_options.registry import JobRequest, job_options
from launcher.kind_interface import Kind, Role
from launcher.kinds import variable_fault
from launcher.taskfile.entries import FREE, FolderVariant, Follows, Name, Variant, companion
from launcher.taskfile.legacy_names import LABELS_RATE, current, percent_of_rate
from launcher.taskfile.matrix import (
    MOST_COMBINATIONS,
    Combination,
    Sweep,
    blame_neutral,
    by_setting,
    combinations,
    is_neutral,
    label,
    read_matrix,
    read_sweep,
    without,
)
from launcher.taskfile.resources import RESOURCE_HINTS, request_for
from launcher.taskfile.scope import Scope
from launcher.taskfile.settings import (
    Settled,
    all_settings,
    known_settings,
    old_names,
    settle,
    unknown_key,
)
from launcher.taskfile.values import At, is_null, listed, read_model
from launcher.taskfile.yaml_tree import (
    TRUTHS,
    Fields,
    Given,
    Items,
    Node,
    Scalar,
    Source,
    plain_value,
)

_FOLLOWS = ("after", "after_any")
_COMMON = (*_FOLLOWS, "resources", "settings")
_LONGEST_NAME = 100  # of a job, in characters
WORDS: Mapping[Role, tuple[str, ...]] = {
    Role.DATA: ("name", *_COMMON),
    Role.LABELS: ("resources", "settings"),
    Role.TRAIN: ("model", "data", "poison", "matrix", *_COMMON),
    Role.METHOD: ("model", "method", "matrix", *_COMMON),
    Role.TEST: ("model", "data", *_COMMON),
    Role.BENCHMARK: ("model", "test", *_COMMON),
    Role.FOLDER: ("name", "matrix", *_COMMON),
    Role.PLAIN: ("name", *_COMMON),
}


# Where words stand that people look for in an entry.
_HINTS: Mapping[str, str] = {
    **RESOURCE_HINTS,
    "device_override": "it is resources: {device: …} today",
    "poison": "it belongs to a training: what is trained so is tested and unlearned by its ID",
}


# What `launcher add` can say of a program, and an entry of a task file cannot.
_PROGRAM_HINTS: Mapping[str, str] = {
    "hold": "an entry is not held; launcher hold JOB, or launcher add --hold -- PROGRAM",
}
_SAME = {"depends": "after", "needs": "after", "requires": "after", "workdir": "cwd",
         "working_directory": "cwd", "environment": "env", "begin": "not_before"}  # fmt: skip


class RawEntry(NamedTuple):
    """An entry whose keys were sorted, its values not yet read."""

    kind: Kind
    place: Place
    words: Mapping[str, Node]
    own: Given
    request: JobRequest
    combinations: tuple[Combination, ...]  # of its own matrix
    follows: Follows = FREE


def read_raw_entry(kind: Kind, node: Fields, scope: Scope) -> RawEntry:
    """Sort an entry's keys into words of the language and settings; report what is neither."""
    models = [kind, *_labellers(kind, scope)]
    allowed = {name for model in models for name in known_settings(model)}
    words: dict[str, Node] = {}
    own: dict[str, tuple[Scalar, Node]] = {}
    options = () if kind.entry else _options_beside(node, allowed)
    for key, value in node.pairs:
        if key.text == "settings" and isinstance(value, Fields):
            own |= _named_today(value, models, scope)
        elif key.text in WORDS[kind.role]:
            words[key.text] = value
        elif key.text == LABELS_RATE and kind.role is Role.TRAIN:
            words.setdefault("poison", percent_of_rate(key, value, scope.problems))
    inside = set(own)
    read = {*words, "settings", *(key.text for key, _ in options)}
    beside = tuple(pair for pair in node.pairs if pair[0].text not in read)
    outside = Fields(node.source, node.line, node.column, beside)
    for name, (key, value) in _named_today(outside, models, scope).items():
        if name in own:
            message = f"{key.text!r} is given under settings, too"
            scope.blame(key.place, "duplicate-key", message, "leave one of them out")
        elif key.text != LABELS_RATE:
            own[name] = (key, value)
    if "settings" in words and not is_null(words["settings"]):
        scope.blame(words["settings"].place, "wrong-type", "expected settings such as {lr: 0.001}")
    for name in [name for name in own if name not in allowed]:
        elsewhere = [kind.name for kind in scope.kinds.values() if name in known_settings(kind)]
        keys = allowed if name in inside else (allowed | set(WORDS[kind.role])) - {"settings"}
        keys = keys if kind.entry or name in inside else keys | {*job_options()}
        what, hint = f"a setting of {kind.name}", _hint(kind, name)
        scope.problems.append(
            unknown_key(
                own[name][0],
                what,
                keys,
                elsewhere,
                hint=hint,
                where=all_settings(*models),
                old=old_names(models),
            )
        )
    own = {name: pair for name, pair in own.items() if name in allowed}
    return RawEntry(
        kind=kind,
        place=node.place,
        words=words,
        own=own,
        request=request_for(kind, _asked(node, words, options, scope), node.place, scope),
        combinations=_own_combinations(words.get("matrix"), models, own, scope),
        follows=Follows(**{word: _followed(words.get(word), word, scope) for word in _FOLLOWS}),
    )


def _options_beside(node: Fields, settings: Collection[str]) -> tuple[tuple[Scalar, Node], ...]:
    """Return the options of a job that stand right in an entry, beside its settings."""
    options = job_options()
    return tuple(
        pair for pair in node.pairs if pair[0].text in options and pair[0].text not in settings
    )


def _asked(
    entry: Fields,
    words: Mapping[str, Node],
    options: Sequence[tuple[Scalar, Node]],
    scope: Scope,
) -> Node | None:
    """Return what an entry asks for: its `resources`, and the options beside them."""
    resources = words.get("resources")
    if not options:
        return resources
    if resources is None or is_null(resources):
        return replace(entry, pairs=tuple(options))
    if not isinstance(resources, Fields):
        return resources
    below = {key.text for key, _ in resources.pairs}
    for key, _ in options:
        if key.text in below:
            message = f"{key.text!r} is given under resources, too"
            scope.blame(key.place, "duplicate-key", message, "leave one of them out")
    more = tuple(pair for pair in options if pair[0].text not in below)
    return replace(resources, pairs=(*resources.pairs, *more))


def _followed(node: Node | None, word: str, scope: Scope) -> tuple[At[str], ...]:
    """Return the names of jobs in `after` or `after_any`; what they mean is for the plan to find out."""
    if node is None or is_null(node):
        return ()
    named: list[At[str]] = []
    for item in listed(node):
        if isinstance(item, Scalar) and not is_null(item) and item.text.strip():
            named.append(At(item.text, item))
        else:
            message = f"{word}: expected the name of a job, or a list of names"
            scope.blame(item.place, "wrong-type", message, "a job is named as the dry run lists it")
    return tuple(named)


def check_variables(given: Given, scope: Scope) -> bool:
    """Tell whether a program's variables have names, and texts as values; blame all that have not.

    What YAML takes for a number or a truth may not be what a program reads: 010 would be 10, and yes true.
    """
    node = given["env"][1] if "env" in given else None
    if not isinstance(node, Fields):
        return True
    sound = True
    for key, value in node.pairs:
        if fault := variable_fault(key.text):
            sound = False
            scope.blame(key.place, "wrong-value", f"env: {fault}")
        text = value.text if isinstance(value, Scalar) else ""
        truth = isinstance(value, Scalar) and value.plain and text.lower() in TRUTHS
        if isinstance(value, Scalar) and isinstance(value.value, str) and not truth:
            continue
        sound = False
        message = f"env: {key.text} is not given as a text"
        example = text if text and not is_null(value) else ""
        hint = f'write {key.text}: "{text}"' if example else 'write "" for nothing'
        scope.blame(value.place, "wrong-type", message, hint)
    return sound


def _hint(kind: Kind, name: str) -> str:
    """Return what to write instead of a word that an entry does not know; '' if that is unknown."""
    plain = name.replace("-", "_")
    meant = _SAME.get(plain, plain)
    if meant in _FOLLOWS and meant != name and meant in WORDS[kind.role]:
        return f"did you mean '{meant}'?"
    if kind.entry:
        return _HINTS.get(plain, "")
    if meant != name and (meant in job_options() or meant in known_settings(kind)):
        return f"did you mean '{meant}'?"
    return _PROGRAM_HINTS.get(meant, _HINTS.get(meant, ""))


def _labellers(kind: Kind, scope: Scope) -> list[Kind]:
    labeller = companion(scope.kinds, kind, Role.LABELS) if kind.role is Role.TRAIN else None
    return [] if labeller is None else [labeller]


def _named_today(
    fields: Fields, kinds: Iterable[Kind], scope: Scope
) -> dict[str, tuple[Scalar, Node]]:
    """Return settings by the names that they have today, and note which have older ones."""
    settings: dict[str, tuple[Scalar, Node]] = {}
    for key, value in fields.pairs:
        now = current(key, kinds, scope.problems)
        if now.text in settings:
            message, hint = f"{now.text!r} is given twice", "leave one of them out"
            scope.blame(key.place, "duplicate-key", message, hint)
        settings[now.text] = (now, value)
    return settings


def _own_combinations(
    node: Node | None, kinds: Sequence[Kind], own: Given, scope: Scope
) -> tuple[Combination, ...]:
    """Return the combinations of an entry's own matrix, without what the command line sets."""
    if node is None or is_null(node):
        return ({},)
    forced = {
        *scope.forced,
        *(key for kind in kinds for key in scope.kind_forced.get(kind.name, {})),
    }
    sweeps = read_matrix(
        node, lambda fields: _own_sweeps(fields, kinds, own, scope), scope.problems
    )
    for swept in (swept for sweep in sweeps for swept in sweep.first if swept.key.text in forced):
        message = f"--set takes the place of this sweep of {swept.key.text}"
        scope.note(swept.key.place, "matrix", message)
    left = list(without(sweeps, lambda swept: swept.key.text in forced))
    return tuple(by_setting(chosen) for chosen in combinations(left, scope.problems))


def _own_sweeps(fields: Fields, kinds: Sequence[Kind], own: Given, scope: Scope) -> list[Sweep]:
    """Return the sweeps of one mapping of an entry's matrix."""
    names = {name for kind in kinds for name in known_settings(kind)}
    sweeps: list[Sweep] = []
    for name, (key, value) in _named_today(fields, kinds, scope).items():
        if name not in names:
            what, where = f"a setting of {kinds[0].name}", all_settings(*kinds)
            scope.problems.append(unknown_key(key, what, names, where=where, old=old_names(kinds)))
            continue
        if name in own:
            message = f"{name!r} is given beside the matrix, too"
            scope.blame(key.place, "matrix", message, "leave one of them out")
        sweep = read_sweep(key, value, scope.problems)
        if sweep is not None and is_neutral(name, kinds):
            blame_neutral(key, scope.problems)
        sweeps += [] if sweep is None else [sweep]
    return sweeps


def needed(raw: RawEntry, word: str, scope: Scope) -> Node | None:
    """Return the value of a word that an entry must have; blame its absence."""
    node = raw.words.get(word)
    if node is not None and not is_null(node):
        return node
    wanted = {
        "model": "a model ID",
        "data": "a data ID",
        "test": "a data ID",
        "method": "a method",
    }[word]
    place = raw.place if node is None else node.place
    scope.blame(place, "missing-word", f"{raw.kind.name} needs '{word}': {wanted}")
    return None


def given_name(raw: RawEntry, scope: Scope) -> tuple[bool, str | None]:
    """Return whether an entry's name can be one, and the name; None where there is none."""
    node = raw.words.get("name")
    if node is None or is_null(node):
        return True, None
    if isinstance(node, Scalar) and is_word(node.text) and len(node.text) <= _LONGEST_NAME:
        return True, node.text
    wanted = f"expected a name of at most {_LONGEST_NAME} letters, digits and ._+-"
    scope.blame(node.place, "name", wanted)
    return False, None


def variants_of(
    raw: RawEntry, more: Given, scope: Scope, labeller: Kind | None = None
) -> tuple[Variant, ...]:
    """Return each way in which an entry is done; none where a setting is wrong."""
    variants: list[Variant] = []
    for chosen in raw.combinations:
        own = {**raw.own, **{key: (swept.key, swept.node) for key, swept in chosen.items()}, **more}
        given = scope.given(raw.kind, own)
        settled = settle(raw.kind, given, raw.place, scope.problems)
        labelled = None
        if labeller is not None:
            given = scope.given(labeller, own)
            followed = {} if settled is None else _as_training(labeller, given, settled)
            labelled = settle(labeller, {**followed, **given}, raw.place, scope.problems)
        if settled is None or (labeller is not None and labelled is None):
            return ()
        paired = scope.swept(raw.kind, own)
        if labeller is not None:
            paired = {**paired, **scope.swept(labeller, own)}
        name = _name({**paired, **chosen}, settled, labelled)
        variants.append(
            Variant(name=name, paired=frozenset(paired), settings=settled, labels_settings=labelled)
        )
    return tuple(variants)


def folder_variants_of(raw: RawEntry, scope: Scope) -> tuple[FolderVariant, ...]:
    """Return each way in which a folder is made; none where a setting or an ID is wrong."""
    variants: list[FolderVariant] = []
    for variant in variants_of(raw, {}, scope):
        reads = {
            name: _node_of(name, str(value), variant.settings, raw.place)
            for name in (*raw.kind.settings.folders, *raw.kind.settings.models)
            if (value := variant.settings.values[name])
        }
        models: dict[str, At[ModelId]] = {}
        for name in (name for name in raw.kind.settings.models if name in reads):
            model = read_model(reads[name], raw.kind, scope)
            if model is None:
                return ()
            models[name] = model
        folders = {
            name: At(str(variant.settings.values[name]), reads[name])
            for name in raw.kind.settings.folders
            if name in reads
        }
        variants.append(FolderVariant(variant=variant, models=models, folders=folders))
    return tuple(variants)


def _node_of(name: str, value: str, settled: Settled, entry: Place) -> Scalar:
    """Return where a setting is given, or its default as if it stood at the entry."""
    node = settled.given[name][1] if name in settled.given else None
    if isinstance(node, Scalar):
        return node
    source = Source(file=entry.file, lines=())
    return Scalar(source, entry.line - 1, entry.column - 1, 1, value, plain=True)


def _as_training(labeller: Kind, given: Given, training: Settled) -> Given:
    """Return the settings of a poison that are not given and follow those of the training."""
    values = {name: plain_value(node) for name, (_, node) in given.items()}
    leaders = labeller.settings.followed(values).items()
    return {name: training.given[leader] for name, leader in leaders if leader in training.given}


def _name(swept: Combination, settled: Settled, labelled: Settled | None) -> Name:
    """Return what tells a variant from its sisters, as an ID shows it."""
    values = {**({} if labelled is None else labelled.values), **settled.values}
    return tuple((key, label(value, values[key])) for key, value in swept.items() if key in values)


def conditions_of(kind: Kind, given: Given, place: Place, scope: Scope) -> tuple[Settled, ...]:
    """Return the settings of a test under each of its conditions; none where a setting is wrong."""
    swept = [name for name in kind.settings.conditions if _is_listed(given.get(name))]
    count = 1
    for name in swept:
        count *= len(listed(given[name][1]))
    if count == 0 or count > MOST_COMBINATIONS:
        names = " and ".join(swept)
        message = f"{names}: {count:,} conditions, and 1 to {MOST_COMBINATIONS:,} are tested"
        scope.blame(given[swept[0]][1].place, "conditions", message, "write at least one value")
        return ()
    settled = [
        settle(
            kind,
            {
                **given,
                **{name: (given[name][0], node) for name, node in zip(swept, nodes, strict=True)},
            },
            place,
            scope.problems,
        )
        for nodes in itertools.product(*(listed(given[name][1]) for name in swept))
    ]
    return () if None in settled else tuple(each for each in settled if each is not None)


def _is_listed(given: tuple[Scalar, Node] | None) -> bool:
    return given is not None and isinstance(given[1], Items)
