"""A task file's sections, read entry by entry, each by the role of its kind."""

from collections.abc import Iterable, Iterator, Mapping

from launcher.ids import is_word
from launcher.job_options.registry import JobRequest
from launcher.kind_interface import Kind, Role
from launcher.taskfile.entries import (
    AutoTest,
    BenchmarkEntry,
    Entry,
    FolderEntry,
    MethodEntry,
    PlainEntry,
    TestEntry,
    TrainEntry,
    companion,
)
from launcher.taskfile.entry_reader import (
    RawEntry,
    check_variables,
    conditions_of,
    folder_variants_of,
    given_name,
    needed,
    read_raw_entry,
    variants_of,
)
from launcher.taskfile.legacy_names import old_note
from launcher.taskfile.resources import request_for
from launcher.taskfile.scope import Scope
from launcher.taskfile.settings import Settled, known_settings, settle
from launcher.taskfile.values import (
    MISLABELLED,
    At,
    is_null,
    listed,
    read_data,
    read_label_changes,
    read_model,
)
from launcher.taskfile.yaml_tree import Fields, Items, Node, Scalar

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
    nodes = node.nodes if isinstance(node, Items) else (node,)
    if kind.role is Role.LABELS and not isinstance(node, Items):
        _blame_labels(kind, node, scope)
    elif kind.role is Role.METHOD and nodes and all(isinstance(node, Scalar) for node in nodes):
        yield _method_entry(_short_form(kind, node, scope), scope)
    elif isinstance(node, Items):
        yield from (_entry(kind, node, scope) for node in nodes)
    else:
        message = f"{kind.name}: expected a list"
        scope.blame(node.place, "wrong-type", message, "begin each entry with '- '")
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
            scope.blame(key.place, "no-test-kind", message)
            continue
        settled = conditions_of(tester, scope.given(tester, {}), key.place, scope)
        if settled:
            kinds[maker.name] = (tester, settled, request_for(tester, None, key.place, scope))
    testers = {tester.name: tester for tester, _, _ in kinds.values()}
    testers = testers or {
        kind.name: kind for kind in scope.kinds.values() if kind.role is Role.TEST
    }
    read = [read_data(node, testers.values(), scope) for node in listed(node)]
    data = tuple(data_id for data_id in read if data_id is not None)
    return AutoTest(place=key.place, combination=scope.combination, data=data, kinds=kinds)


def _entry(kind: Kind, node: Node, scope: Scope) -> Entry | None:
    if not isinstance(node, Fields):
        example = _EXAMPLES.get(kind.role, "{setting: value}")
        scope.blame(node.place, "wrong-type", f"expected an entry such as {example}")
        return None
    if kind.role is Role.LABELS:
        _blame_labels(kind, node, scope)
        return None
    raw = read_raw_entry(kind, node, scope)
    match kind.role:
        case Role.TRAIN:
            return _train(raw, scope)
        case Role.METHOD:
            return _method_entry(raw, scope)
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
    scope.blame(node.place, "poison-section", message, hint)


def _short_form(kind: Kind, node: Node, scope: Scope) -> RawEntry:
    """Read `unlearn: [relabel, retrain]` as these methods on every poisoned model."""
    every = Scalar(node.source, node.line, node.column, 1, MISLABELLED, plain=True)
    return RawEntry(
        kind=kind,
        place=node.place,
        words={"model": every, "method": node},
        own={},
        request=request_for(kind, None, node.place, scope),
        combinations=({},),
    )


def _train(raw: RawEntry, scope: Scope) -> TrainEntry | None:
    kind, words = raw.kind, raw.words
    model = words.get("model")  # null is a new model, and so is no word at all
    if isinstance(model, Scalar) and model.plain and model.text == "None":
        scope.problems.append(old_note(model, "None is written null today"))
        model = None
    base = None if model is None or is_null(model) else read_model(model, kind, scope)
    data = needed(raw, "data", scope)
    read = None if data is None else read_data(data, (kind,), scope)
    labels = scope.forced_labels or words.get("poison", scope.labels)
    label_changes = read_label_changes(labels, scope) if labels is not None else ()
    labeller = None
    if labels is not None and any(labels.value is not None for labels in label_changes or ()):
        labeller = companion(scope.kinds, kind, Role.LABELS)
        if labeller is None:
            message = f"no kind, or more than one, could poison the labels of {kind.name}"
            scope.blame(labels.place, "no-poison-kind", message)
            return None
    variants = variants_of(raw, {}, scope, labeller)
    if read is None or not variants or label_changes is None or (base is None) != is_null(model):
        return None
    return TrainEntry(
        kind=kind,
        place=raw.place,
        combination=scope.combination,
        base=base,
        data=read,
        label_changes=label_changes,
        wide=len(label_changes) == 1 and labels is not words.get("poison"),
        variants=variants,
        labels_kind=labeller,
        request=raw.request,
        follows=raw.follows,
        labels_request=raw.request
        if labeller is None
        else request_for(labeller, None, raw.place, scope),
    )


