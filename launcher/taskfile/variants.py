"""The ways in which one entry is done: variants of a model by a sweep, conditions of a test."""

import itertools

from launcher.errors import Place
from launcher.ids import ModelId
from launcher.kind_interface import Kind
from launcher.taskfile.entries import FolderVariant, Name, Variant
from launcher.taskfile.entry_reader import RawEntry
from launcher.taskfile.matrix import MOST_COMBINATIONS, Combination, label
from launcher.taskfile.scope import Scope
from launcher.taskfile.settings import Settled, settle
from launcher.taskfile.values import At, listed, read_model
from launcher.taskfile.yaml_tree import Given, Items, Node, Scalar, Source, plain_value


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
            followed = {} if settled is None else _followed(labeller, given, settled)
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


def _followed(labeller: Kind, given: Given, training: Settled) -> Given:
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
