"""The ways in which one entry is done: variants of a model by a sweep, conditions of a test."""

import itertools

from launcher.errors import Place
from launcher.kind_interface.kind import Kind
from launcher.taskfile.entries import Name, Variant
from launcher.taskfile.entry_reader import RawEntry
from launcher.taskfile.matrix import MOST_COMBINATIONS, Combination, label
from launcher.taskfile.scope import Scope
from launcher.taskfile.settings import Settled, settle
from launcher.taskfile.values import listed
from launcher.taskfile.yaml_tree import Given, Items, Node, Scalar, plain_value


def variants_of(
    raw: RawEntry, more: Given, scope: Scope, poisoner: Kind | None = None
) -> tuple[Variant, ...]:
    """Return each way in which an entry is done; none where a setting is wrong."""
    variants: list[Variant] = []
    for chosen in raw.combinations:
        own = {**raw.own, **{key: (swept.key, swept.node) for key, swept in chosen.items()}, **more}
        given = scope.given(raw.kind, own)
        settled = settle(raw.kind, given, raw.place, scope.problems)
        poisoned = None
        if poisoner is not None:
            given = scope.given(poisoner, own)
            followed = {} if settled is None else _followed(poisoner, given, settled)
            poisoned = settle(poisoner, {**followed, **given}, raw.place, scope.problems)
        if settled is None or (poisoner is not None and poisoned is None):
            return ()
        paired = scope.swept(raw.kind, own)
        if poisoner is not None:
            paired = {**paired, **scope.swept(poisoner, own)}
        name = _name({**paired, **chosen}, settled, poisoned)
        variants.append(
            Variant(name=name, paired=frozenset(paired), settings=settled, poison_settings=poisoned)
        )
    return tuple(variants)


def _followed(poisoner: Kind, given: Given, training: Settled) -> Given:
    """Return the settings of a poison that are not given and follow those of the training."""
    values = {name: plain_value(node) for name, (_, node) in given.items()}
    leaders = poisoner.settings.followed(values).items()
    return {name: training.given[leader] for name, leader in leaders if leader in training.given}


def _name(swept: Combination, settled: Settled, poisoned: Settled | None) -> Name:
    """Return what tells a variant from its sisters, as an ID shows it."""
    values = {**({} if poisoned is None else poisoned.values), **settled.values}
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
