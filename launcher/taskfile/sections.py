"""A task file's sections, read entry by entry, each by the role of its kind.

An entry is done in several ways: variants of a model or a folder by sweeps, a test under each of its conditions.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping

from launcher.errors import Place
from launcher.ids import DataId, ModelId, is_word
from launcher.job_options.registry import JobRequest
from launcher.kind_interface import Kind, Role
from launcher.taskfile.entries import (
    FREE,
    At,
    AutoTest,
    BenchmarkEntry,
    Entry,
    FolderEntry,
    FolderVariant,
    MethodEntry,
    PlainEntry,
    TestEntry,
    TrainEntry,
    Variant,
    companion,
)
from launcher.taskfile.entry_reader import (
    Common,
    RawEntry,
    check_variables,
    given_name,
    read_raw_entry,
)
from launcher.taskfile.language import MISLABELLED
from launcher.taskfile.matrix import MOST_COMBINATIONS, label
from launcher.taskfile.scope import Scope, request_for
from launcher.taskfile.settings import Settled, settle
from launcher.taskfile.values import read_data, read_label_changes, read_model
from launcher.taskfile.yaml_tree import (
    Fields,
    Given,
    Items,
    Node,
    Said,
    Scalar,
    Source,
    is_null,
    listed,
    plain_value,
)

_EXAMPLES: Mapping[Role, str] = {
    Role.TRAIN: "{model: null, data: gan2:pre}",
    Role.METHOD: "{model: gan2:pre%50, method: retrain}",
    Role.TEST: "{model: gan2:pre, data: real:pre}",
    Role.BENCHMARK: '{test: ["gan2:pre&real:pre"]}',
    Role.FOLDER: "{source: FOLDER}",
}


def read_section(kind: Kind, node: Node, scope: Scope) -> Iterator[Entry | None]:
    """Give each entry of a kind's section; None for one that cannot be read, its errors reported."""
    if is_null(node):
        return
    nodes = listed(node)
    if kind.role is Role.LABELS and not isinstance(node, Items):
        _blame_labels(kind, node, scope)
    elif kind.role is Role.METHOD and nodes and all(isinstance(node, Scalar) for node in nodes):
        yield _method(_short_form(kind, node, scope), scope)
    elif isinstance(node, Items):
        yield from (_entry(kind, node, scope) for node in nodes)
    else:
        message = f"{kind.name}: expected a list"
        scope.problems.blame(node, "wrong-type", message, "begin each entry with '- '")
        yield None


def read_auto_test(
    key: Scalar, node: Node, makers: Iterable[Kind], scope: Scope
) -> AutoTest | None:
    """Read the list of data IDs on which every model of the file is tested.

    Args:
        key: the word `autotest`.
        node: its value; nothing written gives None.
        makers: the kinds that make models in this file.
        scope: what holds for the file.
    """
    if is_null(node):
        return None
    kinds: dict[str, tuple[Kind, tuple[Settled, ...], JobRequest]] = {}
    for maker in makers:
        tester = companion(scope.kinds, maker, Role.TEST)
        if tester is None:
            message = f"no kind, or more than one, could test the models of {maker.name}"
            scope.problems.blame(key, "no-test-kind", message)
            continue
        settled = _conditions(tester, scope.given(tester, {}), key.place, scope)
        if settled:
            kinds[maker.name] = (tester, settled, request_for(tester, None, key.place, scope))
    every = (kind for kind in scope.kinds.values() if kind.role is Role.TEST)
    testers = {kind.name: kind for kind in [kind for kind, _, _ in kinds.values()] or every}
    return AutoTest(
        place=key.place,
        combination=scope.combination,
        data=_data_ids(node, testers.values(), scope),
        kinds=kinds,
    )


def _entry(kind: Kind, node: Node, scope: Scope) -> Entry | None:
    if not isinstance(node, Fields):
        example = _EXAMPLES.get(kind.role, "{setting: value}")
        scope.problems.blame(node, "wrong-type", f"expected an entry such as {example}")
        return None
    if kind.role is Role.LABELS:
        _blame_labels(kind, node, scope)
        return None
    raw = read_raw_entry(kind, node, scope)
    match kind.role:
        case Role.TRAIN:
            return _train(raw, scope)
        case Role.METHOD:
            return _method(raw, scope)
        case Role.TEST:
            return _test(raw, scope)
        case Role.BENCHMARK:
            return _benchmark(raw, scope)
        case Role.FOLDER:
            return _folder(raw, scope)
        case Role.DATA | Role.PLAIN:
            return _plain(raw, scope)
        case Role.SHARED:
            return None  # no task file speaks of it


def _blame_labels(kind: Kind, node: Node, scope: Scope) -> None:
    message = f"{kind.name} jobs arise by themselves, one before each poisoned training"
    hint = f"write {kind.name}: 50 in the training's entry, or below defaults"
    scope.problems.blame(node, "poison-section", message, hint)