def _method_entry(raw: RawEntry, scope: Scope) -> MethodEntry | None:
    kind = raw.kind
    model = raw.words.get("model")
    every = isinstance(model, Scalar) and model.text == MISLABELLED
    named = None if every else needed(raw, "model", scope)
    base = None if named is None else read_model(named, kind, scope)
    method = needed(raw, "method", scope)
    nodes = () if method is None else listed(method)
    if method is not None and not nodes:
        scope.blame(method.place, "wrong-type", "expected at least one unlearning method")
    methods = []
    for node in nodes:
        if not isinstance(node, Scalar) or not is_word(node.text):
            scope.blame(node.place, "wrong-type", "expected the name of an unlearning method")
            continue
        by_method = {"method": (node, node)} if "method" in known_settings(kind) else {}
        variants = variants_of(raw, by_method, scope)
        if variants:
            methods.append((At(node.text, node), variants))
    if (base is None and not every) or not methods or len(methods) < len(nodes):
        return None
    return MethodEntry(
        kind=kind,
        place=raw.place,
        combination=scope.combination,
        base=base,
        methods=tuple(methods),
        request=raw.request,
        follows=raw.follows,
    )


def _test(raw: RawEntry, scope: Scope) -> TestEntry | None:
    kind = raw.kind
    model, data = needed(raw, "model", scope), needed(raw, "data", scope)
    tested = None if model is None else read_model(model, kind, scope)
    read = [] if data is None else [read_data(node, (kind,), scope) for node in listed(data)]
    settings = conditions_of(kind, scope.given(kind, raw.own), raw.place, scope)
    if data is not None and not listed(data):
        scope.blame(data.place, "wrong-type", "expected at least one data ID")
    if tested is None or not settings:
        return None
    return TestEntry(
        kind=kind,
        place=raw.place,
        combination=scope.combination,
        model=tested,
        data=tuple(data_id for data_id in read if data_id is not None),
        settings=settings,
        request=raw.request,
        follows=raw.follows,
    )


def _benchmark(raw: RawEntry, scope: Scope) -> BenchmarkEntry | None:
    kind, named = raw.kind, raw.words.get("model")
    nodes = () if named is None or is_null(named) else listed(named)
    models = [read_model(node, kind, scope) for node in nodes]
    data = needed(raw, "test", scope)
    read = [] if data is None else [read_data(node, (kind,), scope) for node in listed(data)]
    if data is not None and not listed(data):
        scope.blame(data.place, "wrong-type", "expected at least one data ID")
    settings = settle(kind, scope.given(kind, raw.own), raw.place, scope.problems)
    if settings is None or None in models:
        return None
    others = {
        name: read_model(settings.given[name][1], kind, scope)
        for name in sorted(kind.settings.models)
        if settings.values[name]
    }
    return BenchmarkEntry(
        kind=kind,
        place=raw.place,
        combination=scope.combination,
        models=tuple(model for model in models if model is not None),
        data=tuple(data_id for data_id in read if data_id is not None),
        others={name: model for name, model in others.items() if model is not None},
        settings=settings,
        request=raw.request,
        follows=raw.follows,
    )


def _folder(raw: RawEntry, scope: Scope) -> FolderEntry | None:
    sound, name = given_name(raw, scope)
    variants = folder_variants_of(raw, scope)
    if not sound or not variants:
        return None
    return FolderEntry(
        kind=raw.kind,
        place=raw.place,
        combination=scope.combination,
        name=name or raw.kind.name,
        variants=variants,
        request=raw.request,
        follows=raw.follows,
    )


def _plain(raw: RawEntry, scope: Scope) -> PlainEntry | None:
    sound, name = given_name(raw, scope)
    if not sound:
        return None
    given = scope.given(raw.kind, raw.own)
    if not raw.kind.entry and not check_variables(given, scope):
        return None
    settings = settle(raw.kind, given, raw.place, scope.problems)
    if settings is None:
        return None
    return PlainEntry(
        kind=raw.kind,
        place=raw.place,
        name=name,
        settings=settings,
        request=raw.request,
        follows=raw.follows,
    )
