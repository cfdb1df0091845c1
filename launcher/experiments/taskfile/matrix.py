"""Sweeps: `matrix: {lr: [0.1, 0.01], seed: [1, 2, 3]}` and the names of their combinations.

A mapping is a product: each value is combined with each other. A list ties settings together, and each of its
items is a separate product:

    matrix: [{seed: 1, poison_seed: 7}, {seed: 2, poison_seed: 8}]              two combinations
    matrix: [{seed: 1, lr: [0.1, 0.01]}, {seed: 2, lr: [0.1, 0.01]}]            four

A value appears in a model's ID as `@lr=0.1`. A value without a short form (a path, a list) needs
a label: `matrix: {weights: {imagenet: default, ours: weights/our.pt}}`.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from launcher.experiments.draft import variant_value
from launcher.experiments.kind_interface import Kind, Role
from launcher.experiments.taskfile.language import settings_among
from launcher.experiments.taskfile.nodes import (
    GivenSetting,
    GivenSettings,
    MappingNode,
    Node,
    ScalarNode,
    SequenceNode,
    as_list,
    is_null,
    plain_value,
)
from launcher.experiments.taskfile.scope import EVERY, Layer, Scope
from launcher.experiments.taskfile.settings import ALL_WORDS, KnownSettings, known_settings
from launcher.ids import is_variant_value
from launcher.system.errors import Problems
from launcher.system.files import Json

MOST_COMBINATIONS = 10_000

_EXAMPLE = "[{seed: 1, lr: 0.1}, {seed: 2, lr: 0.2}]"
_TIED = "[{seed: 1, poison_seed: 7}, …]"
_SWEPT_ROLES = frozenset({Role.TRAIN, Role.METHOD, Role.LABELS, Role.FOLDER})


# the values of a swept setting, or of several tied settings; there is at least one, and all have the same
# settings, so the first one gives their names and their locations
Sweep = tuple[tuple[GivenSetting, ...], ...]
Product = Callable[[MappingNode], list[Sweep]]  # function that reads one mapping of a matrix


def sweeps_of_file(node: Node | None, scope: Scope) -> list[Sweep]:
    """Return the sweeps of the file's matrix, except those of settings set on the command line."""
    if node is None:
        return []
    sweeps = read_matrix(node, lambda fields: _read_file_sweeps(fields, scope), scope.problems)
    every = [swept for sweep in sweeps for swept in sweep[0]]
    general = {(swept.key.text, swept.key.place.file) for swept in every if not swept.kind}
    for swept in every:
        if swept.kind and (swept.key.text, swept.key.place.file) in general:
            message = f"matrix: {swept.key.text} is swept for all job types and for {swept.kind}"
            hint = "sweep it only below the names of job types"
            scope.problems.add_error(swept.key, "matrix", message, hint)
    return _without_forced(sweeps, scope.forced.get(EVERY, {}), scope.problems)


def layers_of(sweeps: Sequence[Sweep], problems: Problems) -> Iterator[Layer]:
    """Yield each combination of the file's matrix: values for all kinds, and for single kinds."""
    for chosen in combinations(sweeps, problems):
        layer: dict[str, dict[str, GivenSetting]] = {}
        for swept in chosen:
            layer.setdefault(swept.kind, {})[swept.key.text] = swept
        yield layer