def _short_form(kind: Kind, node: Node, scope: Scope) -> RawEntry:
    """Read `unlearn: [relabel, retrain]` as these methods on every poisoned model."""
    every = Scalar(node.source, node.line, node.column, 1, MISLABELLED, plain=True)
    common = Common(
        kind=kind,
        place=node.place,
        combination=scope.combination,
        request=request_for(kind, None, node.place, scope),
        follows=FREE,
    )
    return RawEntry(kind, node.place, {"model": every, "method": node}, {}, ({},), common)


def _train(raw: RawEntry, scope: Scope) -> TrainEntry | None:
    kind, model = raw.kind, raw.word("model")  # null is a new model, and so is no word at all
    if isinstance(model, Scalar) and model.plain and model.text == "None":
        scope.problems.note(model, "old-name", "None is written null today")
        model = None
    base = None if model is None else read_model(model, kind, scope)
    data = raw.needed("data", scope.problems)
    read = None if data is None else read_data(data, (kind,), scope)
    labels = scope.forced_labels or raw.words.get("poison", scope.labels)
    label_changes = read_label_changes(labels, scope) if labels is not None else ()
    labeller = None
    if labels is not None and any(labels.value is not None for labels in label_changes or ()):
        labeller = companion(scope.kinds, kind, Role.LABELS)
        if labeller is None:
            message = f"no kind, or more than one, could poison the labels of {kind.name}"
            scope.problems.blame(labels, "no-poison-kind", message)
            return None
    variants = _variants(raw, {}, scope, labeller)
    if read is None or not variants or label_changes is None or (base is None) != (model is None):
        return None
    request = raw.common["request"]
    if labeller is not None:
        request = request_for(labeller, None, raw.place, scope)
    return TrainEntry(
        **raw.common,
        base=base,
        data=read,
        label_changes=label_changes,
        wide=len(label_changes) == 1 and labels is not raw.words.get("poison"),
        variants=variants,
        labels_kind=labeller,
        labels_request=request,
    )


def _method(raw: RawEntry, scope: Scope) -> MethodEntry | None:
    kind, problems, model = raw.kind, scope.problems, raw.word("model")
    every = isinstance(model, Scalar) and model.text == MISLABELLED
    named = None if every else raw.needed("model", problems)
    base = None if named is None else read_model(named, kind, scope)
    method = raw.needed("method", problems)
    nodes = () if method is None else listed(method)
    if method is not None and not nodes:
        problems.blame(method, "wrong-type", "expected at least one unlearning method")
    methods = []
    for node in nodes:
        if not isinstance(node, Scalar) or not is_word(node.text):
            problems.blame(node, "wrong-type", "expected the name of an unlearning method")
            continue
        said = {"method": Said(node, node)} if "method" in kind.settings.model_fields else {}
        variants = _variants(raw, said, scope)
        if variants:
            methods.append((At(node.text, node), variants))
    if (base is None and not every) or not methods or len(methods) < len(nodes):
        return None
    return MethodEntry(**raw.common, base=base, methods=tuple(methods))


def _test(raw: RawEntry, scope: Scope) -> TestEntry | None:
    kind, model = raw.kind, raw.needed("model", scope.problems)
    tested = None if model is None else read_model(model, kind, scope)
    data = _needed_data(raw, "data", scope)
    settings = _conditions(kind, scope.given(kind, raw.own), raw.place, scope)
    if tested is None or not settings:
        return None
    return TestEntry(**raw.common, model=tested, data=data, settings=settings)


def _benchmark(raw: RawEntry, scope: Scope) -> BenchmarkEntry | None:
    kind, named = raw.kind, raw.word("model")
    models = [read_model(node, kind, scope) for node in (() if named is None else listed(named))]
    data = _needed_data(raw, "test", scope)
    settings = settle(kind, scope.given(kind, raw.own), raw.place, scope.problems)
    if settings is None or None in models:
        return None
    others = {
        name: read_model(settings.given[name].node, kind, scope)
        for name in sorted(kind.settings.models)
        if settings.values[name]
    }
    return BenchmarkEntry(
        **raw.common,
        models=tuple(model for model in models if model is not None),
        data=data,
        others={name: model for name, model in others.items() if model is not None},
        settings=settings,
    )


def _folder(raw: RawEntry, scope: Scope) -> FolderEntry | None:
    sound, name = given_name(raw, scope.problems)
    variants: list[FolderVariant] = []
    for variant in _variants(raw, {}, scope):
        made = _folder_variant(raw, variant, scope)
        if made is None:
            return None
        variants.append(made)
    if not sound or not variants:
        return None
    return FolderEntry(**raw.common, name=name or raw.kind.name, variants=tuple(variants))