def combinations_of_entry(
    node: Node | None, known_settings: KnownSettings, entry_settings: GivenSettings, scope: Scope
) -> tuple[GivenSettings, ...]:
    """Return the combinations of an entry's own matrix, without settings set on the command line.

    Args:
        node: Matrix.
        known_settings: Settings of the entry's kinds.
        entry_settings: Single settings of the entry.
        scope: Scope of the file.
    """
    if node is None:
        return ({},)
    problems = scope.problems

    def product(fields: MappingNode) -> list[Sweep]:
        what = f"a setting of {known_settings.kinds[0].name}"
        said = known_settings.read_given(
            fields.pairs, problems, lambda key: known_settings.unknown_key_problem(key, what)
        )
        for name in said.keys() & entry_settings.keys():
            message = f"{name!r} is given in the matrix and in the entry"
            problems.add_error(said[name].key, "matrix", message, "remove one of them")
        return _read_sweeps(said, known_settings.kinds, problems)

    forced = dict(scope.forced.get(EVERY, {}))
    for kind in known_settings.kinds:
        forced |= scope.forced.get(kind.name, {})
    sweeps = _without_forced(read_matrix(node, product, problems), forced, problems)
    return tuple(
        {swept.key.text: swept for swept in chosen} for chosen in combinations(sweeps, problems)
    )


def _read_file_sweeps(fields: MappingNode, scope: Scope) -> list[Sweep]:
    """Read one mapping of the file's matrix: sweeps for all kinds, and for single kinds below their names."""
    problems = scope.problems
    makers = {name: kind for name, kind in scope.kinds.items() if kind.role in _SWEPT_ROLES}
    every = known_settings(makers.values(), ALL_WORDS)
    general: list[tuple[ScalarNode, Node]] = []
    of_kind: list[Sweep] = []
    for key, value in fields.pairs:
        name, kind = key.text, scope.kinds.get(key.text)
        if name in makers and any(isinstance(node, MappingNode) for node in as_list(value)):
            read = partial(_read_kind_sweeps, kind=makers[name], settings_above=every, scope=scope)
            of_kind += read_matrix(value, read, problems)
        elif kind is None or (name in makers and name in every.names):
            general.append((key, value))  # a setting may have the name of a kind
        elif name not in makers:
            hint = "a matrix sweeps settings of job types that make models"
            problems.add_error(key, "matrix", f"matrix: {name} jobs do not make models", hint)
        elif kind.role is Role.LABELS:
            hint = f"write {name}: [0, 20] in a training's entry, or below defaults"
            problems.add_error(key, "matrix", "matrix: poisons are not swept in a matrix", hint)
        else:
            message = f"matrix: expected sweeps of {name} such as {{seed: [1, 2, 3]}}"
            problems.add_error(value, "wrong-type", message)
    what = "a setting of a job type that makes models"
    said = settings_among(general, every, what, problems, nearby=scope.kinds)
    return [*_read_sweeps(said, scope.kinds.values(), problems), *of_kind]


def _read_kind_sweeps(
    fields: MappingNode, kind: Kind, settings_above: KnownSettings, scope: Scope
) -> list[Sweep]:
    """Read one mapping of a kind's matrix in the file's matrix; the settings in `settings_above` are valid above it."""
    what = f"a setting of {kind.name}"
    hint = f"tie settings of several job types directly below matrix: {_TIED}"
    hints = dict.fromkeys(settings_above.names, hint)
    said = settings_among(fields.pairs, known_settings([kind]), what, scope.problems, hints=hints)
    said = {name: each._replace(kind=kind.name) for name, each in said.items()}
    return _read_sweeps(said, scope.kinds.values(), scope.problems)


def _read_sweeps(
    given_sweeps: GivenSettings, kinds: Iterable[Kind], problems: Problems
) -> list[Sweep]:
    """Read the values of each setting; report a setting that cannot change a result once."""
    sweeps = []
    settings = [kind.settings for kind in kinds]
    for name, each in given_sweeps.items():
        sweep = read_sweep(each, problems)
        if sweep is None:
            continue
        sweeps.append(sweep)
        message = f"matrix: {name} does not change results, so a sweep compares nothing"
        neutral = [name in of.neutral for of in settings if name in of.model_fields]
        if all(neutral) and message not in {problem.message for problem in problems}:
            problems.add_error(each.key, "matrix", message, f"write one {name} outside the matrix")
    return sweeps