def _plain(raw: RawEntry, scope: Scope) -> PlainEntry | None:
    sound, name = given_name(raw, scope.problems)
    given = scope.given(raw.kind, raw.own)
    if not sound or (not raw.kind.entry and not check_variables(given, scope.problems)):
        return None
    settings = settle(raw.kind, given, raw.place, scope.problems)
    return None if settings is None else PlainEntry(**raw.common, name=name, settings=settings)


def _needed_data(raw: RawEntry, word: str, scope: Scope) -> tuple[At[DataId], ...]:
    """Return the data IDs behind a word that an entry must have."""
    node = raw.needed(word, scope.problems)
    if node is not None and not listed(node):
        scope.problems.blame(node, "wrong-type", "expected at least one data ID")
    return () if node is None else _data_ids(node, (raw.kind,), scope)


def _data_ids(node: Node, readers: Iterable[Kind], scope: Scope) -> tuple[At[DataId], ...]:
    """Return one data ID or those of a list, without those that cannot be read."""
    read = [read_data(each, readers, scope) for each in listed(node)]
    return tuple(data for data in read if data is not None)


def _variants(
    raw: RawEntry, more: Given, scope: Scope, labeller: Kind | None = None
) -> tuple[Variant, ...]:
    """Return each way in which an entry is done; none where a setting is wrong."""
    variants: list[Variant] = []
    for chosen in raw.combinations:
        own = {**raw.own, **chosen, **more}
        given = scope.given(raw.kind, own)
        settled = settle(raw.kind, given, raw.place, scope.problems)
        paired, values = scope.paired(raw.kind, given), dict(settled.values) if settled else {}
        labelled = None
        if labeller is not None:
            given = scope.given(labeller, own)
            followed = {} if settled is None else _as_training(labeller, given, settled)
            labelled = settle(labeller, {**followed, **given}, raw.place, scope.problems)
            paired |= scope.paired(labeller, given)
            values = {**(labelled.values if labelled else {}), **values}
        if settled is None or (labeller is not None and labelled is None):
            return ()
        name = tuple(
            (key, label(said, values[key]))
            for key, said in {**paired, **chosen}.items()
            if key in values
        )
        variants.append(Variant(name, frozenset(paired), settled, labelled))
    return tuple(variants)


def _as_training(labeller: Kind, given: Given, training: Settled) -> Given:
    """Return the settings of a poison that are not given and follow those of the training."""
    values = {name: plain_value(said.node) for name, said in given.items()}
    leaders = labeller.settings.followed(values).items()
    return {name: training.given[leader] for name, leader in leaders if leader in training.given}


def _folder_variant(raw: RawEntry, variant: Variant, scope: Scope) -> FolderVariant | None:
    """Return one way in which a folder is made; None where an ID is wrong."""
    settings = raw.kind.settings
    models: dict[str, At[ModelId]] = {}
    folders: dict[str, At[str]] = {}
    for name in (*settings.folders, *settings.models):
        value = variant.settings.values[name]
        if not value:
            continue
        node = _node_of(name, str(value), variant.settings, raw.place)
        if name in settings.folders:
            folders[name] = At(str(value), node)
        if name in settings.models:
            model = read_model(node, raw.kind, scope)
            if model is None:
                return None
            models[name] = model
    return FolderVariant(variant=variant, models=models, folders=folders)


def _node_of(name: str, value: str, settled: Settled, entry: Place) -> Scalar:
    """Return where a setting is given, or its default as if it stood at the entry."""
    node = settled.given[name].node if name in settled.given else None
    if isinstance(node, Scalar):
        return node
    source = Source(file=entry.file, lines=())
    return Scalar(source, entry.line - 1, entry.column - 1, 1, value, plain=True)


def _conditions(kind: Kind, given: Given, place: Place, scope: Scope) -> tuple[Settled, ...]:
    """Return the settings of a test under each of its conditions; none where a setting is wrong."""
    swept = {
        name: given[name]
        for name in kind.settings.conditions
        if name in given and isinstance(given[name].node, Items)
    }
    values = [[said._replace(node=node) for node in listed(said.node)] for said in swept.values()]
    count = math.prod(map(len, values))
    if count == 0 or count > MOST_COMBINATIONS:
        names = " and ".join(swept)
        message = f"{names}: {count:,} conditions, and 1 to {MOST_COMBINATIONS:,} are tested"
        first = next(iter(swept.values())).node
        scope.problems.blame(first, "conditions", message, "write at least one value")
        return ()
    settled = [
        settle(kind, {**given, **dict(zip(swept, chosen, strict=True))}, place, scope.problems)
        for chosen in itertools.product(*values)
    ]
    return () if None in settled else tuple(each for each in settled if each is not None)