def read_matrix(node: Node, product: Product, problems: Problems) -> list[Sweep]:
    """Read a matrix, a mapping of sweeps or a list of mappings: a combination has one value per sweep."""
    if isinstance(node, MappingNode):
        return product(node)
    if isinstance(node, SequenceNode):
        return _read_combinations(node, product, problems)
    message = "matrix: expected sweeps such as {seed: [1, 2, 3]}"
    problems.add_error(node, "wrong-type", message, f"or tied settings: {_EXAMPLE}")
    return []


def read_sweep(given_sweep: GivenSetting, problems: Problems) -> Sweep | None:
    """Read the values of one setting; return None and report the error if there are none."""
    node, sound = given_sweep.node, True
    if isinstance(node, MappingNode):
        values = [given_sweep._replace(node=value, label=name.text) for name, value in node.pairs]
        for name, _ in node.pairs:
            if not is_variant_value(name.text):
                message = (
                    "matrix: a label becomes part of model IDs; use only letters, digits and _.+-"
                )
                problems.add_error(name, "matrix", message)
                sound = False
    else:
        values = (
            [] if is_null(node) else [given_sweep._replace(node=each) for each in as_list(node)]
        )
    if not values:
        message = f"matrix: {given_sweep.key.text} has no values"
        problems.add_error(node, "matrix", message, f"write {given_sweep.key.text}: [1, 2, 3]")
    bundles = tuple((value,) for value in values)
    sound &= _have_distinct_names(bundles, problems)
    return bundles if values and sound else None


def _read_combinations(node: SequenceNode, product: Product, problems: Problems) -> list[Sweep]:
    """Read a list of combinations as one sweep; empty if a combination is invalid."""
    bundles: list[tuple[GivenSetting, ...]] = []
    sound = bool(node.nodes)
    if not sound:
        message = "matrix: the list has no combinations"
        problems.add_error(node, "matrix", message, f"write {_EXAMPLE}")
    for item in node.nodes:
        made = _read_item(item, product, problems)
        if made and bundles and _has_other_settings(made[0], bundles[0], item, problems):
            sound = False
        elif made:
            order = [value.name for value in (bundles or made)[0]]
            bundles += [
                tuple(sorted(bundle, key=lambda setting: order.index(setting.name)))
                for bundle in made
            ]
        sound &= bool(made)
    return [tuple(bundles)] if sound and _have_distinct_names(bundles, problems) else []


def _read_item(item: Node, product: Product, problems: Problems) -> list[tuple[GivenSetting, ...]]:
    """Return the combinations of one item of a list; empty if it is invalid."""
    if not isinstance(item, MappingNode) or not item.pairs:
        message = "matrix: expected a combination such as {seed: 1, lr: 0.1}"
        hint = "write a mapping of sweeps, or a list of mappings"
        problems.add_error(item, "wrong-type", message, hint)
        return []
    before = len(problems)
    sweeps = product(item)
    if problems.has_errors(before):
        return []
    return [made for made in combinations(sweeps, problems) if made]


def _has_other_settings(
    combination: Sequence[GivenSetting],
    first: Sequence[GivenSetting],
    item: Node,
    problems: Problems,
) -> bool:
    """Return whether a combination has other settings than the first one, and report it."""
    wanted, given = ({swept.name: swept for swept in bundle} for bundle in (first, combination))
    more = [swept for name, swept in given.items() if name not in wanted]
    less = [name for name in wanted if name not in given]
    if not more and not less:
        return False
    differs = f"lacks {' and '.join(less)}" if less else ""
    if more:
        names = " and ".join(swept.name for swept in more)
        differs = f"{f'{differs} and ' if less else ''}also has {names}"
    message = f"matrix: all combinations of a list need the same settings; this one {differs}"
    note = f"the first combination is in line {first[0].key.place.line}"
    at = more[0].key if more and not less else item
    problems.add_error(at, "matrix", message, f"give {' and '.join(wanted)} in each", note)
    return True


def _have_distinct_names(bundles: Sequence[tuple[GivenSetting, ...]], problems: Problems) -> bool:
    """Return whether the values have distinct names; report the first duplicate."""
    names: set[tuple[str, ...]] = set()
    seen: set[tuple[str, ...]] = set()
    for bundle in bundles:
        values = [plain_value(swept.node) for swept in bundle]
        name = tuple(value_label(swept, value) for swept, value in zip(bundle, values, strict=True))
        comparable = tuple(map(_comparable, values))
        if name in names or comparable in seen:
            _report_equal_values(bundle, name, problems, twice=comparable in seen)
            return False
        names.add(name)
        seen.add(comparable)
    return True


def _report_equal_values(
    bundle: Sequence[GivenSetting], name: Sequence[str], problems: Problems, *, twice: bool
) -> None:
    """Report values or combinations that are equal or have the same name."""
    key, tied = bundle[0].key.text, len(bundle) > 1
    if twice:
        message = "matrix: this combination is listed twice"
        message = message if tied else f"matrix: {key} has this value twice"
        problems.add_error(bundle[0].node, "matrix", message, "remove one of them")
        return
    names = ",".join(f"{swept.name}={text}" for swept, text in zip(bundle, name, strict=True))
    what, called = ("two combinations", names) if tied else (f"two values of {key}", name[0])
    message = f"matrix: {what} would both be called {called!r} in an ID"
    hint = f"name them: {key}: {{first: …, second: …}}"
    problems.add_error(bundle[0].node, "matrix", message, hint)


def _comparable(value: Json) -> str:
    """Return a text that is equal for equal values: 1 equals 1.0, but not true."""
    match value:
        case bool() | None | str():
            return repr(value)
        case int() | float():
            return repr(float(value)) if abs(value) < 1 << 53 else repr(value)
        case list():
            return f"[{','.join(map(_comparable, value))}]"
    return repr({key: _comparable(inner) for key, inner in value.items()})


def _without_forced(
    sweeps: Iterable[Sweep], forced_settings: GivenSettings, problems: Problems
) -> list[Sweep]:
    """Return the sweeps without settings set on the command line, with distinct combinations."""
    left = []
    for sweep in sweeps:
        for swept in sweep[0]:
            if swept.key.text in forced_settings:
                message = f"--set replaces this sweep of {swept.key.text}"
                problems.add_warning(swept.key, "matrix", message)
        kept = [
            tuple(swept for swept in bundle if swept.key.text not in forced_settings)
            for bundle in sweep
        ]
        once = {
            tuple(_comparable(plain_value(swept.node)) for swept in bundle): bundle
            for bundle in kept
        }
        if kept[0]:
            left.append(tuple(once.values()))
    return left


def combinations(sweeps: Sequence[Sweep], problems: Problems) -> list[tuple[GivenSetting, ...]]:
    """Return every combination, the first setting changing slowest; one empty combination without sweeps."""
    count = math.prod(map(len, sweeps))
    if count > MOST_COMBINATIONS:
        message = f"matrix: {count:,} combinations; the limit is {MOST_COMBINATIONS:,}"
        hint = "sweep fewer settings at once, or split the file"
        problems.add_error(sweeps[0][0][0].key, "matrix", message, hint)
        return [()]
    chosen = itertools.product(*sweeps)
    return [tuple(itertools.chain.from_iterable(bundles)) for bundles in chosen]


def value_label(swept_setting: GivenSetting, value: Json) -> str:
    """Return the text of a swept value in an ID: its label, or the value as read."""
    if swept_setting.label is not None:
        return swept_setting.label
    return variant_value(_value_text(value))


def _value_text(value: Json) -> str:
    match value:
        case bool():
            return str(value).lower()
        case list():
            return "-".join(map(_value_text, value))
        case None:
            return "none"
    return str(value)
